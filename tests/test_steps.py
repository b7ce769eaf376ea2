"""The road: every step runs and prints what it should, differs from the one before by what it says, and leads here.

Each step is a program of its own, run in another folder, without a display, without the network, and with warnings as
errors. A step without a row in `STEPS` fails.
"""

import ast
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import types
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import dezero
from dezero import core, core_simple

ROOT = Path(dezero.__file__).parent.parent
FOLDER = ROOT / "steps"
FILES = {int(path.stem[4:]): path for path in sorted(FOLDER.glob("step[0-9][0-9].py"))}
MARK = "\n# Demonstration " + "-" * 104 + "\n"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the package is installed, without the steps")


# ----------------------------------------------------------------------------------------------------------------------
# What each step prints
# ----------------------------------------------------------------------------------------------------------------------


def at_least(low):
    return lambda value: value >= low


def below(high):
    return lambda value: value < high


@dataclass
class Step:
    """What a step must print, and which pictures it saves.

    `values`: by the name printed before " = ", a number (to five digits), or a function that says whether one will do.
    `says`: regular expressions, each to be found in a line. `pictures`: names of files.
    """

    values: dict = field(default_factory=dict)
    says: tuple = ()
    pictures: tuple = ()


E = float(np.e)
GRAPHVIZ = shutil.which("dot") is not None

STEPS = {
    1: Step(
        {"x.data": 1, "x.data after the exchange": 2, "x.data after a change under its other name": 3}
        | {"ndim of one number": 0, "ndim of a row of numbers": 1, "ndim of a table of numbers": 2},
    ),
    2: Step(
        {"y.data": 100, "x.data is left as it was": 10},
        says=(
            r"^type of y = Variable$",
            r"= \[1\. 4\. 9\.\]$",
            r"^NotImplementedError: Function has no forward method$",
        ),
    ),
    3: Step({"x": 0, "a": 1, "b": 1, "y": E, "the whole formula at once": E}),
    4: Step(
        {"estimate for Square at 3": 6, "estimate for exp(exp(x) ** 2) at 0": 2 * E, "exact derivative": 2 * E},
        says=(r"^1e-05    1\.1e-04           1\.8e-09$", r"^1e-11    \d\.\de-05           \d\.\de-0[567]$"),
    ),
    5: Step(
        {"da/dx": 1, "db/da": 2, "dy/db": E, "db/dx": 2, "dy/da": 2 * E, "numerical gradient": 2 * E}
        | {"multiplications from x": 2_010_000, "multiplications from y": 30_000},
        says=(
            r"^from x: .+, dy/dx = 5\.436564$",
            r"^from y: .+, dy/dx = 5\.436564$",
            r"^both orders give the same = True$",
        ),
    ),
    6: Step(
        {"dy/dy": 1, "dy/db": E, "dy/da": 2 * E, "dy/dx": 2 * E},
        says=(r"^A remembers the box x = True$",),
    ),
    7: Step(
        {"dy/dx": 2 * E},
        says=(r"^y was made by C from b\nb was made by B from a\na was made by A from x\nx has no creator$",),
    ),
    8: Step(
        {"dy/dx": 2 * E, "y after 10,000 operations": 10, "dy/dx after 10,000 operations": 1},
        says=(r"^RecursionError: maximum recursion depth exceeded",),
    ),
    9: Step(
        {"y": E, "dy/dx": 2 * E},
        says=(
            r"^dy/dx of a row = \[2\. 4\. 6\.\]$",
            r"^the square of np\.array\(3\.0\) is an array = False\nsquare\(x\)\.data is an array = True$",
            r"^TypeError: Variable: data must be an array, got float; write Variable\(np\.array\(1\.0\)\)$",
            r"^ValueError: backward: no graph leads to this Variable",
        ),
    ),
    10: Step(
        {"wrong gradient": 3, "numerical gradient": 6},
        says=(
            r"^test_backward: passed = True\ntest_forward: passed = True\ntest_gradient_check: passed = True$",
            r"^the check accepts the wrong gradient = False$",
        ),
    ),
    11: Step({"outputs": 1, "y": 5, "dy/dx": 2 * E}, says=(r"^the way back through Add: too many values to unpack",)),
    12: Step({"y": 5, "dy/dx": 2 * E, "sum": 5, "difference": -1}),
    13: Step(
        says=(
            r"^x \*\* 2 \+ y \*\* 2: z = 13\.0, dz/dx = 4\.0, dz/dy = 6\.0$",
            r"^\(x \+ y\) \*\* 2: z = 25\.0, dz/dx = 10\.0, dz/dy = 10\.0$",
        ),
    ),
    14: Step(
        {"second, after += on first": 2},
        says=(
            r"^x \+ x: dy/dx = 2\.0$",
            r"^x \+ x \+ x, the old gradient still there: dy/dx = 5\.0$",
            r"^x \+ x \+ x, after cleargrad: dy/dx = 3\.0$",
        ),
    ),
    15: Step(
        {"y": 32, "dy/dx in the order of step 14": 96, "dy/dx when A waits for both": 64, "numerical gradient": 64},
        says=(r"^visit: C .+\nvisit: A gets the gradient 8\.0\nvisit: B .+\nvisit: A gets the gradient 16\.0$",),
    ),
    16: Step(
        {"y": 32, "dy/dx": 64, "ways from x to y": 2.0**60, "dy/dx after 60 visits": 2.0**60},
        says=(
            r"^visit: B, .+\nvisit: C, generation 1\nvisit: A, generation 0$",
            r"^generation of x = 0, of a = 1, of y = 3$",
        ),
    ),
    17: Step(
        {"megabytes held with rings": at_least(39), "megabytes held without": below(0.1)},
        says=(r"^a weak reference while .+ = True$", r"^a weak reference when .+ = True$"),
    ),
    18: Step(
        {"megabytes held with a graph": at_least(8.9), "megabytes held under no_grad()": below(2.2)},
        says=(
            r"^retain_grad=True: dy/dx = 32\.0, dy/da = 8\.0, dy/dy = 1\.0$",
            r"^retain_grad=False: dy/dx = 32\.0, dy/da = None, dy/dy = None$",
            r"^creator of y = None$",
        ),
    ),
    19: Step(
        {"ndim": 2, "size": 6, "len(x)": 2},
        says=(
            r"^name = x\nshape = \(2, 3\)$",
            r"^dtype = float64$",
            r"^variable\(\[\[1\. 2\. 3\.\]\n          \[4\. 5\. 6\.\]\]\)\nvariable\(2\.0\)$",
        ),
    ),
    20: Step(
        says=(
            r"^add\(mul\(a, b\), c\): y = 7\.0, dy/da = 2\.0, dy/db = 3\.0, dy/dc = 1\.0$",
            r"^a \* b \+ c: y = 7\.0, dy/da = 2\.0, dy/db = 3\.0, dy/dc = 1\.0$",
        ),
    ),
    21: Step(
        {"x + 3": 5, "3 + x": 5, "x * np.array(4)": 8, "np.array(4) * x": 8, "y": 7, "dy/dx": 3},
        says=(
            r"^type of an array times a Variable = Variable$",
            r"^array \* row \+ 1: variable\(\[11\. 41\. 91\.\]\)$",
        ),
    ),
    22: Step(
        says=(
            r"^-x: dy/dx = -1\.000000, estimate = -1\.000000$",
            r"^x - 3: dy/dx = 1\.000000, estimate = 1\.000000$",
            r"^3 - x: dy/dx = -1\.000000, estimate = -1\.000000$",
            r"^x / 3: dy/dx = 0\.333333, estimate = 0\.333333$",
            r"^3 / x: dy/dx = -0\.750000, estimate = -0\.750000$",
            r"^x \*\* 3: dy/dx = 12\.000000, estimate = 12\.000000$",
            r"^\(x - 1\) / \(x \+ 1\) \*\* 2: dy/dx = 0\.037037, estimate = 0\.037037$",
            r"^2 \* x \*\* 3 - 1 / x: y = 15\.5, dy/dx = 24\.25$",
        ),
    ),
    23: Step(
        {
            "y": 15.5,
            "dy/dx": 24.25,
            "classes and functions of step 22": at_least(20),
            "those that the package lacks": 0,
        },
        says=(
            r"^Variable comes from dezero\.core_simple\nits file is dezero/core_simple\.py$",
            r"^the folder above is in sys\.path = True\ndezero\.Variable is another class = True$",
        ),
    ),
    24: Step(
        says=(
            r"^Sphere: z = 2\.00, dz/dx = 2\.00, dz/dy = 2\.00\nSphere, estimates: dz/dx = 2\.00, dz/dy = 2\.00$",
            r"^Matyas: z = 0\.04, dz/dx = 0\.04, dz/dy = 0\.04\nMatyas, estimates: dz/dx = 0\.04, dz/dy = 0\.04$",
            r"^Goldstein-Price: z = 1876\.00, dz/dx = -5376\.00, dz/dy = 8064\.00$",
            r"^Goldstein-Price, estimates: dz/dx = -5376\.00, dz/dy = 8064\.00$",
        ),
        pictures=("step24_downhill.png",),
    ),
    25: Step(
        {"nodes": 4, "arrows": 3} | ({"ellipses": 3} if GRAPHVIZ else {}),
        says=(
            r"^digraph g {\n1 \[label=\"x0\", shape=ellipse\]\n",
            r"^dezero draws <Graph: 1 Functions, 3 Variables>$",
            r"^Graphviz draws it" if GRAPHVIZ else r"^Graphviz is not installed",
        ),
        pictures=("step25_graph.svg",),
    ),
    26: Step(
        {"lines of this file's text": 18, "Functions": 38, "Variables": 57}
        | {"lines that the package's text has and this one lacks": 0}
        | {"lines that this text has and the package's lacks": 0},
        pictures=("step26_small.svg", "step26_goldstein_price.svg", *(["step26_graphviz.png"] if GRAPHVIZ else [])),
    ),
    27: Step(
        {"operation: sin x": 0.5**0.5, "derivative": 0.5**0.5, "1 / sqrt(2)": 0.5**0.5},
        says=(
            r"^threshold 1e-01: terms = 2, error = 2\.5e-03, error of the derivative = 1\.6e-02$",
            r"^threshold 1e-04: terms = 4, error = 3\.1e-07, error of the derivative = 3\.6e-06$",
            r"^threshold 1e-08: terms = 6, error = 6\.9e-12, error of the derivative = 1\.1e-10$",
            r"^threshold 1e-150: terms = 47, error = \d\.\de(\+00|-1[67]), .+ = \d\.\de(\+00|-1[67])$",
        ),
        pictures=("step27_three_terms.svg", "step27_series.png"),
    ),
    28: Step(
        says=(
            r"^iteration     0: x0 = -1\.200000, x1 = 1\.000000, y = 24\.200000$",
            r"^iteration    10: .+, y = 4\.092474$",
            r"^iteration  1000: .+, y = 0\.4535\d+$",
            r"^iteration 10000: x0 = 0\.9923\d+, x1 = 0\.9847\d+, y = 0\.00005\d$",
        ),
        pictures=("step28_way_down.png",),
    ),
    29: Step(
        {"iterations of Newton's method": 6, "iterations of gradient descent": 88},
        says=(
            r"^Newton's method, iteration 1: x = 3\.066666667$",
            r"^Newton's method, iteration 6: x = 2\.250000000$",
        ),
        pictures=("step29_newton.png",),
    ),
    30: Step(
        {"core_simple: dy/dx": 12, "core: dy/dx": 12, "Functions behind y": 1, "Functions behind dy/dx": 3},
        says=(
            r"^core_simple: the gradient is a Variable = False$",
            r"^AttributeError: .+ has no attribute 'backward'$",
            r"^core: the gradient is a Variable = True\ncore: its creator = Mul$",
        ),
        pictures=("step30_past_of_a_gradient.svg",),
    ),
    31: Step(
        {"sin x": np.sin(1), "first derivative": np.cos(1), "gx": np.cos(1), "second derivative": -np.sin(1)}
        | {"ggx": -np.sin(1), "third derivative": -np.cos(1), "-sin x": -np.sin(1), "-cos x": -np.cos(1)},
        pictures=("step31_gradient_as_a_graph.svg",),
    ),
    32: Step(
        says=(
            *(
                rf"^x \*\* 4 - 3 \* x \*\* 3 \+ 2, order {order}: derivative = {value}, on paper = {value}$"
                for order, value in enumerate((r"-4\.000000", r"12\.000000", r"30\.000000", r"24\.000000"), 1)
            ),
            *(
                rf"^1 / \(x \* x \+ 1\), order {order}: derivative = {value}, by dezero/core\.py = {value}$"
                for order, value in enumerate((r"-0\.640000", r"-0\.256000", r"3\.686400", r"-9\.338880"), 1)
            ),
            r"^without create_graph the gradient has a creator = False$",
        ),
    ),
    33: Step(
        {"the lowest place of x ** 3 / 3 - 2 * x": 2**0.5, "square root of 2": 2**0.5},
        says=(
            r"^iteration 1: first derivative = 112\.000000, second derivative = 120\.000000, x = 3\.066666667$",
            r"^iteration 6: .+, x = 2\.250000000$",
        ),
    ),
    34: Step(
        says=tuple(
            rf"^derivative of order {order} is {name}: largest difference = (0\.0e\+00|\d\.\de-1[5-9])$"
            for order, name in enumerate(("sin x", "cos x", "-sin x", "-cos x", "sin x"))
        ),
        pictures=("step34_derivatives_of_sine.png",),
    ),
    35: Step(
        {
            "first derivative on paper": 1 / np.cosh(1) ** 2,
            "second derivative on paper": -2 * np.tanh(1) / np.cosh(1) ** 2,
        },
        says=(
            r"^order 1: derivative = 0\.419974, Functions = 2$",
            r"^order 2: derivative = -0\.639700, Functions = \d$",
            r"^order 3: derivative = 0\.621627, Functions = 1\d$",
            r"^order 4: derivative = 0\.665091, Functions = [2-4]\d$",
            r"^order 5: derivative = -5\.556894, Functions = [5-9]\d$",
        ),
        pictures=tuple(f"step35_tanh_order_{order}.svg" for order in (1, 2, 3)),
    ),
    36: Step(
        {"dz/dx": 300, "36 * x ** 3 + 3 * x ** 2": 300, "e": 2.7183},
        says=(
            r"^iteration    0: loss = 10\.000000, height at 1 = 0\.0000$",
            r"^iteration 1000: loss = 0\.00003\d, height at 1 = 2\.717\d$",
        ),
        pictures=("step36_slope_is_height.png",),
    ),
}

# Steps 37 to 51: networks.
STEPS |= {
    37: Step(
        {"dy/dx at 5, among the others": np.cos(5) + 10, "dy/dx at 5, alone in its box": np.cos(5) + 10},
        says=(
            r"^shape of x = \(2, 3\), shape of y = \(2, 3\), shape of x\.grad = \(2, 3\)$",
            r"^\[\[2\.5403 0\.     0\.    \]\n \[0\.     3\.5839 0\.    \]\n \[0\.     0\.     5\.01  \]\]$",
            r"^its rows added up: (\[2\.5403 3\.5839 5\.01  \])\nrow\.grad: \1$",
            r"^rows of the product of two tables added up: (\[.+ 86\.7844\])\nrow\.grad of wave\(wave\(row\)\): \1$",
        ),
    ),
    38: Step(
        says=(
            r"back in x's shape:\n\[\[0\. 1\. 2\.\]\n \[3\. 4\. 5\.\]\]$",
            r"back in x's shape, by columns:\n\[\[0\. 2\. 4\.\]\n \[1\. 3\. 5\.\]\]$",
            r"^shape of y = \(10, 3, 28, 28\), shape of images\.grad = \(10, 28, 28, 3\)$",
            r"^F\.reshape gives the same = True\nF\.transpose gives the same = True$",
        ),
    ),
    39: Step(
        {"y": 21, "x.sum()": 21, "mean of x": 3.5, "the gradient of the mean for every number of x": 0.166667},
        says=(
            r"\[1\.0, 10\.0, 100\.0\]:\n\[\[  1\.  10\. 100\.\]\n \[  1\.  10\. 100\.\]\]$",
            r"\[1\.0, 10\.0\]:\n\[\[ 1\.  1\.  1\.\]\n \[10\. 10\. 10\.\]\]$",
            r"^F\.sum gives the same = True$",
        ),
    ),
    40: Step(
        says=(
            r"^gradient of the row: \[2\. 2\. 2\.\]$",
            r"^the table summed to \(2, 1\): \[\[6\.0\], \[15\.0\]\]$",
            r"^F\.broadcast_to gives the same = True\nF\.sum_to gives the same = True$",
            r"^gradient of the row = \[30\.0, 30\.0, 30\.0\]\ngradient of the column = \[\[6\.0\], \[6\.0\]\]$",
            r"^ValueError: add: shapes \(2, 3\) and \(2,\) cannot broadcast",
        ),
    ),
    41: Step(
        says=(
            r"for each day:\n\[\[11\.  12\. \]\n \[17\.  23\.5\]\]$",
            r"^shape of x\.grad = \(5, 3\), shape of W\.grad = \(3, 2\)$",
            r"^gradient of x: largest difference = \d\.\de-1\d\ngradient of W: largest difference = \d\.\de-1\d$",
            r"^F\.matmul gives the same = True\nx @ W gives the same = True$",
            r"^ValueError: matmul: W takes 5 features but x has 3",
        ),
    ),
    42: Step(
        {"slope by the formula": 1.473711, "start by the formula": 3.057399, "final loss": 0.0383},
        says=(
            r"^three ways to calculate the loss agree = True$",
            r"^iteration 200: loss = 0\.0383, W = 1\.47\d+, b = 3\.05\d+$",
        ),
        pictures=("step42_line.png",),
    ),
    43: Step(
        {"loss of the best straight line": 0.4914, "final loss": below(0.02)},
        says=(r"^F\.linear and F\.sigmoid give the same = True$",),
        pictures=("step43_network.png",),
    ),
    44: Step(
        {"final loss": below(0.02)},
        says=(
            r"^parameters = \['W', 'b'\]\nW before the first call = None$",
            r"^size of 100 numbers = (1\.0|0\.9)\d+, of what Linear makes of them = (1\.0|0\.9)\d+$",
            r"^L\.Linear gives the same = True$",
        ),
        pictures=("step44_layers.png",),
    ),
    45: Step(
        {"final loss": below(0.02)},
        says=(
            r"^MLP of this step: parameters = (\['l0/W', 'l0/b', 'l1/W', 'l1/b'\])\nTwoLayers: parameters = \1$",
            r"^all four give the same = True$",
        ),
        pictures=("step45_model.svg",),
    ),
    46: Step(
        {"loss after 1000 iterations of SGD": at_least(0.3)}
        | {f"loss after 1000 iterations of {name}": below(0.02) for name in ("MomentumSGD", "Adam")},
        says=(
            r"^optimizers\.SGD gives the same = True\noptimizers\.MomentumSGD gives the same = True\n"
            r"optimizers\.Adam gives the same = True$",
            r"^optimizers\.WeightDecay gives the same = True$",
            r"^SGD: place after 60 iterations = \(-2\.5306, 0\.0036\)$",
            r"^MomentumSGD: place after 60 iterations = \(-0\.1237, -0\.0440\)$",
        ),
        pictures=("step46_optimizers.png",),
    ),
    47: Step(
        {"mean loss": 0.7646, "loss where the label is the last": 2000, "log 3, the loss of a guess": 1.0986}
        | {"loss of a model that knows nothing": lambda loss: 1 < loss < 1.2},
        says=(
            r"^x\[\[0, 2, 2\]\]: y = \[1\. 3\. 3\.\], dy/dx = \[1\. 0\. 2\.\]$",
            r"^sample 1: probabilities = \[0\.1863 0\.5065 0\.3072\], label = 2, loss = 1\.1803$",
            r"gives the same = True\nF\.softmax gives the same = True\nall three losses agree = True$",
        ),
    ),
    48: Step(
        {"final accuracy": at_least(0.99), "points on the wrong side": below(4)},
        pictures=("step48_spiral.png",),
    ),
    49: Step(
        {"test accuracy without a transform": below(0.85), "test accuracy with one": at_least(0.97)},
        says=(r"^dezero's Dataset gives the same = True$",),
        pictures=("step49_rings.png",),
    ),
    50: Step(
        {"final test accuracy": at_least(0.98)},
        says=(
            r"^(epoch 1: x = \[(\d ){3}\d\], t = .+\n){2}epoch 1: x = \[\d \d\], t = .+$",
            r"^dezero's DataLoader gives the same = True$",
        ),
        pictures=("step50_curves.png",),
    ),
    51: Step(
        {"accuracy before training": below(0.2), "test accuracy": at_least(0.93), "mistakes": below(71)},
        says=(r"^training digits = 6000, test digits = 1000$",),
        pictures=("step51_digits.png", "step51_weights.png", "step51_losses.png"),
    ),
}

# Steps 52 to 60: further.
STEPS |= {
    52: Step(
        says=(
            r"^x belongs to numpy\nsoftplus of x = \[\[   0\.313262    0\.693147 1000\.      \]\]$",
            r"^its gradient = \[\[0\.268941 0\.5      1\.      \]\]\nF\.softplus gives the same = True$",
            r"^captured, softplus gives the same = True$",
            r"^RuntimeError: to_gpu: .+|^moved, x belongs to cupy\n",
            r"^a batch on the CPU: first loss = 2\.7515, last loss = 0\.3\d+, milliseconds = \d+\.\d$",
        ),
    ),
    53: Step(
        {"accuracy of the model": at_least(0.98), "accuracy of the copy": at_least(0.98)},
        says=(
            r"^in the file: l0/W \(2, 30\), l0/b \(30,\), .+, l2/b \(3,\)$",
            r"^the copy says the same = True$",
            r"^ValueError: load_weights: l1/W has shape \(30, 30\) in the file and \(30, 20\) in the model\n.+ = True$",
            r"^ValueError: load_weights: in the file or in the model, but not in both: l2/W, l2/b\n.+ = True$",
            r"^dezero reads this file, and this program dezero's = True$",
            r"without a break = (0\.\d+)\nloss after 400 iterations, interrupted at 200 = \1\nthe same .+ = True\n"
            r"loss after 400 iterations, with an optimizer that begins anew = (?!\1$)0\.\d+$",
        ),
    ),
    54: Step(
        {"part that is left out": 0.301, "what the others become": 1 / 0.7, "mean of y": 0.998}
        | {"test loss without dropout": at_least(0.6), "test loss with dropout": below(0.61)}
        | {"test accuracy without dropout": at_least(0.83), "test accuracy with dropout": at_least(0.84)},
        says=(
            r"^in test_mode\(\) y is x = True\nF\.dropout gives the same = True$",
            r"^without dropout, epoch 60: training accuracy = 1\.000, ",
            r"^with dropout, epoch 60: training accuracy = 1\.000, ",
        ),
        pictures=("step54_dropout.png",),
    ),
    55: Step(
        says=(
            r"^ 0  1  2\n 4  5  6   row 0 of the matrix:  0  1  2  4  5  6  8  9 10\n 8  9 10\n",
            r"^ 5  6  7\n 9 10 11   row 3 of the matrix:  5  6  7  9 10 11 13 14 15\n13 14 15\n",
            r"^shape of x = \(4, 4\), shape of the matrix = \(4, 9\)$",
            r"^y by the matrix = (\[15\. 18\. 27\. 30\.\])\ny by the windows = \1$",
            r"^F\.im2col gives the same = True\nF\.conv2d gives the same = True$",
            r"lies:\n\[\[1\. 2\. 2\. 1\.\]\n (\[2\. 4\. 4\. 2\.\])\n \1\n \[1\. 2\. 2\. 1\.\]\]\n.+ = True$",
        ),
        pictures=("step55_windows.png", "step55_digit.png"),
    ),
    56: Step(
        {"cases": at_least(900), "cases where formula and count disagree": 0},
        says=(
            r"^utils\.get_conv_outsize gives the same = True$",
            r"^size 5, kernel 3, stride 2, pad 1: outsize = 3, at \[-1, 1, 3\]$",
            r"^shape of x = \(2, 3, 7, 8\), shape of the matrix = \(40, 18\)\nF\.im2col gives the same = True$",
            r"^64 kernels of 5 x 5, stride 2, pad 0: shape = \(10, 64, 6, 6\)$",
            r"^ValueError: conv2d: W takes 3 channels but x has 64 ",
        ),
        pictures=("step56_sizes.png",),
    ),
    57: Step(
        {"test accuracy": at_least(0.96), "parameters": 20746},
        says=(
            # The numbers of the study note.
            r"^shape of im2col\(x, 5\) = \(9, 75\)\nshape of im2col\(x, \(5, 5\)\) of ten images = \(90, 75\)$",
            r"^pair\(1\) = \(1, 1\), pair\(\(1, 2\)\) = \(1, 2\)$",
            r"^shape of y = \(1, 8, 15, 15\), shape of x\.grad = \(1, 5, 15, 15\), .+ = \(8, 5, 3, 3\)\n.+ = True$",
            r"^pooled: \[\[5\.0, 8\.0\], \[9\.0, 6\.0\]\]$",
            r"alone: \[\[0\.0, 1\.0, 0\.0, 0\.0\], \[0\.0, 0\.0, 1\.0, 0\.0\], \[1\.0, 0\.0, 1\.0, 0\.0\], \[0\.0, ",
            r"^F\.pooling gives the same = True\nL\.Conv2d gives the same = True$",
        ),
        pictures=("step57_filters.png", "step57_feature_maps.png"),
    ),
    58: Step(
        {"sum of the probabilities": 1},
        says=(
            r"^weights: ",
            r"^VGG16 +\(1, 1000\) +138,357,544  15,470,264,320$",
            r"^  conv5_3: Conv2d +\(1, 512, 14, 14\) +2,359,808 ",
            r"^largest probability, of 1000 = 0\.0\d\d$|^place 5: ",
            r"^models\.VGG16 gives the same = True$",
        ),
        pictures=("step58_feature_maps.png", "step58_first_block.svg"),
    ),
    59: Step(
        {"Functions behind y after 25 places": 99, "Functions behind y at the next place, the chain cut": 5}
        | {"mean squared error of saying the last value again": 0.031417}
        | {"mean squared error of a network without a state": lambda error: 0.03 < error < 0.036}
        | {"mean squared error of the recurrent network": below(0.001)},
        says=(r"^L\.RNN gives the same = True$",),
        pictures=("step59_wave.png",),
    ),
    60: Step(
        {"mean squared error of the RNN": below(0.001), "mean squared error of the LSTM": below(0.0003)}
        | {"error of the RNN in 200 values by itself": below(0.2)}
        | {"error of the LSTM in 200 values by itself": below(0.05)},
        says=(
            r"^L\.LSTM gives the same = True\ndezero\.SeqDataLoader gives the same = True$",
            r"^batches in an epoch = 100, shape of a batch = \(10, 1\)$",
        ),
        pictures=("step60_going_on.png",),
    ),
}

NUMBER = r"([-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan))"


def printed(out, name):
    """Return the number printed as `name = number`, at the start of a line or after a comma or a colon."""
    found = re.findall(rf"(?:^|[,:] ){re.escape(name)} = {NUMBER}(?![\w.])", out, re.MULTILINE)
    assert len(found) == 1, f"{name!r} is printed {len(found)} times in\n{out}"
    return float(found[0])


def test_a_number_is_found_by_its_whole_name():
    out = "dy/dx = 2.5\nx: dz/dx = -1e-05, error = 3\ny = [1. 2.]\n"
    assert (printed(out, "dy/dx"), printed(out, "dz/dx"), printed(out, "error")) == (2.5, -1e-5, 3.0)
    for absent in ("dx", "x", "y", "rror"):
        with pytest.raises(AssertionError, match="is printed 0 times"):
            printed(out, absent)


def test_every_step_has_a_row():
    assert sorted(STEPS) == sorted(FILES)
    assert list(FILES) == list(range(1, len(FILES) + 1))


# What a step may not do, said where Python looks when it starts.
NO_NETWORK = """
import socket

def refuse(*args, **options):
    raise OSError("a step asked for the network")

socket.socket.connect = socket.getaddrinfo = refuse
"""


def environment(folder, **more):
    """Return an environment without a display, without the network, and without a way to dezero.

    DEZERO_HOME stays: what Numba compiles, it compiles once for all steps.
    """
    (folder / "start").mkdir(parents=True, exist_ok=True)
    (folder / "start" / "sitecustomize.py").write_text(NO_NETWORK)
    kept = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    }
    here = {"PYTHONPATH": str(folder / "start"), "OPENBLAS_NUM_THREADS": "1"}
    return {**kept, **here, **more}


def run(folder, number, *options, **more):
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-W", "error", str(FILES[number]), *map(str, options)]
    settings = environment(folder, **more)
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, timeout=120, check=False)


def test_the_environment_of_the_steps_has_no_network(tmp_path):
    question = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')"
    command = [sys.executable, "-c", question]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert "a step asked for the network" in done.stderr


@pytest.fixture(scope="session")
def runs(request, tmp_path_factory):
    """The runs of all steps that tests were asked for, two at once; each with the folder of its pictures."""
    items = [item for item in request.session.items if item.path == Path(__file__) and "runs" in item.fixturenames]
    wanted = {number for item in items if (number := item.callspec.params["number"]) in FILES}
    folder = tmp_path_factory.mktemp("steps")
    with ThreadPoolExecutor(2) as pool:
        started = {
            number: pool.submit(run, folder / str(number), number, "--save", folder / str(number) / "pictures")
            for number in sorted(wanted)
        }
        yield lambda number: (started[number].result(), folder / str(number) / "pictures")
        pool.shutdown(cancel_futures=True)


COMPILING = re.compile(r"^dezero: compiling kernels, once for this machine: .*\n", re.MULTILINE)


@pytest.mark.parametrize("number", FILES)
def test_it_prints_what_it_should(runs, number):
    done, _ = runs(number)
    assert (done.returncode, COMPILING.sub("", done.stderr)) == (0, "")
    step = STEPS[number]
    assert step.values or step.says
    for name, wanted in step.values.items():
        value = printed(done.stdout, name)
        if callable(wanted):
            assert wanted(value), f"{name} = {value}"
        else:
            np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6, err_msg=name)
    for pattern in step.says:
        assert re.search(pattern, done.stdout, re.MULTILINE), f"{pattern!r} is not in\n{done.stdout}"


@pytest.mark.parametrize("number", [number for number in FILES if STEPS.get(number, Step()).pictures])
def test_its_pictures_have_something_on_them(runs, number):
    done, folder = runs(number)
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    for name in STEPS[number].pictures:
        assert re.search(rf"\b{re.escape(name)}\b", done.stdout), f"{name} is not named in\n{done.stdout}"
    assert sorted(path.name for path in folder.iterdir()) == sorted(STEPS[number].pictures)
    for path in folder.iterdir():
        check_picture(path)


def check_picture(path):
    """Raise unless a picture has a size and something on it."""
    if path.suffix == ".svg":
        kinds = [node.tag.rpartition("}")[2] for node in ElementTree.parse(path).iter()]
        assert kinds.count("rect") > 2, f"{path.name} has no boxes"
        assert kinds.count("text") > 1, f"{path.name} has no words"
        return
    from matplotlib.image import imread

    pixels = imread(path)[:, :, :3]
    assert min(pixels.shape[:2]) >= 200, f"{path.name} is small"
    colours = (pixels[20:-20, 20:-20] * 8).round().astype(int) @ [1, 9, 81]
    assert (np.bincount(colours.ravel()) > 30).sum() >= 3, f"{path.name} has nothing on it"


# ----------------------------------------------------------------------------------------------------------------------
# Where pictures go
# ----------------------------------------------------------------------------------------------------------------------


def test_without_a_display_and_without_save_a_step_goes_on_and_says_how(tmp_path):
    done = run(tmp_path / "here", 34)
    assert (done.returncode, done.stderr) == (0, "")
    wanted = "picture step34_derivatives_of_sine: no display here; --save FOLDER writes it to a file"
    assert done.stdout.splitlines()[-1] in (wanted, NEEDS_MATPLOTLIB)
    graphs = run(tmp_path / "here", 30)
    assert graphs.stdout.endswith("picture step30_past_of_a_gradient: " + wanted.partition(": ")[2] + "\n")
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["start"]


NEEDS_MATPLOTLIB = 'picture step34_derivatives_of_sine: needs matplotlib; pip install -e ".[plot]"'


def test_without_matplotlib_a_step_says_how_to_get_it_and_goes_on_with_numbers(tmp_path):
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "matplotlib.py").write_text("raise ImportError('as if there were none')\n")
    done = run(tmp_path, 34, "--save", tmp_path / "pictures")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == NEEDS_MATPLOTLIB
    assert "derivative of order 4 is sin x" in done.stdout
    assert list((tmp_path / "pictures").iterdir()) == []


@pytest.fixture
def road(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("road")
    yield module
    monkeypatch.setattr(module, "_folder", None)


def graph():
    return dezero.graph(core.Variable(np.array(2.0)) ** 2)


def test_with_a_display_a_graph_goes_to_the_web_browser(road, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(road.webbrowser, "open", opened.append)
    monkeypatch.setattr(road, "_has_display", lambda: True)
    road.show("a_graph", graph())
    (path,) = (Path(uri.removeprefix("file://")) for uri in opened)
    check_picture(path)
    assert capsys.readouterr().out == f"picture a_graph: {path}\n"


def test_with_a_display_a_figure_gets_a_window_and_is_closed(road, monkeypatch, capsys):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.gcf().axes[0].get_title()))
    monkeypatch.setattr(road, "_has_window", lambda pyplot: True)
    road.show("a_curve", lambda figure: figure.subplots().set_title("a curve"))
    assert shown == ["a curve"]
    assert pyplot.get_fignums() == []
    assert capsys.readouterr().out == ""


def test_a_folder_for_pictures_is_made_and_a_gpu_that_is_missing_is_said_so(road, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["step00.py", "--save", str(tmp_path / "a" / "b")])
    options = road.read_options("What it is.", gpu=True, dataset=True)
    assert (options.gpu, options.dataset, options.save) == (False, "mini", tmp_path / "a" / "b")
    road.show("a_graph", graph())
    assert [path.name for path in options.save.iterdir()] == ["a_graph.svg"]

    def missing():
        raise RuntimeError("use_gpu: CuPy is not installed")

    monkeypatch.setattr(dezero.cuda, "use_gpu", missing)
    monkeypatch.setattr(sys, "argv", ["step00.py", "--gpu"])
    with pytest.raises(SystemExit):
        road.read_options("What it is.", gpu=True)
    assert capsys.readouterr().err.endswith("error: --gpu: use_gpu: CuPy is not installed\n")


def test_the_judge_of_pictures_sees_empty_ones(tmp_path):
    figures = pytest.importorskip("matplotlib.figure")
    figures.Figure().savefig(tmp_path / "empty.png")
    (tmp_path / "empty.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>')
    for name in ("empty.png", "empty.svg"):
        with pytest.raises(AssertionError, match="has n"):
            check_picture(tmp_path / name)


# ----------------------------------------------------------------------------------------------------------------------
# What a step says has changed is what has changed
# ----------------------------------------------------------------------------------------------------------------------


def upper_half(number):
    """Return what a step teaches: its text as far as the demonstration."""
    text = FILES[number].read_text(encoding="utf-8")
    assert text.count(MARK) == 1
    return text.partition(MARK)[0]


def definitions(text):
    """Return the source of every definition by its name, methods as Class.method, imports by what they import."""
    found = {}
    lines = text.splitlines()
    for node in ast.parse(text).body[1:]:
        if isinstance(node, ast.Import):
            found[node.names[0].name] = ast.unparse(node)
        elif isinstance(node, ast.ClassDef):
            found[node.name] = source(lines, node).partition("\n")[0] + (ast.get_docstring(node) or "")
            for part in node.body[bool(ast.get_docstring(node)) :]:
                name = part.targets[0].id if isinstance(part, ast.Assign) else part.name
                found[f"{node.name}.{name}"] = source(lines, part)
        else:
            assert isinstance(node, ast.FunctionDef), f"line {node.lineno}: only imports, classes and functions"
            found[node.name] = source(lines, node)
    return found


def source(lines, node):
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    return "\n".join(lines[first - 1 : node.end_lineno])


def difference(before, after):
    """Return the names that are new, changed and gone; a class that is new or gone stands for its methods."""

    def tops(names):
        return {name for name in names if name.rpartition(".")[0] not in names}

    kept = before.keys() & after.keys()
    changed = {name for name in kept if before[name] != after[name]}
    assert [name for name in before if name in kept] == [name for name in after if name in kept], "the order changed"
    return {
        "New": tops(after.keys() - before.keys()),
        "Changed": changed,
        "Gone": tops(before.keys() - after.keys()),
    }


def said(number):
    """Return the names that a step's docstring lists as New, Changed and Gone."""
    doc = ast.get_docstring(ast.parse(FILES[number].read_text(encoding="utf-8")))
    lists = dict(re.findall(r"^(New|Changed|Gone): (.+(?:\n    .+)*)", doc, re.MULTILINE))
    return {kind: {*re.split(r",\s+", lists[kind])} if kind in lists else set() for kind in ("New", "Changed", "Gone")}


NEIGHBOURS = [*pairwise(range(1, 23)), (22, 32)]


@pytest.mark.parametrize(("before", "after"), NEIGHBOURS)
def test_a_step_differs_from_the_one_before_by_what_it_says(before, after):
    """The criterion: every definition that the docstring does not name is the same to the byte, in the same order."""
    assert said(after) == difference(definitions(upper_half(before)), definitions(upper_half(after)))


def test_the_criterion_sees_what_is_not_said():
    before = definitions('"""Doc."""\nclass A:\n    def f(self):\n        return 1\n\ndef g():\n    return 2\n')
    after = definitions(
        '"""Doc."""\nimport os\nclass A:\n    x = 1\n    def f(self):\n        return 2\n\nclass B:\n    y = 1\n'
    )
    wanted = {"New": {"os", "A.x", "B"}, "Changed": {"A.f"}, "Gone": {"g"}}
    assert difference(before, after) == wanted


@pytest.mark.parametrize("number", FILES)
def test_every_step_has_the_same_form(number):
    text = FILES[number].read_text(encoding="utf-8")
    doc = ast.get_docstring(ast.parse(text))
    assert re.match(rf"Step {number}\. [A-Z][^\n]+\.\n\nQuestion: .+\?\n\n", doc)
    assert re.search(r"^Look at: ", doc, re.MULTILINE)
    assert len(doc.splitlines()) <= 45
    assert re.search(r"\n# Exercise: .+(\n# .+)*\n# Hint: .+(\n# .+)*\n\Z", text)
    if number <= 22:
        modules = {
            name.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for name in node.names
        }
        assert not re.search(r"^\s*(from|import) (dezero|road)", text, re.MULTILINE)
        assert modules - {*sys.stdlib_module_names} == {"numpy"}


# ----------------------------------------------------------------------------------------------------------------------
# Where the road leads
# ----------------------------------------------------------------------------------------------------------------------


def load(number):
    """Return the core of a step as a module."""
    module = types.ModuleType(f"step{number:02}")
    exec(compile(upper_half(number), str(FILES[number]), "exec"), vars(module))
    return module


def bare(text):
    """Return what a module does: its statements without docstrings, annotations and what only those need."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            has_doc = ast.get_docstring(node) is not None
            node.body = [part for part in node.body[has_doc:] if not isinstance(part, ast.AnnAssign) or part.value]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in [*node.args.args, *filter(None, [node.args.vararg])]:
                argument.annotation = None
    return [
        line for part in tree.body for line in re.sub(r": Any = |: [\w |]+ = ", " = ", ast.unparse(part)).split("\n")
    ]


TYPES_ALONE = {"from __future__ import annotations", "from collections.abc import Iterator", "from typing import Any"}


def test_step_22_is_core_simple_without_its_types():
    text = Path(core_simple.__file__).read_text(encoding="utf-8")
    there = [line for line in bare(text) if line not in TYPES_ALONE]
    start = there.index("def setup_variable():")  # old programs call it; it does nothing
    assert there[start + 1].startswith(("class", "def"))
    assert bare(upper_half(22)) == there[:start] + there[start + 1 :]


def sphere(x, y):
    return x**2 + y**2


def matyas(x, y):
    return 0.26 * (x**2 + y**2) - 0.48 * x * y


def goldstein_price(x, y):
    return (1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2)) * (
        30 + (2 * x - 3 * y) ** 2 * (18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2)
    )


def quotients(x, y):
    return -x / y + 3.0 / x - (2.0 - y) / (x - 1.0) ** 3 + np.array(2.0) * x


def branches(x, y):
    a = x * y
    b = a * a
    return (a + b * b) * (b - a) + y + y


PROGRAMS = [sphere, matyas, goldstein_price, quotients, branches]
STARTS = [(1.5, 0.5), ([0.3, 2.0, -1.0], [1.0, -2.0, 0.7])]


def value_and_gradients(module, f, start):
    x, y = (module.Variable(np.array(v)) for v in start)
    z = f(x, y)
    z.backward()
    return z.data, *(v.grad if isinstance(v.grad, np.ndarray | np.generic) else v.grad.data for v in (x, y))


@pytest.mark.parametrize("f", PROGRAMS)
@pytest.mark.parametrize("start", STARTS, ids=["numbers", "arrays"])
def test_the_cores_agree_on_values_and_gradients(f, start):
    step, simple, full = (value_and_gradients(module, f, start) for module in (load(22), core_simple, core))
    for mine, same, wanted in zip(step, simple, full, strict=True):
        np.testing.assert_array_equal(mine, same)  # the same operations in the same order: the same bits
        np.testing.assert_allclose(mine, wanted, rtol=1e-12)


def derivatives(module, f, start, orders):
    """Return z, and the first derivatives, then those of their sums, each derived from the one before."""
    x, y = (module.Variable(np.array(v)) for v in start)
    z, found = f(x, y), []
    for _ in range(orders):
        x.cleargrad()
        y.cleargrad()
        z.backward(create_graph=True)
        found += [x.grad.data, y.grad.data]
        z = x.grad * 2.0 + y.grad
    return found


@pytest.mark.parametrize("f", PROGRAMS)
@pytest.mark.parametrize("start", STARTS, ids=["numbers", "arrays"])
def test_the_core_of_step_32_agrees_with_the_full_one_on_higher_derivatives(f, start):
    mine, wanted = (derivatives(module, f, start, orders=2) for module in (load(32), core))
    for gx, gx_core in zip(mine, wanted, strict=True):
        np.testing.assert_allclose(gx, gx_core, rtol=1e-9, atol=1e-9)


def test_the_core_of_step_32_is_recognisably_the_full_one():
    step = load(32)
    for name in definitions(upper_half(32)):
        owner, _, method = name.rpartition(".")
        there = getattr(core, owner) if owner else core
        if method in ("contextlib", "heapq", "itertools", "weakref", "np", "numpy", "__array_ufunc__"):
            continue
        assert hasattr(there, method), name
    mine, full = (inspect.signature(module.Variable.backward) for module in (step, core))
    assert [*mine.parameters] == [*full.parameters]


def test_the_table_of_the_road_asks_what_the_steps_ask():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\d+)\]\(step(\d\d)\.py\) \| (.+?) \| .+ \| .+ \|$", text, re.MULTILINE)
    asked = {n: re.search(r"^Question: (.+)$", path.read_text(encoding="utf-8"), re.M)[1] for n, path in FILES.items()}
    assert [(int(number), int(file)) for number, file, _ in listed] == [(n, n) for n in FILES]
    assert {int(number): question for number, _, question in listed} == asked


# ----------------------------------------------------------------------------------------------------------------------
# What steps 37 to 51 teach is what dezero does
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def taught(monkeypatch):
    """Return a function that gives a step's upper half as a module; road.py is found meanwhile."""
    monkeypatch.syspath_prepend(FOLDER)
    return load


def normal(*shape):
    return np.random.RandomState(sum(shape)).randn(*shape)


LABELS = np.array([0, 3, 1, 1, 2])
OPERATIONS = [
    (38, "reshape", [normal(2, 6)], {"shape": (3, 4)}),
    (38, "transpose", [normal(2, 6)], {}),
    (38, "transpose", [normal(2, 3, 4, 5)], {"axes": (0, 3, 1, 2)}),
    (38, "transpose", [normal(2, 3, 4)], {"axes": (1, 2, 0)}),
    (39, "sum", [normal(2, 3)], {}),
    (39, "sum", [normal(2, 3, 4)], {"axis": 1}),
    (39, "sum", [normal(2, 3)], {"axis": 0, "keepdims": True}),
    (40, "broadcast_to", [normal(3)], {"shape": (2, 3)}),
    (40, "broadcast_to", [normal(2, 1, 4)], {"shape": (5, 2, 3, 4)}),
    (40, "sum_to", [normal(2, 3, 4)], {"shape": (3, 1)}),
    (40, "sum_to", [normal(2, 3)], {"shape": (2, 3)}),
    (40, "sum_to", [normal(2, 3)], {"shape": ()}),
    (41, "matmul", [normal(5, 3), normal(3, 2)], {}),
    (42, "mean_squared_error", [normal(5, 2), normal(5, 2) + 1], {}),
    (42, "mean_squared_error_simple", [normal(5, 2), normal(5, 2) + 1], {}),
    (43, "linear", [normal(5, 3), normal(3, 2), normal(2)], {}),
    (43, "sigmoid", [normal(5, 3)], {}),
    (47, "get_item", [normal(5, 3)], {"slices": (slice(1, 4), 2)}),
    (47, "get_item", [normal(5, 3)], {"slices": [0, 2, 2, 4]}),
    (47, "softmax", [3 * normal(5, 4)], {}),
    (47, "softmax_cross_entropy", [3 * normal(5, 4)], {"t": LABELS}),
    (47, "softmax_cross_entropy_simple", [3 * normal(5, 4)], {"t": LABELS}),
]


@pytest.mark.parametrize(("number", "name", "arrays", "options"), OPERATIONS)
def test_an_operation_taught_is_that_of_F(taught, number, name, arrays, options):
    """The value, the gradients, and what is derived from the gradients once more."""
    mine, wanted = (
        values_and_derivatives(getattr(module, name), arrays, options) for module in (taught(number), dezero.functions)
    )
    for a, b in zip(mine, wanted, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def values_and_derivatives(f, arrays, options):
    xs = [dezero.Variable(x.copy()) for x in arrays]
    y = f(*xs, **options)
    gxs = dezero.grad((y**2 * weights_like(y)).sum(), xs, create_graph=True)  # squared: no second order is all zeros
    second = dezero.grad(sum((gx * weights_like(gx)).sum() for gx in gxs), xs)
    return [v.data for v in (y, *gxs, *second)]


def weights_like(v):
    return np.random.RandomState(v.size).randn(*v.shape)


OFFERED = {
    **dict.fromkeys((38, 39, 40, 41, 42, 43, 47), (dezero.functions,)),
    **dict.fromkeys((44, 45), (dezero.layers, dezero.models)),
    46: (dezero.optimizers,),
    49: (dezero.datasets,),
    50: (dezero.dataloaders,),
}
HELPERS = {39: {"kept_shape"}, 40: {"sum_array_to"}, 43: {"network"}}


@pytest.mark.parametrize("number", OFFERED)
def test_what_is_taught_has_the_same_name_in_dezero(number):
    body = ast.parse(upper_half(number)).body
    names = {node.name for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    offered = {name for name in names if any(hasattr(module, name) for module in OFFERED[number])}
    assert offered
    assert names - offered == HELPERS.get(number, set())


def after_seed(make):
    np.random.seed(3)
    return make()


X = normal(7, 4).astype(np.float32)


@pytest.mark.parametrize("number", [44, 45])
def test_a_Linear_taught_is_that_of_L(taught, number):
    step = taught(number)
    mine, theirs = step.Linear(3), dezero.layers.Linear(3)
    assert mine.W.data is theirs.W.data is None
    for a, b in ((after_seed(lambda layer=layer: layer(X)) for layer in (mine, theirs)) for _ in range(2)):
        np.testing.assert_array_equal(a.data, b.data)
        for y in (a, b):
            (y**2).sum().backward()  # the second round adds to the gradients of the first
    assert [param.name for param in mine.params()] == [param.name for param in theirs.params()] == ["W", "b"]
    for a, b in zip(mine.params(), theirs.params(), strict=True):
        assert isinstance(a, step.Parameter)
        assert a.data.dtype == b.data.dtype == np.float32
        np.testing.assert_allclose(a.grad.data, b.grad.data, rtol=1e-5)
    mine.cleargrads()
    assert all(param.grad is None for param in mine.params())


def test_an_MLP_taught_is_that_of_models(taught):
    step = taught(45)
    mine, theirs = step.MLP((5, 6, 3), dezero.functions.tanh), dezero.models.MLP((5, 6, 3), dezero.functions.tanh)
    np.testing.assert_array_equal(after_seed(lambda: mine(X)).data, after_seed(lambda: theirs(X)).data)
    assert [name for name, _ in mine.named_params()] == [name for name, _ in theirs.named_params()]
    assert [p.shape for p in mine.params()] == [p.shape for p in theirs.params()]
    mine(X).sum().backward()
    mine.cleargrads()
    assert all(param.grad is None for param in mine.params())


@pytest.mark.parametrize(
    ("name", "options"), [("SGD", {"lr": 0.3}), ("MomentumSGD", {"lr": 0.1, "momentum": 0.8}), ("Adam", {"alpha": 0.1})]
)
def test_an_optimizer_taught_is_that_of_optimizers(taught, name, options):
    models = []
    for module in (taught(46), dezero.optimizers):
        model = dezero.models.MLP((5, 3))
        after_seed(lambda model=model: model(X))
        optimizer = getattr(module, name)(**options).setup(model)
        optimizer.add_hook(module.WeightDecay(0.01))
        for _ in range(4):
            model.cleargrads()
            (model(X) ** 2).sum().backward()
            model.l1.b.cleargrad()  # a parameter without a gradient stays where it is
            optimizer.update()
        models.append(model)
    assert not models[0].l1.b.data.any()
    for a, b in zip(*(model.params() for model in models), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-5, atol=1e-6)


def squares(Dataset):
    class Squares(Dataset):
        def prepare(self):
            self.data = np.arange(11.0) + (0 if self.train else 100)
            self.label = (self.data**2).astype(int)

    return Squares


@pytest.mark.parametrize("options", [{}, {"train": False}, {"transform": lambda x: x / 2, "target_transform": str}])
def test_a_Dataset_taught_is_that_of_datasets(taught, options):
    mine, theirs = (squares(kind)(**options) for kind in (taught(49).Dataset, dezero.Dataset))
    assert len(mine) == len(theirs) == 11
    assert [mine[i] for i in range(11)] == [theirs[i] for i in range(11)]
    for a, b in zip(mine.batch([3, 0, 3]), theirs.batch([3, 0, 3]), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_DataLoader_taught_is_that_of_dataloaders(taught, shuffle):
    def epochs(kind):
        loader = kind(squares(dezero.Dataset)(), 4, shuffle=shuffle)
        return len(loader), [[(x.tolist(), t.tolist()) for x, t in loader] for _ in range(3)]

    mine, theirs = (after_seed(lambda kind=kind: epochs(kind)) for kind in (taught(50).DataLoader, dezero.DataLoader))
    assert mine == theirs
    assert mine[0] == 3
    assert (mine[1][0] == mine[1][1]) is not shuffle


def test_a_table_of_estimates_is_the_jacobian(taught):
    step = taught(37)
    for f in (step.wave, lambda x: dezero.functions.matmul(x, np.arange(6.0).reshape(3, 2))):
        x = normal(2, 3)
        table = step.jacobian(f, x)
        wanted = dezero.jacobian(f, dezero.Variable(x)).data
        np.testing.assert_allclose(table, wanted.reshape(table.shape), rtol=1e-6, atol=1e-6)


TRAINING = (42, 43, 44, 45, 46, 48, 49, 50, 51, 53, 54, 57, 59, 60)
TOO_LARGE = (52, 58)  # for a stand-in
SHORTER = (  # one or two iterations are enough to see where the arrays are
    (r"range\((201|5001|1000|60)\)", "range(2)"),
    (r"max_epoch = \d+", "max_epoch = 1"),
    (r"(optimizer|\(forgetful\)), 200\)", r"\1, 2)"),
    (r"range\(1, 61\)", "range(1, 2)"),
    (r"1001\)", "301)"),
    (r"epoch % 20 == 0|epoch in \(10, 30, 60\)", "True"),
    (r"\bMNIST\((.*?)\)(?=[,\n])", r"datasets.hold_out(MNIST(\1), 200)[1]"),
)


def test_steps_that_train_take_gpu():
    took = [n for n in range(37, 61) if "gpu=True" in FILES[n].read_text(encoding="utf-8")]
    assert took == sorted(TRAINING + TOO_LARGE)


@pytest.mark.parametrize("number", TRAINING)
def test_it_trains_on_the_gpu(simulated, number, monkeypatch, tmp_path, capsys):
    """On the stand-in for CuPy, and but for its first iterations."""
    text = FILES[number].read_text(encoding="utf-8")
    for pattern, shorter in SHORTER:
        text = re.sub(pattern, shorter, text)
    began_at = []
    backward = dezero.Variable.backward
    monkeypatch.setattr(dezero.Variable, "backward", lambda v: (began_at.append(type(v.data)), backward(v)))
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(sys, "argv", [str(FILES[number]), "--gpu", "--save", str(tmp_path)])
    exec(compile(text, str(FILES[number]), "exec"), {"__name__": "__main__", "__doc__": ""})
    assert simulated.cupy.ndarray in began_at
    assert " = " in capsys.readouterr().out


def sections(text):
    """Return the rows of each table by the numbers in its heading: {(1, 10): {1: (file, what is new), ...}, ...}."""
    found = {}
    for part in text.split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        rows = re.findall(r"^\| \[(\d+)\]\((\S+)\) \| .+? \| (.+) \| .+ \|$", body, re.MULTILINE)
        numbers = re.match(r"(\d+)(?: to |~)(\d+)\.", heading)
        if numbers:
            assert len(rows) == len(re.findall(r"^\|", body, re.MULTILINE)) - 2, heading
            found[int(numbers[1]), int(numbers[2])] = {int(number): (file, new) for number, file, new in rows}
    return found


def test_the_korean_table_has_the_rows_of_the_english_one():
    english, korean = (sections((FOLDER / name).read_text(encoding="utf-8")) for name in ("README.md", "README.ko.md"))
    assert [number for rows in korean.values() for number in rows] == list(range(1, 61))
    for numbers, rows in english.items():
        for number, (file, new) in rows.items():
            its_file, its_new = korean[numbers][number]
            assert its_file == file
            assert sorted(re.findall(r"`.+?`", its_new)) == sorted(re.findall(r"`.+?`", new)), f"step {number}"
    for (first, last), rows in korean.items():
        assert list(rows) == list(range(first, last + 1))


def test_both_texts_about_the_road_have_the_same_commands_and_links():
    english, korean = ((FOLDER / name).read_text(encoding="utf-8") for name in ("README.md", "README.ko.md"))
    walk, its_walk = (text.partition("\n## ")[0] for text in (english, korean))
    for pattern in (r"```sh\n.+?```", r"(?<!`)`[^`\n]+`(?!`)", r"^- "):
        assert sorted(re.findall(pattern, walk, re.M | re.S)) == sorted(re.findall(pattern, its_walk, re.M | re.S))
    links, its_links = ({*re.findall(r"\]\((.+?)\)", text)} for text in (walk, its_walk))
    assert links - {"README.ko.md"} == its_links - {"README.md"}
    assert all((FOLDER / link).exists() for link in links | its_links)


# What steps 52 to 60 teach is what dezero does
# ----------------------------------------------------------------------------------------------------------------------


def check_same(f, g, *arrays):
    """Raise unless f and g give the same values, gradients, and what is derived from the gradients once more."""
    for a, b in zip(*(values_and_derivatives(function, arrays, {}) for function in (f, g)), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_a_softplus_taught_is_that_of_F_on_any_device(taught, gpu):
    step = taught(52)
    check_same(step.softplus, dezero.functions.softplus, 3 * normal(3, 4))
    x = np.float32([-1000, 0, 1000])
    for array in (x, gpu.to(x)):
        y = step.softplus(dezero.Variable(array))
        y.backward()
        np.testing.assert_allclose(gpu.back(y.data), [0, np.log(2), 1000], rtol=1e-6)
        assert (type(y.data), y.dtype) == (type(array), np.float32)


def test_an_update_made_on_a_gpu_is_that_of_the_cpu(taught, simulated):
    def losses(send):
        np.random.seed(0)
        model = dezero.models.MLP((5, 3), activation=step.softplus)
        if send is not None:
            model.to_gpu()
        train = step.make_train(model, dezero.optimizers.Adam(0.1).setup(model))
        x, t = np.float32(normal(6, 4)), np.arange(6) % 3
        return [float(train(*((x, t) if send is None else (send(x), send(t)))).data) for _ in range(4)]

    step = taught(52)
    on_cpu, on_gpu = losses(None), losses(simulated.to)
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-5)
    assert on_cpu[-1] < on_cpu[0]


def test_weights_saved_and_loaded_as_taught_are_those_of_dezero(taught, tmp_path):
    step = taught(53)

    def made(*sizes):
        model = dezero.models.MLP(sizes)
        model(normal(2, 4))
        return model

    model = made(5, 3)
    step.save_weights(model, tmp_path / "mine.npz")
    model.save_weights(tmp_path / "theirs.npz")
    for load_weights in (step.load_weights, dezero.serializers.load_weights):
        for name in ("mine.npz", "theirs.npz"):
            for other in (made(5, 3), dezero.models.MLP((5, 3))):
                load_weights(other, tmp_path / name)
                np.testing.assert_array_equal(other(normal(2, 4)).data, model(normal(2, 4)).data)
    for sizes, said in (((5, 2), "l1/W has shape"), ((5,), "not in both: l1/W, l1/b"), ((5, 3, 3), "l2/W, l2/b")):
        other = made(*sizes)
        before = [param.data.copy() for param in other.params()]
        with pytest.raises(ValueError, match=said):
            step.load_weights(other, tmp_path / "mine.npz")
        for param, data in zip(other.params(), before, strict=True):
            np.testing.assert_array_equal(param.data, data)


def test_a_dropout_taught_is_that_of_F(taught):
    mine = taught(54).dropout
    for ratio in (0.0, 0.3, 0.9):
        for x in (normal(7, 5), np.float32(normal(7, 5))):
            ys = []
            for f in (mine, dezero.functions.dropout):
                np.random.seed(1)
                v = dezero.Variable(x)
                y = f(v, ratio)
                y.backward()
                ys.append((y.data, v.grad.data))
                with dezero.test_mode():
                    assert f(v, ratio).data is x
            for a, b in zip(*ys, strict=True):
                assert a.dtype == b.dtype == x.dtype
                np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize(("H", "W", "KH", "KW"), [(4, 4, 3, 3), (5, 4, 2, 3), (3, 6, 3, 1), (4, 4, 4, 4)])
def test_an_im2col_of_one_image_is_that_of_F(taught, H, W, KH, KW):
    step, F = taught(55), dezero.functions
    x, kernel = normal(H, W), normal(KH, KW)
    check_same(lambda x: step.im2col(x, KH, KW), lambda x: F.im2col(x.reshape(1, 1, H, W), (KH, KW)), x)

    def theirs(x, kernel):
        return F.conv2d(x.reshape(1, 1, H, W), kernel.reshape(1, 1, KH, KW))[0, 0]

    check_same(step.convolve, theirs, x, kernel)


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (2, 0), (1, 2), (3, 1)])
@pytest.mark.parametrize("kernel_size", [(3, 2), (1, 4)])
def test_an_im2col_of_batches_is_that_of_F(taught, kernel_size, stride, pad):
    mine = taught(56).im2col
    options = kernel_size, stride, pad
    check_same(lambda x: mine(x, *options), lambda x: dezero.functions.im2col(x, *options), normal(2, 3, 6, 7))


def test_places_are_counted_as_the_formula_says(taught):
    step = taught(56)
    assert step.places(5, 3, 2, 1) == [-1, 1, 3]
    assert step.places(6, 3, 2, 0) == [0, 2]
    for case in ((9, 4, 3, 2), (1, 1, 1, 0), (12, 5, 4, 3)):
        assert step.outsize(*case) == len(step.places(*case)) == dezero.utils.get_conv_outsize(*case)


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (2, 1)])
def test_a_convolution_and_a_pooling_taught_are_those_of_F(taught, stride, pad):
    step, F = taught(57), dezero.functions
    x, W, b = normal(2, 3, 5, 6), normal(4, 3, 3, 2), normal(4)
    check_same(
        lambda x, W, b: step.conv2d(x, W, b, stride, pad), lambda x, W, b: F.conv2d(x, W, b, stride, pad), x, W, b
    )
    x = 5 + normal(2, 3, 6, 7)  # above 0, which padding is in one of them
    check_same(lambda x: step.pooling(x, 3, stride, pad), lambda x: F.pooling(x, 3, stride, pad), abs(x))


def test_a_Conv2d_taught_is_that_of_L(taught):
    step = taught(57)
    ys = []
    for kind in (step.Conv2d, dezero.layers.Conv2d):
        np.random.seed(2)
        layer = kind(4, 3, stride=2, pad=1)
        assert layer.W.data is None
        assert layer.b.data.tolist() == [0, 0, 0, 0]
        layer.b.data = np.float32(normal(4))
        ys.append((layer(np.float32(normal(2, 3, 7, 7))), layer))
    (y, mine), (z, theirs) = ys
    assert y.dtype == z.dtype == np.float32
    np.testing.assert_array_equal(mine.W.data, theirs.W.data)
    np.testing.assert_allclose(y.data, z.data, rtol=1e-4, atol=1e-5)
    assert [name for name, _ in mine.named_params()] == [name for name, _ in theirs.named_params()] == ["W", "b"]


def test_a_VGG16_taught_has_the_parts_of_that_of_models_and_takes_the_same_images(taught):
    step, theirs = taught(58), dezero.models.VGG16()
    assert [name for name, _ in step.VGG16().named_params()] == [name for name, _ in theirs.named_params()]
    image = np.random.RandomState(0).randint(256, size=(5, 4, 3)).astype(np.uint8)
    pictures = pytest.importorskip("PIL.Image", reason="preprocess takes Pillow's images")
    wanted = theirs.preprocess(pictures.fromarray(image), size=None)
    x = step.preprocess(image)
    assert x.dtype == wanted.dtype == np.float32
    np.testing.assert_allclose(x, wanted, rtol=1e-6)


@pytest.mark.parametrize(("number", "name"), [(59, "RNN"), (60, "LSTM")])
def test_a_recurrent_layer_taught_is_that_of_L(taught, number, name):
    """Three places and the way back through all of them, twice, with the state forgotten in between."""
    mine, theirs = getattr(taught(number), name)(4), getattr(dezero.layers, name)(4)
    xs = [np.float32(normal(5, 3) + place) for place in range(3)]
    for layer in (mine, theirs):
        for x in xs:
            layer(x)  # makes the parameters
        layer.reset_state()
        assert layer.h is None
    params = dict(theirs.named_params())
    assert params.keys() == dict(mine.named_params()).keys()
    for key, param in mine.named_params():
        params[key].data = param.data.copy()
    for _ in range(2):
        for layer in (mine, theirs):
            layer.reset_state()
            sum((layer(x) ** 2).sum() for x in xs).backward()
        np.testing.assert_allclose(mine.h.data, theirs.h.data, rtol=1e-5, atol=1e-6)
        for key, param in mine.named_params():
            np.testing.assert_allclose(param.grad.data, params[key].grad.data, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number", [59, 60])
def test_a_chain_is_cut_where_an_update_is_made(taught, number):
    step = taught(number)
    lengths = []

    class Counting(dezero.optimizers.SGD):
        def update(self):
            y, t = model.recurrent.h, 0
            while y.creator is not None:
                y, t = y.creator.inputs[0], t + 1
            lengths.append(t)
            super().update()

    model = step.Network(dezero.layers.RNN(3))
    pairs = [(np.float32([i / 10]), np.float32([(i + 1) / 10])) for i in range(7)]
    loss = step.train_epoch(model, Counting(0.0).setup(model), dezero.DataLoader(pairs, 1, shuffle=False), length=3)
    assert lengths == [0, 0, 0]  # three updates, each behind a cut
    model.recurrent.reset_state()
    wanted = np.mean([float(((model(x[np.newaxis]) - t) ** 2).sum().data) for x, t in pairs])
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)


@pytest.mark.parametrize(("size", "batch_size"), [(10, 1), (10, 3), (12, 4), (5, 5)])
def test_a_SeqDataLoader_taught_is_that_of_dataloaders(taught, size, batch_size):
    class Counting(dezero.Dataset):
        def prepare(self):
            self.data, self.label = np.arange(size), np.arange(size) + 1

    mine = taught(60).SeqDataLoader(Counting(), batch_size)
    theirs = dezero.SeqDataLoader(Counting(), batch_size)
    assert len(mine) == len(theirs)
    epochs = [[[(x.tolist(), t.tolist()) for x, t in loader] for _ in range(2)] for loader in (mine, theirs)]
    assert epochs[0] == epochs[1]
    assert epochs[0][0] == epochs[0][1]
    assert next(mine)[0].tolist() == epochs[0][0][0][0]  # it began anew by itself
