"""Batches: their order and draws, their arrays, and the two ways of building them held equal."""

import copy
import sys
import types

import numpy as np
import pytest

import dezero.random
import dezero.random_items
from dezero import cuda
from dezero.dataloaders import DataLoader, SeqDataLoader, WeightedSampler
from dezero.datasets import Dataset


class Ten(Dataset):
    def prepare(self):
        self.data = np.arange(20, dtype=np.float32).reshape(10, 2)
        self.label = np.arange(10)


class TenByItem(Ten):
    def __getitem__(self, index):
        return super().__getitem__(index)


PAIRS = [(x, t) for x, t in zip(np.arange(20, dtype=np.float32).reshape(10, 2), np.arange(10), strict=True)]


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(1)


def labels(loader):
    return [t.tolist() for _, t in loader]


def order(loader):
    return [label for batch in labels(loader) for label in batch]


def test_the_order_is_dezeros():
    loader = DataLoader(Ten(), 3)
    assert [labels(loader) for _ in range(3)] == [
        [[2, 9, 6], [4, 0, 3], [1, 7, 8], [5]],
        [[9, 5, 3], [0, 8, 4], [2, 1, 6], [7]],
        [[8, 3, 5], [9, 0, 6], [1, 7, 4], [2]],
    ]
    assert np.random.rand() == 0.08504421136977791  # four permutations were drawn: one for the epoch to come


@pytest.mark.parametrize("loader", [DataLoader(Ten(), 4, shuffle=False), SeqDataLoader(Ten(), 3)])
def test_without_a_shuffle_nothing_is_drawn(loader):
    first = labels(loader)
    assert labels(loader) == first
    assert np.random.rand() == 0.417022004702574


def test_in_order():
    assert labels(DataLoader(Ten(), 4, shuffle=False)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_the_order_after_dezero_seed():
    def orders():
        dezero.random.seed(7)
        return labels(DataLoader(Ten(), 3))

    try:
        assert orders() == orders()
    finally:
        dezero.random.seed(None)
    assert np.random.rand() == 0.417022004702574


@pytest.mark.parametrize(
    "dataset", [Ten(), TenByItem(), PAIRS, tuple(PAIRS)], ids=["table", "item by item", "list", "tuple"]
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_arrays_of_their_own(dataset, shuffle):
    loader = DataLoader(dataset, 4, shuffle)
    for x, t in loader:
        np.testing.assert_array_equal(x, np.stack([2 * t, 2 * t + 1], axis=1))
        assert (x.dtype, t.dtype) == (np.float32, np.arange(1).dtype)
        assert x.flags.c_contiguous
        assert x.flags.writeable
        x[:], t[:] = -1, -1
    assert sorted(order(loader)) == list(range(10))


@pytest.mark.parametrize("base", [Ten, TenByItem])
def test_batches_of_a_transposed_array_are_contiguous(base):
    class Transposed(base):
        def prepare(self):
            self.data = np.arange(120.0).reshape(4, 3, 10).T
            self.label = np.arange(20).reshape(2, 10).T

    data = Transposed().data
    for x, t in DataLoader(Transposed(), 4):
        np.testing.assert_array_equal(x, data[t[:, 0]])
        assert x.flags.c_contiguous
        assert t.flags.c_contiguous


def test_sizes():
    loader = DataLoader(Ten(), np.int64(4))
    assert (loader.data_size, loader.max_iter, len(loader), loader.batch_size) == (10, 3, 3, 4)
    assert [len(t) for _, t in loader] == [4, 4, 2]
    assert [len(t) for _, t in DataLoader(Ten(), 100)] == [10]
    assert list(DataLoader([], 3)) == []


def test_a_loader_is_its_own_iterator():
    loader = DataLoader(Ten(), 4, shuffle=False)
    assert iter(loader) is loader
    assert next(loader)[1].tolist() == [0, 1, 2, 3]
    assert loader.next()[1].tolist() == [4, 5, 6, 7]
    assert loader.next()[1].tolist() == [8, 9]
    with pytest.raises(StopIteration):
        loader.next()
    assert next(loader)[1].tolist() == [0, 1, 2, 3]


def test_a_new_loop_starts_over_after_a_break():
    loader = DataLoader(Ten(), 4, shuffle=False)
    for _ in loader:
        break
    assert labels(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_only_a_break_costs_a_shuffle():
    loader = DataLoader(Ten(), 4)
    drawn = np.random.RandomState(1)
    orders = [drawn.permutation(10).tolist() for _ in range(5)]
    iter(loader)
    assert order(loader) == orders[0]
    assert order(loader) == orders[1]
    assert next(loader)[1].tolist() == orders[2][:4]
    assert order(loader) == orders[3]
    loader.reset()  # the order drawn at the end of the epoch is given up for another
    assert next(loader)[1].tolist() == drawn.permutation(10).tolist()[:4]


def test_reset_goes_back():
    loader = DataLoader(Ten(), 4, shuffle=False)
    next(loader)
    loader.reset()
    assert next(loader)[1].tolist() == [0, 1, 2, 3]


def test_sequences_are_read_in_several_places():
    loader = SeqDataLoader(Ten(), 3)
    expected = [[0, 3, 6], [1, 4, 7], [2, 5, 8], [3, 6, 9]]
    assert len(loader) == loader.max_iter == 4
    assert labels(loader) == expected
    assert labels(loader) == expected
    next(loader)
    assert labels(loader) == expected
    x, t = next(SeqDataLoader(PAIRS, batch_size=2))
    assert (x.tolist(), t.tolist()) == ([[0, 1], [10, 11]], [0, 5])
    assert labels(SeqDataLoader(Ten(), 1)) == [[i] for i in range(10)]


def test_without_labels_t_is_none():
    class Unlabelled(Dataset):
        def prepare(self):
            self.data = np.zeros((5, 2))

    assert [(x.shape, t) for x, t in DataLoader(Unlabelled(), 3)] == [((3, 2), None), ((2, 2), None)]
    assert [t for _, t in DataLoader([(1.0, None), (2.0, None)], 2)] == [None]


def test_an_old_programs_dataset_is_read_through_its_own_getitem():
    class Big(Dataset):
        def __init__(self):
            pass  # the book's sets of files never call super().__init__()

        def __getitem__(self, index):
            return np.full(2, index, np.float32), index * index

        def __len__(self):
            return 5

    (x, t), (x2, t2) = DataLoader(Big(), 3, shuffle=False)
    assert x.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert t.tolist() + t2.tolist() == [0, 1, 4, 9, 16]
    assert (x2.shape, x.dtype) == ((2, 2), np.float32)


def test_a_shorter_len_is_honoured():
    class Four(Ten):
        def __len__(self):
            return 4

    assert labels(DataLoader(Four(), 3, shuffle=False)) == [[0, 1, 2], [3]]


def test_refusals():
    with pytest.raises(ValueError, match="DataLoader: batch_size must be at least 1, got 0"):
        DataLoader(Ten(), 0)
    with pytest.raises(ValueError, match="SeqDataLoader: batch_size"):
        SeqDataLoader(Ten(), -1)
    with pytest.raises(TypeError):
        DataLoader(Ten(), 2.5)
    with pytest.raises(TypeError, match=r"pairs \(x, t\), but the dataset gave float"):
        next(DataLoader([1.0, 2.0], 2))
    with pytest.raises(ValueError, match=r"every x in one shape, got \(2,\) and \(3,\)"):
        next(DataLoader([(np.zeros(3), 0), (np.zeros(2), 1)], 2))


def test_batches_go_where_they_are_sent(gpu):
    loader = DataLoader(Ten(), 3, shuffle=False, gpu=True)
    x, t = next(loader)
    assert isinstance(x, gpu.cupy.ndarray)
    assert isinstance(t, gpu.cupy.ndarray)
    loader.to_cpu()
    x, t = next(loader)
    assert isinstance(x, np.ndarray)
    np.testing.assert_array_equal(t, [3, 4, 5])
    loader.to_gpu()
    np.testing.assert_array_equal(gpu.back(next(loader)[1]), [6, 7, 8])
    sequence = SeqDataLoader([(1.0, None), (2.0, None)], 2, gpu=True)
    assert next(sequence)[1] is None


def test_batches_on_the_gpu_are_those_of_the_cpu(gpu):
    for _ in range(2):  # epochs; kept whole, so that a batch whose memory went to the next would show
        np.random.seed(0)
        wanted = [list(loader) for loader in (DataLoader(Ten(), 4), SeqDataLoader(Ten(), 3))]
        np.random.seed(0)
        found = [list(loader) for loader in (DataLoader(Ten(), 4, gpu=True), SeqDataLoader(Ten(), 3, gpu=True))]
        for batches, others in zip(found, wanted, strict=True):
            assert len(batches) == len(others)
            for batch, other in zip(batches, others, strict=True):
                for y, z in zip(gpu.back(batch), other, strict=True):
                    assert (y.dtype, y.flags.c_contiguous) == (z.dtype, True)
                    np.testing.assert_array_equal(y, z)


def test_a_loop_left_part_way_starts_over_on_the_gpu(gpu):
    loader = DataLoader(Ten(), 4, shuffle=False, gpu=True)
    batches = iter(loader)
    next(batches), next(batches)
    assert [gpu.back(t).tolist() for _, t in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_the_next_batch_is_on_its_way_before_this_one_is_asked_for(gpu):
    loaded = []

    class Watched(Ten):
        def batch(self, rows):
            loaded.append(len(rows))
            return super().batch(rows)

    batches = iter(DataLoader(Watched(), 4, gpu=True))
    assert [(next(batches), len(loaded))[1] for _ in range(3)] == [1, 3, 3]


def test_a_loader_with_a_batch_on_its_way_can_be_copied(gpu):
    loader = DataLoader(Ten(), 3, shuffle=False, gpu=True)
    next(loader), next(loader)
    twin = copy.deepcopy(loader)
    assert [gpu.back(next(one)[1]).tolist() for one in (loader, twin)] == [[6, 7, 8]] * 2


def test_an_error_comes_in_its_turn_on_the_gpu_too(gpu):
    class Damaged(Ten):
        def batch(self, rows):
            if 8 in rows and not self.mended:
                raise OSError("a file is damaged")
            return super().batch(rows)

    loader = DataLoader(Damaged(), 4, shuffle=False, gpu=True)
    loader.dataset.mended = False
    assert [gpu.back(next(loader)[1]).tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(OSError, match="damaged"):
        next(loader)
    loader.dataset.mended = True
    assert gpu.back(next(loader)[1]).tolist() == [8, 9]


def test_a_copy_keeps_both_its_ends_until_it_is_done(gpu):
    """A batch that nobody asks for any more is still being written; its memory must not be another array's."""
    loader = DataLoader([(np.ones(1000, np.float32), i) for i in range(8)], 2, gpu=True)
    next(loader), next(loader)
    on_its_way = loader._next[0].data.ptr
    loader.reset()
    others = [gpu.cupy.empty((2, 1000), np.float32) for _ in range(4)]
    assert on_its_way not in {x.data.ptr for x in others}


def test_a_loader_that_goes_waits_for_its_copies(gpu, monkeypatch):
    loader = DataLoader(Ten(), 4, gpu=True)
    next(loader)
    waited, synchronize = [], gpu.cupy.cuda.Stream.synchronize
    stream = loader._upload.stream
    loader._upload.stream = types.SimpleNamespace(synchronize=lambda: (waited.append(1), synchronize(stream)))
    del loader
    assert waited == [1]


def test_without_a_gpu_the_first_batch_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    cuda.look_again()
    with pytest.raises(RuntimeError, match="DataLoader: CuPy is not installed: pip install"):
        next(DataLoader(Ten(), 3, gpu=True))
    cuda.look_again()


@pytest.mark.parametrize("items", [None, 3, {1, 2}, iter([(0.0, 1)])], ids=lambda items: type(items).__name__)
def test_what_is_no_sequence_is_refused(items):
    with pytest.raises(TypeError, match=r"^DataLoader: expected a Dataset or a sequence of pairs \(x, t\), got"):
        DataLoader(items, 2)


@pytest.mark.parametrize("items", [np.ones((4, 3)), ["ab", "cd"], [1, 2], [(1, 2, 3)] * 2, [{"x": 1}] * 2])
def test_items_that_are_no_pairs_are_refused(items):
    with pytest.raises(
        TypeError, match=r"a batch is made of pairs \(x, t\), but the dataset gave .*; the argument coll"
    ):
        next(DataLoader(items, 2))


def test_more_places_than_items_are_refused():
    with pytest.raises(ValueError, match="SeqDataLoader: cannot read 2 items in 3 places at once"):
        SeqDataLoader([(1, 2), (3, 4)], 3)


def test_a_smaller_last_batch_can_be_left_out():
    loader = DataLoader(Ten(), 4, shuffle=False, drop_last=True)
    assert (len(loader), labels(loader)) == (2, [[0, 1, 2, 3], [4, 5, 6, 7]])
    assert labels(DataLoader(Ten(), 5, shuffle=False, drop_last=True)) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    with pytest.raises(ValueError, match="DataLoader: drop_last leaves no batch of 11: there are 10 items"):
        DataLoader(Ten(), 11, drop_last=True)
    assert list(DataLoader([], 3, drop_last=True)) == []


def test_with_a_seed_orders_follow_from_it_and_the_epoch_alone():
    state = np.random.get_state()[1].tolist()
    first, second = DataLoader(Ten(), 3, seed=1), DataLoader(Ten(), 3, seed=1)
    orders = [order(first) for _ in range(4)]
    assert [order(second) for _ in range(4)] == orders
    assert len({tuple(one) for one in orders}) == 4
    assert all(sorted(one) == list(range(10)) for one in orders)
    assert np.random.get_state()[1].tolist() == state
    assert order(DataLoader(Ten(), 3, seed=2)) not in orders
    later = DataLoader(Ten(), 3, seed=1)
    assert later.epoch == 0
    later.reset(epoch=2)
    assert order(later) == orders[2]
    assert (order(later), later.epoch) == (orders[3], 4)


SAMPLERS = {
    "list": [7, 1, 1, 0, 3],
    "range": range(9, 4, -1),
    "array": np.array([2, 2, 2], np.uint8),
    "function": lambda: [5, 6, 0],
    "generator function": lambda: (i for i in (5, 6, 0)),
    "batches": [[3, 1], (0,), np.array([9, 9, 9])],
    "array of batches": np.arange(6).reshape(3, 2),
    "function of batches": lambda: iter([[1, 2], [0]]),
}


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_sampler_says_which_items_an_epoch_has(sampler):
    rows = [np.asarray(row).tolist() for row in (sampler() if callable(sampler) else sampler)]
    batches = rows if isinstance(rows[0], list) else [rows[:2], rows[2:4], *([rows[4:]] if len(rows) > 4 else [])]
    loader = DataLoader(Ten(), 2, sampler=sampler)
    for _ in range(2):
        assert len(loader) == len(batches)
        assert labels(loader) == batches
    assert np.random.rand() == 0.417022004702574


def test_a_sampler_is_asked_for_each_epoch():
    epochs = iter([[0, 1], [2], [3, 4, 5], [6]])
    loader = DataLoader(Ten(), 2, sampler=lambda: next(epochs))
    assert (len(loader), labels(loader)) == (1, [[0, 1]])
    assert (len(loader), labels(loader)) == (1, [[2]])
    assert (len(loader), labels(loader)) == (2, [[3, 4], [5]])


def test_places_in_batches_of_a_sampler_are_counted_on():
    places = []

    class Watched(Ten):
        def batch(self, rows):
            places.append(dezero.random_items.places(len(rows)).tolist())
            return super().batch(rows)

    list(DataLoader(Watched(), 2, sampler=[[1, 1, 1], [2], [3, 3]]))
    in_batches, places = places, []
    list(DataLoader(Watched(), 4, sampler=[1, 1, 1, 2, 3, 3]))
    assert sum(in_batches, []) == sum(places, [])  # noqa: RUF017
    assert len(set(sum(places, []))) == 6  # noqa: RUF017


@pytest.mark.parametrize(
    ("sampler", "kind", "said"),
    [
        ([0, 10], IndexError, "DataLoader: the sampler gave index 10, the dataset has 10 items"),
        ([[0], [-1]], IndexError, "the sampler gave index -1"),
        ([0.5], TypeError, "a sampler gives indexes, or batches of them, got"),
        ([], TypeError, "a sampler gives indexes"),
        ([[0], []], TypeError, "a sampler gives indexes"),
        (5, TypeError, "sampler must be an iterable, or a function that returns one, got 5"),
        (iter([1, 2]), TypeError, "the sampler is used up after an epoch; give a list, or a function"),
        ((i for i in range(3)), TypeError, "the sampler is used up after an epoch"),
    ],
)
def test_samplers_are_checked(sampler, kind, said):
    with pytest.raises(kind, match=said):
        DataLoader(Ten(), 2, sampler=sampler)


def test_weights_say_how_often_items_are_drawn():
    sampler = WeightedSampler([1, 0, 3, 0], count=20000)
    drawn = list(sampler)
    assert (len(sampler), len(drawn), set(drawn)) == (20000, 20000, {0, 2})
    assert abs(drawn.count(2) / 20000 - 0.75) < 0.02
    assert list(sampler) != drawn
    np.random.seed(1)
    assert list(WeightedSampler([1, 1, 2])) == [np.searchsorted([0.25, 0.5, 1], v, "right") for v in drawn_numbers()]
    assert len(WeightedSampler(np.full(7, 1e-300))) == 7
    loader = DataLoader(Ten(), 4, sampler=WeightedSampler(np.arange(10)), seed=1)
    assert order(loader) != order(loader)
    again = DataLoader(Ten(), 4, sampler=WeightedSampler(np.arange(10)), seed=1)
    assert order(again) == order(DataLoader(Ten(), 4, sampler=WeightedSampler(np.arange(10)), seed=1))


def test_a_weight_of_nothing_is_never_drawn():
    with dezero.random.drawing_from(types.SimpleNamespace(rand=np.zeros)):
        assert list(WeightedSampler([0, 0, 2, 1])) == [2] * 4
    with dezero.random.drawing_from(types.SimpleNamespace(rand=lambda n: np.full(n, np.nextafter(1, 0)))):
        assert list(WeightedSampler([*[0.1] * 1000, 0, 0], count=2)) == [999] * 2


def drawn_numbers():
    return np.random.RandomState(1).rand(3)


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [[1]], [np.inf], [np.nan, 1]])
def test_weights_are_checked(weights):
    with pytest.raises(ValueError, match="WeightedSampler: expected weights from 0 on, some above it, got"):
        WeightedSampler(weights)
    with pytest.raises(ValueError, match="WeightedSampler: count must be at least 1, got 0"):
        WeightedSampler([1], count=0)


def test_collate_makes_the_batch():
    def lengths(items):
        return np.array([len(text) for text, _ in items]), [text for text, _ in items], None

    texts = [("a", 0), ("bcd", 1), ("ef", 2)]
    (first, second) = DataLoader(texts, 2, shuffle=False, collate=lengths)
    assert (first[0].tolist(), first[1:]) == ([1, 3], (["a", "bcd"], None))
    assert second[0].tolist() == [2]
    assert labels(DataLoader(Ten(), 5, shuffle=False, collate=lambda items: (0, np.array([t for _, t in items])))) == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9],
    ]
    with pytest.raises(TypeError, match=r"DataLoader: collate must return a tuple such as \(x, t\), got list"):
        next(DataLoader(texts, 2, collate=list))


def test_stop_iteration_in_the_dataset_does_not_end_the_loop_in_silence():
    class Ends(Ten):
        def __getitem__(self, index):
            return next(iter([]))

    with pytest.raises(RuntimeError, match="DataLoader: the dataset raised StopIteration, which would end the loop"):
        list(DataLoader(Ends(), 3))


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"num_workers": -1}, ValueError, "DataLoader: num_workers must be at least 0, got -1"),
        ({"num_workers": 1.5}, TypeError, r"DataLoader: num_workers must be an int, got 1\.5"),
        ({"prefetch": 0}, ValueError, "DataLoader: prefetch must be at least 1, got 0"),
        ({"seed": "1"}, TypeError, "DataLoader: seed must be an int or None, got '1'"),
        (
            {"worker_type": "magic"},
            ValueError,
            "DataLoader: worker_type must be one of thread, .* got 'magic'",
        ),
    ],
)
def test_options_are_checked(options, kind, said):
    with pytest.raises(kind, match=said):
        DataLoader(Ten(), 2, **options)
