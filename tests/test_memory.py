"""Memory that results lie in, used again when they are gone."""

import gc
import threading

import numpy as np
import pytest

from dezero import kernels
from dezero.kernels import memory, scratch

LARGE = (300, 100)


@pytest.fixture(autouse=True)
def nothing_idle():
    memory.release()
    yield
    memory.release()


def place(array):
    return array.__array_interface__["data"][0]


def test_arrays_are_what_was_asked_for():
    for shape in ((), (3,), LARGE, (0, 5)):
        for make in (memory.empty, memory.zeros):
            array = make(shape, np.float32)
            assert type(array) is np.ndarray
            assert array.shape == shape
            assert array.dtype == np.float32
            assert array.flags.c_contiguous
            assert array.flags.writeable
    assert not memory.zeros(LARGE, np.float64).any()


def test_memory_is_used_again_when_the_last_view_is_gone():
    array = memory.empty(LARGE, np.float32)
    array[:] = 7
    there, view = place(array), array[5:].T
    del array
    other = memory.empty(LARGE, np.float32)
    assert place(other) != there
    assert (view == 7).all()
    del view
    assert place(memory.empty(LARGE, np.float32)) == there


def test_zeros_are_zeros_in_used_memory():
    memory.empty(LARGE, np.float32).fill(3)
    assert not memory.zeros(LARGE, np.float32).any()


def test_what_is_idle_is_bounded_and_can_be_released(monkeypatch):
    monkeypatch.setattr(memory, "LIMIT", 300_000)
    arrays = [memory.empty(LARGE, np.float32) for _ in range(5)]  # 120 KB each
    arrays.clear()
    assert sum(size * len(pieces) for size, pieces in memory._idle.items()) in range(1, 300_001)
    memory.release()
    assert not memory._idle


def test_everything_that_kernels_keep_can_be_released():
    memory.empty(LARGE, np.float32)
    kept = scratch.take("a", 100, np.float32)
    kernels.release_memory()
    assert not memory._idle
    assert not np.shares_memory(kept, scratch.take("a", 100, np.float32))


def test_sizes_that_nobody_asks_for_make_place(monkeypatch):
    monkeypatch.setattr(memory, "LIMIT", 500_000)
    old = [memory.empty((300, 100 + i), np.float64) for i in (0, 20)]  # 240 and 288 KB
    old.clear()
    new = memory.empty((300, 150), np.float64)
    there = place(new)
    del new
    assert place(memory.empty((300, 150), np.float64)) == there


def test_what_holds_references_is_numpys_own():
    assert memory.empty((300, 300), object)[0, 0] is None
    assert memory.empty((300, 300), np.dtype([("a", "f4"), ("b", "f8")])).dtype.names == ("a", "b")


def test_small_arrays_are_numpys_own():
    assert memory.empty((10,), np.float32).flags.owndata


def test_a_cycle_gives_its_memory_back():
    array = memory.empty(LARGE, np.float32)
    there, cycle = place(array), [array]
    cycle.append(cycle)
    del array, cycle
    gc.collect()
    assert place(memory.empty(LARGE, np.float32)) == there


def test_threads_do_not_get_the_same_memory():
    clashes = []

    def work(number):
        for _ in range(300):
            array = memory.empty(LARGE, np.float32)
            array.fill(number)
            if (array != number).any():
                clashes.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not clashes


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_empty_like_keeps_the_order(axes):
    x = np.zeros((40, 50, 60)).transpose(axes)
    assert memory.empty_like(x).strides == x.strides
