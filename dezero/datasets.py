"""Examples to learn from: `ds[i]` is one pair (x, t), `ds.batch(indexes)` many at once, as two arrays.

A data set of your own is a subclass of `Dataset` whose `prepare` fills `data` and `label`; or one with its own
`__getitem__` and `__len__`, when the examples do not fit in memory.
"""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import math
import operator
import os
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dezero import random
from dezero.download import cache_folder, fetch
from dezero.transforms import Compose, Flatten, Normalize, ToFloat, Transform, batch_form

__all__ = ["MNIST", "Dataset", "IdxFile", "MiniMNIST", "SinCurve", "Spiral", "collate", "get_spiral", "hold_out"]


class Dataset:
    """A sequence of pairs: `ds[i]` is `(transform(data[i]), target_transform(label[i]))`.

    A subclass fills `data`, and `label` if there are any, in `prepare()`; without labels the second of the pair is
    None.

    Args:
        train: which part of the set `prepare` should make, for training or for testing (default: True).
        transform: applied to each item of data (default: none). See `dezero.transforms`.
        target_transform: applied to each label (default: none).

    >>> class Squares(Dataset):
    ...     def prepare(self):
    ...         self.data = np.arange(5)
    ...         self.label = self.data**2
    >>> int(Squares()[3][1]), len(Squares())
    (9, 5)
    >>> Squares(transform=ToFloat()).batch([1, 3])
    (array([1., 3.], dtype=float32), array([1, 9]))
    """

    data: Any
    label: Any

    def __init__(
        self,
        train: bool = True,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
    ) -> None:
        self.train = train
        self.transform = Compose() if transform is None else transform
        self.target_transform = Compose() if target_transform is None else target_transform
        self.data = None
        self.label = None
        self.prepare()

    def prepare(self) -> None:
        """Fill `data` and `label`: a subclass's work."""

    def __len__(self) -> int:
        if self.data is None:
            raise ValueError(f"{type(self).__name__}: there is no data yet: prepare() is where self.data is filled")
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        try:
            index = operator.index(index)
        except TypeError:
            name, kind = type(self).__name__, type(index).__name__
            raise TypeError(f"{name}[i]: i must be one integer, got {kind} (.batch takes many)") from None
        if self.data is None:
            len(self)  # says what is missing
        x = self.transform(self.data[index])
        return x, None if self.label is None else self.target_transform(self.label[index])

    def batch(self, indexes: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the items at `indexes` as one array of data and one of labels (None without labels).

        Where data and labels are arrays, and the transforms can do a batch at once, each is taken out in one
        operation. Otherwise, and in a subclass with its own `__getitem__`, the batch is built item by item, to the
        same result.

        Args:
            indexes: a sequence or an array of integers.
        """
        rows = _as_rows(type(self).__name__, indexes)
        if type(self).__getitem__ is Dataset.__getitem__:
            x_form, t_form = batch_form(self.transform), batch_form(self.target_transform)
            if x_form and t_form and _is_table(self.data) and (self.label is None or _is_table(self.label)):
                return x_form(self.data[rows]), None if self.label is None else t_form(self.label[rows])
        return collate([self[row] for row in rows])


def _as_rows(name: str, indexes: Any) -> np.ndarray:
    rows = np.asarray(indexes)
    if rows.size == 0:
        return rows.astype(np.intp)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise TypeError(f"{name}.batch: expected a sequence of integers, got shape {rows.shape} of {rows.dtype}")
    return rows


def _is_table(array: Any) -> bool:
    # An array of objects holds arrays of its own: those are stacked one by one.
    return type(array) is np.ndarray and array.dtype != object


def collate(items: Sequence[Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the first halves of the pairs `items` as one array, and the second halves, or None if all are None.

    >>> collate([(0.5, 1), (1.5, 0)])
    (array([0.5, 1.5]), array([1, 0]))
    """
    for item in items:
        if isinstance(item, (str, bytes)) or (isinstance(item, np.ndarray) and item.shape[:1] != (2,)):
            raise TypeError(f"a batch is made of pairs (x, t), but the dataset gave {type(item).__name__} {item!r:.60}")
    try:
        xs, ts = [item[0] for item in items], [item[1] for item in items]
    except (TypeError, IndexError, KeyError) as error:
        raise TypeError(f"a batch is made of pairs (x, t), but the dataset gave {type(items[0]).__name__}") from error
    return _stack("x", xs), None if all(t is None for t in ts) else _stack("t", ts)


def _stack(name: str, parts: list[Any]) -> np.ndarray:
    shapes = {np.shape(part) for part in parts}
    if len(shapes) > 1:
        a, b = sorted(shapes)[:2]
        raise ValueError(f"a batch needs every {name} in one shape, got {a} and {b}: a transform can make them alike")
    return np.array(parts)


AnyDataset = TypeVar("AnyDataset", bound=Dataset)


def hold_out(dataset: AnyDataset, count: int) -> tuple[AnyDataset, AnyDataset]:
    """Return `dataset` in two parts of its own kind: all but the last `count` items, and those last ones.

    Nothing is drawn and nothing copied: the parts are views, with the dataset's own transforms.

    Args:
        dataset: one that keeps its items in `data` and `label`.
        count: how many items to hold out.

    Raises ValueError if there are not that many, and TypeError for a dataset with its own `__getitem__` or `__len__`.

    >>> train, check = hold_out(Spiral(), 50)
    >>> len(train), len(check)
    (250, 50)
    """
    kind = type(dataset)
    if kind.__getitem__ is not Dataset.__getitem__ or kind.__len__ is not Dataset.__len__:
        raise TypeError(f"hold_out: {kind.__name__} has its own __getitem__ or __len__: divide it there")
    size = len(dataset)
    if not isinstance(count, (int, np.integer)) or not 0 <= count <= size:
        raise ValueError(f"hold_out: cannot hold out {count} of {size} items")
    parts = copy.copy(dataset), copy.copy(dataset)
    for part, rows in zip(parts, (slice(0, size - count), slice(size - count, size)), strict=True):
        part.data = dataset.data[rows]
        part.label = None if dataset.label is None else dataset.label[rows]
    return parts


# Drawn with a formula


def get_spiral(train: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return three arms of a spiral, 100 points each, in random order: x (300, 2) float32 and t (300,) int.

    The points are always the same ones: they come from a generator of their own.

    Args:
        train: whether to return the points for training, or those for testing (default: True).

    >>> x, t = get_spiral()
    >>> x.shape, t.shape
    ((300, 2), (300,))
    """
    generator = np.random.RandomState(1984 if train else 2020)
    arms, size = 3, 100
    radius = np.tile(np.arange(size) / size, arms)
    t = np.repeat(np.arange(arms), size)
    theta = 4.0 * t + 4.0 * radius + 0.2 * generator.randn(arms * size)
    x = np.stack([radius * np.sin(theta), radius * np.cos(theta)], axis=1).astype(np.float32)
    order = generator.permutation(arms * size)
    return x[order], t[order]


class Spiral(Dataset):
    """Three arms of a spiral: data (300, 2) float32, label (300,) int. See `get_spiral`."""

    def prepare(self) -> None:
        self.data, self.label = get_spiral(self.train)


class SinCurve(Dataset):
    """A curve whose next value is to be told from the last: data and label are (999, 1) float64, one step apart.

    To train, a sine with noise of up to 0.05 to either side; to test, a clean cosine.
    """

    def prepare(self) -> None:
        size = 1000
        x = np.linspace(0, 2 * np.pi, size)
        # Drawn for the test curve too, as it always was: what a program draws next stays what it was.
        noise = -0.05 + 0.1 * random.uniform(size)
        y = np.sin(x) + noise if self.train else np.cos(x)
        self.data, self.label = y[:-1, np.newaxis], y[1:, np.newaxis]


# Handwritten digits


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
