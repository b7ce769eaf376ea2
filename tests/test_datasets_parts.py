"""Data sets made of arrays, of parts of others and of several in a row: the pairs, and the batch that equals them."""

import numpy as np
import pytest

import dezero.random
from dezero import Variable, random_items
from dezero.datasets import ConcatDataset, Dataset, Subset, TensorDataset, hold_out, random_split
from dezero.transforms import AsType, ToInt

X = np.arange(24, dtype=np.float32).reshape(12, 2)
T = np.arange(12, dtype=np.uint8)
PAIRS = [(x, int(t)) for x, t in zip(X[:5], T[:5], strict=True)]


class Noisy(Dataset):
    def prepare(self):
        self.data, self.label = X, T

    def __getitem__(self, index):
        return super().__getitem__(index)[0] + dezero.random.uniform(), index


SETS = {
    "tensors": TensorDataset(X, T),
    "transformed": TensorDataset(X, T, AsType(np.float64), ToInt()),
    "item by item": TensorDataset(X, T, lambda x: x + 1),
    "without labels": TensorDataset(X),
    "subset": Subset(TensorDataset(X, T), [3, 1, -1, 3, 0]),
    "subset of pairs": Subset(PAIRS, [4, 0]),
    "subset of a subset": Subset(Subset(TensorDataset(X, T), [3, 1, 9, 8, 0]), np.array([4, 2])),
    "two": ConcatDataset([TensorDataset(X, T), Subset(TensorDataset(X, T), [7, 5])]),
    "two kinds": ConcatDataset([PAIRS, [], TensorDataset(X, T)]),
    "subset of two": Subset(ConcatDataset([PAIRS, TensorDataset(X, T)]), range(3, 9)),
}


@pytest.mark.parametrize("dataset", SETS.values(), ids=SETS)
def test_a_batch_is_what_its_items_are(dataset):
    size = len(dataset)
    for rows in (range(size), [0], [size - 1, 0, 1, 1], np.array([-1, 0]), (np.int64(1),)):
        x, t = dataset.batch(rows)
        items = [dataset[int(row)] for row in rows]
        np.testing.assert_array_equal(x, np.array([item[0] for item in items]))
        assert x.dtype == items[0][0].dtype
        if items[0][1] is None:
            assert t is None
        else:
            np.testing.assert_array_equal(t, np.array([item[1] for item in items]))


@pytest.mark.parametrize("name", ["subset", "subset of pairs", "two", "two kinds"])
def test_they_end_where_their_items_end(name):
    dataset = SETS[name]
    assert len(list(dataset)) == len(dataset)
    assert isinstance(dataset, Dataset)
    assert dataset[-1][1] == dataset[len(dataset) - 1][1]
    kind = type(dataset).__name__
    for past in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError):
            dataset[past]
        with pytest.raises(IndexError):
            dataset.batch([0, past])
    for wrong in (1.0, slice(2), None):
        with pytest.raises(TypeError, match=rf"{kind}\[i\]: i must be one integer"):
            dataset[wrong]
    with pytest.raises(TypeError, match=rf"{kind}\.batch: expected a sequence of integers"):
        dataset.batch([1.0])


def test_the_items():
    assert [int(t) for _, t in SETS["subset"]] == [3, 1, 11, 3, 0]
    assert [int(t) for _, t in SETS["subset of a subset"]] == [0, 9]
    assert [int(t) for _, t in SETS["two"]] == [*range(12), 7, 5]
    assert [int(t) for _, t in SETS["two kinds"]] == [*range(5), *range(12)]
    assert [int(t) for _, t in SETS["subset of two"]] == [3, 4, 0, 1, 2, 3]


def test_a_subset_keeps_its_own_indexes():
    rows = np.array([1, 2])
    subset = Subset(PAIRS, rows)
    rows[0] = 0
    assert subset[0][1] == 1


def test_batches_of_one_set_are_taken_at_once(monkeypatch):
    def never(self, index):
        raise AssertionError("taken one by one")

    subset, both = SETS["subset"], SETS["two"]
    monkeypatch.setattr(Subset, "__getitem__", never)
    monkeypatch.setattr(ConcatDataset, "__getitem__", never)
    subset.batch([0, 1])
    both.batch([3, 1])
    both.batch([12, 13])


def test_tensors_are_not_copied():
    data = TensorDataset(Variable(X), T.tolist())
    assert data.data is X
    assert data.label.tolist() == T.tolist()
    train, check = hold_out(data, 2)
    assert (len(train), len(check), len(TensorDataset(X[:0]))) == (10, 2, 0)


@pytest.mark.parametrize("arrays", [(X, T[:5]), (3.0,), (X, 3)])
def test_tensors_need_as_many_rows_as_each_other(arrays):
    with pytest.raises(ValueError, match="TensorDataset: expected arrays with as many rows as each other, got shapes"):
        TensorDataset(*arrays)


def test_refusals():
    with pytest.raises(IndexError, match="Subset: there is no item 5 of 5"):
        Subset(PAIRS, [0, 5])
    with pytest.raises(IndexError, match="Subset: there is no item -6 of 5"):
        Subset(PAIRS, [-6])
    for rows in ([0.0], [True], [[0]], 3):
        with pytest.raises(TypeError, match="Subset: expected a sequence of integers, got shape"):
            Subset(PAIRS, rows)
    assert len(Subset(PAIRS, [])) == 0
    with pytest.raises(ValueError, match="ConcatDataset: expected at least one data set, got none"):
        ConcatDataset([])
    with pytest.raises(TypeError, match="put them in a list"):
        ConcatDataset(TensorDataset(X))


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [([8, 4], [8, 4]), ([0.5, 0.5], [6, 6]), ([0.3, 0.3, 0.4], [4, 4, 4]), ([1 / 3] * 3, [4] * 3), ([12], [12])],
)
def test_random_split_deals_out_every_item(lengths, sizes):
    parts = random_split(TensorDataset(X, T), lengths, seed=3)
    assert [len(part) for part in parts] == sizes
    dealt = [int(t) for part in parts for _, t in part]
    assert sorted(dealt) == list(range(12))
    assert dealt != list(range(12))


def test_random_split_rounds_fractions_down_and_deals_out_the_rest():
    parts = random_split(range(100), [0.333, 0.333, 0.334], seed=0)
    assert [len(part) for part in parts] == [34, 33, 33]
    assert [len(part) for part in random_split(range(10), [0.7, 0.2, 0.1], seed=0)] == [7, 2, 1]


def test_random_split_with_a_seed_and_without():
    def dealt(seed):
        return [row for part in random_split(range(50), [25, 25], seed) for row in part.indexes]

    np.random.seed(0)
    state = np.random.get_state()[1].tolist()
    assert dealt(1) == dealt(1) != dealt(2)
    assert np.random.get_state()[1].tolist() == state
    assert dealt(None) == np.random.RandomState(0).permutation(50).tolist()
    assert dealt(None) != dealt(None)


@pytest.mark.parametrize("lengths", [[8, 5], [13, -1], [0.5, 0.4], [], [1.5, -0.5]])
def test_random_split_refuses_lengths_that_do_not_add_up(lengths):
    with pytest.raises(ValueError, match="random_split: expected lengths that add up to 12, or fractions to 1, got"):
        random_split(range(12), lengths)


def test_random_split_refuses_a_seed_that_is_none():
    with pytest.raises(TypeError, match=r"random_split: seed must be an int or None, got 1\.5"):
        random_split(range(12), [6, 6], seed=1.5)


@pytest.mark.parametrize("make", [lambda d: d, lambda d: Subset(d, range(12)), lambda d: ConcatDataset([d, d])])
def test_what_an_item_draws_belongs_to_its_place_in_the_batch(make):
    """However deep the data set lies, the item at place 2 draws what it always drew there."""
    with random_items.loading(0, np.arange(4), seed=1):
        noise = make(Noisy()).batch([5, 5, 5, 5])[0] - X[5]
    with random_items.loading(0, np.array([2]), seed=1):
        again = make(Noisy()).batch([7])[0] - X[7]
    assert len(set(noise[:, 0].tolist())) == 4
    np.testing.assert_allclose(again[0], noise[2], atol=1e-5)
