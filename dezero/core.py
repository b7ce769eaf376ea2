"""The engine: Variables, Functions, and the walk backward through the graph they leave behind.

Read from the top: 1. modes; 2. Variable, a box around one array; 3. Function, an operation that remembers what went in
and what came out; 4. the backward pass; 5. arithmetic, shapes and reductions, the operations that Variable's own
operators and methods need. Every `backward` is written with these operations, so a derivative is a Variable with a
graph of its own, and can be derived again.
"""

from __future__ import annotations

import builtins
import contextlib
import contextvars
import copy as copying
import functools
import heapq
import itertools
import math
import re
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy import ndarray
from numpy import number as numpy_number

from dezero import cuda, kernels

# ----------------------------------------------------------------------------------------------------------------------
# 1. Modes
# ----------------------------------------------------------------------------------------------------------------------


class _Modes:
    """The class holds the process's defaults; an instance what a thread, or a task, has set on top of them."""

    enable_backprop = True
    train = True
    recomputing = False
    backward_pass: Any = None  # what stands for the backward pass under way
    observer: Any = None  # looks at every operation in both directions: detect_anomaly
    autocast: Any = None  # gives every operation its inputs in the dtype it is meant to have: mixed precision


# Read by every operation, and in a third of the time that a threading.local takes. An instance is never changed.
_modes = contextvars.ContextVar("modes", default=_Modes())  # noqa: B039


class _ConfigType(type):
    def __getattr__(cls, name: str) -> Any:
        return getattr(_modes.get(), name)

    def __setattr__(cls, name: str, value: Any) -> None:
        setattr(_Modes, _check_mode("Config", name), value)


class Config(metaclass=_ConfigType):
    """The modes: `Config.enable_backprop`, to record graphs, and `Config.train`, which dropout and batch norm look at.

    Reading gives the mode in force in this thread. Assigning sets the whole process's default; `using_config` changes
    this thread alone, or this task of asyncio's, for the length of a `with` block. `Config.recomputing`, to be read
    only, is True while `checkpoint` repeats a forward pass: what counts calls or keeps running statistics leaves them
    alone then.
    """


@contextlib.contextmanager
def using_config(name: str, value: Any) -> Iterator[None]:
    """Set the mode `name` of `Config` to `value` in this thread, inside a `with` block.

    >>> with using_config("train", False):
    ...     Config.train
    False
    """
    with mode(_check_mode("using_config", name), value):
        yield


def _check_mode(operation: str, name: str) -> str:
    if name not in ("enable_backprop", "train"):
        raise ValueError(f"{operation}: there is no mode {name!r}; the modes are 'enable_backprop' and 'train'")
    return name


@contextlib.contextmanager
def mode(name: str, value: Any) -> Iterator[None]:
    """Set one of `_Modes` in this thread, inside a `with` block: those of Config, and those that are not the user's."""
    before = vars(_modes.get())
    _set_modes({**before, name: value})
    try:
        yield
    finally:
        now = {**vars(_modes.get())}
        now.pop(name, None)
        _set_modes({**now, name: before[name]} if name in before else now)


def _set_modes(own: dict[str, Any]) -> None:
    modes = _Modes()
    vars(modes).update(own)
    _modes.set(modes)


def no_grad() -> contextlib.AbstractContextManager[None]:
    """Record no graph inside the `with` block: less memory, and nothing to call `backward` on.

    >>> with no_grad():
    ...     y = Variable(np.array(2.0)) * 3
    >>> y.creator is None
    True
    """
    return using_config("enable_backprop", False)


def test_mode() -> contextlib.AbstractContextManager[None]:
    """Inside the `with` block dropout keeps everything and batch norm uses its running statistics."""
    return using_config("train", False)


test_mode.__test__ = False  # type: ignore[attr-defined]  # pytest collects names that begin with test_


# ----------------------------------------------------------------------------------------------------------------------
# 2. Variable
# ----------------------------------------------------------------------------------------------------------------------


class Variable:
    """A box around one array that knows which Function made it, and receives a gradient.

    Args:
        data: a NumPy or CuPy array, or None when it is not known yet.
        name: shown in pictures of the graph.

    `grad` is None until a backward pass reaches the Variable, then a Variable of the same shape; passes add up until
    `cleargrad()`. `creator` is the Function it came out of, None for what the user made. A Variable whose
    `requires_grad` is set to False receives no gradient, and no work is done for one.

    Raises TypeError when `data` is not an array.

    >>> x = Variable(np.array([1.0, 2.0, 3.0]))
    >>> y = (x * x).sum()
    >>> y.backward()
    >>> x.grad
    variable([2. 4. 6.])
    """

    __array_priority__ = 200
    # For results, which the engine makes without __init__, and whose name and gradient few ask for. What is read often
    # is set on each all the same: an object's own attribute is found in a third of the time.
    data: Any
    name: str | None = None
    grad: Any = None
    creator: Function | None = None
    generation = 0
    requires_grad = True
    _made_in: Any = None  # the backward pass in which an operation made the array anew
    _hooks: dict[int, Callable[[Variable], Any]] | None = None

    def __init__(self, data: Any, name: str | None = None) -> None:
        if data is not None and not cuda.is_array(data):
            kind = type(data).__name__
            hint = "it is one already" if isinstance(data, Variable) else f"write Variable(np.array({data!r:.60}))"
            raise TypeError(f"Variable: data must be an array, got {kind}; {hint}")
        self.data = data
        self.name = name
        self.grad = None
        self.creator = None
        self.generation = 0
        self.requires_grad = True
        self._hooks = None

    # What it holds ----------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    def __len__(self) -> int:
        return len(self.data)

    def __bool__(self) -> bool:
        return bool(self.data) if self.ndim == 0 else len(self.data) > 0

    def __float__(self) -> float:
        return float(self._only_element("float"))

    def __int__(self) -> int:
        return int(self._only_element("int"))

    def _only_element(self, asked_for: str) -> Any:
        if self.size != 1:
            raise TypeError(f"{asked_for}(): expected a Variable of one element, got shape {self.shape}")
        return self.data.item()

    def __repr__(self) -> str:
        if self.data is None:
            return "variable(None)"
        return "variable(" + str(self.data).replace("\n", "\n" + " " * len("variable(")) + ")"

    def __format__(self, spec: str) -> str:
        return format(self._only_element("format"), spec) if spec else str(self)

    def __getstate__(self) -> dict[str, Any]:
        # A copy, or a pickle, holds values: the graph stays behind.
        return {**vars(self), "creator": None, "generation": 0, "_made_in": None, "_hooks": None}

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if cuda.get_array_module(self.data) is not np:
            raise TypeError("np.asarray: this Variable is on a GPU; dezero.cuda.as_numpy(v) copies it")
        return np.asarray(self.data, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        # NumPy asks here for `array * v` and for `np.exp(v)`: operators record the graph, the rest must say so.
        operator = _OPERATORS.get(ufunc)
        in_place = list(kwargs) == ["out"] and kwargs["out"][0] is inputs[0]  # `array += v` makes a Variable, too
        if method != "__call__":
            _refuse(f"np.{ufunc.__name__}.{method}")
        if operator is None or (kwargs and not in_place):
            _refuse(f"np.{ufunc.__name__}")
        return operator(*inputs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        # And here for np.concatenate and the like.
        if func not in _NOT_DIFFERENTIABLE:
            _refuse(f"{func.__module__.replace('numpy', 'np')}.{func.__name__}")
        return func(*map(cuda.plain, args), **{name: cuda.plain(value) for name, value in kwargs.items()})

    def to_cpu(self) -> None:
        """Move the array to the CPU, and the gradient with it."""
        self._move(cuda.as_numpy)

    def to_gpu(self) -> None:
        """Move the array to the GPU, and the gradient with it; RuntimeError says what is missing where there is none.

        Move a leaf before it is used: what was computed from it stays where it is.
        """
        self._move(lambda x: cuda.to_gpu("to_gpu", x))

    def _move(self, there: Callable[[Any], Any]) -> None:
        if self.data is not None:
            self.data = there(self.data)
        if isinstance(self.grad, Variable):
            self.grad._move(there)

    # Gradients --------------------------------------------------------------------------------------------------------

    def set_creator(self, func: Function) -> None:
        """Note that `func` made this Variable."""
        self.creator = func
        self.generation = func.generation + 1

    def cleargrad(self) -> None:
        """Forget the gradient, so that the next backward pass starts from nothing."""
        self.grad = None

    def backward(self, retain_grad: bool = False, create_graph: bool = False) -> None:
        """Compute the gradient of this Variable with respect to everything it was computed from.

        Each leaf x (a Variable no Function made) gets `x.grad += sum(self.grad * d self / d x)`; `self.grad` starts as
        ones when it is None.

        Args:
            retain_grad: keep the gradients of intermediate results, and of this Variable, too.
            create_graph: record the graph of the gradients themselves, to derive them again.

        Raises ValueError when no graph leads here.

        >>> x = Variable(np.array(3.0))
        >>> y = x**3
        >>> y.backward(create_graph=True)  # x.grad = 3 x^2
        >>> gx = x.grad
        >>> x.cleargrad()
        >>> gx.backward()  # x.grad = 6 x
        >>> x.grad
        variable(18.0)
        """
        if self.creator is None:
            raise ValueError(
                "backward: no graph leads to this Variable: it is a leaf, or was computed under no_grad(), or from "
                "plain arrays alone; compute it from a Variable, outside no_grad()"
            )
        if self.dtype.kind == "c":
            raise TypeError("backward: gradients of complex numbers are not supported; use real and imaginary parts")
        start = _ones_like(self) if self.grad is None else as_variable(self.grad)
        if start.shape != self.shape:
            raise ValueError(f"backward: grad has shape {start.shape} but the Variable has shape {self.shape}")

        def keep(y: Variable, gy: Variable | None) -> None:
            y.grad = gy if retain_grad else None

        with mode("enable_backprop", create_graph), mode("backward_pass", object()):
            for leaf, gradient in backpropagate({self: start}, keep).items():
                if leaf._hooks:
                    gradient = run_hooks(leaf, gradient)
                leaf.grad = gradient if leaf.grad is None else _add_to(leaf, gradient)

    def register_hook(self, hook: Callable[[Variable], Any]) -> HookHandle:
        """Have `hook(gradient)` called in every backward pass, when this Variable's gradient is complete.

        What the hook returns, a Variable or an array of the same shape, takes the gradient's place, for this Variable
        and for all behind it; None leaves it as it is. Hooks run in the order they were registered. Returns a handle
        whose `remove()` takes the hook away.

        >>> x = Variable(np.array([1.0, -2.0]))
        >>> handle = x.register_hook(lambda gx: gx * 10)
        >>> (x * x).backward()
        >>> x.grad
        variable([ 20. -40.])
        """
        if not callable(hook):
            raise TypeError(f"register_hook: expected a function of the gradient, got {type(hook).__name__}")
        if self._hooks is None:
            self._hooks = {}
        key = next_number()
        self._hooks[key] = hook
        return HookHandle(self._hooks, key)

    def unchain(self) -> None:
        """Cut the graph right behind this Variable."""
        self.creator = None

    def unchain_backward(self) -> None:
        """Cut the whole graph behind this Variable, so that its memory can go (truncated backpropagation)."""
        functions = [self.creator]
        while functions:
            func = functions.pop()
            for x in func.inputs if func is not None else ():
                if x.creator is not None:
                    functions.append(x.creator)
                    x.unchain()

    # Operations -------------------------------------------------------------------------------------------------------

    @property
    def T(self) -> Variable:
        return transpose(self)

    def reshape(self, *shape: Any) -> Variable:
        return reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Variable:
        if len(axes) == 1 and not is_int(axes[0]):
            return transpose(self, axes[0])
        return transpose(self, axes or None)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Variable:
        return Sum(axis, keepdims)(self)

    def max(self, axis: Any = None, keepdims: bool = False) -> Variable:
        return Max(axis, keepdims)(self)

    def min(self, axis: Any = None, keepdims: bool = False) -> Variable:
        return Min(axis, keepdims)(self)

    def matmul(self, W: Any) -> Variable:
        return matmul(self, W)

    dot = matmul

    def __getitem__(self, slices: Any) -> Variable:
        return get_item(self, slices)

    def __iter__(self) -> Iterator[Variable]:
        return (self[i] for i in range(len(self)))

    def __neg__(self) -> Variable:
        return Neg()(self)

    def __pos__(self) -> Variable:
        return self

    def __abs__(self) -> Variable:
        return abs(self)

    def __add__(self, other: Any) -> Variable:
        return _arithmetic(Add, self, other)

    def __sub__(self, other: Any) -> Variable:
        return _arithmetic(Sub, self, other)

    def __mul__(self, other: Any) -> Variable:
        return _arithmetic(Mul, self, other)

    def __truediv__(self, other: Any) -> Variable:
        return _arithmetic(Div, self, other)

    def __floordiv__(self, other: Any) -> Variable:
        return floor_divide(self, other)

    def __pow__(self, exponent: Any) -> Variable:
        return pow(self, exponent)

    def __matmul__(self, other: Any) -> Variable:
        return matmul(self, other)

    def __radd__(self, other: Any) -> Variable:
        return _arithmetic(Add, other, self)

    def __rsub__(self, other: Any) -> Variable:
        return _arithmetic(Sub, other, self)

    def __rmul__(self, other: Any) -> Variable:
        return _arithmetic(Mul, other, self)

    def __rtruediv__(self, other: Any) -> Variable:
        return _arithmetic(Div, other, self)

    def __rfloordiv__(self, other: Any) -> Variable:
        return floor_divide(other, self)

    def __rpow__(self, base: Any) -> Variable:
        return pow(base, self)

    def __rmatmul__(self, other: Any) -> Variable:
        return matmul(other, self)

    # Comparisons give plain boolean arrays. `==` stays identity, so that Variables can live in sets and lists.

    def __lt__(self, other: Any) -> Any:
        return self.data < cuda.plain(other)

    def __le__(self, other: Any) -> Any:
        return self.data <= cuda.plain(other)

    def __gt__(self, other: Any) -> Any:
        return self.data > cuda.plain(other)

    def __ge__(self, other: Any) -> Any:
        return self.data >= cuda.plain(other)


class HookHandle:
    """What `register_hook` returns: `remove()` takes the hook away."""

    def __init__(self, hooks: dict[int, Any], key: int) -> None:
        self._hooks, self._key = hooks, key

    def remove(self) -> None:
        """Take the hook away; again does no harm."""
        self._hooks.pop(self._key, None)


class Parameter(Variable):
    """A Variable that a Layer registers and an Optimizer updates.

    Running statistics are Parameters too, with `is_buffer` set: they are saved and moved, but not learned. A Parameter
    that is made at a layer's first call says until then what is known of it: `expected_shape`, with None for a size
    that x will tell, and `expected_dtype`.
    """

    is_buffer = False
    expected_shape: tuple[int | None, ...] | None = None
    expected_dtype: Any = None


def _refuse(call: str) -> NoReturn:
    """Raise the TypeError for a function of NumPy's that would leave the graph without a word."""
    name = call.rsplit(".", 1)[1]
    functions = sys.modules.get("dezero.functions")  # for the hint alone: name F.exp only where there is one
    hint = f"use F.{name} of dezero.functions, or " if hasattr(functions, name) else "use "
    raise TypeError(f"{call}: would lose the graph of a Variable; {hint}{call}(v.data) for the plain array")


def as_array(x: Any, array_module: Any = np) -> Any:
    """Return `x` as an array: a number becomes a 0-dimensional one, an array stays as it is.

    >>> as_array(2.0)
    array(2.)
    """
    return x if isinstance(x, np.ndarray) or not _is_number(x) else array_module.array(x)


def as_variable(obj: Any) -> Variable:
    """Return `obj` itself when it is a Variable, else a Variable around the array or number.

    >>> as_variable(2.0)
    variable(2.0)
    """
    return obj if isinstance(obj, Variable) else Variable(as_array(obj))


def setup_variable() -> None:
    """Do nothing: Variable's operators are there from the start. Old programs call it."""


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float)) or (np.isscalar(x) and not isinstance(x, (str, bytes)))


def is_int(x: Any) -> bool:
    """Say whether `x` is an integer, Python's or NumPy's; True and False are not."""
    return type(x) is int or (isinstance(x, (int, np.integer)) and not isinstance(x, bool))


def is_floating(dtype: Any) -> bool:
    """Say whether a dtype is floating: bfloat16, which comes from another package, is of NumPy's kind "V".

    >>> is_floating(np.dtype(np.float16)), is_floating(np.dtype(int))
    (True, False)
    """
    return dtype.kind == "f" or (dtype.kind == "V" and dtype.name == "bfloat16")


def _ones_like(x: Variable) -> Variable:
    dtype = x.dtype if is_floating(x.dtype) else np.float64  # an integer result has floating gradients
    return Variable(cuda.get_array_module(x.data).ones(x.shape, dtype))


def _zeros_like(x: Variable) -> Variable:
    return Variable(cuda.get_array_module(x.data).zeros(x.shape, x.dtype))


# ----------------------------------------------------------------------------------------------------------------------
# 3. Function
# ----------------------------------------------------------------------------------------------------------------------


class Function:
    """An operation. A subclass writes two methods, side by side:

    - `forward(*arrays)` returns an array, or a tuple of arrays;
    - `backward(*gys)` gets the gradients of the outputs and returns those of the inputs, all Variables, computed with
      dezero's own operations so that they can be derived again. None says that an input has no gradient; the engine
      sums a broadcast gradient back to its input's shape.

    Calling it with Variables, arrays or numbers runs `forward` and, when an input needs a gradient, records the node.
    In `backward`, `self.inputs` is the list of input Variables and `self.outputs` the list of weak references to the
    outputs.

    >>> class Square(Function):
    ...     def forward(self, x):
    ...         return x * x
    ...
    ...     def backward(self, gy):
    ...         (x,) = self.inputs
    ...         return 2 * x * gy
    >>> x = Variable(np.array(3.0))
    >>> y = Square()(x)
    >>> y.backward()
    >>> y, x.grad
    (variable(9.0), variable(6.0))
    """

    inputs: Any = None
    outputs: Any = None
    generation = 0
    operation = "function"  # what errors call it
    # What `autocast` hands it: "half" casts its inputs down, for products; "full" casts halves up to float32; "any"
    # leaves them, for what is as exact in one as in the other.
    precision = "full"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "operation" not in vars(cls):  # SoftmaxCrossEntropy: softmax_cross_entropy
            cls.operation = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    def forward(self, *xs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward method")

    def backward(self, *gys: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no backward method")

    def __call__(self, *inputs: Any) -> Any:
        modes = _modes.get()
        # A Function that is called again records a node of its own; the first call keeps its state and `creator`.
        node = self if self.inputs is None else copying.copy(self)
        variables, arrays, dtype = [], [], None
        ready = True  # NumPy's arrays of one dtype pass the gate as they are
        recorded = False
        for x in inputs:
            if not isinstance(x, Variable):
                x = _constant(node.operation, x, inputs, dtype)
            elif x.requires_grad:
                recorded = modes.enable_backprop
            array = x.data
            variables.append(x)
            arrays.append(array)
            if type(array) is not ndarray:
                ready = False
            elif (kind := array.dtype) is not dtype:
                ready = ready and dtype is None
                dtype = kind
        if modes.autocast is not None and modes.backward_pass is None:
            variables, ready = modes.autocast.cast(node, variables), False
        if not ready:
            arrays = _gate(node.operation, variables)
        try:
            ys = node.forward(*arrays)
        except (AttributeError, TypeError, ValueError) as error:
            node._explain(arrays, error)
            raise
        except MemoryError as error:
            cuda.explain_out_of_memory(node.operation, error)
            raise
        if isinstance(ys, tuple):
            outputs = [_output(node, y, arrays, modes.backward_pass) for y in ys]
        else:
            outputs = [_output(node, ys, arrays, modes.backward_pass)]
        if recorded:
            node._record(variables, outputs)
        elif modes.enable_backprop:
            for y in outputs:
                y.requires_grad = False  # what was made of constants is one
        if modes.observer is not None:
            modes.observer.after_forward(node, variables, outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _explain(self, arrays: list[Any], error: Exception) -> None:
        """Raise an error that says more than `error`, which forward failed with, where there is more to say."""
        for i, x in enumerate(arrays):
            if x is None and "None" in str(error) and not isinstance(error, ValueError):
                message = f"{self.operation}: expected Variables, arrays or numbers, got None as argument {i}"
                raise TypeError(message) from error

    def _record(self, inputs: list[Variable], outputs: list[Variable]) -> None:
        # Loops, here and in __call__: on lists this short a comprehension takes twice as long (before Python 3.12).
        self.inputs = inputs
        self._number = next(_numbers)  # counts the Functions recorded, and so tells which of two is older
        # The arrays may be gone when gradients come back, so their shapes and dtypes are noted now.
        kinds: list[Any] = []
        generation = 0
        for x in inputs:
            array = x.data
            kinds.append(None if array is None else array.shape)
            kinds.append(None if array is None else array.dtype)
            if x.generation > generation:
                generation = x.generation
        self._input_kinds = kinds
        self.generation = generation
        self.outputs = references = []
        for y in outputs:
            references.append(weakref.ref(y))  # weak: the graph points from results to causes only
            y.creator = self
            y.generation = generation + 1
        if len(outputs) > 1:
            self._output_kinds = [(y.data.shape, y.data.dtype) for y in outputs]


_numbers = itertools.count(1)


def next_number() -> int:
    """Return a number above those of the Functions recorded before, and below those of all to come."""
    return next(_numbers)


def as_operand(operation: str, x: Any, others: Sequence[Any] = ()) -> Variable:
    """Return `x` as an operation takes it: a Variable as it is; an array or a number as a constant.

    A constant is a Variable that never receives a gradient. A number takes its dtype from the `others` beside it.
    """
    if x is None:
        raise TypeError(f"{operation}: expected Variables, arrays or numbers, got None")
    return x if isinstance(x, Variable) else _constant(operation, x, others)


def _constant(operation: str, x: Any, others: Sequence[Any], dtype: Any = None) -> Variable:
    """`as_operand` for what is no Variable; `dtype` is that of the array which came before it, where there was one."""
    if type(x) is float and dtype is not None and dtype.kind == "f" and len(others) == 2:
        x = np.array(x, dtype)  # what `_number_like` would find out, in a third of the time
    elif _is_number(x):
        x = _number_like(operation, x, others)
    elif x is not None and not cuda.is_array(x):
        raise TypeError(f"{operation}: expected Variables, arrays or numbers, got {type(x).__name__} {x!r:.60}")
    constant = _new(Variable)
    constant.data = x
    constant.requires_grad = False
    return constant


_new = object.__new__  # a Variable without __init__, in half the time: for what is known to be an array


def _number_like(operation: str, number: Any, others: Sequence[Any]) -> Any:
    """Make an array of a number, of the dtype the other arrays ask for: float32 * 2.0 is float32, int * 0.5 float64."""
    arrays = []
    for x in others:
        if isinstance(x, Variable):
            x = x.data
        if x is not number and cuda.is_array(x):
            arrays.append(x)
    if not arrays:
        return np.array(number)
    number = as_python_number(number)
    dtype = arrays[0].dtype
    if len(arrays) > 1 or not is_floating(dtype) or not isinstance(number, (int, float)):
        dtype = np.result_type(*(x.dtype for x in arrays), number)
    try:
        return cuda.get_array_module(arrays[0]).array(number, dtype)
    except OverflowError:
        raise ValueError(f"{operation}: the number {number} is out of bounds for {dtype}") from None


def as_floating(operation: str, x: Any) -> Variable:
    """`as_operand`, with integers made float64: the arithmetic of small integers would overflow."""
    x = as_operand(operation, x)
    return x if x.dtype.kind in "fc" or is_floating(x.dtype) else astype(x, np.float64)


def check_number(operation: str, what: str, x: Any, low: float = -math.inf, high: float = math.inf) -> Any:
    """Return a parameter that receives no gradient as a Python number; raise unless low <= x <= high."""
    if cuda.is_array(x) and x.ndim == 0:
        x = x[()]
    if not isinstance(x, (int, float, np.integer, np.floating)) or isinstance(x, bool):
        raise TypeError(f"{operation}: {what} must be a number, got {type(x).__name__}")
    if not low <= x <= high:
        bounds = f"lie in {low:g}..{high:g}" if high < math.inf else f"be at least {low:g}"
        raise ValueError(f"{operation}: {what} must {bounds}, got {x}")
    return as_python_number(x)


def as_python_number(x: Any) -> Any:
    """Return a NumPy scalar as Python's int or float, which promotes no array; all else as it is."""
    return x.item() if isinstance(x, np.generic) else x


def _gate(operation: str, variables: list[Variable]) -> list[Any]:
    """Return the arrays of an operation, looked at here so that no operation has to: one device, one floating dtype."""
    for x in variables:
        if x.data is not None and not cuda.is_array(x.data):
            _mend(operation, x)
    arrays = [x.data for x in variables]
    cuda.check_same_device(operation, arrays)
    dtypes = {x.dtype for x in arrays if x is not None}
    floats = set(filter(is_floating, dtypes)) if len(dtypes) > 1 else dtypes
    if len(floats) > 1:
        # float32 in place of a half: float16 and bfloat16 have no common dtype in NumPy's eyes
        dtype = np.result_type(*(np.float32 if half.itemsize == 2 else half for half in floats))
        arrays = [x.astype(dtype) if x is not None and is_floating(x.dtype) else x for x in arrays]
    return arrays


def _mend(operation: str, x: Variable) -> None:
    """Make an array of what a program put into `x.data`: arithmetic on a 0-dimensional array gives a number."""
    if not _is_number(x.data):
        raise TypeError(
            f"{operation}: a Variable's data must be an array, got {type(x.data).__name__}; "
            "a step by hand is p.data -= lr * p.grad.data"
        )
    x.data = np.array(x.data)


def _output(func: Any, y: Any, arrays: Sequence[Any], backward_pass: Any) -> Variable:
    if type(y) is not ndarray:
        if isinstance(y, numpy_number):  # what NumPy makes of 0-dimensional arrays
            y = np.asarray(y)
        elif not cuda.is_array(y) and not cuda.is_array(y := as_array(y)):
            name = type(func).__name__
            raise TypeError(f"{name}.forward: must return an array or a tuple of arrays, got {type(y).__name__}")
    variable = _new(Variable)
    variable.data = y
    variable.requires_grad = True
    variable._hooks = None
    if backward_pass is not None:
        for x in arrays:
            if x is y:
                break
        else:
            variable._made_in = backward_pass
    return variable


# ----------------------------------------------------------------------------------------------------------------------
# 4. The backward pass
# ----------------------------------------------------------------------------------------------------------------------


def backpropagate(
    gradients: dict[Variable, Variable],
    keep: Callable[[Variable, Variable | None], None],
    route: Route | None = None,
) -> dict[Variable, Variable]:
    """Visit every Function behind the roots once, newest generation first, and hand gradients from outputs to inputs.

    When a node comes out of the queue every node that used its outputs is of a later generation, so has been visited,
    and their gradients are complete: `keep` is told, and they leave `gradients`, which starts with those of the roots.
    What is left at the end is returned: the gradients of the leaves, each in memory of its own.
    """
    modes = _modes.get()
    borrowed = set(gradients)  # whose gradient so far is an array that somebody else may hold too
    totals: set[Variable] = set()  # whose gradient is a sum made here, which nobody else holds
    in_place = not modes.enable_backprop and modes.observer is None
    queue = _Queue(route)
    for root in gradients:
        queue.push(root)
    for node in queue:
        gys = _take_output_gradients(node, gradients, keep)
        pairs = _input_gradients(node, gys, modes.observer)
        shared, additions = None, []
        for x, gx in pairs:
            if route is not None and x not in route.through:
                continue
            if x not in gradients:
                gradients[x] = gx
                if x.creator is not None:
                    queue.push(x)
                else:
                    if shared is None:
                        shared = _in_several_places(gys, pairs)
                    if gx in shared:
                        borrowed.add(x)
            elif in_place and x in totals and _is_alike(gradients[x].data, gx.data):
                additions.append((gradients[x].data, gx.data))
            else:
                gradients[x] = gradients[x] + gx  # not in place: another node may hold either
                totals.add(x)
        if additions:
            _add_in_place(additions)
    borrowed -= totals
    if route is not None and route.ends:
        return gradients  # they go on, in whatever memory, to the pass that asked
    for leaf, gx in gradients.items():
        if leaf in borrowed or not _has_own_memory(gx, modes.backward_pass):
            gradients[leaf] = Copy()(gx)
    return gradients


def _in_several_places(gys: list[Variable], pairs: list[tuple[Variable, Variable]]) -> set[Variable]:
    """Return which of a node's gradients are its outputs' gradients, too, or go to several inputs."""
    once, several = {*gys}, set[Variable]()
    for _, gx in pairs:
        (several if gx in once else once).add(gx)
    return several


def _is_alike(x0: Any, x1: Any) -> bool:
    return x0.shape == x1.shape and x0.dtype == x1.dtype


def _add_in_place(additions: list[tuple[Any, Any]]) -> None:
    """total += gx for each pair of arrays, without new ones and without an operation; on a GPU in one launch."""
    if len(additions) > 2 and type(additions[0][0]) is not ndarray:
        kernels.for_array(additions[0][0]).add_all(additions)
        return
    for total, gx in additions:
        total += gx


def run_hooks(x: Variable, gradient: Variable) -> Variable:
    """Return what the hooks registered on `x` make of its gradient."""
    for hook in list(x._hooks.values()) if x._hooks else ():
        returned = hook(gradient)
        if returned is None:
            continue
        returned = as_variable(returned)
        if returned.shape != gradient.shape:
            raise ValueError(f"register_hook: a hook returned shape {returned.shape} for a gradient {gradient.shape}")
        # In memory of its own: the hook may hold what it returned.
        gradient = Copy()(returned) if returned.dtype == gradient.dtype else astype(returned, gradient.dtype)
    return gradient


class Route:
    """The part of a graph that lies between some outputs and some inputs: what `grad` has to visit.

    With `stop`, the inputs count as leaves: the walk does not go on behind them.
    """

    def __init__(self, outputs: Sequence[Variable], inputs: Sequence[Variable], stop: bool) -> None:
        self.ends = set(inputs) if stop else set()
        self.through = set(inputs)  # the Variables whose gradients are needed
        self.nodes: set[Any] = set()  # the Functions between them
        for node in reversed(list(nodes_behind(outputs, lambda x: x in self.ends))):
            needed = [x for x in node.inputs if x in self.through or x.creator in self.nodes]
            if needed:
                self.nodes.add(node)
                self.through.update(needed)


def nodes_behind(outputs: Sequence[Variable], is_end: Callable[[Variable], bool]) -> Iterator[Any]:
    """Yield the Functions behind `outputs`, newest generation first, without those behind Variables that are ends."""
    queue = _Queue(None)
    for x in outputs:
        if not is_end(x):
            queue.push(x)
    for node in queue:
        yield node
        for x in node.inputs:
            if not is_end(x):
                queue.push(x)


def _add_to(leaf: Variable, gradient: Variable) -> Variable:
    total = leaf.grad + gradient
    if total.shape != gradient.shape:
        raise ValueError(
            f"backward: grad was given the shape {leaf.grad.shape} but the Variable has shape {gradient.shape}"
        )
    return total


class _Queue:
    """Functions still to visit, each once, newest generation first, and in one generation in the order they came."""

    def __init__(self, route: Route | None) -> None:
        self._waiting: dict[int, list[Any]] = {}
        self._generations: list[int] = []  # a heap of what is in `_waiting`, negative: the newest comes out first
        self._seen: set[Any] = set()
        self._route = route

    def push(self, x: Variable) -> None:
        """Line up the Function that made `x`, if one did and it lies on the way."""
        node = x.creator
        if node is None or node in self._seen or (self._route is not None and node not in self._route.nodes):
            return
        self._seen.add(node)
        generation = node.generation
        if generation in self._waiting:
            self._waiting[generation].append(node)
        else:
            self._waiting[generation] = [node]
            heapq.heappush(self._generations, -generation)

    def __iter__(self) -> Iterator[Any]:
        """Hand out what waits, and what is lined up meanwhile."""
        while self._generations:
            yield from self._waiting.pop(-heapq.heappop(self._generations))


def _take_output_gradients(
    node: Any, gradients: dict[Variable, Variable], keep: Callable[[Variable, Variable | None], None]
) -> list[Variable]:
    """Take the gradients of a node's outputs out of the pass; an output that nobody used receives zeros."""
    gys: list[Any] = []
    for reference in node.outputs:
        y = reference()
        gy = None
        if y is not None:
            gy = gradients.pop(y, None)
            if y._hooks and gy is not None:
                gy = run_hooks(y, gy)
            keep(y, gy)
        gys.append(gy)
    if len(gys) == 1:
        return gys
    xp = next(cuda.get_array_module(gy.data) for gy in gys if gy is not None)
    kinds = node._output_kinds
    return [Variable(xp.zeros(*kind)) if gy is None else gy for gy, kind in zip(gys, kinds, strict=True)]


def _input_gradients(node: Any, gys: list[Variable], observer: Any) -> list[tuple[Variable, Variable]]:
    """Run a node's backward, check what it returned, and pair each input that needs a gradient with its own."""
    gxs = node.backward(*gys) if observer is None else observer.run_backward(node, gys)
    if not isinstance(gxs, (tuple, list)):
        gxs = (gxs,)
    inputs, kinds = node.inputs, node._input_kinds
    if len(gxs) > len(inputs) and any(gx is not None for gx in gxs[len(inputs) :]):
        raise ValueError(
            f"{type(node).__name__}.backward: returned {len(gxs)} gradients for {len(inputs)} inputs; "
            "return one for each input, in their order"
        )
    pairs = []
    for i, gx in enumerate(gxs):
        if gx is not None and (x := inputs[i]).requires_grad:
            pairs.append((x, _fit(node, gx, kinds[2 * i], kinds[2 * i + 1])))
    return pairs


def _fit(node: Any, gx: Any, shape: tuple[int, ...], dtype: Any) -> Variable:
    """Give a gradient its input's shape and dtype: what broadcasting spread out in forward is summed here."""
    if not isinstance(gx, Variable):
        gx = as_array(gx)
        if not cuda.is_array(gx):
            raise TypeError(f"{type(node).__name__}.backward: must return Variables or arrays, got {type(gx).__name__}")
        gx = Variable(gx)
    if gx.data.shape != shape:
        gx = _fit_shape(node, gx, shape)
    if not is_floating(dtype):
        dtype = gx.dtype if is_floating(gx.dtype) else np.dtype(np.float64)
    return gx if gx.data.dtype is dtype or gx.data.dtype == dtype else astype(gx, dtype)


def _fit_shape(node: Any, gx: Variable, shape: tuple[int, ...]) -> Variable:
    if _broadcasts(shape, gx.shape):
        return sum_to(gx, shape)
    if _broadcasts(gx.shape, shape):
        return broadcast_to(gx, shape)
    if gx.size == np.prod(shape, dtype=int):
        return reshape(gx, shape)
    raise ValueError(
        f"{type(node).__name__}.backward: returned a gradient of shape {gx.shape} for an input of shape {shape}"
    )


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Say whether an array of `shape` broadcasts to the shape `to`."""
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(reversed(shape), reversed(to), strict=False))


def _has_own_memory(gradient: Variable, backward_pass: Any) -> bool:
    """Say whether a gradient can be a leaf's as it is: made in this pass, in memory of its own, in C order."""
    data = gradient.data
    return gradient._made_in is backward_pass and data.flags.c_contiguous and kernels.has_own_memory(data)


# ----------------------------------------------------------------------------------------------------------------------
# 5a. Arithmetic
# ----------------------------------------------------------------------------------------------------------------------


def check_broadcast(name: str, x0: Any, x1: Any) -> None:
    """Raise ValueError when the arrays x0 and x1 do not broadcast."""
    if x0.shape != x1.shape:
        _check_shapes_broadcast(name, x0.shape, x1.shape)


@functools.lru_cache(maxsize=1024)  # np.broadcast_shapes takes longer than a small sum; what raises is not kept
def _check_shapes_broadcast(name: str, shape0: tuple[int, ...], shape1: tuple[int, ...]) -> None:
    try:
        np.broadcast_shapes(shape0, shape1)
    except ValueError:
        raise ValueError(
            f"{name}: shapes {shape0} and {shape1} cannot broadcast; "
            "aligned at the right, each pair of sizes must be equal or contain a 1"
        ) from None


class _Operator(Function):
    """An operation of NumPy's on two arrays that broadcast: NumPy notices when they do not, and here are the words."""

    def _explain(self, arrays: list[Any], error: Exception) -> None:
        super()._explain(arrays, error)
        if isinstance(error, ValueError):
            check_broadcast(self.operation, *arrays)


def _arithmetic(operation: Any, x0: Any, x1: Any) -> Variable:
    """`operation()(x0, x1)`, but straight from arrays to array where nothing is recorded and the gate has no work.

    Most of what a backward pass does is such arithmetic; this takes 60 % of the time.
    """
    modes = _modes.get()
    if not modes.enable_backprop and modes.observer is None and isinstance(x0, Variable) and isinstance(x1, Variable):
        a0, a1 = x0.data, x1.data
        if type(a0) is ndarray and type(a1) is ndarray and a0.shape == a1.shape:
            return _output(operation, operation.forward(a0, a1), (), modes.backward_pass)
    return operation()(x0, x1)


class Add(_Operator):
    precision = "any"

    @staticmethod
    def forward(x0: Any, x1: Any) -> Any:
        return x0 + x1 if type(x0) is ndarray else kernels.for_array(x0).add(x0, x1)  # which keeps channels last

    def backward(self, gy: Variable) -> Any:
        return gy, gy


def add(x0: Any, x1: Any) -> Variable:
    """y = x0 + x1, broadcasting.

    >>> add(np.array([1.0, 2.0]), 10.0)
    variable([11. 12.])
    """
    return Add()(x0, x1)


class Mul(_Operator):
    precision = "any"

    @staticmethod
    def forward(x0: Any, x1: Any) -> Any:
        return x0 * x1

    def backward(self, gy: Variable) -> Any:
        x0, x1 = self.inputs
        return gy * x1 if x0.requires_grad else None, gy * x0 if x1.requires_grad else None


def mul(x0: Any, x1: Any) -> Variable:
    """y = x0 * x1, broadcasting.

    >>> mul(np.array([1.0, 2.0]), 10.0)
    variable([10. 20.])
    """
    return Mul()(x0, x1)


class Neg(Function):
    precision = "any"

    def forward(self, x: Any) -> Any:
        return -x

    def backward(self, gy: Variable) -> Any:
        return -gy


def neg(x: Any) -> Variable:
    """y = -x.

    >>> neg(np.array([1.0, 2.0]))
    variable([-1. -2.])
    """
    return Neg()(x)


class Sub(_Operator):
    precision = "any"

    @staticmethod
    def forward(x0: Any, x1: Any) -> Any:
        return x0 - x1

    def backward(self, gy: Variable) -> Any:
        return gy, -gy if self.inputs[1].requires_grad else None


def sub(x0: Any, x1: Any) -> Variable:
    """y = x0 - x1, broadcasting.

    >>> sub(np.array([1.0, 2.0]), 10.0)
    variable([-9. -8.])
    """
    return Sub()(x0, x1)


def rsub(x0: Any, x1: Any) -> Variable:
    """y = x1 - x0.

    >>> rsub(np.array([1.0, 2.0]), 10.0)
    variable([9. 8.])
    """
    return Sub()(x1, x0)


class Div(_Operator):
    @staticmethod
    def forward(x0: Any, x1: Any) -> Any:
        return x0 / x1

    def backward(self, gy: Variable) -> Any:
        x0, x1 = self.inputs
        gx0 = gy / x1
        return gx0, -gx0 * (x0 / x1) if x1.requires_grad else None


def div(x0: Any, x1: Any) -> Variable:
    """y = x0 / x1, broadcasting.

    >>> div(np.array([1.0, 2.0]), 10.0)
    variable([0.1 0.2])
    """
    return Div()(x0, x1)


def rdiv(x0: Any, x1: Any) -> Variable:
    """y = x1 / x0.

    >>> rdiv(np.array([1.0, 2.0]), 10.0)
    variable([10.  5.])
    """
    return Div()(x1, x0)


class FloorDivide(_Operator):
    """y = x0 // x1: steps, flat almost everywhere."""

    def forward(self, x0: Any, x1: Any) -> Any:
        return x0 // x1

    def backward(self, gy: Variable) -> Any:
        return _zeros_like(gy), _zeros_like(gy)


def floor_divide(x0: Any, x1: Any) -> Variable:
    """y = x0 // x1, the largest whole number not above x0 / x1, broadcasting; the gradients are zeros.

    >>> floor_divide(np.array([7.0, -7.0]), 2)
    variable([ 3. -4.])
    """
    return FloorDivide()(x0, x1)


class Abs(Function):
    precision = "any"

    def forward(self, x: Any) -> Any:
        return builtins.abs(x)

    def backward(self, gy: Variable) -> Any:
        x = self.inputs[0].data
        return gy * cuda.get_array_module(x).sign(x)


def abs(x: Any) -> Variable:
    """y = |x|, elementwise; the gradient at 0 is 0.

    >>> abs(np.array([-2.0, 3.0]))
    variable([2. 3.])
    """
    return Abs()(x)


class Pow(Function):
    """y = x ** c for a number c."""

    def __init__(self, c: Any) -> None:
        self.c = as_python_number(c)

    def forward(self, x: Any) -> Any:
        return x**self.c

    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        if self.c == 0:
            return gy * 0.0  # 0 * x ** -1 is not a number at x = 0
        return gy * self.c * x ** (self.c - 1)


class Power(_Operator):
    """y = x0 ** x1 for two arrays."""

    operation = "pow"

    def forward(self, x0: Any, x1: Any) -> Any:
        return x0**x1

    def backward(self, gy: Variable) -> Any:
        x0, x1 = self.inputs
        gx0 = gx1 = None
        if x0.requires_grad:
            exponent = x1 - 1 + ((x0.data == 0) & (x1.data == 0))  # 0 * 0 ** -1 is not a number
            gx0 = gy * x1 * x0**exponent
        if x1.requires_grad:
            gx1 = gy * x0**x1 * log(x0 + (x0.data == 0))  # 0 ** x1 is 0 all along x1 > 0
        return gx0, gx1


def pow(x: Any, c: Any) -> Variable:
    """y = x ** c, for numbers, arrays or Variables on either side.

    >>> pow(np.array([1.0, 2.0]), 3)
    variable([1. 8.])
    >>> pow(2.0, np.array([1.0, 2.0]))
    variable([2. 4.])
    """
    if _is_number(c):
        return Pow(c)(x)
    return Power()(as_operand("pow", x, [c]), as_operand("pow", c, [x]))


class Log(Function):
    def forward(self, x: Any) -> Any:
        return cuda.get_array_module(x).log(x)

    def backward(self, gy: Variable) -> Any:
        (x,) = self.inputs
        return gy / x


def log(x: Any) -> Variable:
    """y = ln x, elementwise.

    >>> log(np.array([1.0, np.e]))
    variable([0. 1.])
    """
    return Log()(x)


class AsType(Function):
    operation = "astype"
    precision = "any"

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)

    def forward(self, x: Any) -> Any:
        return kernels.for_array(x).astype(x, self.dtype)

    def backward(self, gy: Variable) -> Any:
        return gy  # the engine gives it the input's dtype


def astype(x: Any, dtype: Any) -> Variable:
    """y = x with another dtype; the gradient comes back in x's own.

    >>> astype(np.array([1, 2]), np.float32).dtype
    dtype('float32')
    """
    return AsType(dtype)(x)


class Copy(Function):
    """y = x in memory of its own, in C order."""

    precision = "any"

    def forward(self, x: Any) -> Any:
        return kernels.for_array(x).copy(x)

    def backward(self, gy: Variable) -> Any:
        return gy


# ----------------------------------------------------------------------------------------------------------------------
# 5b. Shapes
# ----------------------------------------------------------------------------------------------------------------------


def as_ints(operation: str, what: str, x: Any) -> tuple[int, ...]:
    """Return a shape, or axes, as a tuple of ints. Raises TypeError when it is anything else."""
    if type(x) is tuple and {*map(type, x)} == {int}:
        return x  # nearly always: looked at without a call in Python for each
    if cuda.is_array(x):
        x = cuda.as_numpy(x)
    try:
        ints = (x,) if is_int(x) else tuple(x)
    except TypeError:
        ints = (x,)
    if not all(map(is_int, ints)):
        raise TypeError(f"{operation}: {what} must be an int or a tuple of ints, got {x!r:.60}")
    return ints


class Reshape(Function):
    precision = "any"

    def __init__(self, shape: Any) -> None:
        self.shape = as_ints("reshape", "a shape", shape)

    def forward(self, x: Any) -> Any:
        self.x_shape = x.shape
        if x.ndim == 4 and not x.flags.c_contiguous:  # images with channels last: NumPy would copy them, more slowly
            x = kernels.for_array(x).copy(x)
        try:
            return x.reshape(self.shape)
        except ValueError:
            raise ValueError(
                f"reshape: x {x.shape} has {x.size} elements, which do not fill the shape {self.shape}"
            ) from None

    def backward(self, gy: Variable) -> Any:
        return reshape(gy, self.x_shape)


def reshape(x: Any, shape: Any) -> Variable:
    """Give `x` another shape of as many elements; one size may be -1 and follows from the others.

    >>> reshape(np.zeros((2, 6)), (3, -1)).shape
    (3, 4)
    """
    reshaped = Reshape(shape)
    return x if isinstance(x, Variable) and x.shape == reshaped.shape else reshaped(x)


class Transpose(Function):
    precision = "any"

    def __init__(self, axes: Any = None) -> None:
        self.axes = None if axes is None else as_ints("transpose", "axes", axes)

    def forward(self, x: Any) -> Any:
        try:
            return x.transpose(self.axes)
        except ValueError:
            raise ValueError(
                f"transpose: axes {self.axes} must name each of the {x.ndim} axes of x {x.shape} once"
            ) from None

    def backward(self, gy: Variable) -> Any:
        if self.axes is None:
            return transpose(gy)
        return transpose(gy, np.argsort([a % len(self.axes) for a in self.axes]).tolist())


def transpose(x: Any, axes: Any = None) -> Variable:
    """Reorder the axes of `x`: axis i of the result is axis `axes[i]` of x; None reverses them.

    >>> transpose(np.zeros((2, 3, 4)), (1, 2, 0)).shape
    (3, 4, 2)
    """
    return Transpose(axes)(x)


class GetItem(Function):
    precision = "any"

    def __init__(self, slices: Any) -> None:
        self.slices = tuple(cuda.plain(s) for s in slices) if isinstance(slices, tuple) else cuda.plain(slices)

    def forward(self, x: Any) -> Any:
        self.x_shape = x.shape
        if isinstance(x, ndarray):
            for part in self.slices if isinstance(self.slices, tuple) else (self.slices,):
                if cuda.is_array(part):  # NumPy's arrays may index CuPy's, which copies them there, and no other way
                    cuda.check_same_device(f"{self.operation}: x and its index", [x, part])
        return x[self.slices]

    def backward(self, gy: Variable) -> Any:
        return GetItemGrad(self.slices, self.x_shape)(gy)


class GetItemGrad(Function):
    """The gradient of x[slices]: zeros of x's shape to which gy is added; an element taken twice gets both."""

    precision = "any"

    def __init__(self, slices: Any, in_shape: tuple[int, ...]) -> None:
        self.slices = slices
        self.in_shape = in_shape

    def forward(self, gy: Any) -> Any:
        if not _takes_each_once(self.slices):
            return kernels.for_array(gy).add_at(self.in_shape, self.slices, gy)
        gx = cuda.get_array_module(gy).zeros(self.in_shape, gy.dtype)
        gx[self.slices] = gy
        return gx

    def backward(self, ggx: Variable) -> Any:
        return get_item(ggx, self.slices)


def _takes_each_once(slices: Any) -> bool:
    """Say whether an index is made of numbers and slices alone; index arrays can name an element twice."""
    parts = slices if isinstance(slices, tuple) else (slices,)
    return all(part is None or part is Ellipsis or isinstance(part, slice) or is_int(part) for part in parts)


def get_item(x: Any, slices: Any) -> Variable:
    """y = x[slices], with everything NumPy takes as an index; index arrays may be Variables.

    >>> x = Variable(np.array([1.0, 2.0, 3.0]))
    >>> get_item(x, [0, 0, 2]).backward()
    >>> x.grad
    variable([2. 0. 1.])
    """
    return GetItem(slices)(x)


class BroadcastTo(Function):
    precision = "any"

    def __init__(self, shape: Any) -> None:
        self.shape = as_ints("broadcast_to", "a shape", shape)

    def forward(self, x: Any) -> Any:
        if not _broadcasts(x.shape, self.shape):
            raise ValueError(f"broadcast_to: x {x.shape} does not broadcast to {self.shape}")
        self.x_shape = x.shape
        return cuda.get_array_module(x).broadcast_to(x, self.shape)

    def backward(self, gy: Variable) -> Any:
        return sum_to(gy, self.x_shape)


def broadcast_to(x: Any, shape: Any) -> Variable:
    """Repeat `x` along new axes and axes of size 1 until it has `shape`.

    >>> broadcast_to(np.array([1.0, 2.0]), (2, 2))
    variable([[1. 2.]
              [1. 2.]])
    """
    broadcast = BroadcastTo(shape)
    return x if isinstance(x, Variable) and x.shape == broadcast.shape else broadcast(x)


class SumTo(Function):
    def __init__(self, shape: Any) -> None:
        self.shape = as_ints("sum_to", "a shape", shape)

    def forward(self, x: Any) -> Any:
        self.x_shape = x.shape
        return sum_array_to(x, self.shape)

    def backward(self, gy: Variable) -> Any:
        return broadcast_to(gy, self.x_shape)


def sum_to(x: Any, shape: Any) -> Variable:
    """Sum `x` down to `shape`, undoing a broadcast from `shape` to x's.

    >>> sum_to(np.ones((3, 2)), (1, 2))
    variable([[3. 3.]])
    """
    summed = SumTo(shape)
    return x if isinstance(x, Variable) and x.shape == summed.shape else summed(x)


def sum_array_to(x: Any, shape: tuple[int, ...]) -> Any:
    """`sum_to` on a plain array."""
    if not _broadcasts(shape, x.shape):
        raise ValueError(f"sum_to: x {x.shape} cannot be summed to {shape}, which does not broadcast to it")
    lead = x.ndim - len(shape)
    stretched = [i for i, n in enumerate(shape, start=lead) if n == 1 and x.shape[i] != 1]
    y = x.sum(axis=(*range(lead), *stretched), keepdims=not lead)
    return y if shape and y.shape == shape else y.reshape(shape)  # a leaf's gradient would be a copy of a view


# ----------------------------------------------------------------------------------------------------------------------
# 5c. Reductions and products
# ----------------------------------------------------------------------------------------------------------------------


def max_backward_shape(x: Any, axis: Any) -> tuple[int, ...]:
    """The shape of `x` after a reduction over `axis` that keeps the reduced axes, with size 1.

    >>> max_backward_shape(np.zeros((2, 3, 4)), axis=-1)
    (2, 3, 1)
    """
    return _kept_shape(x.shape, axis)


def reshape_sum_backward(gy: Variable, x_shape: tuple[int, ...], axis: Any, keepdims: bool) -> Variable:
    """Give the gradient of a sum over `axis` its reduced axes again, with size 1, ready to broadcast to `x_shape`."""
    return reshape(gy, _kept_shape(x_shape, axis))


def _kept_shape(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    reduced = {a % max(len(shape), 1) for a in axes}
    return tuple(1 if i in reduced else n for i, n in enumerate(shape))


def check_axis(name: str, x: Any, axis: Any) -> Any:
    """Return `axis`, an int, a tuple of ints or None; raise AxisError, a ValueError, when x does not have it."""
    if isinstance(axis, list):
        axis = tuple(axis)
    if axis is not None:  # NumPy's check, with the operation's name in front; a number counts as having an axis 0
        if not is_int(axis) and not (isinstance(axis, tuple) and all(map(is_int, axis))):
            raise TypeError(f"{name}: axis must be an int, a tuple of ints, or None, got {axis!r:.60}")
        normalize_axes(name, axis, max(x.ndim, 1))
    return axis


def normalize_axis(name: str, axis: Any, ndim: int) -> int:
    """Return one axis counted from the front. Raises TypeError when it is no int, AxisError when out of bounds."""
    if not is_int(axis):
        raise TypeError(f"{name}: axis must be an int, got {axis!r:.60}")
    return normalize_axes(name, axis, ndim)[0]


def normalize_axes(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """Return axes counted from the front. Raises AxisError when one is out of bounds, ValueError when one is twice."""
    axes = np.lib.array_utils.normalize_axis_tuple(axis, ndim, argname=name, allow_duplicate=True)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{name}: axis {axis} names an axis twice")
    return axes


class Sum(Function):
    def __init__(self, axis: Any = None, keepdims: bool = False) -> None:
        self.axis = axis
        self.keepdims = keepdims

    def forward(self, x: Any) -> Any:
        self.axis = check_axis(self.operation, x, self.axis)
        self.x_shape = x.shape
        return x.sum(axis=self.axis, keepdims=self.keepdims)

    def backward(self, gy: Variable) -> Any:
        return broadcast_to(reshape_sum_backward(gy, self.x_shape, self.axis, self.keepdims), self.x_shape)


class Max(Function):
    """y = max(x) over `axis`; elements that tie share the gradient equally."""

    precision = "any"

    def __init__(self, axis: Any = None, keepdims: bool = False) -> None:
        self.axis = axis
        self.keepdims = keepdims

    def forward(self, x: Any) -> Any:
        self._check(x)
        return x.max(axis=self.axis, keepdims=self.keepdims)

    def _check(self, x: Any) -> None:
        self.axis = check_axis(self.operation, x, self.axis)
        if x.size == 0 and 0 not in max_backward_shape(x, self.axis):
            raise ValueError(f"{self.operation}: x {x.shape} has no element along axis {self.axis}")

    def backward(self, gy: Variable) -> Any:
        x, y = self.inputs[0].data, self.outputs[0]().data
        shape = max_backward_shape(x, self.axis)
        chosen = x == y.reshape(shape)
        share = chosen / chosen.sum(axis=self.axis, keepdims=True)
        return reshape(gy, shape) * share.astype(gy.dtype)


class Min(Max):
    """y = min(x) over `axis`; elements that tie share the gradient equally."""

    def forward(self, x: Any) -> Any:
        self._check(x)
        return x.min(axis=self.axis, keepdims=self.keepdims)


class MatMul(Function):
    operation = "matmul"
    precision = "half"

    def forward(self, x: Any, W: Any) -> Any:
        check_product(self.operation, x, W)
        self.x_ndim, self.W_ndim = x.ndim, W.ndim
        kernel = kernels.for_array(x)
        return kernel.linear(x, W, None) if x.ndim == W.ndim == 2 else kernel.matmul(x, W)

    def backward(self, gy: Variable) -> Any:
        x, W = self.inputs
        gx = gW = None
        if self.W_ndim == 1:  # a vector at the right is a matrix of one column
            gy = reshape(gy, (*gy.shape, 1))
        if self.x_ndim == 1:  # a vector at the left is a matrix of one row
            gy = reshape(gy, (*gy.shape[:-1], 1, gy.shape[-1]))
        if x.requires_grad:
            gx = matmul(gy, _swap_last_axes(W) if self.W_ndim > 1 else reshape(W, (1, -1)))
        if W.requires_grad:
            gW = matmul(_swap_last_axes(x) if self.x_ndim > 1 else reshape(x, (-1, 1)), gy)
            gW = reshape(gW, gW.shape[:-1]) if self.W_ndim == 1 else gW
        return gx, gW


def matmul(x: Any, W: Any) -> Variable:
    """y = x @ W: matrices (N, D) @ (D, M) -> (N, M), vectors, and batches of matrices (..., N, D) @ (..., D, M).

    >>> matmul(np.ones((2, 3)), np.ones((3, 4))).shape
    (2, 4)
    """
    return MatMul()(x, W)


def _swap_last_axes(x: Variable) -> Variable:
    return transpose(x) if x.ndim == 2 else transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def check_product(name: str, x: Any, W: Any) -> None:
    """Raise ValueError when x @ W cannot be."""
    if x.ndim == 0 or W.ndim == 0:
        raise ValueError(f"{name}: expected vectors, matrices or batches of them, got shapes {x.shape} and {W.shape}")
    rows = W.shape[-2] if W.ndim > 1 else W.shape[0]
    if x.shape[-1] != rows:
        raise ValueError(f"{name}: W takes {rows} features but x has {x.shape[-1]} (x {x.shape}, W {W.shape})")
    if x.ndim > 2 or W.ndim > 2:
        _check_shapes_broadcast(f"{name}: batches", x.shape[:-2], W.shape[:-2])


# What NumPy may do with a Variable's array: there is no graph to lose.
_NOT_DIFFERENTIABLE = {
    *(np.shape, np.ndim, np.size, np.array_equal, np.allclose, np.isclose, np.argmax, np.argmin, np.argsort),
    *(np.zeros_like, np.ones_like, np.empty_like, np.full_like, np.result_type, np.shares_memory, np.may_share_memory),
}

# What NumPy's operators become when a Variable stands on one side of them.
_OPERATORS: dict[Any, Any] = {
    np.add: add,
    np.subtract: sub,
    np.multiply: mul,
    np.true_divide: div,
    np.floor_divide: floor_divide,
    np.power: pow,
    np.negative: neg,
    np.matmul: matmul,
    np.equal: lambda a, b: a is b,  # identity, as between Variables
    np.not_equal: lambda a, b: a is not b,
    np.less: lambda a, b: cuda.plain(a) < cuda.plain(b),
    np.less_equal: lambda a, b: cuda.plain(a) <= cuda.plain(b),
    np.greater: lambda a, b: cuda.plain(a) > cuda.plain(b),
    np.greater_equal: lambda a, b: cuda.plain(a) >= cuda.plain(b),
}
