"""FSP's part of a network: the flows between two nodes of teacher and student, and their FSP matrices (Yim et al., section 3).

A flow is a pair of nodes, 0 the first convolution, 1, 2 and 3 the ends of the stacks.
"""

import numpy as np
from caffe import layers as L
from caffe import params as P

from hkd.base.cli import UserError
from hkd.networks import losses
from hkd.networks.resnet import STEM, TEACHER, module_name


def check(experiment, flows):
    """Raises UserError, naming both layers, where teacher and student differ in width: FSP matrices can be compared only where
    both networks have the same channels."""
    for first, end in flows:
        _refuse_other_widths(experiment, first, end)


def matrices(n, experiment, name, maps, first, end, orders):
    """The student's and the teacher's FSP matrix of one flow. maps: {prefix: {module: its output}}."""
    _refuse_other_widths(experiment, first, end)
    found = []
    for prefix, architecture in (("", experiment.student), (TEACHER, experiment.teacher)):
        modules = _flow_modules(experiment, architecture, first, end)
        pair = [maps[prefix][module] for module in modules]
        ratio = map_size(experiment.facts, modules[0][0]) // map_size(experiment.facts, modules[1][0])
        if ratio > 1:
            pair[0] = n[f"{prefix}{name}/pool"] = L.Pooling(
                pair[0], pool=P.Pooling.MAX, kernel_size=ratio, stride=ratio
            )
        rows, columns = (orders.get(module[0]) if prefix else None for module in modules)
        found.append(losses.fsp_matrix(n, f"{prefix}{name}/matrix", *pair, rows, columns))
    return found


def _refuse_other_widths(experiment, first, end):
    described = []
    for prefix, architecture in ((TEACHER, experiment.teacher), ("", experiment.student)):
        modules = _flow_modules(experiment, architecture, first, end)
        widths = [architecture.widths[max(stack, 1) - 1] for stack, _ in modules]
        layers = " and ".join(prefix + _top_name(module) for module in modules)
        described.append((layers, f"{widths[0]}x{widths[1]}"))
    (teacher, theirs), (student, own) = described
    if theirs != own:
        raise UserError(
            f"{experiment.name}: the FSP matrix of {teacher} is {theirs}, that of {student} {own}: FSP and dense flow need a "
            f"teacher and a student of one width"
        )


def _top_name(module):
    return "conv1" if module == STEM else f"{module_name(module)}sum"


def _flow_modules(experiment, architecture, first, end):
    """The two residual modules of a network between which a flow is: by default its nodes, else the first module of a stack
    and its last."""
    if experiment.fsp_pairs == "input":
        begin = STEM if first == 0 else architecture.end(first)
    elif end - first > 1:
        raise UserError(f"--set fsp_pairs=block: flow {first}-{end} spans several stacks, use fsp_pairs=input")
    elif architecture.blocks < 2:
        raise UserError(
            f"--set fsp_pairs=block: {architecture.name} has one module a stack, which begins and ends it: use fsp_pairs=input"
        )
    else:
        begin = (end, 1)
    return begin, architecture.end(end)


def map_size(facts, stack):
    """Height and width of the maps of a stack; of the first convolution, stack 0, as of stack 1."""
    size = facts.size
    for _ in range(stack - 1):
        size = (size + 1) // 2
    return size


def orders(experiment, random_seed):
    """{node: order of its channels in the teacher}; none without a seed."""
    if random_seed is None:
        return {}
    rng = np.random.default_rng(random_seed)
    widths = (experiment.teacher.widths[0], *experiment.teacher.widths)
    return {node: rng.permutation(width).tolist() for node, width in enumerate(widths)}
