"""Tables that no paper has, from the measured runs: two readings of the softened term and of SL-ResNet's stage 2, two engines, and
every run that was made."""

import statistics
from collections import defaultdict

from hkd.paper import stated
from hkd.paper.settings import number_text
from hkd.results import significance
from hkd.results.condition import NOT_OFFICIAL
from hkd.results.differences import net_by_net
from hkd.results.lines import NETS, line_of, nets_text
from hkd.results.rows import TITLES, rows_of
from hkd.results.sheet import DASH, mean_sd, sheet_of
from hkd.results.significance import p_text
from hkd.stages import records


def softened_term(kept):
    """KD with the softened term as equation (2) has it, and multiplied by tau squared, as a Sheet."""
    rows, axis = [], stated.FIGURE_4_TEST_LOSS
    for length in kept.lengths:
        plain, multiplied = kept.view(length).runs, kept.view(length, "kd_tau_squared=true").runs
        for row in rows_of("kd"):
            for runs, words in ((plain, "lambda"), (multiplied, "lambda tau squared")):
                line = line_of(runs, row)
                if line.done:
                    ends = [[log for log in run.log if "test_loss" in log][-1] for run in line.done]
                    losses = [mean_sd([end[key] for end in ends], 3) for key in _TEST_LOSSES]
                    rows.append(
                        (row.experiment, _length(length), words, *losses, mean_sd(line.values()), len(line.done))
                    )
    return sheet_of(
        "KD with the weight of equation (2), and with tau squared",
        ("experiment", "scale", "weight of the softened term", *_TEST_LOSSES.values(), "Pc (%)", "n"),
        rows,
        "Mean ± standard deviation of the nets at their last iterate. The test loss is that of the log: hard term plus weight "
        "times softened term; the two terms beside it are without weight. The axis of the paper's Figure 4 goes from "
        f"{axis[0]} to {axis[1]}.",
    )


_TEST_LOSSES = {"test_loss": "test loss", "test_hard": "hard term", "test_soft": "softened term"}


def sl_resnet_fc(kept):
    """SL-ResNet with a fresh fully connected layer in stage 2, and with that of the last growing network, as a Sheet."""
    rows = []
    for length in kept.lengths:
        fresh, old = kept.view(length).runs, kept.view(length, "sl_fc=kept").runs
        for row in rows_of("sl-resnet", "sl-resnet-kd"):
            for runs, words in ((fresh, "fresh"), (old, "kept")):
                line = line_of(runs, row)
                if line.done:
                    mean = mean_sd(line.values())
                    rows.append((row.experiment, _length(length), row.heading, words, nets_text(line), mean))
    return sheet_of(
        "SL-ResNet with a fresh FC layer in stage 2, and with the last growing network's",
        ("experiment", "scale", "method", "FC layer", "Pc (%), its nets", "mean ± sd"),
        rows,
        "The nets of one experiment share the growing networks. Where nothing is drawn at random, neither crops nor the FC "
        "layer, they are one net.",
    )


def engines(kept):
    """The same method in another engine than that of the tables, net beside net, as a Sheet."""
    pairs = _of_two_engines(kept)
    ps = [_p_between(other, own) for *_, other, own in pairs]
    rows = [
        (
            other.row.experiment,
            _length(length),
            other.row.heading,
            engine,
            *_beside(other, own),
            p_text(p),
            p_text(p_holm),
        )
        for (length, engine, other, own), p, p_holm in zip(pairs, ps, significance.holm(ps), strict=True)
    ]
    return sheet_of(
        "The same stages in another engine, beside that of the tables",
        (
            "experiment", "scale", "method", "engine", "Pc (%), its nets", "beside", "Pc (%), nets of that", "mean ± sd",
            "difference", "in sd", "paired ± sd", "p", "p, Holm",
        ),
        rows,
        "Difference: the engine's mean less that of the one beside it; in sd: divided by the standard deviation of the latter's nets; "
        "paired: net by net. p: two-sided Student's t-test with one variance for both, which takes a single net too; p, Holm: corrected "
        "for all tests of this table. The nets of one engine share stage 1. torch-after-ENGINE: torch from the stage 1 that ENGINE "
        f"trained. {significance.sign_flip_bound(NETS)}",
    )  # fmt: skip


def _of_two_engines(kept):
    """[((scale, seed), engine, its Line, the Line of the tables)] of every row that an engine beside that of the tables has."""
    found = []
    for length in kept.lengths:
        tables = kept.view(length).runs
        for engine, runs in kept.others(length):
            pairs = [(line_of(runs, row), line_of(tables, row)) for row in rows_of(*TITLES)]
            found += [(length, engine, other, own) for other, own in pairs if other.done]
    return found


def precision(kept):
    """Nets of the torch engine in bfloat16 and in float32 that start from the same teacher and stage 1, as a Sheet."""
    rows = []
    for length in kept.lengths:
        half, full = (kept.of_engine(name, length) for name in ("torch-bf16", "torch-after-torch-bf16"))
        for row in rows_of(*TITLES):
            bf16, fp32 = line_of(half, row), line_of(full, row)
            apart = significance.paired(net_by_net(bf16, fp32))
            if apart:
                nets = (nets_text(bf16), nets_text(fp32))
                rows.append((row.experiment, _length(length), row.heading, *nets, apart.text(2), apart.n))
    return sheet_of(
        "bfloat16 and float32 from the same stage 1",
        ("experiment", "scale", "method", "Pc (%), bf16", "Pc (%), fp32", "difference, mean ± sd", "n"),
        rows,
        "Difference: bf16 less fp32, net by net; a net has the same crops and the same fresh weights in both. Teacher and stage 1 were "
        "trained in bf16.",
    )


def _length(length):
    """Scale and seed of a row, the seed where it is not the usual one."""
    scale, seed = length
    return number_text(scale) + ("" if seed == 1 else f", seed {seed}")


def _beside(other, own):
    """The columns of `engines` from the nets of the one Line to their difference from the other; dashes where that was not run."""
    if not own.done:
        return (nets_text(other), *[None] * 6)
    difference = statistics.mean(other.values()) - statistics.mean(own.values())
    spread = statistics.stdev(own.values()) if len(own.done) > 1 else 0
    apart = significance.paired(net_by_net(other, own))
    return (
        nets_text(other),
        own.engine,
        nets_text(own),
        mean_sd(own.values()),
        f"{difference:+.2f}",
        f"{difference / spread:+.1f}" if spread else None,
        apart and apart.text(2),
    )


def _p_between(other, own):
    """p between the nets of two engines, None where one has none or nets that are one."""
    if not own.done or other.repeated or own.repeated:
        return None
    return significance.student(other.values(), own.values())


def every_run(folder):
    """Every record under records/ENGINE, one line a stage, as a Sheet: nothing that was measured is left out."""
    rows, seconds = [], defaultdict(float)
    for path in sorted(folder.glob("*/*/*/*/record.json")):
        record, engine = records.read_record(path.parent), path.relative_to(folder).parts[0]
        seconds[engine] += record["seconds"]
        rows.append(_run(path.parent, engine, record))
    hours = ", ".join(f"{engine} {total / 3600:.1f} hours" for engine, total in sorted(seconds.items()))
    return sheet_of(
        "Every run that was made",
        (
            "stage", "engine", "iterations", "Pc last (%)", "Pc best (%)", "test loss", "seconds", "sessions", "version", "weights",
        ),
        rows,
        f"{len(rows)} stages; {hours}, on shared cores. Sessions: how often it was started until it was finished. Version: "
        f"the commit of this project. Weights: the head of the sha256 of {records.FINAL}.",
    )  # fmt: skip


def _run(folder, engine, record):
    """The line of a stage in `every_run`."""
    Pc = (f"{record['Pc']['last']:.2f}", f"{record['Pc']['best']:.2f}") if record["Pc"] else (DASH, DASH)
    return (
        "/".join(folder.parts[-3:]),
        engine if record.get("official_data", True) else f"{engine}, {NOT_OFFICIAL}",
        f"{record['iterations']:,}",
        *Pc,
        f"{record['test_loss']:.4g}",
        f"{record['seconds']:,.0f}",
        str(record["sessions"]),
        record["versions"]["hkd-caffe"] or "unknown",
        record["digests"][records.FINAL][:12],
    )
