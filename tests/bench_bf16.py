"""Of tests/bench.py: an iteration of the torch engine in float32 and bfloat16, with a teacher that is asked and one whose
answers are kept, beside a hand-written bfloat16 port (bf16_port.py), as it is and through torch.compile. In processes of their
own, with one thread and with two, in interleaved rounds. Never part of a test.

The limit is the time of the network's convolutions alone, each by itself, of bfloat16 maps as the engine computes them here: of what
learns forward and for both gradients, of a teacher forward.
"""

import importlib.util
import os
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests")]
os.environ.setdefault("GLOG_minloglevel", "2")

ROUNDS = 7
KEPT = 12  # batches whose answers are kept
STAGES = {
    "student 8": ("cifar10-r14-r8", "baseline", "baseline", None),
    "KD 14 -> 8": ("cifar10-r14-r8", "kd", "kd", None),
    "teacher 14": ("cifar10-r14-r8", "", "teacher", None),
    "hint step 3, 14 -> 8": ("cifar10-r14-r8", "layerwise", "hint", 3),
    "MNIST student 8": ("mnist-r32-r8", "baseline", "baseline", None),
    "MNIST KD 32 -> 8": ("mnist-r32-r8", "kd", "kd", None),
    "MNIST teacher 32": ("mnist-r32-r8", "", "teacher", None),
    "MNIST hint step 3, 32 -> 8": ("mnist-r32-r8", "layerwise", "hint", 3),
}
ONE_BATCH = "bf16, one batch"  # over and over: what data loading costs is the difference
PORTS = ("bf16 port", "bf16 port, compiled")


def plan(name):
    from hkd.paper import experiments
    from hkd.stages.stage import planned

    experiment, method, kind, step = STAGES[name]
    return planned(experiments.experiment(experiment), method, kind, step)


def main(folder):
    """{stage: {threads: {what: ms, ratios}}} with the data sets in data/, or why there is none."""
    from bench_engines import CORES, Worker
    from hkd.engines import choice

    if importlib.util.find_spec("torch") is None:
        return {"not run": "no PyTorch: make torch"}
    missing = [name for name in ("cifar10", "mnist") if not (ROOT / "data" / name / "manifest.json").exists()]
    if missing:
        return {"not run": f"no {' and '.join(missing)} in data/"}
    results = {"matrix product, one thread, GFLOP/s": matrix_products()}
    for name in STAGES:
        stage = plan(name)
        whats = ["fp32", "bf16", ONE_BATCH]
        # The maps of padded images have too many crops to be kept.
        whats += ["bf16, answers kept"] if "KD" in name or "MNIST hint" in name else []
        whats += PORTS if stage.experiment.dataset == "cifar10" else ()
        found = {}
        for threads in dict.fromkeys((1, CORES)):
            workers = {
                what: Worker(
                    [sys.executable, __file__, what, name, str(threads), str(folder)],
                    # The ports have the allocator as it comes, as public ports do.
                    choice.environment("caffe" if what in PORTS else "torch", threads),
                )
                for what in whats
            }
            times = {what: [] for what in whats}
            for _ in range(ROUNDS):
                for what, worker in workers.items():
                    times[what].append(worker.milliseconds())
            for worker in workers.values():
                worker.stop()
            ms = {what: statistics.median(values) for what, values in times.items()}
            found[f"{threads} thread{'s' * (threads > 1)}"] = _summary(ms, convolutions(stage, threads))
        results[name] = found
    for threads in list(results["student 8"]):
        for data in ("", "MNIST "):
            alone = results[f"{data}student 8"][threads]["bf16_ms"]
            kd = results["MNIST KD 32 -> 8" if data else "KD 14 -> 8"][threads]
            kd["kept_over_student_alone"] = round(kd["bf16, answers kept_ms"] / alone, 3)
    return results


def _summary(ms, limit):
    shown = {f"{what}_ms": round(value, 1) for what, value in ms.items()}
    shown["convolutions alone, bf16_ms"] = round(limit, 1)
    shown["bf16_over_fp32"] = round(ms["bf16"] / ms["fp32"], 3)
    shown["data_share_of_bf16"] = round(1 - ms[ONE_BATCH] / ms["bf16"], 3)
    if PORTS[0] in ms:
        best = min(ms[what] for what in PORTS)
        shown["bf16_over_the_better_port"] = round(ms["bf16"] / best, 3)
        shown["limit_over_the_better_port"] = round(limit / best, 3)
    if "bf16, answers kept" in ms:
        shown["kept_over_asked"] = round(ms["bf16, answers kept"] / ms["bf16"], 3)
    return shown


def matrix_products():
    import torch

    torch.set_num_threads(1)
    found = {}
    for name in ("float32", "bfloat16"):
        a, b = (torch.randn(2048, 2048).to(getattr(torch, name)) for _ in range(2))
        rates = []
        for _ in range(10):
            begin = time.perf_counter()
            a @ b
            rates.append(2 * 2048**3 / (time.perf_counter() - begin) / 1e9)
        found[name] = round(statistics.median(rates))
    return found


def convolutions(stage, threads):
    """Milliseconds of a stage's convolutions in bfloat16, each measured by itself on maps of chance: what learns forward and for
    both gradients, a teacher inside forward."""
    import caffe
    import torch

    from hkd.networks import prototxt, resnet

    torch.set_num_threads(threads)
    facts = stage.experiment.facts
    network = stage.network("DATA", facts.test_images)
    net = prototxt.built(network, facts, caffe.TRAIN)
    total, known = 0.0, {}
    for layer in network.layer:
        if layer.type != "Convolution":
            continue
        p = layer.convolution_param
        shape, frozen = tuple(net.blobs[layer.bottom[0]].shape), layer.name.startswith(resnet.TEACHER)
        stride = p.stride[0] if p.stride else 1
        key = (
            shape,
            tuple(net.params[layer.name][0].shape),
            stride,
            p.pad[0] if p.pad else 0,
            frozen,
            layer.bottom[0] == "data",
        )
        if key not in known:
            known[key] = _convolution(*key)
        total += known[key]
    return total


def _convolution(shape, kernel, stride, pad, frozen, first):
    import torch

    from hkd.engines.torch import convolutions

    x, w = (
        torch.randn(size).bfloat16().to(memory_format=torch.channels_last).requires_grad_(not frozen)
        for size in (shape, kernel)
    )
    above = convolutions.convolution(x, w, None, stride, pad).detach()

    def passes():
        y = convolutions.convolution(x, w, None, stride, pad)
        if not frozen:
            torch.autograd.grad(y, [w] if first else [x, w], above)

    times = []
    for _ in range(12):
        begin = time.perf_counter()
        passes()
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times[2:])


def iteration(what, name, threads, folder):
    """The worker's side: one iteration as a function."""
    import caffe
    import torch

    from hkd.engines import same_batches
    from hkd.engines import torch as torch_engine
    from hkd.engines.torch.data import Feed
    from hkd.networks import prototxt, solvers

    torch.set_num_threads(threads)
    stage = plan(name)
    network = stage.network(ROOT / "data" / stage.experiment.dataset, 10_000)
    if what in PORTS:
        from bf16_port import Bf16Port

        depths = (stage.experiment.teacher.depth, stage.learner.depth)
        batches = Feed(network.layer[0], caffe.TRAIN, 1).next
        return Bf16Port(stage.kind, stage.part.step, batches, depths, compiled=what.endswith("compiled")).iterate
    folder = folder / f"{what} {name} {threads}".replace(">", "to")
    folder.mkdir()
    net, path = folder / "net.prototxt", folder / "solver.prototxt"
    net.write_text(prototxt.text(network, []))
    parameter = stage.solver(str(net), str(folder / "none"), 10_000)
    parameter.display = parameter.snapshot = 0
    parameter.test_interval = 2**31 - 1
    path.write_text(solvers.text(parameter, []))
    solver = torch_engine.get_solver(path, precision=what[:4])
    if stage.declared.taught:
        caffe.set_mode_cpu()
        theirs = caffe.get_solver(str(path))
        theirs.net.forward(end="data")
        same_batches.start(theirs, stage, None, theirs.net.blobs["data"].data.copy(), folder / "start.caffemodel")
        solver.net.copy_from(str(folder / "start.caffemodel"))
    if what == ONE_BATCH:
        batch = solver.net.feed.make(0)
        solver.net.feed.next = lambda: batch
    if what.endswith("kept"):
        solver.keep_answers(folder, "pixels", print)
        for _ in range(2):  # asked the first time, kept the second: from then on the same batches over again
            solver.net.feed.next_batch = 0
            solver.step(KEPT)
        draw = solver.net.feed.make
        solver.net.feed.make = lambda k: draw(k % KEPT)
        slots = solver.net.feed.slots
        solver.net.feed.slots = lambda k: slots(k % KEPT)
    return lambda: solver.step(1)


if __name__ == "__main__":
    from bench_engines import serve

    what, name, threads, folder = sys.argv[1:]
    serve(iteration(what, name, int(threads), Path(folder)))
