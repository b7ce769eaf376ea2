"""Worked examples from readers' study notes on convolution and pooling, by hand and cell by cell.

Two of these notes work with the first book's layers, whose `im2col(x, 5, 5)` means a kernel of 5 by 5; in dezero the
third argument is the stride. The figures are theirs: `study_notes.txt` has what their cells print, and steps/notes.py
prints it again.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dezero
from dezero import functions as F
from dezero.core import Variable
from dezero.functions_conv import pair


def arange(*shape):
    return np.arange(np.prod(shape)).reshape(shape)


ONE_CHANNEL = [[7, 11, 13, 15], [3, 4, 2, 3], [1, 2, 15, 9], [1, 8, 3, 10]]
OTHER_CHANNEL = [[5, 8, 6, 7], [10, 4, 11, 13], [8, 3, 10, 4], [1, 2, 5, 15]]

# ----------------------------------------------------------------------------------------------------------------------
# im2col: one row for each window
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x_shape", "kernel_size", "shape"),
    [
        ((1, 3, 7, 7), 5, (9, 75)),
        ((10, 3, 7, 7), 5, (90, 75)),
        ((10, 3, 7, 7), (5, 5), (90, 75)),
        ((2, 4, 5, 5), 2, (32, 16)),
        ((1, 3, 448, 640), 5, (282384, 75)),
    ],
)
def test_im2col_shape(x_shape, kernel_size, shape):
    assert F.im2col(np.zeros(x_shape, np.float32), kernel_size, stride=1, pad=0, to_matrix=True).shape == shape


@pytest.mark.parametrize("x_shape", [(1, 3, 7, 7), (10, 3, 7, 7)])
def test_im2col_with_pairs(x_shape):
    x = np.random.default_rng(0).random(x_shape)
    np.testing.assert_array_equal(F.im2col(x, (5, 5), (1, 1), (0, 0)).data, F.im2col(x, 5, 1, 0).data)


IM2COL = [
    ((1, 1, 3, 3), [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]),
    (
        (1, 2, 3, 3),
        [
            [0, 1, 3, 4, 9, 10, 12, 13],
            [1, 2, 4, 5, 10, 11, 13, 14],
            [3, 4, 6, 7, 12, 13, 15, 16],
            [4, 5, 7, 8, 13, 14, 16, 17],
        ],
    ),
    (
        (2, 2, 3, 3),
        [
            [0, 1, 3, 4, 9, 10, 12, 13],
            [1, 2, 4, 5, 10, 11, 13, 14],
            [3, 4, 6, 7, 12, 13, 15, 16],
            [4, 5, 7, 8, 13, 14, 16, 17],
            [18, 19, 21, 22, 27, 28, 30, 31],
            [19, 20, 22, 23, 28, 29, 31, 32],
            [21, 22, 24, 25, 30, 31, 33, 34],
            [22, 23, 25, 26, 31, 32, 34, 35],
        ],
    ),
]


@pytest.mark.parametrize(("x_shape", "expected"), IM2COL)
def test_im2col_of_a_2x2_kernel(x_shape, expected):
    np.testing.assert_array_equal(F.im2col(arange(*x_shape), kernel_size=2).data, expected)


BY_PLACE = [
    [
        [[[0, 1, 2], [4, 5, 6], [8, 9, 10]], [[1, 2, 3], [5, 6, 7], [9, 10, 11]]],
        [[[4, 5, 6], [8, 9, 10], [12, 13, 14]], [[5, 6, 7], [9, 10, 11], [13, 14, 15]]],
    ]
]
COUNTED = [[0, 2, 4, 3], [8, 20, 24, 14], [16, 36, 40, 22], [12, 26, 28, 15]]


def test_im2col_before_the_reshape_to_a_matrix_has_axes_n_c_kh_kw_oh_ow():
    col = F.im2col(arange(1, 1, 4, 4), kernel_size=2, to_matrix=False)
    np.testing.assert_array_equal(col.data, [BY_PLACE])
    assert col.shape == (1, 1, 2, 2, 3, 3)


def test_col2im_counts_each_pixel_once_per_window():
    x = arange(1, 1, 4, 4)
    image = F.col2im(F.im2col(x, kernel_size=2), x.shape, kernel_size=2)
    np.testing.assert_array_equal(image.data, [[COUNTED]])


# ----------------------------------------------------------------------------------------------------------------------
# Convolution
# ----------------------------------------------------------------------------------------------------------------------

CONV2D = [
    ((1, 1, 4, 4), 1, 0, [[[[13, 17, 21], [29, 33, 37], [45, 49, 53]]]]),
    ((1, 1, 3, 3), 1, 0, [[[[11, 15], [23, 27]]]]),
    ((1, 2, 3, 3), 1, 0, [[[[55, 63], [79, 87]]]]),
    ((1, 2, 3, 3), 3, 0, [[[[55, 63], [79, 87]]] * 3]),
    ((1, 1, 3, 3), 1, 1, [[[[3, 4, 6, 5], [6, 11, 15, 10], [12, 23, 27, 16], [9, 16, 18, 11]]]]),
]


@pytest.mark.parametrize("conv2d", [F.conv2d, F.conv2d_simple])
@pytest.mark.parametrize(("x_shape", "OC", "pad", "expected"), CONV2D)
def test_conv2d_with_a_2x2_kernel_of_ones_and_a_bias_of_three(conv2d, x_shape, OC, pad, expected):
    W, b = np.ones((OC, x_shape[1], 2, 2)), np.full((OC,), 3)
    expected = np.array(expected).reshape(1, OC, *np.shape(expected)[-2:])
    np.testing.assert_array_equal(conv2d(arange(*x_shape), W, b, stride=1, pad=pad).data, expected)


def test_conv2d_of_two_images_two_channels_and_three_kernels():
    assert F.conv2d(arange(2, 2, 3, 3), np.ones((3, 2, 2, 2)), None).shape == (2, 3, 2, 2)


def test_conv2d_simple_leads_back_to_an_image():
    rng = np.random.default_rng(0)
    x, W = Variable(rng.standard_normal((1, 5, 15, 15))), rng.standard_normal((8, 5, 3, 3))
    y = F.conv2d_simple(x, W, b=None, stride=1, pad=1)
    y.backward()
    assert y.shape == (1, 8, 15, 15)
    assert x.grad.shape == (1, 5, 15, 15)


def test_a_conv2d_layer_makes_its_weights_at_the_first_call():
    from dezero import layers as L

    np.random.seed(0)
    layer = L.Conv2d(8, kernel_size=3, stride=1, pad=1)
    assert layer.W.data is None
    y = layer(np.zeros((1, 5, 15, 15), np.float32))
    assert y.shape == (1, 8, 15, 15)
    np.random.seed(0)
    expected = np.random.randn(8, 5, 3, 3) * np.sqrt(1 / (5 * 3 * 3))
    np.testing.assert_allclose(layer.W.data, expected, rtol=1e-6)
    assert layer.W.dtype == np.float32
    np.testing.assert_array_equal(layer.b.data, np.zeros(8, np.float32))


# ----------------------------------------------------------------------------------------------------------------------
# Pooling
# ----------------------------------------------------------------------------------------------------------------------


POOLED = [
    ([ONE_CHANNEL], [[[11, 15], [8, 15]]]),
    ([ONE_CHANNEL, OTHER_CHANNEL], [[[11, 15], [8, 15]], [[10, 13], [8, 15]]]),
]
POOLING_GRADIENTS = [
    ([ONE_CHANNEL], [[[1, 2], [3, 4]]], [[[0, 1, 0, 2], [0, 0, 0, 0], [0, 0, 4, 0], [0, 3, 0, 0]]]),
    (
        [ONE_CHANNEL, OTHER_CHANNEL],
        [[[1, 1], [1, 1]], [[2, 2], [2, 2]]],
        [
            [[0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]],
            [[0, 0, 0, 0], [2, 0, 0, 2], [2, 0, 0, 0], [0, 0, 0, 2]],
        ],
    ),
]


@pytest.mark.parametrize(("image", "expected"), POOLED, ids=["one channel", "two channels"])
@pytest.mark.parametrize("pooling", [F.pooling, F.pooling_simple])
def test_pooling(pooling, image, expected):
    np.testing.assert_array_equal(pooling(np.array([image]), kernel_size=2, stride=2).data, [expected])


@pytest.mark.parametrize("pooling", [F.pooling, F.pooling_simple])
@pytest.mark.parametrize(("image", "gy", "expected"), POOLING_GRADIENTS, ids=["one channel", "two channels"])
def test_pooling_hands_the_gradient_to_the_largest(pooling, image, gy, expected):
    x = Variable(np.array([image]))
    y = pooling(x, kernel_size=2, stride=2)
    y.grad = Variable(np.array([gy]))
    y.backward()
    np.testing.assert_array_equal(x.grad.data, [expected])


@pytest.mark.parametrize("stride", [1, 2])
def test_pooling_simple_equals_pooling(stride):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6))
    np.testing.assert_array_equal(F.pooling_simple(x, 2, stride).data, F.pooling(x, 2, stride).data)


# ----------------------------------------------------------------------------------------------------------------------
# pair
# ----------------------------------------------------------------------------------------------------------------------


def test_pair_doubles_an_int_and_leaves_a_pair():
    assert pair(1) == (1, 1)
    assert pair((1, 2)) == (1, 2)


@pytest.mark.parametrize("x", [(1, 2, 3), (1,), 1.5, "1", None, [1, 2]], ids=repr)
def test_pair_refuses_anything_else(x):
    with pytest.raises(ValueError, match="pair"):
        pair(x)


# ----------------------------------------------------------------------------------------------------------------------
# steps/notes.py prints what the notes print
# ----------------------------------------------------------------------------------------------------------------------


def cells(text):
    """Return what is printed below each cell's name; other lines that begin with # are no cell's."""
    found = {}
    for line in text.splitlines():
        name = re.match(r"# ((?:In \[\d+\])|(?:Block \d+))", line)
        if name:
            assert name[1] not in found
            printed = found[name[1]] = []
        elif line and not line.startswith("#"):
            printed.append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


NOTES = cells((Path(__file__).parent / "study_notes.txt").read_text(encoding="utf-8"))
SCRIPT = Path(dezero.__file__).parent.parent / "steps" / "notes.py"


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """What steps/notes.py prints, run in another folder, with warnings as errors and without a way to dezero."""
    if not SCRIPT.exists():
        pytest.skip("the package is installed, without the steps")
    return run_script(tmp_path_factory.mktemp("notes"), PYTHONIOENCODING="utf-8")


def run_script(folder, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONUTF8")}
    command = [sys.executable, "-W", "error", str(SCRIPT)]
    settings = {**kept, "OPENBLAS_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8")


def test_the_script_has_every_cell_of_both_notes_in_order(script):
    assert list(cells(script)) == list(NOTES)
    assert list(NOTES) == [f"In [{n}]" for n in range(1, 28)] + [f"Block {n}" for n in range(1, 6)]


@pytest.mark.parametrize("name", NOTES)
def test_the_script_prints_what_the_note_prints_to_the_letter(script, name):
    assert cells(script)[name] == NOTES[name]


def test_the_script_names_the_trap_and_shows_what_comes_of_it(script):
    assert "# F.im2col(x1, 5, 5) takes a window every 5 pixels, is no error, and has the shape (1, 75).\n" in script
    assert F.im2col(np.zeros((1, 3, 7, 7)), 5, 5).shape == (1, 75)
    assert cells(script)["In [2]"].startswith("(9, 75)\n")


def test_what_the_script_says_of_dezero_is_so(script):
    assert len(re.findall(r"^# .+ = True$", script, re.MULTILINE)) == 3
    assert " = False" not in script
    assert "# W before the first call = None\n# shape of W after it = (8, 5, 3, 3), dtype = float32\n" in script


HEADINGS = """
2. 합성곱 신경망 내부 구조
2.3 합성곱/풀링 구현
컨볼루션 층 테스트
im2col 함수 테스트
np.pad() 의 동작
input 채널이 1개인 경우
input 채널이 2개인 경우
input 그림이 1개, 채널이 2개, 필터가 3개인 경우
input 그림이 2개, 채널이 2개, 필터가 3개인 경우
합성곱 연산의 정확한 고찰
Convolution test
합성곱 미분
풀링 소스 분석
채널이 1개인 경우 맥스 풀링 테스트
채널이 2개인 경우 맥스 풀링 테스트
밑바닥부터 시작하는 딥러닝 57단계
conv2d 함수와 pooling 함수
im2col에 의한 전개
conv2d 함수 구현
pooling 함수 구현
"""


def test_the_script_keeps_the_headings_of_the_notes(script):
    assert re.findall(r"^##? (.+) \(.+\)$", script, re.MULTILINE) == HEADINGS.strip().splitlines()


def test_a_terminal_without_korean_shows_question_marks(tmp_path, script):
    said = run_script(tmp_path, PYTHONIOENCODING="ascii")
    assert cells(said) == cells(script)
    assert "\n## ??? ?? (the derivative of the convolution)\n" in said


def numbers(text):
    return [float(number) for number in re.findall(r"\d+\.?\d*", text)]


FIGURES = [
    *zip(["In [4]", "In [5]", "In [7]"], [expected for _, expected in IM2COL], strict=True),
    *zip(["In [12]", "In [11]", "In [5]", "In [6]", "In [13]"], [expected for *_, expected in CONV2D], strict=True),
    ("In [9]", BY_PLACE),
    ("In [15]", COUNTED),
    ("In [17]", ONE_CHANNEL),
    *zip(["In [18]", "In [26]"], [expected for _, expected in POOLED], strict=True),
    *zip(["In [24]", "In [27]"], [expected for *_, expected in POOLING_GRADIENTS], strict=True),
]


@pytest.mark.parametrize(("name", "expected"), FIGURES)
def test_the_figures_above_are_those_of_the_notes(name, expected):
    expected, there = np.ravel(expected).tolist(), numbers(NOTES[name])
    assert any(there[start : start + len(expected)] == expected for start in range(len(there)))
