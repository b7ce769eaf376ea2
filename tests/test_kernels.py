"""Which kernels work on an array, and that each of every backend computes what the reference does.

The table of cases, CASES, has a row for each kernel. A backend that is new, in `kernels.BACKENDS`, is tested by it as
the others are. What kernels do to one another, gradients of higher orders too, is in test_operations.py.
"""

import importlib
import inspect
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from dezero import functions as F
from dezero import kernels
from dezero.kernels import blocked, reference, using_kernels
from dezero.kernels.blocked.layout import flat
from dezero.testing import check_grads

X = np.zeros((1, 1, 3, 3))
BACKENDS = [name for name in kernels.BACKENDS if name != "reference"]
REFERENCE = {
    name: f
    for name, f in vars(reference).items()
    if inspect.isfunction(f) and f.__module__ == reference.__name__ and not name.startswith("_")
}


def test_using_kernels_holds_inside_the_block_and_in_its_thread():
    default, seen = kernels.for_array(X), []
    with using_kernels("reference"):
        assert kernels.for_array(X) is reference
        thread = threading.Thread(target=lambda: seen.append(kernels.for_array(X)))
        thread.start()
        thread.join()
        with using_kernels("blocked"):
            assert kernels.for_array(X) is blocked
        assert kernels.for_array(X) is reference
    assert kernels.for_array(X) is default
    assert seen == [default]


def test_an_error_inside_gives_the_choice_back():
    default = kernels.for_array(X)
    with pytest.raises(KeyError), using_kernels("reference"):
        raise KeyError
    assert kernels.for_array(X) is default


def test_an_unknown_name_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="using_kernels: there are no kernels 'fast'; there are reference, blocked"):
        using_kernels("fast").__enter__()


@pytest.mark.parametrize(("name", "said"), [("reference", "reference"), ("fast", "there are no kernels 'fast'")])
def test_the_environment_chooses_what_to_begin_with(name, said):
    program = "import numpy, dezero; print(dezero.kernels.for_array(numpy.zeros(1)).__name__)"
    environment = {**os.environ, "DEZERO_KERNELS": name, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert said in done.stdout + done.stderr


@pytest.mark.parametrize("forward", ["reference", "blocked"])
def test_a_pass_may_go_forward_with_one_and_backward_with_another(forward):
    def f(x, W):
        with using_kernels(forward):
            return F.pooling(F.conv2d(x, W, pad=1), 2, 2)

    rng = np.random.default_rng(0)
    check_grads(f, rng.standard_normal((2, 3, 6, 6)), rng.standard_normal((4, 3, 3, 3)), order=3, rtol=1e-4)


def test_a_convolution_keeps_channels_last_through_a_network():
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    y = F.pooling(F.relu(F.conv2d(x, np.ones((16, 3, 3, 3), np.float32))), 2, 2)
    assert y.shape == (2, 16, 3, 3)
    assert y.data.transpose(0, 2, 3, 1).flags.c_contiguous


# ----------------------------------------------------------------------------------------------------------------------
# The table: for each kernel some calls. Floating arrays are leaves, which are cast and rearranged; the rest stays
# ----------------------------------------------------------------------------------------------------------------------

ONE, PAIR, NONE = (1, 1), (2, 2), (0, 0)


def numbers(*shape, seed=0, offset=0.0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape) + offset)


def each_shape(*shapes, count=1):
    """Calls with `count` arrays of one shape, for each of the shapes."""
    return [tuple(numbers(*shape, seed=i) for i in range(count)) for shape in shapes]


SHAPES = [(2, 3), (5, 7, 3), (3, 4, 5, 6), (0, 3), (), (40_000,)]
IMAGES = [(4, 3, 6, 5), (2, 5, 1, 1), (3, 1, 4, 4), (1, 2, 3, 3)]
BATCHES = [*IMAGES, (6, 4), (7, 1), (8, 2, 5)]


def windows(*sizes):
    """(x of that many pixels, kernel_size, stride, pad) for all that differs in pooling."""
    kinds = [
        (PAIR, PAIR, NONE),
        ((3, 3), PAIR, NONE),
        ((3, 3), PAIR, ONE),
        ((3, 2), (1, 2), (1, 0)),
        (ONE, ONE, NONE),
        (PAIR, (3, 3), NONE),
        ((3, 3), ONE, ONE),
    ]
    return [(numbers(2, 3, *size, seed=i), *kind) for size in sizes for i, kind in enumerate(kinds)]


POOLED = [
    *windows((7, 8), (6, 6)),
    (numbers(3, 17, 4, 4), PAIR, PAIR, NONE),
    (numbers(1, 1, 13, 12), (12, 11), ONE, ONE),
]
TIED = [(np.round(x), *window) for x, *window in POOLED]  # so that many cells are equal


def pooled_back(with_indexes):
    for x, *window in POOLED:
        y, indexes = reference.max_pool(x, *window)
        yield (numbers(*y.shape, seed=3), *([indexes] if with_indexes else []), x.shape[2:], *window)


def convolutions(of):
    """Calls of one kernel of the convolution family: `of` brings x, W, b, y and the rest into its order."""
    kinds = [(ONE, NONE, ONE, 1), (PAIR, ONE, ONE, 1), ((1, 2), (2, 0), PAIR, 1), (ONE, ONE, ONE, 2)]
    for bias, (stride, pad, dilation, groups) in zip([True, False, True, True], kinds, strict=True):
        x, W, b = numbers(3, 4, 7, 8), numbers(6, 4 // groups, 3, 2, seed=1), numbers(6, seed=2) if bias else None
        y = reference.conv2d(x, W, b, stride, pad, dilation, groups)
        yield of(x, W, b, y, stride, pad, dilation, groups)
    x, W = numbers(1, 2, 5, 6), numbers(300, 2, 1, 1, seed=1)  # kernels that skip pixels, seen from many channels
    y = reference.conv2d(x, W, None, PAIR, NONE, ONE, 1)
    yield of(x, W, None, y, PAIR, NONE, ONE, 1)


def batch_norm_grads():
    for shape in BATCHES:
        x, C = numbers(*shape, offset=2.0), shape[1]
        axes = (0, *range(2, x.ndim))
        yield x, numbers(*shape, seed=1), numbers(C, seed=2), x.mean(axis=axes), x.var(axis=axes), 1e-3


def per_channel(shapes, *more):
    return [(numbers(*shape), numbers(shape[1], seed=1), numbers(shape[1], seed=2), *more) for shape in shapes]


MATRICES = [(5, 7), (1, 3), (4, 1), (0, 3), (300, 129)]
SCORES = [((5, 7), [0, 6, 3, 3, 1]), ((1, 1), [0]), ((4, 70), [69, 0, 5, 5])]
PARAMS = [(3, 4), (), (5,), (2, 3, 3, 2), (0, 2)]


def gates():
    """x (N, D), h (N, H), and Wx, b and Wh of several gates, on this side and on that of where kernels change."""
    small, large = [(2, 3, 4, 4), (0, 3, 4, 2), (3, 5, 33, 1)], [(20, 64, 64, 4), (33, 48, 64, 3), (32, 64, 40, 2)]
    for N, D, H, count in small + large:
        shapes = [(N, D), (N, H), *[(D, H)] * count, *[(H,)] * count, *[(H, H)] * count]
        yield count, [numbers(*shape, seed=i) for i, shape in enumerate(shapes)]


CELLS = [(2, 3), (5, 1), (0, 3), (33, 7)]
EVERYWHERE = [
    np.inf,
    -np.inf,
    1e30,
    -1e30,
    1e4,
    -1e4,
    750,
    -750,
    90,
    -90,
    20,
    -20,
    9,
    -9,
    3,
    -3,
    1e-5,
    -1e-5,
    1e-20,
    0,
    -0.0,
]


def activations(count=1, *options):
    """Calls of an activation, or of its gradient, with x of every shape, and of every size."""
    calls = each_shape(*SHAPES, count=count)
    calls += [(4 * numbers(30, seed=5), *(numbers(30, seed=6) for _ in range(count - 1)))]
    calls += [(np.array(EVERYWHERE), *(np.ones(len(EVERYWHERE)) for _ in range(count - 1)))]
    return [(*call, *options) for call in calls]


def updates(states, *options):
    """Calls of an update: p, what is remembered (squares, so positive), and g."""
    for shape in PARAMS:
        remembered = (np.abs(numbers(*shape, seed=2 + i)) for i in range(states))
        yield numbers(*shape), *remembered, numbers(*shape, seed=1), *options


CASES = {
    "im2col": [(numbers(2, 3, 6, 7), (3, 2), (2, 1), (1, 0), ONE), (numbers(1, 2, 7, 7), PAIR, ONE, ONE, PAIR, -1.0)],
    "col2im": [
        (numbers(2, 3, 3, 2, 3, 6), (6, 7), (2, 1), (1, 0), ONE),
        (numbers(1, 2, 2, 2, 5, 5), (7, 7), ONE, NONE, PAIR),
    ],
    "conv2d": [*convolutions(lambda x, W, b, y, *rest: (x, W, b, *rest))],
    "conv2d_relu": [*convolutions(lambda x, W, b, y, *rest: (x, W, b, *rest))],
    "deconv2d": [
        *convolutions(
            lambda x, W, b, y, s, p, d, g: (y, W, numbers(4) if b is not None else b, s, p, x.shape[2:], d, g),
        )
    ],
    "conv2d_grad_w": [*convolutions(lambda x, W, b, y, s, p, d, g: (x, y, W.shape[2:], s, p, d, g))],
    "max_pool": [*POOLED, *TIED],
    "max_pool_gather": [
        (numbers(*x.shape, seed=4), reference.max_pool(x, *window)[1], *window) for x, *window in [*POOLED, *TIED]
    ],
    "max_pool_scatter": [*pooled_back(with_indexes=True)],
    "average_pool": POOLED,
    "average_pool_grad": [*pooled_back(with_indexes=False)],
    "relu": each_shape(*SHAPES),
    "relu_grad": [*each_shape(*SHAPES, count=2), (np.array([-0.0, 0.0, 1.0, -1.0]), np.full(4, np.inf))],
    "sigmoid": [*each_shape(*SHAPES), (np.array([-1000.0, -100.0, -50.0, -8.0, 8.0, 50.0, 1000.0, np.inf, -np.inf]),)],
    "sigmoid_grad": each_shape(*SHAPES, count=2),
    "add": [*each_shape(*SHAPES, count=2), (numbers(2, 3, 4, 5), numbers(1, 3, 1, 1))],
    "astype": [(x, np.dtype(np.float32)) for (x,) in each_shape(*SHAPES)],
    "tanh": [*each_shape(*SHAPES), (np.array([-1000.0, 1000.0, np.inf, -np.inf]),)],
    "tanh_grad": each_shape(*SHAPES, count=2),
    **{name: activations() for name in ("erf", "gelu", "gelu_tanh", "silu", "hard_swish")},
    **{f"{name}_grad": activations(2) for name in ("gelu", "gelu_tanh", "silu", "hard_swish")},
    **{name: activations(1, 0.3) for name in ("elu", "softplus", "leaky_relu")},
    **{f"{name}_grad": activations(2, 0.3) for name in ("elu", "softplus", "leaky_relu")},
    "lstm_cell": [(4 * numbers(4, *shape), numbers(*shape, seed=1)) for shape in CELLS],
    "lstm_cell_grad": [(numbers(4, *shape), *(numbers(*shape, seed=i) for i in (1, 2, 3))) for shape in CELLS],
    "lstm_output": [tuple(3 * numbers(*shape, seed=i) for i in (1, 2)) for shape in CELLS],
    "lstm_output_grad": [tuple(numbers(*shape, seed=i) for i in (1, 2, 3)) for shape in CELLS],
    "gru_cell": [(4 * numbers(2, *shape), *(numbers(*shape, seed=i) for i in (1, 2, 3))) for shape in CELLS],
    "gru_cell_grad": [(numbers(3, *shape), *(numbers(*shape, seed=i) for i in (1, 2, 3))) for shape in CELLS],
    "batch_norm": [*per_channel(BATCHES, 1e-3), *per_channel([(300, 3), (70, 2, 3, 3), (3, 2, 70, 70)], 0.1)],
    "batch_norm_grad": [*batch_norm_grads()],
    "update_statistics": [
        (numbers(C), *(np.abs(numbers(C, seed=i)) for i in (1, 2, 3)), 0.9, count)
        for C, count in [(5, 7), (1, 1), (0, 2)]
    ],
    "scale_and_shift": per_channel([*BATCHES, (0, 3), (0, 2, 3, 3)]),
    "channel_sum": each_shape(*BATCHES, (0, 3), (0, 2, 3, 3), (300, 3), (70, 2, 9, 9)),
    "normalise": [(*args, 1e-3) for args in each_shape(*MATRICES)],
    "normalise_grad": [
        (reference.normalise(x, 1e-3)[0], np.abs(numbers(len(x), seed=1)) + 0.1, gy)
        for x, gy in each_shape(*MATRICES, count=2)
    ],
    "copy": each_shape((3,), (3, 4), (0, 2), (2, 3, 4, 5), (2, 40, 9, 9), (1, 33, 5, 4), (2, 1, 3, 3), (3, 16, 1, 1)),
    "matmul": [
        (numbers(4, 3), numbers(3, 5, seed=1)),
        (numbers(2, 4, 3), numbers(2, 3, 5, seed=1)),
        (numbers(2, 1, 4, 3), numbers(6, 3, 5, seed=1)),
        (numbers(3), numbers(2, 3, 5, seed=1)),
        (numbers(0, 3), numbers(3, 5, seed=1)),
    ],
    "einsum": [
        ("ij,kj->ik", numbers(4, 3), numbers(5, 3, seed=1)),
        ("bij,bjk->bik", numbers(2, 4, 3), numbers(2, 3, 5, seed=1)),
        ("iij->j", numbers(3, 3, 2)),
    ],
    "linear": [
        *((numbers(N, D), numbers(D, M, seed=1), None) for N, D, M in [(2, 3, 4), (0, 3, 4), (3, 0, 4), (1, 1, 1)]),
        *((numbers(N, D), numbers(D, M, seed=1), numbers(M, seed=2)) for N, D, M in [(4, 3, 2), (100, 70, 65)]),
        *((numbers(N, D), numbers(D, M, seed=1), numbers(M, seed=2)) for N, D, M in [(13, 300, 129), (1, 600, 600)]),
        *((numbers(N, D), numbers(D, M, seed=1), numbers(M, seed=2)) for N, D, M in [(70, 90, 57), (67, 700, 33)]),
    ],
    "gates": [tuple(arrays) for _, arrays in gates()],
    "gates_grad_x": [(numbers(count, *h.shape), *rest[:count]) for count, (_, h, *rest) in gates()],
    "gates_grad_w": [(x, numbers(count, *h.shape)) for count, (x, h, *_) in gates()],
    "log_softmax": [
        *(
            (numbers(*shape), axis)
            for shape, axis in [((5, 7), 1), ((5, 7), 0), ((3, 4, 5), -1), ((4, 70), -1), ((0, 3), 1)]
        ),
        (np.array([[1000.0, -1000.0], [-np.inf, 0.0], [1e4, 1e4 + 1]]), 1),
        *((numbers(*shape), None) for shape in [(), (3, 4)]),
        (np.array([[-1000.0, 1000.0, 999.0], [1e4, 1e4 + 1, -1e4]]), 1),
    ],
    "softmax_cross_entropy": [(numbers(*shape), np.array(t)) for shape, t in SCORES],
    "softmax_cross_entropy_grad": [
        (reference.log_softmax(numbers(*shape), 1), np.array(t), np.array(0.7)) for shape, t in SCORES
    ],
    "add_at": [
        ((5, 3), np.array([[4, 0], [4, -1]]), numbers(2, 2, 3)),
        ((4, 3), (np.array([0, 0, 1]), np.array([2, 2, 0])), numbers(3)),
        ((4, 3), np.array([[True, False, True]] * 4), numbers(8)),
        ((4, 3), np.array([], int), numbers(0, 3)),
    ],
    "add_rows": [
        ((5, 3), np.array([4, 0, 4, 4]), numbers(4, 3)),
        ((5,), np.array([[4, 0], [4, 4]]), numbers(2, 2)),
        ((3, 2, 2), np.array([], int), numbers(0, 2, 2)),
        ((3, 2), np.array(1), numbers(2)),
    ],
    "sgd": [*updates(0, 0.1)],
    "momentum_sgd": [*updates(1, 0.1, 0.9)],
    "nesterov_sgd": [*updates(1, 0.1, 0.9)],
    "adagrad": [*updates(1, 0.1, 1e-3)],
    "rmsprop": [*updates(1, 0.1, 0.9, 1e-3)],
    "adadelta": [*updates(2, 0.9, 1e-3)],
    "adam": [*updates(2, 0.1, 0.9, 0.99, 1e-3)],
    "adamw": [*updates(2, 0.1, 0.9, 0.99, 1e-3, 0.05)],
    "nadam": [*updates(2, 0.1, 0.2, 0.9, 0.99, 1e-3)],
    "lion": [*updates(1, 0.1, 0.9, 0.99, 0.05)],
}
RULES = {"sgd", "momentum_sgd", "nesterov_sgd", "adagrad", "rmsprop", "adadelta", "adam", "adamw", "nadam", "lion"}
UPDATES = {"update_statistics", *RULES}


def strided(x):
    return np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if x.ndim > 2 else fortran(x)


def fortran(x):
    return np.array(x, order="F")


def reversed_(x):
    return np.flip(np.flip(x).copy())


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


ARRANGEMENTS = [np.array, channels_last, strided, reversed_, fortran, read_only]
TOLERANCES = {"float64": 1e-12, "float32": 2e-5, "float16": 2e-2}


def is_leaf(x):
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def run(f, args):
    """What a kernel returns, or for an update the arrays it has changed."""
    ys = f(*args)
    if ys is None:
        return [x for x in args if is_leaf(x)][:-1]  # all but g
    return list(ys) if isinstance(ys, tuple) else [ys]


def arranged(name, args, dtype, arrange):
    """The arguments of a case, leaves cast and rearranged; what an update writes to cannot be read-only."""
    args = [x.astype(dtype) if is_leaf(x) else x for x in args]
    last = max(i for i, x in enumerate(args) if is_leaf(x))
    changed = range(last) if name in UPDATES else ()
    return [np.array(x) if i in changed else arrange(x) if is_leaf(x) else x for i, x in enumerate(args)]


def check(f, name, dtype, arrangements=tuple(ARRANGEMENTS)):
    """Hold `f` against the reference in float64, all cases of the kernel `name` in all arrangements."""
    for number, case in enumerate(CASES[name]):
        if dtype == "float16" and any(is_leaf(x) and x.size > 1000 for x in case):
            continue  # sums of so many have no digits left
        for arrange in arrangements:
            args = arranged(name, case, dtype, arrange)
            exact = [x.astype(np.float64) if is_leaf(x) else x for x in args]
            before = [x.copy() if isinstance(x, np.ndarray) else x for x in args]
            same = run(REFERENCE[name], [x.copy() if isinstance(x, np.ndarray) else x for x in args])
            wanted = run(REFERENCE[name], exact)
            found = run(f, args)
            where = f"{name}, case {number}, {arrange.__name__}, {dtype}"
            for y, z, like in zip(found, wanted, same, strict=True):
                tolerance = TOLERANCES[dtype] * max(1.0, np.abs(np.asarray(z)[np.isfinite(z)]).max(initial=0))
                assert np.shape(y) == np.shape(z), where
                assert y.dtype.kind == like.dtype.kind, where
                assert y.dtype == like.dtype or y.dtype.kind in "iu", where
                np.testing.assert_allclose(y, z, rtol=TOLERANCES[dtype], atol=tolerance, err_msg=where)
            if name not in UPDATES:
                for x, old in zip(args, before, strict=True):
                    np.testing.assert_array_equal(x, old, err_msg=f"{where}: changed an argument")


def test_every_kernel_has_cases():
    assert set(REFERENCE) == set(CASES)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_has_the_kernels_of_the_reference_with_their_arguments(backend):
    for name, f in REFERENCE.items():
        found = inspect.signature(getattr(kernels.BACKENDS[backend], name))
        assert list(found.parameters) == list(inspect.signature(f).parameters), name


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("backend", kernels.BACKENDS)
def test_a_kernel_computes_what_the_reference_does(backend, name, dtype):
    check(getattr(kernels.BACKENDS[backend], name), name, dtype)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("name", sorted(set(CASES) - UPDATES - {"log_softmax"}))
@pytest.mark.parametrize("backend", kernels.BACKENDS)
def test_a_kernel_takes_float16(backend, name):
    check(getattr(kernels.BACKENDS[backend], name), name, "float16", arrangements=[np.array, channels_last])


@pytest.mark.parametrize("name", CASES)
def test_a_kernel_that_is_slightly_wrong_is_found_out(name):
    """In each of its results, by itself."""

    def slightly_wrong(number):
        def f(*args):
            ys = run(REFERENCE[name], args)
            if name in UPDATES:
                ys[number] *= 1.001
                return None
            ys[number] = ys[number] * 1.001 if ys[number].dtype.kind == "f" else ys[number] + 1
            return tuple(ys) if len(ys) > 1 else ys[0]

        return f

    for number in range(len(run(REFERENCE[name], arranged(name, CASES[name][0], "float64", np.array)))):
        with pytest.raises(AssertionError):
            check(slightly_wrong(number), name, "float64", arrangements=[np.array])


@pytest.mark.parametrize("name", CASES)
def test_blocked_does_not_mind_how_large_its_blocks_are(name, monkeypatch):
    for room in ("activation", "conv", "norm", "pool", "rows", "update"):
        for size in ("BLOCK", "BUFFER", "LARGE", "LONG", "ROWS", "SHORT"):
            if hasattr(getattr(blocked, room), size):
                monkeypatch.setattr(getattr(blocked, room), size, 2)
    blocked.activation._zeros.cache_clear()
    try:
        check(getattr(blocked, name), name, "float64")
    finally:
        blocked.activation._zeros.cache_clear()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted({*UPDATES, "relu", "relu_grad", "sigmoid_grad", "tanh_grad"}))
def test_compiled_does_for_large_arrays_what_it_does_for_small_ones(name, dtype, monkeypatch):
    pytest.importorskip("numba")
    compiled = kernels.BACKENDS["numba"]
    elementwise = importlib.import_module("dezero.kernels.compiled.elementwise")
    monkeypatch.setattr(elementwise, "SMALL", 1)  # below which NumPy does it
    monkeypatch.setattr(elementwise, "PIECE", 2)
    check(getattr(compiled, name), name, dtype)


@pytest.mark.parametrize("g_dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(UPDATES))
@pytest.mark.parametrize("backend", kernels.BACKENDS)
def test_an_update_takes_a_gradient_of_another_dtype_and_keeps_its_own(backend, name, g_dtype):
    *args, last = [i for i, x in enumerate(CASES[name][0]) if is_leaf(x)]
    for p_dtype in (np.float32, np.float64):
        kinds = {**dict.fromkeys(args, p_dtype), last: g_dtype}
        found, wanted = (
            run(f, [x.astype(kinds[i]) if is_leaf(x) else x for i, x in enumerate(CASES[name][0])])
            for f in (getattr(kernels.BACKENDS[backend], name), REFERENCE[name])
        )
        for y, z in zip(found, wanted, strict=True):
            assert y.dtype == p_dtype
            np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["relu", "relu_grad", "channel_sum", "tanh", "max_pool", "average_pool", "im2col", "conv2d_relu"]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_kernel_takes_integers_where_its_function_does(backend, name):
    case = next(args for args in CASES[name] if args[0].ndim == 4)
    args = [(x * 3).astype(int) if is_leaf(x) else x for x in case]
    for y, z in zip(*(run(f, args) for f in (getattr(kernels.BACKENDS[backend], name), REFERENCE[name])), strict=True):
        assert y.dtype.kind == z.dtype.kind
        np.testing.assert_allclose(y, z)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(
    "name", ["relu", "relu_grad", "sigmoid", "tanh", "batch_norm", "scale_and_shift", "normalise", "log_softmax"]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_infinity_and_nan_come_out_where_the_reference_has_them(backend, name, special):
    for case in CASES[name]:
        args = [x.copy() if is_leaf(x) else x for x in case]
        if args[0].size < 2 or not np.isfinite(args[0]).all():
            continue
        args[0].flat[1] = special
        found, wanted = (run(f, args) for f in (getattr(kernels.BACKENDS[backend], name), REFERENCE[name]))
        for y, z in zip(found, wanted, strict=True):
            np.testing.assert_allclose(y, z, rtol=1e-10, atol=1e-12)


# An image of a size, OC, KH = KW, groups; float32 or 64: by way of Winograd, few channels, small arrays, and the rest.
RECTIFIED = [
    ((2, 3, 6, 7), 4, 3, 1),
    ((4, 32, 12, 12), 32, 3, 1),
    ((3, 16, 20, 20), 24, 3, 1),
    ((3, 16, 20, 20), 24, 5, 2),
    ((3, 16, 30, 30), 16, 3, 16),
    ((3, 16, 40, 40), 2, 3, 1),
    ((5, 4, 30, 30), 6, 1, 2),
]


@pytest.mark.parametrize(("image", "OC", "kernel", "groups"), RECTIFIED)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("backend", kernels.BACKENDS)
def test_conv2d_relu_is_to_the_bit_the_relu_of_conv2d_in_its_memory(backend, dtype, image, OC, kernel, groups):
    backend = kernels.BACKENDS[backend]
    x, W = numbers(*image).astype(dtype), numbers(OC, image[1] // groups, kernel, kernel, seed=1).astype(dtype)
    b = numbers(OC, seed=2).astype(dtype)
    b[0] = np.nan  # which relu lets through
    rest = x, W, b, ONE, ONE, ONE, groups
    y, plain = backend.conv2d_relu(*rest), backend.conv2d(*rest)
    assert np.isnan(y[:, 0]).all()
    assert 0 < (y == 0).mean() < 1
    np.testing.assert_array_equal(y, backend.relu(plain))
    assert (y.dtype, y.strides) == (plain.dtype, plain.strides)


@pytest.mark.parametrize("backend", BACKENDS)
def test_conv2d_relu_needs_no_array_beside_that_of_conv2d(backend, monkeypatch):
    backend = kernels.BACKENDS[backend]
    x, W, b = (a.astype(np.float32) for a in (numbers(3, 16, 20, 20), numbers(24, 16, 3, 3, seed=1), numbers(24)))
    seen = []
    for room in (kernels.blocked.conv, sys.modules[backend.conv2d_relu.__module__]):
        f = room.conv2d
        monkeypatch.setattr(room, "conv2d", lambda *args, f=f: seen.append(f(*args)) or seen[-1])
    y = backend.conv2d_relu(x, W, b, ONE, ONE, ONE, 1)
    assert np.shares_memory(y, seen[-1])


def far_from_zero():
    """Images around 1000; rows of channels around others; a first row so unlike that it is no guess at the mean."""
    rng = np.random.default_rng(0)
    outlier = rng.standard_normal((9001, 3))
    outlier[0] = 100
    images = rng.standard_normal((40, 3, 9, 8)) * 0.1 + 1000
    for x in (images, rng.standard_normal((900, 5)) + [0, 1, 1e2, 1e3, -1e4], outlier):
        yield x.astype(np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_normalisation_keeps_its_digits_far_from_zero(backend):
    backend = kernels.BACKENDS[backend]
    for x in far_from_zero():
        ones = np.ones(x.shape[1], np.float32)
        y, mean, var = backend.batch_norm(x, ones, 0 * ones, 1e-5)
        exact, exact_mean, exact_var = reference.batch_norm(*(a.astype(np.float64) for a in (x, ones, 0 * ones)), 1e-5)
        np.testing.assert_allclose(mean, exact_mean, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(var, exact_var, rtol=2e-5)
        np.testing.assert_allclose(y, exact, rtol=2e-5, atol=2e-5)  # the reference strays a hundred times as far
        rows = x.reshape(len(x), -1)
        exact = reference.normalise(rows.astype(np.float64), 1e-5)[0]
        np.testing.assert_allclose(backend.normalise(rows, 1e-5)[0], exact, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    "name",
    ["relu", "relu_grad", "sigmoid", "tanh_grad", "batch_norm", "batch_norm_grad", "scale_and_shift"]
    + ["max_pool", "max_pool_scatter", "average_pool", "average_pool_grad"],
)
def test_results_lie_in_memory_as_what_they_are_made_of(name):
    """A gradient as the x it belongs to, or the indexes found in it, wherever gy comes from."""
    for case in CASES[name]:
        if case[0].ndim == 4 and min(case[0].shape) > 1:
            for arrange, axes in ((np.array, (0, 1, 2, 3)), (channels_last, (0, 2, 3, 1))):
                leads = 1 if name == "max_pool_scatter" else 0
                y = run(getattr(blocked, name), [arrange(x) if i == leads else x for i, x in enumerate(case)])[0]
                order = sorted(range(4), key=lambda i: -y.strides[i])  # a view when the padding was cut off
                assert tuple(order) == axes or 1 in y.shape, (case[1:], arrange)


@pytest.mark.parametrize("name", ["relu_grad", "batch_norm_grad", "max_pool_scatter", "average_pool_grad", "add_rows"])
def test_a_gradient_has_memory_of_its_own_so_that_a_leaf_need_not_copy_it(name):
    for case in CASES[name]:
        pad = case[-1] if "pool" in name else NONE
        gx = run(getattr(blocked, name), arranged(name, case, "float32", np.array))[0]
        assert (kernels.has_own_memory(gx) and gx.flags.c_contiguous) or pad != NONE, case[1:]


# ----------------------------------------------------------------------------------------------------------------------
# Blocks
# ----------------------------------------------------------------------------------------------------------------------


def test_dense_arrays_in_one_order_are_looked_at_flat_and_others_are_not():
    for arrange in (np.array, channels_last, fortran):
        x, y = arrange(numbers(2, 3, 4, 5)), arrange(numbers(2, 3, 4, 5, seed=1))
        views = flat(x, y)
        assert np.shares_memory(views[0], x)
        np.testing.assert_array_equal(views[0] * views[1], flat(x * y)[0])
    assert flat(numbers(2, 3, 4, 5), channels_last(numbers(2, 3, 4, 5))) is None
    assert flat(strided(numbers(2, 3))) is None
    assert flat(numbers(2, 3), numbers(3)) is None


@pytest.mark.parametrize("bytes_at_a_time", [1, 500, 5_000, 50_000])
@pytest.mark.parametrize(("stride", "pad", "dilation"), [((1, 1), (1, 1), (1, 1)), ((2, 1), (0, 2), (1, 2))])
def test_the_size_of_the_blocks_does_not_matter(bytes_at_a_time, stride, pad, dilation, monkeypatch):
    monkeypatch.setattr(blocked.conv, "BUFFER", bytes_at_a_time)
    rng = np.random.default_rng(0)
    x, W, b = rng.standard_normal((5, 3, 9, 8)), rng.standard_normal((4, 3, 3, 2)), rng.standard_normal(4)
    y = reference.conv2d(x, W, b, stride, pad, dilation, 1)
    np.testing.assert_allclose(blocked.conv2d(x, W, b, stride, pad, dilation, 1), y)
    for back in (reference, blocked):
        assert back.deconv2d(y, W, None, stride, pad, (9, 8), dilation, 1).shape == x.shape
    np.testing.assert_allclose(
        blocked.deconv2d(y, W, None, stride, pad, (9, 8), dilation, 1),
        reference.deconv2d(y, W, None, stride, pad, (9, 8), dilation, 1),
    )
    np.testing.assert_allclose(
        blocked.conv2d_grad_w(x, y, (3, 2), stride, pad, dilation, 1),
        reference.conv2d_grad_w(x, y, (3, 2), stride, pad, dilation, 1),
    )


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("pad", [(0, 0), (1, 1)])
def test_infinity_and_nan_in_a_maximum(special, pad):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6))
    x[0, 0, :3, :3] = special
    x[1, 2] = special
    (y, indexes), (expected, places) = (k.max_pool(x, (3, 3), (2, 2), pad) for k in (blocked, reference))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indexes, places)


def test_an_infinite_gradient_goes_to_its_pixel_alone():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    _, indexes = blocked.max_pool(x, (2, 2), (2, 2), (0, 0))
    gx = blocked.max_pool_scatter(np.full((1, 1, 2, 2), np.inf), indexes, (4, 4), (2, 2), (2, 2), (0, 0))
    assert np.isposinf(gx).sum() == 4
    assert (gx[np.isfinite(gx)] == 0).all()
