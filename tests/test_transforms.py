"""Every step on one item, the same step on a batch, and the two held equal."""

import pickle
import sys

import numpy as np
import pytest

import dezero.random
from dezero.transforms import (
    AsType,
    CenterCrop,
    Compose,
    Convert,
    Flatten,
    Normalize,
    RandomHorizontalFlip,
    Resize,
    ToArray,
    ToFloat,
    ToInt,
    ToPIL,
    batch_form,
)

RGB = np.random.RandomState(0).randint(0, 256, (3, 11, 17)).astype(np.uint8)


def image(array=RGB):
    pytest.importorskip("PIL")
    return ToPIL()(array)


def pixels(picture):
    return np.moveaxis(np.atleast_3d(np.asarray(picture)), 2, 0)


BATCHED = {
    "identity": Compose(),
    "flatten": Flatten(),
    "as_type": AsType(np.float64),
    "to_float": ToFloat(),
    "to_int": ToInt(),
    "normalize": Normalize(3, 7.0),
    "normalize per channel": Normalize([1, 2, 3], (4.0, 5.0, 6.0)),
    "normalize one": Normalize([1], [2]),
    "mnist": Compose([Flatten(), ToFloat(), Normalize(0.0, 255.0)]),
    "nested": Compose([Compose([Normalize(np.arange(3), 2)]), Compose([ToFloat(), Compose()])]),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("transform", BATCHED.values(), ids=BATCHED)
def test_a_batch_is_what_its_items_are(transform, dtype):
    x = np.random.RandomState(0).randint(0, 200, (5, 4, 3, 2)).astype(dtype).transpose(0, 2, 1, 3)
    before = x.copy()
    expected = np.array([transform(item) for item in x])
    got = batch_form(transform)(x)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(x, before)
    assert batch_form(transform)(x[:0]).shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("transform", BATCHED.values(), ids=BATCHED)
def test_transforms_can_be_pickled(transform):
    x = np.arange(12.0).reshape(3, 2, 2)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(transform))(x), transform(x))


def test_what_has_no_batch_form():
    class Louder(Normalize):
        def __call__(self, x):
            return 100 * x

    for transform in (lambda x: x, np.float32, Convert(), Louder(), int):
        assert batch_form(transform) is None
        assert batch_form(Compose([Flatten(), transform])) is None


def test_a_subclass_that_keeps_call_keeps_batch():
    class Halve(Normalize):
        def __init__(self):
            super().__init__(0, 2)

    np.testing.assert_array_equal(batch_form(Halve())(np.ones((2, 3))), np.full((2, 3), 0.5))


def test_compose_goes_in_order():
    assert Compose([lambda x: x + 1, lambda x: x * 10])(2) == 30
    assert Compose()("anything") == "anything"


@pytest.mark.parametrize(
    ("given", "got"), [(np.float32, np.float32), (np.float64, np.float64), (np.uint8, np.float64), (bool, np.float64)]
)
def test_normalize_keeps_floating_dtypes(given, got):
    for mean, std in ((0, 1), (0.5, 2.0), ([1, 2], np.array([1.0, 2.0])), (np.float64(1), np.float64(3))):
        assert Normalize(mean, std)(np.ones((2, 3, 3), given)).dtype == got


def test_normalize_values():
    x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    expected = [-1, 0, 1, 2, 1, 1.5, 2, 2.5, 1.25, 1.5, 1.75, 2]
    np.testing.assert_array_equal(Normalize([1, 2, 3], [1, 2, 4])(x).ravel(), expected)
    # an unsigned 0 minus 2 is less than nothing
    np.testing.assert_array_equal(Normalize(2, 4)(np.array([0, 2, 4], np.uint8)), [-0.5, 0, 0.5])


def test_normalize_refuses():
    with pytest.raises(ValueError, match=r"2 means or deviations for x \(3, 4, 4\)"):
        Normalize([1, 2])(np.ones((3, 4, 4)))
    with pytest.raises(ValueError, match=r"3 means or deviations for x \(1, 4, 4\)"):
        Normalize(0, [1, 2, 3]).batch(np.ones((5, 1, 4, 4)))
    with pytest.raises(ValueError, match=r"std must not be 0, by which nothing can be divided, got \[1, 0\]"):
        Normalize(0, [1, 0])
    for bad in (np.ones((3, 1, 1)), [], "1", None):
        with pytest.raises(ValueError, match="mean must be a number"):
            Normalize(bad)


def test_flatten_gives_an_array_of_its_own():
    x = np.zeros((2, 3))
    Flatten()(x)[:] = 1
    assert not x.any()


def test_as_type_of_a_label():
    assert ToInt()(np.uint8(3)) == 3
    assert {3: "three"}[ToInt()(np.uint8(3))] == "three"
    assert ToFloat()(2).dtype == np.float32
    assert ToInt()(np.array([1.9])).dtype == np.array([1]).dtype
    assert ToInt(np.int8)(np.ones(2)).dtype == np.int8
    assert AsType()(np.ones(2)).dtype == np.float32


def test_to_array_and_back():
    array = ToArray()(image())
    assert (array.shape, array.dtype, array.flags.c_contiguous) == ((3, 11, 17), np.float32, True)
    np.testing.assert_array_equal(array, RGB)
    np.testing.assert_array_equal(pixels(ToPIL()(array)), RGB)
    assert ToArray(np.uint8)(image()).dtype == np.uint8
    grey = ToArray()(image(RGB[:1]))
    assert grey.shape == (1, 11, 17)
    assert ToPIL()(grey).mode == "L"
    assert ToArray()(array) is array


def test_to_pil_rounds_and_clips():
    pytest.importorskip("PIL")
    np.testing.assert_array_equal(np.asarray(ToPIL()(np.array([[[-3.0, 1.6, 300.0]]]))), [[0, 2, 255]])
    with pytest.raises(ValueError, match=r"got shape \(28, 28\)"):
        ToPIL()(np.zeros((28, 28)))
    with pytest.raises(ValueError, match=r"got shape \(5, 28, 28\)"):
        ToPIL()(np.zeros((5, 28, 28)))


def test_convert():
    assert Convert("L")(image()).mode == "L"
    assert Convert()(image(RGB[:1])).mode == "RGB"
    np.testing.assert_array_equal(pixels(Convert("BGR")(image())), RGB[::-1])


def test_resize():
    assert Resize((6, 4))(image()).size == (6, 4)
    assert Resize(np.int64(5))(image()).size == (5, 5)
    nearest = Resize((34, 22), mode=0)(image())
    np.testing.assert_array_equal(pixels(nearest), RGB.repeat(2, axis=1).repeat(2, axis=2))
    assert (pixels(Resize((34, 22))(image())) != pixels(nearest)).any()


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [(5, slice(3, 8), slice(6, 11)), ((4, 6), slice(2, 8), slice(6, 10)), ((17, 11), slice(0, 11), slice(0, 17))],
)
def test_center_crop(size, rows, columns):
    np.testing.assert_array_equal(pixels(CenterCrop(size)(image())), RGB[:, rows, columns])


def test_center_crop_of_a_smaller_image_pads():
    got = pixels(CenterCrop((20, 12))(image()))
    expected = np.zeros((3, 12, 20), np.uint8)
    expected[:, 1:, 2:19] = RGB
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("size", [0, (3, 0), (1, 2, 3), 2.5, None])
@pytest.mark.parametrize("transform", [Resize, CenterCrop])
def test_sizes_are_checked(transform, size):
    with pytest.raises(ValueError, match="size must be"):
        transform(size)


def test_the_flip_is_drawn_from_dezeros_source():
    np.random.seed(3)
    coins = np.random.rand(20) < 0.5
    assert coins.any()
    assert not coins.all()
    np.random.seed(3)
    for coin in coins:
        np.testing.assert_array_equal(RandomHorizontalFlip()(RGB), RGB[..., ::-1] if coin else RGB)
    picture = image()
    np.random.seed(3)
    for coin in coins:
        np.testing.assert_array_equal(pixels(RandomHorizontalFlip()(picture)), RGB[..., ::-1] if coin else RGB)
    np.random.seed(3)
    dezero.random.seed(0)
    try:
        RandomHorizontalFlip()(RGB)
    finally:
        dezero.random.seed(None)
    assert (np.random.rand(20) < 0.5).tolist() == coins.tolist()


@pytest.mark.parametrize("transform", [Convert(), Resize(3), CenterCrop(3), RandomHorizontalFlip(), ToArray()])
def test_an_image_is_needed(transform):
    pytest.importorskip("PIL")
    with pytest.raises(TypeError, match=rf"{type(transform).__name__}: needs a PIL image, got list"):
        transform([1, 2])


@pytest.mark.parametrize("transform", [Convert(), Resize(3), CenterCrop(3), ToArray(), ToPIL()])
def test_without_pillow_the_extra_is_named(transform, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'dezero\[plot\]'"):
        transform(np.zeros((1, 2, 2)) if isinstance(transform, ToPIL) else [1])
