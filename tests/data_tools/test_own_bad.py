"""Every bad image, folder, list and option of a data set of one's own: one line that names it, and nothing left."""

import io
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import make_lmdb
from conftest import command, one_line
from hkd.base.cli import UserError
from lmdbs import build, nothing_left
from own_folders import coloured, fashion_images, write_classes


@pytest.fixture(scope="module")
def few(once):
    """Twelve coloured pictures in each of two class folders."""

    def fill(folder):
        images, labels = fashion_images(200)
        chosen = np.concatenate([np.flatnonzero(labels == n)[:12] for n in (8, 9)])
        write_classes(folder, coloured(images[chosen]), labels[chosen])

    return once("few", fill)


@pytest.fixture
def source(few, tmp_path):
    shutil.copytree(few, tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def refused(monkeypatch, tmp_path):
    """refused(*words of the command line): the one line that it ends in, with nothing left."""

    def run(*words):
        out = tmp_path / "out"
        monkeypatch.setattr(sys, "argv", ["make_lmdb.py", *map(str, words), "--out", str(out)])
        with pytest.raises(UserError) as caught:
            make_lmdb.main()
        assert nothing_left(out) and len(str(caught.value)) < 500
        return " ".join(str(caught.value).split())

    return run


PICTURE = lambda: Image.fromarray(coloured(fashion_images(1)[0])[0])  # noqa: E731


def packed(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def see_through():
    image = PICTURE().convert("RGBA")
    image.putpixel((3, 3), (1, 2, 3, 254))
    return packed(image)


def colour_key():
    image = PICTURE().quantize(8)
    image.info["transparency"] = 3
    return packed(image, transparency=3)


def deep_colours():
    """A PNG of 16 bits a channel, by hand: Pillow cannot write one."""
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + bytes(32 * 6) for _ in range(32))
    head = struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


WRONG = {
    "a PNG that is cut short": ("x.png", lambda: packed(PICTURE())[:300], "cut short"),
    "a JPEG that is cut short": ("x.jpg", lambda: packed(PICTURE(), "JPEG")[:400], "cut short"),
    "a WebP that is cut short": ("x.webp", lambda: packed(PICTURE(), "WEBP")[:100], "damaged"),
    "a damaged byte": ("x.png", lambda: packed(PICTURE())[:200] + b"\x55" + packed(PICTURE())[201:], "damaged"),
    "a text": ("x.png", lambda: b"hello", "no PNG, JPEG or WebP file"),
    "nothing": ("x.png", lambda: b"", "empty"),
    "a GIF of that name": ("x.png", lambda: packed(PICTURE(), "GIF"), "no PNG, JPEG or WebP file"),
    "animated PNG": (
        "x.png",
        lambda: packed(PICTURE(), save_all=True, append_images=[PICTURE().rotate(9)]),
        "animated, 2",
    ),
    "animated WebP": (
        "x.webp",
        lambda: packed(PICTURE(), "WEBP", save_all=True, append_images=[PICTURE().rotate(9)]),
        "animated, 2",
    ),
    "a bomb": ("x.png", lambda: packed(Image.new("1", (20_000, 20_000))), "decompression bomb"),
    "a large picture": ("x.png", lambda: packed(Image.new("1", (8_000, 8_000))), "8,000 x 8,000 pixels"),
    "another size": ("x.png", lambda: packed(PICTURE().resize((28, 28))), "28 x 28 pixels, and bag/"),
    "grey": ("x.png", lambda: packed(PICTURE().convert("L")), "make all of them grey with --grey"),
    "16 bits, grey": ("x.png", lambda: packed(Image.fromarray(np.full((32, 32), 40_000, np.uint16))), "16 bits"),
    "16 bits, colour": ("x.png", deep_colours, "16 bits"),
    "CMYK": ("x.jpg", lambda: packed(PICTURE().convert("CMYK"), "JPEG"), "CMYK"),
    "transparent": ("x.png", see_through, "transparent pixels"),
    "transparent by its palette": ("x.png", colour_key, "transparent pixels"),
    "another kind of file": ("x.bmp", lambda: packed(PICTURE(), "BMP"), "neither .png"),
    "notes": ("notes.txt", lambda: b"mine", "neither .png"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_named(name, source, refused):
    file, content, said = WRONG[name]
    (source / "boot" / file).write_bytes(content())
    line = refused("--dataset", "mine", "--source", source)
    assert line.startswith(f"{source}/boot/{file}: ") and said in line


def test_all_are_tried_and_the_first_is_named(source, refused):
    for name in ("bag/0.png", "boot/1.png", "boot/2.png", "boot/3.png", "boot/4.png"):
        (source / name).write_bytes(b"")
    line = refused("--dataset", "mine", "--source", source)
    assert line == f"{source}/bag/0.png: empty (4 more are wrong: boot/1.png, boot/2.png, and 2 more)"


def pipe(source):
    os.mkfifo(source / "bag/x.png")


def dangling(source):
    (source / "bag/x.png").symlink_to("nowhere.png")


def loop(source):
    (source / "bag/again").symlink_to(source)


def beside(source):
    (source / "x.png").write_bytes(packed(PICTURE()))


def hollow(source):
    (source / "cat").mkdir()


def alone(source):
    shutil.rmtree(source / "bag")


def half(source):
    (source / "val").mkdir()
    for name in ("bag", "boot"):
        shutil.copytree(source / name, source / "train" / name)
        shutil.move(source / name, source / "val" / name)


def capitals(source):
    for name in ("Training", "Testing"):
        shutil.copytree(source / "bag", source / name / "bag")
        shutil.copytree(source / "boot", source / name / "boot")
    shutil.rmtree(source / "bag")
    shutil.rmtree(source / "boot")


def three(source):
    for name in ("train", "test"):
        shutil.copytree(source / "bag", source / name / "bag")


def untrained(source):
    for name in ("bag", "boot"):
        shutil.copytree(source / name, source / "train" / name)
    (source / "test").mkdir()
    shutil.move(source / "bag", source / "test/bag")
    shutil.move(source / "boot", source / "test/cat")


def one_image(source):
    (source / "cat").mkdir()
    (source / "cat/x.png").write_bytes(packed(PICTURE()))


def line_break(source):
    (source / "bag").rename(source / "b\nag")


def not_utf_8(source):
    (source / "bag").rename(os.fsdecode(os.fsencode(source) + b"/b\xff"))


def thirty(source):
    for path in source.rglob("*.png"):
        Image.open(path).resize((30, 30)).save(path)


def oblong(source):
    for path in source.rglob("*.png"):
        Image.open(path).resize((32, 28)).save(path)


FOLDERS = {
    pipe: ("bag/x.png", "no file"),
    dangling: ("bag/x.png", "a link to a file that is not there"),
    loop: ("again", "leads back"),
    beside: ("x.png", "beside the class folders"),
    hollow: ("cat", "without an image"),
    alone: ("1 class, boot",),
    half: ("train/ and val/", "expected train/ and test/"),
    capitals: ("Testing/ and Training/", "expected train/ and test/"),
    three: ("bag", "beside train/ and test/"),
    untrained: ("class cat has no training image",),
    one_image: ("class cat has no training image", "0.1 of each class"),
    line_break: (r"'b\nag'", "rename"),
    not_utf_8: (r"'b\udcff'", "rename"),
    thirty: ("source/bag/", "30 x 30", "a multiple of 4", "--resize 32"),
    oblong: ("32 x 28", "--resize 32"),
}


@pytest.mark.parametrize("change", FOLDERS, ids=lambda change: change.__name__)
def test_a_wrong_folder_is_named(change, source, refused):
    change(source)
    line = refused("--dataset", "mine", "--source", source)
    assert all(word in line for word in FOLDERS[change]), line


ROWS = "{0},bag\n{1},boot\n"
LISTS = {
    "nothing in it": ("", "no line"),
    "a head alone": ("path,label\n", "0 classes"),
    "other columns": ("id,label\n" + ROWS, "columns id,label"),
    "other names of columns": ("filename,class\n" + ROWS, "line 1: columns filename,class"),
    "semicolons": ("{0};bag\n{1};boot\n", "line 1: 1 cell", "a comma"),
    "a column more": ("path,label,fold\n" + ROWS, "columns path,label,fold"),
    "a cell too few": ("path,label\n" + ROWS + "x.png\n", "line 4: 1 cell"),
    "no label": ("path,label\n" + ROWS + "x.png,\n", "line 4: no label"),
    "another split": ("path,label,split\n{0},bag,train\n{1},boot,val\n", "line 3: split 'val'"),
    "no test": ("path,label,split\n{0},bag,train\n{1},boot,train\n", "no test images"),
    "an image twice": ("path,label\n" + ROWS + "./{0},boot\n", "line 4", "twice, first in line 2"),
    "an image that is not there": ("path,label\n" + ROWS + "bag/no.png,bag\n", "bag/no.png: not there"),
    "a folder": ("path,label\n" + ROWS + "bag,bag\n", "bag: a folder"),
    "a quote without end": ('path,label\n"{0},bag\n', "no CSV"),
    "not UTF-8": ("path,label\n{0},b\xe4g\n", "no UTF-8"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_wrong_list_names_its_line(name, source, refused):
    text, *said = LISTS[name]
    images = [sorted((source / label).iterdir())[0].relative_to(source) for label in ("bag", "boot")]
    (source / "list.csv").write_bytes(text.format(*images).encode("latin-1"))
    line = refused("--dataset", "mine", "--source", source / "list.csv")
    assert all(word in line for word in said) and str(source) in line, line


NAMES = {
    "x-r14": "reads as a network",
    "r8w32": "reads as a network",
    "a-to-b": "NAME-to-NAME",
    "../up": "a plain word",
    "a/b": "a plain word",
    ".hidden": "a plain word",
    "My-Images": "a plain word",
    "a--b": "a plain word",
    "a" * 41: "at most 40",
    "downloads": "taken",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_name(name, source, refused):
    line = refused("--dataset", name, "--source", source)
    assert line.startswith(f"--dataset {name}: ") and NAMES[name] in line


OPTIONS = {
    ("--resize", "30"): "a multiple of 4",
    ("--resize", "4"): "from 8 to 256",
    ("--resize", "0"): "from 8 to 256",
    ("--test-share", "0"): "more than 0 and less than 1",
    ("--test-share", "1"): "more than 0 and less than 1",
    ("--test-share", "nan"): "more than 0 and less than 1",
    ("--pad", "33"): "0 to 32 pixels",
    ("--seed", "-1"): "0 or more",
    ("--trust",): "leave it out",
    ("--mean", "1,2"): "three numbers",
    ("--mean", "0.5,0.4,0"): "give --mean 127.5,102,0",
    ("--mean", "no.binaryproto"): "a file of Caffe that is there",
    ("--mean", __file__): "no mean file of Caffe",
    ("--check", "--grey"): "--check builds nothing",
}


@pytest.mark.parametrize("words", OPTIONS, ids=" ".join)
def test_a_wrong_option(words, source, refused):
    assert OPTIONS[words] in refused("--dataset", "mine", "--source", source, *words)


@pytest.mark.parametrize(
    ("name", "said"), [("no", "is not there"), ("a.txt", "unpack an archive first"), ("e", "no class folders")]
)
def test_a_source_of_no_kind(name, said, source, refused):
    (source / "a.txt").write_text("")
    (source / "e").mkdir()
    assert said in refused("--dataset", "mine", "--source", source / name)


def test_options_of_own_images_are_not_of_official_ones(source, refused):
    for words in (("--resize", "32"), ("--grey",), ("--test-share", "0.1")):
        assert "is of images of your own" in refused("--dataset", "cifar10", "--source", source, *words)
    assert "did you mean cifar10? " in refused("--dataset", "cifr10")


@pytest.mark.parametrize("out", [".", "built", "bag/built"])
def test_a_place_inside_of_the_source(out, source):
    done = build("mine", source, source / out)
    one_line(done, "lies in --source", "outside of it with --out")
    assert sorted(path.name for path in source.iterdir()) == ["bag", "boot"]


def test_the_command_ends_in_one_line(source, tmp_path):
    (source / "bag/x.png").write_bytes(b"")
    one_line(build("mine", source, tmp_path / "out"), source / "bag/x.png", "empty")


def test_the_driver_says_where_it_looked(source, tmp_path):
    homes = {"HKD_DATA": str(tmp_path / "data"), "HKD_RUNS": str(tmp_path / "runs")}
    run = ("python/run_stage.py", "--experiment", "mine-r14-r8", "--cpu")
    one_line(command(*run, env=homes), "unknown data set 'mine'", "--source FOLDER", tmp_path / "data/mine")
    one_line(command(*run[:1], "--experiment", "cifr10-r14-r8", env=homes), "did you mean cifar10?")
    build("mine", source, tmp_path / "data/mine", check=0)
    one_line(command(*run, "--stage", "baseline", env=homes), "fewer than a batch of 128", "--set batch=N")
    one_line(command(*run, "--data", tmp_path / "no", env=homes), "no mine in", tmp_path / "no", "--source FOLDER")
    path = tmp_path / "data/mine/manifest.json"
    path.write_text(path.read_text().replace('"boot"', '"boot", "cat"').replace('"size": 32', '"size": 30'))
    one_line(command(*run, env=homes), path, "not a manifest of images of your own", "size: 30")
