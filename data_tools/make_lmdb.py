"""Writes a data set's LMDBs, mean files and manifest from its official archive, or from images of your own.

    python data_tools/make_lmdb.py --dataset cifar10 [--source PATH] [--out data/cifar10] [--pad 4] [--seed 1] [--index]
                                   [--mean R,G,B|FILE]
    python data_tools/make_lmdb.py --dataset NAME --source FOLDER|FILE.csv|LMDB [--resize 32] [--grey|--colour]
                                   [--test-share 0.1]
    python data_tools/make_lmdb.py --dataset cifar10 [--out data/cifar10] --check      reads every record of what is built

    train_lmdb               Datum, uint8, channels x height x width (red, green, blue), zero-padded, shuffled by --seed
    test_lmdb                the same without padding, in the official order
    mean_train.binaryproto   per-pixel mean of the training images, of the padded size, 0 in the padding: a padded pixel
    mean_test.binaryproto    minus its mean is exactly 0, as in He et al. 2016 (none for MNIST: no preprocessing there);
                             with --mean one number for all pixels of a channel, or a file, in place of what is measured
    train_index_lmdb         with --index: the place of each training image in the official order (index_lmdb.py)
    manifest.json            counts, seed, padding, checksums; of your own images the names of the classes

Random crops and mirroring are Caffe's own, at training time (transform_param). Everything is written beside --out under
another name and renamed at the end (building.py), and then read back: a digest that is printed was measured on what is there.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from hkd.base.cli import Parser, UserError, default_folder, require_writable, run, use_project_python

if __name__ == "__main__":
    use_project_python()

import lmdb

import gathered
import index_lmdb
import means
import own_sources
import pictures
import writing
from building import only_builder, put_in_place
from hkd.base.files import shown
from hkd.paper import datasets, own_datasets
from hkd.paper.contents import verify
from hkd.paper.datasets import DATASETS, INDEX_FILE, MANIFEST, read_manifest, read_written, whole_name
from official import Official
from own_images import How, Own


@dataclass(frozen=True)
class Asked:
    """What is asked of a build, wherever its images are from. pad: None for the data set's own; mean: as means.given takes it."""

    pad: int | None = None
    seed: int = 1
    index: bool = False
    mean: str | None = None
    quiet: bool = False

    def settled(self, origin, facts):
        """(pad, means.Given or None) for a data set whose facts are known. Raises UserError."""
        pad = origin.pad(facts) if self.pad is None else self.pad
        if not 0 <= pad <= facts.size:
            raise UserError(f"--pad {pad}: expected 0 to {facts.size} pixels for {facts.name}")
        return pad, means.given(self.mean, facts) if self.mean else None


def make_lmdb(facts, source=None, out=None, quiet=False):
    """Builds an official data set as the papers have it; see build."""
    return build(Official(facts, source), out, Asked(quiet=quiet))


def build(origin, out, asked):
    """Builds what a content.Origin has into folder `out` (default: its name in the data folder) and returns its manifest.

    If the same build is there already, only the index is added to it where it has none and it is asked for. Raises UserError
    for bad input, leaving `out` as it was.
    """
    out = whole_name(out or default_folder("data") / origin.name)
    if (facts := origin.facts(out)) is not None:
        asked.settled(origin, facts)  # what cannot be is said before the time that reading takes
    # Without the lock first, for a data set that is built already may lie where nothing can be written.
    manifest = _standing(origin, out, asked)
    if manifest is None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with only_builder(out) as partial:
            manifest = _standing(origin, out, asked) or _make(origin, out, partial, asked)
    verify(manifest, origin.facts(out))
    return manifest


def check(origin, out=None):
    """Reads every record of a data set that is built, whether it was read before or not, and returns its manifest."""
    out = whole_name(out or default_folder("data") / origin.name)
    facts = origin.facts(out)
    manifest = facts and read_manifest(out, facts)
    if manifest is None:
        title = facts.title if facts else origin.name
        raise UserError(f"no {title} in {shown(out)}: name its folder with --out, or build it: without --check")
    verify(manifest, facts, again=True)
    return manifest


def _make(origin, out, partial, asked):
    """Builds the data set, or the index of one that stands, in folder `partial` and puts it into its place."""
    try:
        if out.exists():
            _add_index(origin, read_manifest(out, origin.facts(out)), partial)
        else:
            with origin.read(partial.parent, asked.pad, asked.quiet) as content:
                pad, mean = asked.settled(origin, content.facts)
                writing.write(content, partial, pad, asked.seed, asked.index, mean, asked.quiet)
            put_in_place(partial, out)
    except lmdb.Error as error:
        raise UserError(f"{partial}: cannot be written ({error}): is the disk full? make room and try again") from None
    except OSError as error:
        error.filename = error.filename or str(partial)  # a write that fails names none
        raise
    return read_manifest(out, origin.facts(out))


def _standing(origin, out, asked):
    """The manifest of the same data set built before, or None where it, or the index that is asked for, is still to be made.
    Anything else at `out` is not ours to overwrite."""
    facts = origin.facts(out)
    if facts is None:
        if out.exists():
            raise UserError(
                f"{shown(out)} holds {read_written(out)['dataset']}, not {origin.name}: name another --out, or delete it"
            )
        return None
    manifest = read_manifest(out, facts)
    if manifest is None:
        return None
    pad, mean = asked.settled(origin, facts)
    of_means = manifest.mean or "measured", mean.text if mean else "measured"
    for what, have, want in (
        ("--pad", manifest.pad, pad),
        ("--seed", manifest.seed, asked.seed),
        ("--mean", *of_means),
    ):
        if have != want:
            raise UserError(f"{shown(out)} was built with {what} {have}, not {want}: name another --out, or delete it")
    if mean and read_written(out)["mean"] != mean.said:
        raise UserError(f"{shown(out)} was built with another {mean.text}: name another --out, or delete it")
    if asked.index and not manifest.indexed:
        return None
    origin.refuse_other(out, manifest, read_written(out))
    print(f"{shown(out)} is built already: {manifest.train_images:,} + {manifest.test_images:,} images")
    return manifest


def _add_index(origin, manifest, partial):
    """Adds the index to a data set that was built without. Nothing else of it changes; its source is read to check each image."""
    require_writable(manifest.folder)  # before the time that reading takes
    written = read_written(manifest.folder)
    origin = origin.again(written)
    with origin.read(partial.parent, manifest.pad, quiet=True) as content:
        images, labels = content.train
        order = writing.shuffled(len(labels), manifest.seed)
        index_lmdb.check(manifest, content.source, images, labels, order)
    partial.mkdir()
    index_lmdb.write(partial, order)
    # Without its line in the manifest it is not part of the data set: a kill before that line leaves the old state.
    folder = Path(INDEX_FILE).parent
    shutil.rmtree(manifest.folder / folder, ignore_errors=True)
    shutil.move(partial / folder, manifest.folder / folder)  # the data set may be a mount of its own
    written["bytes"][INDEX_FILE] = (manifest.folder / INDEX_FILE).stat().st_size
    times = (manifest.folder / MANIFEST).stat()
    path = writing.write_manifest(manifest.folder, written)
    # The images are as old as they were: Snakemake need not ask whether stages are to be trained again.
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


# --- the command line -------------------------------------------------------------------------------------------------------


def parser():
    p = Parser(description="Write a data set's LMDBs, mean files and manifest.")
    p.add_argument(
        "--dataset", required=True, metavar="{" + ",".join(DATASETS) + ",NAME}", help="NAME: of images of your own"
    )
    p.add_argument(
        "--source",
        help="the official archive (.tar.gz, .tar.xz, .zip) or its folder; default: the archive in the data folder, else "
        "a download. Of NAME a folder of class folders, or of train/ and test/ of them; a .csv of path,label[,split]; an LMDB of "
        "Caffe, or a folder of two, train_lmdb/ and test_lmdb/",
    )
    p.add_argument("--out", help="default: NAME in $HKD_DATA, else in data")
    p.add_argument(
        "--pad",
        type=int,
        help="zero pixels on each side of a training image; default: 4 for CIFAR and SVHN, 8 for Tiny-ImageNet, an eighth of the "
        "side of your own, else 0",
    )
    p.add_argument(
        "--mean",
        metavar="R,G,B|FILE",
        help="subtract these pixel values, 0 to 255, in place of the measured mean of each pixel (one number for grey images), or "
        "what is in a binaryproto file",
    )
    p.add_argument("--seed", type=int, default=1, help="of the shuffle, and of --test-share; default 1")
    p.add_argument(
        "--index",
        action="store_true",
        help="write train_index_lmdb too, for networks that keep something for each image; a data set that is there gets it added",
    )
    p.add_argument("--trust", action="store_true", help="use files whose content is not the official one")
    p.add_argument("--check", action="store_true", help="read every record of what is built, and build nothing")
    yours = p.add_argument_group("of images of your own")
    yours.add_argument(
        "--resize", type=int, metavar="N", help="make every image N x N pixels large; default: refuse others"
    )
    colours = yours.add_mutually_exclusive_group()
    for kind in (pictures.GREY, pictures.COLOUR):
        colours.add_argument(
            f"--{kind}",
            dest="colours",
            action="store_const",
            const=kind,
            help=f"make every image {kind}; default: as they are",
        )
    yours.add_argument("--test-share", type=float, help="of each class, where there is no test/; default 0.1")
    return p


OF_OWN = ("resize", "colours", "test_share")


def read_origin(options):
    """The content.Origin that the command line names. Raises UserError for what does not go together."""
    if options.dataset in DATASETS:
        for key in OF_OWN:
            if (value := getattr(options, key)) is not None:
                word = f"--{value}" if key == "colours" else f"--{key.replace('_', '-')} {value}"
                raise UserError(
                    f"{word} is of images of your own: give them a --dataset NAME of their own, or leave it out"
                )
        return Official(datasets.dataset(options.dataset), options.source, options.trust)
    if wrong := own_datasets.wrong_name(options.dataset, DATASETS):
        raise UserError(f"--dataset {options.dataset}: {wrong}")
    if options.trust:
        raise UserError("--trust is of official archives: leave it out")
    if options.resize is not None and (wrong := gathered.wrong_size(options.resize)):
        raise UserError(f"--resize {options.resize}: {wrong}")
    if options.test_share is not None and not 0 < options.test_share < 1:
        raise UserError(f"--test-share {options.test_share:g}: expected more than 0 and less than 1, as 0.1")
    if options.source is not None:
        own_sources.refuse_inside(options.source, options.out or default_folder("data") / options.dataset)
    how = How(options.colours, options.resize, options.test_share)
    return Own(options.dataset, options.source, how, options.seed)


def main():
    options = parser().parse_args()
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}: expected 0 or more")
    origin = read_origin(options)
    if options.check:
        given = [options.source, options.index, options.trust, options.mean, *(getattr(options, key) for key in OF_OWN)]
        if any(given) or options.pad is not None:
            raise UserError("--check builds nothing: give it --dataset and --out alone")
        manifest = check(origin, options.out)
    else:
        asked = Asked(options.pad, options.seed, options.index, options.mean)
        manifest = build(origin, options.out, asked)
    print(
        f"{shown(manifest.folder)}: {manifest.train_images:,} training and {manifest.test_images:,} test images, "
        f"pixels sha256 {manifest.pixels[:12]}" + (", indexed" if manifest.indexed else "")
    )


if __name__ == "__main__":
    run(main)
