"""The official data sets: from their archives, which are looked for, or downloaded, where none is named."""

import sys
from contextlib import contextmanager
from pathlib import Path

import datasets
import sources
import tiny_imagenet
from content import Content
from hkd.base.cli import UserError, default_folder
from hkd.base.files import shown


class Official:
    """A content.Origin. trust: whether files of other content than the official one are read."""

    def __init__(self, facts, source=None, trust=False):
        self.name, self.source = facts.name, source
        self._facts, self._trust = facts, trust

    def facts(self, out):
        return self._facts

    def pad(self, facts):
        return facts.pad

    def refuse_other(self, out, manifest, written):
        # The official images are the same from wherever they came.
        built_from = written["source"]
        if self.source is not None and not manifest.official and built_from != str(Path(self.source).absolute()):
            raise UserError(
                f"{shown(out)} was built from {built_from}, not {self.source}: name another --out, or delete it"
            )

    @contextmanager
    def read(self, folder, pad, quiet):
        facts, source = self._facts, Path(self.source) if self.source is not None else default_source(self._facts)
        train, test, differences, sha256 = datasets.read_dataset(facts, source, self._trust)
        if differences:
            _note(facts, source, (len(train[1]), len(test[1])), differences)
        channels = ("red", "green", "blue") if facts.channels == 3 else ("grey",)
        said = {"decoder": tiny_imagenet.decoder()} if isinstance(train[0], tiny_imagenet.Jpegs) else {}
        yield Content(facts, train, test, channels, str(source.absolute()), sha256, not differences, said)

    def again(self, written):
        source = self.source
        if source is None and Path(written["source"]).exists():
            source = written["source"]
        return Official(self._facts, source, trust=True)


def _note(facts, source, counts, differences):
    # An unpacked folder of files too many to list cannot be told from the official one.
    published = sources.DOWNLOADS[facts.name][0].file if facts.name in sources.ARCHIVES else facts.title
    expected = (facts.train_images, facts.test_images)
    if counts == expected:
        how = "; ".join(differences)
    else:
        how = "{:,} + {:,} images (official: {:,} + {:,})".format(*counts, *expected)
    print(f"note: {source} is not the official {published}: {how}", file=sys.stderr)


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
