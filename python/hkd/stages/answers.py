"""What a net answers on the test set, kept when its training ends."""

import io

import numpy as np

from hkd.base.cli import UserError
from hkd.base.files import sha256, shown, write_whole

FILE = "test_scores.npy"
"""In a finished stage's folder: a record for each image of the test set, in the LMDB's order, `label` and the `scores` of the
classes (what goes into the softmax). Stages that were finished before there was such a file have none."""
SCORES = "fc"  # the blob


class Answers:
    """The scores and labels of one test, batch by batch."""

    def __init__(self):
        self.scores, self.labels = [], []

    def add(self, net):
        """Those of the batch that `net` (pycaffe) has just been run on."""
        self.scores.append(np.array(net.blobs[SCORES].data, np.float32))
        self.labels.append(np.array(net.blobs["label"].data, np.uint16))

    def write(self, folder):
        """Writes FILE, where there were any."""
        if not self.scores:
            return
        scores, labels = np.concatenate(self.scores), np.concatenate(self.labels)
        found = np.empty(len(labels), [("label", "<u2"), ("scores", "<f4", scores.shape[1:])])
        found["label"], found["scores"] = labels, scores
        stream = io.BytesIO()
        np.save(stream, found, allow_pickle=False)
        write_whole(folder / FILE, stream.getvalue())


def read(run):
    """The content of FILE of a run (results.runs.Run), or None where its record names none. Raises UserError for a file that is not
    the one that the record names, or does not give its Pc."""
    expected = run.record["digests"].get(FILE)
    if expected is None:
        return None
    path = run.folder / FILE
    if not path.exists():
        raise UserError(f"{shown(path)} is missing: the folder was copied by half, copy it again or delete it")
    if sha256(path) != expected:
        raise UserError(
            f"{shown(path)} is not the one that its record names (edited, or copied by half): copy it again"
        )
    answers = np.load(path, allow_pickle=False)
    if abs((own := Pc(answers["scores"], answers["label"])) - run.value("Pc")) > 1e-6:
        raise UserError(
            f"{shown(path)} gives Pc {own:.4f} %, its record {run.value('Pc'):.4f}: delete {shown(run.folder)}"
        )
    return answers


def Pc(scores, labels):
    """Percent of the images whose own class has the single largest score, as Caffe's Accuracy layer counts: a tie is wrong."""
    own = np.take_along_axis(scores, labels[:, None].astype(int), axis=1)
    return 100 * float(((scores >= own).sum(1) == 1).mean())
