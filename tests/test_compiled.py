"""Kernels compiled by Numba: where the code is kept, what is said meanwhile, threads, forks, and blocks."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba")

from dezero import functions as F
from dezero import kernels, models, optimizers, using_config
from dezero import layers as L
from dezero.kernels import reference, scratch, set_num_threads, using_kernels
from dezero.kernels.compiled import conv, layout, product, winograd
from dezero.kernels.compiled.simd import lanes

RELU = """
import numpy as np
from dezero import functions as F, kernels
with kernels.using_kernels("numba"):
    y = F.relu(np.linspace(-1, 1, 100_000, dtype=np.float32)).data
assert (y >= 0).all() and y.max() == 1
"""


def start(home, program=RELU, **variables):
    environment = {**os.environ, "DEZERO_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    return subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True)


def said(process):
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return err


def test_compiling_is_announced_once_and_kept_for_the_next_process(tmp_path):
    home = tmp_path / "a home, with ümlauts"
    assert "dezero: compiling kernels, once for this machine: 1 _relu" in said(start(home))
    assert [path.name[:8] for path in home.iterdir()] == ["kernels-"]
    assert said(start(home)) == ""


def test_two_processes_may_compile_at_once(tmp_path):
    both = [start(tmp_path) for _ in range(2)]
    for process in both:
        said(process)
    assert said(start(tmp_path)) == ""


def test_where_nothing_can_be_kept_each_process_compiles_for_itself(tmp_path):
    home = tmp_path / "home"
    home.write_text("a file, in which no folder can be made")
    for _ in range(2):
        assert "compiling kernels" in said(start(home))
    assert home.read_text() == "a file, in which no folder can be made"


def test_damaged_files_are_made_anew(tmp_path):
    said(start(tmp_path))
    files = list(tmp_path.rglob("*.nb?"))
    assert files
    for kind in ("nbc", "nbi"):
        for path in files:
            if path.suffix == f".{kind}":
                path.write_bytes(path.read_bytes()[:20])
        assert "compiling kernels" in said(start(tmp_path))
        assert said(start(tmp_path)) == ""


def test_numba_that_may_not_compile_is_as_good_as_none(tmp_path):
    ask = "import numpy as np; from dezero import kernels; print(kernels.serving(np.zeros(1)))"
    process = start(tmp_path, ask, NUMBA_DISABLE_JIT="1")
    assert "NUMBA_DISABLE_JIT turns compiling off" in said(process)


def test_numbas_own_settings_are_as_before():
    import numba

    assert os.environ.get("NUMBA_CACHE_DIR", "") == numba.config.CACHE_DIR


# ----------------------------------------------------------------------------------------------------------------------
# The same results, however the work is cut
# ----------------------------------------------------------------------------------------------------------------------


def train(steps=2):
    """Weights after some steps of a network that has every kind of kernel."""
    np.random.seed(0)
    body = [L.Conv2d(20, 3, pad=1), L.BatchNorm(), F.relu, L.Conv2d(33, 3, stride=2), F.relu, L.Conv2d(32, 3, pad=1)]
    net = models.Sequential(*body, lambda x: F.pooling(x, 2, 2), F.flatten, L.Linear(50), F.tanh, L.Linear(10))
    rule = optimizers.Adam().setup(net)
    x, t = np.random.rand(40, 1, 20, 20).astype(np.float32), np.random.randint(0, 10, 40)
    for _ in range(steps):
        loss = F.softmax_cross_entropy(net(x), t)
        net.cleargrads()
        loss.backward()
        rule.update()
    return [param.data.copy() for param in net.params()]


@pytest.fixture
def threads():
    before = kernels.get_num_threads()
    yield
    set_num_threads(before)


def test_the_number_of_threads_changes_no_bit(threads):
    with using_kernels("numba"), using_config("train", True):
        results = []
        for n in (1, 2, 3, 7):
            set_num_threads(n)
            results.append(train())
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_trains_to_the_same_bits(threads):
    set_num_threads(2)
    with using_kernels("numba"):
        expected = train()
        child = os.fork()
        if child == 0:
            same = all((a == b).all() for a, b in zip(train(), expected, strict=True))
            os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("at_a_time", [1, 3000, 10**9])
@pytest.mark.parametrize(
    ("k", "stride", "pad", "dilation", "groups"),
    [(3, 1, 1, 1, 1), (5, 1, 2, 1, 1), (3, 2, 0, 1, 1), (2, 3, 1, 2, 1), (1, 1, 0, 1, 1), (3, 1, 1, 1, 2)],
)
def test_the_size_of_the_blocks_does_not_matter(at_a_time, k, stride, pad, dilation, groups, monkeypatch):
    monkeypatch.setattr(conv, "BUFFER", at_a_time)
    monkeypatch.setattr(winograd, "BLOCK", at_a_time)
    rng = np.random.default_rng(0)
    pairs = (stride, stride), (pad, pad), (dilation, dilation)
    x, W = rng.standard_normal((5, 34, 11, 13)), rng.standard_normal((36, 34 // groups, k, k))
    exact = reference.conv2d(x, W, None, *pairs, groups)
    gy = rng.standard_normal(exact.shape)
    exact_gx = reference.deconv2d(gy, W, None, *pairs[:2], (11, 13), pairs[2], groups)
    exact_gW = reference.conv2d_grad_w(x, gy, (k, k), *pairs, groups)
    x, W, gy = (a.astype(np.float32) for a in (x, W, gy))
    for found, wanted in (
        (conv.conv2d(x, W, None, *pairs, groups), exact),
        (conv.deconv2d(gy, W, None, *pairs[:2], (11, 13), pairs[2], groups), exact_gx),
        (conv.conv2d_grad_w(x, gy, (k, k), *pairs, groups), exact_gW),
    ):
        np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 5, 3), (6, 16, 16), (7, 300, 20), (100, 513, 129), (13, 1, 65)])
def test_a_product_writes_its_columns_and_nothing_behind_them(dtype, shape):
    M, K, N = shape
    rng = np.random.default_rng(0)
    x, W, b = (
        rng.standard_normal((M, K)).astype(dtype),
        rng.standard_normal((K, N)).astype(dtype),
        rng.standard_normal(N),
    )
    guarded = np.full(M * N + 64, 7, dtype)
    rows, places = (product.row_table(np.arange(M) * length) for length in (K, N))
    nowhere, count = np.zeros_like(rows), lanes(dtype)
    left, start = (x.reshape(-1), 0, rows, np.zeros(1, int), K, 1), (product.pack_vector(b, N, dtype), 0, nowhere)
    product.multiply(left, (product.pack(W), 0), N, (guarded, 0, places), start, count)
    expected = x.astype(np.float64) @ W + b
    np.testing.assert_allclose(guarded[: M * N].reshape(M, N), expected, atol=1e-4 if dtype == np.float32 else 1e-12)
    assert (guarded[M * N :] == 7).all()


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 16, 4, 4), (3, 17, 5, 7), (1, 40, 1, 33), (2, 1, 6, 6)])
def test_one_order_of_memory_becomes_the_other(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    pixels = layout.in_pixels(x)
    np.testing.assert_array_equal(pixels, x.transpose(0, 2, 3, 1).reshape(-1))
    N, C, H, W = shape
    np.testing.assert_array_equal(layout.copy(pixels.reshape(N, H, W, C).transpose(0, 3, 1, 2)), x)


def test_scratch_is_bounded_and_can_be_released(monkeypatch):
    scratch.release()
    monkeypatch.setattr(scratch, "LIMIT", 1000)
    first = scratch.take("a", 100, np.float64)
    assert np.shares_memory(first, scratch.take("a", 50, np.float32))
    large = scratch.take("b", 10**6, np.float64)
    assert not np.shares_memory(large, scratch.take("b", 10**6, np.float64))  # more than is kept
    assert np.shares_memory(first, scratch.take("a", 1, np.int8))
    scratch.release()
    assert not np.shares_memory(first, scratch.take("a", 100, np.float64))
