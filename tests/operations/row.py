"""What a row of the table says of a function, and how a row is run, in dezero and in PyTorch.

The simplest row is `row("sin", np.sin, on(numbers(2, 3)), torch="sin")`: the function's name in F, a reference,
samples, PyTorch's counterpart. A sample is a call: `on(A, axis=1)` stands for `f(A, axis=1)`, and the reference and
PyTorch are called alike. Its floating arrays, inside lists too, are the *leaves*: they are differentiated, rearranged
and cast to float32. All else is passed as it is; arrays among the options are constants, cast with the leaves.

Samples keep away from kinks and ties, where a slope is not defined; what happens there is in test_functions.py. A
straight piece has gradients of every order all the same: its gradient is linear in the cotangent.
"""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from dezero import cuda
from dezero import functions as F
from dezero.core import Variable


def numbers(*shape: int, low: float = -2.0, high: float = 2.1, seed: int = 0) -> Any:
    """Numbers from `low` to `high` in random order, each well apart from all others."""
    rng, count = np.random.default_rng(seed), int(np.prod(shape))
    places = (np.arange(count) + rng.random(count) / 2) / max(count, 1)
    return rng.permutation(low + (high - low) * places).reshape(shape)


# ----------------------------------------------------------------------------------------------------------------------
# Rows and their samples
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    args: tuple[Any, ...]
    options: dict[str, Any]
    torch: bool = True  # False where PyTorch means something else; a comment in the table says what

    @property
    def leaves(self) -> list[Any]:
        return list(_leaves(self.args))

    def __str__(self) -> str:
        return ", ".join([*map(_short, self.args), *(f"{name}={_short(v)}" for name, v in self.options.items())])


def on(*args: Any, torch: bool = True, **options: Any) -> Sample:
    """A call with sample inputs."""
    return Sample(args, options, torch)


@dataclass(frozen=True)
class Refusal:
    message: str
    sample: Sample
    error: type[Exception] = ValueError
    by: str = ""  # the operation that says so, when it is another's


def refuses(message: str, *args: Any, error: type[Exception] = ValueError, by: str = "", **options: Any) -> Refusal:
    """A call with bad inputs, and all that the error says after the operation's name."""
    return Refusal(message, on(*args, **options), error, by)


@dataclass(frozen=True)
class Row:
    name: str
    reference: Callable[..., Any]
    samples: tuple[Sample, ...]
    torch: str | Callable[..., Any] | None = None
    order: int = 3  # of gradients; 0 where there are none
    why: str = ""  # there are none, or fewer, or nothing in PyTorch to compare with
    bad: tuple[Refusal, ...] = ()
    tolerance: float = 1e-10  # relative and absolute, of float64 values and gradients against the reference and PyTorch
    tolerance32: float = 1e-5  # and of float32 against float64
    keeps_dtype: bool = True  # float32 in, float32 out
    integers: bool = True  # the reference takes integers, too
    speaks_as: tuple[str, ...] = ()  # names of operations it is composed of, that errors may give

    @property
    def function(self) -> Callable[..., Any]:
        return getattr(F, self.name)


def row(name: str, reference: Callable[..., Any], *samples: Sample, bad: Any = (), **details: Any) -> Row:
    return Row(name, reference, samples, bad=tuple(bad), **details)


def unary(name: str, reference: Callable[..., Any], low: float = -2.0, high: float = 2.1, **details: Any) -> Row:
    """The row of an operation on each element by itself, for numbers from `low` to `high`."""
    shapes = [(2, 3), (3, 1, 2), (0, 3), ()]
    return row(name, reference, *(on(numbers(*shape, low=low, high=high)) for shape in shapes), **details)


PAIRS = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2, 3)), ((3, 1, 1), ()), ((0, 3), (3,)), ((), ())]


def misfit(*args: Any, shapes: str = "(2, 3) and (2,)", by: str = "") -> Refusal:
    """A call with shapes that do not broadcast, which all broadcasting operations refuse in the same words."""
    rule = "aligned at the right, each pair of sizes must be equal or contain a 1"
    return refuses(f"shapes {shapes} cannot broadcast; {rule}", *args, by=by)


def binary(name: str, reference: Callable[..., Any], low: float = -2.0, high: float = 2.1, **details: Any) -> Row:
    """The row of an operation on pairs of elements that broadcasts, for numbers from `low` to `high`."""
    draw = [{"low": low, "high": high}, {"low": low + 0.07, "high": high - 0.06, "seed": 1}]
    samples = [on(*(numbers(*shape, **kind) for shape, kind in zip(pair, draw, strict=True))) for pair in PAIRS]
    details.setdefault("bad", [misfit(numbers(2, 3, **draw[0]), numbers(2, **draw[1]))])
    return row(name, reference, *samples, **details)


def _is_leaf(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def _leaves(args: Any) -> Iterator[Any]:
    for x in args:
        if isinstance(x, (list, tuple)):
            yield from _leaves(x)
        elif _is_leaf(x):
            yield x


def _filled(args: Any, leaves: Iterator[Any], other: Callable[[Any], Any]) -> Any:
    """The same arguments with other leaves, taken in turn, and `other` of all else."""

    def fill(x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return type(x)(map(fill, x))
        return next(leaves) if _is_leaf(x) else other(x)

    return tuple(map(fill, args))


def with_leaves(sample: Sample, leaves: Any) -> Sample:
    return replace(sample, args=_filled(sample.args, iter(leaves), lambda x: x))


def cast(sample: Sample, dtype: Any) -> Sample:
    """The sample with every floating array, constants too, of another dtype; always copies."""

    def convert(x: Any) -> Any:
        return x.astype(dtype) if _is_leaf(x) else x.copy() if isinstance(x, np.ndarray) else x

    options = {name: convert(value) for name, value in sample.options.items()}
    return replace(sample, args=_filled(sample.args, map(convert, sample.leaves), convert), options=options)


def _short(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"{x.dtype.kind if x.dtype.kind != 'f' else ''}{x.shape}".replace(" ", "")
    if isinstance(x, (list, tuple)):
        return f"[{','.join(map(_short, x))}]"
    return str(x).replace("slice(", "(")


# ----------------------------------------------------------------------------------------------------------------------
# Running a row
# ----------------------------------------------------------------------------------------------------------------------


def call(row: Row, sample: Sample) -> Any:
    return row.function(*sample.args, **sample.options)


def expected(row: Row, sample: Sample) -> list[Any]:
    sample = cast(sample, np.float64)
    return [np.asarray(y) for y in as_list(row.reference(*sample.args, **sample.options))]


def as_list(ys: Any) -> list[Any]:
    return list(ys) if isinstance(ys, (list, tuple)) else [ys]


def random_like(arrays: Any, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(x.shape), x.dtype) for x in arrays]


@dataclass(frozen=True)
class Result:
    """Values; gradients for a random cotangent u; and, for a random direction v, those of <gradients, v> in (x, u)."""

    values: list[Any]
    gradients: list[Any]
    second: list[Any]


def evaluate(row: Row, sample: Sample, place: Callable[[Any], Any] = lambda x: x) -> Result:
    """Run a row in dezero, in the dtype and the arrangement of the sample's leaves, on arrays that `place` returns."""
    xs = [Variable(place(x)) if row.order else place(x) for x in sample.leaves]
    constants = {name: v.copy() if _is_leaf(v) else v for name, v in sample.options.items()}  # batch_norm changes some
    args = _filled(sample.args, iter(xs), place)
    ys = as_list(row.function(*args, **{name: place(v) for name, v in constants.items()}))
    values = [cuda.as_numpy(y) for y in ys]
    if row.order == 0:
        return Result(values, [], [])
    cotangents = [Variable(place(u)) for u in random_like(values, seed=1)]
    variables = [*xs, *cotangents]
    _dot(ys, cotangents).backward(create_graph=True)
    gradients = [x.grad for x in xs]
    for x in variables:
        x.cleargrad()
    assert None not in gradients, "an input has received no gradient"
    slope = _dot(gradients, map(place, random_like(xs, seed=2)))
    if slope.creator is not None:
        slope.backward()
    second = [np.zeros(x.shape, x.dtype) if x.grad is None else cuda.as_numpy(x.grad) for x in variables]
    return Result(values, list(map(cuda.as_numpy, gradients)), second)


def first_gradients(row: Row, sample: Sample) -> tuple[list[Any], list[Any]]:
    """The leaves and their gradients as a plain backward pass leaves them."""
    xs = [Variable(x) for x in sample.leaves]
    ys = as_list(call(row, with_leaves(cast(sample, sample.leaves[0].dtype), xs)))
    _dot(ys, random_like(ys, seed=1)).backward()
    return xs, [x.grad.data for x in xs]


def _dot(ys: Any, us: Any) -> Any:
    return functools.reduce(operator.add, [(y * u).sum() for y, u in zip(ys, us, strict=True)])


# ----------------------------------------------------------------------------------------------------------------------
# Running a row in PyTorch
# ----------------------------------------------------------------------------------------------------------------------


def import_torch() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch")


def evaluate_torch(row: Row, sample: Sample) -> Result:
    """Run a row's counterpart in PyTorch, in the dtype of the sample's leaves."""
    torch = import_torch()

    def convert(x: Any) -> Any:
        return torch.tensor(x) if isinstance(x, np.ndarray) else x

    xs = [torch.tensor(x, requires_grad=True) for x in sample.leaves]
    args = _filled(sample.args, iter(xs), convert)
    ys = as_list(_counterpart(torch, row)(*args, **{name: convert(v) for name, v in sample.options.items()}))
    values = [y.numpy(force=True) for y in ys]
    if row.order == 0:
        return Result(values, [], [])
    cotangents = [torch.tensor(u, requires_grad=True) for u in random_like(values, seed=1)]
    variables = [*xs, *cotangents]
    total = sum((y * u).sum() for y, u in zip(ys, cotangents, strict=True))
    gradients = _torch_gradients(torch, total, xs, create_graph=True)
    directions = map(torch.tensor, random_like([x.numpy(force=True) for x in xs], seed=2))
    slope = sum((gx * v).sum() for gx, v in zip(gradients, directions, strict=True))
    second = _torch_gradients(torch, slope, variables) if slope.requires_grad else map(torch.zeros_like, variables)
    return Result(values, *([g.numpy(force=True) for g in group] for group in (gradients, second)))


def _torch_gradients(torch: Any, y: Any, xs: Any, create_graph: bool = False) -> Any:
    found = torch.autograd.grad(y, xs, create_graph=create_graph, allow_unused=True)
    return [torch.zeros_like(x) if gx is None else gx for x, gx in zip(xs, found, strict=True)]


def _counterpart(torch: Any, row: Row) -> Any:
    """A name is looked up in torch, then in torch.nn.functional; a function gets torch first."""
    if isinstance(row.torch, str):
        rooms = [torch, torch.nn.functional, torch.special, torch.linalg]
        return next(getattr(room, row.torch) for room in rooms if hasattr(room, row.torch))
    return lambda *args, **options: row.torch(torch, *args, **options)
