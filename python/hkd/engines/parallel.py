"""Several GPUs: a process each, gradients averaged over them by NCCL at every iteration (Caffe's multi-process way).

Rank 0 is the stage's own process: it alone tests, logs, and writes snapshots. The others follow it, one all-reduce an
iteration, so that they need no messages; when it stops they wait in the next one, and the driver ends them.

An iteration sees the images that it sees on one GPU: a data layer of rank r of n keeps every n-th of them
(data_layer.cpp, Skip), and its batch is divided by n. Otherwise than on one GPU, BatchNorm normalises with the statistics
of a share, the stored ones and the losses in the log are those of rank 0's share, and crops are drawn by n generators.
"""

import ctypes
import json
import os
import time
from pathlib import Path

from hkd.base.cli import UserError
from hkd.base.files import write_whole
from hkd.networks import prototxt


def check_batch(batch, gpus):
    """Raises UserError where a batch cannot be divided evenly over so many GPUs."""
    if batch % gpus:
        fitting = [n for n in range(gpus, 0, -1) if batch % n == 0]
        raise UserError(
            f"--gpu all: a batch of {batch} cannot be divided over {gpus} GPUs: show CUDA {fitting[0]} of them with "
            f"CUDA_VISIBLE_DEVICES, use --gpu N, or another batch with --set batch={batch // gpus * gpus or gpus}"
        )


def check_crops(experiment):
    """Raises UserError where every GPU would be given the same images."""
    if not experiment.augment and experiment.facts.pad:
        raise UserError(
            "--gpu all: without augmentation every GPU would get the same images (data_layer.cpp, Skip): use --gpu N, or "
            "--set augment=true"
        )


def share(network, gpus):
    """The network (NetParameter) with the TRAIN batch of one of `gpus` processes."""
    import caffe

    divided = type(network)()
    divided.CopyFrom(network)
    for layer in divided.layer:
        if layer.type == "Data" and layer.include[0].phase == caffe.TRAIN:
            layer.data_param.batch_size //= gpus
    return divided


def share_of(net_file, rank, gpus):
    """Writes the share of the network in `net_file` beside it and returns its path; the caller deletes it."""
    path = Path(net_file).with_name(f".share-{rank}.prototxt")
    write_whole(path, prototxt.text(share(prototxt.parse(Path(net_file).read_text()), gpus), ["One GPU's share."]))
    return path


# --- how the processes find each other ----------------------------------------------------------------------------------


def lead(solver, meeting, snapshot):
    """Rank 0: tells the others in the file `meeting` how to join and from which snapshot to start (None: the beginning),
    and waits until all have."""
    import caffe

    uid = caffe.NCCL.new_uid()
    write_whole(Path(meeting), json.dumps({"uid": uid.hex(), "snapshot": snapshot and str(snapshot)}))
    _join(solver, uid)


def wait_for(meeting):
    """The other ranks: what rank 0 says, {uid: bytes, snapshot: Path or None}, once it has said it."""
    while not Path(meeting).exists():
        time.sleep(0.05)
    said = json.loads(Path(meeting).read_text())
    return {"uid": bytes.fromhex(said["uid"]), "snapshot": said["snapshot"] and Path(said["snapshot"])}


def follow(solver, uid, iterations):
    """The other ranks: iterates with rank 0 to the end."""
    _join(solver, uid)
    solver.step(iterations - solver.iter)


def _join(solver, uid):
    import caffe

    nccl = caffe.NCCL(solver, uid)
    # The solver needs it to the end of the process; and destroying it would wait for ranks that may be gone.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(nccl))
    nccl.bcast()
    solver.add_callback(nccl)


# --- the driver's side --------------------------------------------------------------------------------------------------


def supervise(children):
    """Waits for the processes `children` (Popen), of which the first leads. Returns (index, code) of the one that decides:
    another one that failed, because the first would then wait for it for ever, else the first. None is left running."""
    try:
        while True:
            for index in range(len(children)):
                code = children[index].poll()
                if code is not None and (code or index == 0):
                    return index, code
            time.sleep(0.05)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
            child.wait()


def log_name(rank):
    """The file of a process's log in the stage's folder; rank 0 is the one that writes the results."""
    return "caffe.log" if rank == 0 else f"caffe-rank{rank}.log"


def meeting_place(folder):
    """The file of lead() and wait_for() for one run of the driver."""
    return str(Path(folder).absolute() / f".meeting-{os.getpid()}.json")
