"""Steps of recurrent networks in few nodes: what F's operations give one by one, to every order, on every backend."""

import numpy as np
import pytest
from simulated_gpu import pieces_of

import dezero
from dezero import Variable, kernels
from dezero import functions as F
from dezero.functions_recurrent import GRUStep, LSTMOutput, LSTMStep, gru_step_simple, lstm_step_simple

LSTM = [(6, 3), (6, 4), (6, 4), *[(3, 4)] * 4, *[(4,)] * 4, *[(4, 4)] * 4]  # x, h, c, Wx, b, Wh
GRU = [(6, 3), (6, 4), *[(3, 4)] * 3, *[(4,)] * 3, *[(4, 4)] * 3, (4,)]  # x, h, Wx, b, Wh, d
STEPS = {
    "LSTMStep": (lambda *xs: LSTMStep()(*xs), lstm_step_simple, LSTM),
    "LSTMOutput": (lambda c, o: [LSTMOutput()(c, o)], lambda c, o: [o * F.tanh(c)], [(6, 4)] * 2),
    "GRUStep": (lambda *xs: [GRUStep()(*xs)], lambda *xs: [gru_step_simple(*xs)], GRU),
}
each = pytest.mark.parametrize("name", STEPS)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def results_and_gradients(step, xs, order):
    """What a step returns, and gradients of it, of sines of these, and so on: all inputs meet in each."""
    results = [*step(*xs)]
    y = sum(F.sum(F.sin(a * (1 + i))) for i, a in enumerate(results))
    for turn in range(1, order + 1):
        gradients = dezero.grad(y, xs, create_graph=turn < order)
        results += gradients
        y = sum(F.sum(F.sin(g)) for g in gradients)
    return results


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("order", [1, 2, 3])
@each
def test_a_step_in_one_node_is_that_of_f(name, order, backend):
    """Gradients of the first order come from arrays, those of the others from a graph."""
    node, simple, shapes = STEPS[name]
    xs = [Variable(numbers(*shape, seed=i)) for i, shape in enumerate(shapes)]
    with kernels.using_kernels(backend):
        found, wanted = (results_and_gradients(step, xs, order) for step in (node, simple))
    for y, z in zip(found, wanted, strict=True):
        np.testing.assert_allclose(y.data, z.data, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@each
def test_a_step_on_a_gpu_is_that_of_the_reference(gpu, name, dtype):
    node, simple, shapes = STEPS[name]
    arrays = [numbers(*shape, seed=i).astype(dtype) for i, shape in enumerate(shapes)]
    found = results_and_gradients(node, [Variable(gpu.to(x)) for x in arrays], 1)
    wanted = results_and_gradients(simple, [Variable(x) for x in arrays], 1)
    tolerance = 1e-12 if dtype == np.float64 else 2e-5
    for y, z in zip(found, wanted, strict=True):
        assert y.dtype == dtype
        np.testing.assert_allclose(gpu.back(y.data), z.data, rtol=tolerance, atol=tolerance)


def test_a_gru_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    xs = [Variable(numbers(*shape, seed=i)) for i, shape in enumerate(GRU)]
    x, h, *weights = [torch.tensor(v.data, requires_grad=True) for v in xs]
    cell = torch.nn.GRUCell(3, 4, dtype=torch.float64)
    zeros = torch.zeros(8, dtype=torch.float64)
    stacked = {
        "weight_ih": torch.cat([W.T for W in weights[:3]]),
        "weight_hh": torch.cat([W.T for W in weights[6:9]]),
        "bias_ih": torch.cat(weights[3:6]),
        "bias_hh": torch.cat([zeros, weights[9]]),
    }
    wanted = torch.func.functional_call(cell, stacked, (x, h))
    y, g = GRUStep()(*xs), numbers(6, 4, seed=20)
    F.sum(y * g).backward()
    wanted.backward(torch.tensor(g))
    np.testing.assert_allclose(y.data, wanted.detach().numpy(), rtol=1e-12)
    for v, w in zip(xs, [x, h, *weights], strict=True):
        np.testing.assert_allclose(v.grad.data, w.grad.numpy(), rtol=1e-11, atol=1e-13)


@each
def test_a_constant_input_receives_no_gradient(name):
    node, simple, shapes = STEPS[name]
    gradients = []
    for step in (node, simple):
        xs = [numbers(*shapes[0]), *(Variable(numbers(*shape, seed=i)) for i, shape in enumerate(shapes[1:], start=1))]
        sum(F.sum(y) for y in step(*xs)).backward()
        gradients.append([x.grad.data for x in xs[1:]])
    for found, wanted in zip(*gradients, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "forward", "back"),
    [
        ("LSTMStep", ["lstm_cell"], ["lstm_cell_grad", "sum"]),
        ("LSTMOutput", ["lstm_output"], ["lstm_output_grad"]),
        ("GRUStep", ["gru_cell"], ["gru_cell_grad", "__add__", "sum"]),
    ],
)
def test_beside_its_products_a_step_is_a_launch(simulated, monkeypatch, name, forward, back):
    import simulated_cublas

    library = simulated_cublas.install(monkeypatch, simulated.cupy)
    node, _, shapes = STEPS[name]
    xs = [Variable(simulated.to(numbers(*shape, seed=i))) for i, shape in enumerate(shapes)]
    gradients = [Variable(y.data) for y in node(*xs)]

    def run():
        found = []
        for part in (lambda: node(*xs), backward):
            stream.begin_capture()
            ys = part()
            found.append([piece for piece in pieces_of(stream.end_capture()) if piece not in ("work", "lay")])
            kept.append(ys)
        return found

    def backward():
        with dezero.no_grad():
            return kept[-1][0].creator.backward(*gradients)

    stream, kept = simulated.cupy.cuda.Stream(non_blocking=True), []
    with stream:
        for _ in range(2):  # the first compiles
            found = run()
    assert found == [forward, back]
    assert not library.problems, library.problems
