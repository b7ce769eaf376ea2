"""Beyond. An operation of your own.

Question: What does it take to add an operation to dezero, and to know that it is right?

One class, one function, one row (CONTRIBUTING.md). The operation of this file is not in the package:

    y = hypot(x0, x1) = sqrt(x0 ** 2 + x1 ** 2)        dy/dx0 = x0 / y        dy/dx1 = x1 / y

the length of the way from the origin to (x0, x1). It could be made of F.sqrt and squares, but the square of a large
number is too large: in float32, which ends at 3.4e38, a length of 1e20 comes out as inf. NumPy has a hypot that is
careful. So forward calls that, and backward is written with Variables, so that it can be derived again. Broadcasting,
dtypes, devices and switched-off graphs are the business of the core: nothing has to be done for them.

A derivative is checked in two ways. check_grads compares gradients of any order with what small steps in x give. The
row of the table in tests/operations says what there is to know of the operation, in one line, and from that follow
tests of values, dtypes, memory layouts, gradients of three orders, PyTorch's results and errors. To show that the tests
can fail, they meet a second version here whose backward has lost its graph.

To make this part of the package, hypot and Hypot would go into dezero/functions_elementwise.py, and the row into
tests/operations/elementwise.py. What it is good for: a ship measures its distances to three lighthouses, and Newton's
method (step 33) finds the place on the map where the distances fit.

New: a Function of your own, dezero.testing.check_grads, the table of operations, dezero.hessian
Look at: which tests the wrong version fails. Its values are right, and its first gradients.
"""

import inspect
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where road.py is
from road import ROOT, read_options, show

import numpy as np

import dezero
import dezero.functions as F
from dezero import Function, Variable, cuda
from dezero.core import check_broadcast
from dezero.testing import check_grads


class Hypot(Function):
    def forward(self, x0, x1):
        check_broadcast("hypot", x0, x1)  # shapes that do not fit are named in the words of all operations
        return cuda.get_array_module(x0).hypot(x0, x1)

    def backward(self, gy):
        x0, x1 = self.inputs
        y = self.outputs[0]()
        y = F.where(y.data == 0, 1.0, y)  # at the origin there is no slope; 0 stands for it, and not 0 / 0
        return gy * (x0 / y), gy * (x1 / y)


def hypot(x0, x1):
    """y = sqrt(x0^2 + x1^2) without overflow, elementwise, broadcasting; at the origin the gradient is 0.

    >>> hypot(np.array([3.0, 0.0]), np.array([4.0, 2.0]))
    variable([5. 2.])
    """
    return Hypot()(x0, x1)


class WrongHypot(Hypot):
    operation = "hypot"

    def backward(self, gy):
        x0, x1 = (x.data for x in self.inputs)  # arrays: the way on from here is lost
        y = self.outputs[0]().data
        return gy * (x0 / y), gy * (x1 / y)


def wrong_hypot(x0, x1):
    return WrongHypot()(x0, x1)


class Counter:
    """A plugin of pytest that counts how often each test passed and failed."""

    def __init__(self):
        self.counts = {}

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.rpartition("::")[2].partition("[")[0]
            count = self.counts.setdefault(name, {"passed": 0, "failed": 0, "skipped": 0})
            count[report.outcome] += 1


def make_row():
    """The row, as it would stand in tests/operations/elementwise.py."""
    from operations.row import binary

    return binary("hypot", np.hypot, torch="hypot")


def run_the_row(function):
    """Run tests/test_operations.py on one row, with `function` as F.hypot. Returns the counts of each test."""
    import pytest

    for folder in (ROOT, ROOT / "tests"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    from operations import TABLE

    TABLE["hypot"] = make_row()
    F.hypot = function  # in this program alone
    counter = Counter()
    quiet = ["-p", "no:terminal", "-p", "no:cacheprovider", "-o", "addopts="]
    pytest.main([*quiet, "-k", "hypot", str(ROOT / "tests" / "test_operations.py")], plugins=[counter])
    return counter.counts


# Demonstration --------------------------------------------------------------------------------------------------------

options = read_options(__doc__)
x0, x1 = Variable(np.array([3.0, -5.0])), Variable(np.array([4.0, 12.0]))
y = hypot(x0, x1)
y.backward()
print(f"hypot(x0, x1) = {y.data}, dy/dx0 = {x0.grad.data}, dy/dx1 = {x1.grad.data.round(6)}")

large = np.array([3e20], np.float32)
with np.errstate(over="ignore"):
    naive = F.sqrt(F.square(large) + F.square(large)).data[0]
print(f"of squares, in float32 = {naive}, hypot = {hypot(large, large).data[0]:.6e}")
origin = Variable(np.array(0.0))
hypot(origin, 0.0).backward()
print(f"gradient at the origin = {origin.grad.data}")

a, b = np.array([[0.5, -1.0, 2.0]]), np.array([[1.5], [-0.4]])  # (1, 3) and (2, 1): they broadcast
check_grads(hypot, a, b, order=3)
print("check_grads finds the gradients of three orders right = True")
check_grads(wrong_hypot, a, b, order=1)
try:
    check_grads(wrong_hypot, a, b, order=2)
except AssertionError as error:
    print(f"the wrong version: {error}")
for bad in ((np.zeros((2, 3)), np.zeros(2)), ([3.0], np.array(4.0))):
    try:
        hypot(*bad)
    except (TypeError, ValueError) as error:
        print(f"{type(error).__name__}: {error}")

print(f"the row: {inspect.getsource(make_row).rpartition('return ')[2].strip()}")
try:
    right, wrong = run_the_row(hypot), run_the_row(wrong_hypot)
except ImportError as error:
    print(f'the row runs with the tests of a checkout alone ({error}); pip install -e ".[test]"')
else:
    passed, failed = (sum(count[outcome] for count in right.values()) for outcome in ("passed", "failed"))
    print(f"tests that follow from the row = {len(right)}, cases passed = {passed}, failed = {failed}")
    for name, count in wrong.items():
        if count["failed"]:
            print(f"the wrong version, {name}: failed = {count['failed']} of {sum(count.values())}")

lights = np.array([[1.0, 1.0], [9.0, 2.0], [4.0, 8.0]])
ship = np.array([6.0, 4.5])
distances = np.hypot(*(lights - ship).T)  # what the ship measures


def misfit(place):
    """Say how badly a place disagrees with the distances that were measured: (2,) -> one number."""
    return ((hypot(place[0] - lights[:, 0], place[1] - lights[:, 1]) - distances) ** 2).sum()


place = np.array([9.5, 6.5])  # a guess, not too far away: Newton's method may leap
way = [place]
for i in range(5):
    value, slope = dezero.vjp(misfit, place)  # misfit(place) and its gradient
    print(f"iteration {i}: place = ({place[0]:.6f}, {place[1]:.6f}), misfit = {float(value.data):.1e}")
    place = place - np.linalg.solve(dezero.hessian(misfit, place).data, slope.data)
    way.append(place)
print(f"distance from the ship = {float(hypot(*(place - ship)).data):.6f}")

columns, rows = np.meshgrid(np.linspace(-1, 11, 121), np.linspace(-1, 9.5, 106))
with dezero.no_grad():
    away = hypot(columns[..., None] - lights[:, 0], rows[..., None] - lights[:, 1])
    misfits = ((away - distances) ** 2).sum(axis=2).data


def draw(figure):
    axes = figure.subplots()
    axes.contourf(columns, rows, misfits, levels=[0, 1, 3, 6, 10, 20, 40, 80, 160], cmap="Blues_r", alpha=0.7)
    angle = np.linspace(0, 2 * np.pi, 200)
    for (x, y), distance in zip(lights, distances, strict=True):
        axes.plot(x + distance * np.cos(angle), y + distance * np.sin(angle), color="black", linewidth=0.8)
    axes.plot(*lights.T, "*", color="gold", markeredgecolor="black", markersize=18, label="lighthouses")
    axes.plot(*np.transpose(way), "o-", color="tab:orange", label="Newton's method")
    axes.plot(*ship, "x", color="tab:red", markersize=12, markeredgewidth=3, label="the ship")
    axes.set(title="Where three distances fit: dark is a small misfit", xlabel="x", ylabel="y", aspect="equal")
    axes.set(xlim=(-1, 11), ylim=(-1, 9.5))
    axes.legend(loc="lower left")


show("own_operation_lighthouses", draw, size=(8, 7))

# Exercise: write the operation atan2, the angle of (x0, x1), with NumPy's arctan2, and its row.
# Hint: dy/dx0 = x1 / (x0 ** 2 + x1 ** 2), dy/dx1 = -x0 / (x0 ** 2 + x1 ** 2), torch="arctan2".
