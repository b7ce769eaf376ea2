"""Numbers that belong to an item's place: well spread, the same one by one and at once, and each thread's own."""

import threading

import numpy as np
import pytest

from dezero import random, random_items
from dezero.random_items import draw, item, loading, part, places, uniforms, words


def test_words_by_hand():
    """SplitMix64 as published, in Python's own integers."""

    def scrambled(z):
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    golden, word = 0x9E3779B97F4A7C15, 0
    for part_ in (3, 2**64 - 1, 5):
        word = scrambled((word + golden) % 2**64 ^ part_)
    assert words(3, -1, 5).tolist() == words(3, -1, np.array([5])).tolist() == [word]
    expected = [(scrambled((word + step * golden) % 2**64) >> 11) / 2**53 for step in (1, 2, 3)]
    assert uniforms(words(3, -1, 5), 3).tolist() == [expected]
    # the first number of the published generator that starts at 0
    assert scrambled(golden) == 0xE220A8397B1DCDAF


def test_numbers_are_spread_evenly_and_know_nothing_of_each_other():
    numbers = uniforms(words(1, np.arange(200_000)), 3)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.array([np.histogram(column, 100, (0, 1))[0] for column in numbers.T])
    chi2 = ((counts - 2000) ** 2 / 2000).sum(axis=1)
    assert (np.abs(chi2 - 99) < 5 * np.sqrt(2 * 99)).all()
    neighbours = [numbers[1:, 0], numbers[:-1, 0], numbers[:-1, 1], numbers[:-1, 2]]
    correlations = np.corrcoef(neighbours)[np.triu_indices(4, 1)]
    assert (np.abs(correlations) < 5 / np.sqrt(200_000)).all()


def test_epochs_seeds_and_numbers_make_other_words():
    found = {words(seed, epoch, number).item() for seed in range(9) for epoch in range(9) for number in range(9)}
    assert len(found) == 729


def test_without_a_loader_the_one_source_is_drawn_from():
    np.random.seed(2)
    expected = np.random.rand(6).reshape(3, 2)
    np.random.seed(2)
    np.testing.assert_array_equal(draw(3, 2), expected)
    np.random.seed(2)
    with loading(0, np.arange(3)):
        np.testing.assert_array_equal(draw(3, 2), expected)
    assert places(3) is None


def draws():
    return [random.uniform(2).tolist(), random.normal(2).tolist(), random.permutation(5).tolist(), random.key()]


def test_with_a_seed_every_draw_belongs_to_the_place():
    state = np.random.get_state()[1].tolist()
    with loading(4, np.arange(10, 13), seed=7):
        at_once = draw(3, 3)
        with item(1, 3):
            first = draws()
    with loading(4, np.array([11]), seed=7):
        np.testing.assert_array_equal(draw(1, 1)[0], at_once[1, :1])
        np.testing.assert_array_equal(random.uniform(2), at_once[1, 1:])
    with loading(4, np.array([11]), seed=7), item(0, 1):
        random.uniform(3)
        assert draws() == first
    for epoch, number, seed in ((5, 11, 7), (4, 12, 7), (4, 11, 8)):
        with loading(epoch, np.array([number]), seed=seed):
            random.uniform(3)
            assert all(a != b for a, b in zip(draws(), first, strict=True))
    assert np.random.get_state()[1].tolist() == state


def test_what_is_drawn_for_a_batch_as_a_whole_repeats():
    def whole():
        with loading(0, np.arange(3), seed=1):
            return [draw(3, 1).tolist(), *draws()]

    assert whole() == whole()


def test_parts_of_a_batch_keep_their_places():
    with loading(2, np.arange(5)):
        word = places(5)
        with part(np.array([3, 1]), 5):
            np.testing.assert_array_equal(places(2), word[[3, 1]])
            with item(1, 2):
                assert places(1) == word[1]
            assert len(places(2)) == 2
        with item(6, 7):  # more than are loaded
            other = places(1)
        assert len({*places(7).tolist(), *word.tolist()}) == 12
        assert other == places(7)[6]
        np.testing.assert_array_equal(places(5), word)


def test_an_error_leaves_the_thread_as_it_was():
    with pytest.raises(KeyError), loading(0, np.arange(2), seed=1), item(0, 2):
        raise KeyError
    assert places(1) is None
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    assert random.uniform() == expected


def test_threads_do_not_see_each_other():
    inside, leave, seen = threading.Event(), threading.Event(), []

    def other():
        with loading(0, np.arange(1), seed=5):
            inside.set()
            leave.wait(10)
            seen.append(random.uniform().item())

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(10)
    np.random.seed(3)
    mine = random.uniform()
    leave.set()
    thread.join()
    np.random.seed(3)
    assert mine == np.random.rand()
    with loading(0, np.arange(1), seed=5):
        assert seen == [random.uniform().item()]


def test_an_epochs_order_follows_from_its_seed():
    def order(seed, epoch):
        with random_items.epoch_source(seed, epoch):
            return random.permutation(20).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    np.random.seed(0)
    assert order(None, 0) == np.random.RandomState(0).permutation(20).tolist()


def test_recordings_replay_what_a_loader_draws():
    with random.recording() as noted, loading(0, np.arange(1), seed=1):
        first = random.uniform()
    assert noted.places == []
    with random.replaying(noted), loading(0, np.arange(1), seed=1):
        assert random.uniform() == first
