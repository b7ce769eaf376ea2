"""Random numbers come from NumPy's global generator, or from dezero's own after `seed(n)`."""

import numpy as np
import pytest

from dezero import functions as F
from dezero import random


@pytest.fixture(autouse=True)
def _back_to_numpys_generator():
    yield
    random.seed(None)


DRAWS = {
    "normal": (lambda: random.normal(2, 3), lambda source: source.randn(2, 3)),
    "normal, one number": (lambda: random.normal(), lambda source: source.randn()),
    "uniform": (lambda: random.uniform(4), lambda source: source.rand(4)),
    "uniform, one number": (lambda: random.uniform(), lambda source: source.rand()),
    "permutation": (lambda: random.permutation(7), lambda source: source.permutation(7)),
}
every_draw = pytest.mark.parametrize(("draw", "numpys"), DRAWS.values(), ids=DRAWS.keys())


@every_draw
def test_draws_are_those_of_numpys_global_generator(draw, numpys):
    np.random.seed(3)
    expected = numpys(np.random)
    np.random.seed(3)
    got = draw()
    assert type(got) is np.ndarray
    np.testing.assert_array_equal(got, expected)


@every_draw
def test_a_seed_makes_draws_repeat(draw, numpys):
    random.seed(5)
    first, second = draw(), draw()
    random.seed(5)
    np.testing.assert_array_equal(draw(), first)
    np.testing.assert_array_equal(draw(), second)


@every_draw
def test_a_seed_gives_the_draws_that_numpy_gives_for_it(draw, numpys):
    random.seed(5)
    np.testing.assert_array_equal(draw(), numpys(np.random.RandomState(5)))


@every_draw
def test_after_a_seed_numpys_global_generator_is_left_alone(draw, numpys):
    np.random.seed(1)
    before = np.random.get_state()
    random.seed(5)
    draw()
    after = np.random.get_state()
    np.testing.assert_array_equal(after[1], before[1])
    assert after[2:] == before[2:]


def test_after_a_seed_numpys_global_seed_has_no_say():
    random.seed(5)
    first = random.normal(3)
    random.seed(5)
    np.random.seed(99)
    np.testing.assert_array_equal(random.normal(3), first)


def test_other_seeds_give_other_draws():
    random.seed(5)
    first = random.normal(3)
    random.seed(6)
    assert not np.array_equal(random.normal(3), first)


def test_seed_none_goes_back_to_numpys_generator():
    random.seed(5)
    random.seed(None)
    np.random.seed(3)
    expected = np.random.randn(2)
    np.random.seed(3)
    np.testing.assert_array_equal(random.normal(2), expected)


def test_dropout_draws_from_the_same_source():
    random.seed(5)
    kept = np.random.RandomState(5).rand(20) > 0.5
    np.testing.assert_array_equal(F.dropout(np.ones(20)).data, 2.0 * kept)
