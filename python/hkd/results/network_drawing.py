"""A network as a picture: its residual modules and losses, drawn by Graphviz from the NetParameter itself."""

import re

import graphviz
from caffe.proto import caffe_pb2

from hkd.base.cli import UserError
from hkd.networks import resnet

MODULE = re.compile(r"stack\d+/block\d+")
FONT = 11  # points
WIDE, HIGH, MARGIN = 0.6, 1.2, 0.8  # of a monospaced letter, of a line, of a box on each side, in units of it


def svg(network):
    """The picture as SVG bytes. A box is a residual module, a first or last layer, or a loss with its helpers; the
    teacher's are dashed. Raises UserError where Graphviz is not installed."""
    try:
        # quiet: it warns where a machine's font is wider than most.
        return dot(network).pipe(format="svg", quiet=True)
    except graphviz.ExecutableNotFound:
        raise UserError(
            "the report draws networks with Graphviz, which is not here: install the Debian package graphviz"
        ) from None


def dot(network):
    """The graph of a network's TRAIN phase as graphviz.Digraph."""
    boxes, edges, made_by = {}, {}, {}
    for layer in network.layer:
        if any(rule.phase == caffe_pb2.TEST for rule in layer.include):
            continue
        box = box_of(layer.name)
        boxes.setdefault(box, []).append(layer)
        for blob in layer.bottom:
            if made_by[blob] != box:
                edges[made_by[blob], box] = None
        made_by |= dict.fromkeys(layer.top, box)
    graph = graphviz.Digraph(network.name)
    graph.attr(rankdir="BT", nodesep="0.3", ranksep="0.25")
    graph.attr("node", shape="box", fontname="monospace", fontsize=str(FONT), fixedsize="true")
    for box, layers in boxes.items():
        style = "dashed" if box.startswith(resnet.TEACHER) else "bold" if _is_loss(layers) else "solid"
        label = _label(box, layers)
        graph.node(box, label, **_size(label), style=style)
    for tail, head in edges:
        graph.edge(tail, head)
    return graph


def _size(label):
    """The size of a box in inches, from the letters in it: Graphviz's own would depend on the machine's fonts, and the report
    shall be the same bytes everywhere."""
    lines = label.split("\n")
    units = {"width": max(map(len, lines)) * WIDE, "height": len(lines) * HIGH}
    return {side: f"{(value + 2 * MARGIN) * FONT / 72:.3f}" for side, value in units.items()}


def box_of(name):
    """The box that a layer belongs to."""
    teacher = resnet.TEACHER if name.startswith(resnet.TEACHER) else ""
    own = name.removeprefix(resnet.TEACHER)
    if module := MODULE.match(own):
        return teacher + module.group()
    if own in ("bn1", "scale1", "relu1"):
        return teacher + "conv1"
    return teacher + ("fc" if own == "pool" else own.partition("/")[0])


def _is_loss(layers):
    return any(weight for layer in layers for weight in layer.loss_weight)


def _label(box, layers):
    """The box's name, and what in it has weights or is weighted."""
    words = []
    for layer in layers:
        if layer.type == "Convolution":
            p = layer.convolution_param
            stride = f", stride {p.stride[0]}" if p.stride and p.stride[0] > 1 else ""
            words.append(f"{p.kernel_size[0]}x{p.kernel_size[0]} convolution, {p.num_output}{stride}")
        elif layer.type == "InnerProduct":
            words.append(f"global average, {layer.inner_product_param.num_output} classes")
        elif layer.loss_weight:
            words.append(f"{layer.type}, weight {layer.loss_weight[0]:g}")
        elif layer.type == "Data":
            words.append(f"batch {layer.data_param.batch_size}")
    return "\n".join([box, *words])
