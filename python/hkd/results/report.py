"""One self-contained page of everything that was measured: claims, tables, figures, learning curves, and every stage."""

import base64
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import jinja2

from hkd.paper import experiments
from hkd.paper.methods import METHODS
from hkd.paper.settings import number_text
from hkd.results import claims, figures, network_drawing, tables, targets
from hkd.results.runs import Run, notes
from hkd.results.sheet import html
from hkd.stages import records
from hkd.stages.stage import NETS, Stage, planned

TEMPLATE = Path(__file__).with_name("report.html.j2")


@dataclass(frozen=True)
class Trained:
    """A stage of the report: what nets 1 to 3 share, its picture, and a Run for each net (one where all share it)."""

    stage: Stage
    runs: tuple[Run, ...]
    picture: str

    @property
    def title(self):
        return f"{self.stage.experiment.facts.title}, {self.stage.stem}"


def page(runs):
    """The page as HTML, from `runs` (runs.Runs). Without a finished stage it says so."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["number"] = lambda value: "-" if value is None else f"{value:g}"
    template = environment.from_string(TEMPLATE.read_text())
    trained = _trained(runs)
    return template.render(
        claims=html(claims.sheet(claims.check(runs))),
        tables=[_table(target, runs) for target in targets.TARGETS.values() if target.form == "table"],
        figures=[_figure(target, runs) for target in targets.TARGETS.values() if target.form != "table"],
        curves=[curve for e in experiments.EXPERIMENTS.values() if (curve := _curve(e, runs))],
        trained=trained,
        count=sum(len(t.runs) for t in trained),
        conditions=_conditions(trained),
        notes=notes(run for t in trained for run in t.runs),
        FINAL=records.FINAL,
    )


def _table(target, runs):
    return {"name": target.name, "label": target.label, "html": html(tables.sheet(target, tables.lines(target, runs)))}


def _figure(target, runs):
    found = [] if target.form == "hint losses" else tables.lines(target, runs)
    means = [f"{line.row.heading}: {tables.mean_sd(line.values())} %" for line in found if line.done]
    return {
        "name": target.name,
        "label": target.label,
        "title": f"{target.label}. {target.title}",
        "image": _image(figures.rendered(figures.draw(target, runs), "svg")),
        "words": "; ".join(means) or ("" if target.form == "hint losses" else "Nothing of it was run."),
    }


def _curve(experiment, runs):
    """The learning curves of one experiment, or None where nothing of it was run."""
    found = [line for line in tables.comparison(experiment.name, runs) if line.done]
    if not any(line.row.method not in ("", "baseline") for line in found):
        return None
    title = (
        f"{experiment.facts.title}, {experiment.teacher.depth} to {experiment.student.depth} layers ({experiment.name})"
    )
    ends = [
        (line.heading, tables.mean_sd(line.values()), tables.mean_sd(line.values("best")), len(line.done))
        for line in found
    ]
    image = _image(figures.rendered(figures.accuracy_curves(title, found, wide=True), "svg"))
    return {"name": experiment.name, "title": title, "image": image, "ends": ends}


def _image(svg):
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def _trained(runs):
    """Every finished stage that an experiment knows, nets 1 to 3 together, in the order in which they are trained."""
    found = {}
    for experiment in experiments.EXPERIMENTS.values():
        for method in ("", *METHODS):
            for stage in _stages(experiment, method):
                same = tuple(runs.of(stage))
                if same:
                    found.setdefault((stage.experiment.dataset, stage.stem, stage.net), (stage, same))
    grouped = groupby(found.items(), key=lambda item: item[0][:2])
    return [_one([value for _, value in group]) for _, group in grouped]


def _stages(experiment, method):
    """The teachers for method '', else each stage of the method, each net of it."""
    if not method:
        return [planned(experiment, "", "teacher", net=net) for net in NETS]
    parts = METHODS[method]
    stages = [
        planned(experiment, method, p.kind, p.step or None, net) for p in parts for net in range(1, tables.NETS + 1)
    ]
    return list(dict.fromkeys(stages))


def _one(found):
    runs = tuple(run for _, same in found for run in same)
    stage = runs[0].stage
    network = stage.network("data", stage.experiment.facts.test_images)
    return Trained(stage, runs, _image(network_drawing.svg(network)))


def _conditions(trained):
    """What the runs were made with, each thing once."""
    every = [run for t in trained for run in t.runs]
    of = {
        "engine": [tables.engine(run.record) for run in every],
        "hardware": [run.record.get("hardware", "not recorded") for run in every],
        "scale": [number_text(run.condition.scale) for run in every],
        "seed": [str(run.condition.seed) for run in every],
        "version": [run.record["versions"]["hkd-caffe"] or "unknown" for run in every],
    }
    return {name: ", ".join(dict.fromkeys(values)) for name, values in of.items() if values}
