"""Whole-model updates on a GPU: one launch does to the bit what one for each parameter does, and what the CPU does."""

import subprocess
import sys

import numpy as np
import pytest

from dezero import Parameter, Variable, cuda, optimizers
from dezero.kernels.gpu import slots, update
from dezero.optimizers import ClipGrad, ClipGradValue, FreezeParam, Optimizer, WeightDecay, clip_grad_norm

RULES = {
    "sgd": lambda cls=optimizers.SGD: cls(0.1),
    "momentum_sgd": lambda cls=optimizers.MomentumSGD: cls(0.05, 0.8),
    "nesterov_sgd": lambda cls=optimizers.NesterovSGD: cls(0.05, 0.8),
    "adagrad": lambda cls=optimizers.AdaGrad: cls(0.1),
    "rmsprop": lambda cls=optimizers.RMSprop: cls(0.01),
    "adadelta": lambda cls=optimizers.AdaDelta: cls(),
    "adam": lambda cls=optimizers.Adam: cls(0.1),
    "adamw": lambda cls=optimizers.AdamW: cls(0.1, weight_decay=0.1),
    "nadam": lambda cls=optimizers.NAdam: cls(0.1, momentum_decay=0.1),
    "lion": lambda cls=optimizers.Lion: cls(0.01, weight_decay=0.1),
}
rules = pytest.mark.parametrize("rule", RULES)

# As many elements as a block has, and one less and more; of one element; of none.
SHAPES = [(3, 5), (), (512,), (1,), (511,), (0,), (7, 73), (513,), (2, 3, 5), (2, 1025)]


class Model:
    """Parameters, all made of the same numbers each time, and their gradients at each step."""

    def __init__(self, count, dtypes=("f4",), g_dtypes=(None,)):
        self.dtypes = dtypes, g_dtypes
        self.kinds = [(dtypes[i % len(dtypes)], g_dtypes[i % len(g_dtypes)]) for i in range(count)]
        self.all = [Parameter(self.numbers(i, 0).astype(dtype)) for i, (dtype, _) in enumerate(self.kinds)]

    def params(self):
        yield from self.all

    @staticmethod
    def numbers(i, step):
        return np.asarray(np.random.default_rng([i, step]).standard_normal(SHAPES[i % len(SHAPES)]))

    def to(self, gpu):
        for param in self.all:
            param.data = gpu.to(param.data)
        return self

    def set_grads(self, step, to=lambda x: x):
        for i, (param, (dtype, g_dtype)) in enumerate(zip(self.all, self.kinds, strict=True)):
            param.grad = Variable(to(self.numbers(i, step).astype(g_dtype or dtype)))


def one_by_one(rule):
    """The same rule, whose `update_one` is its own: each parameter has a launch."""

    class OneByOne(type(RULES[rule]())):
        def update_one(self, param):
            super().update_one(param)

    return RULES[rule](OneByOne)


def values(gpu, model, optimizer):
    kept = [x for memory in optimizer.state.values() for x in memory.values()]
    return [np.array(gpu.back(x)) for x in [*(param.data for param in model.all), *kept]]


def train(gpu, model, optimizer, steps=20, before=None):
    optimizer.setup(model)
    for step in range(1, steps + 1):
        model.set_grads(step, gpu.to if is_on(gpu, model.all[0].data) else np.asarray)
        if before is not None:
            before(step)
        optimizer.update()
    return values(gpu, model, optimizer)


def is_on(gpu, x):
    return isinstance(x, gpu.cupy.ndarray)


def launched(gpu, optimizer):
    """How often an update launches which kernels."""
    from simulated_gpu import machine_of

    names = machine_of(gpu.cupy).launched
    names.clear()
    optimizer.update()
    return [name for name in names if name in update.RULES]


def assert_same(found, wanted):
    assert len(found) == len(wanted)
    for x, y in zip(found, wanted, strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert x.tobytes() == y.tobytes()


TOLERANCES = {"float32": {"rtol": 3e-5, "atol": 3e-5}, "float64": {"rtol": 1e-12, "atol": 1e-12}}


def assert_close(found, wanted):
    assert len(found) == len(wanted)
    for x, y in zip(found, wanted, strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        np.testing.assert_allclose(x, y, **TOLERANCES[x.dtype.name])


# ----------------------------------------------------------------------------------------------------------------------
# The same numbers
# ----------------------------------------------------------------------------------------------------------------------


@rules
@pytest.mark.parametrize("count", [1, 5, 70])
def test_one_launch_does_what_one_for_each_does_and_what_the_cpu_does(gpu, rule, count):
    together = train(gpu, Model(count).to(gpu), RULES[rule]())
    assert_same(together, train(gpu, Model(count).to(gpu), one_by_one(rule)))
    assert_close(together, train(gpu, Model(count), RULES[rule]()))


@rules
def test_weight_decay_on_a_gpu_is_that_of_the_cpu_and_takes_no_launch_more(gpu, rule):
    def make(decay=0.2):
        optimizer = RULES[rule]()
        optimizer.weight_decay = decay
        return Model(10, ("f4", "f8")), optimizer

    model, optimizer = make()
    found = train(gpu, model.to(gpu), optimizer)
    assert_close(found, train(gpu, *make()))
    assert not np.allclose(found[0], train(gpu, *make(0.0))[0])
    if hasattr(gpu.cupy, "_machine"):
        assert launched(gpu, optimizer) == [rule] * 2  # for each dtype


@rules
def test_a_gradient_that_is_no_number_is_not_hidden(gpu, rule):
    model = Model(1).to(gpu)
    model.set_grads(1, gpu.to)
    model.all[0].grad.data[0, 0] = np.nan
    RULES[rule]().setup(model).update()
    assert np.isnan(gpu.back(model.all[0].data)).sum() == 1


@rules
def test_dtypes_may_be_mixed(gpu, rule):
    model = Model(24, ("f4", "f8", "f4", "f2"), (None, "f4", "f2", None, "f8", "f4"))
    exact = Model(24)
    exact.all = [Parameter(param.data.astype("f8")) for param in model.all]

    def same_grads(step):
        model.set_grads(step)
        for param, rounded in zip(exact.all, model.all, strict=True):
            param.grad.data = rounded.grad.data.astype("f8")

    wanted = train(gpu, exact, RULES[rule](), 5, same_grads)
    together = train(gpu, Model(24, *model.dtypes).to(gpu), RULES[rule](), 5)
    assert_same(together, train(gpu, Model(24, *model.dtypes).to(gpu), one_by_one(rule), 5))
    assert {x.dtype.name for x in together} == {"float16", "float32", "float64"}
    for x, y in zip(together, wanted, strict=True):
        if x.dtype != np.float16:  # in which what is small vanishes
            np.testing.assert_allclose(x, y, **TOLERANCES[x.dtype.name])


@rules
def test_params_without_a_gradient_stay(gpu, rule):
    def freeze(model):
        def before(step):
            for i, param in enumerate(model.all):
                if i % 3 == step % 3 or i == 4:
                    param.cleargrad()

        return before

    found = []
    for make, move in ((RULES[rule], True), (lambda: one_by_one(rule), True), (RULES[rule], False)):
        model = Model(10).to(gpu) if move else Model(10)
        found.append(train(gpu, model, make(), 7, freeze(model)))
        np.testing.assert_array_equal(gpu.back(model.all[4].data), Model(10).all[4].data)
    assert_same(found[0], found[1])
    assert_close(found[0], found[2])


def transposed(x):
    return x.T.copy().T


def spread(x):
    return x.repeat(2, -1)[..., ::2] if x.ndim else x


@rules
@pytest.mark.parametrize("arrange", [transposed, spread])
def test_arrays_may_lie_in_memory_as_they_like(gpu, rule, arrange):
    def scatter(model, which):
        def before(step):
            for i, param in enumerate(model.all):
                if which != "params" and i % 2:
                    param.grad.data = arrange(param.grad.data)

        if which != "grads":
            for param in model.all[::3]:
                param.data = arrange(param.data)
        return before

    wanted = train(gpu, Model(10).to(gpu), RULES[rule](), 4)
    for which in ("params", "grads", "both"):
        model = Model(10).to(gpu)
        before = scatter(model, which)
        arrays = [param.data for param in model.all]
        assert_same(train(gpu, model, RULES[rule](), 4, before), wanted)
        assert all(param.data is x for param, x in zip(model.all, arrays, strict=True))


@rules
def test_params_that_share_memory_are_updated_in_turn(gpu, rule):
    def shared(to):
        whole, model = to(np.linspace(-1, 1, 1500, dtype=np.float32)), Model(0)
        views = [whole, whole[:700], whole[300:1000], whole, whole[1000:]]
        model.all = [Parameter(view) for view in views]
        optimizer = RULES[rule]().setup(model)
        for step in range(3):
            for i, param in enumerate(model.all):
                param.grad = Variable(to(np.random.default_rng([i, step]).standard_normal(param.size).astype("f4")))
            optimizer.update()
        return values(gpu, model, optimizer)

    assert_close(shared(gpu.to), shared(np.array))


def sharing(gpu):
    """What is updated from a gradient that lies where another parameter does must not be at the same time as that."""
    model, whole = Model(0), gpu.to(np.arange(8, dtype=np.float32))
    model.all = [Parameter(whole[:4]), Parameter(whole[4:])]
    model.all[0].grad, model.all[1].grad = Variable(gpu.to(np.ones(4, np.float32))), Variable(whole[3:7])
    return model, whole


def test_a_gradient_may_lie_in_a_parameter(gpu):
    model, whole = sharing(gpu)
    optimizers.SGD(0.5).setup(model).update()
    np.testing.assert_array_equal(gpu.back(whole)[:5], [-0.5, 0.5, 1.5, 2.5, 4 - 1.25])


def test_what_shares_memory_is_launched_in_turn(simulated):
    model, whole = sharing(simulated)
    optimizer = optimizers.SGD(0.5).setup(model)
    assert launched(simulated, optimizer) == ["sgd"] * 2
    model.all[1].grad.data = whole[4:] * 1
    assert launched(simulated, optimizer) == ["sgd"]  # they lie beside each other
    model.all[1].data, model.all[1].grad = whole[3:], Variable(whole[3:] * 1)
    assert launched(simulated, optimizer) == ["sgd"] * 2
    model.all[0].data, model.all[0].grad = whole[6:8], Variable(whole[1:3])
    model.all[1].data, model.all[1].grad = whole[2:4], Variable(whole[2:4] * 1)
    assert launched(simulated, optimizer) == ["sgd"] * 2


def test_a_gradient_may_be_shared(gpu):
    model = Model(0)
    model.all = [Parameter(gpu.to(np.full(5, x, np.float32))) for x in range(3)]
    for param in model.all:
        param.grad = Variable(gpu.to(np.ones(5, np.float32)))
    model.all[1].grad = model.all[0].grad
    model.all[2].grad = model.all[2]
    optimizers.SGD(0.5).setup(model).update()
    for param, x in zip(model.all, (-0.5, 0.5, 1), strict=True):
        np.testing.assert_array_equal(gpu.back(param.data), x)


@rules
def test_state_follows_the_parameters_in_the_middle_of_a_run(gpu, rule):
    def move(model, optimizer, asked):
        def before(step):
            if step in (4, 10):
                model.to(gpu)
                if asked:
                    optimizer.to_gpu()
            if step in (7, 13):
                for param in model.all:
                    param.data = gpu.back(param.data)
            model.set_grads(step, gpu.to if is_on(gpu, model.all[0].data) else np.asarray)

        return before

    wanted = train(gpu, Model(5), RULES[rule](), 15)
    for asked in (False, True):
        model, optimizer = Model(5), RULES[rule]()
        assert_close(train(gpu, model, optimizer, 15, move(model, optimizer, asked)), wanted)


def test_parameters_may_be_on_both_devices(gpu):
    def half(move):
        model, optimizer = Model(10), optimizers.Adam(0.1)
        optimizer.setup(model)
        for step in range(1, 4):
            model.set_grads(step)
            if move:
                for param in model.all[::2]:
                    param.data, param.grad.data = gpu.to(param.data), gpu.to(param.grad.data)
            optimizer.update()
        return values(gpu, model, optimizer)

    assert_close(half(True), half(False))


# ----------------------------------------------------------------------------------------------------------------------
# What is remembered
# ----------------------------------------------------------------------------------------------------------------------


def test_what_is_remembered_is_an_array_for_each_parameter(gpu):
    model, optimizer = Model(5).to(gpu), optimizers.Adam()
    train(gpu, model, optimizer, 2)
    assert {name: {key: x.shape for key, x in kept.items()} for name, kept in optimizer.state.items()} == {
        str(i): {"m": SHAPES[i], "v": SHAPES[i]} for i in range(5)
    }
    assert all(is_on(gpu, x) for kept in optimizer.state.values() for x in kept.values())


def test_a_rule_that_remembers_nothing_has_no_state(gpu):
    for model in (Model(2), Model(2).to(gpu)):
        optimizer = optimizers.SGD()
        train(gpu, model, optimizer, 1)
        assert optimizer.state == {}


def test_state_of_another_dtype_keeps_it(gpu):
    model, optimizer = Model(3).to(gpu), optimizers.MomentumSGD(0.1)
    optimizer.setup(model)
    optimizer.state["0"] = {"v": gpu.cupy.ones((3, 5), np.float64)}
    model.set_grads(1, gpu.to)
    optimizer.update()
    assert optimizer.state["0"]["v"].dtype == np.float64
    v = 0.9 - 0.1 * Model.numbers(0, 1)
    np.testing.assert_allclose(gpu.back(optimizer.state["0"]["v"]), v, rtol=1e-6)
    np.testing.assert_allclose(gpu.back(model.all[0].data), Model.numbers(0, 0) + v, rtol=1e-5)


def test_state_of_another_shape_is_an_error_that_changes_nothing(gpu):
    model, optimizer = Model(3).to(gpu), optimizers.MomentumSGD(0.1)
    optimizer.setup(model)
    optimizer.state["0"] = {"v": gpu.cupy.ones((3, 4), np.float32)}
    model.set_grads(1, gpu.to)
    with pytest.raises(ValueError, match=r"momentum_sgd: arrays must have one shape, got \(3, 5\), \(3, 4\), \(3, 5\)"):
        optimizer.update()
    for param, before in zip(model.all, Model(3).all, strict=True):
        np.testing.assert_array_equal(gpu.back(param.data), before.data)


# ----------------------------------------------------------------------------------------------------------------------
# Launches
# ----------------------------------------------------------------------------------------------------------------------


@rules
@pytest.mark.parametrize(("count", "launches"), [(1, 1), (5, 1), (70, 1), (200, 3)])
def test_as_few_launches_as_there_is_room_for_arguments(simulated, rule, count, launches):
    model, optimizer = Model(count).to(simulated), RULES[rule]()
    train(simulated, model, optimizer, 1)
    assert launched(simulated, optimizer) == [rule] * launches


def test_the_arguments_of_a_launch_have_room():
    assert update._TABLE.itemsize + update._NUMBERS["float64"].itemsize + 8 <= 4096


@pytest.mark.parametrize("count", [update.MOST - 1, update.MOST, update.MOST + 1, 2 * update.MOST + 1])
def test_tables_that_are_full(gpu, count):
    model = Model(0)
    model.all = [Parameter(gpu.to(np.full(2, i, np.float32))) for i in range(count)]
    for i, param in enumerate(model.all):
        param.grad = Variable(gpu.to(np.array([0, i], np.float32)))
    optimizers.SGD(1.0).setup(model).update()
    found = [gpu.back(param.data).tolist() for param in model.all]
    assert found == [[i, 0] for i in range(count)]


def test_one_launch_for_each_pair_of_dtypes(simulated):
    model, optimizer = Model(24, ("f4", "f8"), (None, "f4")).to(simulated), optimizers.Adam()
    train(simulated, model, optimizer, 1)
    assert launched(simulated, optimizer) == ["adam"] * 2


def test_one_launch_more_for_each_that_is_not_in_c_order(simulated):
    model, optimizer = Model(10).to(simulated), optimizers.Adam()
    for param in model.all[:2]:
        param.data = transposed(param.data)  # of no axes it is as it was
    train(simulated, model, optimizer, 1)
    assert launched(simulated, optimizer) == ["adam"] * 2


@rules
def test_nothing_is_written_beside_the_arrays(simulated, rule):
    model, optimizer = Model(20, ("f4", "f2")).to(simulated), RULES[rule]()
    train(simulated, model, optimizer, 2)
    kept = [x for memory in optimizer.state.values() for x in memory.values()]
    for x in [*(p.data for p in model.all), *(p.grad.data for p in model.all), *kept]:
        x.data.mem.check_guards(rule)


# ----------------------------------------------------------------------------------------------------------------------
# Rules that have an update_one of their own
# ----------------------------------------------------------------------------------------------------------------------


def test_a_subclass_with_an_update_one_of_its_own_is_asked_for_each_parameter(simulated):
    seen = []

    class Halved(optimizers.SGD):
        def update_one(self, param):
            seen.append(param)
            param.grad.data *= 0.5
            super().update_one(param)

    model, plain = Model(5).to(simulated), Model(5).to(simulated)
    found = train(simulated, model, Halved(0.2), 1)
    assert seen == model.all
    assert_same(found, train(simulated, plain, optimizers.SGD(0.1), 1))
    assert launched(simulated, Halved(0.2).setup(model)) == ["sgd"] * 5


def test_an_update_one_of_the_objects_own_is_asked_too(gpu):
    model, optimizer = Model(5).to(gpu), optimizers.Adam()
    seen = []
    optimizer.update_one = seen.append
    train(gpu, model, optimizer, 1)
    assert seen == model.all


def test_a_subclass_without_one_is_updated_at_once(simulated):
    class Scheduled(optimizers.Adam):
        @property
        def lr(self):
            return 0.1 / self.t

    model, optimizer = Model(5).to(simulated), Scheduled()
    found = train(simulated, model, optimizer, 3)
    assert_close(found, train(simulated, Model(5), Scheduled(), 3))
    assert launched(simulated, optimizer) == ["adam"]


def test_a_rule_of_the_users_own_works_on_both_devices(gpu):
    class Average(Optimizer):
        def update_one(self, param):
            total, count = self.memory(param, "total", "count")
            total += param.grad.data
            count += 1
            param.data -= total / count

    assert_close(train(gpu, Model(5).to(gpu), Average(), 5), train(gpu, Model(5), Average(), 5))


@rules
def test_update_one_by_itself_updates_one(gpu, rule):
    model, optimizer = Model(3).to(gpu), RULES[rule]()
    optimizer.setup(model)
    model.set_grads(1, gpu.to)
    optimizer.update_one(model.all[2])
    for i, param in enumerate(model.all):
        assert np.array_equal(gpu.back(param.data), Model(3).all[i].data) == (i != 2)


# ----------------------------------------------------------------------------------------------------------------------
# Captured steps
# ----------------------------------------------------------------------------------------------------------------------


class Recorded:
    """An update whose launches are noted while its Python runs, as by a capture, and made at each call."""

    def __init__(self, model, optimizer, monkeypatch):
        self.model, self.launches = model, []
        self.recorder = slots.Recorder()
        with monkeypatch.context() as patch:
            patch.setattr(update, "in_blocks", lambda *args, **options: self.launches.append((args, options)))
            slots.begin(self.recorder)
            try:
                optimizer.update()
            finally:
                slots.begin(None)
        self.ran = False

    def __call__(self):
        if self.ran:
            self.recorder.before_replay()
        else:
            self.recorder.upload()
        self.ran = True
        for args, options in self.launches:
            update.in_blocks(*args, **options)


def other_grads(gpu, model, step):
    """New gradients where the old ones are."""
    fresh = Model(len(model.all), *model.dtypes)
    fresh.set_grads(step, gpu.to)
    for param, other in zip(model.all, fresh.all, strict=True):
        param.grad.data[...] = other.grad.data


def schedule(optimizer):
    name = next(name for name in ("alpha", "rho", "lr") if name in vars(optimizer))
    setattr(optimizer, name, getattr(optimizer, name) * 0.9)
    if hasattr(optimizer, "eps"):
        optimizer.eps *= 1.5


@rules
@pytest.mark.parametrize("make", [lambda rule: RULES[rule](), one_by_one], ids=["together", "one by one"])
def test_replays_are_the_steps_that_python_would_take(gpu, rule, make, monkeypatch):
    found = []
    for captured in (False, True):
        model, optimizer = Model(10, ("f4", "f8")).to(gpu), make(rule)
        train(gpu, model, optimizer, 1)  # which makes what is remembered
        step = optimizer.update
        for number in range(2, 8):
            schedule(optimizer)
            other_grads(gpu, model, number)
            if captured and number == 2:
                step = Recorded(model, optimizer, monkeypatch)
            step()
        found.append([*values(gpu, model, optimizer), np.array(getattr(optimizer, "t", 0))])
    assert_same(found[1], found[0])


@rules
def test_captured_steps_go_on_as_eager_ones_with_hooks_and_numbers_that_change(gpu, rule):
    found = []
    for captured in (False, True):
        model, optimizer = Model(10, ("f4", "f8")).to(gpu), RULES[rule]()
        optimizer.setup(model)
        decay, clip, clip_value = WeightDecay(0.1), ClipGrad(1.0), ClipGradValue(0.01)
        for hook in (FreezeParam(model.all[3]), decay, clip, clip_value):
            optimizer.add_hook(hook)

        def step(x, model=model, optimizer=optimizer):
            loss = sum((param * x).sum() for param in model.all)
            for param in model.all:
                param.cleargrad()
            loss.backward()
            optimizer.update()
            return loss

        run = cuda.capture(step) if captured else step
        losses = []
        for number in range(8):
            schedule(optimizer)
            decay.rate *= 1.5
            clip.max_norm *= 0.5
            clip_value.max_value *= 0.4
            losses.append(run(gpu.to(np.float32(number)[None])))
        assert not captured or all(calls.recording is not None for calls in run.calls.values())
        found.append([*values(gpu, model, optimizer), *(gpu.back(loss.data) for loss in losses)])
    assert_same(found[1], found[0])


def test_a_captured_step_keeps_what_it_changes(gpu, monkeypatch):
    model, optimizer = Model(5).to(gpu), optimizers.Adam()
    train(gpu, model, optimizer, 1)
    arrays = [param.data for param in model.all] + [x for kept in optimizer.state.values() for x in kept.values()]
    (kept,) = Recorded(model, optimizer, monkeypatch).recorder.kept
    assert {id(x) for x in arrays} <= {id(x) for update in kept for x in update}


def test_a_step_of_many_parameters_has_few_slots(gpu, monkeypatch):
    model, optimizer = Model(300, ("f4", "f8")).to(gpu), optimizers.Adam()
    train(gpu, model, optimizer, 1)
    optimizer.add_hook(WeightDecay(0.1))
    optimizer.add_hook(ClipGrad(0.1))
    assert Recorded(model, optimizer, monkeypatch).recorder.used < 200


# ----------------------------------------------------------------------------------------------------------------------
# Hooks
# ----------------------------------------------------------------------------------------------------------------------


def read(*_):
    raise AssertionError("a value is read from the device")


@pytest.fixture
def unread(simulated, monkeypatch):
    """A GPU; what reads a value from it raises, until `monkeypatch.undo()`."""
    for name in ("get", "item", "__float__", "__bool__", "__int__"):
        monkeypatch.setattr(simulated.cupy.ndarray, name, read)
    return simulated


def clipped(max_norm, gradients, to=np.array):
    params = [Parameter(to(np.zeros_like(g))) for g in gradients]
    for param, g in zip(params, gradients, strict=True):
        param.grad = Variable(to(g))
    arrays = [param.grad.data for param in params]
    ClipGrad(max_norm)(params)
    assert all(param.grad.data is x for param, x in zip(params, arrays, strict=True))
    return arrays


def gradients(dtypes="f4 f8 f4", size=5):
    return [np.random.default_rng(i).standard_normal(size).astype(dtype) for i, dtype in enumerate(dtypes.split())]


CLIPPED = {
    "all of one dtype": (0.5, gradients("f4 f4 f4")),
    "several dtypes": (0.5, gradients()),
    "halves": (0.5, gradients("f2 f4")),
    "one number": (0.5, [np.array(3.0)]),
    "large": (1.0, [np.full(2, 1e30, np.float32)]),
    "a norm below": (100.0, gradients()),
    "zeros": (1.0, [np.zeros(3, np.float32)]),
    "nan": (0.5, [np.array([1.0, np.nan]), np.ones(2, np.float32)]),
    "infinite norm": (np.inf, gradients()),
    "nothing at all": (0.0, gradients()),
    "no elements": (0.5, [np.zeros((0, 3)), np.ones(2)]),
    "no gradients": (0.5, []),
}


@pytest.mark.parametrize("case", CLIPPED)
def test_clipping_on_a_gpu_gives_the_cpus_bits_and_reads_nothing(unread, monkeypatch, case):
    found = clipped(*CLIPPED[case], unread.to)
    monkeypatch.undo()
    assert_same([unread.back(x) for x in found], clipped(*CLIPPED[case]))


@pytest.mark.parametrize("case", CLIPPED)
def test_clipping_on_a_gpu_is_that_of_the_cpu(gpu, case):
    wanted, found = clipped(*CLIPPED[case]), clipped(*CLIPPED[case], gpu.to)
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_allclose(gpu.back(x), y, rtol=2e-3 if y.dtype == np.float16 else 1e-6)


def test_clipping_takes_gradients_on_both_devices(gpu):
    both, wanted = gradients(), clipped(0.5, gradients())
    params = [Parameter(g) for g in (both[0], gpu.to(both[1]), both[2])]
    for param in params:
        param.grad = Variable(param.data.copy())
    ClipGrad(0.5)(params)
    for param, y in zip(params, wanted, strict=True):
        np.testing.assert_allclose(gpu.back(param.grad.data), y, rtol=1e-6)


VALUES = [np.array([1.0, -7.0, np.inf, np.nan, 0.25], np.float32), np.array(-3.0), np.array([0.7, -0.7], np.float16)]


def test_clipping_by_value_on_a_gpu_gives_the_cpus_bits_in_place_and_reads_nothing(unread, monkeypatch):
    def clipped(to):
        params = [Parameter(to(np.zeros_like(g))) for g in VALUES]
        for param, g in zip(params, VALUES, strict=True):
            param.grad = Variable(to(g))
        arrays = [param.grad.data for param in params]
        ClipGradValue(0.5)(params)
        assert all(param.grad.data is x for param, x in zip(params, arrays, strict=True))
        return arrays

    found = clipped(unread.to)
    monkeypatch.undo()
    assert_same([unread.back(x) for x in found], clipped(np.array))


def test_the_norm_that_was_clipped_comes_back_unread(unread, monkeypatch):
    model = Model(3).to(unread)
    model.set_grads(1, unread.to)
    norm = clip_grad_norm(model, 0.5)
    monkeypatch.undo()
    assert is_on(unread, norm)
    assert norm.shape == ()
    model = Model(3)
    model.set_grads(1)
    np.testing.assert_allclose(unread.back(norm), clip_grad_norm(model, 0.5), rtol=1e-7)


@rules
def test_a_step_with_every_hook_reads_nothing(unread, monkeypatch, rule):
    def train_with_hooks(to):
        model, optimizer = Model(10, ("f4", "f8")), RULES[rule]()
        for param in model.all:
            param.data = to(param.data)
        optimizer.setup(model)
        for hook in (FreezeParam(model.all[3]), WeightDecay(0.01), ClipGrad(1.0), ClipGradValue(0.5)):
            optimizer.add_hook(hook)
        for step in range(1, 6):
            model.set_grads(step, to)
            optimizer.update()
        return model, optimizer

    on_gpu = train_with_hooks(unread.to)
    monkeypatch.undo()
    assert_close(values(unread, *on_gpu), values(unread, *train_with_hooks(np.array)))


# ----------------------------------------------------------------------------------------------------------------------
# The CPU
# ----------------------------------------------------------------------------------------------------------------------


def test_without_a_gpu_nothing_of_it_is_imported():
    program = """
import sys
import numpy as np
from dezero import optimizers, Parameter, Variable
class Model:
    p = Parameter(np.ones(3))
    def params(self): yield self.p
Model.p.grad = Variable(np.ones(3))
optimizer = optimizers.Adam().setup(Model())
optimizer.add_hook(optimizers.WeightDecay(0.1))
optimizer.add_hook(optimizers.ClipGrad(0.1))
optimizer.update()
assert not [name for name in sys.modules if "gpu" in name or "cupy" in name]
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
