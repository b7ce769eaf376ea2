"""Training that is saved, stopped and resumed takes, to the bit, the steps that it would have taken."""

import math
import re

import numpy as np
import pytest
from test_gpu_updates import RULES, Model, assert_same, values

from dezero import GradScaler, Parameter, Variable, cuda, models, optimizers, schedules, serializers
from dezero import layers as L
from dezero.optimizers import SGD, Adam, MomentumSGD, NAdam, Optimizer, WeightDecay


def steps_of(gpu, on_gpu, rule, path=None):
    """What there is after ten steps with two groups and a schedule; with a path, all is made anew after five."""
    weights = None

    def make():
        model = Model(8, ("f4", "f8"))
        if weights is not None:
            for param, x in zip(model.all, weights, strict=True):
                param.data = x.copy()
        optimizer = RULES[rule]()
        optimizer.setup(model.to(gpu) if on_gpu else model)
        optimizer.add_group(
            model.all[:3], weight_decay=0.2, **({optimizer.base_rate: 0.2} if optimizer.base_rate else {})
        )
        optimizer.add_group(model.all[4], weight_decay=0.1)
        parts = {"optimizer": optimizer}
        if optimizer.base_rate:
            parts["schedule"] = schedules.Cosine(optimizer, 12, warm_up=3)
        return model, parts

    model, parts = make()
    for number in range(1, 11):
        if path is not None and number == 6:
            serializers.save_state(parts, path)
            weights = [np.array(gpu.back(param.data)) for param in model.all]
            model, parts = make()
            serializers.load_state(parts, path)
        model.set_grads(number, gpu.to if on_gpu else np.asarray)
        parts["optimizer"].update()
        if "schedule" in parts:
            parts["schedule"].step()
    optimizer = parts["optimizer"]
    numbers = [*optimizer._numbers_now().values(), *(x for group in optimizer.groups for x in group.numbers.values())]
    kept = {name: x for name, x in sorted(optimizer.state_dict().items()) if name.startswith("state/")}
    return [*(np.array(gpu.back(param.data)) for param in model.all), *kept.values(), np.array(numbers)]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("on_gpu", [False, True], ids=["cpu", "gpu"])
def test_training_resumed_is_training_uninterrupted(gpu, tmp_path, rule, on_gpu):
    assert_same(steps_of(gpu, on_gpu, rule, tmp_path / "s.npz"), steps_of(gpu, on_gpu, rule))


def test_a_model_resumed_from_files_learns_as_if_it_had_never_stopped(tmp_path):
    def make():
        np.random.seed(0)
        model = models.MLP((8, 3))
        optimizer = NAdam(0.01, weight_decay=0.1).setup(model)
        return model, optimizer

    def learn(model, optimizer, numbers):
        for number in numbers:
            x = np.random.default_rng(number).standard_normal((4, 5)).astype(np.float32)
            model.cleargrads()
            (model(x) ** 2).sum().backward()
            optimizer.update()
        return {name: param.data for name, param in model.named_params()}

    wanted = learn(*make(), range(12))
    model, optimizer = make()
    learn(model, optimizer, range(6))
    model.save_weights(tmp_path / "w")
    optimizer.save_state(tmp_path / "o")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.npz", "w.npz"]
    model, optimizer = make()  # whose weights are not made yet
    model.load_weights(tmp_path / "w")
    optimizer.load_state(tmp_path / "o")
    found = learn(model, optimizer, range(6, 12))
    for name, x in wanted.items():
        np.testing.assert_array_equal(found[name], x)


def test_state_may_be_loaded_before_the_weights_are_made(tmp_path):
    model = models.MLP((8, 3))
    optimizer = MomentumSGD(0.1).setup(model)
    (model(np.ones((2, 5), np.float32)) ** 2).sum().backward()
    optimizer.update()
    optimizer.save_state(tmp_path / "o.npz")
    other = MomentumSGD(0.2).setup(models.MLP((8, 3)))
    other.load_state(tmp_path / "o.npz")
    assert other.lr == 0.1
    assert other.state.keys() == optimizer.state.keys()
    with pytest.raises(ValueError, match=r"state/l1/W/v has shape \(8, 3\), but the parameter \(None, 4\)"):
        MomentumSGD().setup(models.MLP((8, 4))).load_state(tmp_path / "o.npz")


def test_the_state_is_plain_and_its_arrays_are_copies():
    model, optimizer = Model(2), NAdam(0.1)
    optimizer.setup(model).add_group(model.all[1], alpha=0.5)
    model.set_grads(1)
    optimizer.update()
    state = optimizer.state_dict()
    assert state["rule"] == "NAdam"
    assert (state["alpha"], state["t"], state["groups/0/alpha"]) == (0.1, 1, 0.5)
    assert state["groups/0/params"].tolist() == ["1"]
    assert {name for name in state if name.startswith("state/")} == {
        f"state/{name}/{key}" for name in "01" for key in "mv"
    }
    before = state["state/0/m"].copy()
    optimizer.update()
    np.testing.assert_array_equal(state["state/0/m"], before)
    optimizer.load_state_dict(state)
    optimizer.update()
    np.testing.assert_array_equal(state["state/0/m"], before)


def test_the_state_is_that_of_this_model_alone():
    optimizer, models_ = MomentumSGD(), (Model(1), Model(2))
    for model in models_:
        model.set_grads(1)
        optimizer.setup(model).update()
    names = [optimizer._names[param] for param in models_[1].all]
    state = optimizer.state_dict()
    assert [name for name in state if name.startswith("state/")] == [f"state/{name}/v" for name in names]
    optimizer.load_state_dict(state)


def test_a_rule_of_the_users_own_has_its_state_saved(tmp_path):
    class Average(Optimizer):
        def __init__(self, lr=0.1):
            super().__init__()
            self.lr, self.calls = lr, 0

        def update_one(self, param):
            (total,) = self.memory(param, "total")
            total += param.grad.data
            self.calls += 1
            param.data -= self.lr * total / self.calls

    def run(path=None):
        model, optimizer = Model(3), Average()
        optimizer.setup(model)
        for step in range(1, 7):
            if path and step == 4:
                optimizer.save_state(path)
                optimizer = Average(9.0).setup(model)
                optimizer.load_state(path)
            model.set_grads(step)
            optimizer.update()
        return [param.data for param in model.all]

    assert_same(run(tmp_path / "a.npz"), run())


def test_a_loss_scaler_goes_into_the_same_file(tmp_path):
    model = L.Linear(2, in_size=2)
    parts = {"optimizer": SGD().setup(model), "scaler": GradScaler(init_scale=8.0, growth_interval=7)}
    serializers.save_state(parts, tmp_path / "all.npz")
    fresh = {"optimizer": SGD(0.5).setup(model), "scaler": GradScaler()}
    serializers.load_state(fresh, tmp_path / "all.npz")
    assert fresh["scaler"].state_dict() == parts["scaler"].state_dict()
    assert fresh["optimizer"].lr == 0.01


def test_what_a_capture_recorded_begins_anew(gpu, tmp_path):
    def run(captured):
        model, optimizer = Model(4).to(gpu), Adam(0.1)
        optimizer.setup(model)

        def step(x):
            loss = sum((param * x).sum() for param in model.all)
            for param in model.all:
                param.cleargrad()
            loss.backward()
            optimizer.update()

        step = cuda.capture(step) if captured else step
        for number in range(10):
            if number == 2:
                optimizer.save_state(tmp_path / "o.npz")
            if number == 6:
                optimizer.load_state(tmp_path / "o.npz")
            step(gpu.to(np.full(1, number, np.float32)))
        return [*values(gpu, model, optimizer), np.array(optimizer.t)]

    assert_same(run(True), run(False))


# ----------------------------------------------------------------------------------------------------------------------
# What does not fit
# ----------------------------------------------------------------------------------------------------------------------


def saved(**changes):
    """A state of an Adam with a group, and what else it is to have, or without what is None."""
    model, optimizer = Model(2), Adam(0.1)
    optimizer.setup(model).add_group(model.all[1], alpha=0.5)
    model.set_grads(1)
    optimizer.update()
    state = optimizer.state_dict() | changes
    return {name: x for name, x in state.items() if x is not None}


MISFITS = {
    "another rule": ({"rule": "SGD"}, "it is of the rule SGD"),
    "a number missing": ({"beta1": None}, "missing: beta1"),
    "a number too many": ({"momentum": 0.9}, "not in the optimizer: momentum"),
    "a number that is none": ({"t": "now"}, "no numbers: t"),
    "a count before the first step": ({"t": -5}, "t counts steps, and is -5"),
    "a count between steps": ({"t": 2.5}, "t counts steps, and is 2.5"),
    "a group too many": ({"groups/1/params": np.array(["0"])}, "not in the optimizer: groups/1/params"),
    "a group missing": ({"groups/0/params": None, "groups/0/alpha": None}, "missing: groups/0/alpha, groups/0/params"),
    "another group": ({"groups/0/params": np.array(["0"])}, "group 0 has other parameters; call add_group as it was"),
    "a parameter too many": ({"state/fc/W/m": np.ones(3)}, "there is no parameter fc/W"),
    "another shape": ({"state/0/m": np.ones(3)}, "state/0/m has shape (3,), but the parameter (3, 5)"),
    "another dtype": ({"state/0/m": np.ones((3, 5), int)}, "state/0/m is no array of floats"),
    "two things": ({"eps": None, "state/1/v": np.ones(2)}, "missing: eps; state/1/v has shape (2,)"),
}


@pytest.mark.parametrize("case", MISFITS)
@pytest.mark.parametrize("from_file", [False, True], ids=["dict", "file"])
def test_what_does_not_fit_says_so_and_changes_nothing(tmp_path, case, from_file):
    changes, message = MISFITS[case]
    model, optimizer = Model(2), Adam(0.3)
    optimizer.setup(model).add_group(model.all[1], alpha=0.6)
    model.set_grads(1)
    optimizer.update()
    before, arrays = optimizer.state_dict(), optimizer.state
    np.savez(tmp_path / "x.npz", **saved(**changes))
    load, what = (
        (optimizer.load_state, tmp_path / "x.npz") if from_file else (optimizer.load_state_dict, saved(**changes))
    )
    with pytest.raises(ValueError, match=f"does not fit.*{re.escape(message)}"):
        load(what)
    after = optimizer.state_dict()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert from_file or optimizer.state is arrays


def test_a_new_head_has_the_name_of_the_old_one_which_keeps_what_was_remembered(tmp_path):
    def with_head(head):
        model = L.Layer()
        model.body, model.head = L.Linear(2, in_size=3), head
        return model

    def step(model, optimizer):
        model.cleargrads()
        model.head(model.body(np.ones((1, 3), np.float32))).sum().backward()
        optimizer.update()

    old, new = L.Linear(4, in_size=2), L.Linear(5, in_size=2)
    model = with_head(old)
    optimizer = MomentumSGD(0.1).setup(model)
    step(model, optimizer)
    kept = optimizer.memory(old.W, "v")[0]
    model.head = new
    step(model, optimizer)
    optimizer.save_state(tmp_path / "s.npz")
    other = with_head(L.Linear(5, in_size=2))
    twin = MomentumSGD(0.1).setup(other)
    twin.load_state(tmp_path / "s.npz")
    np.testing.assert_array_equal(twin.memory(other.head.W, "v")[0], optimizer.memory(new.W, "v")[0])
    model.head = old
    step(model, optimizer)
    assert optimizer.memory(old.W, "v")[0] is kept


@pytest.mark.parametrize("state", [None, [], {}, {"alpha": 1}])
def test_what_is_no_state_at_all_is_an_error(state):
    with pytest.raises(ValueError, match=r"SGD.load_state_dict: this does not fit: it is not what state_dict returns"):
        SGD().setup(Model(1)).load_state_dict(state)


def test_before_setup_there_is_no_state():
    for call in (SGD().state_dict, lambda: SGD().load_state_dict({})):
        with pytest.raises(ValueError, match=r"SGD.\w+: .*call setup\(model\) first"):
            call()


def test_parts_that_do_not_fit_leave_all_parts_as_they_were(tmp_path):
    def parts(rate, size):
        optimizer = SGD(rate).setup(Model(1))
        return {"optimizer": optimizer, "schedule": size(optimizer)}

    serializers.save_state(parts(0.5, lambda o: schedules.Step(o, 3)), tmp_path / "s.npz")
    other = parts(0.1, lambda o: schedules.Exponential(o, 0.9))
    with pytest.raises(ValueError, match=r"load_state: .*s.npz does not fit: Exponential.load_state_dict: expected"):
        serializers.load_state(other, tmp_path / "s.npz")
    assert other["optimizer"].lr == 0.1
    with pytest.raises(ValueError, match="does not fit: there is no part for schedule"):
        serializers.load_state({"optimizer": other["optimizer"]}, tmp_path / "s.npz")


def test_files_that_are_not_there_or_no_state_are_errors(tmp_path):
    optimizer = SGD().setup(Model(1))
    with pytest.raises(FileNotFoundError, match=r"load_state: there is no file .*none.npz"):
        optimizer.load_state(tmp_path / "none")
    (tmp_path / "bad.npz").write_bytes(b"PK no zip")
    with pytest.raises(ValueError, match=r"load_state: .*bad.npz is not an npz file of arrays, as save_state writes"):
        optimizer.load_state(tmp_path / "bad.npz")
    np.savez(tmp_path / "objects.npz", rule=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"objects.npz is not an npz file of arrays"):
        optimizer.load_state(tmp_path / "objects.npz")
    with pytest.raises(TypeError, match=r"save_state: expected an optimizer, a schedule or a GradScaler.*got Linear"):
        serializers.save_state(L.Linear(2), tmp_path / "x.npz")
    assert not (tmp_path / "x.npz").exists()


def test_a_state_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    optimizer = SGD(0.5).setup(Model(1))
    optimizer.save_state(tmp_path / "s.npz")
    before = (tmp_path / "s.npz").read_bytes()

    def broken(*args, **options):
        raise OSError("no room")

    monkeypatch.setattr(np.lib.format, "write_array", broken)
    with pytest.raises(OSError, match="no room"):
        optimizer.save_state(tmp_path / "s.npz")
    assert (tmp_path / "s.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]


def test_numbers_come_back_as_they_were(tmp_path):
    model, optimizer = Model(1), MomentumSGD(0.1, nesterov=True)
    optimizer.setup(model).add_hook(WeightDecay(0.1))
    optimizer.lr, optimizer.momentum = 1 / 3, math.pi / 4
    optimizer.save_state(tmp_path / "s.npz")
    fresh = MomentumSGD().setup(Model(1))
    fresh.load_state(tmp_path / "s.npz")
    assert (fresh.lr, fresh.momentum, fresh.nesterov) == (1 / 3, math.pi / 4, True)
    assert fresh.nesterov is True
    assert fresh.hooks == []  # they are the program's


def test_a_parameter_without_axes_keeps_its_dtype(tmp_path):
    model = Model(0)
    model.all = [Parameter(np.array(1.0, np.float32))]
    model.all[0].grad = Variable(np.array(0.5, np.float32))
    optimizer = optimizers.Lion(0.1).setup(model)
    optimizer.update()
    optimizer.save_state(tmp_path / "s.npz")
    optimizer.load_state(tmp_path / "s.npz")
    (kept,) = (x for memory in optimizer.state.values() for x in memory.values())
    assert (kept.shape, kept.dtype) == ((), np.float32)
    optimizer.update()
