"""Data sets of the user's own: what one may be called, and those that this process knows.

Nothing is known of one before it is built. What there is to know (datasets.Dataset) stands in its manifest, goes with a job to the
process that trains, and into every record, so that tables can be made where the images are not. A command declares what it
has read; what nobody declared is looked for in the data folder.
"""

import re

from hkd.base.cli import default_folder

LONGEST_NAME = 40
TAKEN = ("downloads",)  # the data tool's folder beside the data sets

_known, _places = {}, []


def wrong_name(name, official):
    """What is wrong with a name, or None: it must not read as a path, one of the `official` data sets, or a pair of networks."""
    words = name.split("-")
    if name in official or name in TAKEN:
        return f"that is taken: expected another name than {', '.join((*official, *TAKEN))}"
    if len(name) > LONGEST_NAME or not all(re.fullmatch("[a-z0-9]+", word) for word in words):
        return f"expected a plain word of at most {LONGEST_NAME} of a to z, 0 to 9 and single hyphens, as my-images"
    if any(re.fullmatch(r"r\d+(w\d+)?", word) for word in words) or "to" in words:
        return "a part of it reads as a network, as in NAME-r14-r8, or as NAME-to-NAME: choose another name"
    return None


def declare(facts):
    """Lets the whole process know a data set, in place of one that had its name before."""
    _known[facts.name] = facts


def known(name):
    """The facts of that name, or None."""
    return _known.get(name)


def look_in(folder):
    """Names a folder of data sets, each in a folder of its own name, that is looked in before the default one."""
    if folder not in _places:
        _places.insert(0, folder)


def places():
    """Where data sets that nobody declared are looked for."""
    return (*_places, default_folder("data"))
