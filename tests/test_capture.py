"""Captured steps: a hundred of them are a hundred eager ones, bit for bit, and what cannot be captured says so."""

import gc
import re

import numpy as np
import pytest
import simulated_cublas

from dezero import (
    GradScaler,
    Model,
    Parameter,
    Variable,
    autocast,
    checkpoint,
    cuda,
    detect_anomaly,
    kernels,
    optimizers,
    test_mode,
)
from dezero import functions as F
from dezero import layers as L
from dezero.models import Sequential


@pytest.fixture(autouse=True)
def _cublas(request, monkeypatch):
    """A library for the products of a captured step, where the device is the stand-in."""
    if "gpu" in request.fixturenames:
        gpu = request.getfixturevalue("gpu")
        if hasattr(gpu.cupy, "_machine"):
            library = simulated_cublas.install(monkeypatch, gpu.cupy)
            yield
            assert not library.problems, library.problems
            return
    yield


class Net(Model):
    """Everything that changes from step to step: dropout, running statistics, an optimizer's state."""

    def __init__(self, products=True, activation=None):
        super().__init__()
        self.norm, self.scale = L.BatchNorm(), Parameter(np.full(3, 0.5, np.float32))
        self.conv, self.linear = (
            (L.Conv2d(3, 3, pad=1, activation=activation), L.Linear(3)) if products else (None, None)
        )

    def forward(self, x):
        if self.conv is not None:
            x = self.conv(x)
        x = F.dropout(F.relu(self.norm(x)), 0.3)
        x = F.mean(x, axis=(2, 3)) * self.scale
        return x if self.linear is None else self.linear(x)


def batches(gpu, count, size=4):
    rng = np.random.default_rng(0)
    for _ in range(count):
        x, t = rng.standard_normal((size, 3, 5, 5)).astype(np.float32), rng.integers(0, 3, size)
        yield gpu.to(x), gpu.to(t)


def make(optimizer=None, products=True, activation=None):
    np.random.seed(0)
    model = Net(products, activation)
    model.to_gpu()
    optimizer = (optimizer or (lambda: optimizers.MomentumSGD(0.1)))().setup(model)

    def step(x, t):
        loss = F.softmax_cross_entropy(model(x), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        return loss

    return model, optimizer, step


def state_of(gpu, model, optimizer):
    kept = [x for memory in optimizer.state.values() for x in memory.values()]
    grads = [param.grad.data for param in model.params() if param.grad is not None]
    return [gpu.back(x).tobytes() for x in [*(param.data for param in model.params()), *kept, *grads]]


def run(gpu, captured, count, change=None, **details):
    """The losses and the state after `count` steps; `change(optimizer, i)` before each."""
    model, optimizer, step = make(**details)
    step = cuda.capture(step) if captured else step
    losses = []
    for i, (x, t) in enumerate(batches(gpu, count)):
        if change:
            change(optimizer, i)
        losses.append(step(x, t))  # kept, not read: that would wait for the GPU
    if captured:
        (calls,) = step.calls.values()
        assert calls.recording is not None
    return [float(loss) for loss in losses], state_of(gpu, model, optimizer), np.random.rand()


def slower(optimizer, i):
    name = "lr" if "lr" in vars(optimizer) else "alpha"
    setattr(optimizer, name, 0.1 / (1 + i))


RULES = {
    "SGD": lambda: optimizers.SGD(0.1),
    "MomentumSGD": lambda: optimizers.MomentumSGD(0.1),
    "AdaGrad": lambda: optimizers.AdaGrad(0.1),
    "RMSprop": lambda: optimizers.RMSprop(0.1),
    "AdaDelta": lambda: optimizers.AdaDelta(),
    "Adam": lambda: optimizers.Adam(0.1),
    "NesterovSGD": lambda: optimizers.NesterovSGD(0.1, weight_decay=0.01),
    "AdamW": lambda: optimizers.AdamW(0.1, weight_decay=0.1),
    "NAdam": lambda: optimizers.NAdam(0.1),
    "Lion": lambda: optimizers.Lion(0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("change", [None, slower], ids=["", "a falling rate"])
def test_a_hundred_captured_steps_are_a_hundred_eager_ones(gpu, rule, change):
    if rule == "AdaDelta" and change:
        pytest.skip("it has no rate")
    details = {"optimizer": RULES[rule], "change": change}
    assert run(gpu, True, 100, **details) == run(gpu, False, 100, **details)


@pytest.mark.parametrize("activation", [F.relu, F.sigmoid])
def test_a_convolution_with_an_activation_too(gpu, activation):
    assert run(gpu, True, 100, activation=activation) == run(gpu, False, 100, activation=activation)


def test_without_products_too(gpu):
    assert run(gpu, True, 20, products=False) == run(gpu, False, 20, products=False)


def test_on_the_cpu_it_is_a_plain_call():
    seen = []

    @cuda.capture
    def step(x, rate=0.5):
        """Its docstring."""
        seen.append(x)
        return x * rate

    x = np.ones(3)
    for _ in range(6):
        np.testing.assert_array_equal(step(x, rate=2), x * 2)
    assert len(seen) == 6
    assert seen[0] is x
    assert (step.__name__, step.__doc__) == ("step", "Its docstring.")
    assert step.calls == {}


def test_each_shape_mode_and_argument_has_a_recording_of_its_own(gpu):
    calls = []

    @cuda.capture(warmup=2)
    def step(x, rate, names=()):
        calls.append(x.shape)
        return {"y": F.dropout(x, 0.5) * rate, "names": names}

    def count(*args, **options):
        before = len(calls)
        for _ in range(5):
            step(*args, **options)
        return len(calls) - before

    x = gpu.cupy.ones((2, 3), "f4")
    assert count(x, 2.0) == 3  # two to warm up, one to record
    assert count(x, 2.0) == 0
    assert count(x, 3.0) == 3
    assert count(x, 2.0, names=("a", "b")) == 3
    assert count(gpu.cupy.ones((2, 4), "f4"), 2.0) == 3
    assert count(gpu.cupy.ones((2, 3), "f8"), 2.0) == 3
    assert count(Variable(x), 2.0) == 3
    with test_mode():
        assert count(x, 2.0) == 3
        np.testing.assert_array_equal(gpu.back(step(x, 2.0)["y"].data), 2)
    assert step(x, 2.0)["names"] == ()
    with pytest.raises(TypeError, match=r"capture: arguments must be arrays, or have a hash, got set"):
        step(x, {1})


def test_results_are_copies_without_a_graph(gpu):
    step = cuda.capture(lambda x: (x * 2, [Variable(x) + 1]))
    found = [step(gpu.to(np.full(3, i, np.float32))) for i in range(6)]
    for i, (y, (z,)) in enumerate(found):
        np.testing.assert_array_equal(gpu.back(y), 2 * i)
        np.testing.assert_array_equal(gpu.back(z.data), i + 1)
    assert found[-1][1][0].creator is None


def test_a_parameter_with_another_array_is_captured_again(gpu, tmp_path):
    model, _, step = make(lambda: optimizers.SGD(0.1))
    captured = cuda.capture(step)
    data = list(batches(gpu, 12))
    for x, t in data[:6]:
        captured(x, t)
    model.save_weights(tmp_path / "w.npz")
    losses = []
    for f in (step, captured):
        model.load_weights(tmp_path / "w.npz")
        np.random.seed(1)
        losses.append([float(f(x, t)) for x, t in data[6:]])
    assert losses[0] == losses[1]


def test_an_optimizer_that_forgets_is_captured_again(gpu):
    def train(captured):
        model, optimizer, step = make(lambda: optimizers.MomentumSGD(0.1))
        step = cuda.capture(step) if captured else step
        losses = []
        for i, (x, t) in enumerate(batches(gpu, 14)):
            if i == 7:
                optimizer.state.clear()
            losses.append(step(x, t))
        return [float(loss) for loss in losses], state_of(gpu, model, optimizer)

    assert train(True) == train(False)


def changed_on_the_way(gpu, captured, change, make_optimizer):
    """The losses and the state of fourteen steps, with `change(model, optimizer)` in the middle."""
    model, optimizer, step = make(make_optimizer)
    step = cuda.capture(step) if captured else step
    losses = []
    for i, (x, t) in enumerate(batches(gpu, 14)):
        if i == 7:
            change(model, optimizer)
        losses.append(step(x, t))
    return [float(loss) for loss in losses], state_of(gpu, model, optimizer)


CHANGES = {
    "a group": lambda model, optimizer: optimizer.add_group(model.linear, lr=0.5),
    "a hook": lambda model, optimizer: optimizer.add_hook(optimizers.WeightDecay(0.5)),
    "a hook less": lambda model, optimizer: optimizer.hooks.clear(),
    "a switch": lambda model, optimizer: setattr(optimizer, "nesterov", True),
    "a switch of a group's": lambda model, optimizer: setattr(optimizer.groups[0], "nesterov", True),
    "running statistics": lambda model, optimizer: setattr(model.norm.avg_mean, "data", model.norm.avg_mean.data + 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_optimizer_that_would_launch_something_else_is_captured_again(gpu, change):
    class Prepared(optimizers.MomentumSGD):
        def setup(self, model):
            super().setup(model)
            self.add_hook(optimizers.WeightDecay(0.1))
            self.add_group(model.scale, lr=0.1, nesterov=False)
            return self

    eager, captured = (changed_on_the_way(gpu, way, CHANGES[change], lambda: Prepared(0.01)) for way in (False, True))
    assert captured == eager


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: Variable(w)], ids=["an array", "a Variable"])
def test_what_a_step_has_from_elsewhere_lives_as_long(gpu, wrap):
    held = {"w": wrap(gpu.cupy.full(3, 2.0)), "rows": gpu.cupy.array([2, 0])}
    step = cuda.capture(lambda x: F.get_item(Variable(x) * held["w"], (held["rows"],)).data)
    x = gpu.cupy.arange(3.0)
    for _ in range(5):
        step(x)
    held.clear()
    gc.collect()
    gpu.cupy.get_default_memory_pool().free_all_blocks()
    others = [gpu.cupy.full(3, 7) for _ in range(10)]  # which would take their memory
    np.testing.assert_array_equal(gpu.back(step(x)), [4, 0])
    del others


def test_a_call_in_another_stream_waits_for_the_one_before(gpu):
    cupy = gpu.cupy
    found = cupy.zeros(3)

    def add(x):
        found.__iadd__(x)

    step = cuda.capture(add)
    for i in range(5):
        step(cupy.full(3, float(i)))
    batches = [cupy.full(3, 10.0**i) for i in (1, 2, 3, 4)]
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
    cupy.cuda.Device().synchronize()
    for i, x in enumerate(batches):
        with streams[i % 2]:
            step(x)
    cupy.cuda.Device().synchronize()
    np.testing.assert_array_equal(gpu.back(found), 11110 + sum(range(5)))


def test_what_calls_take_and_do_not_share_is_not_kept(gpu):
    step = cuda.capture(lambda x: Variable(x) * gpu.cupy.full(1000, 2.0))
    for _ in range(5):
        step(gpu.cupy.ones(1000))
    (calls,) = step.calls.values()
    assert calls.watch.constants == []


def test_values_of_numpys_arrays_are_what_python_reads(gpu):
    step = cuda.capture(lambda x, n, rows: (x * float(n))[: rows[0]])
    x = gpu.cupy.ones(10)
    for i in range(24):
        n, rows = np.array(i % 3 + 1.0), np.array([i % 2 + 1])
        np.testing.assert_array_equal(gpu.back(step(x, n, rows)), np.full(i % 2 + 1, i % 3 + 1.0))
    assert all(calls.recording is not None for calls in step.calls.values())


def test_winograds_method_has_a_recording_of_its_own(gpu):
    calls = []
    step = cuda.capture(lambda x: (calls.append(1), x * 2)[1])
    for _ in range(6):
        step(gpu.cupy.ones(3))
    with kernels.using_winograd(False):
        step(gpu.cupy.ones(3))
    assert len(calls) == 5


def test_losses_are_scaled_by_the_scale_of_each_call(gpu):
    def train(captured):
        np.random.seed(0)
        model, scaler = L.Linear(2, in_size=3), GradScaler(64.0, growth_interval=2)
        model.to_gpu()
        optimizer = optimizers.SGD(0.01).setup(model)

        def step(x):
            with autocast("float16"):
                loss = F.sum(model(x) ** 2)
            model.cleargrads()
            scaler.scale(loss).backward()
            return loss

        step = cuda.capture(step) if captured else step
        losses = []
        for _ in range(10):
            losses.append(step(gpu.cupy.ones((4, 3), "f4")))
            assert scaler.step(optimizer)
            scaler.update()
        return [float(loss) for loss in losses], state_of(gpu, model, optimizer)

    assert train(True) == train(False)


def test_a_scalers_step_is_not_part_of_a_captured_one(gpu):
    model, scaler = L.Linear(2, in_size=3), GradScaler(8.0)
    model.to_gpu()
    optimizer = optimizers.SGD(0.01).setup(model)

    @cuda.capture
    def step(x):
        model.cleargrads()
        scaler.scale(F.sum(model(x))).backward()
        scaler.step(optimizer)
        scaler.update()

    x = gpu.cupy.ones((4, 3), "f4")
    for _ in range(3):
        step(x)
    with pytest.raises(RuntimeError, match=r"GradScaler.step reads whether gradients are finite; call it behind"):
        step(x)


@pytest.mark.parametrize(
    "resize",
    [
        lambda x: F.upsample(x, scale_factor=2),
        lambda x: F.upsample(x, size=(4, 3), mode="bilinear"),
        lambda x: F.adaptive_average_pooling(x, 2),
    ],
)
def test_images_of_other_sizes(gpu, resize):
    step = cuda.capture(resize)
    x = gpu.to(np.random.default_rng(0).standard_normal((2, 3, 5, 5)).astype(np.float32))
    expected = gpu.back(resize(x).data)
    for _ in range(6):
        np.testing.assert_array_equal(gpu.back(step(x).data), expected)
    assert len(step.calls) == 1


def test_what_a_checkpoint_computes_again_drops_the_same(gpu):
    def train(captured):
        np.random.seed(0)
        parts = [Sequential(L.Linear(8, in_size=8), F.tanh, lambda x: F.dropout(x, 0.5)) for _ in range(3)]
        model = Sequential(*parts)
        model.to_gpu()
        optimizer = optimizers.SGD(0.1).setup(model)

        def nested(x):
            return F.dropout(checkpoint(parts[2], checkpoint(parts[1], x)), 0.5)

        def step(x):
            loss = F.sum(checkpoint(nested, F.dropout(checkpoint(parts[0], x), 0.5)) ** 2)
            model.cleargrads()
            loss.backward()
            optimizer.update()
            return loss

        step = cuda.capture(step) if captured else step
        losses = [step(gpu.cupy.ones((4, 8), "f4")) for _ in range(10)]
        return [float(loss) for loss in losses], state_of(gpu, model, optimizer), np.random.rand()

    assert train(True) == train(False)


def test_replays_take_no_memory(gpu):
    _, _, step = make()
    step = cuda.capture(step)
    data = next(batches(gpu, 1))
    pool = gpu.cupy.get_default_memory_pool()
    seen = []
    for _ in range(12):
        step(*data)
        gc.collect()
        seen.append(pool.used_bytes())
    assert len(set(seen[5:])) == 1


def test_no_gradient_is_wanted_for_predictions(gpu):
    model, _, step = make()
    for x, t in batches(gpu, 3):
        step(x, t)
    predict = cuda.capture(lambda x: model(x))
    with test_mode():
        for x, _ in batches(gpu, 8):
            np.testing.assert_array_equal(gpu.back(predict(x).data), gpu.back(model(x).data))


def test_a_captured_step_within_another_is_part_of_it(gpu):
    inner = cuda.capture(lambda x: x * 2)
    outer = cuda.capture(lambda x: inner(x) + 1)
    for i in range(8):
        np.testing.assert_array_equal(gpu.back(outer(gpu.to(np.full(2, i, np.float32)))), 2 * i + 1)


def test_nothing_is_captured_under_detect_anomaly(gpu):
    seen = []
    step = cuda.capture(lambda x: (seen.append(1), F.exp(x))[1])
    with detect_anomaly():
        for _ in range(6):
            step(gpu.cupy.ones(2))
    assert len(seen) == 6


def test_a_gradient_that_the_step_does_not_touch_stays(gpu):
    used, unused = L.Linear(2, in_size=2), L.Linear(2, in_size=2)
    x = gpu.cupy.ones((3, 2), "f4")
    for layer in (used, unused):
        layer.to_gpu()
    F.sum(unused(x)).backward()
    before = unused.W.grad

    @cuda.capture
    def step(x):
        loss = F.sum(used(x)) + F.sum(unused(x)) * 0
        used.cleargrads()
        F.sum(used(x)).backward()
        return loss

    for _ in range(6):
        step(x)
    assert unused.W.grad is before
    np.testing.assert_array_equal(gpu.back(used.W.grad.data), 3)


def test_an_interrupt_while_capturing_leaves_all_as_it_was(gpu):
    model, optimizer, step = make(lambda: optimizers.Adam(0.1))
    calls = []

    @cuda.capture
    def interrupted(x, t):
        calls.append(1)
        loss = step(x, t)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return loss

    data = list(batches(gpu, 6))
    for x, t in data[:3]:
        interrupted(x, t)
    before = state_of(gpu, model, optimizer), optimizer.t
    with pytest.raises(KeyboardInterrupt):
        interrupted(*data[3])
    assert (state_of(gpu, model, optimizer), optimizer.t) == before
    for x, t in data[3:]:
        interrupted(x, t)
    assert optimizer.t == 6


# ----------------------------------------------------------------------------------------------------------------------
# What cannot be captured
# ----------------------------------------------------------------------------------------------------------------------


def reads_a_value(x):
    y = F.sum(x * x)
    if float(y) > 1000:  # the line at fault
        y = y * 2
    return y


def test_a_step_that_reads_a_value_is_an_error_with_its_line(gpu):
    step = cuda.capture(reads_a_value)
    x = gpu.cupy.ones(3, "f4")
    for _ in range(3):
        step(x)
    message = r"capture: the step cannot be captured: .*\n"
    if not hasattr(gpu.cupy, "_machine"):  # in whose own files the innermost line is
        message += r".*test_capture\.py, line \d+: if float\(y\) > 1000:  # the line"
    with pytest.raises(RuntimeError, match=message):
        step(x)
    assert float(F.sum(gpu.cupy.ones(3))) == 3  # all goes on


def test_with_a_fallback_it_warns_once_and_goes_on(gpu):
    def train(captured):
        model, optimizer, step = make(lambda: optimizers.Adam(0.1))

        def reading(x, t):
            loss = step(x, t)
            return loss * (2 if float(loss) > 0 else 1)

        f = cuda.capture(reading, fallback=True) if captured else reading
        losses = []
        for i, (x, t) in enumerate(batches(gpu, 8)):
            if captured and i == 3:
                with pytest.warns(RuntimeWarning, match="(?s)cannot be captured.*It goes on without"):
                    losses.append(float(f(x, t)))
            else:
                losses.append(float(f(x, t)))
        return losses, state_of(gpu, model, optimizer), np.random.rand()

    assert train(True) == train(False)


def test_gradients_that_add_up_over_calls_are_refused(gpu):
    model, optimizer, _ = make()

    @cuda.capture
    def step(x, t):
        loss = F.softmax_cross_entropy(model(x), t)
        loss.backward()
        optimizer.update()
        return loss

    data = list(batches(gpu, 4))
    for x, t in data[:3]:
        step(x, t)
    with pytest.raises(
        RuntimeError, match=r"gradients are added to those of the call before; call model.cleargrads\(\)"
    ):
        step(*data[3])


def test_what_a_call_leaves_for_the_next_is_refused(gpu):
    rnn = L.RNN(3)
    rnn.to_gpu()
    step = cuda.capture(lambda x: rnn(x))
    x = gpu.cupy.ones((2, 3), "f4")
    for _ in range(3):
        step(x)
    with pytest.raises(RuntimeError, match=r"capture: .*takes what the call before has left; .*reset_state\(\)"):
        step(x)
    with pytest.raises(RuntimeError, match="has left"):
        step(x)
    rnn.reset_state()

    @cuda.capture
    def whole(x):
        rnn.reset_state()
        return rnn(rnn(x))

    for _ in range(6):
        y = whole(x)
    rnn.reset_state()
    np.testing.assert_array_equal(gpu.back(y.data), gpu.back(rnn(rnn(x)).data))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"step": 3}, TypeError, "capture: expected a function, got int"),
        ({"warmup": 1}, ValueError, "capture: warmup must be an int of at least 2, got 1"),
        ({"warmup": "3"}, ValueError, "capture: warmup must be an int of at least 2, got '3'"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        cuda.capture(**{"step": len, **options})
