"""How weights begin: initialisers, which layers with weights take by name, `L.Linear(10, init_W="kaiming_normal")`.

An initialiser is called as `init(shape, fan_in, fan_out, dtype)` and returns an array of that shape. Here:

    xavier_uniform  xavier_normal    of variance 2 / (fan_in + fan_out); also glorot_uniform, glorot_normal
    kaiming_uniform kaiming_normal   of variance 2 / fan_in, for relu; also he_uniform, he_normal
    lecun_uniform   lecun_normal     of variance 1 / fan_in; the latter is what layers take when nothing is said
    orthogonal                       rows or columns at right angles, of length 1
    zeros ones constant uniform normal

`fan_in` is how many inputs are summed into one output, `fan_out` how many outputs one input goes into: (in, out) of a
Linear, (C / groups * KH * KW, OC / groups * KH * KW) of a convolution. Where they are None they are read from the
shape, as from that of a Linear's W (in, out), or of a convolution's (OC, C, KH, KW). What else an initialiser takes is
bound with `functools.partial`; any other callable serves as well, and a number stands for an array full of it:

    >>> from functools import partial
    >>> from dezero import layers as L
    >>> layer = L.Linear(3, in_size=2, init_W=partial(normal, std=0.02), init_b=1)
    >>> layer.b
    variable([1. 1. 1.])
    >>> L.Linear(2, in_size=2, init_W=lambda shape, *_: np.eye(*shape)).W
    variable([[1. 0.]
              [0. 1.]])

All draw from `dezero.random`, on the CPU, so that CPU and GPU runs agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dezero import cuda, random

__all__ = [
    "constant",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Shape = tuple[int, ...]


def xavier_uniform(
    shape: Shape, fan_in: int | None = None, fan_out: int | None = None, dtype: Any = np.float32, gain: float = 1.0
) -> Any:
    """Draw from U(-a, a), a = gain * sqrt(6 / (fan_in + fan_out)): signals keep their size in both directions.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.

    >>> bool(abs(xavier_uniform((2, 4))).max() <= 1)
    True
    """
    fan_in, fan_out = _fans("xavier_uniform", shape, fan_in, fan_out)
    return _between(shape, gain * math.sqrt(6 / (fan_in + fan_out)), dtype)


def xavier_normal(
    shape: Shape, fan_in: int | None = None, fan_out: int | None = None, dtype: Any = np.float32, gain: float = 1.0
) -> Any:
    """Draw from N(0, s^2), s = gain * sqrt(2 / (fan_in + fan_out)). Source: as `xavier_uniform`.

    >>> xavier_normal((2, 4)).dtype
    dtype('float32')
    """
    fan_in, fan_out = _fans("xavier_normal", shape, fan_in, fan_out)
    return _around_zero(shape, gain * math.sqrt(2 / (fan_in + fan_out)), dtype)


def kaiming_uniform(
    shape: Shape,
    fan_in: int | None = None,
    fan_out: int | None = None,
    dtype: Any = np.float32,
    gain: float = math.sqrt(2),
    mode: str = "fan_in",
) -> Any:
    """Draw from U(-a, a), a = gain * sqrt(3 / fan): relu halves a signal's square, which the gain makes good.

    Args:
        gain: sqrt(2), for relu; sqrt(2 / (1 + slope^2)) for leaky relu; 1 for none.
        mode: which fan, "fan_in", so that signals keep their size, or "fan_out", so that gradients do.

    Raises ValueError for another mode. Source: He et al., arXiv:1502.01852.

    >>> bool(abs(kaiming_uniform((6, 4))).max() <= 1)
    True
    """
    return _between(shape, gain * math.sqrt(3 / _fan("kaiming_uniform", shape, fan_in, fan_out, mode)), dtype)


def kaiming_normal(
    shape: Shape,
    fan_in: int | None = None,
    fan_out: int | None = None,
    dtype: Any = np.float32,
    gain: float = math.sqrt(2),
    mode: str = "fan_in",
) -> Any:
    """Draw from N(0, s^2), s = gain / sqrt(fan). Arguments and source: as `kaiming_uniform`.

    >>> kaiming_normal((2, 4), mode="fan_out").shape
    (2, 4)
    """
    return _around_zero(shape, gain * math.sqrt(1 / _fan("kaiming_normal", shape, fan_in, fan_out, mode)), dtype)


def lecun_uniform(shape: Shape, fan_in: int | None = None, fan_out: int | None = None, dtype: Any = np.float32) -> Any:
    """Draw from U(-a, a), a = sqrt(3 / fan_in). Source: LeCun et al., "Efficient BackProp", 1998.

    >>> bool(abs(lecun_uniform((3, 4))).max() <= 1)
    True
    """
    fan_in, _ = _fans("lecun_uniform", shape, fan_in, fan_out)
    return _between(shape, math.sqrt(3 / fan_in), dtype)


def lecun_normal(shape: Shape, fan_in: int | None = None, fan_out: int | None = None, dtype: Any = np.float32) -> Any:
    """Draw from N(0, 1 / fan_in): what Linear and convolutions take by themselves. Source: as `lecun_uniform`.

    >>> lecun_normal((3, 4)).shape
    (3, 4)
    """
    fan_in, _ = _fans("lecun_normal", shape, fan_in, fan_out)
    return _around_zero(shape, np.sqrt(1 / fan_in), dtype)


def orthogonal(
    shape: Shape, fan_in: int | None = None, fan_out: int | None = None, dtype: Any = np.float32, gain: float = 1.0
) -> Any:
    """Draw a matrix with rows at right angles to each other, or columns, whichever are fewer, all of length `gain`.

    All but the first axis are taken together, as a convolution's W is (OC, C * KH * KW). Raises ValueError when there
    is one axis alone. Source: Saxe et al., arXiv:1312.6120.

    >>> W = orthogonal((3, 5), dtype=np.float64)
    >>> bool(np.allclose(W @ W.T, np.eye(3)))
    True
    """
    if len(shape) < 2:
        raise ValueError(f"orthogonal: expected a shape of two axes or more, got {shape}; {_FOR_VECTORS}")
    rows, columns = shape[0], math.prod(shape[1:])
    Q, R = np.linalg.qr(random.normal(max(rows, columns), min(rows, columns)))
    Q *= np.where(np.diag(R) < 0, -1, 1)  # or some orthogonal matrices would be likelier than others
    return (gain * (Q if rows >= columns else Q.T)).reshape(shape).astype(dtype)


def zeros(shape: Shape, fan_in: int | None = None, fan_out: int | None = None, dtype: Any = np.float32) -> Any:
    """Return zeros.

    >>> zeros((2,))
    array([0., 0.], dtype=float32)
    """
    return np.zeros(shape, dtype)


def ones(shape: Shape, fan_in: int | None = None, fan_out: int | None = None, dtype: Any = np.float32) -> Any:
    """Return ones.

    >>> ones((2,))
    array([1., 1.], dtype=float32)
    """
    return np.ones(shape, dtype)


def constant(
    shape: Shape, fan_in: int | None = None, fan_out: int | None = None, dtype: Any = np.float32, value: float = 0.0
) -> Any:
    """Return an array full of `value`. Layers take the number itself as well, `init_b=0.5`.

    >>> constant((2,), value=0.5)
    array([0.5, 0.5], dtype=float32)
    """
    return np.full(shape, value, dtype)


def uniform(
    shape: Shape,
    fan_in: int | None = None,
    fan_out: int | None = None,
    dtype: Any = np.float32,
    low: float = 0.0,
    high: float = 1.0,
) -> Any:
    """Draw uniformly from [low, high).

    >>> bool((uniform((5,), low=2, high=3) >= 2).all())
    True
    """
    return (low + (high - low) * random.uniform(*shape)).astype(dtype)


def normal(
    shape: Shape,
    fan_in: int | None = None,
    fan_out: int | None = None,
    dtype: Any = np.float32,
    mean: float = 0.0,
    std: float = 1.0,
) -> Any:
    """Draw from N(mean, std^2).

    >>> normal((5,), std=0.0, mean=2.0)
    array([2., 2., 2., 2., 2.], dtype=float32)
    """
    return _around_zero(shape, std, dtype) + np.dtype(dtype).type(mean)


glorot_uniform, glorot_normal = xavier_uniform, xavier_normal  # the names by which others know them
he_uniform, he_normal = kaiming_uniform, kaiming_normal

_FOR_VECTORS = "a vector begins as 'zeros', 'ones', 'normal', 'uniform', or a number"


def _between(shape: Shape, bound: float, dtype: Any) -> Any:
    return (bound * (2 * random.uniform(*shape) - 1)).astype(dtype)


def _around_zero(shape: Shape, std: Any, dtype: Any) -> Any:
    return random.normal(*shape).astype(dtype) * np.dtype(dtype).type(std)


def _fans(operation: str, shape: Shape, fan_in: int | None, fan_out: int | None) -> tuple[int, int]:
    """Return both fans, read from the shape where they are not given."""
    if (fan_in is None or fan_out is None) and len(shape) < 2:
        raise ValueError(f"{operation}: expected a shape of two axes or more, got {shape}; {_FOR_VECTORS}")
    first, second = (shape[0], shape[1]) if len(shape) == 2 else (math.prod(shape[1:]), shape[0] * math.prod(shape[2:]))
    return first if fan_in is None else fan_in, second if fan_out is None else fan_out


def _fan(operation: str, shape: Shape, fan_in: int | None, fan_out: int | None, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{operation}: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return _fans(operation, shape, fan_in, fan_out)[mode == "fan_out"]


# ----------------------------------------------------------------------------------------------------------------------
# For layers
# ----------------------------------------------------------------------------------------------------------------------


def check_initializer(layer: str, name: str, init: Any) -> Any:
    """Return an argument of a layer, the name of an initialiser, a callable or a number, as it is.

    Raises ValueError for a name that there is not, TypeError for anything else.
    """
    if isinstance(init, str):
        if init not in __all__:
            raise ValueError(f"{layer}: there is no initialiser {init!r} for {name}; there are {', '.join(__all__)}")
    elif isinstance(init, bool) or not (callable(init) or isinstance(init, (int, float, np.integer, np.floating))):
        raise TypeError(
            f"{layer}: {name} must be the name of an initialiser, a callable (shape, fan_in, fan_out, dtype) or a "
            f"number, got {type(init).__name__}"
        )
    return init


def make(where: str, init: Any, shape: Shape, fans: tuple[Any, Any], dtype: Any, like: Any = None) -> Any:
    """Return a new array by an initialiser as `check_initializer` knows it, where `like` is; `where` is for errors."""
    if isinstance(init, (int, float, np.number)):
        return cuda.as_owned_by(like, np.full(shape, init, dtype))
    function: Callable[..., Any] = globals()[init] if isinstance(init, str) else init
    try:
        weights = function(shape, *fans, dtype)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    weights = np.asarray(cuda.as_numpy(weights))
    if weights.shape != shape or weights.dtype.kind not in "fiub":
        raise ValueError(
            f"{where}: expected the initialiser to return numbers of shape {shape}, got {weights.dtype} {weights.shape}"
        )
    # A copy of what a callable returned, which may be somebody else's array, and a view.
    weights = weights.astype(dtype, order="C", copy=not isinstance(init, str))
    return cuda.as_owned_by(like, weights)
