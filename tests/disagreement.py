"""How far we and PyTorch are apart, operation by operation: `python tests/disagreement.py`.

For each row of the table, over its samples: the largest difference, relative to the largest element of PyTorch's array.
"""

import warnings

import numpy as np
from operations import TABLE
from operations.row import cast, evaluate, evaluate_torch

COLUMNS = ("values", "gradients", "second")


def apart(found, wanted):
    """The largest difference between two lists of arrays, relative to each array's largest element."""
    parts = [0.0]
    for y, z in zip(found, wanted, strict=True):
        largest = np.abs(z).max(initial=0)
        parts.append(np.abs(y - z).max(initial=0) / (largest if largest else 1))
    return max(parts)


def disagreements(row, dtype):
    """The largest of all samples of a row: of values, of gradients, of gradients of gradients."""
    samples = [cast(sample, dtype) for sample in row.samples if sample.torch]
    results = [(evaluate(row, sample), evaluate_torch(row, sample)) for sample in samples]
    return [max(apart(getattr(ours, name), getattr(theirs, name)) for ours, theirs in results) for name in COLUMNS]


def main():
    print(f"{'':30}{'float64':^36}{'float32':^36}")
    print(f"{'':30}" + "".join(f"{name:>12}" for name in COLUMNS * 2))
    for row in TABLE.values():
        if row.torch:
            figures = [*disagreements(row, np.float64), *disagreements(row, np.float32)]
            print(f"{row.name:30}" + "".join(f"{figure:12.1e}" for figure in figures))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
