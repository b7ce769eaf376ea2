"""Files over HTTP, from a server on this machine that also misbehaves; and data sets' way from a mirror to an array."""

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import socket
import sys
import tarfile
import threading
import time
import tracemalloc

import numpy as np
import pytest

from dezero import download
from dezero.datasets import (
    CIFAR10,
    CIFAR100,
    MNIST,
    Archive,
    FashionMNIST,
    IdxFile,
    Shakespear,
    Shakespeare,
    TextFile,
)

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


# FashionMNIST


PACKED_ARRAYS = {f"{name}.gz": gzip.compress(idx(array)) for name, array in ARRAYS.items()}


def packed_file(name):
    return IdxFile(name, ARRAYS[name].shape, hashlib.sha256(PACKED_ARRAYS[f"{name}.gz"]).hexdigest(), packed=True)


class TinyFashion(FashionMNIST):
    mirrors = ()
    train_files = (packed_file("train-images"), packed_file("train-labels"))
    test_files = (packed_file("test-images"), packed_file("test-labels"))


def test_clothes_are_downloaded_beside_the_digits_and_not_in_their_place(server, cache, monkeypatch):
    fill(cache, packed=True)
    (cache / "train-images.gz").write_bytes(b"a digit")
    server.files = PACKED_ARRAYS
    monkeypatch.setattr(TinyFashion, "mirrors", (server.url,))
    for _ in range(2):
        clothes = TinyFashion(transform=None)
        np.testing.assert_array_equal(clothes.data[:, 0], IMAGES)
        np.testing.assert_array_equal(clothes.label, LABELS)
    assert server.asked == ["/train-images.gz", "/train-labels.gz"]
    assert names(cache / "fashion-mnist") == ["train-images.gz", "train-labels.gz"]
    assert (cache / "train-images.gz").read_bytes() == b"a digit"
    assert TinyFashion(train=False)[0][0].shape == (784,)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(idx(IMAGES), 1), r"train-images\.gz is not train-images\.gz: wrong SHA-256: expected"),
        (idx(IMAGES), "wrong SHA-256"),
        (PACKED_ARRAYS["train-images.gz"][:-9], "wrong SHA-256"),
    ],
    ids=["packed anew", "unpacked", "truncated"],
)
def test_clothes_are_those_that_were_published(tmp_path, content, said):
    fill(tmp_path, packed=True)
    for name, good in PACKED_ARRAYS.items():
        (tmp_path / name).write_bytes(good)
    assert len(TinyFashion(data_dir=tmp_path)) == 20
    (tmp_path / "train-images.gz").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        TinyFashion(data_dir=tmp_path)
    (tmp_path / "train-images.gz").unlink()
    (tmp_path / "train-images").write_bytes(idx(IMAGES))
    with pytest.raises(FileNotFoundError, match=r"there is no .*train-images\.gz\. Put the published file there"):
        TinyFashion(data_dir=tmp_path)


# CIFAR


def records(labels, seed, size=4):
    """Records as in the binary archives: labels, then 3,072 bytes of an image."""
    return np.random.RandomState(seed).randint(0, 10, (size, labels + 3072)).astype(np.uint8)


def archive_of(members):
    """A gzipped tar archive of (name, bytes), or of whole TarInfos."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def sum_of(content):
    return hashlib.sha256(content).hexdigest()


PARTS = {f"ten/part_{number}.bin": records(1, number) for number in (1, 2, 3)}
ARCHIVE = archive_of([("ten/readme", b"..."), *((name, PARTS[name].tobytes()) for name in reversed(PARTS))])
MEMBERS = tuple((name, 4) for name in PARTS)


class TinyCIFAR10(CIFAR10):
    mirrors = ()
    archive = Archive("ten.tar.gz", sum_of(ARCHIVE), 3073, MEMBERS)
    test_members = ("ten/part_3.bin",)


HUNDRED = {"hundred/train.bin": records(2, 4, 6), "hundred/test.bin": records(2, 5)}
HUNDRED_ARCHIVE = archive_of([(name, part.tobytes()) for name, part in HUNDRED.items()])


class TinyCIFAR100(CIFAR100):
    mirrors = ()
    archive = Archive("hundred.tar.gz", sum_of(HUNDRED_ARCHIVE), 3074, tuple((n, len(p)) for n, p in HUNDRED.items()))
    test_members = ("hundred/test.bin",)


def test_cifar10_downloads_once_and_from_then_on_reads_the_cache(server, cache, monkeypatch):
    server.files = {"ten.tar.gz": ARCHIVE}
    monkeypatch.setattr(TinyCIFAR10, "mirrors", (dead_url(), server.url))
    wanted = np.concatenate([PARTS["ten/part_1.bin"], PARTS["ten/part_2.bin"]])
    for _ in range(2):
        train = TinyCIFAR10()
        assert (train.data.shape, train.data.dtype, train.label.dtype) == ((8, 3, 32, 32), np.uint8, np.uint8)
        np.testing.assert_array_equal(train.data, wanted[:, 1:].reshape(8, 3, 32, 32))
        np.testing.assert_array_equal(train.label, wanted[:, 0])
    test = TinyCIFAR10(train=False, transform=None)
    np.testing.assert_array_equal(test.data.reshape(4, 3072), PARTS["ten/part_3.bin"][:, 1:])
    assert test.data.flags.writeable
    assert test.data.flags.c_contiguous
    assert test[0][0].dtype == np.uint8
    assert server.asked == ["/ten.tar.gz"]
    assert names(cache) == ["ten.tar.gz"]


def test_an_image_of_cifar_by_default(tmp_path):
    (tmp_path / "ten.tar.gz").write_bytes(ARCHIVE)
    digits = TinyCIFAR10(data_dir=tmp_path)
    digits.data[0, 0, 0, :3] = [0, 51, 255]
    x, _ = digits[0]
    assert (x.shape, x.dtype) == ((3, 32, 32), np.float32)
    np.testing.assert_allclose(x[0, 0, :3], [-1, -0.6, 1], rtol=1e-6)


@pytest.mark.parametrize("train", [True, False])
def test_cifar100_has_labels_of_two_kinds(tmp_path, train):
    (tmp_path / "hundred.tar.gz").write_bytes(HUNDRED_ARCHIVE)
    part = HUNDRED["hundred/train.bin" if train else "hundred/test.bin"]
    for label_type, column in (("coarse", 0), ("fine", 1)):
        images = TinyCIFAR100(train, label_type=label_type, data_dir=tmp_path)
        np.testing.assert_array_equal(images.label, part[:, column])
        np.testing.assert_array_equal(images.data.reshape(-1, 3072), part[:, 2:])
    np.testing.assert_array_equal(TinyCIFAR100(train, data_dir=tmp_path).label, part[:, 1])


def named(name, kind):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


GOOD = [(name, part.tobytes()) for name, part in PARTS.items()]
BROKEN_ARCHIVES = {
    "no archive": (b"<html>log in</html>", "a broken archive"),
    "empty": (b"", "a broken archive"),
    "truncated": (ARCHIVE[: len(ARCHIVE) // 2], "a broken archive"),
    "damaged": (ARCHIVE[:3000] + bytes(500) + ARCHIVE[3500:], "a broken archive"),
    "lacks a part": (archive_of(GOOD[:1]), r"not ten\.tar\.gz: there is no ten/part_2\.bin in it"),
    "short part": (archive_of([GOOD[0], (GOOD[1][0], GOOD[1][1][:-1])]), "of 12292 bytes, got 12291 bytes"),
    "long part": (archive_of([GOOD[0], (GOOD[1][0], GOOD[1][1] + b".")]), "of 12292 bytes, got 12293 bytes"),
    "link": (archive_of([GOOD[0], (named(GOOD[1][0], tarfile.SYMTYPE), b"")]), "got no file"),
    "hard link": (archive_of([GOOD[0], (named(GOOD[1][0], tarfile.LNKTYPE), b"")]), "got no file"),
    "folder": (archive_of([GOOD[0], (named(GOOD[1][0], tarfile.DIRTYPE), b"")]), "got no file"),
    "another name": (archive_of([GOOD[0], ("../ten/part_2.bin", GOOD[1][1])]), "there is no ten/part_2"),
}


@pytest.mark.parametrize(("content", "said"), BROKEN_ARCHIVES.values(), ids=BROKEN_ARCHIVES)
def test_a_wrong_archive_is_an_error(tmp_path, content, said, monkeypatch):
    (tmp_path / "ten.tar.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"ten\.tar\.gz is not ten\.tar\.gz: wrong SHA-256: expected"):
        TinyCIFAR10(data_dir=tmp_path)
    # and if its sum were right
    monkeypatch.setattr(TinyCIFAR10, "archive", TinyCIFAR10.archive._replace(sha256=sum_of(content)))
    with pytest.raises(ValueError, match=said) as caught:
        TinyCIFAR10(data_dir=tmp_path)
    assert str(tmp_path / "ten.tar.gz") in str(caught.value)


def test_names_that_point_elsewhere_are_not_looked_at(tmp_path, cache, monkeypatch):
    outside = tmp_path / "outside.bin"
    strange = [
        ("../../outside.bin", b"1"),
        (str(outside), b"2"),
        (named("ten", tarfile.SYMTYPE), b""),
        ("ten/../ten/part_1.bin", b"4"),
    ]
    content = archive_of([*strange, GOOD[0], (GOOD[0][0], bytes(12292)), *GOOD[1:]])
    folder = tmp_path / "mine" / "here"
    folder.mkdir(parents=True)
    (folder / "ten.tar.gz").write_bytes(content)
    monkeypatch.setattr(TinyCIFAR10, "archive", TinyCIFAR10.archive._replace(sha256=sum_of(content)))
    np.testing.assert_array_equal(TinyCIFAR10(data_dir=folder).label[:4], PARTS["ten/part_1.bin"][:, 0])
    assert not outside.exists()
    assert names(folder) == ["ten.tar.gz"]
    assert names(tmp_path) == ["mine"]


def test_a_wrong_archive_from_a_mirror_does_not_reach_the_cache(server, cache, monkeypatch):
    server.files = {"ten.tar.gz": ARCHIVE}
    for how, said in (("cut/", "connection ended"), ("flipped/", "wrong SHA-256"), ("page/", "wrong SHA-256")):
        monkeypatch.setattr(TinyCIFAR10, "mirrors", (server.url + how,))
        with pytest.raises(OSError, match=said) as caught:
            TinyCIFAR10()
        assert server.url + how + "ten.tar.gz" in str(caught.value)
        assert names(cache) == []


@pytest.mark.parametrize("kind", [TinyCIFAR10, TinyCIFAR100, TinyFashion])
def test_without_a_network_the_error_says_what_to_fetch_and_where_to_put_it(cache, kind, monkeypatch):
    url = dead_url()
    monkeypatch.setattr(kind, "mirrors", (url,))
    with pytest.raises(OSError, match="refused") as caught:
        kind()
    file = kind.archive if hasattr(kind, "archive") else kind.train_files[0]
    assert url + file.names[0] in str(caught.value)
    assert f"Its place is {cache / kind.folder / file.names[0]}" in str(caught.value)
    assert f"{kind.__name__}(data_dir=...)" in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"there is no .*\. Put the published file there"):
        kind(data_dir=cache)


def test_the_label_type_is_checked_before_anything_is_read():
    for call in (lambda: TinyCIFAR100(label_type="rough"), lambda: CIFAR100.labels("rough")):
        with pytest.raises(ValueError, match="CIFAR100: label_type must be 'fine' or 'coarse', got 'rough'"):
            call()


def test_the_published_archives_are_named():
    assert CIFAR10.archive.names == ("cifar-10-binary.tar.gz",)
    assert CIFAR100.archive.names == ("cifar-100-binary.tar.gz",)
    assert [size for _, size in CIFAR10.archive.members] == [10000] * 6
    assert [size for _, size in CIFAR100.archive.members] == [50000, 10000]
    for kind in (CIFAR10, CIFAR100):
        assert len(kind.archive.sha256) == 64
        assert set(kind.test_members) < {name for name, _ in kind.archive.members}
        assert all(mirror.endswith("/") for mirror in kind.mirrors)


# Shakespeare


TEXT = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n"


@pytest.fixture
def text(server, monkeypatch):
    server.files = {"input.txt": TEXT.encode()}
    monkeypatch.setattr(Shakespeare, "mirrors", (server.url,))
    monkeypatch.setattr(Shakespeare, "file", TextFile("input.txt", sum_of(TEXT.encode())))
    return server


@pytest.mark.parametrize("kind", [Shakespear, Shakespeare])
def test_text_one_character_at_a_time(text, cache, kind):
    plays = kind()
    known = list(dict.fromkeys(TEXT))
    assert plays.id_to_char == dict(enumerate(known))
    assert plays.char_to_id == {character: number for number, character in enumerate(known)}
    assert all(type(character) is str and type(number) is int for number, character in plays.id_to_char.items())
    ids = [known.index(character) for character in TEXT]
    assert plays.data.tolist() == ids[:-1]
    assert plays.label.tolist() == ids[1:]
    assert (plays.data.dtype, plays.label.dtype) == (np.dtype(int), np.dtype(int))
    assert kind(train=False).data.tolist() == ids[:-1]
    assert text.asked == ["/input.txt"]
    assert names(cache / "tiny-shakespeare") == ["input.txt"]


def test_another_text_is_refused(text, tmp_path):
    for content in (TEXT[:-1].encode(), TEXT.replace("\n", "\r\n").encode(), b"\xff" + TEXT.encode()):
        (tmp_path / "input.txt").write_bytes(content)
        with pytest.raises(ValueError, match=r"input\.txt is not input\.txt: wrong SHA-256"):
            Shakespear(data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no .*input\.txt\. Put the published file there"):
        Shakespear(data_dir=tmp_path / "elsewhere")
