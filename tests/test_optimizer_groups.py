"""Groups: some parameters with numbers of their own take the steps of an optimizer of their own, on both devices."""

import copy
import re

import numpy as np
import pytest
from test_gpu_updates import RULES, Model, Recorded, assert_same, launched, other_grads, train, values

from dezero import Parameter, Variable, cuda, models
from dezero import layers as L
from dezero.optimizers import SGD, Adam, MomentumSGD, NAdam, Optimizer, biases_and_norms

rules = pytest.mark.parametrize("rule", RULES)


def slower(optimizer):
    """Numbers that differ from those of the rules in RULES."""
    name = optimizer.base_rate or "rho"
    return {name: getattr(optimizer, name) * 0.5, "weight_decay": 0.3}


def different(rule):
    """An optimizer whose numbers are those that `slower` gives a group."""
    optimizer = RULES[rule]()
    for name, x in slower(optimizer).items():
        setattr(optimizer, name, x)
    return optimizer


@rules
@pytest.mark.parametrize("on_gpu", [False, True], ids=["cpu", "gpu"])
def test_a_group_takes_the_steps_of_an_optimizer_of_its_own(gpu, rule, on_gpu):
    def make():
        return Model(6).to(gpu) if on_gpu else Model(6)

    model, optimizer = make(), RULES[rule]()
    optimizer.setup(model).add_group(model.all[1:3], model.all[4], **slower(optimizer))
    train(gpu, model, optimizer)
    wanted = {False: make(), True: make()}
    train(gpu, wanted[False], RULES[rule]())
    train(gpu, wanted[True], different(rule))
    for i, param in enumerate(model.all):
        assert_same([gpu.back(param.data)], [gpu.back(wanted[i in (1, 2, 4)].all[i].data)])


@rules
def test_a_launch_for_each_group_however_many_parameters_it_has(simulated, rule):
    model, optimizer = Model(40).to(simulated), RULES[rule]()
    optimizer.setup(model).add_group(model.all[:10], **slower(optimizer))
    optimizer.add_group(model.all[10:25], weight_decay=0.1)
    train(simulated, model, optimizer, 1)
    assert launched(simulated, optimizer) == [rule] * 3


@rules
def test_replays_are_the_steps_that_python_would_take(gpu, rule, monkeypatch):
    found = []
    for captured in (False, True):
        model, optimizer = Model(10, ("f4", "f8")).to(gpu), RULES[rule]()
        group = optimizer.setup(model).add_group(model.all[:4], **slower(optimizer))
        train(gpu, model, optimizer, 1)
        step = optimizer.update
        for number in range(2, 7):
            group.weight_decay *= 1.1
            optimizer.weight_decay = number / 10
            other_grads(gpu, model, number)
            if captured and number == 2:
                step = Recorded(model, optimizer, monkeypatch)
            step()
        found.append([*values(gpu, model, optimizer), np.array([*group.numbers.values()])])
    assert_same(found[1], found[0])


def test_update_one_by_itself_takes_the_numbers_of_the_group(gpu):
    for model in (Model(3), Model(3).to(gpu)):
        optimizer = SGD(0.5).setup(model)
        optimizer.add_group(model.all[0], lr=0.0)
        model.set_grads(1, gpu.to if isinstance(model.all[0].data, gpu.cupy.ndarray) else np.asarray)
        for param in model.all:
            optimizer.update_one(param)
        still = [np.array_equal(gpu.back(p.data), q.data) for p, q in zip(model.all, Model(3).all, strict=True)]
        assert still == [True, False, False]


def test_a_capture_that_fails_leaves_the_groups_counts_as_they_were(gpu):
    model, optimizer = Model(4).to(gpu), NAdam(0.1)
    group = optimizer.setup(model).add_group(model.all[0], beta1=0.5)

    def step(x):
        loss = sum((param * x).sum() for param in model.all)
        for param in model.all:
            param.cleargrad()
        loss.backward()
        optimizer.update()
        if optimizer.t == 4:
            raise KeyboardInterrupt

    step = cuda.capture(step)
    for _ in range(3):
        step(gpu.cupy.ones(1, "f4"))
    before = group.mu_product, optimizer.mu_product
    with pytest.raises(KeyboardInterrupt):
        step(gpu.cupy.ones(1, "f4"))
    assert (group.mu_product, optimizer.mu_product) == before


# ----------------------------------------------------------------------------------------------------------------------
# What a group is
# ----------------------------------------------------------------------------------------------------------------------


def network():
    return models.Sequential(L.Linear(4, in_size=3), L.BatchNorm(), L.Linear(2, in_size=4))


def test_a_group_follows_the_optimizer_in_all_that_it_does_not_have():
    model = network()
    optimizer = MomentumSGD(0.1).setup(model)
    head = optimizer.add_group(model.layers[2], lr=0.5)
    assert (head.lr, head.momentum, optimizer.lr) == (0.5, 0.9, 0.1)
    optimizer.lr, optimizer.momentum = 0.01, 0.5
    assert (head.lr, head.momentum) == (0.5, 0.5)
    head.momentum = 0.8
    assert (head.lr, head.momentum, optimizer.momentum) == (0.5, 0.8, 0.5)
    assert optimizer.groups == [head]
    assert list(head.params()) == list(model.layers[2].params())


def test_what_is_worked_out_is_that_of_the_group():
    model = network()
    optimizer = Adam(0.1).setup(model)
    assert optimizer.add_group(model.layers[0], alpha=0.2).lr == pytest.approx(2 * optimizer.lr)


def test_the_optimizers_numbers_are_back_after_an_error():
    class Broken(Optimizer):
        def __init__(self):
            super().__init__()
            self.lr = 1.0

        def update_one(self, param):
            raise KeyError(self.lr)

    model = network()
    optimizer = Broken().setup(model)
    optimizer.add_group(model, lr=0.5)
    for param in model.params():
        param.grad = None if param.data is None else Variable(param.data)
    with pytest.raises(KeyError, match=r"0\.5"):
        optimizer.update()
    assert optimizer.lr == 1.0


def test_a_rule_of_the_users_own_has_groups_without_knowing():
    class Simple(Optimizer):
        def __init__(self, lr):
            super().__init__()
            self.lr = lr

        def update_one(self, param):
            param.data -= self.lr * param.grad.data

    model = Model(2)
    optimizer = Simple(0.1).setup(model)
    optimizer.add_group(model.all[1], lr=0.0)
    model.set_grads(1)
    optimizer.update()
    assert not np.array_equal(model.all[0].data, Model(2).all[0].data)
    np.testing.assert_array_equal(model.all[1].data, Model(2).all[1].data)


def test_no_decay_for_biases_and_norms_before_the_first_call():
    model = models.Sequential(L.Conv2d(3, 3, pad=1), L.BatchNorm(), L.Linear(2))
    conv, norm, linear = model.layers
    assert set(biases_and_norms(model)) == {conv.b, norm.gamma, norm.beta, linear.b}
    optimizer = SGD(0.1, weight_decay=1.0).setup(model)
    optimizer.add_group(biases_and_norms(model), weight_decay=0)
    model(np.zeros((2, 1, 4, 4), np.float32))
    before = {name: param.data.copy() for name, param in model.named_params()}
    for param in model.params():
        param.grad = Variable(np.zeros_like(param.data))
    optimizer.update()
    moved = {name for name, param in model.named_params() if not np.array_equal(param.data, before[name])}
    assert moved == {"l0/W", "l2/W"}
    assert set(biases_and_norms(model)) == {conv.b, norm.gamma, norm.beta, linear.b}


def test_nadams_product_is_each_groups_own():
    together, alone = Model(2), Model(2)
    optimizer = NAdam(0.1, 0.9).setup(together)
    optimizer.add_group(together.all[1], beta1=0.5)
    for step in range(1, 6):
        together.set_grads(step)
        optimizer.update()
    other = NAdam(0.1, 0.5).setup(alone)
    for step in range(1, 6):
        alone.set_grads(step)
        other.update()
    np.testing.assert_array_equal(together.all[1].data, alone.all[1].data)
    assert not np.array_equal(together.all[0].data, alone.all[0].data)


def test_copies_are_whole():
    model = network()
    optimizer = SGD(0.1).setup(model)
    optimizer.add_group(model.layers[2], lr=0.5)
    twin = copy.deepcopy(optimizer)
    twin.groups[0].lr = 0.25
    assert twin.groups[0].optimizer is twin
    assert optimizer.groups[0].lr == 0.5
    assert list(twin.groups[0].params()) == list(twin.target.layers[2].params())


def test_a_group_that_was_given_a_layer_has_its_learned_parameters_once():
    model = network()
    norm = model.layers[1]
    group = SGD().setup(model).add_group(norm, [norm.gamma, (norm,)], iter([norm.beta]), lr=1.0)
    assert list(group.params()) == [norm.gamma, norm.beta]


def in_a_group():
    model = network()
    optimizer = Adam().setup(model)
    optimizer.add_group(model.layers[2], alpha=0.1)
    return optimizer, model


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda o, m: o.add_group(m, alpha=1),
            ValueError,
            "in a group already: l2/W, l2/b; a parameter is",
        ),
        (
            lambda o, m: o.add_group(L.Linear(1)),
            ValueError,
            "2 of 2 parameters are not in the model, a Sequential; give",
        ),
        (lambda o, m: o.add_group(), ValueError, "there are no parameters in what was given"),
        (lambda o, m: o.add_group(m.layers[1].avg_mean), ValueError, "there are no parameters in what was given"),
        (lambda o, m: o.add_group("W"), TypeError, "expected Layers, Parameters and lists of them, got str"),
        (
            lambda o, m: o.add_group(m.layers[0], lr=1),
            ValueError,
            "Adam has no number 'lr'; it has alpha, beta1, beta2",
        ),
        (lambda o, m: o.add_group(m.layers[0], t=1), ValueError, "Adam has no number 't'"),
        (lambda o, m: o.add_group(m.layers[0], alpha=-1), ValueError, "alpha must be at least 0, got -1"),
        (lambda o, m: o.add_group(m.layers[0], beta1=1), ValueError, "beta1 must be below 1, got 1"),
        (lambda o, m: o.add_group(m.layers[0], eps="1"), TypeError, "eps must be a number, got str"),
    ],
)
def test_what_cannot_be_a_group_is_refused_and_leaves_none(call, error, message):
    optimizer, model = in_a_group()
    with pytest.raises(error, match=rf"^Adam.add_group: .*{re.escape(message)}"):
        call(optimizer, model)
    assert len(optimizer.groups) == 1


def test_a_group_before_setup_shows_the_way_out():
    with pytest.raises(ValueError, match=r"SGD.add_group: .*call setup\(model\) first"):
        SGD().add_group(L.Linear(2), lr=0.1)


def test_an_attribute_that_the_rule_has_not_is_an_error():
    optimizer, _ = in_a_group()
    group = optimizer.groups[0]
    with pytest.raises(AttributeError, match="Group: Adam has no number 'lr'; it has alpha, beta1"):
        group.lr = 0.1
    with pytest.raises(AttributeError, match="momentum"):
        _ = group.momentum


def test_parameters_without_a_shape_are_no_vectors_yet():
    model = L.Layer()
    model.p = Parameter(None)
    with pytest.raises(ValueError, match="biases_and_norms: some parameters have no shape yet; call the model once"):
        biases_and_norms(model)
