"""Whether a folder of a finished stage is what its record says: its place, its log, and the stages that it started from."""

from pathlib import Path

from hkd.base.cli import UserError
from hkd.base.files import sha256, shown
from hkd.stages import records
from hkd.stages.stage import group


def check_place(folder, record):
    """Raises UserError where a folder is not the place of its record: it was renamed, or copied into the place of another, and its
    number would stand in the wrong cell."""
    own = group(record["dataset"], record["scale"], record["seed"]) / record["stage"]
    if Path(*folder.parts[-3:]) != own:
        raise UserError(
            f"{shown(folder)} has the record of {own}: it was renamed or copied there, move it back or delete it"
        )


def check_log(folder, record):
    """Raises UserError where the log beside a record is missing, or another than the record names."""
    expected = record["digests"].get(records.LOG)
    log = folder / records.LOG
    if not log.exists():
        raise UserError(f"{shown(log)} is missing: the folder was copied by half, copy it again or delete it")
    if expected is not None and sha256(log) != expected:
        raise UserError(f"{shown(log)} is not the one that its record names (edited, or copied by half): copy it again")


def checked_parents(folder, record, read, later=()):
    """The records of the stages before it that stand beside it, theirs too. Raises UserError where one has other weights than those
    that it started from. read: records.read_record, or one that keeps what it read. later: the stages that led here, of which none
    may come again."""
    found = []
    for parent in record["parents"].values():
        if isinstance(parent, str):
            continue  # a record of version 0.1 before it named its parents' weights
        if parent["stage"] in later:
            raise UserError(
                f"{shown(folder / 'record.json')}: {parent['stage']} comes before itself: delete {shown(folder)}"
            )
        # A teacher of another data set stands in that one's folder. Older records do not name it: there was none.
        place = folder.parents[2] / parent.get("dataset", record["dataset"]) / folder.parent.name / parent["stage"]
        beside = read(place)
        if beside is None:
            continue
        if beside["digests"][records.FINAL] != parent[records.FINAL]:
            raise UserError(
                f"{shown(folder)} started from another {parent['stage']} than the one beside it: train it again with run_stage.py, "
                f"or copy both from one place"
            )
        found += [beside, *checked_parents(place, beside, read, (*later, folder.name))]
    return found
