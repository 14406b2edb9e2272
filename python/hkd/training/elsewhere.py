"""What the driver says of a teacher from elsewhere."""

import sys

from hkd.base.cli import UserError
from hkd.base.files import shown


def absent(stage, folder):
    """The UserError for weights that neither are in the teacher's `folder` from an earlier time nor were given."""
    base, weights = folder.name.partition("+")[0], folder.name.rpartition("+")[2]
    others = sorted(folder.parent.glob(f"{base}+*{weights}"))
    beside = f"; there is {others[0].name}: give its settings with --set" if others else ""
    return UserError(
        f"{shown(folder)}: the weights {stage.given} are not there: give their file with --teacher-weights FILE{beside}"
    )


def warn_of_chance(stage, record):
    """A note on stderr where given weights are hardly better than chance: nothing in a file says what its input was."""
    chance = 100 / stage.experiment.facts.classes
    if record and record["Pc"]["last"] < 2 * chance:
        said = f"Pc {record['Pc']['last']:.2f} % of the given weights is hardly more than chance, {chance:g} %"
        print(
            f"note: {said}: are --mean, --std, --pixels, --channels and --padding those of their training?",
            file=sys.stderr,
        )
