"""The measured results kept with the project: made again from their records to the same bytes, and nothing left out, replaced
or edited."""

import json
import re
import shutil

import pytest

from conftest import ROOT, command, one_line
from hkd.results.collected import KEPT
from hkd.stages import records

MAKE = "python/make_tables.py"
MEASURED = ROOT / "results/measured"
PAGE = (MEASURED / "README.md").read_text()


@pytest.fixture(scope="module")
def collected(paper_runs, tmp_path_factory):
    """The records of small runs of Caffe, collected, and what is made of them."""
    folder = tmp_path_factory.mktemp("measured")
    # These runs are of a smaller batch, which the paper's settings do not admit.
    runs = shutil.copytree(paper_runs[0] / "runs", folder / "runs")
    for path in runs.glob("*/*/*/record.json"):
        record = records.read_record(path.parent)
        plain = record["stage"].partition("+")[0]
        settings = {**record["settings"], "batch": 128 if record["dataset"].startswith("cifar") else 64}
        parents = {
            role: {**parent, "stage": parent["stage"].partition("+")[0]} for role, parent in record["parents"].items()
        }
        records.write_record(path.parent, {**record, "stage": plain, "settings": settings, "parents": parents})
        path.parent.rename(path.parent.with_name(plain))
    out = folder / "measured"
    done = command(MAKE, "--measured", out, "--collect", runs, "--engine", "caffe", check=0)
    assert f"{len(list(runs.glob('*/*/*')))} records" in done.stdout
    return out


def test_what_is_kept_is_made_again_to_the_same_bytes(tmp_path):
    shutil.copytree(MEASURED / "records", tmp_path / "records")
    command(MAKE, "--measured", tmp_path, check=0)
    made, kept = ({p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} for folder in (tmp_path, MEASURED))
    assert list(made) and sorted(made) == sorted(kept)
    assert [name for name in made if made[name] != kept[name]] == []


def test_only_records_and_logs_are_kept():
    names = {path.name for path in (MEASURED / "records").rglob("*") if path.is_file()}
    assert names == set(KEPT)


def test_the_tables_shown_in_the_readme_are_those_that_are_kept():
    """Without the rows of which nothing was run."""
    shown = re.findall(r"<!-- (results/measured/[\w.-]+) -->\n(.*?)\n\n", PAGE, re.DOTALL)
    assert len(shown) >= 5
    for name, table in shown:
        rows = [line for line in (ROOT / name).read_text().splitlines() if line.startswith("|")]
        run = [row for row in rows if "| not run |" not in row and not row.endswith(" | -" * 7 + " |")]
        assert len(run) > 2 and table.splitlines() == run, name


def test_every_measured_number_in_the_readmes_words_is_in_a_table_that_is_kept():
    kept = {n for path in MEASURED.glob("*.md") for n in re.findall(r"\d+\.\d+", path.read_text())}
    words = [line for line in PAGE.splitlines() if not line.startswith(("|", "!["))]
    said = re.findall(r"\d+\.\d+", " ".join(words))
    assert said and [n for n in said if n not in kept] == []


def test_answers_are_kept_only_where_a_table_has_an_ensemble_of_them(collected):
    assert {path.parent.name for path in collected.rglob("test_scores.npy")} == {"r26-teacher"}  # FSP's table 1


def test_every_record_is_in_the_list_of_runs(collected):
    listed = (collected / "runs.md").read_text()
    found = [records.read_record(path.parent) for path in collected.glob("records/*/*/*/*/record.json")]
    assert len(found) == len([line for line in listed.splitlines() if line.startswith("| ")]) - 2
    for record in found:
        (line,) = [
            line for line in listed.splitlines() if f"/{record['stage']} |" in line and record["dataset"] in line
        ]
        if record["Pc"]:
            assert f"| {record['Pc']['last']:.2f} | {record['Pc']['best']:.2f} |" in line


def test_the_same_records_make_the_same_bytes(collected, tmp_path):
    shutil.copytree(collected / "records", tmp_path / "records")
    command(MAKE, "--measured", tmp_path, "--engine", "caffe", check=0)
    made, kept = ({p.name: p.read_bytes() for p in f.iterdir() if p.is_file()} for f in (tmp_path, collected))
    assert sorted(made) == sorted(kept) and [name for name in made if made[name] != kept[name]] == []


def test_tables_figures_claims_and_report_are_made(collected):
    names = {path.name for path in collected.iterdir() if path.is_file()}
    assert {"table1.md", "table4.csv", "figure7.svg", "figure9.svg", "claims.md", "report.html", "engines.md"} <= names
    assert "table2.md" not in names  # nothing of it was run
    assert "cifar100-to-cifar10-r14-r8.md" not in names  # it shares the student alone and SL-ResNet, no more
    assert "Nothing of it was run" in (collected / "engines.md").read_text()  # one engine only


def test_another_engine_stands_beside(collected, tmp_path):
    folder = shutil.copytree(collected, tmp_path / "measured")
    (one,) = folder.glob("records/caffe/cifar10/*/r14-r8-layerwise-kd-net1")
    record = records.read_record(one)
    there = folder / "records/torch" / one.relative_to(folder / "records/caffe")
    shutil.copytree(one, there)
    Pc = record["Pc"]["last"]
    records.write_record(there, {**record, "engine": "torch", "Pc": {**record["Pc"], "last": Pc + 1}})
    command(MAKE, "--measured", folder, "--engine", "caffe", check=0)
    (line,) = [x for x in (folder / "engines.md").read_text().splitlines() if x.startswith("| cifar10-r14-r8")]
    assert f"| torch | {Pc + 1:.2f} |" in line and "| +1.0" in line


def test_what_experiments_share_is_compared_once(collected, tmp_path):
    """The student alone is the same whichever teacher an experiment has."""
    folder = shutil.copytree(collected, tmp_path / "measured")
    (one,) = folder.glob("records/caffe/cifar10/*/r8-baseline-net1")
    there = folder / "records/torch" / one.relative_to(folder / "records/caffe")
    shutil.copytree(one, there)
    records.write_record(there, {**records.read_record(one), "engine": "torch"})
    command(MAKE, "--measured", folder, "--engine", "caffe", check=0)
    (line,) = [x for x in (folder / "engines.md").read_text().splitlines() if "| torch |" in x]
    assert line.startswith("| cifar10-r14-r8 | student alone")


def test_a_stage_after_another_engines_stage_1_stands_apart(collected, tmp_path):
    runs = shutil.copytree(collected / "records/caffe", tmp_path / "runs")
    (one,) = runs.glob("cifar10/*/r14-r8-layerwise-kd-net1")
    records.write_record(one, {**records.read_record(one), "engine": "torch"})
    command(MAKE, "--measured", tmp_path / "measured", "--collect", runs, "--engine", "caffe", check=0)
    (kept,) = (tmp_path / "measured/records").glob("*/cifar10/*/r14-r8-layerwise-kd-net1")
    assert kept.parts[-4] == "torch-after-caffe"
    (line,) = [
        x for x in (tmp_path / "measured/engines.md").read_text().splitlines() if x.startswith("| cifar10-r14-r8")
    ]
    assert "| torch-after-caffe |" in line


def test_the_two_readings_of_sl_resnet_stand_beside_each_other(collected, tmp_path):
    folder = shutil.copytree(collected, tmp_path / "measured")
    (one,) = folder.glob("records/caffe/cifar10/*/r8-sl-resnet-finetune-net1")
    record = records.read_record(one)
    kept, Pc = one.with_name(one.name + "+sl_fc=kept"), record["Pc"]["last"]
    shutil.copytree(one, kept)
    changed = {"stage": kept.name, "settings": {**record["settings"], "sl_fc": "kept"}}
    records.write_record(kept, {**record, **changed, "Pc": {**record["Pc"], "last": Pc + 1}})
    command(MAKE, "--measured", folder, "--engine", "caffe", check=0)
    lines = [x for x in (folder / "sl-resnet-fc.md").read_text().splitlines() if x.startswith("| cifar10-r14-r8")]
    fresh, other = (x for x in lines if "| SL-ResNet |" in x)
    assert f"| fresh | {Pc:.2f}, " in fresh and f"| kept | {Pc + 1:.2f} |" in other


def test_a_record_that_is_there_is_not_replaced(collected, tmp_path):
    folder = shutil.copytree(collected, tmp_path / "measured")
    runs = shutil.copytree(folder / "records/caffe", tmp_path / "runs")
    one = next(runs.glob("*/*/*/record.json")).parent
    records.write_record(one, {**records.read_record(one), "seconds": 0.5})
    one_line(
        command(MAKE, "--measured", folder, "--collect", runs, "--engine", "caffe", check=2),
        "has another record than",
        one.name,
    )


def test_an_edited_number_is_refused(collected, tmp_path):
    folder = shutil.copytree(collected, tmp_path / "measured")
    (one,) = folder.glob("records/caffe/cifar10/*/r14-r8-layerwise-kd-net1/record.json")
    record = json.loads(one.read_text())
    record["Pc"]["last"] += 1
    one.write_text(json.dumps(record))
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    one_line(command(MAKE, "--measured", folder, "--engine", "caffe", check=2), "edited", "r14-r8-layerwise-kd-net1")
    assert before == {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_where_nothing_was_measured(tmp_path):
    one_line(command(MAKE, "--measured", tmp_path, check=2), "records/torch")
    (tmp_path / "runs").mkdir()
    one_line(command(MAKE, "--measured", tmp_path, "--collect", tmp_path / "runs", check=2), "no finished stage")
    one_line(command(MAKE, "--collect", tmp_path / "runs", check=2), "--measured")
