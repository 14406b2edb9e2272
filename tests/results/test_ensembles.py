"""What nets answer on the test set, and what three of them answer together: against a computation of our own from their weights."""

import csv
import json
import shutil

import caffe
import numpy as np
import pytest

from conftest import command, one_line
from hkd.base.cli import UserError
from hkd.base.files import sha256
from hkd.networks import deploy, prototxt
from hkd.paper import experiments
from hkd.results import ensembles
from hkd.results.lines import Line
from hkd.results.rows import Row
from hkd.results.runs import Runs
from hkd.stages import answers, records
from hkd.stages.stage import planned
from lmdbs import read_lmdb
from nets import ENGINES

RUN, MAKE = "python/run_stage.py", "python/make_tables.py"
NAME = "fashion-mnist-r14-r8"


def words_of(fashion, runs, engine="caffe"):
    settings = ("--scale", 0.001, "--set", "batch=16", "--engine", engine)
    return ("--experiment", NAME, "--data", fashion, "--runs", runs, "--stage", "baseline", *settings)


@pytest.fixture(scope="module")
def trained_by(fashion, tmp_path_factory):
    """engine -> the runs folder with the three nets that it trained, once."""
    done = {}

    def trained(engine):
        if engine not in done:
            done[engine] = tmp_path_factory.mktemp(engine)
            command(RUN, *words_of(fashion, done[engine], engine), "--net", "all", check=0)
        return done[engine]

    return trained


def folders(runs):
    return sorted(path.parent for path in runs.rglob("record.json"))


def line(runs):
    row = Row("student alone", NAME, "baseline")
    return Line(row, tuple(Runs(runs).cell("x", row.stages(3))), "Pc")


def own_answers(folder, fashion, tmp_path):
    """(softmax outputs, labels) of a student by Caffe's deploy network over the LMDB's images: none of the driver's code."""
    e = experiments.experiment(NAME)
    network = deploy.network(e, e.student)
    network.layer[0].input_param.shape[0].dim[0] = 200
    path = tmp_path / "deploy.prototxt"
    path.write_text(prototxt.text(network, []))
    net = caffe.Net(str(path), str(folder / "final.caffemodel"), caffe.TEST)
    images, labels = read_lmdb(fashion / "test_lmdb")
    net.blobs["data"].data[...] = images
    net.forward()
    return net.blobs["prob"].data.copy(), labels


@pytest.mark.parametrize("engine", ENGINES)
def test_the_ensemble_is_that_of_the_nets_own_weights(engine, trained_by, fashion, tmp_path):
    trained = trained_by(engine)
    places = folders(trained)
    assert len(places) == 3
    outputs = []
    for place in places:
        prob, labels = own_answers(place, fashion, tmp_path)
        kept = np.load(place / answers.FILE)
        np.testing.assert_array_equal(kept["label"], labels)
        np.testing.assert_allclose(ensembles.softmax(kept["scores"]), prob, atol=1e-4)
        record = records.read_record(place)
        assert answers.Pc(kept["scores"], kept["label"]) == pytest.approx(record["Pc"]["last"], abs=1e-9)
        assert 100 * (prob.argmax(1) == labels).mean() == pytest.approx(record["Pc"]["last"], abs=0.51)
        outputs.append(prob)
    expected = 100 * (np.mean(outputs, axis=0).argmax(1) == labels).mean()
    single = line(trained).values()
    assert line(trained).ensemble == pytest.approx(expected) and len({*single}) > 1
    command(MAKE, NAME, "--runs", trained, "--out", tmp_path, check=0)
    row = next(x for x in csv.DictReader((tmp_path / f"{NAME}.csv").open()) if x["method"] == "baseline")
    assert float(row["ensemble"]) == pytest.approx(expected) and int(row["iterations"]) == 3 * 36


def test_a_mean_of_outputs_is_no_vote(tmp_path):
    """Two nets that are unsure are outvoted by one that is sure."""
    scores = [np.log([[0.6, 0.4]]), np.log([[0.6, 0.4]]), np.log([[0.01, 0.99]])]
    assert answers.Pc(np.mean([ensembles.softmax(x) for x in scores], axis=0), np.array([1])) == 100
    assert answers.Pc(np.array([[1.0, 1.0]]), np.array([0])) == 0  # Caffe's Accuracy: a tie is wrong
    assert np.isfinite(ensembles.softmax(np.array([[1e4, -1e4]]))).all()


class TestRecords:
    """On copies of what Caffe trained."""

    @pytest.fixture
    def copy(self, trained_by, tmp_path):
        return shutil.copytree(trained_by("caffe"), tmp_path / "runs")

    def test_two_of_three_nets_are_no_ensemble(self, copy):
        shutil.rmtree(folders(copy)[2])
        assert len(line(copy).done) == 2 and line(copy).ensemble is None

    def test_a_record_from_before_has_none_and_stays_valid(self, copy, tmp_path):
        place = folders(copy)[1]
        record = records.read_record(place)
        del record["digests"][answers.FILE]
        records.write_record(place, record)
        (place / answers.FILE).unlink()
        assert len(line(copy).done) == 3 and line(copy).ensemble is None
        command(MAKE, NAME, "report", "--runs", copy, "--out", tmp_path / "out", check=0)

    @pytest.mark.parametrize(
        ("damage", "said"), [("missing", "is missing"), ("edited", "not the one that its record names")]
    )
    def test_what_is_not_the_records_is_refused(self, copy, tmp_path, damage, said):
        path = folders(copy)[1] / answers.FILE
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-1] + b"x")
        one_line(command(MAKE, NAME, "--runs", copy, "--out", tmp_path / "out"), path, said)

    def test_answers_that_do_not_give_the_records_pc_are_refused(self, copy):
        self.rewrite(folders(copy)[1], lambda kept: kept["scores"].fill(0))
        with pytest.raises(UserError, match=r"gives Pc 0\.0000 %"):
            _ = line(copy).ensemble

    def test_other_test_images_are_refused(self, copy):
        order = np.random.default_rng(1).permutation(200)
        self.rewrite(folders(copy)[1], lambda kept: kept.__setitem__(slice(None), kept[order]))
        with pytest.raises(UserError, match="were tested on other images"):
            _ = line(copy).ensemble

    def rewrite(self, place, change):
        kept, record = np.load(place / answers.FILE), records.read_record(place)
        change(kept)
        np.save(place / answers.FILE, kept)
        record["digests"][answers.FILE] = sha256(place / answers.FILE)
        records.write_record(place, record)

    def test_stopped_after_the_last_iteration_it_tests_again(self, copy, fashion):
        """Between the last snapshot and the record: the folder as a kill there leaves it."""
        place = folders(copy)[0]
        before = {name: sha256(place / name) for name in (answers.FILE, "log.jsonl", "final.caffemodel")}
        record = records.read_record(place)
        snapshot = place / f"snapshots/iter_{record['iterations']:07d}"
        snapshot.mkdir(parents=True)
        (place / "final.caffemodel").rename(snapshot / "weights.caffemodel")
        (place / "final.solverstate").rename(snapshot / "solver.solverstate")
        note = {
            "digest": record["digests"]["stage"],
            "iteration": record["iterations"],
            "sums": {},
            "count": 0,
            "seconds": 1,
        }
        note["sha256"] = {path.name: sha256(path) for path in snapshot.iterdir()}
        (snapshot / "snapshot.json").write_text(json.dumps({**note, "sessions": 1, "engines": ["caffe"]}))
        for name in ("record.json", answers.FILE):
            (place / name).unlink()
        done = command(RUN, *words_of(fashion, copy), check=0)
        assert "resumed at iteration 36 of 36" in done.stdout
        assert {name: sha256(place / name) for name in before} == before


def test_a_stage_that_does_not_classify_keeps_no_answers(fashion, tmp_path):
    words = ("--experiment", NAME, "--data", fashion, "--runs", tmp_path, "--scale", 0.0005, "--set", "batch=16")
    command(RUN, *words, "--method", "layerwise", "--stage", "hint", "--step", 1, "--set", "hint_lr=1e-9", check=0)
    hint = next(x for x in folders(tmp_path) if "hint1" in x.name)
    assert not (hint / answers.FILE).exists() and answers.FILE not in records.read_record(hint)["digests"]
    teacher = next(x for x in folders(tmp_path) if "teacher" in x.name)
    assert (teacher / answers.FILE).stat().st_size < 200 * (2 + 4 * 10) + 300
    assert planned(experiments.experiment(NAME), "", "teacher").name in teacher.name
