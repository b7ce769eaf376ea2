"""Schedules against PyTorch's or their formula, with every rule, with groups, saved and resumed, and captured."""

import copy
import math
import re

import numpy as np
import pytest
from test_gpu_updates import RULES, Model, assert_same, values

from dezero import Parameter, Variable, cuda, optimizers, schedules
from dezero.optimizers import SGD, AdaDelta, Adam, AdamW, MomentumSGD, Optimizer

STEPS = 200
BASE = 0.3


def rates(schedule, steps=STEPS, step=None):
    found = [schedule.rate]
    for i in range(steps):
        step(i) if step else schedule.step()
        found.append(schedule.rate)
    return found


# Ours, PyTorch's, and after how many steps PyTorch's begins to do something else.
TORCH = {
    "step": (lambda o: schedules.Step(o, 7, 0.9), lambda s, o: s.StepLR(o, 7, 0.9), STEPS),
    "step, defaults": (lambda o: schedules.Step(o, 30), lambda s, o: s.StepLR(o, 30), STEPS),
    "milestones": (
        lambda o: schedules.MultiStep(o, [50, 3, 120], 0.5),
        lambda s, o: s.MultiStepLR(o, [3, 50, 120], 0.5),
        STEPS,
    ),
    "exponential": (lambda o: schedules.Exponential(o, 0.97), lambda s, o: s.ExponentialLR(o, 0.97), STEPS),
    "cosine": (lambda o: schedules.Cosine(o, 180), lambda s, o: s.CosineAnnealingLR(o, 180), 180),  # then it rises
    "cosine to an end": (
        lambda o: schedules.Cosine(o, 200, end=0.1),
        lambda s, o: s.CosineAnnealingLR(o, 200, eta_min=0.1 * BASE),
        STEPS,
    ),
    "cosine, warm-up": (
        lambda o: schedules.Cosine(o, 200, warm_up=20),
        lambda s, o: s.SequentialLR(
            o, [s.LinearLR(o, 1 / 21, total_iters=20), s.CosineAnnealingLR(o, 180)], milestones=[20]
        ),
        STEPS,
    ),
    "polynomial": (lambda o: schedules.Polynomial(o, 150, 2.5), lambda s, o: s.PolynomialLR(o, 150, 2.5), STEPS),
    "linear": (
        lambda o: schedules.Linear(o, 150, start=0.2, end=0.8),
        lambda s, o: s.LinearLR(o, 0.2, 0.8, 150),
        STEPS,
    ),
    "linear to 0": (lambda o: schedules.Linear(o, 150), lambda s, o: s.PolynomialLR(o, 150), STEPS),
    "one cycle": (
        lambda o: schedules.OneCycle(o, 200, momentum=None),
        lambda s, o: s.OneCycleLR(o, BASE, 200, cycle_momentum=False),
        199,  # it refuses to go on
    ),
    "one cycle, all its own": (
        lambda o: schedules.OneCycle(o, 150, rise=0.45, start=0.1, end=1e-3, momentum=None),
        lambda s, o: s.OneCycleLR(
            o, BASE, 150, pct_start=0.45, div_factor=10, final_div_factor=100, cycle_momentum=False
        ),
        149,
    ),
    "a function": (
        lambda o: schedules.Schedule(o, lambda n: 1 / (1 + n)),
        lambda s, o: s.LambdaLR(o, lambda n: 1 / (1 + n)),
        STEPS,
    ),
}  # fmt: skip


def torch_rates(make, steps, seen="lr"):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=BASE, momentum=0.5)
    schedule = make(torch.optim.lr_scheduler, optimizer)
    found = [optimizer.param_groups[0][seen]]
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        found.append(optimizer.param_groups[0][seen])
    return found


def difference_from_pytorch(ours, theirs, steps):
    """The largest difference of a rate, over the largest rate."""
    wanted = np.array(torch_rates(theirs, steps))
    return np.abs(np.array(rates(ours(SGD(BASE)), steps)) - wanted).max() / wanted.max()


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")  # SequentialLR's own
@pytest.mark.parametrize(("ours", "theirs", "steps"), TORCH.values(), ids=TORCH)
def test_two_hundred_steps_are_pytorchs(ours, theirs, steps):
    assert difference_from_pytorch(ours, theirs, steps) < 1e-13


def losses(kind):
    rng = np.random.default_rng(0)
    if kind == "falling, then flat":
        return [1 / (1 + i) if i < 40 else 0.025 for i in range(STEPS)]
    if kind == "noise":
        return (1 + rng.standard_normal(STEPS) * 0.1).tolist()
    return [math.nan if i % 3 == 0 else 3.0 for i in range(STEPS)]


@pytest.mark.parametrize("kind", ["falling, then flat", "noise", "nan"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"gamma": 0.5, "patience": 2, "cooldown": 4}, {"factor": 0.5, "patience": 2, "cooldown": 4}),
        ({"mode": "max", "patience": 0, "gamma": 0.8}, {"mode": "max", "patience": 0, "factor": 0.8}),
        (
            {"gamma": 0.5, "patience": 3, "threshold": 0.05, "end": 0.1},
            {"factor": 0.5, "patience": 3, "threshold": 0.05, "min_lr": 0.1 * BASE},
        ),
    ],
)
def test_the_plateau_is_pytorchs(kind, ours, theirs):
    torch = pytest.importorskip("torch")
    torch_optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=BASE)
    other = torch.optim.lr_scheduler.ReduceLROnPlateau(torch_optimizer, **theirs, eps=0)
    schedule = schedules.Plateau(SGD(BASE), **ours)
    for loss in losses(kind):
        schedule.step(loss)
        other.step(loss)
        assert schedule.rate == pytest.approx(torch_optimizer.param_groups[0]["lr"], rel=1e-13)
    assert schedule.rate < BASE


@pytest.mark.parametrize("rise", [0, 0.3, 0.5, 1])
def test_one_cycle_ends_where_it_was_to_end_and_stays(rise):
    optimizer = MomentumSGD(BASE)
    schedule = schedules.OneCycle(optimizer, 20, rise=rise, end=0.01)
    found = rates(schedule, 50)
    assert max(found) <= BASE
    np.testing.assert_allclose(found[19:], BASE if rise == 1 else 0.01 * BASE, rtol=1e-13)
    assert optimizer.momentum == pytest.approx(0.85 if rise == 1 else 0.95)


@pytest.mark.parametrize(("mode", "better", "no_better"), [("min", 0.89, 0.91), ("max", 1.11, 1.09)])
def test_what_is_better_by_less_than_the_threshold_is_no_better(mode, better, no_better):
    for value, falls in ((better, False), (no_better, True)):
        schedule = schedules.Plateau(SGD(BASE), patience=0, threshold=0.1, mode=mode)
        schedule.step(1.0)
        schedule.step(value)
        assert (schedule.rate < BASE) == falls


@pytest.mark.parametrize("rule", [MomentumSGD, Adam])
@pytest.mark.parametrize("momentum", [(0.85, 0.95), (0.5, 0.7)])
def test_one_cycles_momentum_is_pytorchs(rule, momentum):
    low, high = momentum
    wanted = torch_rates(
        lambda s, o: s.OneCycleLR(o, BASE, 200, base_momentum=low, max_momentum=high), 199, seen="momentum"
    )
    optimizer = rule(BASE)
    schedule = schedules.OneCycle(optimizer, 200, momentum=momentum)
    name = "momentum" if rule is MomentumSGD else "beta1"
    found = [getattr(optimizer, name)]
    for _ in range(199):
        schedule.step()
        found.append(getattr(optimizer, name))
    np.testing.assert_allclose(found, wanted, rtol=1e-13)


FORMULAS = {
    "step": (lambda o, w: schedules.Step(o, 3, 0.5, w), lambda n: 0.5 ** (n // 3)),
    "milestones": (lambda o, w: schedules.MultiStep(o, (2, 5), 0.5, w), lambda n: 0.5 ** ((n >= 2) + (n >= 5))),
    "exponential": (lambda o, w: schedules.Exponential(o, 0.9, w), lambda n: 0.9**n),
    "cosine": (
        lambda o, w: schedules.Cosine(o, 40 + w, 0.2, w),
        lambda n: 0.2 + 0.4 * (1 + math.cos(math.pi * min(n, 40) / 40)),
    ),
    "polynomial": (
        lambda o, w: schedules.Polynomial(o, 40 + w, 3, 0.2, w),
        lambda n: 0.2 + 0.8 * (1 - min(n, 40) / 40) ** 3,
    ),
    "linear": (lambda o, w: schedules.Linear(o, 40 + w, 0.5, 0.25, w), lambda n: 0.5 - 0.25 * min(n, 40) / 40),
    "function": (lambda o, w: schedules.Schedule(o, lambda n: 2 + n, w), lambda n: 2 + n),
}


@pytest.mark.parametrize("warm_up", [0, 1, 10])
@pytest.mark.parametrize("name", FORMULAS)
def test_rates_follow_the_formula_behind_a_warm_up(name, warm_up):
    make, factor = FORMULAS[name]
    found = rates(make(SGD(BASE), warm_up))
    up = [BASE * factor(0) * (n + 1) / (warm_up + 1) for n in range(warm_up)]
    wanted = up + [BASE * factor(n) for n in range(STEPS + 1 - warm_up)]
    np.testing.assert_allclose(found, wanted, rtol=1e-13)


# ----------------------------------------------------------------------------------------------------------------------
# Optimizers and groups
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"adadelta"}))
def test_every_rule_takes_the_steps_of_its_rate(rule):
    def train(scheduled):
        model, optimizer = Model(3), RULES[rule]()
        optimizer.setup(model)
        base = getattr(optimizer, optimizer.base_rate)
        schedule = schedules.Exponential(optimizer, 0.5) if scheduled else None
        for i in range(5):
            model.set_grads(i)
            if not scheduled:
                setattr(optimizer, optimizer.base_rate, base * 0.5**i)
            optimizer.update()
            if scheduled:
                assert schedule.rate == getattr(optimizer, optimizer.base_rate) == base * 0.5**i
                schedule.step()
        return [param.data for param in model.all]

    assert_same(train(True), train(False))


def test_each_groups_own_rate_goes_its_way_from_its_own_base():
    model, optimizer = Model(4), AdamW(0.1)
    optimizer.setup(model)
    slow, plain = optimizer.add_group(model.all[0], alpha=0.01), optimizer.add_group(model.all[1], weight_decay=0)
    schedule = schedules.Linear(optimizer, 10)
    for n in range(12):
        left = 1 - min(n / 10, 1)
        assert (optimizer.alpha, slow.alpha, plain.alpha) == pytest.approx((0.1 * left, 0.01 * left, 0.1 * left))
        if n == 5:
            late = optimizer.add_group(model.all[2], alpha=1.0)
        if n > 5:
            assert late.alpha == pytest.approx(left)
        schedule.step()
    assert "alpha" not in plain.numbers


def test_one_cycles_momentum_is_that_of_groups_that_have_their_own_too():
    model, optimizer = Model(2), MomentumSGD(0.1)
    group = optimizer.setup(model).add_group(model.all[0], momentum=0.1)
    schedules.OneCycle(optimizer, 10)
    assert (optimizer.momentum, group.momentum) == (0.95, 0.95)


def test_a_rule_of_the_users_own_names_its_rate():
    class Rule(Optimizer):
        base_rate = "eta"

        def __init__(self):
            super().__init__()
            self.eta = 0.5

    optimizer = Rule()
    schedule = schedules.Exponential(optimizer, 0.5)
    schedule.step()
    assert (optimizer.eta, schedule.rate, schedule.count) == (0.25, 0.25, 1)


def test_a_schedule_of_the_users_own_has_a_factor():
    class Sawtooth(schedules.Schedule):
        def factor(self, n):
            return 1 - n % 4 / 4

    assert rates(Sawtooth(SGD(1.0)), 5) == [1, 0.75, 0.5, 0.25, 1, 0.75]


def test_copies_go_their_own_way():
    optimizer = SGD(1.0)
    schedule = schedules.Exponential(optimizer, 0.5)
    twin = copy.deepcopy(schedule)
    twin.step()
    assert (schedule.rate, twin.rate, twin.optimizer.lr) == (1.0, 0.5, 0.5)


@pytest.mark.parametrize(
    "loss", [0.5, np.float32(0.5), np.array([[0.5]]), Variable(np.array(0.5)), np.array(0.5, np.float16), 1]
)
def test_a_plateau_hears_any_one_number(loss):
    schedule = schedules.Plateau(SGD())
    schedule.step(loss)
    assert schedule.best == float(np.ravel(cuda.plain(loss))[0])


def test_a_plateau_hears_from_a_gpu(gpu):
    schedule = schedules.Plateau(SGD())
    schedule.step(Variable(gpu.to(np.array(0.5, np.float32))))
    assert schedule.best == 0.5


# ----------------------------------------------------------------------------------------------------------------------
# Saved and resumed
# ----------------------------------------------------------------------------------------------------------------------


ALL = {
    **{name: (lambda o, make=make: make(o, 5)) for name, (make, _) in FORMULAS.items()},
    "one cycle": lambda o: schedules.OneCycle(o, 40),
    "plateau": lambda o: schedules.Plateau(o, 0.7, patience=1, cooldown=2),
}


def step_of(schedule):
    if isinstance(schedule, schedules.Plateau):
        return lambda i: schedule.step(losses("noise")[i])
    return lambda i: schedule.step()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("through", ["dict", "file", "file, on another rate"])
def test_a_schedule_resumed_is_one_that_never_stopped(tmp_path, name, through):
    def make(lr):
        optimizer = MomentumSGD(lr).setup(Model(2))
        group = optimizer.add_group(optimizer.target.all[0], lr=lr / 3)
        return optimizer, group, ALL[name](optimizer)

    optimizer, group, schedule = make(0.1)
    for i in range(13):
        step_of(schedule)(i)
    other, other_group, resumed = make(0.7 if through.endswith("rate") else 0.1)
    if through == "dict":
        resumed.load_state_dict(schedule.state_dict())
    else:
        schedule.save_state(tmp_path / "s")
        resumed.load_state(tmp_path / "s")
    for i in range(13, 60):
        assert (other.lr, other_group.lr, other.momentum) == (optimizer.lr, group.lr, optimizer.momentum)
        step_of(schedule)(i)
        step_of(resumed)(i)
    assert resumed.state_dict() == schedule.state_dict()


@pytest.mark.parametrize(
    "state",
    [
        {},
        None,
        schedules.Step(SGD(), 3).state_dict(),
        {"schedule": "Exponential", "count": 3},
        {"schedule": "Exponential", "count": 3, "base_rates/0": 1.0, "base_rates/1": 1.0},
    ],
)
def test_a_state_that_is_another_schedules_is_an_error_that_changes_nothing(state):
    schedule = schedules.Exponential(SGD(0.5), 0.5)
    message = r"Exponential.load_state_dict: expected a dict of schedule, count, base_rates/0, of a Exponential, got"
    with pytest.raises(ValueError, match=message):
        schedule.load_state_dict(state)
    with pytest.raises(TypeError, match=r"Exponential.load_state_dict: count must be a number, got str"):
        schedule.load_state_dict({"schedule": "Exponential", "count": "3", "base_rates/0": 1.0})
    for count in (-3, 1.5, math.nan):
        with pytest.raises(ValueError, match=rf"Exponential.load_state_dict: count must be .*, got {count}"):
            schedule.load_state_dict({"schedule": "Exponential", "count": count, "base_rates/0": 1.0})
    assert (schedule.count, schedule.rate) == (0, 0.5)


# ----------------------------------------------------------------------------------------------------------------------
# Captured steps
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("rule", [MomentumSGD, AdamW, optimizers.NAdam])
def test_a_captured_step_goes_on_to_the_next_rate(gpu, rule, inside):
    def run(captured):
        model, optimizer = Model(4).to(gpu), rule(0.1)
        group = optimizer.setup(model).add_group(model.all[0], **{optimizer.base_rate: 0.05})
        schedule = schedules.OneCycle(optimizer, 40)

        def step(x):
            loss = sum((param * x).sum() for param in model.all)
            for param in model.all:
                param.cleargrad()
            loss.backward()
            optimizer.update()
            if inside:
                schedule.step()

        step = cuda.capture(step) if captured else step
        seen = []
        for number in range(50):
            step(gpu.to(np.full(1, number % 3, np.float32)))
            if not inside:
                schedule.step()
            seen.append((schedule.count, schedule.rate, getattr(group, optimizer.base_rate)))
        if captured:
            (calls,) = step.calls.values()
            assert calls.recording is not None
        return [*values(gpu, model, optimizer), np.array(seen)]

    assert_same(run(True), run(False))


def test_a_capture_that_fails_takes_its_step_of_the_schedule_back(gpu):
    model, optimizer = Model(1).to(gpu), SGD(1.0)
    optimizer.setup(model)
    schedule, calls = schedules.Exponential(optimizer, 0.5), []

    @cuda.capture
    def step(x):
        calls.append(1)
        schedule.step()
        if len(calls) == 4:
            raise KeyboardInterrupt
        return x * 2

    for _ in range(3):
        step(gpu.cupy.ones(1))
    with pytest.raises(KeyboardInterrupt):
        step(gpu.cupy.ones(1))
    assert (schedule.count, optimizer.lr) == (3, 0.125)
    step(gpu.cupy.ones(1))
    assert (schedule.count, optimizer.lr) == (4, 0.0625)


def test_a_plateau_in_a_captured_step_is_refused(gpu):
    schedule = schedules.Plateau(SGD())
    step = cuda.capture(lambda x: schedule.step(0.5) or x * 2)
    for _ in range(3):
        step(gpu.cupy.ones(1))
    with pytest.raises(RuntimeError, match=r"Plateau.step reads the loss; call it outside the captured step"):
        step(gpu.cupy.ones(1))


# ----------------------------------------------------------------------------------------------------------------------
# Bad arguments
# ----------------------------------------------------------------------------------------------------------------------


class NoRate(Optimizer):
    """Without an attribute lr."""


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: schedules.Step(AdaDelta(), 3), ValueError, "Step: AdaDelta has no rate that a schedule could change"),
        (lambda: schedules.Step(NoRate(), 3), ValueError, "Step: NoRate has no attribute 'lr' to change; expected an"),
        (lambda: schedules.Step(Parameter(np.ones(1)), 3), ValueError, "Step: Parameter has no attribute 'lr'"),
        (lambda: schedules.Step(SGD(), 0), ValueError, "Step: size must be an int of at least 1, got 0"),
        (lambda: schedules.Step(SGD(), 2.5), ValueError, "Step: size must be an int of at least 1, got 2.5"),
        (lambda: schedules.Step(SGD(), 3, -0.1), ValueError, "Step: gamma must be at least 0, got -0.1"),
        (lambda: schedules.Step(SGD(), 3, warm_up=-1), ValueError, "Step: warm_up must be an int of at least 0"),
        (lambda: schedules.MultiStep(SGD(), [1, "2"]), ValueError, "MultiStep: each of milestones must be an int of"),
        (lambda: schedules.Exponential(SGD(), math.nan), ValueError, "Exponential: gamma must be at least 0, got nan"),
        (lambda: schedules.Exponential(SGD(), math.inf), ValueError, "Exponential: gamma must be finite, got inf"),
        (lambda: schedules.Exponential(SGD(), "0.9"), TypeError, "Exponential: gamma must be a number, got str"),
        (lambda: schedules.Cosine(None, 5), ValueError, "Cosine: NoneType has no attribute 'lr' to change; expected"),
        (lambda: schedules.OneCycle(None, 5, momentum=None), ValueError, "OneCycle: NoneType has no attribute 'lr'"),
        (lambda: schedules.MultiStep(SGD(), 3), TypeError, "MultiStep: milestones must be a sequence of ints, got 3"),
        (lambda: schedules.Cosine(SGD(), 0), ValueError, "Cosine: steps must be an int of at least 1, got 0"),
        (lambda: schedules.Cosine(SGD(), 5, warm_up=5), ValueError, "Cosine: steps must be more than those of"),
        (lambda: schedules.Polynomial(SGD(), 5, -1), ValueError, "Polynomial: power must be at least 0, got -1"),
        (lambda: schedules.Linear(SGD(), 5, end=-1), ValueError, "Linear: end must be at least 0, got -1"),
        (lambda: schedules.OneCycle(SGD(), 10), ValueError, "OneCycle: SGD has no momentum and no beta1; give"),
        (lambda: schedules.OneCycle(Adam(), 1), ValueError, "OneCycle: steps must be an int of at least 2, got 1"),
        (lambda: schedules.OneCycle(Adam(), 9, 1.5), ValueError, "OneCycle: rise must lie in 0..1, got 1.5"),
        (lambda: schedules.OneCycle(Adam(), 9, momentum=0.9), ValueError, "OneCycle: momentum must be a pair"),
        (lambda: schedules.OneCycle(Adam(), 9, momentum=(0.9, 2)), ValueError, "OneCycle: momentum must lie in 0..1"),
        (lambda: schedules.OneCycle(Adam(), 9, momentum=(0.9, 1)), ValueError, "OneCycle: momentum must be below 1"),
        (lambda: schedules.Plateau(SGD(), mode="less"), ValueError, 'Plateau: mode must be "min" or "max"'),
        (lambda: schedules.Plateau(SGD(), patience=-1), ValueError, "Plateau: patience must be an int of at least 0"),
        (lambda: schedules.Plateau(SGD(), gamma=2), ValueError, "Plateau: gamma must lie in 0..1, got 2"),
        (lambda: schedules.Plateau(SGD()).step("low"), TypeError, "Plateau.step: expected a loss, a number, got str"),
        (lambda: schedules.Plateau(SGD()).step(np.ones(2)), ValueError, "Plateau.step: expected one number"),
        (lambda: schedules.Plateau(SGD()).step(None), TypeError, "Plateau.step: expected a loss, a number, got None"),
        (lambda: schedules.Schedule(SGD()), TypeError, "Schedule: expected a function of n that returns a factor, got"),
        (lambda: schedules.Schedule(SGD(), 0.5), TypeError, "Schedule: factor must be a function of n, got float"),
        (lambda: schedules.Schedule(SGD(), lambda n: None), TypeError, "Schedule: factor(0) must return a number, got"),
        (lambda: schedules.Schedule(SGD(), lambda n: math.nan), ValueError, "Schedule: factor(0) must be finite"),
    ],
)  # fmt: skip
def test_what_no_schedule_can_be_made_of_is_refused(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_a_schedule_that_is_refused_leaves_the_rate():
    optimizer = MomentumSGD(0.5)
    with pytest.raises(ValueError, match="OneCycle: steps must be an int"):
        schedules.OneCycle(optimizer, "many")
    with pytest.raises(ZeroDivisionError):
        schedules.Schedule(optimizer, lambda n: 1 / n)
    assert (optimizer.lr, optimizer.momentum) == (0.5, 0.9)
