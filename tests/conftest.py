"""What tests find in place: the one source of random numbers as it was, and a GPU, or a stand-in for one."""

import os
import sys
import warnings

import numpy as np
import pytest

from dezero import cuda, random


@pytest.fixture(autouse=True)
def _no_seed_is_left():
    yield
    random.seed(None)


class GPU:
    """Where a test's arrays go, and how they come back."""

    def __init__(self, cupy):
        self.cupy = cupy

    def to(self, x):
        """NumPy's arrays, inside lists, tuples and dicts too, as CuPy's; all else as it is."""
        if isinstance(x, np.ndarray):
            return self.cupy.asarray(x)
        if isinstance(x, (list, tuple)):
            return type(x)(map(self.to, x))
        return {name: self.to(value) for name, value in x.items()} if isinstance(x, dict) else x

    def back(self, x):
        """What `to` made, as it was."""
        if isinstance(x, (list, tuple)):
            return type(x)(map(self.back, x))
        return cuda.as_numpy(x) if cuda.is_array(x) else x


@pytest.fixture
def simulated(request):
    """CuPy's stand-in, in CuPy's place: see simulated_gpu/. It yields a GPU of one device, or of more."""
    from simulated_gpu import modules

    made = modules(devices=getattr(request, "param", 1))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] in ("cupy", "cupyx")]:
            patch.delitem(sys.modules, name)
        for name, module in made.items():
            patch.setitem(sys.modules, name, module)
        patch.setitem(sys.modules, "cudnn", None)  # a real cuDNN would take a simulated address for a device's
        patch.setenv("DEZERO_CUBLAS", "0")  # nor may a real cuBLAS
        cuda.look_again()
        yield GPU(made["cupy"])
    cuda.look_again()


@pytest.fixture(params=["simulated", pytest.param("cupy", marks=pytest.mark.gpu)])
def gpu(request):
    """Where there is a device, the test runs on it, too: `pytest -m gpu` runs these alone.

    Without one these skip, and fail where the environment has DEZERO_NEED_GPU.
    """
    if request.param == "simulated":
        return request.getfixturevalue("simulated")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what CuPy says while it is imported is no error of ours
        module, reason = cuda.find_gpu()
    if module is None:
        (pytest.fail if os.environ.get("DEZERO_NEED_GPU") else pytest.skip)(f"needs a GPU: {reason}")
    return GPU(module)
