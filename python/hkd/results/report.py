"""One self-contained page of everything that was measured: claims, tables, figures, learning curves, and every stage."""

import base64
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import jinja2
from markupsafe import Markup

from hkd.paper.methods import METHODS
from hkd.paper.settings import number_text
from hkd.results import (
    canvas,
    claims,
    experiment_table,
    figures,
    learning_curves,
    lines,
    network_drawing,
    tables,
    targets,
)
from hkd.results.condition import notes
from hkd.results.runs import Run
from hkd.results.sheet import html, mean_sd
from hkd.results.views import every_experiment, names_of
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
        """The heading of the stage: its data set and its stem."""
        return f"{self.stage.experiment.facts.title}, {self.stage.stem}"


def page(views):
    """The page as HTML, from [views.View], the longest first. Without a finished stage it says so."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["number"] = lambda value: "-" if value is None else f"{value:g}"
    template = environment.from_string(TEMPLATE.read_text())
    trained = _trained(views)
    of = targets.TARGETS.values()
    return template.render(
        claims=html(claims.sheet(claims.check(views))),
        tables=[_table(target, views) for target in of if target.form == "table"],
        figures=[one for target in of if target.form != "table" for one in _figures(target, views)],
        curves=[curve for e in every_experiment(views) for curve in _curves(e, views)],
        trained=trained,
        count=sum(len(t.runs) for t in trained),
        conditions=_conditions(trained),
        notes=notes(run for t in trained for run in t.runs),
        FINAL=records.FINAL,
    )


def _table(target, views):
    found = lines.sections(views, lambda runs: lines.of_target(target, runs))
    sheets = [html(tables.sheet(target, same, view.words)) for view, same in found]
    return {"name": target.name, "nav": target.label, "html": Markup("\n").join(sheets)}


def _figures(target, views):
    """The pictures of a figure, one for each length; the first has the figure's own name."""
    return [_figure(target, view, name) for name, view in names_of(target.name, figures.sections(target, views))]


def _figure(target, view, name):
    found = [] if target.form == "hint losses" else lines.of_target(target, view.runs)
    means = [f"{line.heading}: {mean_sd(line.values())} %" for line in found if line.done]
    return {
        "name": name,
        "nav": target.label if name == target.name else f"{target.label}, {view.name}",
        "title": f"{target.label}. {target.title}" + (f": {view.words}" if view.words else ""),
        "image": _image(figures.picture(target, view.runs, "svg")),
        "words": "; ".join(means) or ("" if target.form == "hint losses" else "Nothing of it was run."),
    }


def _curves(experiment, views):
    """The learning curves of one experiment, for each length; none where nothing of it was run."""
    found = lines.sections(views, lambda runs: experiment_table.lines(experiment.name, runs))
    drawn = {view: [line for line in same if line.done] for view, same in found}
    taught = [view for view, same in drawn.items() if any(line.row.method not in ("", "baseline") for line in same)]
    return [_curve(experiment, view, drawn[view], name) for name, view in names_of(experiment.name, taught)]


def _curve(experiment, view, found, name):
    title = (
        f"{experiment.facts.title}, {experiment.teacher.depth} to {experiment.student.depth} layers ({experiment.name})"
    ) + (f": {view.words}" if view.words else "")
    ends = [
        (line.short_heading, mean_sd(line.values()), mean_sd(line.values("best")), len(line.done)) for line in found
    ]
    image = _image(canvas.rendered(learning_curves.accuracy_curves(title, found, wide=True), "svg"))
    return {"name": name, "title": title, "image": image, "ends": ends}


def _image(svg):
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def _trained(views):
    """Every finished stage that an experiment knows, nets 1 to 3 together, in the order in which they are trained."""
    found = {}
    for experiment in every_experiment(views):
        for method in ("", *METHODS):
            for stage in _stages(experiment, method):
                same = tuple(run for view in views for run in view.runs.of(stage))
                if same:
                    found.setdefault((stage.experiment.dataset, stage.stem, stage.net), (stage, same))
    grouped = groupby(found.items(), key=lambda item: item[0][:2])
    return [_one([value for _, value in group]) for _, group in grouped]


def _stages(experiment, method):
    """The teachers for method '', else each stage of the method, each net of it."""
    if not method:
        return [planned(experiment, "", "teacher", net=net) for net in NETS]
    parts = METHODS[method]
    stages = [planned(experiment, method, p.kind, p.step or None, net) for p in parts for net in NETS]
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
