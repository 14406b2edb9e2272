"""Records read through one declared shape: those that are kept all fit, what does not is one line that names the file."""

import json
import shutil

import pytest

from conftest import ROOT, command, one_line
from hkd.base.cli import UserError
from hkd.paper import experiments
from hkd.results.runs import Runs
from hkd.stages import records
from hkd.stages.stage import planned

KEPT = ROOT / "results/measured/records"
GROUP = "mnist/scale0.015625-seed1"
KD = "r32-r8-layerwise-kd-net1"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A net of the proposed method with all that it was made from."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("r32-teacher", *(f"r32-r8-layerwise-hint{step}" for step in (1, 2, 3)), KD):
        shutil.copytree(KEPT / "torch" / GROUP / name, folder / GROUP / name)
    return folder


@pytest.fixture
def one(runs):
    """The folder of its last stage; whatever was done to the record is undone."""
    path = runs / GROUP / KD / "record.json"
    before = path.read_bytes()
    yield path.parent
    path.write_bytes(before)


def used(runs):
    """What a table makes of it."""
    (run,) = Runs(runs).of(planned(experiments.experiment("mnist-r32-r8"), "layerwise", "kd"))
    return run.value("Pc"), run.condition.notes(), run.stage.iterations


def changed(record, path, value):
    """A copy of a record with another value at a path of keys."""
    copy = json.loads(json.dumps(record))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


def test_every_record_that_is_kept_fits_the_shape():
    folders = [path.parent for path in KEPT.rglob("record.json")]
    assert len(folders) > 100 and all(records.read_record(folder)["stage"] == folder.name for folder in folders)


WRONG = [
    (("Pc", "last"), 150),
    (("Pc", "last"), -1),
    (("Pc", "best"), "99"),
    (("Pc",), None),
    (("Pc",), []),
    (("scale",), 0),
    (("scale",), "1"),
    (("seed",), 0.5),
    (("iterations",), 2**31),
    (("iterations",), 0),
    (("net",), "1"),
    (("stage",), "../x"),
    (("stage",), "x\n"),
    (("dataset",), ".."),
    (("kind",), "kid"),
    (("experiment",), "mnist-r32-r9"),
    (("engine",), "../../OUTSIDE"),
    (("parents", "teacher", "stage"), "../../r32-teacher"),
    (("parents", "teacher", "dataset"), "../.."),
    (("parents", "student"), KD),  # of a version that had no more than a name: nothing to compare, but no error
    (("parents", "student", "stage"), KD),
    (("parents",), [1]),
    (("digests", "final.caffemodel"), "0" * 63),
    (("digests", "log.jsonl"), None),
    (("versions",), None),
    (("versions", "caffe"), "x"),
    (("hardware",), 1),
    (("official_data",), "yes"),
    (("settings",), []),
    (("settings", "batch"), -1),
    (("settings", "batch"), 10**30),
    (("settings", "batch"), True),
    (("settings", "tau"), 0),
    (("settings", "tau"), "3"),
    (("settings", "base_lr"), None),
    (("settings", "stepvalue"), 5),
    (("settings", "hint_iterations"), [1]),
    (("settings", "hint_layers"), ["a", "b", "c"]),
    (("settings", "hint_layers"), ["1.9", "2.9", "3.9"]),
    (("settings", "shortcut"), "$x_{"),
    (("settings", "sl_fc"), "../x"),
]


@pytest.mark.parametrize(("path", "value"), WRONG, ids=lambda part: str(part)[:40])
def test_under_a_checksum_that_fits_a_wrong_value_is_refused_by_the_file(runs, one, path, value):
    records.write_record(one, changed(records.read_record(one), path, value))
    if value == KD and len(path) == 2:
        assert used(runs)
        return
    with pytest.raises(UserError, match=str(one)):
        used(runs)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"Pc": {"last": NaN}}',
        b'{"Pc": {"last": 1e999}}',
    ],
    ids=lambda text: text[:20].decode(errors="replace"),
)
def test_what_is_no_record_is_one_line(runs, one, text):
    (one / "record.json").write_bytes(text)
    with pytest.raises(UserError, match=r"record\.json was edited or damaged"):
        used(runs)


def test_what_is_deep_in_a_place_that_nobody_reads_is_one_line(runs, one):
    """The shape says nothing of a key that it does not know; what is too deep to be written again is found by its checksum."""
    text = (one / "record.json").read_text().rstrip().removesuffix("}") + ', "x": ' + "[" * 900 + "]" * 900 + "}"
    (one / "record.json").write_text(text)
    with pytest.raises(UserError, match=r"record\.json was edited or damaged"):
        used(runs)


def test_the_command_says_it_in_one_line(runs, one, tmp_path):
    records.write_record(one, changed(records.read_record(one), ("Pc", "last"), 150))
    done = command("python/make_tables.py", "table4", "--runs", runs, "--out", tmp_path / "out")
    one_line(done, one / "record.json", "Pc.last: 150 must be smaller than or equal to 100")
    assert not (tmp_path / "out").exists()
