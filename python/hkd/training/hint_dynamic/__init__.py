"""Hint-dynamic KD beside Caffe's loop (Liu et al. 2022; equations not published to us: this project's reading).

    images.py     the meta batches
    gradient.py   how the cross entropy of one would change with the weight of each hint of each image
    optimizer.py  Adam and SGD in NumPy
    session.py    what loop.py calls: the meta step, its state in snapshots, the log

The network itself, with the meta-weight network in its layer `weights`, is networks.hint_dynamic. The name of the
package around it, hkd, is for hint KD.
"""

from hkd.base.cli import UserError
from hkd.base.files import shown
from hkd.paper.datasets import require_index


def check(stage, engine, gpus):
    """Raises UserError where hint-dynamic KD cannot be trained by an engine, or on several GPUs."""
    if engine == "torch" and gpus:
        raise UserError(
            f"method {stage.method}: the torch engine weighs images on the CPU alone: use --cpu, or --engine caffe on a GPU"
        )
    if len(gpus) > 1:
        raise UserError(
            f"method {stage.method} trains on one GPU or the CPU: its meta step sees a whole batch, use --gpu N"
        )


def beside(stage, manifest, folder):
    """For parity.compare: (net, engine) -> a session.Session at iteration 0, its history in `folder`."""
    from hkd.training.hint_dynamic.session import Session

    def begun(net, engine):
        place = folder / engine
        place.mkdir()
        session = Session(stage, net, place, manifest, engine)
        session.begin()
        return session

    return begun


def check_data(stage, manifest):
    """Raises UserError where the data set has no index of its images, or fewer than the meta batches are drawn from."""
    require_index(manifest, stage.experiment.facts)
    wanted = stage.experiment.dynamic_images
    if wanted > manifest.train_images:
        raise UserError(
            f"--set dynamic_images={wanted}: {shown(manifest.folder)} has {manifest.train_images:,} training images "
            "to draw the meta batches from, name fewer"
        )
