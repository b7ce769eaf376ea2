"""Winograd's convolution: fewer multiplications for the same result. The idea, and its matrices.

**The idea.** Two polynomials of degree m - 1 and r - 1 can be multiplied by evaluating both at m + r - 1 points,
multiplying what comes out point by point, and finding the polynomial that passes through the products: m + r - 1
multiplications in place of m r. A convolution along a line is such a product; Winograd (1980) turned it around, so that
from a piece d of m + r - 1 pixels and a kernel g of r cells come m neighbouring results,

    y = A' [(G g) * (B' d)]                    * element by element, ' transposed

G evaluates the kernel at the points, B' does its part to the pixels, A' leads back. In the plane each matrix works
along both axes, on tiles of (m + r - 1) x (m + r - 1) pixels:

    Y = A' [(G g G') * (B' d B)] A             m x m results for (m + r - 1)^2 multiplications

For 3 x 3 kernels and m = 4 that is 36 multiplications in place of 144: a quarter. And the sums over channels move
inside, where they become a product of matrices for each of the 36 points, (tiles, C) times (C, OC). That is what the
time goes into; the transforms are additions and small constants. The gradient of the kernel is the same turned around,
G' [(B' d B) * (A gY A')] G, summed over the tiles.

**The matrices.** Toom (1963) and Cook (1966) give them for any points; here 0, 1, -1, 2, -2 and "infinity", the highest
coefficient. Lavin and Gray brought the method to neural networks, with these matrices: "Fast algorithms for
convolutional neural networks", arXiv:1509.09308.

    A'  column p: the powers of p, 0 ... m - 1
    G   row p: the powers of p, 0 ... r - 1, over the product of all p - q, q another point
    B'  row p: the coefficients of the product of all x - q, q another point

**What it costs.** The points' powers grow and cancel again, so some precision is lost. Relative to the largest result,
errors of float32 against float64 are 3e-6 to 2e-5; plain sums lose 2e-7 to 4e-6. A network's training does not notice,
a finite difference may. And where a pixel is infinite or not a number, so are all results of the tiles that see it, not
of its windows alone. float64 is always computed
plainly, and `using_winograd(False)`, or the environment variable DEZERO_WINOGRAD=0, has float32 computed plainly, too:
then 3 x 3 convolutions take two to three times as long.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Matrices", "is_on", "matrices", "using_winograd"]

POINTS = (0, 1, -1, 2, -2)
TILE = len(POINTS) + 1  # pixels along a tile's side


class Matrices(NamedTuple):
    """m results along a side, and A' (m, TILE), G (TILE, r), B' (TILE, TILE)."""

    m: int
    At: Any
    G: Any
    Bt: Any


def matrices(r: int) -> Matrices:
    """The matrices for kernels of r cells along a side.

    >>> matrices(3).Bt.astype(int)
    array([[ 4,  0, -5,  0,  1,  0],
           [ 0, -4, -4,  1,  1,  0],
           [ 0,  4, -4, -1,  1,  0],
           [ 0, -2, -1,  2,  1,  0],
           [ 0,  2, -1, -2,  1,  0],
           [ 0,  4,  0, -5,  0,  1]])
    """
    m = TILE - r + 1
    At, G, Bt = np.zeros((m, TILE)), np.zeros((TILE, r)), np.zeros((TILE, TILE))
    for row, p in enumerate(POINTS):
        others = [q for q in POINTS if q != p]
        At[:, row] = [float(p) ** power for power in range(m)]
        G[row] = np.array([float(p) ** power for power in range(r)]) / np.prod([p - q for q in others])
        Bt[row, :-1] = np.poly(others)[::-1]
    At[-1, -1] = G[-1, -1] = 1  # the point at infinity
    Bt[-1] = np.poly(POINTS)[::-1]
    return Matrices(m, At, G, Bt)


class _Choice(threading.local):
    on = os.environ.get("DEZERO_WINOGRAD", "1") != "0"


_choice = _Choice()


def is_on() -> bool:
    """Say whether kernels may take Winograd's way in this thread."""
    return _choice.on


@contextlib.contextmanager
def using_winograd(on: bool) -> Iterator[None]:
    """Inside the `with` block, in this thread, let convolutions take Winograd's way or not.

    >>> with using_winograd(False):
    ...     is_on()
    False
    """
    before, _choice.on = _choice.on, bool(on)
    try:
        yield
    finally:
        _choice.on = before
