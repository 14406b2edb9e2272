"""Speed, measured in one run and printed as ratios: `make bench`. Never part of a test.

1. data tools:  images a second that make_lmdb.py writes, and its peak memory, on Fashion-MNIST (60,000 + 10,000)
2. driver:      time of run_stage.py's own loop over bare solver.step on the same network, interleaved, medians
3. resuming:    images a second that the data layer is run forward over
4. engines:     an iteration of KD, of the plain student and of the hint steps, 26 to 14 layers, by plain BVLC Caffe, our
                build, the torch engine and a hand-written port (tests/bench_engines.py)
5. workflow:    iterations a second of one job with all cores and of a job a core with one thread each, interleaved, medians
6. bf16:        the torch engine in float32 and bfloat16, with and without a teacher's kept answers, beside a bfloat16 port
                (tests/bench_bf16.py)

With names of parts (data, driver, engines, workflow, bf16) only these are measured, and the others in results/bench.json stay.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / name) for name in ("python", "data_tools", "tests")]
os.environ.setdefault("GLOG_minloglevel", "2")

import bench_bf16  # noqa: E402
import bench_engines  # noqa: E402
from hkd.engines import devices  # noqa: E402

ROUNDS, ITERATIONS = 9, 30


def data_tools(folder):
    begin = time.monotonic()
    command = [sys.executable, ROOT / "data_tools/make_lmdb.py", "--dataset", "fashion-mnist", "--out", folder / "lmdb"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - begin
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"images_per_second": round(70_000 / seconds), "peak_memory_mb": round(peak)}


def driver(folder):
    """The driver's loop (steps, losses read and checked, log, a snapshot every 60 s) against bare solver.step."""
    import caffe

    from hkd.base.progress import Progress
    from hkd.engines import devices
    from hkd.networks import solvers
    from hkd.paper import datasets, experiments
    from hkd.stages.stage import planned
    from hkd.training import job
    from hkd.training.loop import StopSignal, Training

    data_tools(folder)
    stage = planned(experiments.experiment("fashion-mnist-r14-r8"), "baseline", "baseline")
    manifest = datasets.read_manifest(folder / "lmdb", stage.experiment.facts)
    device = devices.Device((), 2, "bench")
    how = job.How(str(folder / "runs"), str(folder / "lmdb"), device, "caffe", "fp32", snapshot_seconds=60)
    task = job.Job(stage, how, parent=0)
    own = stage.folder(how.runs)
    own.mkdir(parents=True)
    caffe.set_mode_cpu()
    digest, parents, _ = job.prepare(stage, own, task, manifest)
    loop = Training(stage, own, task, manifest, digest, parents, StopSignal())
    loop.build()
    loop.resume()
    loop.clock = time.monotonic
    loop.progress = Progress(stage.name, stage.iterations, 0)
    bare_file = folder / "bare.prototxt"
    bare = solvers.parse((own / "solver.prototxt").read_text())
    bare.display = bare.snapshot = 0
    bare_file.write_text(solvers.text(bare, []))
    solver = caffe.get_solver(str(bare_file))

    def driven():
        for _ in range(ITERATIONS):
            loop.step()
            loop.log_if_due()
            loop.test_if_due()
            if loop.solver.iter == 3 * ITERATIONS:
                loop.snapshot()  # one in the run, about as often as one in 60 seconds

    times = {"bare": [], "driver": []}
    for round_ in range(ROUNDS):
        pair = [("bare", lambda: solver.step(ITERATIONS)), ("driver", driven)]
        for name, work in pair if round_ % 2 else pair[::-1]:
            begin = time.monotonic()
            work()
            times[name].append((time.monotonic() - begin) / ITERATIONS)
    ratios = [d / b for d, b in zip(times["driver"], times["bare"], strict=True)]
    begin = time.monotonic()
    for _ in range(2000):
        solver.net._forward(0, 0)
    replay = 2000 * stage.experiment.batch / (time.monotonic() - begin)
    return {
        "bare_ms_per_iteration": round(1000 * statistics.median(times["bare"]), 1),
        "driver_ms_per_iteration": round(1000 * statistics.median(times["driver"]), 1),
        "driver_over_bare": round(statistics.median(ratios), 4),
        "resume_images_per_second": round(replay),
    }


WORKER = """
import os, sys, time
import caffe
caffe.set_mode_cpu()
solver = caffe.get_solver(sys.argv[1])
solver.step(5)
begin, done = time.monotonic(), 0
while time.monotonic() - begin < float(sys.argv[2]):
    solver.step(1)
    done += 1
print(done / (time.monotonic() - begin))
"""


def workflow(folder):
    """How the Snakefile fills a CPU: as many jobs of one thread as there are cores, against one job that has them all."""
    from hkd.networks import prototxt, solvers
    from hkd.paper import experiments
    from hkd.stages.stage import planned

    data_tools(folder)
    stage = planned(experiments.experiment("fashion-mnist-r14-r8"), "", "teacher")
    (folder / "net.prototxt").write_text(prototxt.text(stage.network(folder / "lmdb", 10_000), []))
    solver = stage.solver(str(folder / "net.prototxt"), "unused", 10_000)
    solver.display = solver.snapshot = 0
    (folder / "solver.prototxt").write_text(solvers.text(solver, []))
    cores = len(os.sched_getaffinity(0))

    def together(jobs, threads):
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-c", WORKER, folder / "solver.prototxt", "15"]
        started = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for _ in range(jobs)
        ]
        return sum(float(process.communicate()[0]) for process in started)

    ways = {f"1_job_{cores}_threads": (1, cores), "1_job_1_thread": (1, 1), f"{cores}_jobs_1_thread": (cores, 1)}
    rates = {name: [] for name in ways}
    for _ in range(5):
        for name, way in ways.items():
            rates[name].append(together(*way))
    all_cores, alone, spread = (statistics.median(found) for found in rates.values())
    return {f"{name}_iterations_per_second": round(statistics.median(found), 2) for name, found in rates.items()} | {
        "jobs_over_threads": round(spread / all_cores, 3),
        "jobs_over_one": round(spread / alone, 3),
    }


def show(numbers, indent="  "):
    for what, number in numbers.items():
        if isinstance(number, dict):
            print(f"{indent}{what}")
            show(number, indent + "  ")
        else:
            print(f"{indent}{what:<38}{number:>12}")


PARTS = {
    "data": data_tools, "driver": driver, "workflow": workflow, "engines": bench_engines.main, "bf16": bench_bf16.main,
}  # fmt: skip


def main():
    asked = sys.argv[1:] or list(PARTS)
    unknown = [name for name in asked if name not in PARTS]
    if unknown:
        sys.exit(f"error: no part {unknown[0]}: known are {', '.join(PARTS)}")
    out = ROOT / "results/bench.json"
    results = json.loads(out.read_text()) if out.exists() else {}
    machine = {"processor": devices.hardware(devices.Device((), 1, "")), "cores": len(os.sched_getaffinity(0))}
    for part in asked:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            results[part] = {**machine, "load before": round(os.getloadavg()[0], 2), **PARTS[part](folder)}
        print(f"\n{part}")
        show(results[part])
        out.parent.mkdir(exist_ok=True)
        out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nwritten to {out.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
