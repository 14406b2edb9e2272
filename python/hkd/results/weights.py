"""Weights that are kept with the project: teachers; of the paper's own length also students of the proposed method, and the stages
1 that students start from; and the page that lists them."""

import shutil
from collections import defaultdict
from pathlib import Path

from hkd.base.cli import ROOT, UserError, did_you_mean
from hkd.base.files import sha256, shown, write_whole
from hkd.paper import experiments
from hkd.results import slim, unfinished
from hkd.results.rows import PROPOSED
from hkd.results.runs import SET_ASIDE
from hkd.results.sheet import Sheet, markdown
from hkd.stages import finals, records
from hkd.stages.given.files import kind
from hkd.stages.names import group

FOLDER, KEPT_AS = ROOT / "results/weights", ".caffemodel"
HEADS = ("weights", "trained in", "stage", "Pc last (%)", "iterations", "engine", "seed", "record", "sha256")
ABOUT = (
    "caffemodel files for `prototxt/*/r*-deploy.prototxt`, a student's without its teacher's layers. Pc is that of the whole official test set; a test finds it again with BVLC Caffe, to the image. What has no Pc is a stage 1; its "
    "teacher's layers are there without their weights, which `--lay` takes from the teacher. The name says where a run was scaled: those teachers are here so that its table can be finished on another machine. The images are not ours; the weights are under the license of the project, BSD 2-clause.",
    "`python/make_tables.py --measured results/measured --collect RUNS --weights results/weights` adds those of a runs folder and makes "
    "this page; with `--lay RUNS` in place of `--collect RUNS` teachers and stages 1 are laid into a runs folder with their records, and "
    "`run_stage.py` goes on from them.",
)


def found(name, folder=FOLDER):
    """The path of a file, or of the weights that are kept under that name: mnist/r32-teacher or r32-teacher where that is one file's
    alone. Raises UserError for neither."""
    path = Path(name)
    if path.exists() or path.is_absolute() or kind(path) not in (None, KEPT_AS):
        return path
    kept = sorted(Path(folder).glob(f"*/*{KEPT_AS}"))
    names = {str(one.relative_to(folder).with_suffix("")): one for one in kept}
    wanted = name.removesuffix(KEPT_AS)
    fitting = [one for whole, one in names.items() if wanted in (whole, whole.partition("/")[2])]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(
            f"--teacher-weights {name}: {shown(folder)} has it of several data sets: say which, as {fitting[0].parent.name}/{name}"
        )
    short = {whole.partition("/")[2]: whole for whole in names}
    raise did_you_mean(wanted, [*short, *names], f"file, or name of {shown(folder)}")


def keep(runs, folder):
    """Copies the weights of every finished teacher under `runs`, and of stages 1 and proposed students of the paper's own length, to
    folder/DATASET/STAGE.caffemodel (STAGE-scale0.125-seed2 of another length and seed); and what unfinished.keep keeps, whose names it
    returns. Raises UserError rather than replace other weights."""
    for path in sorted(Path(runs).glob("*/*/*/record.json")):
        record = records.read_record(path.parent)
        if SET_ASIDE.search(path.parent.name) or not _is_kept(record):
            continue
        kept = _place(folder, record)
        content = finals.weights((path.parent / records.FINAL).read_bytes(), record["dataset"])
        if "teacher" in record["parents"]:
            content = slim.own_layers(content) if record["net"] else slim.own_weights(content)
        if kept.exists() and kept.read_bytes() != content:
            raise UserError(
                f"{shown(kept)} has other weights than {shown(path.parent)}: delete the ones that are wrong"
            )
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, content)
    return unfinished.keep(runs, folder)


def _is_kept(record):
    """Teachers but other people's, which are under their license; at the paper's own length, what nets 1 to 3 share, and the
    proposed method's students."""
    if record["kind"] == "teacher":
        return not record.get("origin")
    return record["scale"] == 1 and (not record["net"] or record["method"] == PROPOSED)


def lay(measured, folder, runs, engine=None):
    """Lays stages whose weights are kept in `folder` into a runs folder, as if they had been trained there, so that what starts from
    them can go on; returns their names, DATASET/LENGTH/STAGE. A stage gets the file that its record names, to the byte: a student's,
    which has lost layers, is not laid. Unfinished ones are laid with their snapshot. engine: of one alone. Raises UserError where
    another run of such a stage lies in `runs`, and where there is none to lay."""
    for place in (Path(folder), Path(measured) / "records" / (engine or "")):
        if not place.is_dir():
            raise UserError(f"{shown(place)} is no folder: none is laid")
    kept = _by_digest(folder)
    laid = []
    for path in sorted((Path(measured) / "records").glob(f"{engine or '*'}/*/*/*/record.json")):
        record, own = records.read_record(path.parent), Path(runs) / Path(*path.parent.parts[-3:])
        weights = _whole(folder, record, kept)
        if weights is None:
            continue
        if own.exists() and records.read_record(own) != record:
            raise UserError(
                f"{shown(own)} is another run than {shown(path.parent)}: lay into another folder, or of one --engine"
            )
        shutil.copytree(path.parent, own, dirs_exist_ok=True)
        write_whole(own / records.FINAL, weights)
        records.note_finished(own, record)
        laid.append(str(own.relative_to(runs)))
    laid += unfinished.lay(folder, runs, engine)
    if not laid:
        raise UserError(
            f"no file in {shown(Path(folder))} is what a record in {shown(Path(measured))} names: none is laid"
        )
    return laid


def page(folder, measured):
    """README.md of `folder`: every file of weights with its record in measured/records. Raises UserError for one without."""
    found, kept = defaultdict(list), _by_digest(folder)
    for path in sorted((Path(measured) / "records").glob("*/*/*/*/record.json")):
        record = records.read_record(path.parent)
        found[_place(folder, record)].append((path.parent.relative_to(measured), record))
    rows = []
    for path in sorted(Path(folder).glob(f"*/*{KEPT_AS}")):
        if path not in found:
            raise UserError(
                f"{shown(path)} has no record in {shown(Path(measured) / 'records')}: --collect the runs that it is of"
            )
        # One engine's among several is told by its digest. A student has lost layers, a file of version 0.1 a folder's name.
        own = [each for each in found[path] if _whole(folder, each[1], kept)]
        place, record = (own or found[path])[0]
        about = experiments.named(record["experiment"])
        rows.append(
            (
                str(path.relative_to(folder)),
                f"{about.name} ({about.reported_in})",
                record["stage"],
                f"{record['Pc']['last']:.2f}" if record["kind"] == "teacher" or record["net"] else "-",
                f"{record['iterations']:,}",
                records.engine(record),
                record["seed"],
                f"results/measured/{place}",
                sha256(path),
            )
        )
    sheets = [Sheet("Weights", HEADS, tuple(rows), ABOUT)]
    begun = tuple(unfinished.rows(folder))
    if begun:
        sheets.append(Sheet("Unfinished", unfinished.HEADS, begun, unfinished.ABOUT))
    return markdown(*sheets).removeprefix("##")


def _by_digest(folder):
    return {sha256(path): path for path in Path(folder).glob(f"*/*{KEPT_AS}")}


def _whole(folder, record, kept):
    """The final.caffemodel of a record, to the byte, from what is kept in `folder` (`kept`: its files by digest): a stage 1's with
    the weights of its teacher. None where it cannot be had."""
    digest, own = record["digests"][records.FINAL], _place(folder, record)
    if digest in kept:
        return kept[digest].read_bytes()
    teacher = kept.get(record["parents"].get("teacher", {}).get(records.FINAL))
    return slim.whole(own, [teacher], digest) if teacher and own.exists() else None


def _place(folder, record):
    length = group(record["dataset"], record["scale"], record["seed"]).name
    other = "" if length == "full-seed1" else f"-{length.removeprefix('full-')}"
    return Path(folder) / record["dataset"] / f"{record['stage']}{other}{KEPT_AS}"
