"""The container image: the Dockerfile by rules, what it shares with `make setup`, compose.yaml, the folders and messages
that it relies on, and, where docker or podman works, the image itself: run without a network, stopped and gone on with,
on volumes of every kind, as another user.

HKD_TEST_IMAGE        an image that is there: it is tested, and nothing is built
HKD_TEST_IMAGE_BUILD  words for the build where this machine needs some: "--build-arg BASE=NAME" for a base image that no
                      registry has to send, "--network host", "--volume FILE:FILE:ro" for a mirror's settings
CONTAINER_TOOL        docker or podman; default: the first that answers. Settings of podman's own, like its runtime, go by
                      CONTAINERS_CONF
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import uuid

import pytest
import yaml

from conftest import ROOT, command, one_line

RUN = "python/run_stage.py"
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
BUILD_IMAGE = ROOT / "docker/build_image.sh"
LARGEST = 1_200_000_000  # bytes of the CPU image
README = (ROOT / "docker/README.md").read_text()
README_LINES = re.findall(r"^docker run --rm hkd-caffe (python .*)$", README, re.M)


MAKE = 'if [ "$CAFFE_CUDA" = 1 ]; then make caffe-cuda; else make setup; fi'


def instructions():
    """[(KEYWORD, rest)] of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M))
    return [(line.split()[0], " ".join(line.split()[1:])) for line in text.splitlines() if line.strip()]


def of(keyword):
    return [rest for name, rest in instructions() if name == keyword]


def last_stage():
    found = instructions()
    return found[max(i for i, (name, _) in enumerate(found) if name == "FROM") :]


class TestTheDockerfile:
    def test_the_base_image_is_a_plain_name_with_a_version(self):
        # A first component with a dot or a port is a registry's host; `# syntax=` would be fetched from one.
        assert DOCKERFILE.splitlines()[0].startswith("# ") and "syntax" not in DOCKERFILE.splitlines()[0]
        base = next(rest.removeprefix("BASE=") for rest in of("ARG") if rest.startswith("BASE="))
        host, _, _ = base.rpartition("/")
        assert "." not in host and ":" not in host and re.fullmatch(r"[\w./-]+:[\w.-]+", base)
        assert not base.endswith(":latest")
        assert {rest.split(" AS ")[0] for rest in of("FROM")} == {"${BASE}"}

    def test_nothing_is_fetched_but_by_apt_and_pip(self):
        assert not of("ADD") and not re.search(r"https?://|\b(curl|wget|git clone)\b", DOCKERFILE)
        assert not [rest for rest in of("COPY") if "://" in rest]

    def test_no_package_is_named_in_it(self):
        """Debian's are in packages.txt, Python's in pyproject.toml."""
        listed = [x.split()[0] for x in (ROOT / "docker/packages.txt").read_text().splitlines() if x and x[0] != "#"]
        for run in of("RUN"):
            for step in run.split("&&"):
                words = step.split()
                assert "pip" not in words
                if "apt-get" in words and "install" in words:
                    rest = words[words.index("install") + 1 :]
                    assert all(word.startswith(("-", "<", ">")) for word in rest), step
                    assert "--no-install-recommends" in rest and "rm -rf /var/lib/apt/lists/*" in run
                assert not set(words) & (set(listed) - {"make"}), step

    def test_the_recipe_is_that_of_make_setup(self):
        runs = of("RUN")
        assert "docker/packages.sh install" in runs and MAKE in runs
        assert any(run.startswith("docker/packages.sh runtime .venv/bin/caffe ") for run in runs)
        assert not [run for run in runs if re.search(r"cmake|g\+\+|nvcc|build_caffe", run)]
        said = subprocess.run(["make", "-n", "-B", "setup"], cwd=ROOT, capture_output=True, text=True).stdout
        assert "docker/packages.sh install" in said and "docker/build_caffe.sh" in said

    def test_what_the_recipe_reads_is_copied_before_it(self):
        before = [rest for name, rest in instructions()[: instructions().index(("RUN", MAKE))] if name == "COPY"]
        copied = {word.strip("/") for rest in before for word in rest.split()[:-1]}
        wanted = {"Makefile", "pyproject.toml", "docker/packages.sh", "docker/packages.txt", "docker/build_caffe.sh"}
        assert wanted | {"docker/caffe"} <= copied

    def test_the_last_stage_compiles_nothing_and_runs_as_no_root(self):
        stage = last_stage()
        assert not [rest for name, rest in stage if name == "RUN" and ("packages.sh" in rest or "make" in rest.split())]
        assert [rest for name, rest in stage if name == "USER"] == ["1000:1000"]
        assert not [rest for name, rest in stage if name in ("ENTRYPOINT", "ADD")]
        assert [json.loads(rest) for name, rest in stage if name == "VOLUME"] == [["/data", "/runs"]]
        assert all(isinstance(json.loads(rest), list) for name, rest in stage if name == "CMD")

    def test_hadolint(self):
        if shutil.which("hadolint") is None:
            pytest.skip("no hadolint")
        words = ["hadolint", "--failure-threshold", "warning", ROOT / "docker/Dockerfile"]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout

    def test_what_git_ignores_stays_out_of_the_image(self):
        # !/results/measured/ there is !results/measured here: what is kept of the one is kept of the other.
        lines = [line.replace("!/", "!").strip("/") for line in (ROOT / ".gitignore").read_text().split()]
        ignored = [line.removeprefix("**/") for line in (ROOT / ".dockerignore").read_text().splitlines()]
        assert set(lines) <= set(ignored) and ".git" in ignored


class TestBuildImage:
    def test_without_any_tool_it_is_one_line(self, tmp_path):
        for tool in ("bash", "env", "dirname", "tail", "git"):
            (tmp_path / tool).symlink_to(shutil.which(tool) or "/nonexistent")
        done = subprocess.run([BUILD_IMAGE, "cpu"], capture_output=True, text=True, env={"PATH": str(tmp_path)})
        assert done.returncode == 1
        assert done.stderr == (
            "build_image.sh: error: no docker, podman or buildah here: install one, for example apt-get install podman\n"
        )

    @pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client")
    def test_a_client_without_its_daemon_is_one_line(self):
        env = {**os.environ, "CONTAINER_TOOL": "docker", "DOCKER_HOST": "unix:///nonexistent/docker.sock"}
        done = subprocess.run([BUILD_IMAGE, "cpu"], capture_output=True, text=True, env=env)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert "docker is here, but does not answer (" in done.stderr and "/nonexistent/docker.sock" in done.stderr

    def test_make_calls_it(self):
        for target, word in (("docker", "cpu"), ("docker-cuda", "cuda")):
            said = subprocess.run(
                ["make", "--no-print-directory", "-n", target, "BUILD=--no-cache"],
                cwd=ROOT,
                capture_output=True,
                text=True,
            )
            assert said.stdout == f"docker/build_image.sh {word} --no-cache\n"


class TestCompose:
    FILE = ROOT / "compose.yaml"

    def check(self, config):
        names = re.findall(r"^  (cpu|cuda)\) image=(\S+) ", BUILD_IMAGE.read_text(), re.M)
        assert {(name, service["image"]) for name, service in config["services"].items()} == set(names)
        (volumes,) = [json.loads(rest) for rest in of("VOLUME")]
        for name, service in config["services"].items():
            assert (ROOT / service["build"]["dockerfile"]).samefile(ROOT / "docker/Dockerfile")
            arguments = service["build"]["args"]
            assert set(arguments) <= {rest.split("=")[0] for rest in of("ARG")}
            assert arguments["CAFFE_CUDA"] == str(int(name == "cuda"))
            # Longer than `docker stop` waits by itself.
            assert int(service["stop_grace_period"].removesuffix("s")) > 10
            mounts = [
                m.split(":")[:2] if isinstance(m, str) else [m["source"], m["target"]] for m in service["volumes"]
            ]
            assert [target for _, target in mounts] == volumes
            assert {source for source, _ in mounts} == set(config["volumes"])
        assert {volume["name"] for volume in config["volumes"].values()} == set(re.findall(r" -v (hkd-\w+):/", README))
        (gpus,) = config["services"]["cuda"]["deploy"]["resources"]["reservations"]["devices"]
        assert gpus["driver"] == "nvidia" and gpus["capabilities"] == ["gpu"]
        assert "deploy" not in config["services"]["cpu"]

    def test_the_file_fits_the_dockerfile_and_the_makefile(self):
        self.check(yaml.safe_load(self.FILE.read_text()))

    def test_compose_reads_it_so(self):
        words = next((w for w in (["docker", "compose"], ["docker-compose"]) if answers([*w, "version"])), None)
        if words is None:
            pytest.skip("no docker compose")
        done = subprocess.run([*words, "-f", self.FILE, "config"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self.check(yaml.safe_load(done.stdout))


def test_where_selinux_is_what_is_mounted_may_be_read():
    """Every volume of compose.yaml, and every folder in README's commands, which SELinux keeps from a container without z."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    folders = re.findall(r'^docker run .*-v "(\$PWD[^"]*)" -v "(\$PWD[^"]*)"', README, re.M)
    mounts = [*(mount for service in services for mount in service["volumes"]), *(m for pair in folders for m in pair)]
    assert len(mounts) == 6 and all(mount.endswith(":z") for mount in mounts)


class TestWhatTheImageReliesOn:
    def test_the_folders_of_the_environment_are_the_defaults(self, tmp_path):
        env = {"HKD_DATA": str(tmp_path / "d"), "HKD_RUNS": str(tmp_path / "r"), "HKD_RESULTS": str(tmp_path / "o")}
        words = ("--experiment", "fashion-mnist-r14-r8", "--stage", "teacher")
        done = command(RUN, *words, "--prepare", env=env, check=0)
        assert f"data: {tmp_path}/d/fashion-mnist (not there" in done.stdout
        assert (tmp_path / "d/fashion-mnist/manifest.json").exists()
        assert list((tmp_path / "r/fashion-mnist").glob("*/r14-teacher/net.prototxt"))
        command("python/make_tables.py", "table1", env=env, check=0)
        assert (tmp_path / "o/table1.md").exists()
        said = subprocess.run(
            ["make", "-n", "demo"], cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True
        )
        assert f"--runs '{tmp_path}/r' " in said.stdout and f"--out '{tmp_path}/o/demo'" in said.stdout

    def test_an_archive_in_the_data_folder_is_used(self, colour_source, tmp_path):
        with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz", compresslevel=1) as archive:
            archive.add(colour_source, "cifar-10-batches-bin")
        done = command("data_tools/make_lmdb.py", "--dataset", "cifar10", env={"HKD_DATA": str(tmp_path)}, check=0)
        assert "1,000 training and 200 test images" in done.stdout and (tmp_path / "cifar10/manifest.json").exists()

    def test_in_the_image_the_message_says_what_to_mount(self, tmp_path):
        unreachable = {
            "https_proxy": "http://127.0.0.1:9",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "HKD_FETCH_BACK_OFF": "0",
        }
        env = {**unreachable, "HKD_IMAGE": "1234567", "HKD_DATA": str(tmp_path), "HKD_RUNS": str(tmp_path)}
        one_line(
            command(RUN, env=env), "no CIFAR-10 in", f"-v FOLDER:{tmp_path}", "cannot download cifar-10-binary.tar.gz"
        )

    def test_a_record_names_the_commit_of_the_image(self, fashion, tmp_path):
        where = ["--experiment", "fashion-mnist-r14-r8", "--data", fashion, "--runs", tmp_path, "--scale", "0.00003"]
        command(RUN, *where, "--stage", "baseline", env={"HKD_IMAGE": "1234567"}, check=0)
        (record,) = tmp_path.glob("*/*/*/record.json")
        assert json.loads(record.read_text())["versions"]["hkd-caffe"] == "1234567"

    @pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
    def test_a_folder_of_runs_that_cannot_be_made_is_said_before_the_data_set_is_built(self, tmp_path):
        (tmp_path / "locked").mkdir(0o555)
        words = ["--experiment", "fashion-mnist-r14-r8", "--stage", "teacher", "--data", tmp_path / "d"]
        one_line(command(RUN, *words, "--runs", tmp_path / "locked/runs"), "locked: no permission", "another folder")
        assert not (tmp_path / "d").exists()

    def test_sigterm_ends_every_command_as_ctrl_c_does(self, tmp_path):
        words = ["--experiment", "fashion-mnist-r14-r8", "--data", tmp_path / "d", "--runs", tmp_path / "r"]
        process = subprocess.Popen(
            [sys.executable, ROOT / RUN, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for line in process.stdout:
            if "building it" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM and process.stderr.read() == "error: interrupted\n"
        process.stdout.close(), process.stderr.close()


# --- the image itself -----------------------------------------------------------------------------------------------------


def answers(words):
    try:
        return subprocess.run(words, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture(scope="session")
def tool():
    for name in os.environ.get("CONTAINER_TOOL", "docker podman").split():
        if answers([name, "info"]):
            return name
    pytest.skip("neither docker nor podman answers here")


def skip_unless_it_runs(tool, image):
    """Where there is no way to the base image, or the machine lets no container start, nothing can be said of ours."""
    done = subprocess.run([tool, "run", "--rm", "--network", "none", image, "true"], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        pytest.skip(f"{tool} cannot run {image} here: {last}")


@pytest.fixture(scope="session")
def image(tool):
    """The CPU image; it stays, so that the next time its layers are there."""
    given = os.environ.get("HKD_TEST_IMAGE")
    words = shlex.split(os.environ.get("HKD_TEST_IMAGE_BUILD", ""))
    bases = [word.removeprefix("BASE=") for word in words if word.startswith("BASE=")]
    skip_unless_it_runs(tool, given or (bases or ["debian:bookworm-slim"])[-1])
    if given:
        return given
    name = "hkd-caffe-test"
    env = {**os.environ, "CONTAINER_TOOL": tool, "IMAGE": name}
    done = subprocess.run([BUILD_IMAGE, "cpu", *words], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return name


class Containers:
    """Containers of one image and the named volumes of one test, none of which outlives it."""

    def __init__(self, tool, image):
        self.tool, self.image, self.id = tool, image, f"hkd-test-{uuid.uuid4().hex[:12]}"
        self.volumes, self.names = set(), []

    def __call__(self, *words, check=0):
        done = subprocess.run([self.tool, *map(str, words)], capture_output=True, text=True)
        assert check is None or done.returncode == check, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def volume(self, name):
        self.volumes.add(f"{self.id}-{name}")
        return f"{self.id}-{name}"

    def run(self, *words, options=(), check=0):
        """A command of README in a container that has no network."""
        return self("run", "--rm", "--network", "none", *options, self.image, *words, check=check)

    def start(self, *words, options=()):
        """The same in the background; returns its name."""
        self.names.append(f"{self.id}-{len(self.names)}")
        self("run", "-d", "--network", "none", "--name", self.names[-1], *options, self.image, *words)
        return self.names[-1]

    def stopped(self, name):
        """`docker stop` as it is typed; returns (seconds, exit code, what the container said)."""
        since = time.monotonic()
        self("stop", name)
        seconds = time.monotonic() - since
        log = self("logs", name)
        return seconds, int(self("inspect", "--format", "{{.State.ExitCode}}", name).stdout), log.stdout + log.stderr

    def wait_for(self, name, found):
        """Until found(what the container said)."""
        end = time.monotonic() + 600
        while not found((log := self("logs", name)).stdout + log.stderr):
            assert time.monotonic() < end and self("inspect", "--format", "{{.State.Running}}", name).stdout == "true\n"
            time.sleep(0.1)

    def remove(self):
        for name in self.names:
            self("rm", "-f", name, check=None)
        for name in self.volumes:
            self("volume", "rm", "-f", name, check=None)


@pytest.fixture
def containers(tool, image):
    made = Containers(tool, image)
    yield made
    made.remove()


STAGE = ("python", RUN, "--experiment", "fashion-mnist-r14-r8", "--stage", "baseline")
SHORT = (*STAGE, "--scale", "0.0003")


@pytest.fixture
def locked(tmp_path):
    """A folder that belongs to this user and may be written by none but root, which no container's user is."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


@pytest.mark.slow
class TestTheImage:
    def test_its_size_and_what_is_not_in_it(self, containers, tool):
        size = int(containers("image", "inspect", "--format", "{{.Size}}", containers.image).stdout)
        assert size < LARGEST
        found = containers.run(
            "sh",
            "-c",
            "command -v g++ gcc cmake nvcc protoc git; ls -A /var/lib/apt/lists; cat /etc/pip.conf",
            check=None,
        )
        assert found.stdout.split() == []
        assert containers.run("id", "-u").stdout == "1000\n"

    @pytest.mark.parametrize("line", README_LINES)
    def test_the_line_of_the_user_without_a_network(self, containers, line):
        done = containers.run(*shlex.split(line))
        assert "r14-r8-layerwise-hint2: test loss" in done.stdout and "/runs/fashion-mnist/scale0.001" in done.stdout

    def test_without_cifar10_it_says_what_to_mount_where(self, containers):
        done = containers.run("python", RUN, "--stage", "hint", "--step", "2", check=None)
        one_line(
            done, "no CIFAR-10 in /data/cifar10", "-v FOLDER:/data", "cifar-10-binary.tar.gz", "name does not resolve"
        )

    def test_an_archive_in_a_mounted_folder(self, containers, colour_source):
        volume = ["-v", f"{containers.volume('data')}:/data"]
        copy = f"{colour_source}:/source:ro"
        pack = "tar -czf /data/cifar-10-binary.tar.gz -C /source ."
        containers.run("sh", "-c", pack, options=[*volume, "-v", copy, "--user", "0"])
        done = containers.run("python", RUN, "--stage", "teacher", "--prepare", "--scale", "0.001", options=volume)
        assert "1,000 training and 200 test images" in done.stdout and "ready: caffe train" in done.stdout

    def test_another_user_and_a_read_only_container(self, containers):
        for options in (
            ["--user", "1234:1234"],
            ["--read-only", "--tmpfs", "/tmp"],
            ["--cap-drop", "ALL", "--user", "0"],
        ):
            volumes = ["-v", f"{containers.volume(options[0][2:])}:/runs"]
            containers.run(*SHORT, options=[*options, *volumes])
            words = ("python", "python/make_tables.py", "--experiment", "fashion-mnist-r14-r8", "--scale", "0.0003")
            done = containers.run(*words, options=[*options, *volumes])
            assert "table: /runs/results/comparison.md" in done.stdout and "Matplotlib" not in done.stderr

    def test_a_volume_that_may_not_be_written(self, containers, locked):
        owner = "chown 1000 the folder that is mounted there, or mount a named volume"
        runs = containers.run(*SHORT, options=["-v", f"{locked}:/runs"], check=None)
        one_line(runs, "/runs: no permission to write", "this is user 1000, and /runs belongs to user", owner)
        assert "building it" not in runs.stdout
        data = containers.run(*SHORT, options=["-v", f"{locked}:/data"], check=None)
        one_line(data, "/data: no permission to write", owner)
        read_only = containers.run(*SHORT, options=["-v", f"{containers.volume('r')}:/runs:ro"], check=None)
        one_line(read_only, "/runs: a read-only file system", "without :ro")

    def test_a_stage_of_another_user(self, containers):
        volume = ["-v", f"{containers.volume('runs')}:/runs"]
        containers.run(*SHORT, options=volume)
        other = ["--user", "1234:1234"]
        done = containers.run(*SHORT, options=[*volume, *other], check=None)
        assert done.returncode == 0 and "finished, used again" in done.stdout  # reading is enough
        more = containers.run(*SHORT, "--net", "2", options=[*volume, *other], check=None)
        one_line(more, "this is user 1234", "belongs to user 1000", "--user 1000:1000")

    def test_data_that_may_only_be_read(self, containers):
        data = containers.volume("data")
        containers.run(
            "python", "data_tools/make_lmdb.py", "--dataset", "fashion-mnist", options=["-v", f"{data}:/data"]
        )
        done = containers.run(*SHORT, options=["-v", f"{data}:/data:ro", "--user", "1234:1234"])
        assert "r8-baseline-net1: Pc" in done.stdout

    def test_stopped_and_gone_on_with_it_ends_in_the_same_bytes(self, containers):
        data = ["-v", f"{containers.volume('data')}:/data"]
        long = (*STAGE, "--scale", "0.01")
        folder = "/runs/fashion-mnist/scale0.01-seed1/r8-baseline-net1"
        digests = []
        for name in ("whole", "stopped"):
            options = [*data, "-v", f"{containers.volume(name)}:/runs"]
            if name == "stopped":
                started = containers.start(*long, options=options)
                containers.wait_for(started, lambda said: "iteration 100 of 360" in said)
                seconds, code, said = containers.stopped(started)
                (at,) = re.findall(r"stopped at iteration (\d+): the same command goes on from there", said)
                assert code == 128 + signal.SIGTERM and seconds < 10 and 100 <= int(at) < 360
            said = containers.run(*long, options=options).stdout
            assert (f"resumed at iteration {at} of 360" in said) if name == "stopped" else ("resumed" not in said)
            sums = containers.run(
                "sha256sum", f"{folder}/final.caffemodel", f"{folder}/final.solverstate", options=options
            )
            digests.append(sums.stdout)
        assert digests[0] == digests[1] and digests[0].count("final.") == 2

    def test_stopped_while_the_data_set_is_built(self, containers):
        options = ["-v", f"{containers.volume('data')}:/data"]
        started = containers.start(*SHORT, options=options)
        containers.wait_for(started, lambda said: "building it" in said)
        seconds, code, said = containers.stopped(started)
        assert code == 128 + signal.SIGTERM and seconds < 10 and "error: interrupted" in said
        assert "r8-baseline-net1: Pc" in containers.run(*SHORT, options=options).stdout

    def test_make_setup_and_make_lint_find_everything_there(self, containers):
        for options in ([], ["--user", "1234:1234"]):
            said = containers.run("make", "lint", options=options).stdout
            assert "Caffe is built already" in said and "All checks passed!" in said
            assert "installing" not in said and "compiling" not in said

    def test_a_part_of_the_tests_inside(self, containers):
        """All of them are `make test` in a container: a quarter of an hour."""
        said = containers.run(
            "python", "-m", "pytest", "-q", "tests/docker/test_build.py", "tests/stages/test_generated.py"
        ).stdout
        assert re.search(r"\d+ passed", said) and "failed" not in said
