"""Solver files: a typed SolverParameter from a stage, never pasted strings."""

from caffe.proto import caffe_pb2
from google.protobuf import text_format

from hkd.paper import stated

LARGEST_TEST_BATCH = 100


def test_batch(images):
    """The largest batch of at most 100 that divides the test set, so that a test sees every image exactly once."""
    return next(size for size in range(min(LARGEST_TEST_BATCH, images), 0, -1) if images % size == 0)


def test_iter(images):
    """Batches of a test: each of the test images once."""
    return images // test_batch(images)


def solver(net, schedule, experiment, test_images, random_seed, snapshot_prefix, test_interval, display, snapshot):
    """A multistep SGD solver for the network file `net`.

    schedule: stated.Schedule; its steps at or after max_iter are left out, since they are never reached.
    """
    steps = [step for step in schedule.stepvalue if step < schedule.max_iter]
    return caffe_pb2.SolverParameter(
        net=net,
        type="SGD",
        base_lr=schedule.base_lr,
        lr_policy="multistep" if steps else "fixed",
        stepvalue=steps,
        gamma=stated.GAMMA if steps else None,
        max_iter=schedule.max_iter,
        momentum=experiment.momentum,
        weight_decay=experiment.weight_decay,
        random_seed=random_seed,
        test_iter=[test_iter(test_images)],
        test_interval=test_interval,
        test_initialization=False,
        display=display,
        snapshot=snapshot,
        snapshot_prefix=snapshot_prefix,
        # `caffe train -gpu N` overrides this; a CPU-only Caffe aborts on the default, GPU.
        solver_mode=caffe_pb2.SolverParameter.CPU,
    )


def text(parameter, header):
    """A SolverParameter as prototxt, below comment lines."""
    return "".join(f"# {line}\n" for line in header) + text_format.MessageToString(parameter)


def parse(content):
    """The SolverParameter of a prototxt. Raises google.protobuf.text_format.ParseError."""
    return text_format.Parse(content, caffe_pb2.SolverParameter())
