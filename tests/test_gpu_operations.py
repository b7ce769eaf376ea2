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
