"""Datasets: the pair, the batch that equals its pairs, the sets that are drawn, and the digits in the package."""

import pickle
import shutil
import sys

import numpy as np
import pytest

import dezero.random
from dezero.datasets import (
    CIFAR10,
    CIFAR100,
    MNIST,
    Dataset,
    FashionMNIST,
    ImageNet,
    MiniMNIST,
    SinCurve,
    Spiral,
    collate,
    get_spiral,
    hold_out,
)
from dezero.transforms import AsType, Compose, Flatten, Normalize, ToFloat, ToInt


class Table(Dataset):
    def prepare(self):
        self.data = np.random.RandomState(0).randint(0, 256, (12, 1, 4, 4)).astype(np.uint8)
        self.label = np.arange(12, dtype=np.uint8)


class Unlabelled(Dataset):
    def prepare(self):
        self.data = np.arange(12.0)


class Lists(Dataset):
    def prepare(self):
        self.data = [np.full((2, 2), i, np.float32) for i in range(12)]
        self.label = [i % 3 for i in range(12)]


class Objects(Dataset):
    def prepare(self):
        self.data = np.empty(12, dtype=object)
        self.data[:] = [np.full(3, i) for i in range(12)]
        self.label = np.arange(12)


class OwnItems(Table):
    def __getitem__(self, index):
        x, t = super().__getitem__(index)
        return x.astype(np.float32) + 0.5, -int(t)


def item_by_item(dataset, rows):
    items = [dataset[i] for i in rows]
    xs, ts = np.array([x for x, _ in items]), [t for _, t in items]
    return xs, None if ts[0] is None else np.array(ts)


def test_one_item():
    x, t = Table(transform=Flatten(), target_transform=lambda t: int(t) * 10)[3]
    assert (x.shape, x.dtype, t) == ((16,), np.uint8, 30)
    x, t = Table()[3]
    assert (x.shape, t, type(t)) == ((1, 4, 4), 3, np.uint8)
    assert Unlabelled()[5] == (5.0, None)
    assert Table()[-1][1] == 11
    assert Table()[np.int64(2)][1] == 2


def test_items_end_where_the_data_ends():
    for dataset in (Table(), Lists()):
        assert len(dataset) == 12
        assert len(list(dataset)) == 12
        with pytest.raises(IndexError):
            dataset[12]


@pytest.mark.parametrize("index", [1.0, slice(2), [0, 1], np.array([0, 1]), "0", None])
def test_an_index_is_one_integer(index):
    with pytest.raises(TypeError, match=r"Table\[i\]: i must be one integer, got"):
        Table()[index]


def test_a_dataset_without_data_says_so():
    with pytest.raises(ValueError, match="Dataset: there is no data yet: prepare"):
        len(Dataset())


def test_train_and_the_transforms_reach_prepare():
    class Part(Dataset):
        def prepare(self):
            self.data = [self.train, self.transform(4), self.target_transform(4)]

    assert Part(False, lambda x: x + 1).data == [False, 5, 4]


CASES = {
    "table": Table(),
    "mnist's transform": Table(transform=Compose([Flatten(), ToFloat(), Normalize(0.0, 255.0)])),
    "label": Table(target_transform=ToInt()),
    "lambda": Table(transform=lambda x: x / 2),
    "target lambda": Table(target_transform=lambda t: t + 1),
    "composed lambda": Table(transform=Compose([Flatten(), lambda x: x[::2]])),
    "unlabelled": Unlabelled(transform=AsType(np.float32)),
    "lists": Lists(transform=Flatten()),
    "objects": Objects(),
    "own items": OwnItems(),
}


@pytest.mark.parametrize("dataset", CASES.values(), ids=CASES)
@pytest.mark.parametrize("rows", [[0, 3, 3, 11], np.array([5]), range(12), (np.int64(2), -1)], ids=str)
def test_a_batch_is_what_its_items_are(dataset, rows):
    (x, t), (x_expected, t_expected) = dataset.batch(rows), item_by_item(dataset, rows)
    assert (x.dtype, x.shape) == (x_expected.dtype, x_expected.shape)
    np.testing.assert_array_equal(x, x_expected)
    if t_expected is None:
        assert t is None
    else:
        assert t.dtype == t_expected.dtype
        np.testing.assert_array_equal(t, t_expected)


@pytest.mark.parametrize("name", CASES)
def test_a_batch_is_one_operation_where_it_can_be(name, monkeypatch):
    whole = name in ("table", "mnist's transform", "label", "unlabelled")
    asked = []
    kind = type(CASES[name])
    single = kind.__getitem__

    def spy(self, index):
        asked.append(index)
        return single(self, index)

    monkeypatch.setattr(kind if kind is OwnItems else Dataset, "__getitem__", spy)
    CASES[name].batch([1, 2, 3])
    assert asked == ([] if whole else [1, 2, 3])


def test_a_batch_is_a_copy():
    dataset = Table()
    x, t = dataset.batch([0, 1, 2])
    x[:], t[:] = 0, 9
    np.testing.assert_array_equal(dataset.data, Table().data)
    assert dataset.label[0] == 0


def test_an_empty_batch():
    x, t = Table().batch([])
    assert (x.shape, t.shape) == ((0, 1, 4, 4), (0,))
    assert Lists().batch([])[0].shape == (0,)


@pytest.mark.parametrize("rows", [[1.0], [True, False], [[1, 2]], 3])
def test_a_batch_is_of_integers(rows):
    with pytest.raises(TypeError, match=r"Table\.batch: expected a sequence of integers"):
        Table().batch(rows)


def test_a_batch_past_the_end_is_an_index_error():
    for dataset in (Table(), Lists(), OwnItems()):
        with pytest.raises(IndexError):
            dataset.batch([0, 12])


def test_collate_wants_pairs_of_one_shape():
    with pytest.raises(TypeError, match=r"pairs \(x, t\)"):
        collate([(1,), (2,)])
    with pytest.raises(ValueError, match="every t in one shape"):
        collate([(0, [1]), (0, [1, 2])])


@pytest.mark.parametrize("dataset", [Table(transform=Flatten()), Unlabelled(), Lists()])
def test_hold_out(dataset):
    train, check = hold_out(dataset, 5)
    assert (type(train), len(train), len(check), len(dataset)) == (type(dataset), 7, 5, 12)
    for part, start in ((train, 0), (check, 7)):
        for i in range(len(part)):
            np.testing.assert_array_equal(part[i][0], dataset[start + i][0])
            assert part[i][1] == dataset[start + i][1]
    whole, nothing = hold_out(dataset, 0)
    assert (len(whole), len(nothing)) == (12, 0)


def test_hold_out_refuses():
    for count in (-1, 13):
        with pytest.raises(ValueError, match=f"cannot hold out {count} of 12"):
            hold_out(Table(), count)
    with pytest.raises(TypeError, match="OwnItems has its own"):
        hold_out(OwnItems(), 2)


def spiral_by_the_book(seed):
    generator = np.random.RandomState(seed)
    x, t = np.zeros((300, 2)), np.zeros(300, int)
    for j in range(3):
        for i in range(100):
            rate = i / 100
            theta = 4 * j + 4 * rate + 0.2 * generator.randn()
            x[100 * j + i], t[100 * j + i] = (rate * np.sin(theta), rate * np.cos(theta)), j
    order = generator.permutation(300)
    return x[order], t[order]


@pytest.mark.parametrize(("train", "seed"), [(True, 1984), (False, 2020)])
def test_the_spiral_has_always_the_same_points(train, seed):
    x, t = get_spiral(train)
    assert (x.shape, x.dtype, t.shape, t.dtype) == ((300, 2), np.float32, (300,), np.dtype(int))
    x_expected, t_expected = spiral_by_the_book(seed)
    np.testing.assert_allclose(x, x_expected, rtol=1e-6)
    np.testing.assert_array_equal(t, t_expected)
    # DeZero 0.0.13 began with these:
    first = [[-0.13981389, -0.00721657], [0.37049392, 0.5820947]]
    other = [[0.13246453, 0.13620993], [-0.31427157, 0.24745378]]
    np.testing.assert_allclose(x[:2], first if train else other, rtol=1e-6)
    assert t[:5].tolist() == ([1, 1, 2, 0, 1] if train else [0, 1, 0, 1, 2])
    np.testing.assert_array_equal(Spiral(train).data, x)
    np.testing.assert_array_equal(Spiral(train).label, t)


def test_the_spiral_leaves_the_generators_alone():
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    get_spiral()
    Spiral(train=False)
    assert np.random.rand() == expected


@pytest.mark.parametrize("train", [True, False])
def test_the_curve(train):
    np.random.seed(0)
    noise, then = np.random.uniform(-0.05, 0.05, 1000), np.random.rand()
    np.random.seed(0)
    curve = SinCurve(train)
    assert np.random.rand() == then
    x = np.linspace(0, 2 * np.pi, 1000)
    y = np.sin(x) + noise if train else np.cos(x)
    assert curve.data.shape == curve.label.shape == (999, 1)
    assert curve.data.dtype == curve.label.dtype == np.float64
    np.testing.assert_array_equal(curve.data[:, 0], y[:-1])
    np.testing.assert_array_equal(curve.label[:, 0], y[1:])


def test_the_curves_noise_after_dezero_seed():
    try:
        dezero.random.seed(4)
        first = SinCurve().data
        dezero.random.seed(4)
        np.testing.assert_array_equal(SinCurve().data, first)
        assert (SinCurve().data != first).any()
    finally:
        dezero.random.seed(None)


@pytest.mark.parametrize(("train", "size", "first"), [(True, 6000, "5041921314"), (False, 1000, "7210414959")])
def test_the_digits_in_the_package(train, size, first):
    digits = MiniMNIST(train)
    assert (digits.data.shape, digits.data.dtype) == ((size, 1, 28, 28), np.uint8)
    assert (digits.label.shape, digits.label.dtype) == ((size,), np.uint8)
    assert "".join(str(t) for t in digits.label[:10]) == first
    assert sorted(set(digits.label.tolist())) == list(range(10))
    # all of MNIST has 0.1307 and 0.3081
    np.testing.assert_allclose([digits.data.mean() / 255, digits.data.std() / 255], [0.13, 0.308], atol=0.012)
    x, t = digits[0]
    assert (x.shape, x.dtype, int(t)) == ((784,), np.float32, int(first[0]))
    assert (x.min(), x.max()) == (0, 1)
    image, _ = MiniMNIST(train, transform=None)[0]
    assert (image.shape, image.dtype) == ((1, 28, 28), np.uint8)
    x, t = digits.batch(range(100))
    assert (x.shape, x.dtype, t.shape) == ((100, 784), np.float32, (100,))


def test_digits_can_be_held_out():
    train, check = hold_out(MiniMNIST(), 1000)
    assert (len(train), len(check)) == (5000, 1000)
    assert np.shares_memory(train.data, check.data) or train.data.base is check.data.base


def test_digits_can_be_pickled():
    digits = pickle.loads(pickle.dumps(MiniMNIST(train=False)))
    np.testing.assert_array_equal(digits[0][0], MiniMNIST(train=False)[0][0])


def test_a_damaged_package_is_noticed(tmp_path, monkeypatch):
    copy = tmp_path / "mini_mnist.npz"
    shutil.copy(MiniMNIST.path, copy)
    monkeypatch.setattr(MiniMNIST, "path", str(copy))
    assert len(MiniMNIST(train=False)) == 1000
    content = bytearray(copy.read_bytes())
    content[5000] ^= 1
    copy.write_bytes(content)
    with pytest.raises(ValueError, match=r"mini_mnist\.npz is damaged: install"):
        MiniMNIST()


def test_labels():
    assert MNIST.labels() == MiniMNIST.labels() == {i: str(i) for i in range(10)}


def test_labels_have_names():
    sizes = {FashionMNIST: 10, CIFAR10: 10, CIFAR100: 100, ImageNet: 1000}
    for kind, size in sizes.items():
        labels = kind.labels()
        assert list(labels) == list(range(size))
        assert all(name == name.strip() and "_" not in name for name in labels.values())
        assert len(set(labels.values())) == (999 if kind is ImageNet else size)
    assert list(CIFAR100.labels("fine").values()) == sorted(CIFAR100.labels().values())
    assert list(CIFAR100.labels("coarse")) == list(range(20))
    assert list(CIFAR100.labels("coarse").values()) == sorted(CIFAR100.labels("coarse").values())
    assert (FashionMNIST.labels()[0], FashionMNIST.labels()[9]) == ("T-shirt/top", "Ankle boot")
    assert [CIFAR10.labels()[label] for label in (0, 1, 9)] == ["airplane", "automobile", "truck"]


def test_imagenets_labels_are_in_its_own_order():
    labels = ImageNet.labels()
    known = {
        0: "tench",
        1: "goldfish",
        7: "cock",
        151: "Chihuahua",
        281: "tabby",
        340: "zebra",
        386: "African elephant",
    }
    known |= {404: "airliner", 504: "coffee mug", 620: "laptop", 817: "sports car", 954: "banana", 999: "toilet tissue"}
    for label, name in known.items():
        assert labels[label].split(", ")[0] == name
    assert labels[134] == labels[517] == "crane"
    with pytest.raises(TypeError, match="ImageNet: its images cannot be downloaded freely"):
        ImageNet()


def test_damaged_labels_are_noticed(tmp_path, monkeypatch):
    (tmp_path / "labels").write_bytes(b"tench\n")
    monkeypatch.setattr(ImageNet, "path", str(tmp_path / "labels"))
    with pytest.raises(ValueError, match=r"ImageNet: .*labels is damaged: install"):
        ImageNet.labels()


def test_show(monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    sheets = []
    monkeypatch.setattr(plt, "show", lambda: sheets.append(plt.gca().images[0].get_array()))
    digits = MiniMNIST(train=False)
    try:
        digits.show(row=2, col=3)
        plt.close("all")
        digits.show()
    finally:
        plt.close("all")
    assert [sheet.shape for sheet in sheets] == [(56, 84), (280, 280)]
    known = {image.tobytes() for image in digits.data}
    tiles = [sheets[0][28 * i : 28 * i + 28, 28 * j : 28 * j + 28] for i in range(2) for j in range(3)]
    assert all(np.ascontiguousarray(tile).tobytes() in known for tile in tiles)


def test_photographs_are_shown_in_colour(monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    class Tiny(CIFAR10):
        def prepare(self):
            self.data = np.arange(2 * 3072).reshape(2, 3, 32, 32).astype(np.uint8)
            self.label = np.arange(2)

    sheets = []
    monkeypatch.setattr(plt, "show", lambda: sheets.append(plt.gca().images[0].get_array()))
    try:
        Tiny().show(1, 2)
    finally:
        plt.close("all")
    assert sheets[0].shape == (32, 64, 3)
    known = [image.transpose(1, 2, 0).tolist() for image in Tiny().data]
    assert sheets[0][:, 32:].tolist() in known


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'dezero\[plot\]'"):
        MiniMNIST(train=False).show()
