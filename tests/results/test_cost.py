"""What tables and figures cost: stages, iterations, multiply-adds, hours."""

import caffe
import pytest

from conftest import MAKE, command
from hkd.networks import deploy, prototxt
from hkd.paper import experiments
from hkd.results import cost, targets
from hkd.stages.stage import planned


@pytest.mark.parametrize("name", ["cifar10-r26w32-r14", "cifar100-r20-r8", "mnist-r32-r8"])
def test_multiply_adds_are_those_of_caffes_own_blobs(name, tmp_path):
    e = experiments.experiment(name)
    for architecture in (e.teacher, e.student):
        path = tmp_path / "net.prototxt"
        path.write_text(prototxt.text(deploy.network(e, architecture), []))
        net = caffe.Net(str(path), caffe.TEST)
        expected = 0
        for layer, blobs in net.params.items():
            kind = net.layer_dict[layer].type
            if kind == "Convolution":
                expected += blobs[0].data.size * net.blobs[net.top_names[layer][0]].data[0, 0].size
            elif kind == "InnerProduct":
                expected += blobs[0].data.size
        assert cost.multiply_adds(architecture, e.facts, classes=e.facts.classes) == expected


def test_a_teacher_inside_costs_its_forward_pass_once():
    e = experiments.experiment("cifar10-r26-r14")
    teacher, student = (cost.multiply_adds(a, e.facts, classes=10) for a in (e.teacher, e.student))
    assert cost.of_iteration(planned(e, "kd", "kd")) == 128 * (teacher + 3 * student)
    assert cost.of_iteration(planned(e, "", "teacher")) == 128 * 3 * teacher
    step1 = cost.of_iteration(planned(e, "layerwise", "hint", 1))
    assert step1 == 128 * (
        cost.multiply_adds(e.teacher, e.facts, (1, 4)) + 3 * cost.multiply_adds(e.student, e.facts, (1, 2))
    )


def test_every_target_and_all_together():
    done = command(MAKE, "--cost", "--rate", "20", check=0)
    assert "| Table 1 | 21 | 1,099,000 |" in done.stdout
    assert all(f"| {target.label} | " in done.stdout for target in targets.TARGETS.values())
    papers = next(x for x in done.stdout.splitlines() if x.startswith("| all of the above"))
    assert papers.startswith("| all of the above, each stage once | 229 | 10,153,000 |")
    assert f"{10_153_000 / 20 / 3600:.1f} |" in papers
    # Table 1: teacher, three students alone, and nine of KD; 25,000 iterations of hints three times.
    assert 64_000 * (1 + 3 + 4 * 3) + 3 * 25_000 == 1_099_000


def test_scale_and_nets():
    done = command(MAKE, "--cost", "--scale", "0.01", "--nets", "1", check=0)
    assert "| Figure 9 | 5 | 1,140 |" in done.stdout and "| Table 1 | 11 |" in done.stdout
