"""Of tests/bench.py: an iteration of each stage by plain BVLC Caffe, our build of it, the torch engine and a hand-written
port, in processes of their own, in interleaved rounds, data loading included. Never part of a test.

`torch, one batch` is the torch engine on the same batch over and over: what data loading costs is the difference.
`torch, before` is the engine of another checkout, with data/cifar10 in it: HKD_BENCH_BEFORE=FOLDER.
"""

import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests")]
os.environ.setdefault("GLOG_minloglevel", "2")
BEFORE = os.environ.get("HKD_BENCH_BEFORE")
EXPERIMENT = "cifar10-r26-r14"
STAGES = {"KD": ("layerwise", "kd", None), "plain student": ("baseline", "baseline", None)} | {
    f"hint step {i}": ("layerwise", "hint", i) for i in (1, 2, 3)
}
ROUNDS = 5
CORES = len(os.sched_getaffinity(0))


def main(folder):
    """{stage: {engine: ms, ratios, GFLOP/s}} with the CIFAR-10 in data/cifar10, or why there is none."""
    if importlib.util.find_spec("torch") is None:
        return {"not run": "no PyTorch: make torch"}
    if not (ROOT / "data/cifar10/manifest.json").exists():
        return {"not run": "no CIFAR-10 in data/cifar10"}
    pythons = {
        "stock Caffe": stock(),
        "stock Caffe -O2": stock(opt=2),
        "our Caffe": sys.executable,
        "torch": sys.executable,
        "torch, one batch": sys.executable,
        "eager port": sys.executable,
        **({"torch, before": sys.executable} if BEFORE else {}),
    }
    results = {"matrix product": {"GFLOP/s": round(matrix_product(), 1)}}
    for stage in STAGES:
        workers = {name: _worker(python, name, stage, folder) for name, python in pythons.items()}
        times = {name: [] for name in workers}
        for _ in range(ROUNDS):
            for name, worker in workers.items():
                times[name].append(worker.milliseconds())
        peaks = {name: worker.stop() for name, worker in workers.items()}
        results[stage] = summary(stage, {name: statistics.median(found) for name, found in times.items()}, peaks)
    return results


def summary(stage, ms, peaks):
    """peaks: the most memory that each process had, in MB."""
    from hkd.results import cost

    flops = 2 * cost.of_iteration(plan(stage))
    return {
        **{f"{name}_ms": round(value, 1) for name, value in ms.items()},
        "torch_over_stock_caffe": round(ms["torch"] / ms["stock Caffe"], 3),
        "torch_over_eager_port": round(ms["torch"] / ms["eager port"], 3),
        **({"torch_over_before": round(ms["torch"] / ms["torch, before"], 3)} if BEFORE else {}),
        "our_over_stock_caffe": round(ms["our Caffe"] / ms["stock Caffe"], 3),
        "our_over_stock_caffe_O2": round(ms["our Caffe"] / ms["stock Caffe -O2"], 3),
        "data_share_of_torch": round(1 - ms["torch, one batch"] / ms["torch"], 3),
        "torch_peak_MB": round(peaks["torch"]),
        "our_caffe_peak_MB": round(peaks["our Caffe"]),
        "torch_GFLOP/s": round(flops / ms["torch"] / 1e6, 1),
    }


def plan(stage):
    from hkd.paper import experiments
    from hkd.stages.stage import planned

    method, kind, step = STAGES[stage]
    return planned(experiments.experiment(EXPERIMENT), method, kind, step)


def matrix_product():
    """GFLOP/s of a large product on this machine: what there is to reach."""
    import torch

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    rates = []
    for _ in range(10):
        begin = time.perf_counter()
        a @ b
        rates.append(2 * 2048**3 / (time.perf_counter() - begin) / 1e9)
    return statistics.median(rates)


def stock(opt=3):
    """The Python of an environment with plain BVLC Caffe, compiled with -O`opt`, built once under build/."""
    home = ROOT / f"build/stock-O{opt}"
    python = home / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    site = next((home / "lib").glob("python*/site-packages"))
    # The other packages are this environment's; Caffe is found in its own first.
    (site / "borrowed.pth").write_text(
        f"{Path(json.__file__).parents[0]}\n{next(p for p in sys.path if p.endswith('site-packages'))}\n"
    )
    environment = os.environ | {
        "CAFFE_STOCK": "1",
        "CAFFE_OPT": str(opt),
        "BUILD_DIR": str(ROOT / f"build/caffe-stock-O{opt}"),
    }
    subprocess.run([ROOT / "docker/build_caffe.sh", python], check=True, env=environment)
    return python


def _worker(python, engine, stage, folder):
    from hkd.engines import choice

    # The port has what a public port has: the allocator as it comes.
    environment = choice.environment("torch" if engine.startswith("torch") else "caffe", CORES)
    if engine == "torch, before":
        return Worker([python, f"{BEFORE}/tests/bench_engines.py", "torch", stage, str(folder)], environment)
    return Worker([python, __file__, engine, stage, str(folder)], environment)


class Worker:
    """A process that does some iterations whenever it is told to (`serve`)."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n", f"{command}: did not start"

    def milliseconds(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def stop(self):
        """Ends it; returns its peak memory in MB."""
        self.process.stdin.close()
        peak = float(self.process.stdout.readline())
        self.process.wait()
        return peak


def serve(iterate):
    """The worker's side: 3 iterations to get warm, then 6 a round, the median of them."""
    for _ in range(3):
        iterate()
    print("ready", flush=True)
    for _ in sys.stdin:
        times = []
        for _ in range(6):
            begin = time.perf_counter()
            iterate()
            times.append(1000 * (time.perf_counter() - begin))
        print(statistics.median(times), flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


def iteration(engine, stage, folder):
    import caffe

    from hkd.engines import same_batches
    from hkd.networks import prototxt, solvers

    lmdbs = ROOT / "data/cifar10"
    network = stage.network(lmdbs, 10_000)
    if engine == "eager port":
        import torch

        from eager_port import Port
        from hkd.engines.torch.data import Feed

        torch.set_num_threads(CORES)
        return Port(stage.kind, stage.part.step, Feed(network.layer[0], caffe.TRAIN, 1).next).iterate
    stem = folder / f"{engine}-{stage.name}".replace(" ", "-").replace(",", "")
    net, solver_file, start = (Path(f"{stem}{suffix}") for suffix in (".net", ".solver", ".caffemodel"))
    net.write_text(prototxt.text(network, []))
    parameter = stage.solver(str(net), str(stem), 10_000)
    parameter.display = parameter.snapshot = 0
    parameter.test_interval = 2**31 - 1
    solver_file.write_text(solvers.text(parameter, []))
    caffe.set_mode_cpu()
    solver = caffe.get_solver(str(solver_file))
    solver.net.forward(end="data")
    same_batches.start(solver, stage, None, solver.net.blobs["data"].data.copy(), start)
    if engine.startswith("torch"):
        import torch

        from hkd.engines import torch as torch_engine

        torch.set_num_threads(CORES)
        solver = torch_engine.get_solver(solver_file)
    solver.net.copy_from(str(start))
    if engine == "torch, one batch":
        batch = solver.net.feed.make(0)
        solver.net.feed.next = lambda: batch
    return lambda: solver.step(1)


if __name__ == "__main__":
    engine, stage, folder = sys.argv[1:]
    serve(iteration(engine, plan(stage), Path(folder)))
