"""Images: handwritten digits, clothes, small photographs, and the names of ImageNet's classes."""

from __future__ import annotations

import hashlib
import io
import os
from typing import Any

import numpy as np

from dezero import random
from dezero.datasets_base import Dataset
from dezero.datasets_files import Archive, IdxFile, PublishedDataset
from dezero.transforms import Compose, Flatten, Normalize, ToFloat, Transform

__all__ = ["CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "ImageNet", "MiniMNIST"]

_CARRIED = os.path.join(os.path.dirname(__file__), "data")  # data/README.md says where these files come from
_FLAT = Compose([Flatten(), ToFloat(), Normalize(0.0, 255.0)])
_CENTERED = Compose([ToFloat(), Normalize(127.5, 127.5)])


class _Shown:
    """Images of one size that can be looked at."""

    data: Any

    def show(self, row: int = 10, col: int = 10) -> None:
        """Show `row` times `col` images, drawn at random, in a window of matplotlib's."""
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError("show: matplotlib is not installed: pip install 'dezero[plot]'") from error
        chosen = (random.uniform(row * col) * len(self.data)).astype(int)
        C, H, W = self.data.shape[-3:]
        sheet = self.data[chosen].reshape(row, col, C, H, W).transpose(0, 3, 1, 4, 2).reshape(row * H, col * W, C)
        plt.imshow(sheet[..., 0] if C == 1 else sheet, cmap="gray", interpolation="nearest")
        plt.axis("off")
        plt.show()


# Handwritten digits, and clothes


class _IdxImages(_Shown, PublishedDataset):
    """What is published as MNIST is: four files, images of 28 x 28 grey levels and labels 0 .. 9."""

    train_files: tuple[IdxFile, IdxFile]
    test_files: tuple[IdxFile, IdxFile]

    def __init__(
        self,
        train: bool = True,
        transform: Transform | None = _FLAT,
        target_transform: Transform | None = None,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(train, transform, target_transform, data_dir)

    def prepare(self) -> None:
        images, labels = self.train_files if self.train else self.test_files
        self.data, self.label = self.load(images)[:, np.newaxis], self.load(labels)


class MNIST(_IdxImages):
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
    instead = ". MiniMNIST needs no file"
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

    @staticmethod
    def labels() -> dict[int, str]:
        """Return the name of each label: {0: '0', ..., 9: '9'}."""
        return {digit: str(digit) for digit in range(10)}


class MiniMNIST(_Shown, Dataset):
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

    path = os.path.join(_CARRIED, "mini_mnist.npz")
    sha256 = "94e02b5bf50f2d4cef1a9421826748d7265db2b1dea47abac2ee6321074bf9d2"

    def __init__(
        self,
        train: bool = True,
        transform: Transform | None = _FLAT,
        target_transform: Transform | None = None,
    ) -> None:
        super().__init__(train, transform, target_transform)

    def prepare(self) -> None:
        packed = _carried("MiniMNIST", self.path, self.sha256)
        part = "train" if self.train else "test"
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            self.data, self.label = arrays[f"{part}_images"][:, np.newaxis], arrays[f"{part}_labels"]

    @staticmethod
    def labels() -> dict[int, str]:
        """Return the name of each label: {0: '0', ..., 9: '9'}."""
        return {digit: str(digit) for digit in range(10)}


def _carried(name: str, path: str, sha256: str) -> bytes:
    """Return the bytes of a file that the package carries."""
    with open(path, "rb") as file:
        content = file.read()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{name}: {path} is damaged: install the package again")
    return content


class FashionMNIST(_IdxImages):
    """Clothes, as MNIST's digits: 60,000 images to train on and 10,000 to test; data (N, 1, 28, 28) uint8, label (N,).

    The four published files, gzipped as they are, are read from `data_dir`, or from the folder fashion-mnist in the
    cache folder, to which they are downloaded when they are not there. Each is checked against its SHA-256.

    Args:
        train: whether to read the images for training, or those for testing (default: True).
        transform: the default makes an image a vector (784,) float32 of 0 .. 1; with None it stays (1, 28, 28) uint8.
        target_transform: applied to each label (default: none).
        data_dir: the folder of the files; nothing is downloaded then (default: the cache folder's fashion-mnist).

    Raises FileNotFoundError or ValueError for a file missing or wrong in `data_dir`, and OSError when the cache has no
    good file and none can be downloaded.

    H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms,
    2017.

    >>> FashionMNIST.labels()[9]
    'Ankle boot'
    """

    mirrors = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
    folder = "fashion-mnist"
    train_files = (
        IdxFile(
            "train-images-idx3-ubyte",
            (60000, 28, 28),
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            packed=True,
        ),
        IdxFile(
            "train-labels-idx1-ubyte",
            (60000,),
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            packed=True,
        ),
    )
    test_files = (
        IdxFile(
            "t10k-images-idx3-ubyte",
            (10000, 28, 28),
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            packed=True,
        ),
        IdxFile(
            "t10k-labels-idx1-ubyte",
            (10000,),
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            packed=True,
        ),
    )

    @staticmethod
    def labels() -> dict[int, str]:
        """Return the name of each label: {0: 'T-shirt/top', ..., 9: 'Ankle boot'}."""
        return _named("T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle_boot")


# Small photographs


def _named(names: str) -> dict[int, str]:
    return {label: name.replace("_", " ") for label, name in enumerate(names.split())}


class _CIFAR(_Shown, PublishedDataset):
    """What CIFAR-10 and CIFAR-100 share: photographs of 32 x 32 pixels in three colours, in one archive of records."""

    mirrors = ("https://www.cs.toronto.edu/~kriz/",)
    archive: Archive  # of everything
    test_members: tuple[str, ...]

    def __init__(
        self,
        train: bool = True,
        transform: Transform | None = _CENTERED,
        target_transform: Transform | None = None,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(train, transform, target_transform, data_dir)

    def prepare(self) -> None:
        members = self.archive.members
        chosen = tuple(member for member in members if (member[0] in self.test_members) != self.train)
        records = self.load(self.archive._replace(members=chosen))
        labels = self.archive.record - 3 * 32 * 32
        self.data = records[:, labels:].reshape(-1, 3, 32, 32).copy()
        self.label = records[:, self._label_column()].copy()

    def _label_column(self) -> int:
        return 0


class CIFAR10(_CIFAR):
    """Photographs of ten kinds of things: 50,000 to train on, 10,000 to test; data (N, 3, 32, 32) uint8, label (N,).

    The binary archive cifar-10-binary.tar.gz, 162 MB, is read from `data_dir`, or from the cache folder (`DEZERO_HOME`,
    or `~/.dezero`), to which it is downloaded when it is not there. It is checked against its SHA-256, and read
    without unpickling anything or extracting anything to the disk.

    Args:
        train: whether to read the images for training, or those for testing (default: True).
        transform: the default makes an image (3, 32, 32) float32 of -1 .. 1; with None it stays uint8.
        target_transform: applied to each label (default: none).
        data_dir: the folder of the archive; nothing is downloaded then (default: the cache folder).

    Raises FileNotFoundError or ValueError for an archive missing or wrong in `data_dir`, and OSError when the cache has
    no good one and none can be downloaded.

    A. Krizhevsky: Learning multiple layers of features from tiny images, 2009.

    >>> CIFAR10.labels()[3]
    'cat'
    """

    archive = Archive(
        "cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        1 + 3 * 32 * 32,
        (
            *((f"cifar-10-batches-bin/data_batch_{number}.bin", 10000) for number in range(1, 6)),
            ("cifar-10-batches-bin/test_batch.bin", 10000),
        ),
    )
    test_members = ("cifar-10-batches-bin/test_batch.bin",)

    @staticmethod
    def labels() -> dict[int, str]:
        """Return the name of each label: {0: 'airplane', ..., 9: 'truck'}."""
        return _named("airplane automobile bird cat deer dog frog horse ship truck")


class CIFAR100(_CIFAR):
    """Photographs of a hundred kinds of things, in twenty groups: otherwise as CIFAR10, from cifar-100-binary.tar.gz.

    Args:
        train: whether to read the images for training, or those for testing (default: True).
        transform: the default makes an image (3, 32, 32) float32 of -1 .. 1; with None it stays uint8.
        target_transform: applied to each label (default: none).
        label_type: `"fine"`, labels 0 .. 99 of the kinds, or `"coarse"`, 0 .. 19 of the groups (default: fine).
        data_dir: the folder of the archive; nothing is downloaded then (default: the cache folder).

    Raises what CIFAR10 does, and ValueError for another label_type.

    >>> CIFAR100.labels()[23], CIFAR100.labels("coarse")[10]
    ('cloud', 'large natural outdoor scenes')
    """

    archive = Archive(
        "cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        2 + 3 * 32 * 32,
        (("cifar-100-binary/train.bin", 50000), ("cifar-100-binary/test.bin", 10000)),
    )
    test_members = ("cifar-100-binary/test.bin",)

    def __init__(
        self,
        train: bool = True,
        transform: Transform | None = _CENTERED,
        target_transform: Transform | None = None,
        label_type: str = "fine",
        data_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.label_type = _checked(label_type)
        super().__init__(train, transform, target_transform, data_dir)

    def _label_column(self) -> int:
        return 0 if self.label_type == "coarse" else 1

    @staticmethod
    def labels(label_type: str = "fine") -> dict[int, str]:
        """Return the name of each label: {0: 'apple', ..., 99: 'worm'}, or of each coarse one.

        Args:
            label_type: `"fine"` or `"coarse"` (default: fine).
        """
        return _named(_FINE if _checked(label_type) == "fine" else _COARSE)


def _checked(label_type: str) -> str:
    if label_type not in ("fine", "coarse"):
        raise ValueError(f"CIFAR100: label_type must be 'fine' or 'coarse', got {label_type!r}")
    return label_type


_FINE = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
    maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
    snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
    tulip turtle wardrobe whale willow_tree wolf woman worm
"""
_COARSE = """
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture
    insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes
    large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees
    vehicles_1 vehicles_2
"""


class ImageNet(Dataset):
    """The thousand classes of ILSVRC 2012: their names alone. The images are not to be had without a licence.

    For images of your own, write a `Dataset` whose `__getitem__` opens a file.

    O. Russakovsky et al.: ImageNet large scale visual recognition challenge, 2015.

    >>> ImageNet.labels()[0], ImageNet.labels()[281]
    ('tench, Tinca tinca', 'tabby, tabby cat')
    """

    path = os.path.join(_CARRIED, "imagenet_labels.txt")
    sha256 = "4eb3da435cf544e4a6f390f62c84cb9c9bb68cf8b14e97f8a063452382e5efd2"

    def prepare(self) -> None:
        raise TypeError(
            "ImageNet: its images cannot be downloaded freely, and only labels() is here; for a folder of images "
            "write a Dataset with __getitem__ and __len__"
        )

    @staticmethod
    def labels() -> dict[int, str]:
        """Return the words for each of the 1,000 classes: {0: 'tench, Tinca tinca', ...}; two of them are 'crane'.

        Raises ValueError if the package's file is damaged.
        """
        text = _carried("ImageNet", ImageNet.path, ImageNet.sha256).decode("utf-8")
        return dict(enumerate(text.splitlines()))
