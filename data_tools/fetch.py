"""Downloads the official archives: several mirrors, resumed by byte range, retried, checked.

python data_tools/fetch.py --dataset cifar10 [--out data/downloads]
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from hkd.base.cli import Parser, UserError, default_folder, run, use_project_python

if __name__ == "__main__":
    use_project_python()

import requests
import urllib3
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

import sources
from hkd.base.files import digest
from hkd.paper.datasets import DATASETS, whole_name

TRIES = 4
BACK_OFF = float(
    os.environ.get("HKD_FETCH_BACK_OFF", "1")
)  # seconds before a second try; doubles with every further one
HOPELESS = ("name does not resolve", "HTTP 403", "HTTP 404", "HTTP 410")  # another try will not help
TIMEOUT = (10, 60)  # seconds to connect, and between two packets


def fetch(name, folder):
    """Downloads what data set `name` needs into `folder`. Files that are there and whole stay. Returns what is to be named
    with --source: the archive, or the folder where the data set is published as several files.

    Raises UserError with the mirrors tried when none of them gives the file.
    """
    folder = whole_name(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()) as progress:
        files = [fetch_file(wanted, folder, progress) for wanted in sources.DOWNLOADS[name]]
    return files[0] if len(files) == 1 else folder


def fetch_file(wanted, folder, progress):
    target = folder / wanted.file
    if target.exists() and _is_whole(target, wanted):
        return target
    part = folder / (wanted.file + ".part")
    task = progress.add_task(wanted.file, total=wanted.size)
    reasons = []
    for mirror in wanted.mirrors:
        for attempt in range(TRIES):
            if attempt:
                time.sleep(BACK_OFF * 2 ** (attempt - 1))
            try:
                _download(mirror, part, wanted, lambda done: progress.update(task, completed=done))
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                reason = _short(error)
                reasons.append(f"{mirror}: {reason}")
                if reason in HOPELESS:
                    break
                continue
            if _is_whole(part, wanted):
                part.replace(target)
                return target
            reasons.append(f"{mirror}: {part.stat().st_size} bytes, {wanted.checksum.split(':')[0]} differs")
            # Whole in size and wrong in content: nothing of it can be kept.
            if part.stat().st_size >= wanted.size:
                part.unlink()
                break
    tried = "; ".join(dict.fromkeys(reasons))
    raise UserError(
        f"cannot download {wanted.file} ({tried}): check the network, or get the official archive yourself and name it with --source"
    )


def _download(url, part, wanted, report):
    """Goes on with `part` from `url`, from its last byte where the server can."""
    done = part.stat().st_size if part.exists() else 0
    if done >= wanted.size:
        part.unlink()
        done = 0
    headers = {"Range": f"bytes={done}-"} if done else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        answer.raise_for_status()
        resumed = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        if not resumed:
            done = 0
        with part.open("ab" if resumed else "wb") as stream:
            # raw, not iter_content: an .gz file must arrive as it is, whatever Content-Encoding a mirror claims.
            while block := answer.raw.read(1 << 18):
                stream.write(block)
                done += len(block)
                report(done)
                if done > wanted.size:
                    break


def _is_whole(path, wanted):
    if path.stat().st_size != wanted.size:
        return False
    kind, checksum = wanted.checksum.split(":")
    return digest(path, kind) == checksum


def _short(error):
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    text = str(error)
    for sign, words in (
        ("resol", "name does not resolve"),
        ("refused", "connection refused"),
        ("timed out", "timed out"),
    ):
        if sign in text:
            return words
    return type(error).__name__


def main():
    parser = Parser(description="Download a data set's official archive.")
    parser.add_argument("--dataset", required=True, choices=DATASETS)
    parser.add_argument(
        "--out",
        default=default_folder("data") / "downloads",
        help="default: downloads in $HKD_DATA, else in data",
    )
    options = parser.parse_args()
    print(f"{options.dataset} is in {fetch(options.dataset, Path(options.out) / options.dataset)}")


if __name__ == "__main__":
    run(main)
