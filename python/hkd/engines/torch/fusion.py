"""Which layers of a network run as one: the plan of its steps."""

import itertools
import math

from caffe.proto import caffe_pb2

from hkd.engines.torch import layers, memo
from hkd.engines.torch.steps import (
    AGAIN,
    Folded,
    Frozen,
    Normalized,
    Nothing,
    Shortcut,
    Single,
    Summable,
    Summed,
    Teacher,
)
from hkd.networks.resnet import TEACHER


def plan(net):
    """The steps of a network's layers, in order."""
    steps, frozen, learning = [], [], set()
    rest = _order(net)
    waiting = {}  # chains that run with the sum of their top and another map, by that top
    twice = set()  # maps that two layers read, whose second reader is not found yet
    while rest:
        chain = _chain(rest)
        learns = _learns(net, chain, learning)
        made, length = _fused(net, chain, learns, waiting)
        del rest[:length]
        taken = chain[:length]
        if net.bf16 and isinstance(made, Summable) and _summed_next(made, rest, waiting):
            waiting[made.top] = made
            step = Nothing()
        else:
            step = made
        if learns:
            if isinstance(step, Normalized | Shortcut):
                _read_again(step, twice)
            if isinstance(step, Normalized) and _read_twice(step.top, rest):
                twice.add(step.top)
            learning.update(top for b in taken for top in b.layer.top)
            steps += [*_frozen(net, frozen), step]
            frozen = []
        else:
            learning.difference_update(top for b in taken for top in b.layer.top)
            frozen.append((step, taken[0].layer.name.startswith(TEACHER)))
    return steps + _frozen(net, frozen)


def _order(net):
    """The layers that run, in order. Where the teacher's answers may be kept all its layers come first, for its answer must be
    made in one step: the matrices of a flow stand behind the student's layers. They read nothing but the images."""
    running = [b for b in net.built if b.kind.run is not None]
    if not _may_be_kept(net):
        return running
    return sorted(running, key=lambda b: not b.layer.name.startswith(TEACHER))


def _frozen(net, steps):
    """Steps without a gradient, each with whether it is of the teacher, as few: the teacher's apart where its answers may be kept."""
    if not _may_be_kept(net):
        return [Frozen([step for step, _ in steps])] if steps else []
    found = []
    for of_teacher, group in itertools.groupby(steps, key=lambda pair: pair[1]):
        group = [step for step, _ in group]
        found.append(Teacher(net, group, _answers(net)[0]) if of_teacher else Frozen(group))
    return found


def _answers(net):
    """The teacher's blobs that other layers read."""
    made = {top for b in net.built for top in b.layer.top if b.layer.name.startswith(TEACHER)}
    others = [b for b in net.built if not b.layer.name.startswith(TEACHER)]
    return list(dict.fromkeys(name for b in others for name in b.layer.bottom if name in made))


def _may_be_kept(net):
    """Whether all that is read of the teacher is one blob that is small enough to keep for every crop of every image. Maps of
    test images are not kept: a test asks for them once in many iterations."""
    answers = _answers(net)
    if net.feed is None or net.device.type != "cpu" or len(answers) != 1:
        return False
    shape = net.shapes[answers[0]][1:]
    if net.phase != caffe_pb2.TRAIN and len(shape) == 3:
        return False
    bytes_each = 2 if net.bf16 and len(shape) == 3 else 4
    return len(net.feed.images) * net.feed.crops * math.prod(shape) * bytes_each <= memo.BOUND


def _learns(net, chain, learning):
    if net.phase != caffe_pb2.TRAIN:
        return False
    mine = any(
        not b.layer.param or any(spec.lr_mult for spec in b.layer.param) for b in chain if b.layer.type in WITH_BLOBS
    )
    return mine or any(bottom in learning for b in chain for bottom in b.layer.bottom)


WITH_BLOBS = ("Convolution", "InnerProduct", "Scale")


def _chain(rest):
    """The first layer and those after it that work in place on its top, as far as convolution-BatchNorm-Scale-ReLU goes;
    or the five layers of a shortcut."""
    if tuple(b.layer.type for b in rest[:5]) == Shortcut.TYPES and Shortcut.is_one(rest[:5]):
        return rest[:5]
    order = ["Eltwise", "ReLU"] if rest[0].layer.type == "Eltwise" else ["Convolution", "BatchNorm", "Scale", "ReLU"]
    if rest[0].layer.type not in order[:2]:
        return rest[:1]
    at = order.index(rest[0].layer.type)
    chain, top = [rest[0]], rest[0].layer.top[0]
    for b, expected in zip(rest[1:], order[at + 1 :], strict=False):
        if b.layer.type != expected or list(b.layer.bottom) != [top] or list(b.layer.top) != [top]:
            break
        chain.append(b)
    return chain


def _is_sum(chain):
    """Whether it is the sum of two maps and its ReLU."""
    types = [b.layer.type for b in chain]
    return (
        types == ["Eltwise", "ReLU"] and chain[0].own.operation == chain[0].own.SUM and len(chain[0].layer.bottom) == 2
    )


def _summed_next(step, rest, waiting):
    """Whether the map of a step without ReLU is read by nothing but the sum of two maps and its ReLU, and none of these waits
    for that sum already."""
    readers = [i for i, b in enumerate(rest) if step.top in b.layer.bottom]
    if step.relu or len(readers) != 1 or not _is_sum(_chain(rest[readers[0] :])):
        return False
    return waiting.keys().isdisjoint(rest[readers[0]].layer.bottom)


def _read_twice(name, rest):
    """Whether two layers read a map as it is: a third one's gradient would be added in another order."""
    return sum(name in b.layer.bottom for b in rest) == 2 and not any(name in b.layer.top for b in rest)


def _read_again(step, twice):
    """Makes a shortcut, or a sum with one, the second reader of its map where that is in `twice`, and takes it out of these."""
    field = "bottom" if isinstance(step, Shortcut) else "other"
    name = getattr(step, field)
    if name in twice:
        twice.remove(name)
        setattr(step, field, name + AGAIN)


def _fused(net, chain, learns, waiting):
    """(step, number of layers of the chain that it runs)."""
    types = [b.layer.type for b in chain]
    if tuple(types) == Shortcut.TYPES:
        return Shortcut(net, chain), 5
    if _is_sum(chain):
        for name in chain[0].layer.bottom:
            if name in waiting:
                waiting[name].add(chain[0])
                return waiting.pop(name), 2
        return Summed(net, chain), 2
    if types[:3] == ["Convolution", "BatchNorm", "Scale"]:
        stored = layers.uses_stored_statistics(chain[1].own, net.phase)
        if stored and not learns and not chain[0].own.bias_term and chain[2].own.bias_term:
            return Folded(net, chain), len(chain)
        return Single(net, chain[0]), 1
    if types[:2] == ["BatchNorm", "Scale"] and learns and chain[1].own.bias_term:
        stored = layers.uses_stored_statistics(chain[0].own, net.phase)
        return (Single(net, chain[0]), 1) if stored else (Normalized(net, chain), len(chain))
    return Single(net, chain[0]), 1
