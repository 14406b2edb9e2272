"""The Snakefile for real: every stage once, killed and gone on with, refused configurations, a Slurm of one node."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from conftest import ROOT, TINY, copy_of_runs, snakemake
from hkd.base.cli import UserError
from hkd.base.files import sha256
from hkd.paper import experiments, methods
from hkd.results import targets, workflow
from hkd.results.lines import NETS
from hkd.results.rows import Row
from hkd.stages.stage import lineage

PROFILES = ("default", "slurm", "kubernetes")


def said(done):
    return done.stdout + done.stderr


def finals(runs):
    """{stage: sha256 of its weights} of a runs folder."""
    return {path.parent.name: sha256(path) for path in Path(runs).glob("*/*/*/final.caffemodel")}


class TestTheRuns:
    def test_every_table_and_figure_was_made(self, paper_runs):
        names = {path.name for path in (paper_runs[0] / "out").iterdir()}
        assert names == {
            *(f"table{n}.{kind}" for n in (1, 4) for kind in ("md", "csv")),
            *(f"figure{n}.{kind}" for n in (7, 9) for kind in ("svg", "png")),
        }

    def test_each_stage_ran_once_however_many_tables_need_it(self, paper_runs):
        folder, printed = paper_runs
        s = workflow.settings({"scale": 0.00003, "set": "batch=8"})
        jobs = workflow.Workflow(s)
        needed = {"table1", "table4", "figure7", "figure9"}
        plan = {jobs.folder(x) for name in needed for last in jobs.targets[name] for x in workflow.lineage(last)}
        records = list((folder / "runs").glob("*/*/*/record.json"))
        assert {"/".join(path.parts[-4:-1]) for path in records} == plan
        assert all(json.loads(path.read_text())["sessions"] == 1 for path in records)
        assert len(re.findall(r"^(?:local)?rule (?:teacher|baseline|kd|hint|grow|finetune):", printed, re.M)) == len(
            plan
        )

    def test_each_job_had_one_thread(self, paper_runs):
        devices = {json.loads(p.read_text())["device"] for p in (paper_runs[0] / "runs").glob("*/*/*/record.json")}
        assert all(device.startswith("CPU, 1 threads") for device in devices)

    def test_a_second_command_does_nothing(self, paper_runs, lmdbs):
        folder, _ = paper_runs
        where = (f"data={lmdbs}", f"runs={folder / 'runs'}", f"out={folder / 'out'}")
        done = snakemake("table1", "figure9", config=(*TINY, *where), check=0)
        assert "Nothing to be done" in said(done)

    def test_a_lost_record_is_made_again_to_the_same_weights(self, paper_runs, lmdbs, tmp_path):
        runs = copy_of_runs(paper_runs[0] / "runs", tmp_path / "runs")
        folder = next(runs.glob("*/*/r26-r14-kd-net2*"))
        before = sha256(folder / "final.caffemodel")
        for name in ("record.json", "final.caffemodel", "log.jsonl"):
            (folder / name).unlink()
        snakemake("table1", config=(*TINY, f"data={lmdbs}", f"runs={runs}", f"out={tmp_path}"), check=0)
        assert sha256(folder / "final.caffemodel") == before
        assert " (3) |" in next(x for x in (tmp_path / "table1.md").read_text().splitlines() if x.startswith("| KD"))

    def test_runs_made_by_hand_are_used_not_made_again(self, paper_runs, lmdbs, tmp_path):
        """Snakemake knows nothing of a folder that was copied or trained by run_stage.py: it asks, and nothing is trained."""
        runs = copy_of_runs(paper_runs[0] / "runs/cifar10", tmp_path / "runs/cifar10").parent
        for marker in runs.glob("*/*/*/.finished"):
            marker.unlink()
        before = {path: path.stat().st_mtime_ns for path in runs.glob("*/*/*/final.caffemodel")}
        snakemake("figure9", config=(*TINY, f"data={lmdbs}", f"runs={runs}", f"out={tmp_path}"), check=0)
        assert {path: path.stat().st_mtime_ns for path in runs.glob("*/*/*/final.caffemodel")} == before


@pytest.mark.slow
def test_killed_in_the_middle_and_started_again(paper_runs, lmdbs, tmp_path):
    """SIGKILL to Snakemake alone: the stage it had started goes on as an orphan, the next Snakemake waits for it."""
    runs = tmp_path / "runs"
    config = (*TINY, f"data={lmdbs}", f"runs={runs}", f"out={tmp_path / 'out'}")
    arguments = [sys.executable, "-m", "snakemake", "--cores", "2", "figure9", "--config", *config]
    first = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not list(runs.glob("*/*/r26-teacher*/caffe.log")):
        assert time.monotonic() < end and first.poll() is None
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "out").exists()
    done = snakemake("figure9", config=config, check=0)
    assert (tmp_path / "out/figure9.svg").exists(), said(done)
    whole = finals(paper_runs[0] / "runs")
    assert finals(runs).items() <= whole.items() and len(finals(runs)) == 5
    same = [(f / "figure9.svg").read_bytes() for f in (tmp_path / "out", paper_runs[0] / "out")]
    assert same[0] == same[1]


def test_a_stage_that_fails_takes_down_only_what_needs_it(paper_runs, lmdbs, tmp_path):
    runs = copy_of_runs(paper_runs[0] / "runs/cifar10", tmp_path / "runs/cifar10").parent
    for pattern in ("r14-r8-layerwise-kd-net1*", "r14-r8-hint-kd-net1*"):
        folder = next(runs.glob(f"*/*/{pattern}"))
        (folder / ".finished").unlink()
    damaged = next(runs.glob("*/*/r14-r8-layerwise-kd-net1*")) / "net.prototxt"
    damaged.write_text(damaged.read_text() + "# edited\n")
    done = snakemake("figure7", config=(*TINY, f"data={lmdbs}", f"runs={runs}", f"out={tmp_path}"))
    assert done.returncode and "net.prototxt was edited by hand or damaged" in said(done)
    assert next(runs.glob("*/*/r14-r8-hint-kd-net1*/.finished"))
    assert not (tmp_path / "figure7.svg").exists()


def jobs_of(names):
    """{kind: the stages that tables, figures and experiments of these names come to, each once}."""
    last = [stage for name in names if name in targets.TARGETS for stage in targets.TARGETS[name].stages(NETS)]
    for name in set(names) & set(experiments.EXPERIMENTS):
        for method in ("", "baseline", *experiments.EXPERIMENTS[name].methods):
            last += Row("", name, method).stages(NETS)
    folders = {(stage.group, stage.name): stage.kind for each in last for stage in lineage(each)}
    return dict(Counter(folders.values()))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_dry_run_of_every_target(profile):
    everything = [*targets.TARGETS, "tables", "all-methods", "claims", "report", *experiments.EXPERIMENTS]
    done = snakemake("-n", "--workflow-profile", f"profiles/{profile}", *everything, check=0)
    counts = {name: int(n) for name, n in re.findall(r"^(\w+)\s+(\d+)$", said(done), re.M)}
    assert {kind: counts[kind] for kind in methods.KINDS if kind in counts} == jobs_of(everything)
    if profile != "default":
        assert "gpu=1" in said(done)


def test_the_number_of_jobs_of_the_paper():
    done = snakemake("-n", "tables", check=0)
    counts = {name: int(n) for name, n in re.findall(r"^(\w+)\s+(\d+)$", said(done), re.M)}
    papers = [name for name in targets.TARGETS if name not in targets.ALL_METHODS]
    assert {kind: counts[kind] for kind in methods.KINDS if kind in counts} == jobs_of(papers)


def test_a_shared_stage_is_named_after_the_papers_experiment():
    """Not after one that asks for more, such as a transfer: who reads the log shall not wonder whose command that is."""
    jobs = workflow.Workflow(workflow.settings({}))
    shared = {folder for folder, stage in jobs.stages.items() if stage.kind in ("teacher", "baseline")}
    assert [folder for folder in shared if "--teacher-data" in jobs.words(folder)] == []
    assert jobs.words("cifar10/full-seed1/r8-baseline-net1").startswith("--experiment cifar10-r14-r8 ")


def test_experiments_and_nets_choose_what_is_run():
    done = snakemake("-n", "tables", config=("experiments=cifar10-r26-r8", "nets=1", "scale=0.01"), check=0)
    counts = {name: int(n) for name, n in re.findall(r"^(\w+)\s+(\d+)$", said(done), re.M)}
    # teacher; a hint stage each of hint-kd, concurrent and fitnet, three of the proposed; KD of the four; the student alone,
    # which the comparison of a chosen experiment has; FSP's two.
    kinds = ("teacher", "hint", "kd", "baseline", "fsp", "finetune")
    assert [counts[kind] for kind in kinds] == [1, 6, 4, 1, 1, 1]
    assert "table1" not in said(done) and "cifar10/scale0.01-seed1" in said(done)


WRONG = {
    "scael=1": ["unknown config key 'scael'", "did you mean scale?"],
    "scale=2": ["config scale=2", "more than 0 and at most 1"],
    "scale=much": ["config scale=much"],
    "nets=4": ["config nets=4: expected 1 to 3"],
    "seed=-1": ["config seed=-1"],
    "engine=torchh": ["config engine=torchh", "known are caffe"],
    "experiments=cifar10-r26-r13": ["depth 13: a CIFAR ResNet has 6n+2 layers"],
    "experiments=cifar10-r26-s14": ["unknown experiment 'cifar10-r26-s14'", "did you mean"],
    "set=lambda=3": ["unknown setting 'lambda'", "did you mean lambda_kd?"],
    "runs=": ["config runs=''", "a folder's name"],
    "out=a{b": ["config out='a{b'", "without { and }"],
    "data=/x/{dataset}": ["config data='/x/{dataset}'"],
    "runs=-rf": ["config runs='-rf'"],
    "runs=[a, b]": ["config runs="],
}


@pytest.mark.parametrize("config", WRONG)
def test_a_wrong_configuration_is_refused(config):
    from snakemake.cli import parse_config  # not above: a second, in every worker

    with pytest.raises(UserError) as refused:
        workflow.Workflow(workflow.settings(parse_config([config]))).check()
    assert all(word in str(refused.value) for word in WRONG[config])


@pytest.mark.parametrize("config", ["scael=1", "experiments=cifar10-r26-s14", "out=a{b", "runs=[a, b]"])
def test_by_snakemake_it_is_one_line(config):
    done = snakemake("-n", "tables", config=[config])
    errors = [line for line in said(done).splitlines() if "rror" in line]
    assert done.returncode == 2 and len(errors) == 1 and errors[0].startswith("error: ")
    assert all(word in errors[0] for word in WRONG[config]), errors


def test_folders_of_any_name_reach_the_shell_as_they_are(lmdbs, tmp_path):
    """A space, an apostrophe, and what a shell would run: the stages are trained, the figure is drawn, and nothing else."""
    folder = tmp_path / """it's "$(touch F)" `touch F`; touch F & é*"""
    shutil.copytree(lmdbs, folder / "data", symlinks=True)
    where = [f"{key}={folder / key}" for key in ("runs", "data", "out")]
    done = snakemake("figure9", config=(*TINY, "nets=1", *where), check=0)
    assert (folder / "out/figure9.svg").exists() and finals(folder / "runs"), said(done)
    for place in (ROOT, folder, tmp_path):
        assert not (place / "F").exists()


def test_a_data_set_is_built_in_a_folder_of_any_name(tmp_path):
    folder = tmp_path / "it's $(touch F)"
    target = f"{folder}/fashion-mnist/manifest.json"
    index = f"{folder}/fashion-mnist/{workflow.INDEXED}"
    snakemake(target, index, config=(f"data={folder}",), check=0)
    assert Path(target).exists() and Path(index).exists() and not (ROOT / "F").exists()


def test_started_elsewhere_the_folders_are_those_of_the_checkout(tmp_path):
    done = snakemake("-n", "--directory", tmp_path, "figure9", config=("runs=mine",), check=0)
    assert f"{ROOT}/data/cifar10/manifest.json" in said(done) and f"{tmp_path}/mine/" in said(done)


class TestKubernetes:
    """No cluster is here: the Job that would be created, and what is said without one."""

    JOB = ROOT / "profiles/kubernetes/job.py"

    def run(self, *arguments, **options):
        return subprocess.run([self.JOB, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, **options)

    def submit(self, *more, mount=ROOT):
        words = [
            "--image",
            "hkd-caffe:cuda",
            "--claim",
            "hkd",
            "--cpus",
            "1",
            "--memory",
            "4000",
            "--gpus",
            "1",
            "--print",
        ]
        return self.run("submit", *words, "--mount", mount, *more, "job.sh")

    def test_the_job_mounts_the_volume_and_asks_for_a_gpu(self):
        job = json.loads(self.submit().stdout)
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["resources"]["limits"] == {"memory": "4000M", "nvidia.com/gpu": "1"}
        assert container["command"] == ["bash", "job.sh"] and container["workingDir"] == str(ROOT)
        assert container["volumeMounts"][0]["mountPath"] == str(ROOT)
        assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "hkd"}
        assert job["spec"]["backoffLimit"] == 0 and pod["terminationGracePeriodSeconds"] > 60

    def test_a_checkout_that_is_not_on_the_volume_is_refused(self):
        done = self.submit(mount="/hkd")
        assert done.returncode == 1 and str(ROOT) in done.stderr and "/hkd" in done.stderr

    def test_without_kubectl_it_says_so(self, tmp_path):
        (tmp_path / "python3").symlink_to(sys.executable)
        done = self.run("status", "hkd-0", env={**os.environ, "PATH": str(tmp_path)})
        assert done.returncode == 1 and done.stderr == "kubectl is not here: the jobs are started by it\n"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("scancel") is None, reason="no Slurm: docker/packages.sh install test")
def test_a_table_on_a_real_slurm_with_a_job_cancelled(lmdbs, paper_runs, tmp_path):
    """Table 1 of one net by profiles/slurm on a Slurm of one node, whose first job is cancelled: Snakemake sends it again."""
    node = ROOT / "tests/slurm_node.sh"
    folder = tmp_path / "slurm"
    started = subprocess.run([node, "start", folder], capture_output=True, text=True)
    assert started.returncode == 0, started.stderr
    try:
        conf, path = re.findall(r"^export \w+=(.*)$", started.stdout, re.M)
        env = os.environ | {"SLURM_CONF": conf, "PATH": path.replace("$PATH", os.environ["PATH"])}
        no_gpu = [f"{kind}:gpu=0" for kind in ("teacher", "baseline", "kd", "hint")]
        quick = ["--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "2"]
        config = (*TINY, "nets=1", f"data={lmdbs}", f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'out'}")
        words = ["--workflow-profile", "profiles/slurm", "--set-resources", *no_gpu, *quick, "--config", *config]
        log = (tmp_path / "log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "table1", *words], cwd=ROOT, env=env, stdout=log, stderr=log
        )
        first = None
        while first is None and process.poll() is None:
            time.sleep(0.2)
            listed = subprocess.run(
                ["squeue", "-h", "-o", "%i"], env=env, capture_output=True, text=True
            ).stdout.split()
            first = listed[0] if listed else None
        subprocess.run(["scancel", first], env=env, check=True)
        assert process.wait(timeout=500) == 0, (tmp_path / "log").read_text()
    finally:
        subprocess.run([node, "stop", folder], check=True)
    text = (tmp_path / "log").read_text()
    assert (
        text.count("has been submitted with SLURM jobid") == 12 and "CANCELLED" in text
    )  # 11 stages, one of them twice
    assert finals(tmp_path / "runs").items() <= finals(paper_runs[0] / "runs").items()
    assert (tmp_path / "out/table1.md").read_text().count(" (1) |") == 6  # one net in every row
