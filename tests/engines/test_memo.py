"""A teacher that is asked once: the same bytes whatever its memo holds, and a memo that serves no other teacher."""

import importlib.util
import itertools
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from conftest import ROOT, command, one_line
from drivers import wait_for_a_snapshot
from hkd.base.files import sha256
from hkd.networks import resnet
from hkd.paper import experiments
from hkd.paper.methods import METHODS
from hkd.stages import records
from hkd.stages.stage import planned

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no PyTorch: make torch")

RUN = "python/run_stage.py"
GROUP = "cifar10/scale0.0005-seed1"
WORDS = [
    "--experiment",
    "cifar10-r14w4-r8w4",
    "--scale",
    "0.0005",
    "--set",
    "batch=40",
    "--engine",
    "torch",
    "--method",
    "kd",
]
TEACHER, STUDENT = "r14w4-teacher+batch=40", "r14w4-r8w4-kd-net1+batch=40"


def words(folder, runs, *more):
    return [sys.executable, ROOT / RUN, *WORDS, "--data", folder, "--runs", runs, *more]


def trained(folder, runs, *more):
    """What the command printed; the record of the KD stage and the bytes that it ended in."""
    done = command(RUN, *words(folder, runs, *more)[2:], check=0)
    stage = runs / GROUP / STUDENT
    return done.stdout, records.read_record(stage), (sha256(stage / "final.caffemodel"), sha256(stage / "log.jsonl"))


def memo(runs):
    """The memo of the training images; that of the test images is smaller."""
    return max((runs / GROUP / TEACHER).glob("memo-*.bin"), key=lambda path: path.stat().st_size)


@pytest.fixture(scope="module")
def first(colour, tmp_path_factory):
    """(runs folder, record, bytes) of a KD stage that began with no memo."""
    runs = tmp_path_factory.mktemp("memo")
    _, record, made = trained(colour, runs)
    return runs, record, made


@pytest.fixture
def again(first, tmp_path):
    """A runs folder with that teacher and its memo, without the KD stage."""
    shutil.copytree(first[0], tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / GROUP / STUDENT)
    return tmp_path / "runs"


def test_a_filled_memo_answers_all_and_the_bytes_are_the_same(first, again, colour):
    said, record, made = trained(colour, again)
    assert made == first[2]
    assert record["teacher_answers"]["kept"] == record["teacher_answers"]["asked"] > 32 * 40
    assert "teacher: 100.0% of" in said


def test_without_a_memo_the_bytes_are_the_same_and_no_file_is_made(first, again, colour):
    for path in (again / GROUP / TEACHER).glob("memo-*"):
        path.unlink()
    _, record, made = trained(colour, again, "--no-memo")
    assert made == first[2] and record["teacher_answers"] is None
    assert not list((again / GROUP / TEACHER).glob("memo-*"))


def test_torn_and_damaged_answers_are_made_again(first, again, colour):
    path, row = memo(again), 10 * 4 + 8
    content = np.fromfile(path, np.uint8)
    rows = content[4096:].reshape(-1, row)
    there = np.flatnonzero(rows.any(axis=1))
    rows[there[::3]] = 0  # as if never asked
    rows[there[1::3], 5] ^= 1  # a bit flipped
    rows[there[2::9], 20:] = 0  # half written when the machine stopped
    content.tofile(path)
    _, record, made = trained(colour, again)
    answers = record["teacher_answers"]
    assert made == first[2] and 0 < answers["kept"] < answers["asked"]
    repaired = np.fromfile(path, np.uint8)[4096:].reshape(-1, row)
    original = np.fromfile(memo(first[0]), np.uint8)[4096:].reshape(-1, row)
    assert np.array_equal(repaired[there], original[there])


def test_two_jobs_share_one_file(first, again, colour):
    memo(again).unlink()
    nets = [subprocess.Popen(words(colour, again, "--net", str(net)), stdout=subprocess.DEVNULL) for net in (1, 2)]
    assert [process.wait() for process in nets] == [0, 0]
    assert len(list((again / GROUP / TEACHER).glob("memo-*.bin"))) == 2
    assert sha256(again / GROUP / STUDENT / "final.caffemodel") == first[2][0]


def test_killed_it_ends_in_the_same_bytes(first, again, colour):
    memo(again).unlink()
    for _ in range(3):
        process = subprocess.Popen(words(colour, again, "--snapshot-seconds", "0"), stdout=subprocess.DEVNULL)
        wait_for_a_snapshot(process, again / GROUP / STUDENT)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert trained(colour, again)[2] == first[2]


def test_a_full_disk_stops_the_keeping_and_not_the_run(first, again, colour):
    """RLIMIT_FSIZE: no file may grow beyond 2 MB, as on a full disk; the memo of this data set may grow to 8."""
    for path in (again / GROUP / TEACHER).glob("memo-*"):
        path.unlink()
    limit = (2 << 20, 2 << 20)
    done = subprocess.run(
        words(colour, again),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the teacher's answers are not kept: ") == 1 and "File too large" in done.stdout
    assert sha256(again / GROUP / STUDENT / "final.caffemodel") == first[2][0]


class TestMemo:
    """The file itself."""

    def make(self, folder, say=print, **changes):
        key = {"teacher": "a", "pixels": "b"} | changes
        return memo_of(folder, key, 1000, (10,), np.float32, say)

    def test_another_teacher_other_pixels_and_another_crop_have_another_file(self, tmp_path):
        made = [self.make(tmp_path, **c) for c in ({}, {"teacher": "c"}, {"pixels": "c"}, {"crop": 3})]
        assert len({m.path for m in made}) == 4

    def test_where_nothing_can_be_written_it_says_so_and_answers(self):
        said = []
        made = self.make("/proc/self", said.append)  # not even root may make files there
        assert len(said) == 1 and said[0].startswith("the teacher's answers are not kept: /proc/self/memo-")
        slots = np.array([5, 900])
        for _ in range(2):
            assert np.array_equal(made.answers(slots, lambda places: rows(slots[places])), rows(slots))
        assert (made.asked, made.kept, len(said)) == (4, 0, 1)

    def test_an_answer_that_lies_in_another_row_is_not_taken(self, tmp_path):
        made, slots = self.make(tmp_path), np.arange(8)
        made.answers(slots, rows)
        content = np.fromfile(made.path, np.uint8)
        content[4096:][: 8 * 48] = np.roll(content[4096:][: 8 * 48], 48)
        content.tofile(made.path)
        assert np.array_equal(made.answers(slots, rows), rows(slots)) and made.kept == 0

    @pytest.mark.parametrize("damage", ["truncated", "foreign"])
    def test_a_damaged_file_is_begun_again(self, damage, tmp_path):
        made, slots, said = self.make(tmp_path), np.arange(8), []
        made.answers(slots, rows)
        content = made.path.read_bytes()
        made.path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"{}" + content[2:])
        again = self.make(tmp_path, said.append)
        assert said == [f"{made.path} is damaged: begun again"]
        assert np.array_equal(again.answers(slots, rows), rows(slots)) and again.kept == 0

    def test_a_disk_that_fills_up_later_stops_the_keeping_in_one_line(self, tmp_path):
        script = (
            "import resource, sys, numpy as np; sys.path.insert(0, 'python');"
            "from hkd.engines.torch.memo import Memo;"
            "m = Memo(sys.argv[1], {}, 1000, (10,), np.float32, print);"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
            "give = lambda places: np.ones((len(places), 10), np.float32);"
            "print(*[m.answers(np.arange(4), give).sum() for _ in range(2)], m.kept)"
        )
        done = subprocess.run([sys.executable, "-c", script, tmp_path], cwd=ROOT, capture_output=True, text=True)
        first, second = done.stdout.splitlines()
        assert "are not kept" in first and "File too large" in first and second == "40.0 40.0 0", done.stderr

    def test_a_file_cut_short_under_a_running_stage_is_no_harm(self, tmp_path):
        made = self.make(tmp_path)
        slots = np.arange(990, 1000)
        made.answers(slots, lambda places: rows(slots[places]))
        with made.path.open("r+b") as stream:
            stream.truncate(4096 + 995 * 48)
        assert np.array_equal(made.answers(slots, lambda places: rows(slots[places])), rows(slots))
        assert made.kept == 5

    @hypothesis.settings(deadline=None)  # a disk is as slow as it is
    @hypothesis.given(
        strategies.lists(strategies.lists(strategies.integers(0, 999), min_size=1, max_size=40), max_size=6)
    )
    def test_whatever_was_asked_before_an_answer_is_its_rows_own(self, batches):
        with tempfile.TemporaryDirectory() as folder:
            made, seen = self.make(folder), set()
            for batch in map(np.array, batches):
                asked = []

                def make(places, batch=batch, asked=asked):
                    asked.extend(batch[places])
                    return rows(batch[places])

                assert np.array_equal(made.answers(batch, make), rows(batch)) and set(asked) == set(batch) - seen
                seen |= set(batch)


def rows(slots):
    return (np.asarray(slots)[:, None] * 10 + np.arange(10)).astype(np.float32)


def memo_of(*arguments):
    from hkd.engines.torch.memo import Memo

    return Memo(*arguments)


def test_it_is_refused_where_there_is_none(colour, tmp_path):
    one_line(command(RUN, "--memo", "--dry-run"), "--memo: Caffe asks its teacher", "--engine torch")


def networks_with_a_teacher():
    """A stage for each network, of every method, that has a frozen teacher beside the student, but hint-dynamic KD's, which asks it
    for too much to keep."""
    experiment, found = experiments.experiment("cifar10-r8w4-r8w4", ("batch=8",)), {}
    for method, parts in METHODS.items():
        for part in parts:
            if part.kind in ("dynamic", "finetune"):
                continue
            stage = planned(experiment, method, part.kind, part.step or None)
            network = stage.network("data", 200)
            if any(layer.name.startswith(resnet.TEACHER) for layer in network.layer):
                found[network.SerializeToString(deterministic=True)] = stage
    return found.values()


def test_the_losses_of_each_network_are_the_same_with_kept_answers(colour, tmp_path):
    from hkd.engines.torch.net import TEST, TRAIN, Net
    from hkd.engines.torch.steps import Single

    stages = networks_with_a_teacher()
    assert {stage.kind for stage in stages} >= {"hint", "kd", "fsp"}
    for stage, phase in itertools.product(stages, (TRAIN, TEST)):
        first, again, plain = (Net(stage.network(colour, 200), phase, 1) for _ in range(3))
        plain.plan = [Single(plain, b) for b in plain.built if b.kind.run is not None]  # layer by layer
        for net in (first, again):
            net.keep_answers(tmp_path, "pixels", print)
        found = [{name: float(top.detach()) for name, top in net.forward().items()} for net in (first, again, plain)]
        assert found[0] == found[1] and found[0] == pytest.approx(found[2], rel=1e-4), stage.folder_name
        asked, kept = again.answered
        assert kept == asked, stage.folder_name
