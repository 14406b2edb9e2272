"""What is in a folder of runs, and how far it is: a table once, or one that is kept up to date."""

import json
import sys
import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hkd.base.cli import Terminated, UserError
from hkd.base.locks import is_locked
from hkd.stages import records, snapshots

WATCH_SECONDS = 2.0


def rows(runs, dataset="*"):
    """One row a stage found under runs/<dataset>: (data set, group, stage, state, Pc last, Pc best, seconds, what is wrong with it
    or '')."""
    for note_path in sorted(Path(runs).glob(f"{dataset}/*/*/stage.json")):
        folder = note_path.parent
        names = (folder.parent.parent.name, folder.parent.name, folder.name)
        try:
            yield *names, *_found_in(folder), ""
        except UserError as error:  # the others are no worse for it
            if folder.exists():
                yield *names, "damaged", None, None, None, str(error)


def _found_in(folder):
    """(state, Pc last, Pc best, seconds) of the stage in `folder`."""
    note, record = records.read_note(folder), records.read_record(folder)
    if record is not None:
        Pc = record["Pc"] or {"last": None, "best": None}
        return "finished", Pc["last"], Pc["best"], record["seconds"]
    at, training = snapshots.iteration(folder / "snapshots"), is_locked(folder)
    lines = _log_so_far(folder) if training else []
    Pcs = [line["Pc"] for line in lines if "Pc" in line]
    done = max((line["iteration"] for line in lines), default=0)
    if training and done:
        state = f"training, iteration {done:,} of {note['iterations']:,}, snapshot at {at:,}"
    elif at:
        state = f"{'training' if training else 'stopped'}, snapshot at {at:,} of {note['iterations']:,}"
    else:
        state = f"training, {note['iterations']:,} iterations, no snapshot yet" if training else "prepared"
    return state, Pcs[-1] if Pcs else None, max(Pcs, default=None), None


def _log_so_far(folder):
    """The lines of a log that is being written: without the last where it is not whole yet."""
    try:
        text = (folder / records.LOG).read_text()
    except OSError:  # not yet begun, or just taken away
        return []
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def table(found):
    """The rows as a rich Table."""
    made = Table("data set", "scale, seed", "stage", "state", box=None)
    for heading in ("Pc last", "Pc best", "seconds"):
        made.add_column(heading, justify="right")
    for dataset, group, name, state, last, best, seconds, _ in found:
        numbers = [f"{n:.2f}" if n is not None else "-" for n in (last, best)]
        made.add_row(dataset, group, name, state, *numbers, f"{seconds:.0f}" if seconds is not None else "-")
    return made


def show(runs, dataset="*"):
    """Prints the table once. Returns an exit code."""
    found = list(rows(runs, dataset))
    if not found:
        print(_none(runs))
        return 0
    for *_, note in found:
        if note:
            print(f"note: {note}", file=sys.stderr)
    _console().print(table(found))
    return 0


def watch(runs, dataset="*", seconds=WATCH_SECONDS):
    """Keeps the table up to date until Ctrl-C; where there is no terminal, prints it whenever it has changed. Returns an exit code."""
    console = _console()
    try:
        if not console.is_terminal:
            _print_changes(console, runs, dataset, seconds)
        with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
            while True:
                live.update(_view(runs, list(rows(runs, dataset))), refresh=True)
                time.sleep(seconds)
    except Terminated:
        return 0  # that is how it ends


def _print_changes(console, runs, dataset, seconds):
    before = None
    while True:
        found = list(rows(runs, dataset))
        if found != before:
            console.print(_view(runs, found))
            sys.stdout.flush()
        before = found
        time.sleep(seconds)


def _view(runs, found):
    """The table of the rows, or that there is none yet; and what is wrong with a stage, in a line of its own."""
    notes = [Text(f"note: {note}") for *_, note in found if note]
    return Group(table(found) if found else Text(_none(runs)), *notes)


def _none(runs):
    return f"no stage in {runs} yet"


def _console():
    console = Console()
    # Where there is no terminal to fold for, no name may be cut.
    return console if console.is_terminal else Console(width=160)
