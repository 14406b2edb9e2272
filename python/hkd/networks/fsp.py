"""Stage 1 of FSP and of the dense flow: teacher and student up to a node each, and the losses between their FSP matrices."""

import caffe

from hkd.networks import fsp_flows, losses, resnet
from hkd.networks.feed import both_phases, data_layers
from hkd.networks.kind import Kind
from hkd.paper import stated


def network(experiment, flows, feed, permuted_by=None):
    """Stage 1 of FSP (equation 2): the squared distance of teacher's and student's FSP matrices, for each of `flows`, pairs of
    nodes (0: the first convolution; 1, 2, 3: the ends of the stacks); both networks are cut above the last of them.

    permuted_by: a random seed for an order of the teacher's channels of its own; None: as they are. Raises UserError where the
    widths differ (fsp_flows.check).
    """
    fsp_flows.check(experiment, flows)
    n = caffe.NetSpec()
    test_data = data_layers(n, experiment, feed, label=False)
    last = max(node for _, node in flows)
    maps = {
        style.prefix: resnet.body(n, style, n.data, architecture, experiment.facts.size, architecture.end(last))
        for style, architecture in (
            (resnet.teacher(experiment), experiment.teacher),
            (resnet.student(experiment), experiment.student),
        )
    }
    orders = fsp_flows.orders(experiment, permuted_by)
    for first, end in flows:
        name = f"fsp{first}{end}"
        matrices = fsp_flows.matrices(n, experiment, name, maps, first, end, orders)
        losses.fsp(n, name, *matrices, experiment.fsp_lambda)
    written = ", ".join(f"{first}-{end}" for first, end in flows)
    return both_phases(f"{experiment.pair} FSP {written}", n, test_data)


def _schedule(experiment, part):
    e = experiment
    whole = stated.Schedule(e.fsp_lr, e.fsp_stepvalue, e.fsp_iterations)
    return whole.part(e.flow_iterations[part.step - 1]) if part.step else whole


def _network(asked):
    permuted_by = asked.random_seed if asked.part.permuted else None
    return network(asked.experiment, asked.part.flows, asked.feed, permuted_by)


KIND = Kind(
    "fsp",
    network=_network,
    schedule=_schedule,
    check=lambda experiment, part: fsp_flows.check(experiment, part.flows),
    learner_end=lambda experiment, part, learner: learner.end(part.last_node),
    teacher_end=lambda experiment, part: experiment.teacher.end(part.last_node),
    taught=True,
    classifies=False,
)
