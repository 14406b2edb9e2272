"""Makes a virtual environment independent of where it lies: a checkout that was moved, or is mounted at a second place, works as it
is there and runs its own code. `make setup` runs it after pip, by the Python of that environment.

The commands in bin/ start the Python beside them, `activate` finds its own folder, and this project's package is named from
site-packages. (activate.csh cannot know where it lies: it names the folder that it was made in.)
"""

import os
import re
import sys
import sysconfig
from pathlib import Path

# A command for sh, which never comes to the last line; for Python a string that nothing uses. `#!/path/python` cannot hold a space.
START = b"""#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")/python" "$0" "$@"
' '''
"""
# What pip writes: for a path with a space, or one that is long, by sh too.
WRITTEN = re.compile(rb"#!(?:[^\n]*/python[\d.]*|/bin/sh\n'''exec' [^\n]*\n' ''')\n")

ACTIVATE = {
    # Plain sh cannot know which file it reads.
    "activate": (
        "\nexport VIRTUAL_ENV\n",
        '\n[ -z "${BASH_SOURCE:-}${ZSH_VERSION:-}" ] ||'
        ' VIRTUAL_ENV=$(dirname -- "$(dirname -- "$(realpath -- "${BASH_SOURCE:-$0}")")")\nexport VIRTUAL_ENV\n',
    ),
    "activate.fish": (
        "\nset -gx _OLD_VIRTUAL_PATH $PATH\n",
        "\nset -gx VIRTUAL_ENV (realpath (dirname (status filename))/..)\nset -gx _OLD_VIRTUAL_PATH $PATH\n",
    ),
}


def rewrite(path, content):
    """Another file under the same name: a command that runs keeps the one that it was started from."""
    if content != path.read_bytes():
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(content)
        partial.chmod(path.stat().st_mode)
        partial.replace(path)


def main():
    scripts, site = (Path(sysconfig.get_path(name)) for name in ("scripts", "purelib"))
    for path in scripts.iterdir():
        if path.is_file() and not path.is_symlink() and (found := WRITTEN.match(path.read_bytes())):
            rewrite(path, START + path.read_bytes()[found.end() :])
    for name, (old, new) in ACTIVATE.items():
        path = scripts / name
        text = path.read_text()
        if new not in text:
            if text.count(old) != 1:
                sys.exit(
                    f"relocatable.py: error: {path} is not as Python 3.11 writes it: remove .venv, then make setup"
                )
            rewrite(path, text.replace(old, new).encode())
    package = Path(__file__).resolve().parents[1] / "python"
    for path in site.glob("__editable__.hkd_caffe-*.pth"):
        rewrite(path, f"{os.path.relpath(package, site)}\n".encode())


if __name__ == "__main__":
    main()
