"""`dezero.cuda.capture`: run a training step once, record what it launched on the GPU, and replay it.

A small network on a large GPU waits for Python: each operation costs microseconds to launch and less to compute. CUDA
can record a sequence of launches as a *graph* and start all of it at once. What is replayed are launches, with the
arrays that they were recorded with, and no line of Python. From that follows all that this file does:

- The first calls run as they are: kernels are compiled, cuDNN's plans found, optimizer state made. These are ordinary
  training steps. While the last two run, it is noted which parameters and optimizers take part.
- Then one call is captured: its Python runs, its launches are recorded and not executed, and the graph is launched for
  the first time in their place. So nothing has to be undone, and each call is one training step.
- Memory that is taken while capturing comes from a pool of its own, which lives as long as the graph.
- Arguments are copied into fixed arrays, results out of them.
- Numbers that change from step to step are slots in device memory: see `kernels/gpu/slots.py`.
- What the graph reads must still be there: when a parameter, or what an optimizer remembers, has been given another
  array, all begins anew, and so it does when an optimizer has got another hook or group. Arrays that the step has from
  elsewhere, such as weights of classes, are kept.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dezero import cuda, random
from dezero.core import Config, Parameter, Variable, mode
from dezero.kernels import winograd

__all__ = ["capture"]

WARMUP = 3


def capture(step: Callable[..., Any] | None = None, *, warmup: int = WARMUP, fallback: bool = False) -> Any:
    """Return `step`, a function of a batch, such that on a GPU it is run once, recorded, and replayed from then on.

    Args:
        step: does what a training loop does with a batch, up to the optimizer's update, and returns Variables or
            arrays, such as the loss, in any nesting of tuples, lists and dicts.
        warmup: how many calls run as ordinary steps before one is recorded, 2 or more (default: 3).
        fallback: go on without, after one warning, where a step cannot be captured (default: an error).

    Batches of another shape or dtype, another mode (`test_mode()`, `no_grad()`, `autocast`), and other values of
    arguments that are no arrays of the GPU's have recordings of their own; so has an optimizer with other groups or
    hooks. Without any array of the GPU's among the arguments `step` is called as it is.

    What is returned is a copy, without a graph; reading a value of it (`float(loss)`) waits for the GPU, keeping it
    does not. Gradients are those of the last call. Learning rates, Adam's step count and dropout go on as they would:
    the numbers are those of plain calls to the last bit, where kernels are deterministic (see `cuda.deterministic`).

    A captured step must not read a value (`float(loss)`, `if x.max() > 0`), print, or keep anything from call to call
    but parameters, their optimizer's state, the count of a schedule's `step()` and running statistics: Python runs
    once. Such a step raises RuntimeError with the line at fault. Clear gradients within the step: adding up over calls
    cannot be captured.

    >>> import numpy as np
    >>> from dezero import cuda, functions as F, layers as L, optimizers
    >>> model = L.Linear(2, in_size=3)
    >>> optimizer = optimizers.SGD().setup(model)
    >>> @cuda.capture
    ... def step(x, t):
    ...     loss = F.softmax_cross_entropy(model(x), t)
    ...     model.cleargrads()
    ...     loss.backward()
    ...     optimizer.update()
    ...     return loss
    >>> step(np.ones((4, 3), np.float32), np.zeros(4, int)).shape
    ()
    """
    if step is None:
        return functools.partial(capture, warmup=warmup, fallback=fallback)
    if not callable(step):
        raise TypeError(f"capture: expected a function, got {type(step).__name__}")
    if not isinstance(warmup, int) or warmup < 2:
        raise ValueError(f"capture: warmup must be an int of at least 2, got {warmup!r}")
    return functools.wraps(step)(CapturedStep(step, warmup, fallback))


class CapturedStep:
    """A step, and its recordings by what they depend on."""

    def __init__(self, step: Callable[..., Any], warmup: int, fallback: bool) -> None:
        self.step = step
        self.warmup = warmup
        self.fallback = fallback
        self.calls: dict[Any, _Calls] = {}

    def __call__(self, *args: Any, **options: Any) -> Any:
        arrays = list(_arrays((args, options)))
        # Within another step it is part of that one, and who observes each operation wants to see it run.
        if not arrays or _slots().capturing() or Config.observer is not None:
            return self.step(*args, **options)
        key = _key((args, options))
        if key not in self.calls:
            self.calls[key] = _Calls(self)
        return self.calls[key](args, options, arrays)


class _Calls:
    """The calls with one key: the first run as they are, then there is a recording."""

    def __init__(self, captured: CapturedStep) -> None:
        self.captured = captured
        self.count = 0
        self.gave_up = False
        self.watch: _Watch | None = None
        self.recording: _Recording | None = None

    def __call__(self, args: Any, options: Any, arrays: list[Any]) -> Any:
        step = self.captured.step
        if self.recording is not None:
            if self.recording.is_of_now():
                return self.recording.replay(arrays)
            self.recording, self.watch, self.count = None, None, 0
        self.count += 1
        if self.gave_up or self.count <= self.captured.warmup - 2:
            return step(*args, **options)
        if self.count <= self.captured.warmup or self.watch is None:
            self.watch = _Watch(self.watch)
            with self.watch.watching():
                return step(*args, **options)
        return self._capture(self.watch, args, options, arrays)

    def _capture(self, watch: _Watch, args: Any, options: Any, arrays: list[Any]) -> Any:
        before = _State(watch)
        try:
            self.recording = _Recording(self.captured.step, watch, args, options, arrays)
        except BaseException as error:
            before.restore()
            if not isinstance(error, Exception):
                raise
            message = f"capture: the step cannot be captured: {_first_line(error)}{_users_line(error)}"
            if not self.captured.fallback:
                raise RuntimeError(f"{message}\nDo that outside the step, or take capture(fallback=True)") from error
            warnings.warn(f"{message}\nIt goes on without", RuntimeWarning, stacklevel=4)
            self.gave_up = True
            return self.captured.step(*args, **options)
        return self.recording.start()


# ----------------------------------------------------------------------------------------------------------------------
# Arguments and results
# ----------------------------------------------------------------------------------------------------------------------


def _arrays(x: Any) -> Iterator[Any]:
    """Yield the arrays on a GPU in a nesting of tuples, lists and dicts, those of Variables too."""
    if isinstance(x, (tuple, list)):
        for part in x:
            yield from _arrays(part)
    elif isinstance(x, dict):
        for part in x.values():
            yield from _arrays(part)
    elif _is_on_gpu(x):
        yield cuda.plain(x)


def _is_on_gpu(x: Any) -> bool:
    return cuda.device_of(cuda.plain(x)) is not None


def _map_arrays(f: Callable[[Any], Any], x: Any) -> Any:
    """The same nesting with `f` of each Variable and array on a GPU."""
    if isinstance(x, (tuple, list)):
        parts = [_map_arrays(f, part) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    if isinstance(x, dict):
        return {name: _map_arrays(f, part) for name, part in x.items()}
    return f(x) if _is_on_gpu(x) else x


def _key(x: Any) -> Any:
    """What a recording depends on: shapes, dtypes, order and devices of arrays, values of all else, and the modes."""
    casts = Config.autocast
    return (
        _shape_of(x),
        *(Config.train, Config.enable_backprop, None if casts is None else casts.name),
        *(cuda.allow_tf32, cuda.deterministic, cuda.channels_last, winograd.is_on()),
    )


def _shape_of(x: Any) -> Any:
    if isinstance(x, (tuple, list)):
        return type(x), tuple(map(_shape_of, x))
    if isinstance(x, dict):
        return tuple((name, _shape_of(part)) for name, part in x.items())
    array = cuda.plain(x)
    if _is_on_gpu(array):
        return type(x), array.shape, array.dtype, array.flags.c_contiguous, cuda.device_of(array)
    if cuda.is_array(array):  # whose values Python reads
        return type(x), array.shape, array.dtype, array.tobytes()
    try:
        hash(x)
    except TypeError:
        raise TypeError(f"capture: arguments must be arrays, or have a hash, got {type(x).__name__}") from None
    return type(x), x


def _copied_out(x: Any) -> Any:
    return Variable(x.data.copy()) if isinstance(x, Variable) else x.copy()


def _slots() -> Any:
    return importlib.import_module("dezero.kernels.gpu.slots")  # which nobody needs without a GPU


# ----------------------------------------------------------------------------------------------------------------------
# Who takes part
# ----------------------------------------------------------------------------------------------------------------------


class _Watch:
    """An observer of one call: its parameters, and whether it takes what the call before it has left."""

    def __init__(self, before: _Watch | None) -> None:
        self.before = None if before is None else before.made
        self.made: weakref.WeakSet[Variable] = weakref.WeakSet()
        self.seen_before = {} if before is None else before.seen
        self.seen: dict[int, weakref.ref[Any]] = {}  # arrays that operations took, and none has made, by id
        self.constants: list[Any] = []  # those that the call before took, too: they will be taken again
        self.params: dict[Parameter, None] = {}
        self.optimizers: dict[Any, None] = {}
        self.taken = ""  # the operation that took a result of the call before

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        slots = _slots()
        slots.watch(self.optimizers)
        try:
            with mode("observer", self):
                yield
        finally:
            slots.watch(None)
        self._find_buffers()
        self.constants = [x for key, seen in self.seen.items() if (x := seen()) is not None and self._was_seen(key, x)]

    def _find_buffers(self) -> None:
        """Add running statistics, which operations change and do not take, to the parameters."""
        for each in self.optimizers:
            target = getattr(each, "target", None)  # schedules have none
            for param in () if target is None else target.params():
                if getattr(param, "is_buffer", False):
                    self.params[param] = None

    def _was_seen(self, key: int, x: Any) -> bool:
        return key in self.seen_before and self.seen_before[key]() is x

    def _see(self, x: Any) -> None:
        if _is_on_gpu(x):
            self.seen[id(x)] = weakref.ref(x)

    def after_forward(self, node: Any, inputs: Sequence[Variable], outputs: Sequence[Variable]) -> None:
        for x in inputs:
            if isinstance(x, Parameter):
                self.params[x] = None
            elif self.before is not None and x in self.before and not self._is_gradient(x):
                self.taken = self.taken or node.operation
            elif x not in self.made:
                self._see(x.data)
        for attribute in vars(node).values():
            for x in attribute if isinstance(attribute, tuple) else (attribute,):
                if not isinstance(x, Variable):
                    self._see(x)
        self.made.update(outputs)

    def _is_gradient(self, x: Variable) -> bool:
        """Say whether it is one that a new gradient is added to: `_Stale` finds that out."""
        return any(x is param.grad for param in self.params)

    def run_backward(self, node: Any, gys: Sequence[Variable]) -> Any:
        return node.backward(*gys)


class _State:
    """What Python's part of a step changes, to be put back when a capture fails."""

    def __init__(self, watch: _Watch) -> None:
        self.watch = watch
        self.grads = {param: param.grad for param in watch.params}
        self.numbers = [(kept, _numbers_of(kept)) for kept in _attributes(watch)]
        self.memory = _memory(watch)
        self.random = random.state()

    def restore(self) -> None:
        for param, grad in self.grads.items():
            param.grad = grad
        for kept, numbers in self.numbers:
            kept.update(numbers)
        for kept in _remembered(self.watch):
            for name in [name for name in kept if (id(kept), name) not in self.memory]:
                del kept[name]
        random.go_to(self.random)


def _attributes(watch: _Watch) -> list[dict[str, Any]]:
    """Where optimizers, their groups and schedules keep what they count, such as Adam's steps."""
    groups = [group.numbers for each in watch.optimizers for group in getattr(each, "groups", ())]
    return [*map(vars, watch.optimizers), *groups]


def _numbers_of(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if isinstance(value, (int, float))}


def _remembered(watch: _Watch) -> list[dict[str, Any]]:
    """What optimizers remember, a dict for each parameter; schedules remember none."""
    return [kept for each in watch.optimizers for kept in getattr(each, "state", {}).values()]


def _memory(watch: _Watch) -> dict[Any, Any]:
    """The arrays that optimizers remember, by the dict that they are in and their name there."""
    return {(id(kept), name): x for kept in _remembered(watch) for name, x in kept.items()}


def _what_launches(watch: _Watch) -> list[Any]:
    """What decides which kernels optimizers launch: their hooks, their groups, and switches such as `nesterov`."""
    parts = [part for each in watch.optimizers for name in ("hooks", "groups") for part in getattr(each, name, ())]
    return parts + [(name, x) for kept in _attributes(watch) for name, x in kept.items() if isinstance(x, bool)]


class _Stale(Variable):
    """Stands for a gradient of the call before: a step that reads it adds up over calls."""

    def __init__(self) -> None:
        pass

    @property
    def data(self) -> Any:  # type: ignore[override]
        raise RuntimeError("gradients are added to those of the call before; call model.cleargrads() within the step")


# ----------------------------------------------------------------------------------------------------------------------
# Recordings
# ----------------------------------------------------------------------------------------------------------------------


class _Recording:
    """A graph, and all that it needs to live."""

    def __init__(self, step: Any, watch: _Watch, args: Any, options: Any, arrays: list[Any]) -> None:
        if watch.taken:
            raise RuntimeError(
                f"{watch.taken} takes what the call before has left; give it to the step as an argument, or start anew "
                "within it, as with reset_state()"
            )
        cupy, memory = cuda.need_gpu("capture"), _memory(watch)
        self.current_stream = cupy.cuda.get_current_stream
        self.stream = self.current_stream()  # of the last launch
        self.slots = _slots()
        self.pool = cupy.cuda.MemoryPool()
        self.params = list(watch.params)
        grads = [param.grad for param in self.params]
        for param in self.params:
            if param.grad is not None:
                param.grad = _Stale()
        with cupy.cuda.using_allocator(self.pool.malloc):
            self.recorder = self.slots.Recorder()
            self.inputs = [x.copy(order="K") for x in arrays]  # plans of convolutions depend on the order
            places = iter(self.inputs)
            fixed = _map_arrays(
                lambda x: Variable(next(places)) if isinstance(x, Variable) else next(places), (args, options)
            )
            self.graph, self.outputs = self._record(cupy, step, *fixed)
        self.watch, self.memory, self.launches = watch, _memory(watch), _what_launches(watch)
        if self.memory.keys() != memory.keys():
            raise RuntimeError("an optimizer began to remember a parameter in it; take more calls to warm up: warmup=")
        for param, grad in zip(self.params, grads, strict=True):
            if isinstance(param.grad, _Stale):  # the step has nothing to do with it
                param.grad = grad
        self.grads = [param.grad for param in self.params]
        self.data = [param.data for param in self.params]  # kept, as the graph reads them

    def _record(self, cupy: Any, step: Any, args: Any, options: Any) -> tuple[Any, Any]:
        stream = cupy.cuda.Stream(non_blocking=True)
        stream.wait_event(cupy.cuda.get_current_stream().record())
        with stream:
            stream.begin_capture()
            self.slots.begin(self.recorder)
            try:
                outputs = step(*args, **options)
            except BaseException:
                self.slots.begin(None)
                with contextlib.suppress(Exception):  # a capture that was broken off says so again
                    stream.end_capture()
                raise
            self.slots.begin(None)
            return stream.end_capture(), outputs

    def is_of_now(self) -> bool:
        """Say whether the graph reads the arrays that parameters have, and does what optimizers would do, now."""
        if any(param.data is not data for param, data in zip(self.params, self.data, strict=True)):
            return False
        if _what_launches(self.watch) != self.launches:
            return False
        now = _memory(self.watch)
        return now.keys() == self.memory.keys() and all(now[key] is x for key, x in self.memory.items())

    def start(self) -> Any:
        """Launch the graph for the call that was captured, whose Python has run."""
        self.recorder.upload()
        return self._launch()

    def replay(self, arrays: list[Any]) -> Any:
        """Launch the graph for another batch."""
        self._queue_up()
        for place, x in zip(self.inputs, arrays, strict=True):
            place[...] = x
        self.recorder.before_replay()
        for param, grad in zip(self.params, self.grads, strict=True):
            param.grad = grad
        return self._launch()

    def _queue_up(self) -> None:
        """Have this stream wait for that of the last launch, which may still read the fixed arrays."""
        stream = self.current_stream()
        if stream != self.stream:
            stream.wait_event(self.stream.record())
            self.stream = stream

    def _launch(self) -> Any:
        self.graph.launch()
        return _map_arrays(_copied_out, self.outputs)


# ----------------------------------------------------------------------------------------------------------------------
# What went wrong, and where
# ----------------------------------------------------------------------------------------------------------------------

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def _first_line(error: Exception) -> str:
    return f"{error}".split("\n")[0] or type(error).__name__


def _users_line(error: Exception) -> str:
    """The innermost line of the user's that the error came through."""
    theirs = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_PACKAGE) and os.sep + "cupy" not in frame.filename and frame.line
    ]
    if not theirs:
        return ""
    return f"\n  {theirs[-1].filename}, line {theirs[-1].lineno}: {theirs[-1].line}"
