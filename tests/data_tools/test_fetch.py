"""Downloads, from a real HTTP server on the loopback: whole, resumed, retried, refused."""

import functools
import hashlib
import http.server
import tarfile
import threading

import numpy as np
import pytest
from rich.progress import Progress

import fetch
import make_lmdb
import sources
from conftest import command, one_line, tiny_imagenet_files, write_svhn, write_zip
from hkd.base.cli import UserError
from hkd.paper import datasets

CONTENT = bytes(range(256)) * 4096  # 1 MB
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at every path; what goes wrong is in the path: /cut/3 drops the first three connections halfway."""

    cuts, requests = {}, []

    def do_GET(self):
        self.requests.append((self.path, self.headers.get("Range")))
        if self.path.startswith("/missing"):
            return self.send_error(404)
        if self.path.startswith("/busy") and len([p for p, _ in self.requests if p == self.path]) < 3:
            return self.send_error(503)
        content = CONTENT[::-1] if self.path.startswith("/wrong") else CONTENT
        start = 0
        if (wanted := self.headers.get("Range")) and not self.path.startswith("/norange"):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        left = self.cuts.get(self.path, 0)
        if left:
            self.cuts[self.path] = left - 1
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
            return None
        return self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetch, "BACK_OFF", 0.01)
    Server.cuts, Server.requests = {}, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def get(folder, *mirrors, checksum=SHA256):
    with Progress(disable=True) as progress:
        return fetch.fetch_file(sources.Download("f.bin", len(CONTENT), checksum, mirrors), folder, progress)


def test_a_download_and_one_that_is_there_already(server, tmp_path):
    assert get(tmp_path, server + "/f").read_bytes() == CONTENT
    get(tmp_path, server + "/f")
    assert len(Server.requests) == 1 and not list(tmp_path.glob("*.part"))


def test_a_broken_connection_is_resumed_by_range(server, tmp_path):
    Server.cuts["/f"] = 3
    assert get(tmp_path, server + "/f").read_bytes() == CONTENT
    starts = [wanted for _, wanted in Server.requests]
    assert starts == [None, "bytes=524288-", "bytes=786432-", "bytes=917504-"]


def test_what_an_earlier_command_left_is_resumed(server, tmp_path):
    (tmp_path / "f.bin.part").write_bytes(CONTENT[:1000])
    assert get(tmp_path, server + "/f").read_bytes() == CONTENT
    assert Server.requests == [("/f", "bytes=1000-")]


def test_a_server_without_ranges_is_read_from_the_start(server, tmp_path):
    (tmp_path / "f.bin.part").write_bytes(b"not these" * 10)
    assert get(tmp_path, server + "/norange").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server, tmp_path):
    assert get(tmp_path, server + "/busy").read_bytes() == CONTENT
    assert len(Server.requests) == 3


def test_the_next_mirror_follows_a_missing_or_wrong_one(server, tmp_path):
    assert get(tmp_path, server + "/missing", server + "/wrong", server + "/f").read_bytes() == CONTENT
    assert [path for path, _ in Server.requests] == ["/missing", "/wrong", "/f"]


def test_a_stale_part_of_wrong_content_is_thrown_away(server, tmp_path):
    (tmp_path / "f.bin.part").write_bytes(b"x" * 1000)
    assert get(tmp_path, server + "/f", server + "/g").read_bytes() == CONTENT


def test_md5_where_only_that_is_published(server, tmp_path):
    assert get(tmp_path, server + "/f", checksum="md5:" + hashlib.md5(CONTENT).hexdigest())


def test_no_mirror_at_all_names_them_and_the_way_out(server, tmp_path):
    with pytest.raises(
        UserError, match=r"cannot download f.bin .*/missing: HTTP 404; .*/wrong: .*sha256 differs.*--source"
    ):
        get(tmp_path, server + "/missing", server + "/wrong")
    with pytest.raises(UserError, match="connection refused"):
        get(tmp_path, "http://127.0.0.1:9/f")
    assert not (tmp_path / "f.bin").exists()


class Folder(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def publish_cifar10(folder, colour_source):
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz", compresslevel=1) as t:
        t.add(colour_source, "cifar-10-batches-bin")
    return (1000, 200)


def publish_svhn(folder, _):
    write_svhn(folder, np.random.default_rng(0).integers(0, 256, (30, 3, 32, 32), np.uint8), np.arange(30) % 10, 20)
    return (20, 10)


def publish_tiny_imagenet(folder, _):
    write_zip(folder / "tiny-imagenet-200.zip", tiny_imagenet_files(1))
    return (200, 200)


@pytest.mark.parametrize(
    ("name", "publish"),
    [("cifar10", publish_cifar10), ("svhn", publish_svhn), ("tiny-imagenet", publish_tiny_imagenet)],
)
def test_what_was_downloaded_is_what_is_built_from(name, publish, colour_source, tmp_path, monkeypatch):
    """From a server of one archive, or of several files, to the LMDBs, with no --source."""
    server = tmp_path / "server"
    server.mkdir()
    counts = publish(server, colour_source)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Folder, directory=server)) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        published = []
        for download in sources.DOWNLOADS[name]:
            content, url = (
                (server / download.file).read_bytes(),
                f"http://127.0.0.1:{httpd.server_port}/{download.file}",
            )
            checksum = "sha256:" + hashlib.sha256(content).hexdigest()
            published.append(sources.Download(download.file, len(content), checksum, (url,)))
        monkeypatch.setitem(sources.DOWNLOADS, name, tuple(published))
        monkeypatch.setenv("HKD_DATA", str(tmp_path))
        built = make_lmdb.make_lmdb(datasets.dataset(name), out=tmp_path / "out", quiet=True)
        httpd.shutdown()
    assert (built.train_images, built.test_images) == counts


def test_the_published_sizes_and_checksums_are_well_formed():
    for files in sources.DOWNLOADS.values():
        for wanted in files:
            kind, checksum = wanted.checksum.split(":")
            assert len(checksum) == {"sha256": 64, "md5": 32}[kind] and wanted.size > 1000
            assert len(wanted.mirrors) >= 2 and all(url.endswith("/" + wanted.file) for url in wanted.mirrors)


def test_without_a_network_the_command_says_so_in_one_line(tmp_path):
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    env = {**proxies, "no_proxy": "", "HKD_FETCH_BACK_OFF": "0"}
    done = command("data_tools/fetch.py", "--dataset", "cifar10", "--out", tmp_path, env=env)
    one_line(done, "cifar-10-binary.tar.gz", "--source")
