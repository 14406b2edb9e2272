"""The curves of a stage for TensorBoard: event files beside log.jsonl, made from it and from nothing else.

Each session writes one file, which begins with what log.jsonl has by then, and takes those of sessions before away: a run that was killed
and goes on has no point twice.
"""

import importlib.util

from hkd.base.cli import UserError

KINDS = ("tensorboard",)
FILES = "events.out.tfevents.*"


def require(kind):
    """Raises UserError where the package for --log-to is not installed."""
    if kind and importlib.util.find_spec("tensorboardX") is None:
        raise UserError(
            f"--log-to {kind} needs tensorboardX, which is not installed: pip install '.[tensorboard]' in the checkout"
        )


class Nowhere:
    """Where no curves were asked for."""

    def begin(self, lines):
        pass

    def add(self, line):
        pass

    def end(self):
        pass


class TensorBoard:
    """One event file in `folder`, a stage's."""

    def __init__(self, folder):
        self.folder, self.writer = folder, None

    def begin(self, lines):
        """Begins the file with `lines`, those of log.jsonl so far."""
        from tensorboardX import SummaryWriter

        for old in self.folder.glob(FILES):
            old.unlink()
        self.writer = SummaryWriter(str(self.folder), flush_secs=10, write_to_disk=True)
        for line in lines:
            self.add(line)
        self.writer.flush()

    def add(self, line):
        """A line of log.jsonl: each number a point of the curve of its name."""
        for name, value in line.items():
            if name != "iteration":
                self.writer.add_scalar(_curve(name), value, line["iteration"])

    def end(self):
        self.writer.close()


def of(kind, folder):
    """What takes the curves of the stage in `folder`."""
    return TensorBoard(folder) if kind else Nowhere()


def _curve(name):
    """test_loss and Pc stand together, apart from what is measured in training."""
    return f"test/{name.removeprefix('test_')}" if name == "Pc" or name.startswith("test_") else f"train/{name}"
