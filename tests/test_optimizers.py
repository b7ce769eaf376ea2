"""Each rule against its formula in plain float64 NumPy and against PyTorch; hooks; what an update leaves alone."""

import math

import numpy as np
import pytest

from dezero import layers as L
from dezero import optimizers
from dezero.core import Parameter, Variable
from dezero.optimizers import (
    AdaDelta,
    AdaGrad,
    Adam,
    AdamW,
    ClipGrad,
    ClipGradValue,
    FreezeParam,
    Lion,
    MomentumSGD,
    NAdam,
    NesterovSGD,
    Optimizer,
    RMSprop,
    WeightDecay,
    clip_grad_norm,
    clip_grad_value,
)

STEPS = 5


class Group:
    """Not a Layer: all an optimizer asks for is `params()`."""

    def __init__(self, *arrays):
        self.all = [Parameter(np.array(array)) for array in arrays]

    def params(self):
        yield from self.all

    def set_grads(self, *gradients):
        for param, gradient in zip(self.all, gradients, strict=True):
            param.grad = Variable(np.array(gradient, dtype=param.dtype))


def gradients(step, shape=(2, 3), dtype=np.float64):
    return np.random.default_rng(step).standard_normal(shape).astype(dtype)


START = np.linspace(-1.0, 1.0, 6).reshape(2, 3)


# The formulas, with everything a rule remembers in the dict `m`, which starts empty.


def sgd(p, g, t, m, lr=0.01):
    return p - lr * g


def momentum_sgd(p, g, t, m, lr=0.01, momentum=0.9):
    m["v"] = momentum * m.get("v", 0) - lr * g
    return p + m["v"]


def ada_grad(p, g, t, m, lr=0.001, eps=1e-8):
    m["h"] = m.get("h", 0) + g**2
    return p - lr * g / (np.sqrt(m["h"]) + eps)


def ada_delta(p, g, t, m, rho=0.95, eps=1e-6):
    m["h"] = rho * m.get("h", 0) + (1 - rho) * g**2
    d = np.sqrt((m.get("s", 0) + eps) / (m["h"] + eps)) * g
    m["s"] = rho * m.get("s", 0) + (1 - rho) * d**2
    return p - d


def adam(p, g, t, m, alpha=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    m["m"] = beta1 * m.get("m", 0) + (1 - beta1) * g
    m["v"] = beta2 * m.get("v", 0) + (1 - beta2) * g**2
    rate = alpha * math.sqrt(1 - beta2**t) / (1 - beta1**t)
    return p - rate * m["m"] / (np.sqrt(m["v"]) + eps)


def rms_prop(p, g, t, m, lr=0.01, alpha=0.99, eps=1e-8):
    m["h"] = alpha * m.get("h", 0) + (1 - alpha) * g**2
    return p - lr * g / (np.sqrt(m["h"]) + eps)


def nesterov_sgd(p, g, t, m, lr=0.01, momentum=0.9, nesterov=True):
    # Sutskever's own form: `at`, where the gradient is taken, is ahead of p by momentum * v
    v = m.get("v", 0)
    at = p - momentum * v
    m["v"] = momentum * v - lr * g
    return at + m["v"] + momentum * m["v"]


def adamw(p, g, t, m, alpha=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    m["m"] = beta1 * m.get("m", 0) + (1 - beta1) * g
    m["v"] = beta2 * m.get("v", 0) + (1 - beta2) * g**2
    mean, square = m["m"] / (1 - beta1**t), m["v"] / (1 - beta2**t)
    return p - alpha * (mean / (np.sqrt(square) + eps) + weight_decay * p)


def nadam(p, g, t, m, alpha=0.002, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0, momentum_decay=0.004):
    g = g + weight_decay * p
    mu, ahead = (beta1 * (1 - 0.5 * 0.96 ** (i * momentum_decay)) for i in (t, t + 1))
    m["product"] = m.get("product", 1) * mu
    m["m"] = beta1 * m.get("m", 0) + (1 - beta1) * g
    m["v"] = beta2 * m.get("v", 0) + (1 - beta2) * g**2
    mean = ahead * m["m"] / (1 - m["product"] * ahead) + (1 - mu) * g / (1 - m["product"])
    return p - alpha * mean / (np.sqrt(m["v"] / (1 - beta2**t)) + eps)


def lion(p, g, t, m, lr=0.0001, beta1=0.9, beta2=0.99, weight_decay=0):
    c = beta1 * m.get("m", 0) + (1 - beta1) * g
    m["m"] = beta2 * m.get("m", 0) + (1 - beta2) * g
    return p - lr * (np.sign(c) + weight_decay * p)


RULES = [
    (optimizers.SGD, {}, sgd),
    (optimizers.SGD, {"lr": 0.5}, sgd),
    (MomentumSGD, {}, momentum_sgd),
    (MomentumSGD, {"lr": 0.2, "momentum": 0.5}, momentum_sgd),
    (AdaGrad, {}, ada_grad),
    (AdaGrad, {"lr": 0.1, "eps": 0.1}, ada_grad),
    (RMSprop, {}, rms_prop),
    (RMSprop, {"lr": 0.1, "alpha": 0.5, "eps": 0.1}, rms_prop),
    (AdaDelta, {}, ada_delta),
    (AdaDelta, {"rho": 0.5, "eps": 0.01}, ada_delta),
    (Adam, {}, adam),
    (Adam, {"alpha": 0.1, "beta1": 0.5, "beta2": 0.9, "eps": 0.1}, adam),
    (MomentumSGD, {"lr": 0.2, "momentum": 0.5, "nesterov": True}, nesterov_sgd),
    (NesterovSGD, {}, nesterov_sgd),
    (NesterovSGD, {"lr": 0.2, "momentum": 0.5}, nesterov_sgd),
    (AdamW, {"alpha": 0.1, "beta1": 0.5, "beta2": 0.9, "eps": 0.1, "weight_decay": 0.0}, adamw),
    (NAdam, {}, nadam),
    (NAdam, {"alpha": 0.1, "beta1": 0.5, "beta2": 0.9, "eps": 0.1}, nadam),
    (Lion, {}, lion),
    (Lion, {"lr": 0.1, "beta1": 0.5, "beta2": 0.9}, lion),
]
DECAYED = [
    (AdamW, {}, adamw),
    (AdamW, {"alpha": 0.1, "beta1": 0.5, "beta2": 0.9, "eps": 0.1, "weight_decay": 0.2}, adamw),
    (NAdam, {"weight_decay": 0.5, "momentum_decay": 0.5}, nadam),
    (Lion, {"lr": 0.1, "weight_decay": 0.5}, lion),
]
rules = pytest.mark.parametrize(("rule", "options", "formula"), RULES)


@pytest.mark.parametrize(("rule", "options", "formula"), [*RULES, *DECAYED])
def test_steps_follow_the_formula(rule, options, formula):
    target = Group(START, START[0])
    optimizer = rule(**options).setup(target)
    expected, remembered = [START, START[0]], [{}, {}]
    for t in range(1, STEPS + 1):
        gs = gradients(t), gradients(t)[1]
        target.set_grads(*gs)
        optimizer.update()
        expected = [formula(p, g, t, m, **options) for p, g, m in zip(expected, gs, remembered, strict=True)]
        for param, value in zip(target.all, expected, strict=True):
            np.testing.assert_allclose(param.data, value, rtol=1e-12)


@rules
def test_options_go_by_position_in_the_formulas_order(rule, options, formula):
    named, placed = Group(START), Group(START)
    first, second = rule(**options).setup(named), rule(*options.values()).setup(placed)
    for t in range(3):
        for target, optimizer in ((named, first), (placed, second)):
            target.set_grads(gradients(t))
            optimizer.update()
    np.testing.assert_array_equal(named.all[0].data, placed.all[0].data)


@rules
def test_float32_stays_float32_in_the_array_that_was_there(rule, options, formula):
    target = Group(START.astype(np.float32), np.float32(2.0))
    arrays = [param.data for param in target.all]
    optimizer = rule(**options).setup(target)
    for t in range(3):
        target.set_grads(gradients(t), 0.5)
        optimizer.update()
    for param, array in zip(target.all, arrays, strict=True):
        assert param.data is array
        assert array.dtype == np.float32
    kept = [array for memory in optimizer.state.values() for array in memory.values()]
    assert all(array.dtype == np.float32 for array in kept)


@rules
def test_gradients_are_left_as_they_were(rule, options, formula):
    target = Group(START)
    target.set_grads(gradients(1))
    rule(**options).setup(target).update()
    np.testing.assert_array_equal(target.all[0].grad.data, gradients(1))


@rules
def test_a_gradient_of_zero_moves_nothing_at_first(rule, options, formula):
    target = Group(START)
    target.set_grads(np.zeros((2, 3)))
    rule(**options).setup(target).update()
    np.testing.assert_array_equal(target.all[0].data, START)


def coupled(rule, **options):
    return lambda: rule(**options, weight_decay=0.1)


MOMENTUM, ADAM, TORCH_ADAM = {"lr": 0.1, "momentum": 0.8}, (0.1, 0.8, 0.95, 1e-3), {"lr": 0.1, "betas": (0.8, 0.95)}
TORCH = {
    "sgd": (lambda: optimizers.SGD(0.1), lambda o, ps: o.SGD(ps, lr=0.1)),
    # PyTorch multiplies by lr outside the velocity: the same steps while lr stays as it is.
    "momentum": (lambda: MomentumSGD(0.1, 0.8), lambda o, ps: o.SGD(ps, **MOMENTUM)),
    "nesterov": (lambda: NesterovSGD(0.1, 0.8), lambda o, ps: o.SGD(ps, **MOMENTUM, nesterov=True)),
    "adagrad": (lambda: AdaGrad(0.1, 1e-6), lambda o, ps: o.Adagrad(ps, lr=0.1, eps=1e-6)),
    "rmsprop": (lambda: RMSprop(0.1, 0.9, 1e-5), lambda o, ps: o.RMSprop(ps, lr=0.1, alpha=0.9, eps=1e-5)),
    "adadelta": (lambda: AdaDelta(0.9, 1e-5), lambda o, ps: o.Adadelta(ps, lr=1.0, rho=0.9, eps=1e-5)),
    # PyTorch adds eps to the corrected root, Adam here to the root as it is: alike when eps is nothing beside it.
    "adam": (lambda: Adam(0.1, 0.8, 0.95, 1e-30), lambda o, ps: o.Adam(ps, **TORCH_ADAM, eps=1e-30)),
    "adamw": (lambda: AdamW(*ADAM, 0.3), lambda o, ps: o.AdamW(ps, **TORCH_ADAM, eps=1e-3, weight_decay=0.3)),
    "adamw, its defaults": (lambda: AdamW(), lambda o, ps: o.AdamW(ps)),
    "nadam": (lambda: NAdam(*ADAM, 0, 0.1), lambda o, ps: o.NAdam(ps, **TORCH_ADAM, eps=1e-3, momentum_decay=0.1)),
    "nadam, its defaults": (lambda: NAdam(), lambda o, ps: o.NAdam(ps)),
    "sgd, decay": (coupled(optimizers.SGD, lr=0.1), lambda o, ps: o.SGD(ps, lr=0.1, weight_decay=0.1)),
    "momentum, decay": (coupled(MomentumSGD, **MOMENTUM), lambda o, ps: o.SGD(ps, **MOMENTUM, weight_decay=0.1)),
    "nesterov, decay": (
        coupled(NesterovSGD, **MOMENTUM),
        lambda o, ps: o.SGD(ps, **MOMENTUM, nesterov=True, weight_decay=0.1),
    ),
    "adagrad, decay": (coupled(AdaGrad, eps=1e-6), lambda o, ps: o.Adagrad(ps, 0.001, eps=1e-6, weight_decay=0.1)),
    "rmsprop, decay": (coupled(RMSprop), lambda o, ps: o.RMSprop(ps, weight_decay=0.1)),
    "adadelta, decay": (coupled(AdaDelta, rho=0.9), lambda o, ps: o.Adadelta(ps, lr=1.0, weight_decay=0.1)),
    "adam, decay": (coupled(Adam, eps=1e-30), lambda o, ps: o.Adam(ps, eps=1e-30, weight_decay=0.1)),
    "nadam, decay": (coupled(NAdam), lambda o, ps: o.NAdam(ps, weight_decay=0.1)),
}  # fmt: skip


def difference_from_pytorch(ours, theirs, steps=100):
    """The largest difference between any two elements of p after any step, over the largest of p."""
    torch = pytest.importorskip("torch")
    target, tensor = Group(START), torch.tensor(START, requires_grad=True)
    optimizer, torch_optimizer = ours().setup(target), theirs(torch.optim, [tensor])
    before, worst = torch.get_default_dtype(), 0.0
    torch.set_default_dtype(torch.float64)  # of which its NAdam keeps the product of mu
    try:
        for t in range(steps):
            target.set_grads(gradients(t))
            tensor.grad = torch.tensor(gradients(t))
            optimizer.update()
            torch_optimizer.step()
            wanted = tensor.detach().numpy()
            worst = max(worst, np.abs(target.all[0].data - wanted).max() / np.abs(wanted).max())
    finally:
        torch.set_default_dtype(before)
    return worst


@pytest.mark.parametrize(("ours", "theirs"), TORCH.values(), ids=TORCH)
def test_a_hundred_steps_are_pytorchs(ours, theirs):
    assert difference_from_pytorch(ours, theirs) < 1e-12


def test_a_hundred_steps_of_lion_are_the_papers():
    target = Group(START)
    optimizer, p, m = Lion(0.01, 0.8, 0.95, 0.3).setup(target), START, {}
    for t in range(1, 101):
        target.set_grads(gradients(t))
        optimizer.update()
        p = lion(p, gradients(t), t, m, 0.01, 0.8, 0.95, 0.3)
        np.testing.assert_allclose(target.all[0].data, p, rtol=1e-12, atol=1e-14)


def test_weight_decay_leaves_gradients_as_they_were_and_hooks_see_them_without():
    target, seen = Group(START), []
    target.set_grads(gradients(1))
    optimizer = optimizers.SGD(0.1, weight_decay=0.5).setup(target)
    optimizer.add_hook(lambda params: seen.append(params[0].grad.data.copy()))
    optimizer.update()
    np.testing.assert_array_equal(target.all[0].grad.data, gradients(1))
    np.testing.assert_array_equal(seen, [gradients(1)])
    np.testing.assert_allclose(target.all[0].data, START - 0.1 * (gradients(1) + 0.5 * START), rtol=1e-12)


def test_a_subclass_that_sets_its_own_numbers_decays_nothing():
    class Plain(optimizers.SGD):
        def __init__(self):
            Optimizer.__init__(self)
            self.lr = 0.5

    target = Group(START)
    target.set_grads(gradients(1))
    Plain().setup(target).update()
    np.testing.assert_allclose(target.all[0].data, START - 0.5 * gradients(1), rtol=1e-12)


def test_lion_moves_by_the_sign_and_nan_is_not_hidden():
    target = Group(np.zeros(4))
    target.set_grads([2.0, -3.0, 0.0, np.nan])
    Lion(0.1).setup(target).update()
    np.testing.assert_allclose(target.all[0].data, [-0.1, 0.1, 0.0, np.nan])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: optimizers.SGD(-0.1), ValueError, "SGD: lr must be at least 0, got -0.1"),
        (lambda: optimizers.SGD(math.nan), ValueError, "SGD: lr must be at least 0, got nan"),
        (lambda: optimizers.SGD(math.inf), ValueError, "SGD: lr must be finite, got inf"),
        (lambda: optimizers.SGD("0.1"), TypeError, "SGD: lr must be a number, got str"),
        (lambda: optimizers.SGD(weight_decay=-1), ValueError, "SGD: weight_decay must be at least 0, got -1"),
        (lambda: MomentumSGD(0.1, -0.9), ValueError, "MomentumSGD: momentum must be at least 0, got -0.9"),
        (lambda: NesterovSGD(0.1, math.nan), ValueError, "NesterovSGD: momentum must be at least 0, got nan"),
        (lambda: AdaGrad(eps=-1e-8), ValueError, "AdaGrad: eps must be at least 0"),
        (lambda: RMSprop(alpha=-1), ValueError, r"RMSprop: alpha must lie in 0\.\.1, got -1"),
        (lambda: RMSprop(alpha=2), ValueError, r"RMSprop: alpha must lie in 0\.\.1, got 2"),
        (lambda: MomentumSGD(nesterov="no"), TypeError, "MomentumSGD: nesterov must be True or False, got 'no'"),
        (lambda: AdaDelta(1.1), ValueError, r"AdaDelta: rho must lie in 0\.\.1, got 1.1"),
        (lambda: Adam(-0.1), ValueError, "Adam: alpha must be at least 0, got -0.1"),
        (lambda: Adam(beta1=1.0), ValueError, "Adam: beta1 must be below 1, got 1.0"),
        (lambda: AdamW(beta2=2), ValueError, r"AdamW: beta2 must lie in 0\.\.1, got 2"),
        (lambda: AdamW((0.9, 0.999)), TypeError, "AdamW: alpha must be a number, got tuple"),
        (lambda: NAdam(momentum_decay=-1), ValueError, "NAdam: momentum_decay must be at least 0, got -1"),
        (lambda: Lion(beta2=-0.1), ValueError, r"Lion: beta2 must lie in 0\.\.1, got -0.1"),
    ],
)
def test_numbers_that_no_rule_can_work_with_are_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_numbers_that_are_assigned_are_the_programs_business():
    target = Group(START)
    target.set_grads(gradients(0))
    optimizer = optimizers.SGD().setup(target)
    optimizer.lr = -0.5  # up the hill
    optimizer.update()
    np.testing.assert_allclose(target.all[0].data, START + 0.5 * gradients(0), rtol=1e-12)


def test_an_update_that_is_refused_counts_no_step():
    optimizer = NAdam()
    with pytest.raises(ValueError, match="call setup"):
        optimizer.update()
    target = Group(START)
    target.all[0].grad = "none"
    with pytest.raises(TypeError, match="grad must be a Variable"):
        optimizer.setup(target).update()
    assert (optimizer.t, optimizer.mu_product) == (0, 1.0)


def test_the_rate_of_momentum_lies_inside_the_velocity():
    target = Group(0.0)
    optimizer = MomentumSGD(lr=1.0, momentum=0.5).setup(target)
    target.set_grads(1.0)
    optimizer.update()
    optimizer.lr = 0.0
    optimizer.update()
    assert target.all[0].data == -1.5  # the old step goes on at the old rate


def test_adams_rate_is_there_before_the_first_step_and_is_the_one_it_takes():
    target = Group(START)
    optimizer = Adam(alpha=0.1, beta1=0.5, beta2=0.9).setup(target)
    first = optimizer.lr
    assert first == pytest.approx(0.1 * math.sqrt(1 - 0.9) / (1 - 0.5))
    target.set_grads(np.ones((2, 3)))
    optimizer.update()
    assert (optimizer.t, optimizer.lr) == (1, first)
    np.testing.assert_allclose(target.all[0].data, START - 0.1, rtol=1e-6)  # a first step of alpha
    optimizer.update()
    assert optimizer.lr == pytest.approx(0.1 * math.sqrt(1 - 0.9**2) / (1 - 0.5**2))


def test_adam_without_a_target_has_a_rate():
    assert Adam().lr == pytest.approx(0.001 * math.sqrt(1 - 0.999) / (1 - 0.9))


# ----------------------------------------------------------------------------------------------------------------------
# What an update leaves alone
# ----------------------------------------------------------------------------------------------------------------------


def test_setup_returns_the_optimizer_and_forgets_nothing():
    target = Group(START)
    optimizer = Adam()
    assert optimizer.setup(target) is optimizer
    assert optimizer.target is target
    target.set_grads(gradients(0))
    optimizer.update()
    remembered = optimizer.state["0"]["m"]
    optimizer.setup(target)  # as in DeZero, where state belongs to the parameters
    assert optimizer.t == 1
    assert optimizer.state["0"]["m"] is remembered


def test_update_before_setup_shows_the_way_out():
    with pytest.raises(ValueError, match=r"SGD.update: .* call setup\(model\) first"):
        optimizers.SGD().update()


def test_a_target_without_params_is_refused():
    with pytest.raises(TypeError, match=r"Adam.setup: expected a Layer or Model, got list"):
        Adam().setup([Parameter(np.zeros(1))])


def test_params_without_a_gradient_are_skipped_and_remembered_nowhere():
    target = Group(START, START)
    optimizer = Adam().setup(target)
    target.all[1].grad = Variable(gradients(0))
    optimizer.update()
    np.testing.assert_array_equal(target.all[0].data, START)
    assert not np.array_equal(target.all[1].data, START)
    assert len(optimizer.state) == 1


def test_weights_not_made_yet_are_skipped():
    model = L.Linear(3)
    optimizers.SGD().setup(model).update()
    assert model.W.data is None


def test_running_statistics_are_not_learned():
    layer = L.BatchNorm()
    layer(gradients(0)).sum().backward()
    optimizer = optimizers.SGD(1.0).setup(layer)
    optimizer.add_hook(WeightDecay(0.5))
    mean, var = layer.avg_mean.data.copy(), layer.avg_var.data.copy()
    layer.avg_mean.grad = Variable(np.ones(3))  # even a gradient that some formula brought there
    optimizer.update()
    np.testing.assert_array_equal([layer.avg_mean.data, layer.avg_var.data], [mean, var])
    assert not np.array_equal(layer.gamma.data, np.ones(3))


def test_a_tied_parameter_is_updated_once():
    model = L.Layer()
    model.a, model.b = L.Linear(2, in_size=2, nobias=True), L.Linear(2, in_size=2, nobias=True)
    model.b.W = model.a.W
    before = model.a.W.data.copy()
    model.b(model.a(np.ones((1, 2), np.float32))).sum().backward()
    g = model.a.W.grad.data.copy()
    optimizers.SGD(0.1).setup(model).update()
    np.testing.assert_allclose(model.a.W.data, before - 0.1 * g, rtol=1e-6)


def test_a_parameter_that_a_target_yields_twice_is_updated_once():
    target = Group(START)
    target.set_grads(gradients(0))
    target.all *= 2
    optimizer = optimizers.SGD(0.1).setup(target)
    optimizer.add_hook(WeightDecay(0.5))
    optimizer.update()
    np.testing.assert_allclose(target.all[0].data, START - 0.1 * (gradients(0) + 0.5 * START), rtol=1e-12)


def test_what_a_rule_remembers_goes_by_the_parameters_names():
    model = L.Layer()
    model.blocks = [L.Linear(2, in_size=3), L.Linear(1, in_size=2, nobias=True)]
    model.blocks[1](model.blocks[0](np.ones((1, 3), np.float32))).sum().backward()
    optimizer = Adam().setup(model)
    optimizer.update()
    assert {name: sorted(kept) for name, kept in optimizer.state.items()} == {
        "blocks.0/W": ["m", "v"],
        "blocks.0/b": ["m", "v"],
        "blocks.1/W": ["m", "v"],
    }
    np.testing.assert_allclose(optimizer.state["blocks.1/W"]["m"], 0.1 * model.blocks[1].W.grad.data, rtol=1e-6)


def test_ada_delta_remembers_squares_of_gradients_as_h_and_of_steps_as_s():
    target = Group(START)
    optimizer = AdaDelta(rho=0.9).setup(target)
    target.set_grads(np.full((2, 3), 10.0))
    optimizer.update()
    np.testing.assert_allclose(optimizer.state["0"]["h"], 0.1 * 10.0**2)
    np.testing.assert_allclose(optimizer.state["0"]["s"], 0.1 * (START - target.all[0].data) ** 2)


def test_a_parameter_keeps_its_memory_when_others_come_and_go():
    target = Group(START, START)
    _, second = target.all
    optimizer = MomentumSGD(lr=1.0).setup(target)
    target.set_grads(np.full((2, 3), 100.0), np.ones((2, 3)))
    optimizer.update()
    target.all = [second]
    optimizer.update()
    np.testing.assert_allclose(second.data, START - 1.0 - 1.9)


def test_a_layers_own_params_method_says_what_is_updated():
    class Tuned(L.Layer):
        def __init__(self):
            super().__init__()
            self.body, self.head = L.Linear(2, in_size=2), L.Linear(2, in_size=2)

        def params(self):
            yield from self.head.params()

        def forward(self, x):
            return self.head(self.body(x))

    model = Tuned()
    body, head = model.body.W.data.copy(), model.head.W.data.copy()
    model(np.ones((1, 2), np.float32)).sum().backward()
    optimizers.SGD(0.1).setup(model).update()
    np.testing.assert_array_equal(model.body.W.data, body)
    assert not np.array_equal(model.head.W.data, head)


def test_an_integer_parameter_is_an_error_that_names_it():
    model = L.Layer()
    model.p = Parameter(np.array([1, 2, 3]))
    (model.p * 2.0).sum().backward()
    with pytest.raises(TypeError, match=r"SGD.update: parameter p has dtype int64.*astype\(np.float32\)"):
        optimizers.SGD().setup(model).update()


# ----------------------------------------------------------------------------------------------------------------------
# Hooks
# ----------------------------------------------------------------------------------------------------------------------


def test_hooks_see_the_params_with_gradients_in_the_order_they_were_added():
    target = Group(1.0, 2.0, 3.0)
    target.set_grads(0.1, 0.2, 0.3)
    target.all[1].grad = None
    seen = []
    optimizer = optimizers.SGD().setup(target)
    optimizer.add_hook(lambda params: seen.append(("first", list(params))))
    optimizer.add_hook(lambda params: seen.append(("second", list(params))))
    optimizer.update()
    shown = [target.all[0], target.all[2]]
    assert seen == [("first", shown), ("second", shown)]


def test_weight_decay_adds_to_the_gradient():
    target = Group(START)
    target.set_grads(gradients(0))
    optimizer = optimizers.SGD(0.1).setup(target)
    optimizer.add_hook(WeightDecay(0.5))
    optimizer.update()
    np.testing.assert_allclose(target.all[0].data, START - 0.1 * (gradients(0) + 0.5 * START), rtol=1e-12)


def clipped(max_norm, *values):
    target = Group(*(np.zeros_like(value) for value in values))
    target.set_grads(*values)
    optimizer = optimizers.SGD(1.0).setup(target)
    optimizer.add_hook(ClipGrad(max_norm))
    optimizer.update()
    return [param.grad.data for param in target.all]


def test_clip_grad_scales_all_gradients_to_a_common_norm():
    a, b = clipped(1.0, np.array([3.0, 0.0]), np.array([[4.0]]))
    np.testing.assert_allclose(a, [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(b, [[0.8]], rtol=1e-6)


@pytest.mark.parametrize("max_norm", [5.1, 1000.0])
def test_clip_grad_leaves_gradients_below_the_norm_untouched(max_norm):
    a, b = clipped(max_norm, np.array([3.0, 0.0]), np.array([[4.0]]))
    np.testing.assert_array_equal(a, [3.0, 0.0])
    np.testing.assert_array_equal(b, [[4.0]])


def test_clip_grad_of_nothing_but_zeros():
    np.testing.assert_array_equal(clipped(1.0, np.zeros(3)), [np.zeros(3)])


def test_clip_grad_is_pytorchs():
    torch = pytest.importorskip("torch")
    tensors = [torch.zeros(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    for t, tensor in enumerate(tensors):
        tensor.grad = torch.tensor(gradients(t))
    torch.nn.utils.clip_grad_norm_(tensors, 0.7)
    for got, tensor in zip(clipped(0.7, gradients(0), gradients(1)), tensors, strict=True):
        np.testing.assert_allclose(got, tensor.grad.numpy(), rtol=1e-10)


def test_clip_grad_norm_returns_the_norm_and_clips():
    target = Group(np.zeros(2), np.zeros((1, 1)), 0.0)
    target.set_grads([3.0, 0.0], [[4.0]], 0.0)
    target.all[2].grad = None
    norm = clip_grad_norm(target, 1.0)
    assert (norm.shape, norm.dtype, float(norm)) == ((), np.float64, 5.0)
    np.testing.assert_allclose(target.all[0].grad.data, [0.6, 0.0], rtol=1e-6)
    assert float(clip_grad_norm(target.all[:2], math.inf)) == pytest.approx(1.0)
    assert float(clip_grad_norm([], 1.0)) == 0


@pytest.mark.parametrize("max_norm", [0.5, math.inf])
def test_clipping_by_norm_where_there_is_nan_or_infinity(max_norm):
    target = Group(np.zeros(2), np.zeros(2))
    target.set_grads([1.0, np.nan], [2.0, 3.0])
    assert np.isnan(clip_grad_norm(target, max_norm))
    np.testing.assert_array_equal([p.grad.data for p in target.all], [[1.0, np.nan], [2.0, 3.0]])
    target.set_grads([1.0, -np.inf], [2.0, 3.0])
    with np.errstate(invalid="ignore"):  # infinity * 0
        assert clip_grad_norm(target, max_norm) == np.inf
    wanted = [[0.0, np.nan], [0.0, 0.0]] if max_norm < 1 else [[1.0, -np.inf], [2.0, 3.0]]
    np.testing.assert_array_equal([p.grad.data for p in target.all], wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_clip_grad_value_clips_each_element_in_place(dtype):
    target = Group(np.zeros(5, dtype), np.zeros((), dtype))
    target.set_grads([1.0, -7.0, np.inf, np.nan, 0.25], -0.75)
    arrays = [p.grad.data for p in target.all]
    hook = ClipGradValue(0.5)
    hook(target.all)
    np.testing.assert_array_equal(arrays[0], np.array([0.5, -0.5, 0.5, np.nan, 0.25], dtype))
    assert arrays[1] == -0.5
    assert all(p.grad.data is x and x.dtype == dtype for p, x in zip(target.all, arrays, strict=True))
    assert clip_grad_value(target, 0.1) is None
    assert arrays[1] == dtype(-0.1)


def test_clipping_by_value_is_pytorchs():
    torch = pytest.importorskip("torch")
    target, tensor = Group(START), torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    target.set_grads(gradients(1))
    tensor.grad = torch.tensor(gradients(1))
    torch.nn.utils.clip_grad_value_([tensor], 0.3)
    clip_grad_value(target.all, 0.3)
    np.testing.assert_array_equal(target.all[0].grad.data, tensor.grad.numpy())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: clip_grad_norm(p, -1), ValueError, "clip_grad_norm: max_norm must be at least 0, got -1"),
        (lambda p: clip_grad_norm(p, math.nan), ValueError, "clip_grad_norm: max_norm must be at least 0, got nan"),
        (lambda p: clip_grad_value(p, "1"), TypeError, "clip_grad_value: max_value must be a number, got str"),
        (
            lambda p: clip_grad_norm(p.grad.data, 1),
            TypeError,
            "clip_grad_norm: expected Layers, Parameters and lists of them, got ndarray",
        ),
    ],
)
def test_clipping_refuses_what_it_cannot_do_and_changes_nothing(call, error, message):
    target = Group(START)
    target.set_grads(gradients(1))
    with pytest.raises(error, match=message):
        call(target.all[0])
    np.testing.assert_array_equal(target.all[0].grad.data, gradients(1))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ClipGrad(-1), ValueError, "ClipGrad: max_norm must be at least 0, got -1"),
        (lambda: ClipGrad("1"), TypeError, "ClipGrad: max_norm must be a number, got str"),
        (lambda: ClipGradValue(-0.5), ValueError, "ClipGradValue: max_value must be at least 0, got -0.5"),
        (lambda: WeightDecay(math.nan), ValueError, "WeightDecay: rate must be at least 0, got nan"),
        (lambda: Adam().add_hook(3), TypeError, "Adam.add_hook: expected a function of a list, got int"),
    ],
)
def test_hooks_that_cannot_work_are_refused_when_they_are_made(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("rule", [Adam, AdamW, NAdam])
def test_adams_lr_cannot_be_set_and_says_what_can(rule):
    with pytest.raises(AttributeError, match=f"{rule.__name__}: lr follows from alpha and the step; set alpha"):
        rule().lr = 0.1


def small_model():
    model = L.Layer()
    model.body, model.head = L.Linear(2, in_size=3), L.Linear(1, in_size=2)
    model.head(model.body(np.ones((2, 3), np.float32))).sum().backward()
    return model


@pytest.mark.parametrize(
    ("pick", "still"),
    [
        (lambda m: [m.body], {"body/W", "body/b"}),
        (lambda m: [m.head.b], {"head/b"}),
        (lambda m: [m.body.W, m.head], {"body/W", "head/W", "head/b"}),
        (lambda m: [], set()),
    ],
)
def test_freeze_param_keeps_layers_and_params_as_they_are(pick, still):
    model = small_model()
    before = {name: p.data.copy() for name, p in model.named_params()}
    optimizer = MomentumSGD(0.1).setup(model)
    optimizer.add_hook(FreezeParam(*pick(model)))
    optimizer.update()
    unmoved = {name for name, p in model.named_params() if np.array_equal(p.data, before[name])}
    assert unmoved == still


@pytest.mark.parametrize(
    "hook", [WeightDecay(0.1), ClipGrad(0.1), ClipGradValue(0.1)], ids=lambda hook: type(hook).__name__
)
def test_hooks_after_freeze_param_see_only_what_is_left(hook):
    model = small_model()
    W = model.body.W.data.copy()
    optimizer = optimizers.SGD(0.1).setup(model)
    optimizer.add_hook(FreezeParam(model.body))
    optimizer.add_hook(hook)
    optimizer.update()
    np.testing.assert_array_equal(model.body.W.data, W)


def test_a_hook_that_changes_one_gradient_changes_no_other():
    model = L.Layer()
    model.a, model.b = Parameter(np.ones(3)), Parameter(np.ones(3))
    (model.a + model.b).sum().backward()  # one array goes to both
    optimizer = optimizers.SGD(1.0).setup(model)

    def double_the_first(params):
        params[0].grad.data *= 2

    optimizer.add_hook(double_the_first)
    optimizer.update()
    np.testing.assert_array_equal(model.a.data, [-1, -1, -1])
    np.testing.assert_array_equal(model.b.data, [0, 0, 0])


# ----------------------------------------------------------------------------------------------------------------------
# Rules of the user's own
# ----------------------------------------------------------------------------------------------------------------------


def test_a_rule_in_dezeros_style_with_a_dict_of_its_own():
    class Nesterov(Optimizer):
        def __init__(self, lr=0.1, momentum=0.9):
            super().__init__()
            self.lr, self.momentum, self.vs = lr, momentum, {}

        def update_one(self, param):
            key = id(param)
            if key not in self.vs:
                self.vs[key] = np.zeros_like(param.data)
            v = self.vs[key]
            v *= self.momentum
            v -= self.lr * param.grad.data
            param.data += self.momentum**2 * v - (1 + self.momentum) * self.lr * param.grad.data

    model = small_model()
    optimizer = Nesterov().setup(model)
    before = model.head.b.data.copy()
    optimizer.update()
    g = model.head.b.grad.data
    np.testing.assert_allclose(model.head.b.data, before - 0.1 * (0.81 + 1.9) * g, rtol=1e-5)
    assert len(optimizer.vs) == 4


def test_a_rule_may_ask_for_memory_by_name():
    class Average(Optimizer):
        def update_one(self, param):
            total, count = self.memory(param, "total", "count")
            total += param.grad.data
            count += 1
            param.data -= total / count

    target = Group(0.0)
    optimizer = Average().setup(target)
    for g in (1.0, 3.0):
        target.set_grads(g)
        optimizer.update()
    assert target.all[0].data == -1.0 - 2.0


def test_a_rule_without_update_one_says_so():
    target = Group(1.0)
    target.set_grads(1.0)

    class Nothing(Optimizer):
        pass

    with pytest.raises(NotImplementedError, match="Nothing has no update_one"):
        Nothing().setup(target).update()


def test_a_parabola_is_descended_by_every_rule():
    for rule in (optimizers.SGD(0.1), MomentumSGD(0.02), AdaGrad(0.5), Adam(0.1)):
        model = L.Layer()
        model.p = Parameter(np.array([3.0, -2.0], np.float32))
        optimizer = rule.setup(model)
        for _ in range(300):
            model.cleargrads()
            (model.p * model.p).sum().backward()
            optimizer.update()
        assert np.abs(model.p.data).max() < 0.05, type(rule).__name__


def test_a_target_without_parameters_is_an_error():
    model = L.Layer()
    model.parts = [L.Linear(2), np.tanh]  # one part is no layer, so the list registers nothing
    with pytest.raises(ValueError, match=r"SGD.update: Layer has no parameters; they are found in attributes"):
        optimizers.SGD().setup(model).update()


@pytest.mark.parametrize("grad", [np.ones(3), Variable(np.ones((1, 1)))], ids=["array", "shape"])
def test_a_gradient_that_is_none_is_an_error(grad):
    model = L.Layer()
    model.p = Parameter(np.ones(3))
    model.p.grad = grad
    with pytest.raises(TypeError, match=r"SGD.update: parameter p: grad must be a Variable of shape \(3,\)"):
        optimizers.SGD().setup(model).update()


def test_a_read_only_parameter_is_an_error_that_counts_no_step():
    model, optimizer = L.Linear(2, in_size=3), Adam()
    model.W.data.flags.writeable = False
    model(np.ones((1, 3), np.float32)).sum().backward()
    with pytest.raises(ValueError, match=r"Adam.update: parameter W is read-only, .*; give it a copy: data.copy\(\)"):
        optimizer.setup(model).update()
    assert optimizer.t == 0


def test_clipping_does_not_overflow():
    model = L.Layer()
    model.p = Parameter(np.zeros(2, np.float32))
    model.p.grad = Variable(np.full(2, 1e30, np.float32))
    ClipGrad(1.0)([model.p])
    np.testing.assert_allclose(model.p.grad.data, [0.5**0.5] * 2, rtol=1e-6)


def test_setup_back_and_forth_between_models_keeps_the_memory_of_each():
    optimizer = MomentumSGD(lr=0.1, momentum=0.9)
    targets = Group(START), Group(START)
    for _ in range(3):
        for target in targets:
            target.set_grads(np.ones((2, 3)))
            optimizer.setup(target).update()
    for target in targets:
        np.testing.assert_allclose(target.all[0].data, START - 0.1 - 0.19 - 0.271)


def test_freeze_param_takes_layers_and_parameters_only():
    with pytest.raises(TypeError, match="FreezeParam: expected Layers and Parameters, got list"):
        FreezeParam([L.Linear(2)])


def test_update_one_by_itself_remembers_under_a_name_too():
    first, second = Parameter(np.zeros(1)), Parameter(np.zeros(1))
    first.grad = second.grad = Variable(np.ones(1))
    optimizer = MomentumSGD(lr=1.0)
    for param in (first, second, first):
        optimizer.update_one(param)
    assert list(optimizer.state) == ["0", "1"]
    np.testing.assert_allclose([first.data[0], second.data[0]], [-2.9, -1.0])
