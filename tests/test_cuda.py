"""Where arrays live: without CuPy, and with modules that stand in for it."""

import sys
import types

import numpy as np
import pytest

from dezero import cuda
from dezero import functions as F
from dezero.core import Variable


@pytest.fixture(autouse=True)
def _look_again():
    """Whether there is a GPU is found out once a process: forget it before and after each test."""
    cuda.look_again()
    yield
    cuda.look_again()


@pytest.fixture
def no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # `import cupy` raises ImportError


class FakeArray:
    """As much of a CuPy array as can be seen without a device."""

    def __init__(self, data):
        self.host = np.asarray(data)
        self.shape, self.dtype, self.ndim, self.size = self.host.shape, self.host.dtype, self.host.ndim, self.host.size

    def get(self):
        return self.host


def fake_cupy(monkeypatch, count_devices):
    module = types.ModuleType("cupy")
    module.ndarray = FakeArray
    module.asarray = FakeArray
    module.cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=count_devices))
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def no_driver():
    raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")


# ----------------------------------------------------------------------------------------------------------------------
# Without CuPy
# ----------------------------------------------------------------------------------------------------------------------


def test_without_cupy_there_is_no_gpu(no_cupy):
    assert cuda.gpu_enable is False
    assert not hasattr(cuda, "cupy")


def test_without_cupy_as_cupy_names_the_extra(no_cupy):
    with pytest.raises(RuntimeError, match=r"as_cupy: CuPy is not installed: pip install 'dezero\[gpu13\]'"):
        cuda.as_cupy(np.ones(2))


def test_without_cupy_to_gpu_names_the_extra_and_leaves_the_array(no_cupy):
    x = Variable(np.ones(2))
    with pytest.raises(RuntimeError, match=r"dezero\[gpu\]"):
        x.to_gpu()
    assert isinstance(x.data, np.ndarray)


def test_an_unknown_name_is_still_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'cuppy'"):
        _ = cuda.cuppy


@pytest.mark.parametrize("x", [np.ones(2), Variable(np.ones(2)), 3.0, None, [1, 2], np.float32(1)], ids=repr)
def test_what_is_not_cupys_is_numpys(x):
    assert cuda.get_array_module(x) is np


@pytest.mark.parametrize("x", [np.ones(2), Variable(np.ones(2)), [1.0, 1.0], (1.0, 1.0)], ids=repr)
def test_as_numpy(x):
    got = cuda.as_numpy(x)
    assert type(got) is np.ndarray
    np.testing.assert_array_equal(got, [1.0, 1.0])


def test_as_numpy_of_an_array_is_the_array():
    x = np.ones(2)
    assert cuda.as_numpy(x) is x
    assert cuda.as_numpy(Variable(x)) is x


@pytest.mark.parametrize("number", [3, 3.0, np.float32(3.0)])
def test_as_numpy_of_a_number(number):
    got = cuda.as_numpy(number)
    assert type(got) is np.ndarray
    assert got.shape == ()


def test_plain_takes_a_variables_array_and_not_a_numpy_scalars_memory():
    x = np.ones(2)
    assert cuda.plain(Variable(x)) is x
    assert cuda.plain(x) is x
    assert cuda.plain(np.float64(2.0)) == 2.0
    assert cuda.plain(2.0) == 2.0


def test_importing_dezero_does_not_import_cupy(no_cupy):
    F.sin(np.ones(2))
    cuda.get_array_module(np.ones(2))
    assert cuda.find_gpu.cache_info().currsize == 0


# ----------------------------------------------------------------------------------------------------------------------
# CuPy that cannot be used
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count_devices", "reason"),
    [(no_driver, "CuPy imports but no GPU answers: cudaErrorNoDevice"), (lambda: 0, "CuPy imports but finds no GPU")],
)
def test_cupy_without_a_device_is_no_gpu_and_says_why(monkeypatch, count_devices, reason):
    fake_cupy(monkeypatch, count_devices)
    assert cuda.gpu_enable is False
    with pytest.raises(RuntimeError, match=f"as_cupy: {reason}"):
        cuda.as_cupy(np.ones(2))
    with pytest.raises(AttributeError, match=f"cuda.cupy: {reason}"):
        _ = cuda.cupy


def test_cupy_that_breaks_while_importing_says_how(monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "cupy":
                raise OSError("libcudart.so.12: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert cuda.gpu_enable is False
    with pytest.raises(RuntimeError, match="CuPy does not import: libcudart"):
        cuda.as_cupy(np.ones(2))


def test_a_folder_that_cupy_cannot_make_is_named_with_the_way_out(monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "cupy":
                raise NotADirectoryError(20, "Not a directory", "/dev/null/.cupy")

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(RuntimeError, match=r"CuPy does not import: .*; set CUPY_CACHE_DIR to a folder that can be"):
        cuda.use_gpu()


def test_the_report_needs_no_answer_of_cupys(monkeypatch):
    fake_cupy(monkeypatch, no_driver)
    assert cuda.info().startswith("device    none: CuPy imports but no GPU answers: cudaErrorNoDevice")


# ----------------------------------------------------------------------------------------------------------------------
# A stand-in for a working CuPy
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cupy(monkeypatch):
    return fake_cupy(monkeypatch, lambda: 1)


def test_with_a_device_there_is_a_gpu(cupy):
    assert cuda.gpu_enable is True
    assert cuda.cupy is cupy


def test_arrays_move_there_and_back(cupy):
    x = Variable(np.ones(2))
    x.to_gpu()
    assert type(x.data) is FakeArray
    assert cuda.get_array_module(x) is cupy
    assert cuda.get_array_module(x.data) is cupy
    x.to_cpu()
    np.testing.assert_array_equal(x.data, [1.0, 1.0])


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (F.add, "add: arrays on different devices: argument 0 is a cupy array, argument 1 is a numpy array"),
        (F.matmul, "matmul: arrays on different devices: argument 0 is a cupy array, argument 1 is a numpy array"),
        (
            lambda a, b: F.linear(b, a, b),
            "linear: arrays on different devices: "
            "argument 0 is a numpy array, argument 1 is a cupy array, argument 2 is a numpy array",
        ),
        (lambda a, b: F.conv2d(a, b), "conv2d: arrays on different devices"),
        (F.softmax_cross_entropy, "softmax_cross_entropy: arrays on different devices"),
    ],
)
def test_mixing_devices_names_the_operation_the_arguments_and_the_way_out(cupy, f, message):
    with pytest.raises(TypeError, match=message + ".*to_gpu.*to_cpu"):
        f(Variable(FakeArray(np.ones((2, 2)))), Variable(np.ones((2, 2))))
