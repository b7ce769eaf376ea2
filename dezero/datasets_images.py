"""Handwritten digits: MNIST, from its published files, and the part of it that the package carries."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import zlib
from typing import NamedTuple

import numpy as np

from dezero import random
from dezero.datasets_base import Dataset
from dezero.download import cache_folder, fetch
from dezero.transforms import Compose, Flatten, Normalize, ToFloat, Transform

__all__ = ["MNIST", "IdxFile", "MiniMNIST"]


class IdxFile(NamedTuple):
    """A published file of bytes in the IDX format, gzipped or not: its name, and what is known of its content.

    `sha256` is that of the unpacked bytes: who packed them, and how well, does not matter.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str

    def read(self, path: str) -> np.ndarray:
        """Return the array in the file at `path`; raises ValueError when that is not the published file."""
        header = 4 + 4 * len(self.shape)
        size = header + math.prod(self.shape)
        content = _read_packed(path, size + 1)  # one more would show; a small archive can unpack to a full disk
        if len(content) != size:
            got = f"{len(content)} bytes" if len(content) < size else "more"
            raise ValueError(f"not {self.name}: expected {size} bytes unpacked, got {got}")
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise ValueError(f"not {self.name}: wrong SHA-256 unpacked: expected {self.sha256}, got {digest}")
        return np.frombuffer(content, np.uint8, offset=header).reshape(self.shape).copy()

    def find(self, folder: str | os.PathLike[str]) -> str:
        """Return the file's path in `folder`: that of the unpacked file if only this one is there."""
        plain = os.path.join(folder, self.name)
        packed = plain + ".gz"
        return plain if os.path.exists(plain) and not os.path.exists(packed) else packed


def _read_packed(path: str, limit: int) -> bytes:
    """Return at most the first `limit` bytes of a file, unpacked if they begin as gzip does."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"  # the name does not tell: browsers unpack and keep the name
        file.seek(0)
        if not packed:
            return file.read(limit)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                return unpacked.read(limit)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"a broken gzip archive: {error}") from error


_FLAT = Compose([Flatten(), ToFloat(), Normalize(0.0, 255.0)])


class _Digits(Dataset):
    """What the sets of digits share: images of 28 x 28 grey levels, and the digits 0 .. 9 that they show."""

    def __init__(
        self,
        train: bool = True,
        transform: Transform | None = _FLAT,
        target_transform: Transform | None = None,
    ) -> None:
        super().__init__(train, transform, target_transform)

    def show(self, row: int = 10, col: int = 10) -> None:
        """Show `row` times `col` digits, drawn at random, in a window of matplotlib's."""
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError("show: matplotlib is not installed: pip install 'dezero[plot]'") from error
        chosen = (random.uniform(row * col) * len(self)).astype(int)
        H, W = self.data.shape[-2:]
        sheet = self.data[chosen].reshape(row, col, H, W).transpose(0, 2, 1, 3).reshape(row * H, col * W)
        plt.imshow(sheet, cmap="gray", interpolation="nearest")
        plt.axis("off")
        plt.show()

    @staticmethod
    def labels() -> dict[int, str]:
        """Return the name of each label: {0: '0', ..., 9: '9'}."""
        return {digit: str(digit) for digit in range(10)}


class MNIST(_Digits):
    """Handwritten digits: 60,000 to train on and 10,000 to test; data (N, 1, 28, 28) uint8, label (N,) uint8.

    The four published files, gzipped or not, are read from `data_dir`, or from the cache folder (`DEZERO_HOME`, or
    `~/.dezero`), to which they are downloaded when they are not there. Each is checked against its SHA-256.

    Args:
        train: whether to read the digits for training, or those for testing (default: True).
        transform: the default makes an image a vector (784,) float32 of 0 .. 1; with None it stays (1, 28, 28) uint8.
        target_transform: applied to each label (default: none).
        data_dir: the folder of the files; nothing is downloaded then (default: the cache folder).

    Raises FileNotFoundError or ValueError for a file missing or wrong in `data_dir`, and OSError when the cache has no
    good file and none can be downloaded.

    Y. LeCun, C. Cortes, C. Burges: The MNIST database of handwritten digits.
    """

    mirrors: tuple[str, ...] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    )
    train_files = (
        IdxFile(
            "train-images-idx3-ubyte",
            (60000, 28, 28),
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        IdxFile(
            "train-labels-idx1-ubyte",
            (60000,),
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
    )
    test_files = (
        IdxFile(
            "t10k-images-idx3-ubyte",
            (10000, 28, 28),
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        IdxFile(
            "t10k-labels-idx1-ubyte",
            (10000,),
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    )

    def __init__(
        self,
        train: bool = True,
        transform: Transform | None = _FLAT,
        target_transform: Transform | None = None,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        super().__init__(train, transform, target_transform)

    def prepare(self) -> None:
        images, labels = self.train_files if self.train else self.test_files
        load = self._load_cached if self.data_dir is None else self._load_given
        self.data, self.label = load(images)[:, np.newaxis], load(labels)

    def _load_given(self, file: IdxFile) -> np.ndarray:
        path = file.find(self.data_dir or "")
        way_out = "Put the published file there, or leave data_dir out: it is downloaded then"
        try:
            return file.read(path)
        except FileNotFoundError:
            raise FileNotFoundError(f"MNIST: there is no {path}, nor an unpacked {file.name}. {way_out}") from None
        except ValueError as error:
            raise ValueError(f"MNIST: {path} is {error}. {way_out}") from error

    def _load_cached(self, file: IdxFile) -> np.ndarray:
        urls = [f"{mirror}{file.name}.gz" for mirror in self.mirrors]
        try:
            return fetch(urls, file.find(cache_folder()), file.read)
        except OSError as error:
            way_out = "put it there by other means, or name its folder: MNIST(data_dir=...). MiniMNIST needs no file"
            raise OSError(f"MNIST: {error}: {way_out}") from error


class MiniMNIST(_Digits):
    """The first 6,000 training and the first 1,000 test digits of MNIST, carried by the package: no download.

    Args:
        train: whether to read the digits for training, or those for testing (default: True).
        transform: the default makes an image a vector (784,) float32 of 0 .. 1; with None it stays (1, 28, 28) uint8.
        target_transform: applied to each label (default: none).

    Raises ValueError if the package's file is damaged.

    >>> train = MiniMNIST()
    >>> x, t = train[0]
    >>> len(train), x.shape, int(t)
    (6000, (784,), 5)
    """

    path = os.path.join(os.path.dirname(__file__), "data", "mini_mnist.npz")  # data/README.md says where it comes from
    sha256 = "94e02b5bf50f2d4cef1a9421826748d7265db2b1dea47abac2ee6321074bf9d2"

    def prepare(self) -> None:
        with open(self.path, "rb") as file:
            packed = file.read()
        if hashlib.sha256(packed).hexdigest() != self.sha256:
            raise ValueError(f"MiniMNIST: {self.path} is damaged: install the package again")
        part = "train" if self.train else "test"
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            self.data, self.label = arrays[f"{part}_images"][:, np.newaxis], arrays[f"{part}_labels"]
