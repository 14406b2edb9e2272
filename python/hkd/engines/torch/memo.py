"""What a frozen teacher answered, kept on disk: it gives the same answer for the same crop of the same image, and every net of
every method asks it again.

A file holds the answers of one teacher to one kind of crop: a row for each place that an image can be cropped at, mirrored or
not. A row that was never written is a hole in the file. Several processes may use one file, and a kill leaves it valid: each
row has a checksum, a row that does not fit its own is made again, and what two processes write there is the same.

Rows are read and written, not mapped into memory: a write into a mapped file kills the process where the disk is full, and
so does a read where another program cut the file short.
"""

import hashlib
import json
import os
import shutil
import zlib
from pathlib import Path

import numpy as np

from hkd.base.files import shown

BOUND = 2**30  # bytes: a file that may grow larger is not begun
ROOM = 2**28  # bytes that have to stay free beside it, for snapshots
HEAD = 4096  # bytes before the first row: what the answers are of, as JSON


class Memo:
    """The answers of one teacher: row `slot` holds an array of `shape` and `dtype`.

    folder: where the file is kept. key: {word: value}, all that decides an answer; another key is another file. say: is told
    in a line why nothing is kept, where nothing can be.
    """

    def __init__(self, folder, key, slots, shape, dtype, say):
        self.shape, self.dtype, self.say = tuple(shape), np.dtype(dtype), say
        self.size = int(np.prod(self.shape)) * self.dtype.itemsize
        self.row = self.size + 8
        self.asked = self.kept = 0  # images, and those of them whose answer was there
        head = json.dumps(
            {**key, "slots": slots, "shape": self.shape, "dtype": self.dtype.str}, sort_keys=True
        ).encode()
        self.path = Path(folder) / f"memo-{hashlib.sha256(head).hexdigest()[:16]}.bin"
        self.file = None
        try:
            self.file = self._open(head.ljust(HEAD, b"\n"), HEAD + slots * self.row)
        except OSError as error:
            self._without(error.strerror)

    def _open(self, head, whole):
        free = shutil.disk_usage(self.path.parent).free
        for _ in range(3):
            try:
                file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                if free < whole + ROOM:
                    self._without(f"{free >> 20:,} MB are free, it may need {(whole + ROOM) >> 20:,}")
                    return None
                self._begin(head, whole)
                continue
            if os.fstat(file).st_size == whole and os.pread(file, HEAD, 0) == head:
                return file
            os.close(file)
            self.say(f"{shown(self.path)} is damaged: begun again")
            self.path.unlink(missing_ok=True)
        raise OSError(0, "it does not stay as it was written")

    def _begin(self, head, whole):
        """An empty one under its name, unless another process was quicker."""
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with partial.open("wb") as stream:
                stream.write(head)
                stream.truncate(whole)
            os.link(partial, self.path)
        except FileExistsError:
            pass
        finally:
            partial.unlink(missing_ok=True)

    def _without(self, reason):
        self.say(f"the teacher's answers are not kept: {shown(self.path)}: {reason}")
        if self.file is not None:
            os.close(self.file)
        self.file = None

    def answers(self, slots, make):
        """The rows of `slots` as one array; those that are not there from `make(places)`, places in `slots`, as an array."""
        slots = slots.tolist()
        found = np.empty((len(slots), *self.shape), self.dtype)
        missing = np.flatnonzero(~self._read(slots, found))
        self.asked, self.kept = self.asked + len(slots), self.kept + len(slots) - len(missing)
        if len(missing):
            found[missing] = make(missing)
            self._write(slots, found, missing)
        return found

    def _read(self, slots, found):
        """Fills `found`; whether each row was there and whole."""
        there, rows = np.zeros(len(slots), bool), []
        if self.file is None:
            return there
        try:
            for run in _runs(slots, range(len(slots))):
                content = os.pread(self.file, len(run) * self.row, HEAD + slots[run[0]] * self.row)
                for at, i in zip(range(0, len(content) - self.row + 1, self.row), run, strict=False):
                    values = content[at : at + self.size]
                    if content[at + self.size : at + self.row] == _check(values, slots[i]):
                        there[i] = True
                        rows.append(values)
        except OSError as error:
            self._without(error.strerror)
            there[:] = False
            return there
        if rows:
            found[there] = np.frombuffer(b"".join(rows), self.dtype).reshape(-1, *self.shape)
        return there

    def _write(self, slots, found, missing):
        if self.file is None:
            return
        try:
            for run in _runs(slots, missing):
                rows = [found[i].tobytes() for i in run]
                content = b"".join(row + _check(row, slots[i]) for row, i in zip(rows, run, strict=True))
                if os.pwrite(self.file, content, HEAD + slots[run[0]] * self.row) < len(content):
                    raise OSError(0, "no space left")
        except OSError as error:
            self._without(error.strerror)


def _check(content, slot):
    """Eight bytes that are never all zero, as those of a hole are."""
    return (zlib.crc32(content, slot & 0xFFFFFFFF) + 1).to_bytes(8, "little")


def _runs(slots, places):
    """`places` cut into runs of rows that lie one after another in the file."""
    runs = []
    for i in places:
        if runs and slots[i] == slots[runs[-1][-1]] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs
