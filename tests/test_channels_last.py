"""`cuda.channels_last`: networks compute the same with it, and their images stay in that order from layer to layer.

The stand-ins for CuPy and cuDNN are at work here; what a single kernel does is in test_gpu_kernels.py, what is asked of
cuDNN in test_cudnn.py.
"""

import collections
import contextlib
import sys

import numpy as np
import pytest
import simulated_cublas
import test_cudnn
from simulated_gpu import pieces_of

from dezero import Model, Variable, autocast, cuda, grad, no_grad, optimizers, test_mode
from dezero import functions as F
from dezero import layers as L
from dezero.core import astype
from dezero.kernels import reference
from dezero.kernels.gpu import cudnn


@pytest.fixture(autouse=True)
def _libraries(simulated, monkeypatch):
    """Libraries for convolutions and products."""
    cudnn.reset()
    monkeypatch.setitem(sys.modules, "cudnn", test_cudnn.StandIn(simulated.cupy))
    monkeypatch.setattr(cudnn, "_load", lambda name, cuda_version: True)
    monkeypatch.setattr(cudnn, "_cuda_of_libcudnn", lambda: None)
    library = simulated_cublas.install(monkeypatch, simulated.cupy)
    yield
    assert not library.problems, library.problems
    cudnn.reset()


class CNN(Model):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = L.Conv2d(8, 3, pad=1), L.Conv2d(6, 3, pad=1)
        self.linear = L.Linear(3)

    def forward(self, x):
        x = F.pooling(F.relu(self.conv1(x)), 2, 2)
        x = F.average_pooling(F.tanh(self.conv2(x)), 2, 2)
        return self.linear(F.flatten(x))


class Block(Model):
    """He et al., arXiv:1512.03385; another convolution brings x to OC channels where it has others."""

    def __init__(self, C, OC):
        super().__init__()
        self.conv1, self.bn1 = L.Conv2d(OC, 3, pad=1, nobias=True), L.BatchNorm()
        self.conv2, self.bn2 = L.Conv2d(OC, 3, pad=1, nobias=True), L.BatchNorm()
        self.shortcut, self.bn3 = (L.Conv2d(OC, 1, nobias=True), L.BatchNorm()) if C != OC else (None, None)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.shortcut is None else self.bn3(self.shortcut(x))))


class ResNet(Model):
    def __init__(self, blocks=((8, 8), (8, 12), (12, 12))):
        super().__init__()
        self.conv, self.bn, self.linear = L.Conv2d(8, 3, pad=1, nobias=True), L.BatchNorm(), L.Linear(3)
        self.blocks = [Block(*sizes) for sizes in blocks]

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        for block in self.blocks:
            x = block(x)
        return self.linear(F.mean(x, axis=(2, 3)))


def make(network, precision=None):
    """A step of training a network whose weights are always the same, and the network."""
    np.random.seed(0)
    model = network()
    model.to_gpu()
    optimizer = optimizers.MomentumSGD(0.05).setup(model)

    def step(x, t):
        with autocast(precision) if precision else contextlib.nullcontext():
            loss = F.softmax_cross_entropy(model(x), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        return loss

    return step, model


def batches(gpu, count, dtype=np.float32):
    for _ in range(count):
        rng = np.random.default_rng(0)
        yield gpu.to(rng.standard_normal((4, 3, 8, 8)).astype(dtype)), gpu.to(rng.integers(0, 3, 4))


def losses(gpu, network, count=20, wrap=lambda step: step, precision=None):
    step, model = make(network, precision)
    step = wrap(step)
    found = [step(x, t) for x, t in batches(gpu, count)]
    return [float(loss) for loss in found], model


NETWORKS = [CNN, ResNet]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_learns_the_same(simulated, monkeypatch, network):
    wanted, _ = losses(simulated, network)
    monkeypatch.setattr(cuda, "channels_last", True)
    found, model = losses(simulated, network)
    assert found[-1] < found[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    for param in model.params():
        assert param.data.flags.c_contiguous
        assert param.grad is None or param.grad.data.flags.c_contiguous  # running statistics have none


@pytest.mark.parametrize("network", NETWORKS)
def test_captured_steps_are_eager_ones(simulated, monkeypatch, network):
    monkeypatch.setattr(cuda, "channels_last", True)
    wanted, _ = losses(simulated, network, 6)
    found, _ = losses(simulated, network, 6, wrap=cuda.capture)
    assert found == wanted


def test_the_setting_and_the_order_of_a_batch_have_recordings_of_their_own(simulated, monkeypatch):
    step, _ = make(CNN)
    step = cuda.capture(step)
    for x, t in batches(simulated, 5):
        step(x, t)
    assert len(step.calls) == 1
    monkeypatch.setattr(cuda, "channels_last", True)
    for x, t in batches(simulated, 5):
        step(x, t)
    assert len(step.calls) == 2
    for x, t in batches(simulated, 5):
        step(test_cudnn.channels_last(simulated.cupy, x), t)
    assert len(step.calls) == 3
    recordings = [calls.recording for calls in step.calls.values()]
    assert [recording.inputs[0].flags.c_contiguous for recording in recordings] == [True, True, False]


def pieces(gpu, network, precision=None):
    """How often a captured step of training does what."""
    step, _ = make(network, precision)
    captured = cuda.capture(step)
    for x, t in batches(gpu, 5):
        captured(x, t)
    (calls,) = captured.calls.values()
    return collections.Counter(pieces_of(calls.recording.graph))


@pytest.mark.parametrize("network", NETWORKS)
def test_images_stay_in_the_order_from_layer_to_layer(simulated, monkeypatch, network):
    """The batch is brought into it for the first convolution and its gradient in W, and for F.flatten out of it."""
    without = pieces(simulated, network)
    monkeypatch.setattr(cuda, "channels_last", True)
    found = pieces(simulated, network)
    assert found - without == collections.Counter(ascontiguousarray=2, copy=int(network is CNN))
    assert not without - found


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_autocast_keeps_the_order(simulated, monkeypatch, precision):
    if precision == "bfloat16":
        pytest.importorskip("ml_dtypes")
    without = pieces(simulated, ResNet, precision)
    monkeypatch.setattr(cuda, "channels_last", True)
    found = pieces(simulated, ResNet, precision)
    assert found - without == collections.Counter(ascontiguousarray=2)


def test_under_autocast_a_network_learns_the_same(simulated, monkeypatch):
    wanted, _ = losses(simulated, ResNet, 10, precision="float16")
    monkeypatch.setattr(cuda, "channels_last", True)
    found, _ = losses(simulated, ResNet, 10, precision="float16")
    np.testing.assert_allclose(found, wanted, rtol=1e-2)


def test_cupys_own_kernels_go_along_memory(simulated, monkeypatch):
    """They count in the order of the axes: so they must see arrays in C order."""
    seen = []

    def watch(owner, name):
        f = getattr(owner, name)

        def watched(*args):
            seen.append((name, all(x.flags.c_contiguous for x in args if cuda.is_array(x))))
            return f(*args)

        monkeypatch.setattr(owner, name, watched)

    for name in ("add", "astype", "tanh"):
        watch(reference, name)
    watch(simulated.cupy.ndarray, "__iadd__")  # a bias that is in no plan
    x = test_cudnn.channels_last(simulated.cupy, simulated.to(np.ones((2, 3, 4, 5), np.float32)))
    W, b = (simulated.to(np.ones(shape, np.float32)) for shape in [(3, 2, 1, 1), (2,)])
    for y in (F.add(x, x), astype(x, np.float16), F.tanh(x), F.deconv2d(x, W, b)):
        assert test_cudnn.lie_last(y.data)
    assert seen == [("add", True), ("astype", True), ("tanh", True), ("__iadd__", True)]


# ----------------------------------------------------------------------------------------------------------------------
# Other ways through a network
# ----------------------------------------------------------------------------------------------------------------------


def derivatives(gpu, dtype=np.float64):
    """A value and its first to third derivatives in a direction, through everything that keeps the order."""
    rng = np.random.default_rng(0)
    x, W, gamma, beta = (
        Variable(gpu.to(rng.standard_normal(shape).astype(dtype))) for shape in [(2, 3, 7, 8), (4, 3, 3, 3), (4,), (4,)]
    )
    mean, var = gpu.to(np.zeros(4)), gpu.to(np.ones(4))
    y = F.conv2d(x, W, beta, pad=1)
    y = F.tanh(F.batch_norm(y, gamma, beta, mean, var)) + y
    y = F.sigmoid(F.pooling(F.relu(y), 2, 2)) + F.average_pooling(y, 2, 2)
    z = F.sum(F.deconv2d(y, W, None, 2, 1) ** 3)
    found = []
    for _ in range(3):
        found.append(cuda.as_numpy(z))
        gs = grad(z, [x, W, gamma], create_graph=True)
        assert all(g.shape == v.shape for g, v in zip(gs, [x, W, gamma], strict=True))
        z = sum(F.sum(g * g) for g in gs) * 1e-3
    return [*found, *map(cuda.as_numpy, gs)]


def test_derivatives_of_any_order_are_the_same(simulated, monkeypatch):
    wanted = derivatives(simulated)
    monkeypatch.setattr(cuda, "channels_last", True)
    for x, y in zip(derivatives(simulated), wanted, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12 * np.abs(y).max())


@pytest.mark.parametrize("network", NETWORKS)
def test_predictions_are_the_same(simulated, monkeypatch, network):
    _, model = make(network)
    ((x, _),) = batches(simulated, 1)
    model(x)
    found = []
    for on in (False, True):
        monkeypatch.setattr(cuda, "channels_last", on)
        with test_mode(), no_grad():
            found.append(cuda.as_numpy(model(x)))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)


def test_without_cudnn_convolutions_are_in_c_order(simulated, monkeypatch):
    monkeypatch.setitem(sys.modules, "cudnn", None)
    cudnn.reset()
    wanted, _ = losses(simulated, CNN, 3)
    monkeypatch.setattr(cuda, "channels_last", True)
    assert losses(simulated, CNN, 3)[0] == wanted


def test_a_leafs_gradient_is_in_c_order(simulated, monkeypatch):
    monkeypatch.setattr(cuda, "channels_last", True)
    x = Variable(simulated.to(np.ones((2, 3, 5, 5), np.float32)))
    F.sum(F.conv2d(x, simulated.to(np.ones((4, 3, 3, 3), np.float32)))).backward()
    assert x.grad.data.flags.c_contiguous
