"""What a kind of stage is, as one record that its network's file declares (`KIND`); kinds.py has the list of them."""

from collections.abc import Callable
from dataclasses import dataclass

from hkd.networks.feed import Feed
from hkd.paper import stated
from hkd.paper.architecture import Architecture
from hkd.paper.experiment import Experiment
from hkd.paper.methods import Part


@dataclass(frozen=True)
class Request:
    """What a stage wants a network for. learner: what it trains; learner_end: the residual module, (stack, block), that it is cut
    above; iterations, random_seed: of the stage, as scaled."""

    experiment: Experiment
    part: Part
    learner: Architecture
    learner_end: tuple[int, int]
    feed: Feed
    iterations: int
    random_seed: int


def _whole_schedule(experiment, part):
    return stated.Schedule(experiment.base_lr, experiment.stepvalue, experiment.max_iter)


@dataclass(frozen=True)
class Kind:
    """A kind of stage.

    network:      Request -> NetParameter.
    schedule:     (experiment, part) -> stated.Schedule of the paper, unscaled; default: that of the whole student.
    check:        (experiment, part) -> None; raises UserError where its network cannot be, without building it.
    learner_end:  (experiment, part, learner) -> the module that the learner is cut above; default: it is whole.
    teacher_end:  (experiment, part) -> the same of the teacher beside it; default: it is whole.
    fresh:        (experiment, part) -> names of layers, besides the learner's own, that begin at their fillers.
    beside:       prefix of the settings that the driver trains by, beside network and solver; "": none.
    taught:       whether a teacher is in its network.
    classifies:   whether the learner in it has its fully connected layer.
    grows:        whether the learner is cut and classifies all the same, so that its fully connected layer is its own.
    named:        whether a stage's name says its kind, beside its method's.
    indexed:      whether it reads the index of its training images (data_tools/index_lmdb.py).
    """

    name: str
    network: Callable
    schedule: Callable = _whole_schedule
    check: Callable = lambda experiment, part: None
    learner_end: Callable = lambda experiment, part, learner: learner.modules[-1]
    teacher_end: Callable = lambda experiment, part: experiment.teacher.modules[-1]
    fresh: Callable = lambda experiment, part: ()
    beside: str = ""
    taught: bool = False
    classifies: bool = True
    grows: bool = False
    named: bool = True
    indexed: bool = False
