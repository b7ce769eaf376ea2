"""Which kernels ours can run with, and how one is chosen: the one place to change when `dezero.kernels` does.

    python backends.py

prints the names, one a line. The choice travels to a worker in the environment variable DEZERO_KERNELS, which
`dezero.kernels` reads when it is imported.
"""

from __future__ import annotations

import os

VARIABLE = "DEZERO_KERNELS"


def offered() -> list[str]:
    """The names of the backends that can run here."""
    from dezero import kernels

    return list(kernels.BACKENDS)


def select() -> None:
    """Make sure that this process works with the backend that the environment names: a table must not mix them up."""
    import numpy as np

    from dezero import kernels

    name, serving = os.environ[VARIABLE], kernels.serving(np.zeros(1))
    if serving != name:
        raise ValueError(f"{VARIABLE}={name}, but {serving} serves arrays")


if __name__ == "__main__":
    print(*offered(), sep="\n")
