"""Writes prototxt/ and solvers/ anew from the experiments; `--check` only compares.

python python/make_prototxt.py [--check]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from hkd.base.cli import ROOT, Parser, fail, run, use_project_python

if __name__ == "__main__":
    use_project_python()

from hkd.base.files import write_whole
from hkd.stages.committed import all_files


def main():
    parser = Parser(description="Write prototxt/ and solvers/ anew from the experiments.")
    parser.add_argument(
        "--check", action="store_true", help="compare with what is there, byte for byte, and write nothing"
    )
    options = parser.parse_args()
    wanted = all_files()
    there = {
        str(p.relative_to(ROOT)) for folder in ("prototxt", "solvers") for p in (ROOT / folder).rglob("*.prototxt")
    }
    stale = sorted(there - set(wanted))
    differing = sorted(path for path, text in wanted.items() if path not in there or (ROOT / path).read_text() != text)
    if options.check:
        if stale or differing:
            return fail(
                f"{', '.join(differing + stale)}: not what the generator makes: run python python/make_prototxt.py",
                code=1,
            )
        print(f"{len(wanted)} files are what the generator makes")
        return 0
    for path in differing:
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(ROOT / path, wanted[path])
    for path in stale:
        (ROOT / path).unlink()
    print(f"{len(wanted)} files: {len(differing)} written, {len(stale)} removed, the rest as they were")
    return 0


if __name__ == "__main__":
    run(main)
