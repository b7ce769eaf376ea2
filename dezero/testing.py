"""What a test of an operation needs: is its derivative right, and are two arrays the same?

`check_grads` is for whoever writes a Function. It asks one question of any number of inputs and outputs: does the
backward pass give the slope that small steps in x give? A sum over the output would not see a softmax without any
gradient, so outputs are weighed by a random cotangent; a step along one random direction asks about all inputs at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dezero import cuda
from dezero.core import Variable, as_variable, no_grad

__all__ = ["array_allclose", "array_equal", "check_grads", "gradient_check", "numerical_grad"]


def check_grads(
    f: Callable[..., Any],
    *inputs: Any,
    order: int = 2,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    seed: int = 0,
) -> None:
    """Compare the gradients of `f` with finite differences, in float64, for every order up to `order`.

    For a random cotangent u and a random direction d, <d f(x)/dx applied to d, u> is computed by backward and by
    (<f(x + eps d), u> - <f(x - eps d), u>) / (2 eps). The next order asks the same of the map (x, u) -> gradient.

    Args:
        f: takes as many Variables as there are inputs, returns a Variable or several. Fix labels and the like in a
            lambda, and draw no new random numbers in it.
        inputs: floating arrays away from kinks and ties.

    Raises AssertionError with both figures when they differ.

    >>> check_grads(lambda x: x * x * x, np.array([1.0, 2.0]), order=3)
    """
    if order < 1:
        raise ValueError(f"check_grads: order must be at least 1, got {order}")
    arrays = [np.array(cuda.as_numpy(x), dtype=np.float64) for x in inputs]
    rng = np.random.default_rng(seed)
    for n in range(1, order + 1):
        cotangents = [rng.standard_normal(y.shape) for y in _outputs(f, arrays)]
        _check_slope(f, n, arrays, cotangents, rng, eps, rtol, atol)
        f, arrays = _gradient_map(f, len(arrays)), [*arrays, *cotangents]


def _check_slope(
    f: Callable[..., Any],
    order: int,
    arrays: list[Any],
    cotangents: list[Any],
    rng: np.random.Generator,
    eps: float,
    rtol: float,
    atol: float,
) -> None:
    directions = [rng.standard_normal(x.shape) for x in arrays]

    def weighed(step: float) -> float:
        moved = [x + step * d for x, d in zip(arrays, directions, strict=True)]
        return _dot(_outputs(f, moved), cotangents)

    expected = (weighed(eps) - weighed(-eps)) / (2 * eps)
    gradients = _gradient_map(f, len(arrays))(*map(as_variable, [*arrays, *cotangents]))
    got = _dot([gx.data for gx in gradients], directions)
    if not np.isclose(got, expected, rtol=rtol, atol=atol):
        raise AssertionError(
            f"check_grads: order {order}: backward gives slope {got!r}, finite differences {expected!r}"
        )


def _gradient_map(f: Callable[..., Any], n_inputs: int) -> Callable[..., list[Variable]]:
    """Return the function (inputs, cotangents) -> gradients of <f(inputs), cotangents> in the inputs."""

    def gradients(*variables: Variable) -> list[Variable]:
        xs, cotangents = variables[:n_inputs], variables[n_inputs:]
        total = Variable(np.zeros(()))
        for y, u in zip(_as_list(f(*xs)), cotangents, strict=True):
            total = total + (y * u).sum()
        total.backward(create_graph=True)
        found = [Variable(np.zeros(x.shape)) if x.grad is None else x.grad for x in xs]
        for v in variables:
            v.cleargrad()
        return found

    return gradients


def _outputs(f: Callable[..., Any], arrays: list[Any]) -> list[Any]:
    # The graph is on: a gradient map needs it inside.
    return [y.data for y in _as_list(f(*map(as_variable, arrays)))]


def _as_list(ys: Any) -> list[Any]:
    return list(ys) if isinstance(ys, (list, tuple)) else [ys]


def _dot(xs: list[Any], ys: list[Any]) -> float:
    return float(sum((np.asarray(x) * y).sum() for x, y in zip(xs, ys, strict=True)))


def numerical_grad(f: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
    """The gradient of sum(f(x, *args)) in `x` by central differences, one element of x at a time; an array like x.

    >>> numerical_grad(lambda x: x * x, np.array([1.0, 2.0])).round(4)
    array([2., 4.])
    """
    eps = 1e-4
    original = cuda.plain(x)
    host = np.array(cuda.as_numpy(original))
    host = host.astype(np.float64)  # an integer cannot take a small step, nor a large float32
    xp = cuda.get_array_module(original)
    gradient = np.zeros_like(host)
    for index in np.ndindex(host.shape):
        sides = []
        for step in (eps, -eps):
            moved = host.copy()
            moved[index] += step
            with no_grad():
                y = f(Variable(xp.asarray(moved)), *args, **kwargs)
            sides.append(cuda.as_numpy(y).sum())
        gradient[index] = (sides[0] - sides[1]) / (2 * eps)
    return xp.asarray(gradient)


def gradient_check(
    f: Callable[..., Any], x: Any, *args: Any, rtol: float = 1e-4, atol: float = 1e-5, **kwargs: Any
) -> bool:
    """Say whether backward and `numerical_grad` agree on the gradient of f(x, *args) in `x`; print both when not.

    >>> gradient_check(lambda x: x * x, np.array([1.0, 2.0]))
    True
    """
    x = as_variable(x)
    x = Variable(x.data.astype(np.float64))
    expected = numerical_grad(f, x, *args, **kwargs)
    f(x, *args, **kwargs).backward()
    got = x.grad.data
    agree = array_allclose(expected, got, rtol=rtol, atol=atol)
    if not agree:
        print(f"gradient_check: they differ\n  numerical: {expected}\n  backward:  {got}")
    return agree


def array_equal(a: Any, b: Any) -> bool:
    """Say whether two Variables or arrays, on any device, have the same shape and elements."""
    return np.array_equal(cuda.as_numpy(a), cuda.as_numpy(b))


def array_allclose(a: Any, b: Any, rtol: float = 1e-4, atol: float = 1e-5) -> bool:
    """Say whether two Variables or arrays, on any device, agree within |a - b| <= atol + rtol * |b|."""
    return np.allclose(cuda.as_numpy(a), cuda.as_numpy(b), rtol=rtol, atol=atol)
