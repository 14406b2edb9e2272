"""Trains one stage of one experiment, and before it every stage that it needs.

python python/run_stage.py --stage hint --step 2
python python/run_stage.py --experiment cifar10-r14-r8 --method kd --stage kd --net 2 --scale 0.01
python python/run_stage.py --status
"""

import math
import sys
from argparse import ArgumentTypeError, BooleanOptionalAction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from hkd.base.cli import Parser, UserError, default_folder, run, use_project_python

if __name__ == "__main__":
    use_project_python()

from hkd.engines import choice
from hkd.paper import datasets, experiment_file, experiments, methods
from hkd.stages import own_data
from hkd.stages.given import files
from hkd.stages.given import options as given_options
from hkd.stages.stage import NETS, lineage, planned
from hkd.training import curves, driver, plan


def parser():
    p = Parser(description="Train one stage of one experiment, and before it every stage that it needs.")
    p.add_argument(
        "--experiment",
        default=None,
        help="one of --list; any pair, as cifar10-r56-r20 or cifar100-r32w64-r14w32 (w: channels of the first stack); DATASET-to-EXPERIMENT; "
        f"or a TOML file; default {experiments.DEFAULT}",
    )
    p.add_argument(
        "--method",
        default=None,
        help=f"{', '.join(methods.METHODS)}; default: the one that has the stage, else {methods.DEFAULT}",
    )
    p.add_argument("--stage", default="kd", choices=methods.KINDS, help="default kd")
    p.add_argument("--step", type=int, help="of stage hint: 1, 2 or 3; default: the last")
    p.add_argument(
        "--net",
        type=_number_or_all("1, 2, 3 or all"),
        default=1,
        help="replicate 1, 2, 3, or all, one after another (hint steps are shared by all)",
    )
    p.add_argument(
        "--scale", type=float, default=1.0, help="multiplies every number of iterations; recorded; default 1"
    )
    p.add_argument("--seed", type=int, default=1, help="default 1")
    p.add_argument(
        "--set", action="append", default=[], metavar="SETTING=VALUE", help="change a setting; may be repeated"
    )
    p.add_argument(
        "--runs", type=Path, default=default_folder("runs"), help="where stages are kept; default $HKD_RUNS, else runs"
    )
    p.add_argument("--data", type=Path, help="folder of the LMDBs; default NAME in $HKD_DATA, else in data")
    p.add_argument("--teacher-data", type=Path, help="the same of a teacher that was trained on another data set")
    p.add_argument(
        "--teacher-weights",
        action="append",
        metavar="FILE|NAME",
        help=f"a teacher that was trained elsewhere ({', '.join(files.SUFFIXES)}) or is kept in results/weights",
    )
    where = p.add_mutually_exclusive_group()
    where.add_argument("--cpu", action="store_true", help="use the CPU even if there is a GPU")
    where.add_argument(
        "--gpu",
        type=_number_or_all("a number or all"),
        metavar="N|all",
        help="use GPU N, or divide each batch over all of them",
    )
    p.add_argument("--threads", type=int, help="threads on the CPU; default: OMP_NUM_THREADS, else all cores")
    p.add_argument("--snapshot-seconds", type=float, default=60.0, help="time between snapshots; default 60")
    p.add_argument("--engine", choices=choice.ENGINES, help="what computes; default caffe, torch where no pycaffe is")
    p.add_argument(
        "--precision",
        default="fp32",
        choices=(*choice.PRECISIONS, choice.AUTO),
        help="of --engine torch; auto: bf16 where this CPU is faster with it; default fp32",
    )
    p.add_argument(
        "--memo",
        action=BooleanOptionalAction,
        help="keep a teacher's answers beside it, on the CPU with --engine torch; default: where they fit 1 GiB",
    )
    p.add_argument("--wait", action="store_true", help="wait for a stage that another process is training")
    p.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    p.add_argument(
        "--prepare", action="store_true", help="write the stage's three files for a stock `caffe train`, and stop"
    )
    p.add_argument("--status", action="store_true", help="a table of what is in --runs")
    p.add_argument("--watch", action="store_true", help="of --status: keep the table up to date, until Ctrl-C")
    p.add_argument(
        "--log-to", choices=curves.KINDS, help="also write the log's curves, for TensorBoard, beside log.jsonl"
    )
    p.add_argument(
        "--list", action="store_true", help="the experiments; any other pair can be named too, as mnist-r14-r8"
    )
    given_options.add(p)
    p.add_argument("-v", "--verbose", action="store_true", help="show Caffe's own log (always kept in caffe.log)")
    return p


def _number_or_all(expected):
    """An argparse type: a whole number, or the word all."""

    def read(text):
        if text != "all" and not text.isdecimal():
            raise ArgumentTypeError(f"{text}: expected {expected}")
        return text if text == "all" else int(text)

    return read


def main():
    options = parser().parse_args()
    if options.list:
        return list_experiments()
    if options.watch and not options.status:
        raise UserError("--watch is of --status: add that, or leave it out")
    if options.status:
        return show_status(options)
    check(options)
    for folder in (options.data, options.teacher_data):
        datasets.declare_in(folder)
    given = given_weights(options)
    stages = asked_stages(options, given)
    how = asked_way(options, given)
    for note in experiments.notes(stages[0].experiment):
        print(f"note: {note}", file=sys.stderr)
    for text in dict.fromkeys(plan.idle_changes(stages)):
        print(f"note: --set {text} changes nothing of these stages", file=sys.stderr)
    for stage in dict.fromkeys(stages):  # a shared stage is the same for every net
        code = driver.run_stage(stage, how, options.dry_run, options.prepare)
        if code:
            return code
    return 0


def check(options):
    """Raises UserError for what no stage could use."""
    if not (math.isfinite(options.snapshot_seconds) and options.snapshot_seconds >= 0):
        raise UserError(f"--snapshot-seconds {options.snapshot_seconds}: expected 0 or more")
    for option, folder in (
        ("--runs", options.runs),
        ("--data", options.data),
        ("--teacher-data", options.teacher_data),
    ):
        check_name(option, folder)


def asked_stages(options, given):
    """The Stages that the command line names, a net each. given: the Given of --teacher-weights, or None."""
    asked = asked_for(options)
    chosen = experiments.experiment(asked.experiment, asked.settings)
    if options.teacher_data and not chosen.teacher_dataset:
        raise UserError(
            f"--teacher-data {options.teacher_data}: the teacher of {chosen.name} has the student's data, use --data"
        )
    if given:
        chosen = given_options.taught_by(given, chosen)
    method = options.method or asked.default_method(options.stage)
    if options.stage == "teacher" and method not in methods.METHODS:
        methods.find(method, "kd", None)  # says what is wrong with the name
    nets = NETS if options.net == "all" else (options.net,)
    stages = [planned(chosen, method, options.stage, options.step, net, options.scale, options.seed) for net in nets]
    if given and not any(needed.given for stage in stages for needed in lineage(stage)):
        raise UserError(
            f"--teacher-weights {options.teacher_weights[0]}: {stages[0].name} has no teacher that it could be: leave it out"
        )
    return stages


def asked_way(options, given):
    """driver.Options: the engine, the device and the folders that the command line names. Notes say what was chosen for it."""
    engine, note = (options.engine, "") if options.engine else choice.default()
    if note:
        print(f"note: {note}", file=sys.stderr)
    if options.engine or not options.dry_run:
        choice.require(engine)
    device = choice.choose_device(engine, options.gpu, options.cpu, options.threads)
    precision, note = choice.settled(options.precision, engine, device)
    if note:
        print(f"note: {note}", file=sys.stderr)
    choice.check(engine, precision, device)
    choice.check_memo(options.memo, engine, device)
    curves.require(options.log_to)
    return driver.Options(
        runs=options.runs,
        data=options.teacher_data or options.data if options.stage == "teacher" else options.data,
        device=device,
        verbose=options.verbose,
        snapshot_seconds=options.snapshot_seconds,
        engine=engine,
        precision=precision,
        wait=options.wait,
        teacher_data=options.teacher_data,
        memo=options.memo is not False,
        log_to=options.log_to,
        given=given,
    )


def given_weights(options):
    """The Given of --teacher-weights; None without. Raises UserError where it is given twice, and for what goes with it alone."""
    if not options.teacher_weights:
        return given_options.stray(options)
    first, *more = options.teacher_weights
    if more:
        raise UserError(f"--teacher-weights {first} and {more[0]}: a run has one teacher: give one of them")
    from hkd.results import weights  # not above: with all that tables need, most runs would start later

    return given_options.read(options, weights.found(first))


def asked_for(options):
    """The ExperimentFile that --experiment and --set name."""
    return experiment_file.named(options.experiment or experiments.DEFAULT, options.set)


def check_name(option, folder):
    """Raises UserError for a folder that Caffe's files, which are UTF-8, cannot name."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{option} {folder}: its name is not UTF-8, and Caffe's files could not name it: use another folder"
        ) from None


def list_experiments():
    longest = max(map(len, experiments.EXPERIMENTS))
    for e in experiments.EXPERIMENTS.values():
        print(
            f"{e.name:<{longest}} {e.facts.title:<14} {e.teacher.depth} -> {e.student.depth} layers   {e.reported_in}"
        )
    return 0


def show_status(options):
    from hkd.training import status

    own_data.declare_under(options.runs)
    dataset = experiments.named(asked_for(options).experiment).dataset if options.experiment else "*"
    return (status.watch if options.watch else status.show)(options.runs, dataset)


if __name__ == "__main__":
    run(main)
