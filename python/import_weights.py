"""Makes a caffemodel of this project's layers from weights that were trained elsewhere, and tests it on the whole test set.

python python/import_weights.py resnet26.safetensors --experiment cifar10-r26-r14 \
    --mean 0.4914,0.4822,0.4465 --std 0.2023,0.1994,0.2010 --out r26.caffemodel

Beside r26.caffemodel: r26.txt, blob by blob what it was made from, and r26.json, the record: Pc, and where it comes from.
"""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from hkd.base.cli import Parser, UserError, require_writable, run, use_project_python

if __name__ == "__main__":
    use_project_python()

from hkd.base.files import shown
from hkd.engines import choice
from hkd.paper import experiment_file, experiments
from hkd.results import weights
from hkd.stages import records
from hkd.stages.given import files
from hkd.stages.given import options as given_options
from hkd.stages.given.teacher import Given, take
from hkd.stages.stage import planned
from hkd.training import driver

BESIDE = {records.FINAL: ".caffemodel", "init.txt": ".txt", "record.json": ".json"}
"""Of a stage's files those that are kept, and how their names end here."""


def parser():
    p = Parser(description="Make a caffemodel of this project's layers from weights that were trained elsewhere.")
    p.add_argument("file", metavar="FILE|NAME", help=f"{', '.join(files.SUFFIXES)}, or a name of results/weights")
    p.add_argument(
        "--experiment", default=experiments.DEFAULT, help=f"whose teacher it is; default {experiments.DEFAULT}"
    )
    p.add_argument(
        "--set", action="append", default=[], metavar="SETTING=VALUE", help="for example shortcut=projection"
    )
    p.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="NAME.caffemodel",
        help="where to write; NAME.txt and NAME.json beside",
    )
    p.add_argument("--data", type=Path, help="folder of the teacher's LMDBs; default NAME in $HKD_DATA, else in data")
    p.add_argument("--engine", choices=choice.ENGINES, help="what tests it; default caffe, torch where no pycaffe is")
    p.add_argument("--cpu", action="store_true", help="use the CPU even if there is a GPU")
    given_options.add(p)
    return p


def main():
    options = parser().parse_args()
    out = options.out
    if out.suffix != ".caffemodel":
        raise UserError(f"--out {out}: expected a name that ends in .caffemodel")
    engine, note = (options.engine, "") if options.engine else choice.default()
    if note:
        print(f"note: {note}", file=sys.stderr)
    given = given_options.read(options, weights.found(options.file))
    asked = experiment_file.named(options.experiment, options.set)
    chosen = experiments.experiment(asked.experiment, asked.settings)
    taught = given_options.taught_by(given, chosen)
    if out.exists():
        refuse_other(out, taught)
        print(f"{shown(out)} has these weights already")
        return 0
    choice.require(engine)
    require_writable(out.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    runs = out.with_name(f".{out.stem}.runs")  # killed, the same command goes on there
    device = choice.choose_device(engine, cpu=options.cpu)
    choice.check(engine, "fp32", device)
    stage = planned(taught, "", "teacher")
    code = driver.run_stage(stage, driver.Options(runs, options.data, device, engine=engine, given=given))
    if code:
        return code
    made = stage.folder(runs)
    record = records.read_record(made)
    print((made / "init.txt").read_text(), end="")
    for name, suffix in reversed(BESIDE.items()):  # the caffemodel last: with it all is there
        (made / name).replace(out.with_suffix(suffix))
    shutil.rmtree(runs)
    print(
        f"{shown(out)}: Pc {record['Pc']['last']:.2f} % on the test set, weights {stage.given}; {out.stem}.txt and {out.stem}.json beside it"
    )
    return 0


def refuse_other(out, taught):
    """Raises UserError where `out` is there with other weights than those of the experiment `taught`."""
    digest = take(Given(str(out)), taught).settings["teacher_weights"]
    if digest != taught.teacher_weights:
        raise UserError(f"--out {out} is there, with other weights ({digest}): name another file, or delete it")


if __name__ == "__main__":
    run(main)
