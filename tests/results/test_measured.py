"""The measured results kept with the project: made again from their records to the same bytes, and nothing left out, replaced
or edited."""

import csv
import json
import re
import shutil

import pytest

from conftest import MAKE, ROOT, command, copy_of_runs, one_line
from hkd.base.cli import UserError
from hkd.base.files import sha256
from hkd.results import engines_apart, page_tables
from hkd.results.collected import KEPT, collect, kept_in, sheets
from hkd.stages import answers, records

MEASURED = ROOT / "results/measured"
PAGE = "README.md"
"""What is written by hand beside the records."""


def pages():
    """What people read of the measured results: README's section, and the page beside the records."""
    section = (ROOT / PAGE).read_text().partition("\n## What came out\n")[2].partition("\n## ")[0]
    return f"{section}\n{(MEASURED / PAGE).read_text()}"


@pytest.fixture(scope="module")
def collected(paper_runs, tmp_path_factory):
    """The records of small runs of Caffe, collected, and what is made of them."""
    folder = tmp_path_factory.mktemp("measured")
    # These runs are of a smaller batch, which the paper's settings do not admit.
    runs = copy_of_runs(paper_runs[0] / "runs", folder / "runs")
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


def test_a_teacher_by_itself_has_a_table_at_the_paper_s_own_length_alone(tmp_path):
    """What learns alone may belong to the tables of other pairs, so that a shorter length waits for what a teacher taught."""
    cifar10 = "records/torch-bf16/cifar10"
    taught, alone = ("r14-teacher", "r14-r8-kd-net1"), ("r14-teacher", "r8-baseline-net1")
    for length, stages in {"full-seed1": alone, "scale0.03125-seed2": taught, "scale0.03125-seed3": alone}.items():
        for stage in stages:
            shutil.copytree(MEASURED / cifar10 / length / stage, tmp_path / cifar10 / length / stage)
    titles = [sheet.title for sheet in sheets(kept_in(tmp_path))["all-cifar10"]]
    assert len(titles) == 2 and titles[0].endswith(": full length") and titles[1].endswith(", seed 2")


def test_what_is_kept_is_made_again_to_the_same_bytes(tmp_path):
    shutil.copytree(MEASURED / "records", tmp_path / "records")
    command(MAKE, "--measured", tmp_path, check=0)
    made, kept = (
        {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name != PAGE}
        for folder in (tmp_path, MEASURED)
    )
    assert list(made) and sorted(made) == sorted(kept)
    assert [name for name in made if made[name] != kept[name]] == []


def test_only_records_and_logs_are_kept():
    """And answers, for which see test_answers_are_kept_only_where_a_table_has_an_ensemble_of_them; and what two engines did side by side."""
    files = [path for path in (MEASURED / "records").rglob("*") if path.is_file()]
    curves = [path for path in files if path.parent.name == engines_apart.FOLDER]
    assert curves and all(path.suffix == ".json" for path in curves)
    assert {path.name for path in files if path not in curves} - {answers.FILE} == set(KEPT)


PAGES = (ROOT / PAGE, MEASURED / PAGE)


def test_the_tables_in_the_pages_are_those_that_are_kept(tmp_path):
    """And a table in which a number was changed is renewed."""
    pages = [shutil.copy(page, tmp_path / f"{number}.md") for number, page in enumerate(PAGES)]
    changed = pages[0].read_text().replace("| student alone, 8 layers (engine torch-bf16) | - |", "| student | 99 |")
    assert changed != pages[0].read_text()
    pages[0].write_text(changed)
    folder = shutil.copytree(MEASURED, tmp_path / "measured")
    command(MAKE, "--measured", folder, "--pages", *pages, check=0)
    assert [page.read_text() for page in pages] == [page.read_text() for page in PAGES]
    assert sum(len(page_tables.MARKED.findall(page.read_text())) for page in pages) >= 8


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("results/measured/table4.md", "names 2 tables: table4.md has Table 4."),
        ("results/measured/table4.md: half length", "names 0 tables"),
        ("results/measured/table2.md", "names 0 tables: table2.md has nothing of it was run"),
    ],
)
def test_a_comment_that_names_no_table_is_one_line_and_nothing_is_written(tmp_path, comment, said):
    folder, page = shutil.copytree(MEASURED, tmp_path / "measured"), tmp_path / "page.md"
    page.write_text(f"Words.\n<!-- {comment} -->\n| x |\n")
    (folder / "table3.md").unlink()
    one_line(command(MAKE, "--measured", folder, "--pages", page), page, f"<!-- {comment} -->", said)
    assert not (folder / "table3.md").exists() and page.read_text().endswith("| x |\n")


def sections():
    """{heading: text} of what people read of the measured results."""
    parts = [part.partition("\n") for part in re.split(r"^## ", pages(), flags=re.M)]
    return {heading: text for heading, _, text in parts}


def numbers(lines):
    return re.findall(r"(?<![\w.])\d+\.\d+", "\n".join(lines))


@pytest.mark.parametrize("heading", sections())
def test_every_measured_number_in_words_is_in_a_table_that_its_section_shows_or_links_to(heading):
    lines = sections()[heading].splitlines()
    words = [line for line in lines if not line.startswith(("|", "!["))]
    kept = set(numbers(line for line in lines if line.startswith("|")))
    for name in re.findall(r"\]\(([\w.-]+\.md)\)", "\n".join(words)):
        kept.update(numbers((MEASURED / name).read_text().splitlines()))
    assert [number for number in numbers(words) if number not in kept] == []


def test_there_are_numbers_in_words():
    assert sum(len(numbers(text.splitlines())) for text in sections().values()) > 100


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
    assert line.startswith("| cifar10-r14-r8 | 3e-05 | student alone |")


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


# --- several lengths ----------------------------------------------------------------------------------------------------------


SHORT = MEASURED / "records/torch/mnist/scale0.015625-seed1"


def longer(runs, more, scale=1.0, seed=1, engine="torch-bf16", only=""):
    """The kept records of MNIST's shortest runs as those of another length in the folder `runs`, with Pc higher by `more`; only: of
    the stages with one of these words in their names."""
    group = runs / "mnist" / f"{'full' if scale == 1 else f'scale{scale}'}-seed{seed}"
    for path in sorted(SHORT.iterdir()):
        if not any(word in path.name for word in only.split() or [""]) or "+" in path.name:
            continue
        shutil.copytree(path, group / path.name)
        record = records.read_record(path)
        Pc = record["Pc"] and {**record["Pc"], "last": record["Pc"]["last"] + more, "best": record["Pc"]["best"] + more}
        records.write_record(group / path.name, {**record, "scale": scale, "seed": seed, "engine": engine, "Pc": Pc})
    return runs


@pytest.fixture
def short(tmp_path):
    """A folder of measured results with one length of MNIST alone."""
    kept = tmp_path / "measured/records/torch/mnist" / SHORT.name
    shutil.copytree(SHORT, kept)
    return tmp_path / "measured"


def rows_of(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_two_lengths_stand_beside_each_other_the_longest_first(short, tmp_path):
    """Full-length runs of another engine, which come net by net, beside those of 1/64."""
    first = longer(tmp_path / "first", 0.8, only="teacher kd-net1 kd-net2 baseline-net")
    command(MAKE, "--measured", short, "--collect", first, check=0)
    headings = re.findall("^### (.*)", (short / "table3.md").read_text(), re.M)
    shorter = "every number of iterations x 0.015625, not comparable with the paper's"
    assert headings == [f"Table 3. MNIST, 32 to 8 layers: {words}" for words in ("full length", shorter)]
    full, scaled = re.split("^### ", (short / "table3.md").read_text(), flags=re.M)[1:]
    assert "| Hint-KD+ | 0.60, 0.50, 0.61 | 0.570 | - |" in full and "Hint-KD+" not in scaled
    assert "| KD without hints (engine torch-bf16) | 0.56, 0.57, 0.55 | 0.560 | 0.76, 0.89, - | " in full
    assert (
        "| KD without hints (scale 0.015625, engine torch) | 0.56, 0.57, 0.55 | 0.560 | 1.56, 1.69, 1.75 | " in scaled
    )
    scales = [row["scale"] for row in rows_of(short / "table3.csv")]
    assert scales == ["1.0"] * 4 + ["", "1.0"] + ["0.015625"] * 5

    # Two nets of three decide nothing while a shorter length has all.
    claimed = {(row["place"], row["claim"]): row["scale"] for row in rows_of(short / "claims.csv") if row["p"]}
    assert claimed["table3", "KD without hints > student alone, 8 layers"] == "0.015625"

    # With every net, not stage 1 of SL-ResNet: the longest that allows a test is what a claim is decided by.
    rest = longer(tmp_path / "rest", 0.8, only="teacher baseline-net r32-r8-kd-net hint-kd-net layerwise-kd-net")
    command(MAKE, "--measured", short, "--collect", rest, check=0)
    claimed = {(row["place"], row["claim"]): row for row in rows_of(short / "claims.csv")}
    tested = {key: row["scale"] for key, row in claimed.items() if row["p"]}
    assert tested["table3", "Hint-KD > KD without hints"] == "1"
    assert tested["table4", "SL-ResNet with KD > SL-ResNet"] == "0.015625"
    assert set(tested.values()) == {"1", "0.015625"}
    assert (
        f"{list(tested.values()).count('1')} at the paper's number of iterations" in (short / "claims.md").read_text()
    )

    page = (short / "report.html").read_text()
    assert all(
        f"<caption>Table 4. MNIST, 32 to 8 layers, with SL-ResNet: {words}" in page for words in ("full", "every")
    )
    assert "mnist-r32-r8-scale0.015625-seed1" in page and "full-seed1/r32-teacher" in page
    assert "/full-seed1/" in (short / "runs.md").read_text()
    before = {path.name: path.read_bytes() for path in short.iterdir() if path.is_file()}
    command(MAKE, "--measured", short, "--collect", rest, check=0)
    assert before == {path.name: path.read_bytes() for path in short.iterdir() if path.is_file()}


def test_another_seed_is_another_length_and_a_control_in_another_engine_stands_beside(short, tmp_path):
    runs = longer(tmp_path / "runs", 0.3, scale=0.125)
    longer(runs, 0.4, scale=0.125, seed=2)
    control = longer(tmp_path / "control", 0.5, scale=0.125, engine="torch", only="r32-r8-kd-net1")
    for folder in (runs, control):
        command(MAKE, "--measured", short, "--collect", folder, check=0)
    found = rows_of(short / "table4.csv")
    kd = [row for row in found if row["method"] == "kd"]
    assert [(row["scale"], row["seed"], row["engine"]) for row in kd] == [
        ("0.125", "1", "torch-bf16"),
        ("0.125", "2", "torch-bf16"),
        ("0.015625", "1", "torch"),
    ]
    assert "x 0.125, not comparable with the paper's, seed 2" in (short / "table4.md").read_text()
    (line,) = [line for line in (short / "engines.md").read_text().splitlines() if line.startswith("| mnist-r32-r8")]
    assert line.startswith("| mnist-r32-r8 | 0.125 | KD without hints | torch | 98.94 | torch-bf16 | 98.74, ")
    # A person may ask for the other engine's tables.
    command(MAKE, "--measured", short, "--engine", "torch", check=0)
    kd = [row for row in rows_of(short / "table4.csv") if row["method"] == "kd"]
    assert (kd[0]["scale"], kd[0]["engine"], kd[0]["n"]) == ("0.125", "torch", "1")


def test_figures_of_other_lengths_are_named_by_them(collected, tmp_path):
    """And what was drawn of a length that is gone goes too, but nothing that somebody else put there."""
    folder = shutil.copytree(collected, tmp_path / "measured")
    shutil.rmtree(folder / "records/caffe/mnist")
    plain = folder / "records/caffe/cifar10/scale3e-05-seed1"
    for path in plain.glob("r26*"):  # of no figure below
        shutil.rmtree(path)
    there = shutil.copytree(plain, plain.with_name("scale0.0001-seed1"))
    for path in there.iterdir():
        records.write_record(path, {**records.read_record(path), "scale": 0.0001})
    others = {"README.md": "Mine.", "figure7-notes.svg": "<svg/>", "notes.md": "Mine."}
    for name, text in others.items():
        (folder / name).write_text(text)
    command(MAKE, "--measured", folder, "--engine", "caffe", check=0)
    names = {"figure7.svg", "figure7-scale3e-05-seed1.svg"}
    assert names <= {path.name for path in folder.iterdir()}
    assert "scale 0.0001" in (folder / "figure7.svg").read_text()
    shutil.rmtree(there)
    command(MAKE, "--measured", folder, "--engine", "caffe", check=0)
    assert not (folder / "figure7-scale3e-05-seed1.svg").exists()
    assert {name: (folder / name).read_text() for name in others} == others


# --- what is refused ----------------------------------------------------------------------------------------------------------


def test_an_engine_that_is_a_path_is_refused(short, tmp_path):
    runs = longer(tmp_path / "runs", 0.1)
    one = next(runs.glob("*/*/*"))
    path = one / "record.json"
    for engine in ("../../OUTSIDE", "/tmp/OUTSIDE", "torch\n", "theano", "torch+", "torch+../.."):
        record = {**json.loads(path.read_text()), "engine": engine}
        records.write_record(one, {key: value for key, value in record.items() if key != "sha256"})
        with pytest.raises(UserError, match=f"^{path}.*engine"):
            collect(runs, short)
        assert not list(short.glob("records/*/mnist/full-seed1"))  # nothing is copied where something is wrong
        assert not list(tmp_path.rglob("OUTSIDE"))
    one_line(command(MAKE, "--measured", short, "--collect", runs), path, "engine")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"experiment": "no-experiment"}, "unknown experiment"),
        ({"dataset": "mnist2", "scale": 1}, "renamed or copied"),
        ({"stage": "../r32-teacher"}, "stage"),
        ({"scale": 0.5}, "renamed or copied"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_record_that_says_it_belongs_elsewhere_is_refused(short, tmp_path, change, said):
    runs = longer(tmp_path / "runs", 0.1, only="teacher")
    (one,) = runs.glob("*/*/*")
    records.write_record(one, {**records.read_record(one), **change})
    with pytest.raises(UserError, match=f"{one}.*{said}"):
        collect(runs, short)
    assert not list(short.glob("records/*/mnist/full-seed1"))


def test_a_log_that_is_none_is_refused(short, tmp_path):
    runs = longer(tmp_path / "runs", 0.1, only="teacher")
    (one,) = runs.glob("*/*/*")
    for text in (b'{"iteration": "x"}\n', b"\xff\n", b'{"iteration": 1, "loss": NaN}\n', b"[1]\n"):
        (one / records.LOG).write_bytes(text)
        record = records.read_record(one)
        records.write_record(one, {**record, "digests": {**record["digests"], records.LOG: sha256(one / records.LOG)}})
        with pytest.raises(UserError, match=f"{one / records.LOG}, line 1"):
            collect(runs, short)


def test_what_a_record_says_opens_no_tag(short, tmp_path):
    runs = longer(tmp_path / "runs", 0.1)
    script = "<script>alert(1)</script>"
    for one in runs.glob("*/*/*"):
        record = records.read_record(one)
        versions = {**record["versions"], "hkd-caffe": script, "torch": script}
        records.write_record(one, {**record, "versions": versions, "hardware": f"{script} | x"})
    command(MAKE, "--measured", short, "--collect", runs, check=0)
    for path in short.glob("*.*"):
        assert script not in path.read_text(), path
    assert "&lt;script>alert(1)" in (short / "runs.md").read_text()
    assert "&lt;script&gt;alert(1)" in (short / "report.html").read_text()


def test_a_record_that_is_there_is_not_replaced(collected, tmp_path):
    folder = shutil.copytree(collected, tmp_path / "measured")
    runs = shutil.copytree(folder / "records/caffe", tmp_path / "runs")
    one = next(runs.glob("*/*/*/record.json")).parent
    written = records.read_record(one)
    records.write_record(one, {**written, "seconds": written["seconds"] + 1})
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
    one_line(command(MAKE, "--measured", tmp_path, check=2), "no record in", "--collect")
    (tmp_path / "runs").mkdir()
    one_line(command(MAKE, "--measured", tmp_path, "--collect", tmp_path / "runs", check=2), "no finished stage")
    one_line(command(MAKE, "--collect", tmp_path / "runs", check=2), "--measured")
