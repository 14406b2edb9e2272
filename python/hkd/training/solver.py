"""The solver of a stage: from its own files onto the job's device, and its data layers brought to where a stopped run was."""

from hkd.base.files import write_whole
from hkd.engines import choice, parallel
from hkd.networks import solvers
from hkd.stages.snapshots import Snapshots

NEVER = 2**31 - 1


def build_solver(folder, job):
    """The stage's solver with its first weights, on the job's device: for several GPUs, this process's share of it.

    It comes from the stage's own solver file; display, tests and snapshots are the driver's, not Caffe's."""
    own = solvers.parse((folder / "solver.prototxt").read_text())
    own.display, own.snapshot, own.test_interval = 0, 0, NEVER
    own.snapshot_prefix = str(Snapshots.prefix_in(folder / "snapshots"))
    own.solver_mode = own.CPU if job.how.device.gpu is None else own.GPU
    path, share = folder / f".driver_solver-{job.rank}.prototxt", None
    if job.meeting:
        share = parallel.share_of(own.net, job.rank, len(job.how.device.gpus))
        own.net = str(share)
        if job.rank:  # tests are rank 0's
            own.ClearField("test_iter")
            own.ClearField("test_interval")
    write_whole(path, solvers.text(own, ["The driver's own copy of solver.prototxt."]))
    solver = choice.get_solver(job.how.engine, path, job.how.device, job.how.precision, job.rank)
    for written in filter(None, (path, share)):
        written.unlink()
    solver.net.copy_from(str(folder / "init.caffemodel"))
    return solver


def skip_data(solver, leave=lambda: None, last=0):
    """Runs the data layers, layer 0 to layer `last`, over the iterations that a restored solver has done. leave: called
    before each."""
    for _ in range(solver.iter):
        leave()
        solver.net._forward(0, last)
