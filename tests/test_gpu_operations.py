"""Every row of the table of operations on CuPy's arrays: values, gradients and their gradients are NumPy's."""

import numpy as np
import pytest
from operations import TABLE
from operations.row import cast, evaluate

SAMPLES = [(row, sample) for row in TABLE.values() for sample in row.samples]
every_sample = pytest.mark.parametrize(("row", "sample"), SAMPLES, ids=[f"{row.name}-{s}" for row, s in SAMPLES])


@every_sample
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
def test_the_gpu_computes_what_the_cpu_does(gpu, row, sample, dtype):
    sample = cast(sample, dtype)
    wanted, found = evaluate(row, sample), evaluate(row, sample, gpu.to)
    tolerance = row.tolerance if dtype is np.float64 else 10 * row.tolerance32
    for kind in ("values", "gradients", "second"):
        for y, z in zip(getattr(found, kind), getattr(wanted, kind), strict=True):
            assert (y.shape, y.dtype) == (z.shape, z.dtype), kind
            np.testing.assert_allclose(y, z, rtol=tolerance, atol=tolerance, err_msg=kind)


def partly_moved(gpu, x, goes):
    """Move the arrays, inside lists too, that `goes` says."""
    if isinstance(x, (list, tuple)):
        return type(x)(partly_moved(gpu, part, goes) for part in x)
    return gpu.to(x) if isinstance(x, np.ndarray) and goes(x) else x


@every_sample
@pytest.mark.parametrize("moving", ["floats", "the first of the floats", "all else"])
def test_arguments_on_two_devices_are_named_or_work(gpu, row, sample, moving):
    """Also those that are no Variables: labels, masks, bounds. NumPy's indexes of CuPy's arrays work."""
    first = next(iter(sample.leaves), None)
    goes = {
        "floats": lambda x: x.dtype.kind == "f",
        "the first of the floats": lambda x: x is first,
        "all else": lambda x: x.dtype.kind != "f",
    }[moving]
    options = {name: partly_moved(gpu, v, lambda x: moving == "all else") for name, v in sample.options.items()}
    refusal = "arrays on different devices: argument "
    try:
        row.function(*partly_moved(gpu, sample.args, goes), **options)
    except Exception as error:
        refusal = str(error)
    assert "arrays on different devices: argument " in refusal
