"""Snapshots that survive a kill: a folder each, made elsewhere and renamed, with the checksums of what is in it.

A snapshot holds Caffe's own two files (weights, and the solver's iteration and momentum) and what the driver needs
besides. Caffe's solverstate names the weights by path; the path is set anew on restoring, so that runs may be moved.
"""

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError

from hkd.base import shapes
from hkd.base.cli import UserError
from hkd.base.files import naming, sha256, shown, sync_folder, write_whole

WEIGHTS, STATE, NOTE = "weights.caffemodel", "solver.solverstate", "snapshot.json"
KEPT = 2  # the newest, and the one before in case the newest is torn

_NUMBER = {"type": "number"}
_NOTE = shapes.Shape(
    shapes.record(
        {
            "digest": shapes.SHA256,
            "iteration": shapes.COUNT,
            "sums": {"type": "object", "additionalProperties": _NUMBER},
            "count": shapes.COUNT,
            "seconds": _NUMBER,
            "sessions": shapes.COUNT,
            "sha256": shapes.record({WEIGHTS: shapes.SHA256, STATE: shapes.SHA256}),
        },
        {
            "engines": {"type": "array", "items": {"type": "string"}},
            "hardware": {"type": "array", "items": {"type": "string"}},
            "answered": {"type": "array", "items": shapes.COUNT, "minItems": 2, "maxItems": 2},
        },
    )
)
"""The shape of snapshot.json: what the training loop goes on from, and the checksums of the files beside it."""


class Snapshots:
    """The snapshots of one stage in `folder`; `digest` (stage.Stage.digest) tells its own from foreign ones."""

    def __init__(self, folder, digest):
        self.folder = folder
        self.digest = digest
        self.folder.mkdir(exist_ok=True)

    @staticmethod
    def prefix_in(folder):
        """Where Caffe itself is to write: the solver's snapshot_prefix."""
        return folder / ".caffe"

    def save(self, solver, extra, files=None):
        """Writes one of `solver` (pycaffe), with `extra` (JSON) and `files` ({name: bytes}) beside it. Raises UserError
        when weights are not finite or the disk is full, before Caffe aborts on it; the snapshots that are there
        stay."""
        files = files or {}
        weights = [blob.data for blobs in solver.net.params.values() for blob in blobs]
        if not all(np.isfinite(w).all() for w in weights):
            raise UserError(f"{shown(self.folder)}: a weight is not finite at iteration {solver.iter}: {self.advice()}")
        needed = 3 * 4 * sum(w.size for w in weights) + sum(map(len, files.values())) + (1 << 20)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise UserError(
                f"{shown(self.folder)}: {free >> 20} MB free, a snapshot needs {math.ceil(needed / 2**20)}: make room, then run the same command again"
            )
        partial = self.folder / ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        solver.snapshot()
        for suffix, name in (("caffemodel", WEIGHTS), ("solverstate", STATE)):
            Path(f"{self.prefix_in(self.folder)}_iter_{solver.iter}.{suffix}").replace(partial / name)
            _flush(partial / name)
        for name, content in files.items():
            write_whole(partial / name, content)
        note = {"digest": self.digest, "iteration": solver.iter, **extra}
        note["sha256"] = {name: sha256(partial / name) for name in (WEIGHTS, STATE, *files)}
        write_whole(partial / NOTE, json.dumps(note))
        final = self.folder / name_at(solver.iter)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        sync_folder(self.folder)
        for old in self._folders()[KEPT:]:
            shutil.rmtree(old)

    def newest(self, say, files=()):
        """(folder, note) of the newest whole snapshot of this stage with these `files` beside Caffe's, or None. `say` is told of
        each that is skipped."""
        for folder in self._folders():
            problem, note = self._read(folder, files)
            if not problem:
                return folder, note
            say(f"snapshot {shown(folder)} is {problem}: skipped for the one before")
        return None

    def _read(self, folder, files):
        try:
            note = _NOTE.parse((folder / NOTE).read_bytes())
            if note["digest"] != self.digest:
                return "of other settings or images", None
            if note["iteration"] != _number(folder) or not note["sha256"].keys() >= set(files):
                return "torn", None
            if any(sha256(folder / name) != value for name, value in note["sha256"].items()):
                return "torn", None
        except (OSError, ValueError):
            return "torn", None
        return None, note

    def restore(self, folder, solver):
        state = caffe_pb2.SolverState()
        try:
            state.ParseFromString((folder / STATE).read_bytes())
        except DecodeError:
            raise UserError(
                f"{shown(folder / STATE)} is no solverstate: delete {shown(folder)} and run the same command again"
            ) from None
        state.learned_net = str((folder / WEIGHTS).absolute())
        moved = self.folder / f".restore-{os.getpid()}.solverstate"  # each GPU's process restores by itself
        with naming(moved):
            moved.write_bytes(state.SerializeToString())
        solver.restore(str(moved))
        moved.unlink()

    def advice(self):
        kept = [folder.name for folder in self._folders()]
        return f"the last good snapshot ({kept[0]}) is kept" if kept else "no snapshot was made before"

    def _folders(self):
        return _folders(self.folder)


def name_at(iteration):
    """The folder of the snapshot at an iteration."""
    return f"iter_{iteration:07d}"


def read_note(folder):
    """The snapshot.json in `folder`. Raises UserError for a damaged one."""
    try:
        return _NOTE.parse((folder / NOTE).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{shown(folder / NOTE)} is damaged ({error}): delete {shown(folder)}") from None


def iteration(folder):
    """The iteration of the newest snapshot in a stage's snapshot folder by its name alone, 0 without one."""
    return max(map(_number, _folders(folder)), default=0)


def _folders(folder):
    """Those of the snapshots in a stage's snapshot folder, the newest first."""
    return sorted((f for f in folder.glob("iter_*") if f.is_dir() and _number(f)), key=_number, reverse=True)


def _number(folder):
    """The iteration in the name of a snapshot's folder, 0 where there is none."""
    digits = folder.name.removeprefix("iter_")
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 12 else 0


def _flush(path):
    with naming(path), path.open("rb") as stream:
        os.fsync(stream.fileno())
