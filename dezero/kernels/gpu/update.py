"""Optimizers' rules: all parameters of a dtype in one launch. What is updated changes in place.

A kernel gets a table of up to MOST tensors, by value, among its arguments: where a parameter, what is remembered of it
and its gradient begin, how many elements they have, and which blocks of threads are theirs. So nothing has to be
copied to the device before a launch, and a launch that is captured keeps its table. (A table in the device's memory
would have to be filled, by a copy from the host that no capture takes, as gradients get other memory.)

Every rule can draw p towards 0: the gradient that it sees, d, is g + decay * p.

Rates and factors come by value, too, or, while a step is captured, from memory that is filled before each replay: see
`slots`. They are of p's A. What the rules need of 1 - beta is worked out in Python, where it keeps its digits:
1 - 0.999 in float32 has lost three.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dezero.kernels.gpu import slots
from dezero.kernels.gpu.launch import FLOATING, THREADS, Source, contiguous, in_blocks, sums_dtype

MOST = 80  # tensors of a launch: CUDA has room for 4096 bytes of arguments
CHUNK = 2 * THREADS  # elements of a block
ROOM = 8  # numbers of a rule


class Rule(NamedTuple):
    """What a kernel does with one element: p, what is remembered of it, and its gradient d, an A."""

    changed: str
    numbers: str
    operation: str
    work_out: Callable[..., tuple[float, ...]] = lambda *numbers: numbers  # the kernel's numbers, of the reference's


# Adam's means of d and of its squares. Each such value, once computed, is used as it was before it was rounded to a T.
_MOMENTS = (
    "const A mean = (A)m + rest1 * (d - (A)m), squares = (A)v + rest2 * (d * d - (A)v); m = (T)mean; v = (T)squares;"
)

RULES = {
    "sgd": Rule("p", "lr", "p = (T)((A)p - lr * d)"),
    "momentum_sgd": Rule(
        "p, v",
        "lr, momentum",
        "const A step = momentum * (A)v - lr * d; v = (T)step; p = (T)((A)p + step)",
    ),
    "nesterov_sgd": Rule(
        "p, v",
        "lr, momentum",
        "const A step = momentum * (A)v - lr * d; v = (T)step; p = (T)((A)p + (momentum * step - lr * d))",
    ),
    "adagrad": Rule(
        "p, h",
        "lr, eps",
        "const A squares = (A)h + d * d; h = (T)squares; p = (T)((A)p - lr * d / (sqrt(squares) + eps))",
    ),
    "rmsprop": Rule(
        "p, h",
        "lr, alpha, rest, eps",
        "const A squares = alpha * (A)h + rest * d * d;h = (T)squares; p = (T)((A)p - lr * d / (sqrt(squares) + eps))",
        lambda lr, alpha, eps: (lr, alpha, 1 - alpha, eps),
    ),
    "adadelta": Rule(
        "p, h, s",
        "rho, rest, eps",
        "const A squares = rho * (A)h + rest * d * d, step = sqrt(((A)s + eps) / (squares + eps)) * d;"
        "h = (T)squares; s = (T)(rho * (A)s + rest * step * step); p = (T)((A)p - step)",
        lambda rho, eps: (rho, 1 - rho, eps),
    ),
    "adam": Rule(
        "p, m, v",
        "lr, rest1, rest2, eps",
        f"{_MOMENTS} p = (T)((A)p - lr * mean / (sqrt(squares) + eps))",
        lambda lr, beta1, beta2, eps: (lr, 1 - beta1, 1 - beta2, eps),
    ),
    "adamw": Rule(
        "p, m, v",
        "lr, rest1, rest2, eps, shrink",
        f"{_MOMENTS} p = (T)((A)p - shrink * (A)p - lr * mean / (sqrt(squares) + eps))",
        lambda lr, beta1, beta2, eps, shrink: (lr, 1 - beta1, 1 - beta2, eps, shrink),
    ),
    "nadam": Rule(
        "p, m, v",
        "lr, ahead, rest1, rest2, eps",
        f"{_MOMENTS} p = (T)((A)p - (lr * d + ahead * mean) / (sqrt(squares) + eps))",
        lambda lr, ahead, beta1, beta2, eps: (lr, ahead, 1 - beta1, 1 - beta2, eps),
    ),
    "lion": Rule(
        "p, m",
        "lr, beta1, rest1, beta2, rest2, shrink",
        "const A mean = beta1 * (A)m + rest1 * d, sign = mean > 0 ? (A)1 : mean < 0 ? (A)-1 : mean;"  # NaN stays NaN
        "p = (T)((A)p - (lr * sign + shrink * (A)p)); m = (T)(beta2 * (A)m + rest2 * d)",
        lambda lr, beta1, beta2, shrink: (lr, beta1, 1 - beta1, beta2, 1 - beta2, shrink),
    ),
}


def _kernel(name: str, rule: Rule) -> str:
    """The CUDA text of a rule."""
    changed, numbers = rule.changed.split(", "), [*rule.numbers.split(", "), "decay"]
    return f"""
extern "C" __global__ void {name}(const Table table, const Numbers given, const A* slots)
{{
    {" ".join(f"const A {x} = slots ? slots[{i}] : given.of[{i}];" for i, x in enumerate(numbers))}
    const long long t = tensor_of(table, blockIdx.x), start = (blockIdx.x - table.first[t]) * {CHUNK};
    const long long end = min(table.size[t], start + {CHUNK});
    {" ".join(f"T* const {x}s = (T*)table.at[t][{i}];" for i, x in enumerate(changed))}
    const K* const gs = (const K*)table.at[t][{len(changed)}];
    for (long long k = start + threadIdx.x; k < end; k += {THREADS}) {{
        {" ".join(f"T& {x} = {x}s[k];" for x in changed)}
        const A g = (A)gs[k], d = decay == 0 ? g : g + decay * (A)p;
        {rule.operation};
    }}
}}
"""


_SOURCE = Source(
    f"""
struct Table {{ long long first[{MOST}], size[{MOST}], at[{MOST}][4]; }};
struct Numbers {{ A of[{ROOM}]; }};

// The last tensor whose first block is not behind `block`; where the table ends, first blocks are beyond all.
__device__ long long tensor_of(const Table& table, long long block)
{{
    long long t = 0;
    for (long long step = {1 << (MOST - 1).bit_length() - 1}; step > 0; step /= 2)
        if (t + step < {MOST} && table.first[t + step] <= block) t += step;
    return t;
}}
"""
    + "".join(_kernel(name, rule) for name, rule in RULES.items()),
    types=FLOATING,
    integers=FLOATING,  # K is the type of gradients here
)

# The same structs for NumPy; CuPy hands the bytes of an array of one element over by value.
_TABLE = np.dtype([("first", np.int64, MOST), ("size", np.int64, MOST), ("at", np.int64, (MOST, 4))])
_NUMBERS = {A: np.dtype([("of", A, ROOM)]) for A in ("float32", "float64")}
_NO_SLOTS = np.int64(0)
_NO_BLOCK = 2**40


def update_all(
    name: str,
    updates: list[tuple[Any, ...]],
    numbers: Callable[[], tuple[float, ...]],
    decay: Callable[[], float] = lambda: 0.0,
) -> None:
    """As `reference.<name>(p, ..., g + decay() * p, *numbers())` for each (p, ..., g) of `updates`, in few launches.

    While a step is captured, both will be asked before each replay, too. Raises ValueError where shapes differ.
    """

    def given() -> tuple[float, ...]:
        return *RULES[name].work_out(*numbers()), decay()

    slots.keep(updates)  # whose addresses are in the tables
    groups: dict[Any, list[tuple[Any, ...]]] = {}
    for arrays in updates:
        groups.setdefault((arrays[0].dtype, arrays[-1].dtype), []).append(arrays)
    for (T, K), group in groups.items():
        _update_group(name, group, slots.numbers(given, sums_dtype(T)), T, K)


def add_all(additions: list[tuple[Any, Any]]) -> None:
    """y += x for each (y, x) of arrays of one shape and dtype, in few launches; y in C order."""
    groups: dict[Any, list[tuple[Any, ...]]] = {}
    for y, x in additions:
        groups.setdefault(y.dtype, []).append((y, x))
    for T, group in groups.items():
        _update_group("sgd", group, (-1.0,), T, T)  # y - -1 * x, to the last bit


def _update_group(name: str, group: list[tuple[Any, ...]], numbers: Any, T: Any, K: Any) -> None:
    """Update what lies in C order together, and of all else, one by one, copies."""
    together, others = [], []
    for arrays in group:
        shape = arrays[0].shape
        if any(x.shape != shape for x in arrays):
            raise ValueError(f"{name}: arrays must have one shape, got {', '.join(str(x.shape) for x in arrays)}")
        if not all(x.flags.c_contiguous for x in arrays) or any(x.dtype != T for x in arrays[1:-1]):
            others.append(arrays)
        else:
            together.append(_row(arrays))
    arguments = _as_arguments(numbers, sums_dtype(T).name)
    _launch(name, tuple(together), arguments, T, K)
    for *changed, g in others:
        flat = [*(contiguous(x, T) for x in changed), contiguous(g)]
        _launch(name, (_row(flat),), arguments, T, K)
        for x, y in zip(changed, flat, strict=False):
            if y is not x:
                x[...] = y


def _row(arrays: Sequence[Any]) -> tuple[int, ...]:
    """How many elements they have, and where each begins."""
    return arrays[0].size, *(x.data.ptr for x in arrays)


def _launch(name: str, rows: tuple[tuple[int, ...], ...], arguments: tuple[Any, Any], T: Any, K: Any) -> None:
    for table, blocks in _deal(rows, T.itemsize, K.itemsize):
        in_blocks(_SOURCE, name, blocks, THREADS, (table, *arguments), (), T=T, K=K)


def _as_arguments(numbers: Any, A: str) -> tuple[Any, Any]:
    """Numbers by value, and where they lie in slots: one or the other."""
    given = np.zeros((), _NUMBERS[A])
    if not isinstance(numbers, tuple):
        return given, numbers
    given["of"][: len(numbers)] = numbers
    return given, _NO_SLOTS


@functools.lru_cache(maxsize=64)
def _deal(rows: tuple[tuple[int, ...], ...], p_bytes: int, g_bytes: int) -> list[tuple[Any, int]]:
    """Deal rows to tables, and return each with the number of its blocks.

    Blocks run in any order, so where arrays share memory each tensor has a launch of its own.
    """
    spans = [(at, at + size * p_bytes) for size, *places, _ in rows for at in places]
    spans += [(at, at + size * g_bytes) for size, *_, at in rows]
    shared = any(end > start for (_, end), (start, _) in itertools.pairwise(sorted(spans)))
    most = 1 if shared else MOST
    return [_table(rows[i : i + most]) for i in range(0, len(rows), most)]


def _table(rows: tuple[tuple[int, ...], ...]) -> tuple[Any, int]:
    table, ends = np.zeros((), _TABLE), list(itertools.accumulate(-(-size // CHUNK) for size, *_ in rows))
    table["first"] = _NO_BLOCK
    table["first"][: len(rows)] = [0, *ends[:-1]]
    table["size"][: len(rows)] = [size for size, *_ in rows]
    table["at"][: len(rows), : len(rows[0]) - 1] = [places for _, *places in rows]
    return table, ends[-1]


# ----------------------------------------------------------------------------------------------------------------------
# One parameter
# ----------------------------------------------------------------------------------------------------------------------


def sgd(p: Any, g: Any, lr: float) -> None:
    """As `reference.sgd`."""
    update_all("sgd", [(p, g)], lambda: (lr,))


def momentum_sgd(p: Any, v: Any, g: Any, lr: float, momentum: float) -> None:
    """As `reference.momentum_sgd`."""
    update_all("momentum_sgd", [(p, v, g)], lambda: (lr, momentum))


def nesterov_sgd(p: Any, v: Any, g: Any, lr: float, momentum: float) -> None:
    """As `reference.nesterov_sgd`."""
    update_all("nesterov_sgd", [(p, v, g)], lambda: (lr, momentum))


def adagrad(p: Any, h: Any, g: Any, lr: float, eps: float) -> None:
    """As `reference.adagrad`."""
    update_all("adagrad", [(p, h, g)], lambda: (lr, eps))


def rmsprop(p: Any, h: Any, g: Any, lr: float, alpha: float, eps: float) -> None:
    """As `reference.rmsprop`."""
    update_all("rmsprop", [(p, h, g)], lambda: (lr, alpha, eps))


def adadelta(p: Any, h: Any, s: Any, g: Any, rho: float, eps: float) -> None:
    """As `reference.adadelta`."""
    update_all("adadelta", [(p, h, s, g)], lambda: (rho, eps))


def adam(p: Any, m: Any, v: Any, g: Any, lr: float, beta1: float, beta2: float, eps: float) -> None:
    """As `reference.adam`."""
    update_all("adam", [(p, m, v, g)], lambda: (lr, beta1, beta2, eps))


def adamw(p: Any, m: Any, v: Any, g: Any, lr: float, beta1: float, beta2: float, eps: float, shrink: float) -> None:
    """As `reference.adamw`."""
    update_all("adamw", [(p, m, v, g)], lambda: (lr, beta1, beta2, eps, shrink))


def nadam(p: Any, m: Any, v: Any, g: Any, lr: float, ahead: float, beta1: float, beta2: float, eps: float) -> None:
    """As `reference.nadam`."""
    update_all("nadam", [(p, m, v, g)], lambda: (lr, ahead, beta1, beta2, eps))


def lion(p: Any, m: Any, g: Any, lr: float, beta1: float, beta2: float, shrink: float) -> None:
    """As `reference.lion`."""
    update_all("lion", [(p, m, g)], lambda: (lr, beta1, beta2, shrink))
