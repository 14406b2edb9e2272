"""What several nets answer together: the class of the largest mean of their softmax outputs (Yim et al. 2017, tables 1 and 2)."""

import numpy as np

from hkd.base.cli import UserError
from hkd.base.files import shown
from hkd.stages.answers import Pc, read


def softmax(scores):
    """The softmax outputs of scores, images x classes, in float64."""
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def together(runs):
    """Pc in percent of several runs as an ensemble, or None where one of them has kept no answers. Raises UserError where they
    were not tested on the same images in the same order."""
    answers = [read(run) for run in runs]
    if not answers or any(one is None for one in answers):
        return None
    for run, one in zip(runs, answers, strict=True):
        if not np.array_equal(one["label"], answers[0]["label"]):
            raise UserError(f"{shown(runs[0].folder)} and {shown(run.folder)} were tested on other images: no ensemble")
    return Pc(np.mean([softmax(one["scores"]) for one in answers], axis=0), answers[0]["label"])
