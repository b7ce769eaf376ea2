"""Models: layers put together, and drawn."""

import os
import shutil
import sys

import numpy as np
import pytest

from dezero import functions as F
from dezero import layers as L
from dezero import optimizers
from dezero.core import Variable
from dezero.models import MLP, Model, Sequential


def randn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def names(layer):
    return [name for name, _ in layer.named_params()]


# ----------------------------------------------------------------------------------------------------------------------
# Sequential
# ----------------------------------------------------------------------------------------------------------------------


def test_sequential_calls_its_parts_one_after_the_other():
    model, x = Sequential(L.Linear(4), F.relu, L.Linear(2)), randn(3, 5)
    y = model(x)
    np.testing.assert_array_equal(y.data, model.l2(F.relu(model.l0(x))).data)
    y.sum().backward()
    assert all(p.grad is not None for p in model.params())


def test_sequentials_layers_are_named_by_their_place_among_all_parts():
    parts = L.Linear(4), F.relu, L.Linear(2, nobias=True)
    model = Sequential(*parts)
    assert names(model) == ["l0/W", "l0/b", "l2/W"]
    assert model.layers == list(parts)
    assert model.l2 is parts[2]


def test_any_callable_is_a_part():
    model = Sequential(lambda x: x * 2.0, F.exp, Sequential(F.sin), F.cos)
    x = Variable(np.array([0.1, 0.2]))
    np.testing.assert_allclose(model(x).data, np.cos(np.sin(np.exp(2 * x.data))))


def test_sequentials_within_sequentials():
    model = Sequential(Sequential(L.Linear(2)), Sequential(F.relu, L.Linear(1)))
    model(randn(1, 3))
    assert names(model) == ["l0/l0/W", "l0/l0/b", "l1/l1/W", "l1/l1/b"]


def test_a_part_used_twice_is_one_part():
    layer = L.Linear(3, nobias=True)
    model = Sequential(layer, F.tanh, layer)
    model(randn(2, 3))
    assert names(model) == ["l0/W"]


def test_an_empty_sequential_gives_back_what_it_gets():
    x = Variable(randn(2))
    assert Sequential()(x) is x


@pytest.mark.parametrize("part", [3, None, "relu", [L.Linear(2)]])
def test_a_part_that_cannot_be_called_is_refused(part):
    message = f"Sequential: part 1 must be a layer or a function, got {type(part).__name__}"
    with pytest.raises(TypeError, match=message):
        Sequential(L.Linear(2), part)


# ----------------------------------------------------------------------------------------------------------------------
# MLP
# ----------------------------------------------------------------------------------------------------------------------


def test_mlp_puts_the_activation_between_linear_layers_and_not_at_the_end():
    model, x = MLP((4, 3, 2), activation=F.tanh), randn(5, 6)
    y = model(x)
    hidden = F.tanh(model.l1(F.tanh(model.l0(x))))
    np.testing.assert_array_equal(y.data, model.l2(hidden).data)
    assert [p.shape for p in model.params()] == [(6, 4), (4,), (4, 3), (3,), (3, 2), (2,)]


def test_mlps_activation_is_sigmoid_by_default():
    model, x = MLP((4, 1)), randn(5, 6)
    y = model(x)
    np.testing.assert_array_equal(y.data, model.l1(F.sigmoid(model.l0(x))).data)


def test_mlps_layers_are_named_and_listed():
    model = MLP([4, 2])
    assert names(model) == ["l0/W", "l0/b", "l1/W", "l1/b"]
    assert model.layers == [model.l0, model.l1]


def test_an_mlp_of_one_layer_is_linear():
    model, x = MLP((2,)), randn(3, 4)
    np.testing.assert_allclose(model(x).data, x @ model.l0.W.data, rtol=1e-5)


@pytest.mark.parametrize("sizes", [10, (), []])
def test_mlps_sizes_must_be_a_sequence(sizes):
    with pytest.raises(ValueError, match="MLP: fc_output_sizes must be a sequence of sizes, such as"):
        MLP(sizes)


@pytest.mark.parametrize("sizes", [(10, 0), (2.5,), ("10",), (-1, 3)])
def test_mlps_sizes_must_be_positive_ints(sizes):
    with pytest.raises(ValueError, match="must be a positive int"):
        MLP(sizes)


def test_an_mlp_learns_exclusive_or():
    np.random.seed(0)
    x, t = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), np.array([0, 1, 1, 0])
    model = MLP((8, 2), activation=F.tanh)
    optimizer = optimizers.Adam(0.1).setup(model)
    for _ in range(60):
        loss = F.softmax_cross_entropy(model(x), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()
    assert float(loss) < 0.05
    assert float(F.accuracy(model(x), t)) == 1.0


# ----------------------------------------------------------------------------------------------------------------------
# Pictures
# ----------------------------------------------------------------------------------------------------------------------


class TwoInputs(Model):
    def forward(self, x, y):
        return x * y


def test_plot_runs_the_model_and_gives_its_graph_to_dot(tmp_path, monkeypatch):
    if os.name != "posix":
        pytest.skip("the stand-in for dot is a script with a #! line")
    script = tmp_path / "dot"
    script.write_text(f"#!{sys.executable}\nimport sys\nopen(sys.argv[-1], 'w').write(sys.stdin.read())\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    x, y = Variable(randn(2), name="x"), Variable(randn(2), name="y")
    TwoInputs().plot(x, y)
    text = (tmp_path / "model.png").read_text()
    assert "x: (2,) float32" in text
    assert "Mul" in text
    Sequential(L.Linear(2)).plot(randn(1, 3), to_file=str(tmp_path / "my picture.svg"))
    assert "W: (3, 2) float32" in (tmp_path / "my picture.svg").read_text()


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
def test_plot_draws_a_picture(tmp_path):
    MLP((3, 2)).plot(randn(1, 4), to_file=str(tmp_path / "mlp.png"))
    assert (tmp_path / "mlp.png").read_bytes().startswith(b"\x89PNG")
