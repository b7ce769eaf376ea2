"""Augmentations: one item and a whole batch held equal, arrays and PIL images too, and what a seed makes repeat."""

import math
import pickle
import sys
import zlib

import numpy as np
import pytest

import dezero.random
from dezero import random_items
from dezero.datasets import TensorDataset
from dezero.transforms import (
    Compose,
    Flatten,
    Normalize,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomRotation,
    RandomStep,
    RandomVerticalFlip,
    ToFloat,
    ToPIL,
    batch_form,
)

STEPS = {
    "horizontal flip": lambda **seed: RandomHorizontalFlip(**seed),
    "vertical flip": lambda **seed: RandomVerticalFlip(0.3, **seed),
    "crop": lambda **seed: RandomCrop((5, 4), **seed),
    "crop with padding": lambda **seed: RandomCrop(6, padding=2, fill=9, **seed),
    "rotation": lambda **seed: RandomRotation(40, fill=7, **seed),
    "erasing": lambda **seed: RandomErasing(0.7, value=3, **seed),
}
every_step = pytest.mark.parametrize("make", STEPS.values(), ids=STEPS)
X = np.random.RandomState(0).randint(0, 200, (40, 3, 6, 7)).astype(np.uint8)


def image(array):
    pytest.importorskip("PIL")
    return ToPIL()(array)


def pixels(picture):
    return np.moveaxis(np.atleast_3d(np.asarray(picture)), 2, 0)


# One by one and at once


@every_step
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_a_batch_is_what_its_items_are(make, dtype):
    x = X.astype(dtype)
    before = x.copy()
    np.random.seed(1)
    expected = np.array([make()(item) for item in x])
    np.random.seed(1)
    got = batch_form(make())(x)
    assert got.dtype == expected.dtype == dtype
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(x, before)
    assert batch_form(make())(x[:0]).shape == (0, *expected.shape[1:])
    one_by_one, at_once = make(seed=5), make(seed=5)
    np.testing.assert_array_equal(at_once.batch(x), [one_by_one(item) for item in x])
    assert (got != at_once.batch(x)).any()


@every_step
@pytest.mark.parametrize("shape", [(40, 6, 7), (40, 2, 2, 6, 7)])
def test_axes_before_the_image_are_any(make, shape):
    x = np.random.RandomState(1).rand(*shape)
    got = make(seed=1).batch(x)
    np.testing.assert_array_equal(got, np.array([step(item) for step in [make(seed=1)] for item in x]))
    assert got.shape[: len(shape) - 2] == shape[:-2]
    layers = x.reshape(40, -1, 6, 7)
    np.testing.assert_array_equal(got, make(seed=1).batch(layers).reshape(got.shape))


@every_step
def test_strided_and_read_only_items(make):
    x = X.transpose(0, 1, 3, 2)[::-1]
    x.flags.writeable = False
    np.testing.assert_array_equal(make(seed=2).batch(x), make(seed=2).batch(x.copy()))
    np.testing.assert_array_equal(make(seed=2)(x[0]), make(seed=2)(x[0].copy()))


def augmentations():
    return Compose(
        [RandomCrop(6, padding=1), Compose([RandomHorizontalFlip(), ToFloat()]), RandomErasing(), Normalize(1.0, 2.0)]
    )


def test_several_steps_draw_item_by_item():
    """At once they draw what they would one item after the other, so both ways leave the source at the same place."""
    np.random.seed(4)
    expected, then = np.array([augmentations()(item) for item in X]), np.random.rand()
    np.random.seed(4)
    np.testing.assert_array_equal(batch_form(augmentations())(X), expected)
    assert np.random.rand() == then
    data = TensorDataset(X, transform=augmentations())
    np.random.seed(4)
    np.testing.assert_array_equal(data.batch(range(40))[0], expected)


def test_steps_with_a_seed_among_those_without():
    def steps():
        return Compose([RandomHorizontalFlip(seed=3), RandomCrop(4), RandomErasing(seed=3), RandomVerticalFlip()])

    np.random.seed(4)
    expected = np.array([step(item) for step in [steps()] for item in X])
    np.random.seed(4)
    np.testing.assert_array_equal(batch_form(steps())(X), expected)
    np.random.seed(4)
    np.random.rand(3 * 40)
    then = np.random.rand()
    np.random.seed(4)
    batch_form(steps())(X)
    assert np.random.rand() == then


def test_the_flip_draws_what_it_always_drew():
    np.random.seed(3)
    coins = np.random.rand(40) < 0.5
    np.random.seed(3)
    flipped = RandomHorizontalFlip().batch(X)
    for y, x, coin in zip(flipped, X, coins, strict=True):
        np.testing.assert_array_equal(y, x[..., ::-1] if coin else x)


def test_a_subclass_says_whether_it_can_do_a_batch():
    class Own(RandomCrop):
        def apply(self, x, numbers):
            return x[..., :1, :1]

    class Called(RandomCrop):
        def __call__(self, x):
            return x

    class Noise(RandomStep):
        def apply(self, x, numbers):
            return x + numbers[0]

    class Both(Noise):
        def apply_batch(self, x, numbers):
            return x + numbers[:, 0]

    class OwnBatch(Both):
        def batch(self, x):
            return x - 1

    np.testing.assert_array_equal(batch_form(Compose([OwnBatch()]))(np.ones(3)), np.zeros(3))
    for step in (Own(2), Called(2), Noise()):
        assert batch_form(step) is None
        assert batch_form(Compose([Flatten(), step])) is None
    assert batch_form(Both()) is not None
    items = TensorDataset(np.zeros(5), transform=Noise(seed=1)).batch(range(5))[0]
    np.testing.assert_array_equal(TensorDataset(np.zeros(5), transform=Both(seed=1)).batch(range(5))[0] > 0, items > 0)


def test_an_old_subclass_need_not_call_init():
    class Mine(RandomHorizontalFlip):
        def __init__(self):
            self.probability = 1

    assert Mine()(np.array([[1, 2]])).tolist() == [[2, 1]]


# What a seed makes repeat


@every_step
def test_with_a_seed_nothing_else_is_drawn_from_or_matters(make):
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()
    first = make(seed=1).batch(X)
    assert np.random.get_state()[1].tolist() == before
    np.testing.assert_array_equal(make(seed=1).batch(X), first)
    assert (make(seed=2).batch(X) != first).any()
    step = make(seed=1)
    step.batch(X)
    assert (step.batch(X) != first).any()  # the items go on being counted


@every_step
def test_with_a_seed_numbers_belong_to_the_place_that_a_loader_gives(make):
    with random_items.loading(3, np.arange(40)):
        first = make(seed=1).batch(X)
    step = make(seed=1)
    for number in (7, 0, 39):
        with random_items.loading(3, np.array([number]), seed=8):
            np.testing.assert_array_equal(step(X[number]), first[number])
    with random_items.loading(4, np.arange(40)):
        assert (make(seed=1).batch(X) != first).any()


def test_two_kinds_of_steps_with_one_seed_draw_each_their_own():
    flips = RandomHorizontalFlip(seed=1).batch(X) != X
    others = RandomVerticalFlip(seed=1).batch(X) != X
    assert (flips.any((1, 2, 3)) != others.any((1, 2, 3))).any()


def test_the_numbers_are_those_that_the_words_say():
    """Pinned: a program's augmentations stay what they are from version to version."""
    with random_items.loading(2, np.array([5])):
        got = RandomVerticalFlip(seed=9)._numbers(1)
    word = random_items.words(zlib.crc32(b"RandomVerticalFlip"), 9, random_items.words(2, np.array([5])))
    np.testing.assert_array_equal(got, random_items.uniforms(word, 1))
    assert random_items.words(1, 2, 3).tolist() == [16914669369030367833]


@every_step
def test_they_can_be_pickled(make):
    step = pickle.loads(pickle.dumps(make(seed=1)))
    np.testing.assert_array_equal(step.batch(X), make(seed=1).batch(X))


def test_after_dezero_seed():
    dezero.random.seed(1)
    first = augmentations().batch(X)
    dezero.random.seed(1)
    np.testing.assert_array_equal(augmentations().batch(X), first)


# What they do


def test_crops_lie_everywhere_in_the_padded_image():
    padded = np.full((3, 10, 11), 9, np.uint8)
    padded[:, 2:8, 2:9] = X[0]
    windows = {padded[:, i : i + 6, j : j + 6].tobytes(): (i, j) for i in range(5) for j in range(6)}
    crop = RandomCrop(6, padding=2, fill=9, seed=0)
    found = [windows[crop(X[0]).tobytes()] for _ in range(600)]
    counts = [found.count(place) for place in windows.values()]
    assert min(counts) > 4
    assert max(counts) < 45


@pytest.mark.parametrize(("step", "axis"), [(RandomHorizontalFlip, -1), (RandomVerticalFlip, -2)])
def test_flips_turn_as_often_as_they_should(step, axis):
    many = np.broadcast_to(X[0], (1000, *X[0].shape))
    for probability, least, most in ((0, 0, 0), (0.2, 150, 250), (1, 1000, 1000)):
        flipped = step(probability, seed=0).batch(many)
        turned = (flipped == np.flip(X[0], axis)).all((1, 2, 3))
        assert least <= turned.sum() <= most
        assert (flipped[~turned] == X[0]).all()


@pytest.mark.parametrize("turns", [-2, -1, 0, 1, 2, 3])
def test_quarter_turns_are_exact(turns):
    square = X[..., :6]
    for x in (square, square.astype(np.float64)):
        got = RandomRotation((90 * turns, 90 * turns)).batch(x)
        np.testing.assert_allclose(got, np.rot90(x, turns, axes=(-2, -1)), atol=1e-9)


def test_a_rotation_interpolates_between_four_pixels():
    x = np.random.RandomState(0).rand(1, 9, 12)
    angle = 0.4
    got = RandomRotation((math.degrees(angle),) * 2, fill=-1)(x)[0]
    for i in range(9):
        for j in range(12):
            down, right = i - 4, j - 5.5
            row, column = 4 + math.sin(angle) * right + math.cos(angle) * down, 5.5 + math.cos(angle) * right
            column -= math.sin(angle) * down
            if not (-0.5 <= row < 8.5 and -0.5 <= column < 11.5):
                assert got[i, j] == -1
                continue
            total = 0.0
            for r in (math.floor(row), math.floor(row) + 1):
                for c in (math.floor(column), math.floor(column) + 1):
                    weight = (1 - abs(row - r)) * (1 - abs(column - c))
                    total += weight * x[0, min(max(r, 0), 8), min(max(c, 0), 11)]
            assert got[i, j] == pytest.approx(total, abs=1e-12)


def test_a_rotation_rounds_whole_numbers():
    exact = RandomRotation(40, seed=1).batch(X.astype(np.float64))
    for dtype in (np.uint8, np.int32):
        assert np.abs(RandomRotation(40, seed=1).batch(X.astype(dtype)) - exact).max() < 0.501
    np.testing.assert_allclose(RandomRotation(40, seed=1).batch(X.astype(np.float32)), exact, atol=1e-4)


def test_angles_are_of_the_range(monkeypatch):
    angles = []
    monkeypatch.setattr("dezero.transforms_random._rotated", lambda x, a, *args: angles.extend(np.degrees(a)) or x)
    many = np.zeros((500, 1, 2, 2))
    RandomRotation(30, seed=0).batch(many)
    assert -30 <= min(angles) < -29
    assert 29 < max(angles) < 30
    angles.clear()
    RandomRotation((10, 20), seed=0).batch(many)
    assert 10 <= min(angles) < 10.2
    assert 19.8 < max(angles) < 20


def test_large_batches_are_rotated_in_groups(monkeypatch):
    whole = RandomRotation(50, seed=1).batch(X)
    monkeypatch.setattr("dezero.transforms_random._GROUP", 100)
    np.testing.assert_array_equal(RandomRotation(50, seed=1).batch(X), whole)


def test_erased_rectangles_are_as_large_as_they_should_be():
    x = np.ones((2000, 1, 20, 30), np.float32)
    y = RandomErasing(0.6, scale=(0.05, 0.2), ratio=(0.5, 2), seed=0).batch(x)[:, 0]
    areas, ratios = [], []
    for picture in y:
        rows, columns = np.nonzero((picture == 0).any(1))[0], np.nonzero((picture == 0).any(0))[0]
        if len(rows):
            height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
            assert (picture == 0).sum() == height * width
            areas.append(height * width / 600)
            ratios.append(height / width)
    assert 1100 < len(areas) < 1300
    assert 0.04 < min(areas) < 0.06
    assert 0.17 < max(areas) < 0.22
    assert 0.4 < min(ratios) < 0.6
    assert 1.7 < max(ratios) < 2.3
    assert abs(np.mean(np.array(ratios) > 1) - np.mean(np.array(ratios) < 1)) < 0.12
    touched = (y == 0).mean(0)
    assert touched.min() > 0  # every corner is reached


def test_what_reaches_beyond_the_image_is_cut_to_it():
    y = RandomErasing(1, scale=(1, 1), ratio=(4, 4), value=2, seed=0)(np.ones((1, 4, 8)))
    assert ((y == 2).all(1).sum(), (y == 2).any(2).all()) == (3, True)


# PIL images


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["horizontal flip", "vertical flip", "crop", "crop with padding"])
def test_an_image_turns_out_as_an_array_does(name, channels):
    for x in X[:10, :channels]:
        np.random.seed(x[0, 0, 0])
        expected = STEPS[name]()(x)
        np.random.seed(x[0, 0, 0])
        np.testing.assert_array_equal(pixels(STEPS[name]()(image(x))), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_rotated_image_is_one_grey_level_from_an_array_at_most(channels):
    x = np.random.RandomState(0).randint(0, 256, (channels, 31, 24)).astype(np.uint8)
    for seed in range(12):
        one, other = RandomRotation(180, fill=60, seed=seed), RandomRotation(180, fill=60, seed=seed)
        apart = np.abs(one(x).astype(int) - pixels(other(image(x))))
        assert (apart > 1).sum() <= 2  # where a point lies on the very edge, rounding says whether it is inside


def test_what_is_no_image_is_refused():
    pytest.importorskip("PIL")
    for step in (RandomCrop(2), RandomVerticalFlip(), RandomRotation(3), RandomErasing()):
        with pytest.raises(TypeError, match=rf"{type(step).__name__}: needs a PIL image, got list"):
            step([1, 2])
    with pytest.raises(TypeError, match=r"RandomErasing: needs an array \(C, H, W\), got a PIL image; ToArray\(\)"):
        RandomErasing()(image(X[0]))


@pytest.mark.parametrize("step", [RandomCrop(2), RandomVerticalFlip(), RandomRotation(3)])
def test_without_pillow_the_extra_is_named(step, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'dezero\[plot\]'"):
        step([1])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RandomHorizontalFlip(1.5), "RandomHorizontalFlip: probability must be a number from 0 to 1, got 1.5"),
        (lambda: RandomVerticalFlip("a"), "RandomVerticalFlip: probability must be a number from 0 to 1, got 'a'"),
        (lambda: RandomErasing(-1), "RandomErasing: probability must be"),
        (lambda: RandomErasing(scale=(0.5, 0.1)), r"RandomErasing: scale must be \(low, high\) from 0 to 1, got"),
        (lambda: RandomErasing(scale=2), "RandomErasing: scale must be"),
        (lambda: RandomErasing(ratio=(0, 1)), "RandomErasing: ratio must be"),
        (
            lambda: RandomRotation(-3),
            r"RandomRotation: degrees must be \(low, high\), or a number of at least 0, got -3",
        ),
        (lambda: RandomRotation((1, 2, 3)), "RandomRotation: degrees must be"),
        (lambda: RandomRotation(math.nan), "RandomRotation: degrees must be"),
        (lambda: RandomRotation("ab"), "RandomRotation: degrees must be"),
        (lambda: RandomCrop(0), "RandomCrop: size must be an int or"),
        (lambda: RandomCrop(3, padding=-1), "RandomCrop: padding must be an int, at least 0, got -1"),
        (lambda: RandomCrop(3, padding=1.5), "RandomCrop: padding must be"),
        (
            lambda: RandomCrop((8, 7), padding=1)(X[0][..., :5]),
            r"cannot cut \(8, 7\) \(width, height\) out of",
        ),
        (lambda: RandomCrop(7).batch(X), "more padding, or Resize, makes it large enough"),
        (lambda: RandomCrop(7)(image(X[0])), "more padding, or Resize, makes it large enough"),
    ],
)
def test_refusals(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("make", [RandomHorizontalFlip, lambda seed: RandomCrop(3, seed=seed), RandomStep])
def test_a_seed_is_an_integer(make):
    with pytest.raises(TypeError, match=r"seed must be an int or None, got 1\.5"):
        make(seed=1.5)
    make(seed=np.int64(3))


def test_a_step_without_apply_says_so():
    with pytest.raises(NotImplementedError, match=r"RandomStep: a RandomStep needs a method apply\(x, numbers\)"):
        RandomStep()(1)
