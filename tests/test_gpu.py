"""The whole way on a GPU: training runs, memory, devices, what moves with what. Kernels and operations are elsewhere.

Each test runs on a device where there is one, and on the stand-in for CuPy everywhere.
"""

import contextlib
import gc
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simulated_cublas

import dezero
from dezero import DataLoader, Model, Parameter, Variable, cuda, datasets, gpu_report, optimizers, random
from dezero import functions as F
from dezero import layers as L


class CNN(Model):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm, self.conv2 = L.Conv2d(4, 3, pad=1), L.BatchNorm(), L.Conv2d(6, 3, stride=2)
        self.linear1, self.linear2 = L.Linear(16), L.Linear(3)

    def forward(self, x):
        x = F.pooling(F.relu(self.norm(self.conv1(x))), 2, 2)
        x = F.relu(self.conv2(x))
        return self.linear2(F.relu(self.linear1(F.flatten(x))))


def digits(count=24):
    rng = np.random.default_rng(0)
    t = rng.integers(0, 3, count)
    x = rng.standard_normal((count, 1, 8, 8)) * 0.3
    x[np.arange(count), 0, t + 2] += 1  # a bright row says which
    return list(zip(x.astype(np.float32), t, strict=True))


def train(gpu, optimizer, steps):
    """The losses of a training run that draws the same numbers each time."""
    np.random.seed(0)
    model, loader = CNN(), DataLoader(digits(), 8, gpu=gpu)
    optimizer = optimizer.setup(model)
    if gpu:
        model.to_gpu()
    losses = []
    while len(losses) < steps:
        for x, t in loader:
            loss = F.softmax_cross_entropy(model(x), t)
            model.cleargrads()
            loss.backward()
            optimizer.update()
            losses.append(float(loss))
    return losses[:steps], model


# ----------------------------------------------------------------------------------------------------------------------
# Training
# ----------------------------------------------------------------------------------------------------------------------

RULES = {
    "sgd": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.MomentumSGD(0.05),
    "adagrad": lambda: optimizers.AdaGrad(0.01),
    "rmsprop": lambda: optimizers.RMSprop(0.001),
    "adadelta": lambda: optimizers.AdaDelta(),
    "adam": lambda: optimizers.Adam(0.002),
    "nesterov": lambda: optimizers.NesterovSGD(0.02),
    "adamw": lambda: optimizers.AdamW(0.002, weight_decay=0.1),
    "nadam": lambda: optimizers.NAdam(0.002),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_hundred_steps_give_the_losses_of_the_cpu(gpu, rule):
    wanted, _ = train(False, RULES[rule](), 100)
    found, model = train(True, RULES[rule](), 100)
    assert {type(param.data) for param in model.params()} == {gpu.cupy.ndarray}
    assert wanted[-1] < 0.7 * wanted[0]
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(found[:10], wanted[:10], rtol=1e-5)


@pytest.mark.parametrize("cell", [L.RNN, L.LSTM])
def test_a_recurrent_network_learns_alike(gpu, cell):
    def losses(on_gpu):
        np.random.seed(0)
        rnn, out = cell(8), L.Linear(1)
        model = dezero.models.Sequential(rnn, out)
        optimizer = optimizers.Adam().setup(model)
        xs = np.sin(np.arange(40, dtype=np.float32)).reshape(40, 1, 1)
        if on_gpu:
            model.to_gpu()
            xs = gpu.to(xs)
        found = []
        for _ in range(5):
            rnn.reset_state()
            loss = sum(F.mean_squared_error(model(xs[i]), xs[i + 1]) for i in range(39))
            model.cleargrads()
            loss.backward()
            optimizer.update()
            found.append(float(loss))
        return found

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-4)


def test_the_deterministic_setting_gives_the_same_bits_again(gpu, monkeypatch):
    monkeypatch.setattr(cuda, "deterministic", True)
    ids = np.random.default_rng(0).integers(0, 5, 1000)

    def run():
        np.random.seed(0)
        W = Parameter(gpu.to(np.random.randn(5, 7).astype(np.float32)))
        F.dropout(F.embedding(gpu.to(ids), W)).sum().backward()
        return gpu.back(W.grad.data).tobytes()

    assert run() == run()


def test_the_example_trains_on_the_gpu(simulated, tmp_path, monkeypatch, capsys):
    path = Path(dezero.__file__).parent.parent / "examples" / "train_cnn.py"
    if not path.exists():
        pytest.skip("the package is installed, without the examples")

    class FewDigits(datasets.MiniMNIST):
        def prepare(self):
            super().prepare()
            self.data, self.label = self.data[:200], self.label[:200]

    monkeypatch.setattr(datasets, "MiniMNIST", FewDigits)
    options = ["--gpu", "--epochs", "1", "--hold-out", "100", "--out", str(tmp_path / "w.npz")]
    monkeypatch.setattr(sys, "argv", [str(path), *options])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(path), run_name="__main__")
    dezero.seed(None)
    assert stopped.value.code == 0
    assert "held-out accuracy" in capsys.readouterr().out
    with np.load(tmp_path / "w.npz") as file:
        assert file["conv1/W"].shape == (32, 1, 3, 3)


# ----------------------------------------------------------------------------------------------------------------------
# Random numbers
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [np.random.seed, dezero.seed])
def test_one_seed_is_that_of_both_devices(gpu, seed):
    def draw():
        return gpu.back(F.dropout(gpu.cupy.ones((50, 40), "f4"), 0.3).data)

    seed(0)
    first, second = draw(), draw()
    assert (first != second).any()
    seed(0)
    np.testing.assert_array_equal(draw(), first)
    dezero.seed(None)
    kept = np.stack([first, second]) != 0
    assert abs(kept.mean() - 0.7) < 0.03
    np.testing.assert_allclose(first[first != 0], 1 / 0.7, rtol=1e-6)


def philox(key, counter):
    """Philox 4x32-10 as its authors write it down: four words for a counter, whose upper words are 0 here."""
    c, k = [counter, 0, 0, 0], [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        low, high = 0xFFFFFFFF, 32
        c = [second >> high ^ c[1] ^ k[0], second & low, first >> high ^ c[3] ^ k[1], first & low]
        k = [(k[0] + 0x9E3779B9) & low, (k[1] + 0xBB67AE85) & low]
    return c


@pytest.mark.parametrize("key", [0, 0xFFFFFFFFFFFFFFFF, 0x123456789ABCDEF0, 1 << 32])
def test_the_numbers_are_philoxs(gpu, key):
    from dezero.kernels.gpu import dropout

    assert philox(0, 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]  # from the authors' known answers
    uniform = np.array([word >> 8 for counter in range(3) for word in philox(key, counter)][:10]) / 2**24
    x = np.arange(1.0, 11.0).reshape(5, 2).T
    for ratio in np.sort(uniform):
        y, mask = map(gpu.back, dropout(gpu.to(x), float(ratio), 3.0, lambda: key))
        np.testing.assert_array_equal(mask.ravel(), np.where(uniform >= ratio, 3.0, 0.0))
        np.testing.assert_array_equal(y, x * mask)


def test_weights_made_at_the_first_batch_are_those_of_the_cpu(gpu):
    """Though the loader draws ahead: augmentation and weights share one source."""

    class Noisy(datasets.Dataset):
        def prepare(self):
            self.data, self.label = np.ones((8, 3), np.float32), np.arange(8)

        def batch(self, rows):
            x, t = super().batch(rows)
            return x + random.uniform(*x.shape).astype("f4"), t

    weights = []
    for on_gpu in (False, True):
        np.random.seed(0)
        model = L.Linear(2)
        if on_gpu:
            model.to_gpu()
        model(next(DataLoader(Noisy(), 2, gpu=on_gpu))[0])
        weights.append(gpu.back(model.W.data))
    np.testing.assert_array_equal(*weights)


def test_weights_are_drawn_alike_on_both_devices(gpu):
    x, weights = np.ones((1, 1, 5, 5), np.float32), []
    for on_gpu in (False, True):
        np.random.seed(0)
        layer = L.Conv2d(2, 3)  # its W is made at the first call, where x is
        if on_gpu:
            layer.to_gpu()
        layer(gpu.to(x) if on_gpu else x)
        weights.append(gpu.back(layer.W.data))
    np.testing.assert_array_equal(*weights)


def test_checkpoint_repeats_the_dropout_of_the_device(gpu):
    x = Variable(gpu.cupy.ones((30, 30), "f4"))
    y = dezero.checkpoint(lambda x: F.dropout(x, 0.5) * 2, x)
    y.sum().backward()
    np.testing.assert_array_equal(gpu.back(x.grad.data), gpu.back(y.data))


def test_checkpoint_repeats_dropout_though_weights_were_drawn_between(gpu):
    layer = L.Linear(30)
    layer.to_gpu()
    x = Variable(gpu.cupy.ones((30, 30), "f4"))
    y = dezero.checkpoint(lambda x: F.dropout(layer(x) * 0 + x, 0.5) * 2, x)
    y.sum().backward()
    np.testing.assert_array_equal(gpu.back(x.grad.data), gpu.back(y.data))


# ----------------------------------------------------------------------------------------------------------------------
# Moving
# ----------------------------------------------------------------------------------------------------------------------


def test_a_variable_moves_with_its_gradient(gpu):
    x = Variable(np.ones(3))
    (x * 2).sum().backward()
    x.to_gpu()
    assert {type(x.data), type(x.grad.data)} == {gpu.cupy.ndarray}
    x.to_cpu()
    assert {type(x.data), type(x.grad.data)} == {np.ndarray}
    np.testing.assert_array_equal(x.grad.data, 2)


@pytest.mark.parametrize("rule", RULES)
def test_training_goes_on_where_model_and_optimizer_are_moved(gpu, rule):
    """There and back in the middle of a run: what the rule remembers comes along, asked to or not."""

    def run(move):
        np.random.seed(0)
        model = L.Linear(3)
        optimizer = RULES[rule]().setup(model)
        x, t = np.eye(5, dtype=np.float32), np.array([0, 1, 2, 1, 0])
        for step in range(9):
            if move and step == 3:
                model.to_gpu()
                optimizer.to_gpu()
                x, t = gpu.to(x), gpu.to(t)
            if move and step == 6:
                model.to_cpu()
                x, t = gpu.back(x), gpu.back(t)
            loss = F.softmax_cross_entropy(model(x), t)
            model.cleargrads()
            loss.backward()
            optimizer.update()
        kept = [x for state in optimizer.state.values() for x in state.values()]
        assert all(isinstance(x, np.ndarray) for x in kept)
        return model.W.data

    np.testing.assert_allclose(run(True), run(False), rtol=1e-5, atol=1e-7)


def test_an_optimizer_moves_what_it_remembers(gpu):
    layer = L.Linear(2, in_size=2)
    optimizer = optimizers.Adam().setup(layer)
    layer(np.ones((1, 2), np.float32)).sum().backward()
    optimizer.update()
    for move, kind in ((optimizer.to_gpu, gpu.cupy.ndarray), (optimizer.to_cpu, np.ndarray)):
        move()
        assert {type(x) for state in optimizer.state.values() for x in state.values()} == {kind}


def test_weights_are_saved_and_loaded_across_devices(gpu, tmp_path):
    model = L.Linear(3, in_size=2)
    model.to_gpu()
    model.save_weights(tmp_path / "w.npz")
    other = L.Linear(3, in_size=2)
    other.load_weights(tmp_path / "w.npz")
    np.testing.assert_array_equal(other.W.data, gpu.back(model.W.data))
    model.W.data *= 2
    model.load_weights(tmp_path / "w.npz")
    assert isinstance(model.W.data, gpu.cupy.ndarray)
    np.testing.assert_array_equal(other.W.data, gpu.back(model.W.data))


def test_a_variable_prints_and_becomes_a_number(gpu):
    x = Variable(gpu.to(np.array([[1.0, 2.0]])))
    assert repr(x) == "variable([[1. 2.]])"
    assert float(x[0, 1]) == 2.0
    assert f"{x.sum():.1f}" == "3.0"
    assert repr(pickle.loads(pickle.dumps(Variable(np.ones(1))))) == "variable([1.])"


def test_numpy_is_told_where_the_array_is(gpu):
    with pytest.raises(TypeError, match=r"np.asarray: this Variable is on a GPU; dezero.cuda.as_numpy\(v\) copies it"):
        np.asarray(Variable(gpu.cupy.ones(2)))


@pytest.mark.parametrize("cell", [L.RNN, L.LSTM])
def test_the_state_of_a_recurrent_layer_moves_with_it(gpu, cell):
    model, x = dezero.models.Sequential(cell(3), L.Linear(1)), np.ones((2, 4), np.float32)
    np.random.seed(0)
    model(x)
    model.to_gpu()
    on_gpu = model(gpu.to(x))
    model.to_cpu()
    assert isinstance(model(x).data, np.ndarray)
    assert isinstance(on_gpu.data, gpu.cupy.ndarray)


@pytest.mark.parametrize("label", [-1, 3, 7])
def test_a_label_that_is_no_class_makes_a_loss_nan(gpu, label):
    """Reading it back would stop the stream."""
    t = gpu.to(np.array([0, label, 2]))
    for f in (F.softmax_cross_entropy, F.softmax_cross_entropy_simple, F.cross_entropy, F.nll_loss):
        x = Variable(gpu.to(np.random.default_rng(0).standard_normal((3, 3))))
        y = f(x, t)
        assert np.isnan(float(y))
        for create_graph in (False, True):
            x.cleargrad()
            y.backward(create_graph=create_graph)
            if f is not F.nll_loss:  # whose gradient would be that of another class
                assert np.isnan(gpu.back(x.grad.data)[1]).all()


def test_a_layer_refuses_an_x_that_is_elsewhere_before_it_makes_weights(gpu):
    x = np.ones((2, 1, 5, 5), np.float32)
    for layer in (L.Linear(3), L.Conv2d(2, 3), L.Deconv2d(2, 3), L.BatchNorm()):
        if not isinstance(layer, L.BatchNorm):
            layer.to_gpu()
            with pytest.raises(TypeError, match="arrays on different devices"):
                layer(x)
        layer(gpu.to(x))


def test_a_gpu_holds_no_text(gpu):
    for x in ("text", np.array(["a"]), None, np.array([{}])):
        with pytest.raises(TypeError, match="as_cupy: a GPU holds numbers and booleans, got an array of"):
            cuda.as_cupy(x)


def test_an_update_says_where_a_gradient_is(gpu):
    layer = L.Linear(1, in_size=1)
    layer.W.grad = Variable(gpu.cupy.ones((1, 1)))
    with pytest.raises(TypeError, match=r"SGD\.update: parameter W: data and grad: arrays on different devices"):
        optimizers.SGD().setup(layer).update()


# ----------------------------------------------------------------------------------------------------------------------
# Mixing
# ----------------------------------------------------------------------------------------------------------------------

WAY_OUT = ".*to_gpu.*to_cpu"


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (F.add, "add: arrays on different devices: argument 0 is a cupy array, argument 1 is a numpy array"),
        (lambda a, b: a * b, "mul: arrays on different devices: argument 0 is a cupy array, argument 1 is a numpy"),
        (F.matmul, "matmul: arrays on different devices: argument 0 is a cupy array, argument 1 is a numpy array"),
        (F.where, "where: x0, x1 and condition: arrays on different devices"),
        (lambda a, b: F.linear(b, a, b), "linear: .*argument 0 is a numpy array, argument 1 is a cupy"),
        (lambda a, b: F.conv2d(a[None, None], b[None, None]), "conv2d: arrays on different devices"),
        (lambda a, b: F.concat((a, b)), "concat: arrays on different devices"),
        (lambda a, b: F.softmax_cross_entropy(a, b[0].data.astype(int)), "softmax_cross_entropy: arrays on different"),
        (lambda a, b: b[a.data.astype(int)], "get_item: x and its index: arrays on different devices: argument 0"),
    ],
)  # fmt: skip
def test_mixing_devices_names_the_operation_the_arguments_and_the_way_out(gpu, f, message):
    a, b = Variable(gpu.cupy.ones((2, 2))), Variable(np.ones((2, 2)))
    if f is F.where:
        a, b = [(b.data > 0), a], [a]
        with pytest.raises(TypeError, match=message + WAY_OUT):
            F.where(a[0], a[1], b[0])
        return
    with pytest.raises(TypeError, match=message + WAY_OUT):
        f(a, b)


def test_numbers_and_lists_go_with_either(gpu):
    x = Variable(gpu.to(np.array([1.0, 2.0], np.float32)))
    for y in (
        x + 1,
        2 * x,
        x**2,
        x * np.float64(3),
        x[[1, 0]],
        x[np.array([1, 0])],
        F.take(x, [0]),
        F.where(True, x, 0.0),
    ):
        assert isinstance(y.data, gpu.cupy.ndarray)
        assert y.dtype == np.float32


# ----------------------------------------------------------------------------------------------------------------------
# Devices
# ----------------------------------------------------------------------------------------------------------------------


def test_use_gpu_returns_cupy_and_refuses_a_device_that_there_is_not(gpu):
    assert cuda.use_gpu() is gpu.cupy
    with cuda.device(0):
        assert gpu.cupy.ones(1).device.id == 0
    for f in (cuda.use_gpu, cuda.device):
        with pytest.raises(
            ValueError, match=rf"{f.__name__}: there is no GPU number 99; this machine has \d+, counted"
        ):
            f(99)
        with pytest.raises(TypeError, match=f"{f.__name__}: expected the number of a GPU, got 'one'"):
            f("one")


@pytest.mark.parametrize("simulated", [2], indirect=True)
def test_a_thread_works_on_one_gpu_at_a_time(simulated):
    x = Variable(simulated.cupy.ones(2))
    with cuda.device(1):
        y = Variable(simulated.cupy.ones(2))
        assert gpu_report.info().splitlines()[1].startswith("device 1 (current)")
        (y * 2).sum().backward()
        assert y.grad.data.device.id == 1
        with pytest.raises(
            TypeError, match=r"add: .* argument 0 is a cupy array on GPU 1, argument 1 is a cupy array on GPU 0"
        ):
            y + x
    with pytest.raises(
        RuntimeError, match=r"exp: the arrays are on GPU 1, and this thread works on GPU 0; call .*use_gpu\(1"
    ):
        F.exp(y)
    with pytest.raises(TypeError, match=r"this thread works on GPU 0: see cuda.use_gpu"):
        y * 2
    cuda.use_gpu(1)
    assert isinstance((y * 2).data, simulated.cupy.ndarray)


@pytest.mark.parametrize("name", ["allow_tf32", "deterministic", "channels_last"])
def test_a_setting_is_true_or_false(name):
    assert getattr(cuda, name) is False
    with pytest.raises(TypeError, match=f"cuda.{name} must be True or False, got 1"):
        setattr(cuda, name, 1)
    known = "allow_tf32, deterministic, channels_last"
    with pytest.raises(AttributeError, match=f"cuda has no setting '{name}s'; there are {known}"):
        setattr(cuda, f"{name}s", True)


@pytest.mark.parametrize("when", ["before CuPy is looked for", "after"])
def test_cupys_products_are_told_of_tf32(gpu, monkeypatch, when):
    core, single = gpu.cupy._core, np.dtype("f4")
    if when == "after":
        monkeypatch.setattr(cuda, "allow_tf32", True)
    else:
        monkeypatch.setitem(vars(cuda), "allow_tf32", True)  # as the assignment would, without CuPy
        cuda.look_again()
    cuda.use_gpu()
    assert core.get_compute_type(single) == core._routines_linalg.COMPUTE_TYPE_TF32
    cuda.allow_tf32 = False
    assert core.get_compute_type(single) == core._routines_linalg.COMPUTE_TYPE_DEFAULT


def test_the_environment_does_not_ask_for_tf32(gpu):
    core, single = gpu.cupy._core, np.dtype("f4")
    core.set_compute_type(single, core._routines_linalg.COMPUTE_TYPE_TF32)  # as CUPY_TF32=1 does
    cuda.look_again()
    cuda.use_gpu()
    assert core.get_compute_type(single) == core._routines_linalg.COMPUTE_TYPE_DEFAULT


def test_a_cupy_that_cannot_be_told_of_tf32_is_no_error(simulated, monkeypatch):
    monkeypatch.delattr(simulated.cupy._core, "set_compute_type")
    with pytest.warns(RuntimeWarning, match=r"allow_tf32: CuPy 14.* set CUPY_TF32=1 before"):
        cuda.allow_tf32 = True
    cuda.allow_tf32 = False


# ----------------------------------------------------------------------------------------------------------------------
# Memory
# ----------------------------------------------------------------------------------------------------------------------


def used(gpu):
    return gpu.cupy.get_default_memory_pool().used_bytes()


def test_a_graph_that_is_dropped_gives_its_memory_back(gpu):
    x = Variable(gpu.cupy.ones((50, 50)))
    F.matmul(x, x)  # the first product takes a workspace, and keeps it
    del x
    gc.collect()
    before = used(gpu)
    x = Variable(gpu.cupy.ones((50, 50)))
    y = F.tanh(F.matmul(x, x)) * 2
    assert used(gpu) >= before + 4 * 50 * 50 * 8
    del x, y
    assert used(gpu) == before


@pytest.mark.parametrize("steps", [30, pytest.param(1000, marks=pytest.mark.thorough)])
def test_a_training_loop_does_not_grow(gpu, steps):
    model, optimizer = CNN(), optimizers.Adam()
    optimizer.setup(model)
    model.to_gpu()
    x, t = gpu.to(np.ones((4, 1, 8, 8), np.float32)), gpu.to(np.array([0, 1, 2, 0]))
    gc.collect()
    gc.disable()  # reference counting alone gives it back
    try:
        seen = []
        for _ in range(steps):
            loss = F.softmax_cross_entropy(model(x), t)
            model.cleargrads()
            loss.backward()
            optimizer.update()
            seen.append(used(gpu))
    finally:
        gc.enable()
    assert len(set(seen[2:])) == 1, seen


@contextlib.contextmanager
def no_more_memory(gpu):
    """Inside the block, the pool has nothing left for a megabyte more."""
    pool, taken = gpu.cupy.get_default_memory_pool(), []
    gc.collect()
    pool.free_all_blocks()
    pool.set_limit(size=1)
    with contextlib.suppress(MemoryError):
        while True:  # what it keeps because a part is in use
            taken.append(gpu.cupy.empty(2**17))
    try:
        yield
    finally:
        pool.set_limit(size=0)


def test_out_of_memory_says_what_was_asked_for_what_is_used_and_what_to_do(gpu):
    column = Variable(gpu.cupy.ones((1000, 1)))
    with no_more_memory(gpu), pytest.raises(MemoryError) as failure:
        F.matmul(column, column.T)
    message = str(failure.value)
    assert message.startswith("matmul: the GPU has no memory left for 7.6 MiB more: ")
    for part in ("in arrays", "kept by CuPy's pool", "free. Take a smaller batch, or dezero.checkpoint(f, x)"):
        assert part in message


def test_moving_and_updating_say_so_too(gpu):
    layer, x = L.Linear(1000, in_size=1000), Variable(np.ones((1000, 1000)))
    layer.to_gpu()
    layer.W.grad = layer.W
    optimizer = optimizers.Adam().setup(layer)
    with no_more_memory(gpu):
        with pytest.raises(MemoryError, match=r"to_gpu: the GPU has no memory left for 7\.6 MiB more"):
            x.to_gpu()
        with pytest.raises(MemoryError, match=r"Adam: the GPU has no memory left for 3\.8 MiB more"):
            optimizer.update()


# ----------------------------------------------------------------------------------------------------------------------
# python -m dezero.cuda
# ----------------------------------------------------------------------------------------------------------------------


def test_the_report_says_what_there_is_and_that_it_computes_what_the_cpu_does(gpu, capsys):
    with pytest.raises(SystemExit) as stopped:
        gpu_report.main()
    said = capsys.readouterr().out
    assert stopped.value.code == 0, said
    assert "all is well" in said
    for name in ("device 0", "CUDA", "CuPy", "products", "convolutions", "bfloat16", "settings", "versions"):
        assert f"\n{name}" in f"\n{said}"
    assert said.count(" ok\n") == len(list(gpu_report.self_test()))
    assert cuda.info().splitlines()[0] == said.splitlines()[0]
    assert "allow_tf32 False, deterministic False, channels_last False" in said


def test_the_report_finds_a_wrong_result(gpu, capsys, monkeypatch):
    from dezero.kernels import gpu as backend

    monkeypatch.setattr(backend, "relu", lambda x: x)
    with pytest.raises(SystemExit) as stopped:
        gpu_report.main()
    assert stopped.value.code == 1
    assert "linear, relu" in [line[2:14] for line in capsys.readouterr().out.splitlines() if line.endswith("WRONG")]


def test_without_a_gpu_the_report_says_what_is_missing():
    program = "import sys, runpy; sys.modules['cupy'] = None; runpy.run_module('dezero.cuda', run_name='__main__')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("device    none: CuPy is not installed: pip install 'dezero[gpu13]'")
    assert done.stderr == ""


# ----------------------------------------------------------------------------------------------------------------------
# Launches that need not be
# ----------------------------------------------------------------------------------------------------------------------


def launches_of(gpu, step):
    """The names of the kernels and functions that a step launches; its second call is recorded."""
    from simulated_gpu import pieces_of

    stream = gpu.cupy.cuda.Stream(non_blocking=True)
    with stream:
        step()  # which compiles
        stream.begin_capture()
        try:
            step()
        finally:
            graph = stream.end_capture()
        return pieces_of(graph)


def backward_of(loss, leaves):
    def step():
        for leaf in leaves:
            leaf.cleargrad()
        loss().backward()

    return step


def test_no_gradient_of_a_leaf_is_copied(simulated, monkeypatch):
    """Of a convolution, a linear layer, batch norm, a scale that broadcasts, and of what is used often."""
    library = simulated_cublas.install(monkeypatch, simulated.cupy)
    parts = L.Conv2d(4, 3, pad=1, in_channels=3), L.BatchNorm(), L.Linear(2, in_size=64)
    x, t = simulated.to(np.ones((2, 3, 4, 4), np.float32)), simulated.to(np.array([0, 1]))
    scale = Variable(simulated.to(np.ones((1, 4, 1, 1), np.float32)))
    conv, norm, linear = parts
    for layer in parts:
        layer.to_gpu()

    def loss():
        y = norm(conv(x)) * scale
        return F.softmax_cross_entropy(linear(F.flatten(F.relu(y + y * y + y))), t)

    loss()
    leaves = [scale, *(param for layer in parts for param in layer.params() if not param.is_buffer)]
    found = launches_of(simulated, backward_of(loss, leaves))
    assert "copy" not in found
    assert all(leaf.grad.data.base is None for leaf in leaves)
    assert not library.problems, library.problems


def test_gradients_of_several_leaves_are_added_up_in_one_launch(gpu):
    xs = [Variable(gpu.to(np.full(n, float(n), np.float32))) for n in (1, 3, 300, 2000)]

    class Powers(dezero.Function):
        def forward(self, *xs):
            self.xs = xs
            return self.xs[0] * 1

        def backward(self, gy):
            return tuple(x * 2.0 for x in map(Variable, self.xs))

    def loss():
        return sum(F.sum(Powers()(*xs)) for _ in range(5))

    step = backward_of(loss, xs)
    step()
    for n, x in zip((1, 3, 300, 2000), xs, strict=True):
        np.testing.assert_array_equal(gpu.back(x.grad.data), np.full(n, 10.0 * n))
    if hasattr(gpu.cupy, "_machine"):
        found = launches_of(gpu, step)
        assert found.count("sgd") == 3  # the first two of five make the sum
        assert "__iadd__" not in found


def test_a_leaf_that_a_node_takes_twice_gets_both_gradients(gpu):
    """Three additions and more in one launch, two of which go to one place."""
    x, y = (Variable(gpu.to(np.arange(1.0, 600.0))) for _ in range(2))

    class Both(dezero.Function):
        def forward(self, a, b, c, d):
            return a + b + c + d

        def backward(self, gy):
            return gy, gy * 2, gy * 4, gy * 8

    F.sum(Both()(x, x, y, y) + Both()(x, y, x, y) + Both()(x, y, y, x) + Both()(y, y, x, x)).backward()
    np.testing.assert_array_equal(gpu.back(x.grad.data), np.full(599, 3.0 + 5 + 9 + 12))
    np.testing.assert_array_equal(gpu.back(y.grad.data), np.full(599, 12.0 + 10 + 6 + 3))


def test_running_statistics_are_a_launch(simulated):
    x = simulated.to(np.arange(24.0, dtype=np.float32).reshape(4, 6))
    norm = L.BatchNorm()
    norm.to_gpu()
    found = launches_of(simulated, lambda: norm(x))
    assert found.count("dezero_update_statistics") == 1
    assert not {"__imul__", "__iadd__", "__rmul__", "astype"} & {*found}


def test_dropout_is_a_launch_forward_and_one_back(simulated):
    x = Variable(simulated.cupy.ones((5, 7), np.float32))
    gy = Variable(simulated.cupy.ones((5, 7), np.float32))

    def step():
        x.cleargrad()
        y = F.dropout(x, 0.5)
        y.grad = gy
        y.backward()

    assert launches_of(simulated, step) == ["dropout", "__mul__"]


IMPORTED_BY_TWO = """
import sys, threading
from simulated_gpu import modules

sys.modules.update(modules())
from dezero import kernels

x, begun, asked, found = sys.modules["cupy"].ones(3), threading.Event(), threading.Event(), []

class Slow:  # an import that takes a while in the middle of the folder
    def find_spec(self, name, path=None, target=None):
        if name == "dezero.kernels.gpu.softmax":
            begun.set()
            asked.wait(1)

sys.meta_path.insert(0, Slow())
first = threading.Thread(target=kernels.for_array, args=(x,))
second = threading.Thread(target=lambda: (found.append(hasattr(kernels.for_array(x), "update_all")), asked.set()))
first.start()
begun.wait()
second.start()
second.join()
first.join()
assert found == [True], found
"""


def test_a_thread_waits_while_another_imports_the_kernels():
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(dezero.__file__).parent.parent)])
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED_BY_TWO], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
