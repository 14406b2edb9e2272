"""Writes a data set's LMDBs, mean files and manifest from its official archive.

    python data_tools/make_lmdb.py --dataset cifar10 [--source PATH] [--out data/cifar10] [--pad 4] [--seed 1] [--index]
                                   [--mean R,G,B]
    python data_tools/make_lmdb.py --dataset cifar10 [--out data/cifar10] --check      reads every record of what is built

    train_lmdb               Datum, uint8, channels x height x width (red, green, blue), zero-padded, shuffled by --seed
    test_lmdb                the same without padding, in the official order
    mean_train.binaryproto   per-pixel mean of the training images, of the padded size, 0 in the padding: a padded pixel
    mean_test.binaryproto    minus its mean is exactly 0, as in He et al. 2016 (none for MNIST: no preprocessing there);
                             with --mean one number for all pixels of a channel, in place of what is measured
    train_index_lmdb         with --index: the place of each training image in the official order (index_lmdb.py)
    manifest.json            counts, seed, padding, checksums

Random crops and mirroring are Caffe's own, at training time (transform_param). Everything is written beside --out under
another name and renamed at the end (building.py), and then read back: a digest that is printed was measured on what is there.
"""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from hkd.base.cli import Parser, UserError, default_folder, require_writable, run, use_project_python

if __name__ == "__main__":
    use_project_python()

import lmdb
import numpy as np
from caffe.proto import caffe_pb2
from rich.progress import track

import datasets
import index_lmdb
import means
import sources
import tiny_imagenet
from building import only_builder, put_in_place
from hkd.base.files import shown, write_whole
from hkd.paper.contents import key, verify
from hkd.paper.datasets import (
    DATASETS,
    FILES,
    INDEX_FILE,
    MANIFEST,
    MEAN_FILES,
    dataset,
    read_manifest,
    read_written,
    whole_name,
)

IMAGES_A_TRANSACTION = 4096
BYTES_A_TRANSACTION = 24 << 20
"""LMDB holds the pages of a transaction in memory: at most this much of larger images."""


def make_lmdb(facts, source=None, out=None, pad=None, seed=1, trust=False, quiet=False, index=False, mean=None):
    """Builds data set `facts` into folder `out` (default: NAME in the data folder) and returns its manifest.

    If the same build is there already, only the index is added to it where it has none and `index` says so. Raises UserError
    for bad input, leaving `out` as it was.
    """
    out = whole_name(out or default_folder("data") / facts.name)
    pad = facts.pad if pad is None else pad
    if not 0 <= pad <= facts.size:
        raise UserError(f"--pad {pad}: expected 0 to {facts.size} pixels for {facts.name}")
    mean = means.given(mean, facts) if mean else None
    # Without the lock first, for a data set that is built already may lie where nothing can be written.
    manifest = _standing(out, facts, pad, seed, source, index, mean)
    if manifest is None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with only_builder(out) as partial:
            manifest = _standing(out, facts, pad, seed, source, index, mean) or _make(
                facts, source, out, partial, pad, seed, trust, quiet, index, mean
            )
    verify(manifest, facts)
    return manifest


def check(facts, out=None):
    """Reads every record of a data set that is built, whether it was read before or not, and returns its manifest."""
    out = whole_name(out or default_folder("data") / facts.name)
    manifest = read_manifest(out, facts)
    if manifest is None:
        raise UserError(f"no {facts.title} in {shown(out)}: name its folder with --out, or build it: without --check")
    verify(manifest, facts, again=True)
    return manifest


def _make(facts, source, out, partial, pad, seed, trust, quiet, index, mean):
    """Builds the data set, or the index of one that stands, in folder `partial` and puts it into its place."""
    try:
        if out.exists():
            _add_index(facts, source, read_manifest(out, facts), partial)
        else:
            _build(facts, source, partial, pad, seed, trust, quiet, index, mean)
            put_in_place(partial, out)
    except lmdb.Error as error:
        raise UserError(f"{partial}: cannot be written ({error}): is the disk full? make room and try again") from None
    except OSError as error:
        error.filename = error.filename or str(partial)  # a write that fails names none
        raise
    return read_manifest(out, facts)


def _standing(out, facts, pad, seed, source, index, mean):
    """The manifest of the same data set built before, or None where it, or the index that is asked for, is still to be made.
    Anything else at `out` is not ours to overwrite."""
    manifest = read_manifest(out, facts)
    if manifest is None:
        return None
    means = manifest.mean or "measured", mean.text if mean else "measured"
    for what, have, want in (("--pad", manifest.pad, pad), ("--seed", manifest.seed, seed), ("--mean", *means)):
        if have != want:
            raise UserError(f"{shown(out)} was built with {what} {have}, not {want}: name another --out, or delete it")
    if index and not manifest.indexed:
        return None
    built_from = read_written(out)["source"]
    # The official images are the same from wherever they came.
    if source is not None and not manifest.official and built_from != str(Path(source).absolute()):
        raise UserError(f"{shown(out)} was built from {built_from}, not {source}: name another --out, or delete it")
    print(f"{shown(out)} is built already: {manifest.train_images:,} + {manifest.test_images:,} images")
    return manifest


def _add_index(facts, source, manifest, partial):
    """Adds the index to a data set that was built without. Nothing else of it changes; `source` is read to check each image."""
    require_writable(manifest.folder)  # before the time that reading takes
    written = read_written(manifest.folder)
    if source is None:
        source = written["source"] if Path(written["source"]).exists() else default_source(facts)
    (images, labels), *_ = datasets.read_dataset(facts, Path(source), trust=True)
    order = shuffled(len(labels), manifest.seed)
    index_lmdb.check(manifest, source, images, labels, order)
    partial.mkdir()
    index_lmdb.write(partial, order)
    # Without its line in the manifest it is not part of the data set: a kill before that line leaves the old state.
    folder = Path(INDEX_FILE).parent
    shutil.rmtree(manifest.folder / folder, ignore_errors=True)
    shutil.move(partial / folder, manifest.folder / folder)  # the data set may be a mount of its own
    written["bytes"][INDEX_FILE] = (manifest.folder / INDEX_FILE).stat().st_size
    path = manifest.folder / MANIFEST
    times = path.stat()
    write_whole(path, _text(written))
    # The images are as old as they were: Snakemake need not ask whether stages are to be trained again.
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def shuffled(count, seed):
    """The order of the training images in train_lmdb: record p is image order[p]."""
    return np.random.default_rng(seed).permutation(count)


def _build(facts, source, folder, pad, seed, trust, quiet, index, mean):
    source = Path(source) if source is not None else default_source(facts)
    train, test, differences, source_sha256 = datasets.read_dataset(facts, source, trust)
    if differences:
        # An unpacked folder of files too many to list cannot be told from the official one.
        published = sources.DOWNLOADS[facts.name][0].file if facts.name in sources.ARCHIVES else facts.title
        counts, expected = (len(train[1]), len(test[1])), (facts.train_images, facts.test_images)
        if counts == expected:
            how = "; ".join(differences)
        else:
            how = "{:,} + {:,} images (official: {:,} + {:,})".format(*counts, *expected)
        print(f"note: {source} is not the official {published}: {how}", file=sys.stderr)
    folder.mkdir()
    order = shuffled(len(train[1]), seed)
    digest = hashlib.sha256()
    sums = np.zeros(train[0].shape[1:], np.uint64) if facts.mean else None
    write_lmdb(folder / "train_lmdb", *train, order, pad, digest, quiet, sums)
    write_lmdb(folder / "test_lmdb", *test, np.arange(len(test[1])), 0, digest, quiet)
    if index:
        index_lmdb.write(folder, order)
    if facts.mean:
        means.write(folder, mean.mean if mean else (sums / len(order)).astype(np.float32), pad)
    if mean:
        digest.update(mean.mean.tobytes())
    manifest = {
        "dataset": facts.name,
        "train": _counts(facts, train[1]) | {"size": facts.size + 2 * pad},
        "test": _counts(facts, test[1]) | {"size": facts.size},
        "channels": ["red", "green", "blue"] if facts.channels == 3 else ["grey"],
        "layout": "Datum: uint8, channels x height x width",
        "pad": pad,
        "seed": seed,
        "official": not differences,
        "source": str(source.absolute()),
        "source_sha256": source_sha256,
        "pixels_sha256": digest.hexdigest(),
        "bytes": {
            file: (folder / file).stat().st_size
            for file in (*FILES, *MEAN_FILES, INDEX_FILE)
            if (folder / file).exists()
        },
    }
    if mean:
        manifest["mean"] = mean.said
    if isinstance(train[0], tiny_imagenet.Jpegs):
        manifest["decoder"] = tiny_imagenet.decoder()
    write_whole(folder / MANIFEST, _text(manifest))


def _text(manifest):
    return json.dumps(manifest, indent=1) + "\n"


def default_source(facts):
    """Debian's package for Fashion-MNIST, an archive that lies in the data folder, else a download."""
    packaged = Path(sources.FASHION_MNIST_PACKAGE)
    if facts.name == "fashion-mnist" and packaged.is_dir():
        return packaged
    archive = default_folder("data") / sources.DOWNLOADS[facts.name][0].file
    # MNIST and Fashion-MNIST are not in one file each, and theirs have the same names.
    if len(sources.DOWNLOADS[facts.name]) == 1 and archive.exists():
        return archive
    from fetch import fetch

    try:
        return fetch(facts.name, default_folder("data") / "downloads" / facts.name)
    except UserError as error:
        package = "; or apt-get install dataset-fashion-mnist" if facts.name == "fashion-mnist" else ""
        raise UserError(f"{error}{package}") from None


def write_lmdb(path, images, labels, order, pad, digest, quiet, sums=None):
    """images N x C x H x W and labels N, uint8, written in `order` with `pad` zero pixels on each side; every label and
    padded pixel goes into `digest`, and the pixels of every image onto `sums` (C x H x W) if given. Keys are the positions,
    so that a cursor reads them in order.
    """
    _, channels, height, width = images.shape
    padded = np.zeros((channels, height + 2 * pad, width + 2 * pad), np.uint8)
    inner = padded[:, pad : pad + height, pad : pad + width]
    # A value over half a page lies in whole pages of its own.
    map_size = len(order) * (padded.size // 4096 + 2) * 4096 + (64 << 20)
    step = min(IMAGES_A_TRANSACTION, max(1, BYTES_A_TRANSACTION // padded.size))
    path.mkdir()  # LMDB would give the folder the mode of the file, and nobody but root could open what is in it
    with lmdb.open(str(path), map_size=map_size, sync=False, lock=False, mode=0o644) as environment:
        starts = range(0, len(order), step)
        for start in track(starts, description=path.name, disable=quiet or not sys.stdout.isatty(), transient=True):
            # A new message now and then: protobuf keeps all that was ever put into one as long as it lives.
            datum = caffe_pb2.Datum(channels=channels, height=padded.shape[1], width=padded.shape[2])
            with environment.begin(write=True) as transaction:
                for position in range(start, min(start + step, len(order))):
                    index = order[position]
                    inner[...] = images[index]
                    if sums is not None:
                        sums += inner
                    datum.data = padded.tobytes()
                    datum.label = int(labels[index])
                    digest.update(bytes((datum.label,)))
                    digest.update(datum.data)
                    transaction.put(key(position), datum.SerializeToString(), append=True)
        environment.sync(True)


def _counts(facts, labels):
    return {"images": len(labels), "per_class": np.bincount(labels, minlength=facts.classes).tolist()}


def main():
    parser = Parser(description="Write a data set's LMDBs, mean files and manifest.")
    parser.add_argument("--dataset", required=True, metavar="{" + ",".join(DATASETS) + "}")
    parser.add_argument(
        "--source",
        help="the official archive (.tar.gz, .tar.xz, .zip) or its folder; default: the archive in the data folder, else "
        "a download",
    )
    parser.add_argument("--out", help="default: NAME in $HKD_DATA, else in data")
    parser.add_argument(
        "--pad",
        type=int,
        help="zero pixels on each side of a training image; default: 4 for CIFAR and SVHN, 8 for Tiny-ImageNet, else 0",
    )
    parser.add_argument(
        "--mean",
        metavar="R,G,B",
        help="subtract these pixel values, 0 to 255, in place of the measured mean of each pixel; one number for grey images",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the shuffle; default 1")
    parser.add_argument(
        "--index",
        action="store_true",
        help="write train_index_lmdb too, for networks that keep something for each image; a data set that is there gets it added",
    )
    parser.add_argument("--trust", action="store_true", help="use files whose content is not the official one")
    parser.add_argument("--check", action="store_true", help="read every record of what is built, and build nothing")
    options = parser.parse_args()
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}: expected 0 or more")
    facts = dataset(options.dataset)
    if options.check:
        if options.source or options.index or options.trust or options.mean or options.pad is not None:
            raise UserError("--check builds nothing: give it --dataset and --out alone")
        manifest = check(facts, options.out)
    else:
        manifest = make_lmdb(
            facts,
            options.source,
            options.out,
            options.pad,
            options.seed,
            options.trust,
            index=options.index,
            mean=options.mean,
        )
    print(
        f"{shown(manifest.folder)}: {manifest.train_images:,} training and {manifest.test_images:,} test images, "
        f"pixels sha256 {manifest.pixels[:12]}" + (", indexed" if manifest.indexed else "")
    )


if __name__ == "__main__":
    run(main)
