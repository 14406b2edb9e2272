"""What comes from outside and is wrong: one line that says so, and nothing lost."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import EXPERIMENT, ROOT, RUN, command, group, one_line, run_stage
from drivers import CHAIN
from hkd.base.files import sha256
from hkd.stages import records, snapshots

NOT_UTF8 = os.fsdecode(b"r\xff")


class TestThreads:
    def test_omp_num_threads_may_have_nested_levels(self):
        done = command(RUN, "--dry-run", "--cpu", env={"OMP_NUM_THREADS": " 2,1 "}, check=0)
        assert "CPU, 2 threads" in done.stdout

    @pytest.mark.parametrize("value", ["abc", "0", "-1", "1.5", "٣", "2,", "2000000000"])
    def test_any_other_value_is_one_line(self, value):
        one_line(command(RUN, "--dry-run", "--cpu", env={"OMP_NUM_THREADS": value}), f"OMP_NUM_THREADS={value}")

    @pytest.mark.parametrize("value", ["0", "100000"])
    def test_threads_beyond_a_few_times_the_cores(self, value):
        one_line(command(RUN, "--dry-run", "--threads", value), f"--threads {value}", "cores")


class TestSettings:
    @pytest.mark.parametrize(
        "change",
        [
            "max_iter=3000000000",
            "hint_iterations=10,10,3000000000",
            "kd.max_iter=3000000000",
            "stepvalue=5,3000000000",
            "batch=5000000000",
            "base_lr=1e39",
            "tau=1e39",
            "lambda_kd=1e39",
        ],
    )
    def test_numbers_beyond_caffes_are_found_before_anything_is_trained(self, fashion, tmp_path, change):
        key, _, value = change.partition("=")
        one_line(run_stage(fashion, tmp_path, "--set", change), key, value.rpartition(",")[2][:2])
        assert not list(tmp_path.rglob("*.caffemodel"))

    def test_so_is_a_later_stage_that_cannot_be(self, fashion, tmp_path):
        """The third hint step's schedule falls beyond its end."""
        one_line(run_stage(fashion, tmp_path, "--set", "kd.max_iter=10"), "kd.max_iter")
        assert not list(tmp_path.rglob("*.caffemodel"))

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            (RUN, ["--experiment", ""]),
            (RUN, ["--experiment="]),
            (RUN, ["--runs", "", "--status"]),
            (RUN, ["--set", ""]),
            ("python/make_tables.py", ["--engine", ""]),
            ("python/make_tables.py", [""]),
            ("python/compare_torch.py", ["--method", ""]),
            ("data_tools/make_lmdb.py", ["--dataset", "cifar10", "--source", ""]),
        ],
    )
    def test_an_empty_value_is_not_the_default(self, script, words):
        option = next((word for word in words if word not in ("", "--dataset", "cifar10")), "''")
        one_line(command(script, *words), "empty value", option)


class TestNames:
    @pytest.mark.parametrize("option", ["--runs", "--data"])
    def test_a_folder_that_caffe_cannot_name(self, tmp_path, option):
        done = command(RUN, "--stage", "teacher", option, tmp_path / NOT_UTF8)
        one_line(done, option, r"r\udcff", "UTF-8")
        assert not list(tmp_path.iterdir())

    def test_what_can_be_done_there_is(self, chain, tmp_path):
        runs = shutil.copytree(chain[0].parent.parent, tmp_path / NOT_UTF8)
        assert CHAIN[0] in command(RUN, "--status", "--runs", runs, check=0).stdout
        out = tmp_path / f"o{NOT_UTF8}"
        done = command("python/make_tables.py", EXPERIMENT, "--runs", runs, "--out", out, check=0)
        assert (out / f"{EXPERIMENT}.md").exists() and r"\udcff" in done.stdout


class TestOutputs:
    def test_a_full_standard_output(self):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, ROOT / RUN, "--list"], stdout=full, stderr=subprocess.PIPE, text=True
            )
        assert done.returncode == 2 and done.stderr.startswith("error: standard output: no space left")
        assert len(done.stderr.splitlines()) == 1

    def test_a_reader_that_went_away(self):
        process = subprocess.Popen(
            [sys.executable, ROOT / RUN, "--list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        process.stdout.close()
        assert process.stderr.read() == "error: the reader of this command's output went away\n"
        assert process.wait() == 2
        process.stderr.close()

    def test_a_file_that_cannot_be_written_is_named(self, chain, tmp_path):
        """RLIMIT_FSIZE, as a full disk: the error of a write names no file by itself."""
        import resource

        out = tmp_path / "out"
        words = ["--runs", chain[0].parent.parent, "--out", out]
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # noqa: E731
        done = command("python/make_tables.py", EXPERIMENT, *words, preexec_fn=limit)
        one_line(done, out / f"{EXPERIMENT}.md", "no space left")


def test_an_error_that_nobody_foresaw_is_one_line_and_a_file(tmp_path):
    code = "import sys; sys.path.insert(0, sys.argv[1]); from hkd.base.cli import run; run(lambda: {}['a key'])"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, ROOT / "python"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    (path,) = tmp_path.iterdir()
    assert done.stderr.startswith("error: KeyError: 'a key'") and str(path) in done.stderr
    assert "Traceback" in path.read_text() and "run(lambda" in path.read_text()


class TestWhatIsReadBack:
    @pytest.mark.parametrize(
        "content",
        [b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"stage": "x", "digest": 1, "iterations": 2, "files": {}}'],
        ids=["{}", "[]", "not UTF-8", "nested", "a digest that is none"],
    )
    def test_a_damaged_stage_json(self, copy, fashion, content):
        path = group(copy) / CHAIN[0] / "stage.json"
        path.write_bytes(content)
        one_line(run_stage(fashion, copy, "--stage", "teacher"), path, "damaged")
        done = command(RUN, "--status", "--runs", copy, check=0)
        assert done.stdout.count("finished") == 4 and "damaged" in done.stdout and str(path) in done.stderr
        assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("note: ")

    def test_one_damaged_record_does_not_hide_the_others(self, copy):
        path = group(copy) / CHAIN[1] / "record.json"
        path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
        done = command(RUN, "--status", "--runs", copy, check=0)
        assert done.stdout.count("finished") == 4 and "damaged" in done.stdout and str(path) in done.stderr

    @pytest.mark.parametrize(
        "torn", [b'{"iteration": 15, "lo', b"\xff\xfe", b"[1]", b'{"loss": 1}', b'{"iteration": "15"}', b"NaN"]
    )
    def test_a_log_is_cut_at_its_first_damaged_line(self, copy, torn):
        folder = group(copy) / CHAIN[0]
        lines = (folder / "log.jsonl").read_bytes().splitlines()
        (folder / "log.jsonl").write_bytes(b"\n".join([*lines[:2], torn, *lines[2:]]))
        assert records.read_log(folder) == [json.loads(line) for line in lines[:2]]

    @pytest.mark.parametrize("key", ["sums", "count", "seconds", "sessions", "iteration", "sha256"])
    @pytest.mark.parametrize("value", [None, "x", [-1]], ids=["missing", "text", "list"])
    def test_a_snapshots_note_with_a_wrong_value_is_skipped(self, tmp_path, key, value):
        folders = []
        for number in (1, 2):
            folder = tmp_path / f"iter_{number:07d}"
            folder.mkdir()
            for name in (snapshots.WEIGHTS, snapshots.STATE):
                (folder / name).write_bytes(b"content")
            note = {"digest": "0" * 64, "iteration": number, "sums": {}, "count": 0, "seconds": 1.5, "sessions": 1}
            note["sha256"] = {path.name: sha256(path) for path in folder.iterdir()}
            folders.append((folder, note))
        note[key] = value
        if value is None:
            del note[key]
        for folder, note in folders:
            (folder / snapshots.NOTE).write_text(json.dumps(note))
        said = []
        assert snapshots.Snapshots(tmp_path, "0" * 64).newest(said.append)[0] == folders[0][0]
        assert len(said) == 1 and "iter_0000002 is torn" in said[0]

    def test_the_newest_snapshot_is_that_of_the_largest_number(self, tmp_path):
        for name in ("iter_9999999", "iter_10000000", "iter_x", "iter_"):
            (tmp_path / name).mkdir()
        assert snapshots.iteration(tmp_path) == 10_000_000


class TestStates:
    def test_a_prepared_stage_is_prepared(self, fashion, tmp_path):
        run_stage(fashion, tmp_path, "--stage", "teacher", "--prepare", check=0)
        said = command(RUN, "--status", "--runs", tmp_path, check=0).stdout
        assert re.search(rf"{CHAIN[0]} +prepared ", said) and "snapshot" not in said

    def test_snapshots_that_a_kill_left_beside_a_record_are_removed(self, copy, fashion):
        left = group(copy) / CHAIN[0] / "snapshots"
        (left / "iter_0000018").mkdir(parents=True)
        run_stage(fashion, copy, "--stage", "teacher", "--dry-run", check=0)
        assert left.exists()
        run_stage(fashion, copy, "--stage", "teacher", check=0)
        assert not left.exists()
