"""A folder of image files to LMDBs, to stages, to a table: real pictures, Pillow's own reading beside ours, Caffe."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT, command, namespace, one_line, snakemake
from lmdbs import TOOL, build, manifest, nothing_beside, read_lmdb, read_mean
from own_folders import NAMES, coloured, fashion_images, write_classes
from pages import PAGES, commands

SECTION = PAGES["data_tools/README.md"].partition("\n## Your own images\n")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def photos(once):
    """200 coloured pictures in ten class folders."""

    def fill(folder):
        images, labels = fashion_images(200)
        write_classes(folder, coloured(images), labels)

    return once("photos", fill)


@pytest.fixture(scope="module")
def built(photos, once):
    fill = lambda folder: build("photos", photos, folder / "photos", check=0)  # noqa: E731
    return once("photos-built", fill) / "photos"


def pixels_of(folder):
    """{bytes of the pixels, channels first: name of the class} of the files under a folder, as Pillow reads them."""
    found = {}
    for path in folder.glob("*/*.*"):
        array = np.asarray(Image.open(path))
        found[(array[None] if array.ndim == 2 else array.transpose(2, 0, 1)).tobytes()] = path.parent.name
    return found


def test_every_pixel_of_every_file_is_in_it_once(built, photos):
    names, expected = sorted(NAMES), pixels_of(photos)
    (train, labels), (test, test_labels) = read_lmdb(built / "train_lmdb"), read_lmdb(built / "test_lmdb")
    assert train.shape[1:] == (3, 40, 40) and test.shape[1:] == (3, 32, 32)
    inner = train[:, :, 4:-4, 4:-4]
    assert train.sum() == inner.sum()
    found = [
        (i.tobytes(), names[n]) for i, n in [*zip(inner, labels, strict=True), *zip(test, test_labels, strict=True)]
    ]
    assert len(found) == len(expected) == 200 and dict(found) == expected
    np.testing.assert_allclose(read_mean(built / "mean_test.binaryproto"), inner.mean(axis=0), rtol=1e-6)
    assert list(labels) != sorted(labels) and list(test_labels) == sorted(test_labels)


def test_its_manifest_says_what_it_is(built, photos):
    said = manifest(built)
    assert said["class_names"] == sorted(NAMES) and said["channels"] == ["red", "green", "blue"]
    assert said["read"] == {"colours": None, "resize": None, "test_share": 0.1} and said["official"] is False
    per_class = np.bincount(fashion_images(200)[1])[[NAMES.index(name) for name in sorted(NAMES)]]
    assert np.array_equal(np.add(said["train"]["per_class"], said["test"]["per_class"]), per_class)
    assert said["test"]["per_class"] == [max(1, round(0.1 * count)) for count in per_class]


def test_the_same_command_builds_once_and_what_differs_is_refused(built, photos):
    assert "built already" in build("photos", photos, built, check=0).stdout
    assert "built already" in build("photos", photos, built, "--test-share", "0.1", check=0).stdout
    one_line(build("photos", photos, built, "--test-share", "0.2"), "--test-share 0.1, not --test-share 0.2")
    one_line(build("photos", photos, built, "--resize", "16"), "--resize 16")
    one_line(build("photos", photos, built, "--seed", "2"), "--seed 1, not 2")
    one_line(build("others", photos, built), "holds photos, not others")
    one_line(build("photos", photos / "bag", built), f"built from {photos}, not {photos}/bag")


def test_a_folder_that_has_changed_since_is_refused(photos, tmp_path):
    source = tmp_path / "photos"
    shutil.copytree(photos, source)
    build("photos", source, tmp_path / "out", check=0)
    (first, *_, last) = sorted((source / "bag").iterdir())
    whole = last.read_bytes()
    last.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # of the same size
    one_line(build("photos", source, tmp_path / "out"), "built from other images than are in", source)
    last.write_bytes(whole)
    assert "built already" in build("photos", source, tmp_path / "out", check=0).stdout
    first.unlink()
    one_line(build("photos", source, tmp_path / "out"), "built from other images than are in", source)


def test_the_share_is_drawn_by_the_seed_and_class_by_class(photos, tmp_path, built):
    build("photos", photos, tmp_path / "other", "--seed", "2", "--test-share", "0.25", check=0)
    said = manifest(tmp_path / "other")
    whole = np.add(said["train"]["per_class"], said["test"]["per_class"])
    assert said["test"]["per_class"] == [round(0.25 * count) for count in whole.tolist()]
    other = {image.tobytes() for image in read_lmdb(tmp_path / "other/test_lmdb")[0]}
    assert not {image.tobytes() for image in read_lmdb(built / "test_lmdb")[0]} <= other


def test_train_and_test_folders_and_a_csv_of_the_same_give_the_same(photos, tmp_path):
    images, labels = fashion_images(60)
    source = tmp_path / "source"
    write_classes(source / "train", coloured(images[:40]), labels[:40])
    write_classes(source / "test", coloured(images[30:]), labels[30:], first=30)  # ten are in both
    done = build("mine", source, tmp_path / "folders", check=0)
    said = manifest(tmp_path / "folders")
    both = said["in_train_and_test"]
    assert both["test_images"] == 10 and len(both["first"]) == 5
    assert all(a == b.replace("test/", "train/") and a.startswith("train/") for a, b in both["first"])
    assert "10 test images are training images too" in done.stderr and both["first"][0][1] in done.stderr
    rows = sorted(
        (path.relative_to(source).parts[0] != "train", path.parent.name, str(path.relative_to(source)))
        for path in source.rglob("*.png")
    )
    lines = [f"{label},{split},{path}" for later, label, path in rows for split in [("train", "test")[later]]]
    (source / "list.csv").write_text("\n".join(["Label,Split,Path", *lines]) + "\n")
    build("mine", source / "list.csv", tmp_path / "csv", check=0)
    assert manifest(tmp_path / "csv")["pixels_sha256"] == said["pixels_sha256"]
    assert manifest(tmp_path / "csv")["class_names"] == said["class_names"]
    one_line(build("mine", source, tmp_path / "o", "--test-share", "0.1"), "--test-share 0.1", "leave it out")


@pytest.mark.parametrize(
    ("suffix", "options"), [(".jpg", {"quality": 90}), (".webp", {"lossless": True}), (".WEBP", {"quality": 60})]
)
def test_the_other_formats_are_as_pillow_decodes_them(suffix, options, tmp_path):
    images, labels = fashion_images(60)
    kind = "WEBP" if suffix.lower() == ".webp" else "JPEG"
    grey = kind == "JPEG"
    written = images if grey else coloured(images)
    source = tmp_path / "source"
    write_classes(source, written, labels, suffix, format=kind, **options)
    build("mine", source, tmp_path / "out", "--pad", "0", "--test-share", "0.4", check=0)
    found = [
        image.tobytes() for split in ("train_lmdb", "test_lmdb") for image in read_lmdb(tmp_path / "out" / split)[0]
    ]
    assert sorted(found) == sorted(pixels_of(source))
    assert manifest(tmp_path / "out")["channels"] == (["grey"] if grey else ["red", "green", "blue"])
    assert "libwebp" in manifest(tmp_path / "out")["decoder"]


class TestOneImage:
    """Files that are not plain, each made from one picture and compared with it."""

    @pytest.fixture
    def picture(self):
        images, _ = fashion_images(1)
        return Image.fromarray(coloured(images)[0])

    @pytest.fixture
    def read(self, tmp_path):
        import pictures

        def read(image, suffix=".png", **options):
            path = tmp_path / f"image{suffix}"
            image.save(path, **options)
            return pictures.pixels(pictures.decoded(pictures.content(path)))

        return read

    def test_a_palette_becomes_its_colours(self, read, picture):
        few = picture.quantize(200)
        assert np.array_equal(read(few), np.asarray(few.convert("RGB")).transpose(2, 0, 1))

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_an_alpha_channel_that_hides_nothing_is_left_out(self, read, picture, mode):
        plain = np.asarray(picture.convert(mode.removesuffix("A")))
        assert np.array_equal(read(picture.convert(mode)), plain[None] if mode == "LA" else plain.transpose(2, 0, 1))

    def test_a_picture_of_one_bit_is_black_and_white(self, read, picture):
        assert set(read(picture.convert("1")).ravel().tolist()) == {0, 255}

    def test_a_note_of_a_camera_turns_it(self, read, picture):
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees clockwise
        turned = read(picture, ".webp", lossless=True, exif=exif)
        assert np.array_equal(turned, np.rot90(np.asarray(picture), -1).transpose(2, 0, 1))


def test_mixtures_become_one_kind_and_one_size_where_that_is_asked_for(tmp_path):
    images, labels = fashion_images(60)
    source = tmp_path / "source"
    write_classes(source, images[:30], labels[:30])
    write_classes(source, coloured(images[30:]), labels[30:], first=30)
    one_line(build("mine", source, tmp_path / "no"), "--grey", "--colour", "is grey" if labels[0] else "colour")
    build("mine", source, tmp_path / "grey", "--grey", "--resize", "28", check=0)
    expected = {
        Image.open(p).convert("L").resize((28, 28), Image.Resampling.BILINEAR).tobytes() for p in source.rglob("*.png")
    }
    train, test = (read_lmdb(tmp_path / "grey" / split)[0] for split in ("train_lmdb", "test_lmdb"))
    assert {i.tobytes() for i in [*train[:, :, 3:-3, 3:-3], *test]} == expected  # padded by an eighth of 28, 3
    build("mine", source, tmp_path / "colour", "--colour", "--resize", "32", check=0)
    assert read_lmdb(tmp_path / "colour/test_lmdb")[0].shape[1:] == (3, 32, 32)


def test_a_number_of_test_images_that_makes_tests_slow_is_said():
    from own_images import slow_test

    assert [slow_test(n) for n in (7, 97, 600, 10_000, 1_010)] == [None] * 5
    assert slow_test(4_999) == "4,999 test images divide into batches of 1 alone, which is slow: leave out 1 of them"
    assert "batches of 2 alone" in slow_test(9_998)


def test_what_is_passed_over_and_what_is_followed(photos, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(photos, source)
    for name in (".git/config", "bag/.DS_Store", "bag/Thumbs.db", "__MACOSX/bag/1.png", "README.md"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("")
    moved = next((source / "bag").glob("*.png"))
    shutil.move(moved, tmp_path / moved.name)
    moved.symlink_to(tmp_path / moved.name)
    shutil.move(source / "boot", tmp_path / "boot")
    (source / "boot").symlink_to(tmp_path / "boot")
    done = build("photos", source, tmp_path / "out", check=0)
    assert "5 other files passed over" in done.stdout and manifest(tmp_path / "out")["passed_over"] == 5
    assert manifest(tmp_path / "out")["train"]["images"] + manifest(tmp_path / "out")["test"]["images"] == 200


def test_numbers_as_names_are_in_the_order_of_numbers_and_300_classes_train(tmp_path):
    """A label of 300 classes does not fit a byte; images of 8 x 8 are the smallest."""
    images, _ = fashion_images(600)
    small = images[:, 6:22:2, 6:22:2]
    write_classes(tmp_path / "source", small, np.arange(600) % 300, names=[str(n) for n in range(300)])
    build("many", tmp_path / "source", tmp_path / "many", "--test-share", "0.5", check=0)
    assert manifest(tmp_path / "many")["class_names"] == [str(n) for n in range(300)]
    train, labels = read_lmdb(tmp_path / "many/train_lmdb")
    where = {image.tobytes(): number % 300 for number, image in enumerate(small)}
    assert all(where[image[0, 1:-1, 1:-1].tobytes()] == label for image, label in zip(train, labels, strict=True))
    words = (
        "--experiment",
        "many-r14-r8",
        "--stage",
        "baseline",
        "--data",
        tmp_path / "many",
        "--runs",
        tmp_path / "runs",
    )
    command("python/run_stage.py", *words, "--scale", "0.00001", "--set", "batch=2", "--cpu", check=0)
    (record,) = (tmp_path / "runs").glob("many/*/*/record.json")
    facts = {"classes": 300, "channels": 1, "size": 8, "train_images": 300, "test_images": 300, "pad": 1}
    assert json.loads(record.read_text())["data_sets"] == [{"name": "many"} | facts]


def test_the_index_is_added_and_each_image_compared(photos, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(photos, source)
    build("photos", source, tmp_path / "out", check=0)
    command(TOOL, "--dataset", "photos", "--index", "--out", tmp_path / "out", check=0)
    places = read_lmdb(tmp_path / "out/train_index_lmdb")[1]
    assert sorted(places) == list(range(manifest(tmp_path / "out")["train"]["images"]))
    shutil.copytree(tmp_path / "out", tmp_path / "again")
    shutil.rmtree(tmp_path / "again/train_index_lmdb")
    said = manifest(tmp_path / "again")
    del said["bytes"]["train_index_lmdb/data.mdb"]
    (tmp_path / "again/manifest.json").write_text(json.dumps(said))
    image = Image.open(changed := sorted((source / "bag").iterdir())[0])
    image.putpixel((9, 9), (1, 2, 3))
    image.save(changed)
    done = command(TOOL, "--dataset", "photos", "--index", "--out", tmp_path / "again")
    if done.returncode == 0:  # it is one of the test images
        pytest.skip("the changed image is for the test")
    one_line(done, "is not image", source)


# --- the commands of the page ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walked(photos, tmp_path_factory):
    """The section's commands, in a folder that has `photos/`, with fewer iterations: (folder, {command: what it printed})."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(photos, folder / "photos")
    paths = sorted(str(path.relative_to(folder)) for path in folder.glob("photos/*/*.png"))
    (folder / "list.csv").write_text("path,label\n" + "".join(f"{path},{path.split('/')[1]}\n" for path in paths))
    homes = {f"HKD_{name.upper()}": str(folder / name) for name in ("data", "runs", "results")}
    shutil.copytree(folder / "photos", folder / "mixed")
    Image.open(folder / paths[0]).convert("L").resize((48, 40)).save(folder / "mixed/bag/odd.png")
    said = {}
    for line in commands(SECTION):
        _, script, *words = shlex.split(line)
        if script.endswith("run_stage.py"):
            words += ["--scale", "0.00002", "--set", "batch=16", "--cpu", "--threads", "1"]
        if "LMDB" in line:
            continue  # test_foreign_lmdb.py
        said[line] = command(ROOT / script, *words, env=homes, cwd=folder, check=0).stdout
    return folder, said


def test_the_commands_of_the_page_end_in_a_table(walked):
    folder, said = walked
    assert len(said) >= 5
    table = (folder / "results/comparison.md").read_text()
    assert "| teacher | 14 | 1 |" in table and "layer-wise hints, then KD | 8 |" in table
    assert "photos, 14 -> 8 layers" in table and "official" not in table
    record = next((folder / "runs/photos").glob("*/r14-r8-layerwise-kd-net1*/record.json"))
    assert json.loads(record.read_text())["settings"]["mirror"] is True


def test_tables_need_no_images(walked, tmp_path):
    """Another machine has the records alone."""
    folder, _ = walked
    for path in (folder / "runs").rglob("*"):
        if path.name in ("record.json", "log.jsonl", "stage.json"):
            there = tmp_path / path.relative_to(folder)
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, there)
    where = ("--runs", tmp_path / "runs", "--out", tmp_path / "out")
    elsewhere = {"HKD_DATA": str(tmp_path / "none")}
    command("python/make_tables.py", "--experiment", "photos-r14-r8", *where, env=elsewhere, check=0)
    assert (tmp_path / "out/comparison.md").read_text() == (folder / "results/comparison.md").read_text()
    command("python/make_tables.py", "report", "photos-r14-r8", *where, env=elsewhere, check=0)
    assert "photos, 14 to 8 layers" in (tmp_path / "out/report.html").read_text()
    done = command(
        "python/run_stage.py", "--status", "--experiment", "photos-r14-r8", *where[:2], env=elsewhere, check=0
    )
    assert "r14-teacher" in done.stdout


def test_snakemake_finds_what_was_trained(walked, tmp_path):
    folder, _ = walked
    where = [f"{name}={folder / name}" for name in ("data", "runs")]
    done = snakemake(
        "photos-r14-r8", "-n", config=("scale=0.00002", "set=batch=16", "experiments=photos-r14-r8", *where), check=0
    )
    said = done.stdout + done.stderr
    assert "photos/manifest.json" in said and "make_lmdb.py" not in said and "rule kd:" in said
    one_line_of(snakemake("photos-r14-r8", "-n", config=("experiments=photos-r14-r8", f"data={tmp_path}")), tmp_path)


@pytest.mark.slow
def test_snakemake_trains_every_stage_and_makes_the_table(photos, tmp_path):
    build("photos", photos, tmp_path / "data/photos", check=0)
    config = ("scale=0.00002", "set=batch=16", "nets=1", "experiments=photos-r14-r8")
    where = [f"{name}={tmp_path / name}" for name in ("data", "runs", "out")]
    snakemake("photos-r14-r8", config=(*config, *where), check=0)
    table = (tmp_path / "out/photos-r14-r8.md").read_text()
    for method in ("teacher", "student alone", "KD without hints", "layer-wise hints, then KD"):
        assert f"| {method} |" in table


def one_line_of(done, *words):
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode and len(lines) == 1 and all(str(word) in lines[0] for word in words), done.stderr


def test_a_teacher_of_ones_own_images_and_a_student_of_others(walked, photos, tmp_path):
    folder, _ = walked
    build("half", photos, folder / "data/half", "--test-share", "0.5", check=0)
    words = (
        "--experiment",
        "photos-to-half-r14-r8",
        "--method",
        "fsp",
        "--stage",
        "fsp",
        "--runs",
        folder / "runs",
        "--cpu",
    )
    done = command(
        "python/run_stage.py",
        *words,
        "--scale",
        "0.00002",
        "--set",
        "batch=16",
        env={"HKD_DATA": str(folder / "data")},
        check=0,
    )
    assert "r14-teacher+batch=16" in done.stdout and "finished, used again" in done.stdout


# --- no half data set --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_build_leaves_nothing_that_counts(photos, tmp_path, number):
    out = tmp_path / "data/photos"
    words = [sys.executable, str(ROOT / TOOL), "--dataset", "photos", "--source", str(photos), "--out", str(out)]
    for _ in range(2):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (out.parent / ".photos.lock").exists():
            time.sleep(0.001)
        process.send_signal(number)
        process.wait()
        if number == signal.SIGTERM:
            assert nothing_beside(out)
        if out.exists():
            shutil.rmtree(out)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    assert nothing_beside(out) and [path.name for path in out.parent.iterdir()] == ["photos"]


def test_two_builds_at_once_make_one_data_set(photos, tmp_path):
    out = tmp_path / "photos"
    words = [sys.executable, str(ROOT / TOOL), "--dataset", "photos", "--source", str(photos), "--out", str(out)]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("built already" in text for text in said) == 1 and nothing_beside(out)


def test_a_full_disk_is_one_line(photos, tmp_path):
    script = 'mount -t tmpfs -o size=1m none "$1" && shift && exec "$@"'
    words = (sys.executable, ROOT / TOOL, "--dataset", "photos", "--source", photos, "--out", tmp_path / "photos")
    one_line(namespace(script, tmp_path, *words), tmp_path, "room")
