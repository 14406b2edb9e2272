"""Weights that are kept with the project: teachers and students of the proposed method, trained at the paper's own length, and the
page that lists them."""

from collections import defaultdict
from pathlib import Path

from caffe.proto import caffe_pb2

from hkd.base.cli import ROOT, UserError, did_you_mean
from hkd.base.files import sha256, shown, write_whole
from hkd.networks import resnet
from hkd.paper import experiments
from hkd.results.rows import PROPOSED
from hkd.results.runs import SET_ASIDE
from hkd.results.sheet import Sheet, markdown
from hkd.stages import finals, records
from hkd.stages.given.files import kind

FOLDER, KEPT_AS = ROOT / "results/weights", ".caffemodel"
HEADS = ("weights", "trained in", "stage", "Pc last (%)", "iterations", "engine", "seed", "record", "sha256")
ABOUT = (
    "caffemodel files for `prototxt/*/r*-deploy.prototxt`, a student's without its teacher's layers. Pc is that of the whole official test set; a test finds it again with BVLC Caffe, to the image. The images are not ours; the "
    "weights are under the license of the project, BSD 2-clause.",
    "`python/make_tables.py --measured results/measured --collect RUNS --weights results/weights` adds those of a runs folder and makes "
    "this page.",
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
    """Copies the weights of every finished teacher and proposed student under `runs` that has the paper's own length to
    folder/DATASET/STAGE.caffemodel (STAGE-seed2 of another seed). Raises UserError rather than replace other weights."""
    for path in sorted(Path(runs).glob("*/full-seed*/*/record.json")):
        record = records.read_record(path.parent)
        if SET_ASIDE.search(path.parent.name) or record["Pc"] is None or record["method"] not in (None, PROPOSED):
            continue
        if record.get("origin"):  # a teacher of other people, under their license
            continue
        kept = _place(folder, record)
        content = _own_layers(finals.weights((path.parent / records.FINAL).read_bytes(), record["dataset"]))
        if kept.exists() and kept.read_bytes() != content:
            raise UserError(
                f"{shown(kept)} has other weights than {shown(path.parent)}: delete the ones that are wrong"
            )
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, content)


def page(folder, measured):
    """README.md of `folder`: every file of weights with its record in measured/records. Raises UserError for one without."""
    found = defaultdict(list)
    for path in sorted((Path(measured) / "records").glob("*/*/full-seed*/*/record.json")):
        record = records.read_record(path.parent)
        found[_place(folder, record)].append((path.parent.relative_to(measured), record))
    rows = []
    for path in sorted(Path(folder).glob("*/*.caffemodel")):
        if path not in found:
            raise UserError(
                f"{shown(path)} has no record in {shown(Path(measured) / 'records')}: --collect the runs that it is of"
            )
        digest = sha256(path)
        # One engine's teacher among several is told by its digest. A student has lost layers, a file of version 0.1 a folder's name.
        own = [each for each in found[path] if each[1]["digests"][records.FINAL] == digest]
        place, record = (own or found[path])[0]
        about = experiments.named(record["experiment"])
        rows.append(
            (
                str(path.relative_to(folder)),
                f"{about.name} ({about.reported_in})",
                record["stage"],
                f"{record['Pc']['last']:.2f}",
                f"{record['iterations']:,}",
                records.engine(record),
                record["seed"],
                f"results/measured/{place}",
                digest,
            )
        )
    return markdown(Sheet("Weights", HEADS, tuple(rows), ABOUT)).removeprefix("##")


def _own_layers(caffemodel):
    """A caffemodel without the layers of the teacher beside a student: the teacher's are kept once, by themselves."""
    network = caffe_pb2.NetParameter.FromString(caffemodel)
    own = [layer for layer in network.layer if not layer.name.startswith(resnet.TEACHER)]
    kept = caffe_pb2.NetParameter(name=network.name, layer=own)
    return kept.SerializeToString(deterministic=True)


def _place(folder, record):
    seed = "" if record["seed"] == 1 else f"-seed{record['seed']}"
    return Path(folder) / record["dataset"] / f"{record['stage']}{seed}.caffemodel"
