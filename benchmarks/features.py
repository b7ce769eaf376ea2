"""What a framework can do: README's table of features, one column a run.

    python benchmarks/features.py dezero            # or chainer, torch, tinygrad, autograd, micrograd

Run it with the Python that has the framework. Third derivatives, along a direction V, are held against differences of
values: a quotient near 1 is right. The published dezero runs too, as "dezero", with its own Python; it needs
`np.int`, which NumPy has no more, and gets it here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

SOURCE = np.random.RandomState(0)
X, W, V, U = (SOURCE.randn(*shape) for shape in [(2, 2, 6, 6), (3, 2, 3, 3), (2, 2, 6, 6), (3, 2, 3, 3)])
TOO_MANY = np.zeros((1, 3, 8, 8), np.float32), np.zeros((4, 2, 3, 3), np.float32)
STEP = 2e-3


class Framework(NamedTuple):
    """What the questions need: an array as a variable, a gradient that can be derived again, and some operations."""

    variable: Callable[[Any], Any]
    grad: Callable[[Any, Any], Any]
    value: Callable[[Any], Any]
    sin: Any
    tanh: Any
    sum: Any
    conv: Any = None  # (x, W), padded by 1
    pool: Any = None  # 2x2


def of_dezero() -> Framework:
    if not hasattr(np, "int"):
        np.int = int  # type: ignore[attr-defined]
    import dezero
    import dezero.functions as F

    def grad(y: Any, x: Any) -> Any:
        x.cleargrad()
        y.backward(create_graph=True)
        gx, x.grad = x.grad, None
        return gx

    def conv(x: Any, W: Any) -> Any:
        return F.conv2d(x, W, None, 1, 1)

    def pool(x: Any) -> Any:
        return F.pooling(x, 2, 2)

    return Framework(lambda x: dezero.Variable(np.array(x)), grad, lambda y: y.data, F.sin, F.tanh, F.sum, conv, pool)


def of_chainer() -> Framework:
    import chainer
    import chainer.functions as F

    return Framework(
        lambda x: chainer.Variable(np.array(x)),
        lambda y, x: chainer.grad([y], [x], enable_double_backprop=True)[0],
        lambda y: y.array,
        F.sin,
        F.tanh,
        F.sum,
        lambda x, W: F.convolution_2d(x, W, pad=1),
        lambda x: F.max_pooling_2d(x, 2, 2),
    )


def of_torch() -> Framework:
    import torch
    import torch.nn.functional as F

    return Framework(
        lambda x: torch.tensor(np.array(x), requires_grad=True),
        lambda y, x: torch.autograd.grad(y, x, create_graph=True)[0],
        lambda y: y.detach().numpy(),
        torch.sin,
        torch.tanh,
        torch.sum,
        lambda x, W: F.conv2d(x, W, padding=1),
        lambda x: F.max_pool2d(x, 2),
    )


def of_tinygrad() -> Framework:
    from tinygrad import Tensor

    return Framework(
        lambda x: Tensor(np.array(x)),
        lambda y, x: y.gradient(x)[0],
        lambda y: y.numpy(),
        lambda x: x.sin(),
        lambda x: x.tanh(),
        lambda x: x.sum(),
        lambda x, W: x.conv2d(W, padding=1),
        lambda x: x.max_pool2d((2, 2)),
    )


class Questions:
    """Each method is a question, its docstring's first words the row."""

    def __init__(self, framework: Framework) -> None:
        self.of = framework

    def second(self) -> str:
        """second derivative of sin at 1, its error"""
        x = self.of.variable(1.0)
        gx = self.of.grad(self.of.sum(self.of.sin(x)), x)
        return f"{abs(float(self.of.value(self.of.grad(gx, x))) + np.sin(1.0)):.0e}"

    def third_in_x(self) -> str:
        """third derivative through a convolution, in x"""
        return self._third(lambda x: self.of.conv(x, self.of.variable(W)), X, V)

    def third_in_w(self) -> str:
        """third derivative through a convolution, in W"""
        return self._third(lambda w: self.of.conv(self.of.variable(X), w), W, U)

    def third_of_pooling(self) -> str:
        """third derivative through max pooling"""
        return self._third(self.of.pool, X, V)

    def dtype(self) -> str:
        """float32 * 2.0 / 3 + 1.0"""
        x = self.of.variable(np.ones(3, np.float32))
        return str(self.of.value(x * 2.0 / 3 + 1.0).dtype)

    def error(self) -> str:
        """3 channels for a W of 2"""
        try:
            self.of.value(self.of.conv(*map(self.of.variable, TOO_MANY)))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "no error"

    def _third(self, f: Any, at: Any, along: Any) -> str:
        of, x = self.of, self.of.variable(at)
        g = of.sum(of.grad(of.sum(of.tanh(f(x))), x) * of.variable(along))
        g = of.sum(of.grad(g, x) * of.variable(along))
        found = (of.value(of.grad(g, x)) * along).sum()

        def value(step: float) -> float:
            return float(of.value(of.sum(of.tanh(f(of.variable(at + step * along))))))

        differences = value(2 * STEP) - 2 * value(STEP) + 2 * value(-STEP) - value(-2 * STEP)
        return f"{found / (differences / (2 * STEP**3)):.3f} of the differences"


def of_autograd() -> None:
    """It derives functions, not graphs, and has no convolution but SciPy's: two questions of their own."""
    import autograd.numpy as np_
    from autograd import grad
    from autograd.scipy.signal import convolve

    second = grad(grad(np_.sin))(1.0)
    say("second derivative of sin at 1, its error", f"{abs(second + np.sin(1.0)):.0e}")

    def f(x: Any) -> Any:
        return np_.sum(np_.tanh(convolve(x, W, axes=([2, 3], [2, 3]), dot_axes=([1], [1]), mode="valid")))

    def along(g: Any) -> Any:
        return lambda x: np_.sum(grad(g)(x) * V)

    found = along(along(along(f)))(X)
    values = [f(X + k * STEP * V) for k in (2, 1, -1, -2)]
    differences = (values[0] - 2 * values[1] + 2 * values[2] - values[3]) / (2 * STEP**3)
    say("third derivative through a convolution, in x", f"{found / differences:.3f} of the differences (SciPy's)")
    say("float32 * 2.0 / 3 + 1.0", str((np_.ones(3, np.float32) * 2.0 / 3 + 1.0).dtype))


def of_micrograd() -> None:
    from micrograd.engine import Value

    x = Value(1.0)
    (x * x * x).backward()
    say("second derivative", f"none: a gradient is a {type(x.grad).__name__}")


def say(question: str, answer: str) -> None:
    print(f"{question:50} {' '.join(answer.split())[:150]}")


def main() -> None:
    names = ("dezero", "chainer", "torch", "tinygrad", "autograd", "micrograd")
    if len(sys.argv) != 2 or sys.argv[1] not in names:
        sys.exit(f"usage: python features.py {' | '.join(names)}")
    framework = globals()[f"of_{sys.argv[1]}"]()
    if framework is None:
        return
    questions = Questions(framework)
    for name in ("second", "third_in_x", "third_in_w", "third_of_pooling", "dtype", "error"):
        question = getattr(questions, name)
        try:
            answer = question()
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        say(str(question.__doc__), answer)


if __name__ == "__main__":
    main()
