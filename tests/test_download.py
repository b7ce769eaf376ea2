"""Files over HTTP, from a server on this machine that also misbehaves; and MNIST's way from a mirror to an array."""

import contextlib
import gzip
import hashlib
import http.server
import os
import socket
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest

from dezero import download
from dezero.datasets import MNIST, IdxFile

CONTENT = bytes(range(256)) * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serve `server.files`, name -> bytes; the folder in the path says how: whole, cut, slow, flipped, page, none."""

    def do_GET(self):
        self.server.asked.append(self.path)
        how, _, name = self.path.lstrip("/").rpartition("/")
        content = self.server.files.get(name)
        if content is None or how == "none":
            self.send_error(404)
            return
        self.send_response(200)
        if how != "unmeasured":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if how in ("cut", "slow"):
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if how == "slow":
                self.server.release.wait(10)
        elif how == "flipped":
            self.wfile.write(content[:-1] + bytes([content[-1] ^ 1]))
        elif how == "page":
            self.wfile.write(b"<html>log in</html>".ljust(len(content)))
        else:
            self.wfile.write(content)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.release = {"data.bin": CONTENT}, [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, which does not exist yet, and no way out through a proxy."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DEZERO_HOME", str(folder))
    monkeypatch.setenv("no_proxy", "*")
    return folder


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


def dead_url():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def names(folder):
    return sorted(os.listdir(folder)) if os.path.exists(folder) else []


# get_file


def test_the_cache_folder_is_read_from_the_environment_when_asked(monkeypatch, tmp_path):
    monkeypatch.setenv("DEZERO_HOME", str(tmp_path / "elsewhere"))
    assert download.cache_folder() == str(tmp_path / "elsewhere")
    monkeypatch.delenv("DEZERO_HOME")
    assert download.cache_folder() == os.path.join(os.path.expanduser("~"), ".dezero")


def test_get_file_downloads_once(server, cache):
    path = download.get_file(server.url + "data.bin")
    assert path == str(cache / "data.bin")
    assert (cache / "data.bin").read_bytes() == CONTENT
    assert download.get_file(server.url + "data.bin") == path
    assert server.asked == ["/data.bin"]
    assert names(cache) == ["data.bin"]


def test_get_file_under_another_name_and_without_the_query(server, cache):
    assert download.get_file(server.url + "data.bin", "other") == str(cache / "other")
    server.files["data.bin?version=2"] = b"2"
    assert download.get_file(server.url + "data.bin?version=2") == str(cache / "data.bin")


def test_get_file_of_unknown_length(server, cache):
    download.get_file(server.url + "unmeasured/data.bin")
    assert (cache / "data.bin").read_bytes() == CONTENT


def test_get_file_checks_the_sum(server, cache):
    good = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(OSError, match="wrong SHA-256: expected 00"):
        download.get_file(server.url + "data.bin", sha256="00" * 32)
    assert names(cache) == []
    with pytest.raises(OSError, match="wrong SHA-256"):
        download.get_file(server.url + "flipped/data.bin", sha256=good)
    assert names(cache) == []
    download.get_file(server.url + "data.bin", sha256=good.upper())
    assert names(cache) == ["data.bin"]


def test_get_file_replaces_a_file_with_the_wrong_sum(server, cache):
    cache.mkdir()
    (cache / "data.bin").write_bytes(b"half of it")
    download.get_file(server.url + "data.bin", sha256=hashlib.sha256(CONTENT).hexdigest())
    assert (cache / "data.bin").read_bytes() == CONTENT


def test_get_file_needs_a_name():
    with pytest.raises(ValueError, match="file_name="):
        download.get_file("http://127.0.0.1/")


@pytest.mark.parametrize(("how", "said"), [("cut/", "128000 of 256000 bytes"), ("none/", "404")])
def test_what_went_wrong_is_said_and_nothing_is_left(server, cache, how, said):
    with pytest.raises(OSError, match=said) as caught:
        download.get_file(server.url + how + "data.bin")
    assert str(cache) in str(caught.value)
    assert names(cache) == []


def test_a_dead_host_is_said(cache):
    with pytest.raises(OSError, match="refused"):
        download.get_file(dead_url() + "data.bin")
    assert names(cache) == []


def test_a_silent_host_is_given_up(server, cache, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    start = time.monotonic()
    with pytest.raises(OSError, match="timed out"):
        download.get_file(server.url + "slow/data.bin")
    assert time.monotonic() - start < 3
    assert names(cache) == []


def test_an_interrupted_download_leaves_nothing(server, cache, monkeypatch):
    seen = []

    @contextlib.contextmanager
    def bar(name):
        def interrupt(count, total):
            seen.extend(names(cache))
            raise KeyboardInterrupt

        yield interrupt

    monkeypatch.setattr(download, "_progress_bar", bar)
    with pytest.raises(KeyboardInterrupt):
        download.get_file(server.url + "data.bin")
    assert len(seen) == 1  # it was on its way, under another name
    assert seen != ["data.bin"]
    assert names(cache) == []


def test_the_bar_is_there_before_a_slow_mirror_answers(server, cache, capsys, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with pytest.raises(OSError, match="timed out"):
        download.get_file(server.url + "slow/data.bin")
    assert "slow/data.bin: 0.00B" in capsys.readouterr().err


def test_the_bar_is_drawn_where_tqdm_is_and_missed_nowhere_else(server, capsys, monkeypatch):
    pytest.importorskip("tqdm")
    download.get_file(server.url + "data.bin", "drawn")
    assert "data.bin: 100%" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    download.get_file(server.url + "data.bin", "not drawn")
    assert capsys.readouterr().err == ""


# fetch


def test_fetch_goes_on_to_the_next_mirror(server, cache):
    def read(path):
        with open(path, "rb") as file:
            content = file.read()
        if content != CONTENT:
            raise ValueError("not my content")
        return len(content)

    path = str(cache / "data.bin")
    bad = [dead_url() + "data.bin", *(server.url + how + "/data.bin" for how in ("none", "cut", "flipped", "page"))]
    with pytest.raises(OSError, match=r"no good copy of data\.bin") as caught:
        download.fetch(bad, path, read)
    said = str(caught.value).splitlines()
    assert [line.split(": ")[0].strip() for line in said[1:-1]] == bad
    assert "refused" in said[1]
    assert "404" in said[2]
    assert "128000 of 256000" in said[3]
    assert "not my content" in said[4]
    assert "not my content" in said[5]
    assert path in said[-1]
    assert names(cache) == []
    assert download.fetch([*bad, server.url + "data.bin", server.url + "never/data.bin"], path, read) == len(CONTENT)
    assert names(cache) == ["data.bin"]
    assert "/never/data.bin" not in server.asked


@pytest.mark.parametrize("how", ["", "unmeasured/"])
def test_no_more_is_downloaded_than_a_good_file_has(server, cache, how):
    path = str(cache / "data.bin")
    with pytest.raises(OSError, match="more than the 100000 bytes that it can have"):
        download.fetch([server.url + how + "data.bin"], path, len, limit=100_000)
    assert names(cache) == []
    download.fetch([server.url + how + "data.bin"], path, len, limit=len(CONTENT))
    assert names(cache) == ["data.bin"]


# MNIST


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def idx_file(name, array):
    return IdxFile(name, array.shape, hashlib.sha256(idx(array)).hexdigest())


IMAGES = np.random.RandomState(0).randint(0, 256, (20, 28, 28)).astype(np.uint8)
LABELS = np.random.RandomState(1).randint(0, 10, 20).astype(np.uint8)
ARRAYS = {"train-images": IMAGES, "train-labels": LABELS, "test-images": IMAGES[:5], "test-labels": LABELS[:5]}


class TinyMNIST(MNIST):
    mirrors = ()
    train_files = (idx_file("train-images", IMAGES), idx_file("train-labels", LABELS))
    test_files = (idx_file("test-images", IMAGES[:5]), idx_file("test-labels", LABELS[:5]))


@pytest.fixture
def mirror(server, monkeypatch):
    server.files = {f"{name}.gz": gzip.compress(idx(array)) for name, array in ARRAYS.items()}
    monkeypatch.setattr(TinyMNIST, "mirrors", (server.url,))
    return server


def fill(folder, packed):
    folder.mkdir(exist_ok=True)
    for name, array in ARRAYS.items():
        content = gzip.compress(idx(array)) if packed else idx(array)
        (folder / (name + (".gz" if packed else ""))).write_bytes(content)


def test_mnist_downloads_once_and_from_then_on_reads_the_cache(mirror, cache):
    for _ in range(2):
        train = TinyMNIST(transform=None)
        np.testing.assert_array_equal(train.data[:, 0], IMAGES)
        np.testing.assert_array_equal(train.label, LABELS)
    assert mirror.asked == ["/train-images.gz", "/train-labels.gz"]
    assert len(TinyMNIST(train=False)) == 5
    assert names(cache) == sorted(f"{name}.gz" for name in ARRAYS)


def test_an_image_as_it_is_and_by_default(mirror):
    image, label = TinyMNIST(transform=None)[3]
    assert (image.shape, image.dtype, int(label)) == ((1, 28, 28), np.uint8, LABELS[3])
    x, _ = TinyMNIST()[3]
    assert (x.shape, x.dtype) == ((784,), np.float32)
    np.testing.assert_array_equal(x, IMAGES[3].reshape(784).astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("place", ["cache", "data_dir"])
def test_mnist_reads_files_that_are_there_packed_or_not(tmp_path, cache, place, packed):
    fill(cache if place == "cache" else tmp_path / "mine", packed)
    digits = TinyMNIST(train=False, data_dir=None if place == "cache" else tmp_path / "mine")
    np.testing.assert_array_equal(digits.data[:, 0], IMAGES[:5])
    np.testing.assert_array_equal(digits.label, LABELS[:5])


def test_an_unpacked_file_may_keep_the_packed_name(tmp_path):
    fill(tmp_path, packed=True)
    (tmp_path / "test-images.gz").write_bytes(idx(IMAGES[:5]))
    np.testing.assert_array_equal(TinyMNIST(train=False, data_dir=str(tmp_path)).data[:, 0], IMAGES[:5])


def test_a_folder_that_lacks_a_file_is_an_error_and_nothing_is_asked(mirror, tmp_path, cache):
    with pytest.raises(FileNotFoundError, match=r"train-images.*leave data_dir out"):
        TinyMNIST(data_dir=tmp_path)
    assert mirror.asked == []
    assert names(cache) == []


PACKED = gzip.compress(idx(IMAGES))
BROKEN = {
    "truncated": (PACKED[:-100], "broken gzip archive"),
    "corrupted": (PACKED[:200] + bytes(100) + PACKED[300:], "broken gzip archive"),
    "scrambled": (PACKED[:10] + bytes([255]) * 100, "broken gzip archive"),
    "empty": (b"", "got 0 bytes"),
    "foreign": (b"<html>log in</html>", "got 19 bytes"),
    "short": (gzip.compress(idx(IMAGES[:19])), "expected 15696 bytes unpacked, got 14912 bytes"),
    "long": (gzip.compress(idx(IMAGES) + b"\0"), "expected 15696 bytes unpacked, got more"),
    "changed": (gzip.compress(idx(IMAGES ^ 1)), "wrong SHA-256"),
    "changed and unpacked": (idx(IMAGES ^ 1), "wrong SHA-256"),
}


@pytest.mark.parametrize(("content", "said"), BROKEN.values(), ids=BROKEN)
def test_a_wrong_file_in_the_users_folder_is_an_error(tmp_path, content, said):
    fill(tmp_path, packed=True)
    (tmp_path / "train-images.gz").write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        TinyMNIST(data_dir=tmp_path)
    assert str(tmp_path / "train-images.gz") in str(caught.value)
    assert (tmp_path / "train-images.gz").read_bytes() == content


@pytest.mark.parametrize(("content", "said"), BROKEN.values(), ids=BROKEN)
def test_a_wrong_file_from_a_mirror_does_not_reach_the_cache(mirror, cache, content, said):
    mirror.files["train-images.gz"] = content
    with pytest.raises(OSError, match=said) as caught:
        TinyMNIST()
    for part in (mirror.url + "train-images.gz", str(cache / "train-images.gz"), "data_dir=", "MiniMNIST"):
        assert part in str(caught.value)
    assert names(cache) == []


@pytest.mark.parametrize(("content", "said"), BROKEN.values(), ids=BROKEN)
def test_a_wrong_file_in_the_cache_is_replaced_by_a_good_one_only(mirror, cache, monkeypatch, content, said):
    fill(cache, packed=True)
    (cache / "train-images.gz").write_bytes(content)
    monkeypatch.setattr(TinyMNIST, "mirrors", (dead_url(),))
    with pytest.raises(OSError, match=said):
        TinyMNIST()
    assert (cache / "train-images.gz").read_bytes() == content
    monkeypatch.setattr(TinyMNIST, "mirrors", (mirror.url,))
    np.testing.assert_array_equal(TinyMNIST().data[:, 0], IMAGES)
    assert mirror.asked == ["/train-images.gz"]
    assert gzip.decompress((cache / "train-images.gz").read_bytes()) == idx(IMAGES)
    assert names(cache) == sorted(f"{name}.gz" for name in ARRAYS)


def test_a_small_archive_of_a_huge_file_is_not_unpacked(tmp_path):
    fill(tmp_path, packed=True)
    (tmp_path / "train-images.gz").write_bytes(gzip.compress(bytes(1 << 26), 1))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="got more"):
            TinyMNIST(data_dir=tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_the_second_mirror_helps(mirror, monkeypatch):
    monkeypatch.setattr(TinyMNIST, "mirrors", (dead_url(), mirror.url + "cut/", mirror.url))
    assert len(TinyMNIST()) == 20
    assert mirror.asked == ["/cut/train-images.gz", "/train-images.gz", "/cut/train-labels.gz", "/train-labels.gz"]


def test_the_published_files_are_named():
    files = MNIST.train_files + MNIST.test_files
    assert [file.name for file in files] == [
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ]
    assert all(len(file.sha256) == 64 for file in files)
    assert all(mirror.endswith("/") for mirror in MNIST.mirrors)
