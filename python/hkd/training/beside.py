"""What is trained beside the loop: for hint-dynamic KD its session, for every other kind of stage nothing."""

from hkd.training import hint_dynamic
from hkd.training.hint_dynamic.session import Session


class Nothing:
    """A session that has nothing to do: the loop trains the stage alone."""

    names = kept = ()  # files in a snapshot; those of them that stay when the stage has ended
    last_data_layer = 0

    def begin(self):
        """At iteration 0."""

    def resume(self, snapshot, iteration):
        """Goes on from a snapshot."""

    def after_iteration(self, iteration, lr):
        """Between two iterations."""

    def files(self):
        """{name: bytes} for a snapshot."""
        return {}

    def log(self):
        """What stands in the next line of the log besides."""
        return {}


def session(stage, net, folder, manifest, engine):
    """The session of a stage; its arguments are those of hint_dynamic.session.Session."""
    return Session(stage, net, folder, manifest, engine) if stage.declared.beside else Nothing()


def check(stage, engine, gpus):
    """Raises UserError where what is beside a stage cannot be trained by an engine, or on these GPUs."""
    if stage.declared.beside:
        hint_dynamic.check(stage, engine, gpus)


def check_data(stage, manifest):
    """Raises UserError where a data set lacks what a stage reads beside its images."""
    if stage.declared.beside:
        hint_dynamic.check_data(stage, manifest)
