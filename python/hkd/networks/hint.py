"""Stage 1 of the hint methods: teacher and student up to a hint layer each, and the hint losses between them."""

import caffe

from hkd.networks import losses, resnet
from hkd.networks.feed import both_phases, data_layers
from hkd.networks.kind import Kind
from hkd.paper import stated


def network(experiment, pairs, feed):
    """Stage 1: a hint loss between hint layer H_i and guided layer G_i for each i of `pairs`; both networks are cut above
    the last of them.

    One pair is a step of the proposed method (equation 5) or the original hint training (equation 1); several are
    equation (7): their mean. Where the widths differ the guided layer goes through a regressor.
    """
    n = caffe.NetSpec()
    test_data = data_layers(n, experiment, feed, label=False)
    hint_layers = {i: experiment.hint_modules[i - 1] for i in pairs}
    guided_layers = {i: experiment.guided_modules[i - 1] for i in pairs}

    def maps(style, architecture, layers):
        early = layers.values() if experiment.hint_relu == "before" else ()
        return resnet.body(n, style, n.data, architecture, experiment.facts.size, layers[max(pairs)], early)

    hinted = maps(resnet.teacher(experiment), experiment.teacher, hint_layers)
    guided = maps(resnet.student(experiment), experiment.student, guided_layers)
    for i in pairs:
        guide, hint_map = guided[guided_layers[i]], hinted[hint_layers[i]]
        if i in experiment.regressed_pairs:
            channels = experiment.teacher.widths[hint_layers[i][0] - 1]
            guide = losses.regressor(n, f"{losses.REGRESSOR}{i}", guide, channels)
        losses.hint(n, f"hint{i}", guide, hint_map, weight=1 / len(pairs))
    return both_phases(f"{experiment.pair} hints {', '.join(map(str, pairs))}", n, test_data)


def _schedule(experiment, part):
    e = experiment
    if part.fitnet:
        return stated.Schedule(e.hint_lr, e.fitnet_stepvalue, e.fitnet_iterations)
    return stated.Schedule(e.hint_lr, (), e.hint_iterations[part.step - 1] if part.step else e.hint_kd_iterations)


KIND = Kind(
    "hint",
    network=lambda asked: network(asked.experiment, asked.part.pairs, asked.feed),
    schedule=_schedule,
    learner_end=lambda experiment, part, learner: experiment.guided_modules[part.last_node - 1],
    teacher_end=lambda experiment, part: experiment.hint_modules[part.last_node - 1],
    fresh=lambda experiment, part: [losses.REGRESSOR + str(i) for i in part.pairs if i in experiment.regressed_pairs],
    taught=True,
    classifies=False,
)
