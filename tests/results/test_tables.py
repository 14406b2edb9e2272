"""Tables, figures, claims and costs: every number traced to a record, a dash where nothing was run, mixtures refused."""

import csv
import json
import re
import shutil
import statistics
import warnings
from dataclasses import replace

import caffe
import pytest
from scipy import stats

from conftest import ROOT, command, copy_of_runs, one_line
from hkd.networks import deploy, prototxt
from hkd.paper import experiments, stated
from hkd.results import claims, cost, figures, sheet, significance, tables, targets
from hkd.results.claims import Outcome
from hkd.results.runs import Runs, View
from hkd.stages import records
from hkd.stages.stage import planned

MAKE = "python/make_tables.py"
RUN = "python/run_stage.py"
PAPERS = [target for name, target in targets.TARGETS.items() if name not in targets.ALL_METHODS]


@pytest.fixture(scope="module")
def runs(paper_runs):
    return Runs(paper_runs[0] / "runs")


@pytest.fixture
def copy(paper_runs, tmp_path):
    return copy_of_runs(paper_runs[0] / "runs", tmp_path / "runs")


def stage(runs, pattern, dataset="*"):
    (found,) = runs.glob(f"{dataset}/*/{pattern}")
    return found


def rewrite(folder, **changes):
    """A record with other content and a checksum that fits: what an honest run under other conditions would have left."""
    record = records.read_record(folder)
    records.write_record(folder, {**record, **changes})


# --- what is reported ---------------------------------------------------------------------------------------------------------


def test_the_papers_averages():
    """The paper truncates its averages; its own last columns, from tables 1 to 6."""
    printed = {
        "table1": (90.76, 91.15, 90.63, 91.70),
        "table2": (70.83, 71.74, 71.39, 72.82),
        "table3": (0.56, 0.506, 0.57, 0.416),
        "table4": (0.573, 0.56, 0.496, 0.456, 0.39),
        "table5": (91.15, 91.70, 91.21, 92.01),
        "table6": (71.85, 72.65, 72.13, 73.11),
    }
    for name, means in printed.items():
        target = targets.TARGETS[name]
        found = [row.reported_mean for row in target.rows if row.method not in ("", "baseline")]
        assert found == pytest.approx(means, abs=0.011 if target.measure == "Pc" else 0.0011), name


def test_every_row_is_of_an_experiment_that_reports_its_method():
    for target in PAPERS:
        for row in target.rows:
            assert row.method in ("", "baseline", *experiments.EXPERIMENTS[row.experiment].methods), (target.name, row)


def test_every_experiment_of_the_paper_has_a_table_or_figure():
    covered = {row.experiment for target in PAPERS for row in target.rows}
    others = {e.name for e in experiments.EXPERIMENTS.values() if e.reported_in.startswith(("not in", "transfer"))}
    assert covered == set(experiments.EXPERIMENTS) - others
    for e in experiments.EXPERIMENTS.values():
        named = re.findall(r"\d+", e.reported_in)
        assert all(re.search(rf"\b{n}\b", " ".join(t.label for t in targets.TARGETS.values())) for n in named)


def test_no_number_of_the_paper_stands_outside_stated_py():
    numbers = {
        f"{x}" for t in (stated.TABLE_1, stated.TABLE_2, stated.TABLE_5, stated.TABLE_6) for v in t.values() for x in v
    }
    nets = (*stated.FSP_TABLE_1.values(), *stated.FSP_TABLE_2.values())
    numbers |= {f"{x}" for row in nets for x in (*row.Pc, row.ensemble)}
    numbers |= {f"{x}" for t in (stated.FSP_TABLE_3, stated.FSP_TABLE_4) for x in t.values()}
    numbers |= {f"{x}" for x in stated.BASELINE_PC.values()} | {f"{x}" for x in stated.FIGURE_10.values()}
    for path in (ROOT / "python").rglob("*.py"):
        if path.name != "stated.py":
            assert not {n for n in re.findall(r"\b\d\d\.\d\d\b", path.read_text()) if n in numbers}, path


# --- what is measured ---------------------------------------------------------------------------------------------------------


class TestTables:
    @pytest.mark.parametrize("name", ["table1", "table4", "table5"])
    def test_each_number_is_that_of_a_record(self, name, paper_runs):
        rows = list(csv.DictReader((paper_runs[0] / "out" / f"{name}.csv").open()))
        assert len(rows) == len(targets.TARGETS[name].rows)
        for row in rows:
            folders = [paper_runs[0] / "runs" / path for path in row["folders"].split()]
            assert len(folders) == int(row["n"]) == (1 if row["method"] == "teacher" else 3)
            for which in ("last", "best"):
                Pc = [json.loads((f / "record.json").read_text())["Pc"][which] for f in folders]
                expected = Pc if row["measure"] == "Pc" else [100 - value for value in Pc]
                assert [float(row[f"net{i}_{which}"]) for i in range(1, len(Pc) + 1)] == pytest.approx(expected)
                assert float(row[f"mean_{which}"]) == pytest.approx(statistics.mean(expected))
            if row["paper_mean"]:
                assert float(row["difference"]) == pytest.approx(float(row["mean_last"]) - float(row["paper_mean"]))

    def test_the_markdown_says_the_same_and_how_it_was_made(self, paper_runs):
        text = (paper_runs[0] / "out/table4.md").read_text()
        rows = list(csv.DictReader((paper_runs[0] / "out/table4.csv").open()))
        lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
        for line, row in zip(lines, rows, strict=True):
            assert (
                f"{float(row['mean_last']):.3f}" in line and "(scale 3e-05, batch=16, not the official images)" in line
            )
        assert text.startswith("### Table 4. MNIST, 32 to 8 layers") and "| Pe (%) |" in text
        assert "Engine: caffe (BVLC/caffe@" in text and "Hardware: " in text

    def test_the_p_value_is_welchs(self, runs):
        found = tables.lines(targets.TARGETS["table4"], runs)
        best, other = tables.proposed(found), next(x for x in found if x.row.method == "kd")
        expected = stats.ttest_ind(best.values(), other.values(), equal_var=False).pvalue
        assert tables.p_value(best, other) == pytest.approx(expected) and 0 < expected < 1
        assert f"| {expected:.3f} |" in sheet.markdown(tables.sheet(targets.TARGETS["table4"], found))

    def test_nets_are_compared_one_by_one_and_p_is_corrected_for_the_table(self, paper_runs):
        rows = list(csv.DictReader((paper_runs[0] / "out/table4.csv").open()))
        best = next(row for row in rows if row["method"] == "layerwise")
        others = [row for row in rows if row["method"] not in ("teacher", "layerwise")]
        nets = ("net1_last", "net2_last", "net3_last")
        for row in others:
            apart = [float(row[net]) - float(best[net]) for net in nets]
            assert float(row["less_proposed_mean"]) == pytest.approx(statistics.mean(apart)) and row["pairs"] == "3"
            assert float(row["less_proposed_sd"]) == pytest.approx(statistics.stdev(apart))
        ps = [float(row["p_welch"]) if row["p_welch"] else None for row in others]
        corrected = [float(row["p_holm"]) if row["p_holm"] else None for row in others]
        assert corrected == pytest.approx(significance.holm(ps)) and any(ps)
        teacher = rows[0]
        assert not (teacher["less_proposed_mean"] or teacher["p_holm"] or best["less_proposed_mean"] or best["p_holm"])
        text = (paper_runs[0] / "out/table4.md").read_text()
        assert "| less proposed, paired | p | p, Holm |" in text and "cannot give p below 0.125 one-sided" in text

    def test_a_pair_is_two_nets_of_one_number(self, runs):
        kd, hint = (
            next(x for x in tables.lines(targets.TARGETS["table4"], runs) if x.row.method == m)
            for m in ("kd", "hint-kd")
        )
        second = tables.Line(kd.row, (None, kd.runs[1], None), "Pe")
        assert tables.paired(second, hint).n == 1 and tables.paired(second, hint).sd is None
        assert tables.paired(second, hint).mean == kd.values()[1] - hint.values()[1]
        teacher = tables.lines(targets.TARGETS["table4"], runs)[0]
        assert tables.paired(teacher, hint) is None

    def test_no_p_value_without_spread_or_with_one_net(self, runs):
        kd = next(x for x in tables.lines(targets.TARGETS["table4"], runs) if x.row.method == "kd")
        alone = tables.Line(kd.row, (kd.runs[0], None, None), "Pe")
        digests = kd.runs[0].record["digests"]
        alike = [
            replace(kd.runs[0], record={**kd.runs[0].record, "digests": {**digests, records.FINAL: n}}) for n in "123"
        ]
        same = tables.Line(kd.row, tuple(alike), "Pe")
        assert tables.p_value(kd, alone) is None and tables.p_value(same, same) is None
        assert tables.p_value(kd, same) is not None  # one with spread is enough

    def test_nets_of_the_same_weights_are_one_net(self, copy):
        """As SL-ResNet's on MNIST with sl_fc=kept: one network to start from, and without crops nothing random in training."""
        for pattern in ("r8-sl-resnet-finetune-net", "r32-r8-sl-resnet-kd-net"):
            first = records.read_record(stage(copy, f"{pattern}1*", "mnist"))
            for net in (2, 3):
                other = stage(copy, f"{pattern}{net}*", "mnist")
                digests = records.read_record(other)["digests"] | {records.FINAL: first["digests"][records.FINAL]}
                rewrite(other, digests=digests)
        found = tables.lines(targets.TARGETS["table4"], Runs(copy))
        best = tables.proposed(found)
        kd, sl = (next(x for x in found if x.row.method == method) for method in ("kd", "sl-resnet"))
        assert sl.repeated and not kd.repeated and tables.p_value(best, kd) is not None
        assert tables.p_value(best, sl) is None and tables.p_value(sl, kd) is None
        text = sheet.markdown(tables.sheet(targets.TARGETS["table4"], found))
        assert "SL-ResNet, SL-ResNet with KD: nets with the same weights" in text

    def test_images_that_are_not_the_official_ones_are_marked_wherever_a_number_stands(self, runs, copy, tmp_path):
        mark, lines = "not the official images", tables.lines(targets.TARGETS["table4"], runs)
        assert all(mark in line.heading and mark in line.short_heading for line in lines)
        assert mark in figures.draw(targets.TARGETS["figure7"], runs).axes[0].get_title()
        command(MAKE, "report", "claims", "mnist-r32-r8", "--runs", copy, "--out", tmp_path, check=0)
        page, claimed = ((tmp_path / name).read_text() for name in ("report.html", "claims.md"))
        assert re.search(rf"<figcaption>Figure 7\.[^<]*{mark}", page) and re.search(
            rf"<p class=.warning.>[^<]*{mark}", page
        )
        run = [line for line in claimed.splitlines() if line.startswith("| ") and "3e-05" in line]
        assert run and all(mark in line for line in run)
        rows = [line for line in (tmp_path / "mnist-r32-r8.md").read_text().splitlines() if line.startswith("| ")][2:]
        assert rows and all(mark in line for line in rows)
        # As the same runs on the published images would be:
        for path in copy.glob("mnist/*/*"):
            rewrite(path, official_data=True)
        (line,) = (x for x in tables.lines(targets.TARGETS["table4"], Runs(copy)) if x.row.method == "kd")
        assert line.heading == "KD without hints (scale 3e-05, batch=16)"
        rewrite(stage(copy, "r32-teacher*"), official_data=False)  # a student of such a teacher is marked too
        (line,) = (x for x in tables.lines(targets.TARGETS["table4"], Runs(copy)) if x.row.method == "kd")
        assert mark in line.heading

    def test_what_was_not_run_is_a_dash(self, runs, tmp_path):
        found = tables.lines(targets.TARGETS["table2"], runs)
        text = sheet.markdown(tables.sheet(targets.TARGETS["table2"], found))
        assert text.count("| - | - | - | - | - | - | - |") == 6 and "Nothing of it was run." in text and "72.82" in text

    def test_the_same_records_make_the_same_bytes(self, paper_runs, tmp_path):
        for out in ("a", "b"):
            command(MAKE, "--runs", paper_runs[0] / "runs", "--out", tmp_path / out, check=0)
        names = sorted(path.name for path in (tmp_path / "a").iterdir())
        assert len(names) == 2 * len(targets.TARGETS) + 3
        for name in names:
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
        for made in (paper_runs[0] / "out").iterdir():  # and Snakemake's are these
            assert made.read_bytes() == (tmp_path / "a" / made.name).read_bytes(), made.name

    def test_a_folder_of_runs_without_any_gives_the_papers_numbers_alone(self, tmp_path):
        (tmp_path / "runs").mkdir()
        command(MAKE, "table1", "figure5", "--runs", tmp_path / "runs", "--out", tmp_path, check=0)
        assert (
            "| layer-wise hints, then KD | 91.66, 91.80, 91.64 | 91.70 | - | - | - | - | - | - | - |"
            in (tmp_path / "table1.md").read_text()
        )


class TestFigures:
    def test_the_bars_are_the_means_of_the_nets(self, runs):
        figure = figures.draw(targets.TARGETS["figure7"], runs)
        found = tables.lines(targets.TARGETS["figure7"], runs)
        heights = [bar.get_height() for bar in figure.axes[0].patches]
        assert heights == pytest.approx([statistics.mean(line.values()) for line in found])
        assert {"90.79", "88.09"} <= {text.get_text() for text in figure.axes[0].texts}
        figures.rendered(figure, "png")

    def test_figure_9_divides_both_methods_by_one_number_a_hint(self, runs):
        figure = figures.draw(targets.TARGETS["figure9"], runs)
        drawn = {line.get_label(): line.get_xydata() for line in figure.axes[0].get_lines()}
        folder = runs.folder / "cifar10/scale3e-05-seed1"
        concurrent = records.read_log(folder / "r26-r8-concurrent-hint+batch=16")[0]
        start = 0
        for i in (1, 2, 3):
            log = records.read_log(folder / f"r26-r8-layerwise-hint{i}+batch=16")
            assert drawn[f"hint {i}, concurrent"][0][1] == 1
            x, y = drawn[f"hint {i}, layer-wise"][0]
            assert y == pytest.approx(log[0]["loss"] / concurrent[f"hint{i}"]) and x == start + log[0]["iteration"]
            start += log[-1]["iteration"]
        figures.rendered(figure, "svg")

    def test_figure_4_is_the_mean_of_the_nets(self, runs):
        figure = figures.draw(targets.TARGETS["figure4"], runs)
        (line,) = (x for x in figure.axes[0].get_lines() if x.get_label() == "Hint-KD: test loss")
        folder = runs.folder / "cifar10/scale3e-05-seed1"
        losses = [records.read_log(folder / f"r14-r8-hint-kd-net{n}+batch=16")[-1]["test_loss"] for n in (1, 2, 3)]
        assert line.get_ydata()[-1] == pytest.approx(statistics.mean(losses))
        figures.rendered(figure, "png")


class TestClaims:
    def verdict(self, found, text):
        return next(v for v in found if v.claim.place + ": " + v.claim.text == text)

    def test_what_was_measured_is_signed_as_the_claim(self, runs):
        found = claims.check([View(runs)])
        v = self.verdict(found, "table4: SL-ResNet > Hint-KD")  # of errors: the smaller one is better
        assert v.paired.mean == pytest.approx(v.measured) and v.paired.n == 3 and v.scales == (3e-05,)
        lines = {x.row.method: x for x in tables.lines(targets.TARGETS["table4"], runs)}
        sl, hint = lines["sl-resnet"].values(), lines["hint-kd"].values()
        assert v.measured == pytest.approx(statistics.mean(hint) - statistics.mean(sl))
        assert v.reported == pytest.approx(0.56 - 0.49667, abs=1e-4) and v.nets == (3, 3)
        kd = lines["kd"].values()
        for text, better, worse in (
            ("table4: SL-ResNet > Hint-KD", sl, hint),
            ("table3: Hint-KD > KD without hints", hint, kd),
        ):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # where one of the two has no spread
                p = stats.ttest_ind(better, worse, equal_var=False, alternative="less").pvalue
            none = len({*better}) == len({*worse}) == 1
            assert self.verdict(found, text).p == (None if none else pytest.approx(p))

    def test_hint_losses_are_compared_one_by_one(self, runs):
        folder = runs.folder / "cifar10/scale3e-05-seed1"
        concurrent = records.read_log(folder / "r26-r8-concurrent-hint+batch=16")[-1]
        own = records.read_log(folder / "r26-r8-layerwise-hint2+batch=16")[-1]
        (v,) = (v for v in claims.check([View(runs)]) if v.claim.pair == 2)
        assert v.measured == pytest.approx(concurrent["test_hint2"] - own["test_loss"]) and v.p is None

    @pytest.mark.parametrize(
        ("measured", "p", "corrected", "outcome"),
        [
            (None, None, None, Outcome.NOT_RUN),
            (0.5, 0.01, 0.04, Outcome.HOLDS),
            (0.5, 0.01, 0.06, Outcome.BEFORE_CORRECTION),
            (0.5, 0.3, 0.6, Outcome.WITHIN_SPREAD),
            (0.5, None, None, Outcome.NO_TEST),
            (-0.5, 0.9, 1.0, Outcome.OTHER_ORDER),
            (0.0, None, None, Outcome.EQUAL),
        ],
    )
    def test_the_outcome(self, measured, p, corrected, outcome):
        assert claims.Verdict(claims.CLAIMS[0], None, measured, (3, 3), p, corrected).outcome is outcome

    def test_the_claims_of_one_table_are_one_family_of_tests(self, runs):
        found = claims.check([View(runs)])
        for place in {v.claim.place for v in found}:
            same = [v for v in found if v.claim.place == place]
            assert [v.p_holm for v in same] == significance.holm([v.p for v in same]), place
        tested = [v for v in found if v.p is not None]
        assert tested and any(v.p_holm > v.p for v in tested)

    def test_what_is_counted_below_is_what_stands_above(self, runs):
        found = claims.check([View(runs)])
        holds, run = (sum(f(v) for v in found) for f in (lambda v: v.outcome is Outcome.HOLDS, lambda v: v.run))
        below = " ".join(claims.sheet(found).foot)
        assert (
            f"{len(found)} claims, {run} of them run, 0 at the paper's number" in below and f"; {holds} hold" in below
        )

    def test_where_the_papers_own_numbers_say_otherwise_it_shows(self):
        """Table 1: KD without hints ends below the student alone in the paper too."""
        row = targets.row("table1", "cifar10-r26-r14", "kd")
        assert row.reported_mean < targets.row("table1", "cifar10-r26-r14", "baseline").reported_mean

    def test_the_command(self, paper_runs):
        done = command(MAKE, "--check", "--runs", paper_runs[0] / "runs", check=0)
        rows = [line for line in done.stdout.splitlines() if line.startswith("| ")][2:]
        not_run = 4 + 1 + 3 + 4 + 2 + 14  # table 2, Hint-KD+ of table 3, table 6, figures 5 and 10, FSP's
        assert len(rows) == len(claims.CLAIMS) and sum("not run" in row for row in rows) == not_run
        assert (
            "| 3e-05 | batch=16, not the official images |" in done.stdout
            and "cannot give p below 0.125" in done.stdout
        )


# --- what is refused ----------------------------------------------------------------------------------------------------------


class TestRefused:
    def make(self, runs, tmp_path, *more):
        return command(MAKE, "--runs", runs, "--out", tmp_path / "out", *more)

    def test_two_scales_in_one_cell(self, copy, lmdbs, tmp_path):
        """A real second run at another scale: both are named, and one can be chosen."""
        words = ["--experiment", "mnist-r32-r8", "--stage", "baseline", "--net", "1", "--set", "batch=16"]
        where = ["--data", lmdbs / "mnist", "--runs", copy]
        command(RUN, *words, *where, "--scale", "0.0001", check=0)
        done = self.make(copy, tmp_path, "table4")
        one_line(
            done, "Table 4, student alone", "scale3e-05-seed1/r8-baseline-net1", "scale0.0001-seed1/r8-baseline-net1"
        )
        one_line(done, "differ in scale", "--scale")
        assert not (tmp_path / "out").exists()
        assert self.make(copy, tmp_path, "table4", "--scale", "0.00003").returncode == 0
        row = next(csv.DictReader((tmp_path / "out/table4.csv").open()))
        assert row["scale"] == "3e-05"

    def test_two_settings_in_one_cell(self, copy, lmdbs, tmp_path):
        words = ["--experiment", "mnist-r32-r8", "--stage", "kd", "--method", "kd", "--net", "1", "--scale", "0.00003"]
        where = ["--data", lmdbs / "mnist", "--runs", copy]
        command(RUN, *words, "--set", "batch=16", "--set", "lambda_kd=3", *where, check=0)
        done = self.make(copy, tmp_path, "table4")
        one_line(done, "differ in settings", "lambda_kd=3", "--set", "r32-r8-kd-net1+batch=16 ", "+lambda_kd=3")
        chosen = ["--set", "batch=16", "--set", "lambda_kd=3"]
        assert self.make(copy, tmp_path, "table4", *chosen).returncode == 0
        text = (tmp_path / "out/table4.md").read_text()
        # What lambda_kd does not reach is the same run; what it reaches and was not run with it is a dash.
        assert "| KD without hints (scale 3e-05, batch=16, lambda_kd=3, not the official images) |" in text
        assert "| student alone, 8 layers (scale 3e-05, batch=16, not the official images) |" in text
        assert "| Hint-KD | 0.52, 0.54, 0.62 | 0.560 | - | - |" in text

    def test_a_setting_that_does_not_reach_a_stage_is_no_difference(self, copy, tmp_path):
        """The student alone is shared by experiments; hint layers that one of them was asked with are not its own."""
        folder = stage(copy, "r8-baseline-net1*", "cifar10")
        settings = records.read_record(folder)["settings"]
        rewrite(folder, settings={**settings, "hint_layers": ["1.3", "2.3", "3.3"]})
        assert self.make(copy, tmp_path, "figure7").returncode == 0

    def test_two_engines_in_one_cell(self, copy, tmp_path):
        rewrite(stage(copy, "r32-r8-kd-net2*"), engine="another")
        one_line(self.make(copy, tmp_path, "table4"), "differ in engine (caffe; another)", "net1", "net2", "--engine")

    def test_two_data_sets_in_one_cell(self, copy, tmp_path):
        folder = stage(copy, "r32-r8-kd-net2*")
        digests = records.read_record(folder)["digests"]
        rewrite(folder, digests={**digests, "pixels": "0" * 64})
        one_line(self.make(copy, tmp_path, "table4"), "differ in images", "net1", "net2")

    def test_a_record_edited_by_hand(self, copy, tmp_path):
        path = stage(copy, "r32-r8-kd-net2*") / "record.json"
        path.write_text(path.read_text().replace('"best": ', '"best": 9'))
        one_line(self.make(copy, tmp_path), path, "edited or damaged")

    @pytest.mark.parametrize("cut", ["missing", "short"])
    def test_a_folder_copied_by_half(self, copy, tmp_path, cut):
        log = stage(copy, "r32-r8-kd-net2*") / "log.jsonl"
        if cut == "missing":
            log.unlink()
        else:
            log.write_bytes(log.read_bytes()[:-20])
        one_line(self.make(copy, tmp_path, "table4"), log, "copied by half" if cut == "short" else "is missing")

    def test_a_record_cut_short(self, copy, tmp_path):
        path = stage(copy, "r32-r8-kd-net2*") / "record.json"
        path.write_bytes(path.read_bytes()[:-30])
        one_line(self.make(copy, tmp_path, "table4"), path, "damaged")

    def test_a_folder_in_the_place_of_another(self, copy, tmp_path):
        one, two = (stage(copy, f"r32-r8-kd-net{n}*") for n in (1, 2))
        shutil.rmtree(two)
        shutil.copytree(one, two)
        one_line(self.make(copy, tmp_path, "table4"), two, "renamed or copied", "r32-r8-kd-net1")

    def test_a_student_of_another_teacher_than_the_one_beside_it(self, copy, tmp_path):
        folder = stage(copy, "r32-teacher*")
        digests = records.read_record(folder)["digests"]
        rewrite(folder, digests={**digests, records.FINAL: "0" * 64})
        one_line(self.make(copy, tmp_path, "table4"), "started from another r32-teacher")

    def test_what_was_set_aside_or_not_finished_is_no_run(self, copy, tmp_path):
        folder = stage(copy, "r32-r8-kd-net2*")
        shutil.copytree(folder, folder.with_name(folder.name + ".before-1"))
        (stage(copy, "r32-r8-kd-net3*") / "record.json").unlink()
        assert self.make(copy, tmp_path, "table4").returncode == 0
        row = next(x for x in csv.DictReader((tmp_path / "out/table4.csv").open()) if x["method"] == "kd")
        assert row["n"] == "2" and row["net2_last"] and not row["net3_last"]

    def test_a_damaged_record_elsewhere_is_no_matter_of_this_table(self, copy, tmp_path):
        (stage(copy, "r26-r14-kd-net2*") / "record.json").write_text("{")
        assert self.make(copy, tmp_path, "table4").returncode == 0
        one_line(self.make(copy, tmp_path), "damaged")

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["table7"], ["unknown table or figure 'table7'", "did you mean"]),
            (["--engine", "theano"], ["unknown engine 'theano'"]),
            (["--scale", "2"], ["--scale 2.0"]),
            (["--set", "tua=3"], ["unknown setting 'tua'", "did you mean tau?"]),
            (["--experiment", "cifar11"], ["unknown experiment 'cifar11'"]),
            (["--runs", "/nonexistent"], ["/nonexistent is not there", "--runs"]),
            (["--cost", "--rate", "0"], ["--rate 0.0"]),
            (["--cost", "--nets", "4"], ["--nets 4"]),
            (["--colour"], ["--colour"]),
            (["--experiment", ""], ["--experiment ''"]),
            (["--check", "--cost"], ["--check and --cost do not go together"]),
            (["--check", "table1"], ["table1 does not go with --check", "--scale"]),
            (["--check", "--nets", "2"], ["--nets does not go with --check"]),
            (["--experiment", "cifar10-r14-r8", "table1"], ["table1 does not go with --experiment"]),
            (["table1", "--nets", "2"], ["--nets is of --cost"]),
            (["--rate", "2"], ["--rate is of --cost"]),
            (["--cost", "--jobs", "2"], ["--jobs", "--measure"]),
            (["--cost", "--seed", "2"], ["--seed does not go with --cost"]),
            (["--cost", "--measure", "--rate", "2"], ["--rate", "--measure"]),
        ],
    )
    def test_a_wrong_argument_is_one_line(self, words, said, tmp_path):
        (tmp_path / "runs").mkdir()
        where = [] if "--runs" in words else ["--runs", tmp_path / "runs"]
        one_line(command(MAKE, *words, *where, "--out", tmp_path / "out"), *said)

    def test_what_is_measured_has_one_place(self, tmp_path):
        for words in (["--out", tmp_path], ["--scale", "1"], ["table1"]):
            one_line(command(MAKE, "--measured", tmp_path, *words), "does not go with --measured", words[0])
        one_line(command(MAKE, "--collect", tmp_path), "--collect is of --measured FOLDER")

    def test_a_folder_that_is_not_used_is_a_note(self, tmp_path):
        done = command(MAKE, "--cost", "figure9", "--out", tmp_path, check=0)
        assert done.stderr == "note: --cost does not use --out\n"


# --- costs --------------------------------------------------------------------------------------------------------------------


class TestCost:
    @pytest.mark.parametrize("name", ["cifar10-r26w32-r14", "cifar100-r20-r8", "mnist-r32-r8"])
    def test_multiply_adds_are_those_of_caffes_own_blobs(self, name, tmp_path):
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

    def test_a_teacher_inside_costs_its_forward_pass_once(self):
        e = experiments.experiment("cifar10-r26-r14")
        teacher, student = (cost.multiply_adds(a, e.facts, classes=10) for a in (e.teacher, e.student))
        assert cost.of_iteration(planned(e, "kd", "kd")) == 128 * (teacher + 3 * student)
        assert cost.of_iteration(planned(e, "", "teacher")) == 128 * 3 * teacher
        step1 = cost.of_iteration(planned(e, "layerwise", "hint", 1))
        assert step1 == 128 * (
            cost.multiply_adds(e.teacher, e.facts, (1, 4)) + 3 * cost.multiply_adds(e.student, e.facts, (1, 2))
        )

    def test_every_target_and_all_together(self):
        done = command(MAKE, "--cost", "--rate", "20", check=0)
        assert "| Table 1 | 21 | 1,099,000 |" in done.stdout
        assert all(f"| {target.label} | " in done.stdout for target in targets.TARGETS.values())
        papers = next(x for x in done.stdout.splitlines() if x.startswith("| all of the above"))
        assert papers.startswith("| all of the above, each stage once | 229 | 10,153,000 |")
        assert f"{10_153_000 / 20 / 3600:.1f} |" in papers
        # Table 1: teacher, three students alone, and nine of KD; 25,000 iterations of hints three times.
        assert 64_000 * (1 + 3 + 4 * 3) + 3 * 25_000 == 1_099_000

    def test_scale_and_nets(self):
        done = command(MAKE, "--cost", "--scale", "0.01", "--nets", "1", check=0)
        assert "| Figure 9 | 5 | 1,140 |" in done.stdout and "| Table 1 | 11 |" in done.stdout
