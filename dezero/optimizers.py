"""Optimizers: update rules, and hooks that look at gradients before them.

In the formulas p is a parameter and g its gradient. A rule keeps what it remembers of each parameter in
`optimizer.state`, under the parameter's name.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from dezero import cuda, kernels
from dezero.core import Parameter, Variable


class Optimizer:
    """An update rule. A subclass writes `update_one(param)`, which changes `param.data` by `param.grad.data`.

    >>> import numpy as np
    >>> from dezero import layers as L
    >>> model = L.Linear(1, in_size=2)
    >>> optimizer = SGD(lr=0.1).setup(model)
    >>> model(np.ones((4, 2), np.float32)).sum().backward()
    >>> optimizer.update()
    """

    def __init__(self) -> None:
        self.target: Any = None
        self.hooks: list[Callable[[list[Parameter]], None]] = []
        self.state: dict[str, dict[str, Any]] = {}
        self._names: dict[Any, str] = {}

    def setup(self, target: Any) -> Any:
        """Take the parameters of `target`, a Layer or anything with a `params()`, and return the optimizer itself."""
        if not hasattr(target, "params"):
            raise TypeError(f"{type(self).__name__}.setup: expected a Layer or Model, got {type(target).__name__}")
        self.target = target
        return self

    def update(self) -> None:
        """Run the hooks on all parameters that have a gradient, then change each that still has one."""
        if self.target is None:
            raise ValueError(f"{type(self).__name__}.update: there is nothing to update; call setup(model) first")
        params = [param for param in dict.fromkeys(self.target.params()) if not getattr(param, "is_buffer", False)]
        if not params:
            raise ValueError(
                f"{type(self).__name__}.update: {type(self.target).__name__} has no parameters; they are found in "
                "attributes, and in lists and dicts of nothing but Layers and Parameters"
            )
        self._name_params(params)
        if (slots := _slots()) is not None:
            slots.take_part(self)
        for param in _with_gradient(params):
            self._check(param)
        for hook in self.hooks:
            hook(_with_gradient(params))
        self._update_all(_with_gradient(params))

    def _update_all(self, params: list[Any]) -> None:
        for param in params:
            self.update_one(param)

    def _check(self, param: Any) -> None:
        where = f"{type(self).__name__}.update: parameter {self._names[param]}"
        if param.dtype.kind != "f":
            raise TypeError(
                f"{where} has dtype {param.dtype}, which cannot take small steps; "
                "make it floating: data.astype(np.float32)"
            )
        if not isinstance(param.grad, Variable) or param.grad.shape != param.shape:
            raise TypeError(f"{where}: grad must be a Variable of shape {param.shape}, got {param.grad!r:.60}")
        cuda.check_same_device(f"{where}: data and grad", [param.data, param.grad.data])

    def _name_params(self, params: list[Any]) -> None:
        """Give each parameter that is new a name, which it keeps: its name in the target, or else a number."""
        new = [param for param in params if param not in self._names]
        if not new:
            return
        named = self.target.named_params() if hasattr(self.target, "named_params") else ()
        names = {param: name for name, param in named}
        taken = set(self._names.values())
        for param in new:
            name = names.get(param, str(len(taken)))
            self._names[param] = name if name not in taken else f"{name}#{len(taken)}"
            taken.add(self._names[param])

    def update_one(self, param: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no update_one method")

    def add_hook(self, f: Callable[[list[Parameter]], None]) -> None:
        """Call `f(params)` at every update, before the rule; `f` may change gradients in place or set them to None."""
        self.hooks.append(f)

    def memory(self, param: Any, *names: str) -> list[Any]:
        """Return the arrays that the rule remembers of `param` under `names`: zeros at first, to change in place.

        They follow the parameter to the GPU, and back.
        """
        if param not in self._names:
            self._name_params([param])
        kept = self.state.setdefault(self._names[param], {})
        device = cuda.device_of(param.data)
        for name in names:
            if name not in kept:
                kept[name] = self._zeros_like(param.data)
            elif cuda.device_of(kept[name]) != device:
                kept[name] = cuda.as_numpy(kept[name]) if device is None else cuda.as_cupy(kept[name]).copy()
        return [kept[name] for name in names]

    def _zeros_like(self, x: Any) -> Any:
        try:
            return cuda.get_array_module(x).zeros_like(x)
        except MemoryError as error:
            cuda.explain_out_of_memory(type(self).__name__, error)
            raise

    def to_cpu(self) -> None:
        """Move what the rule remembers to the CPU; the parameters move with their model."""
        self._move(cuda.as_numpy)

    def to_gpu(self) -> None:
        """Move what the rule remembers to the GPU; RuntimeError says what is missing where there is none."""
        self._move(lambda x: cuda.to_gpu("to_gpu", x))

    def _move(self, there: Callable[[Any], Any]) -> None:
        for kept in self.state.values():
            for name, x in kept.items():
                kept[name] = there(x) if cuda.is_array(x) else x


def _with_gradient(params: list[Any]) -> list[Any]:
    return [param for param in params if param.grad is not None]


class _Rule(Optimizer):
    """A rule that is a kernel, called with p, what is remembered of it, g, and numbers, which are attributes.

    On a GPU one launch changes all parameters, unless a subclass has an `update_one` of its own.
    """

    _kernel = ""
    _remembers: tuple[str, ...] = ()
    _numbers: tuple[str, ...] = ()

    def update_one(self, param: Any) -> None:
        self._change([param])

    def _update_all(self, params: list[Any]) -> None:
        if getattr(self.update_one, "__func__", None) is _Rule.update_one:
            self._change(params)
        else:
            super()._update_all(params)

    def _change(self, params: list[Any]) -> None:
        numbers, on_gpu = self._values(), []
        for param in params:
            kept = self.memory(param, *self._remembers) if self._remembers else ()
            arrays = param.data, *kept, param.grad.data
            if isinstance(param.data, np.ndarray):
                getattr(kernels.for_array(param.data), self._kernel)(*arrays, *numbers)
            else:
                on_gpu.append(arrays)
        if on_gpu:
            kernels.for_array(on_gpu[0][0]).update_all(self._kernel, on_gpu, self._values)

    def _values(self) -> tuple[float, ...]:
        return tuple(getattr(self, number) for number in self._numbers)


class SGD(_Rule):
    """Stochastic gradient descent: p -= lr * g."""

    _kernel, _numbers = "sgd", ("lr",)

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = lr


class MomentumSGD(_Rule):
    """Gradient descent with momentum: v = momentum * v - lr * g; p += v. Source: Polyak (1964)."""

    _kernel, _remembers, _numbers = "momentum_sgd", ("v",), ("lr", "momentum")

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__()
        self.lr = lr
        self.momentum = momentum


class AdaGrad(_Rule):
    """h += g * g; p -= lr * g / (sqrt(h) + eps). Source: Duchi, Hazan and Singer, JMLR 12 (2011)."""

    _kernel, _remembers, _numbers = "adagrad", ("h",), ("lr", "eps")

    def __init__(self, lr: float = 0.001, eps: float = 1e-8) -> None:
        super().__init__()
        self.lr = lr
        self.eps = eps


class RMSprop(_Rule):
    """h = alpha * h + (1 - alpha) * g * g; p -= lr * g / (sqrt(h) + eps).

    Source: Tieleman and Hinton, "Lecture 6.5 - rmsprop", Coursera: Neural Networks for Machine Learning (2012).
    """

    _kernel, _remembers, _numbers = "rmsprop", ("h",), ("lr", "alpha", "eps")

    def __init__(self, lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8) -> None:
        super().__init__()
        self.lr = lr
        self.alpha = alpha
        self.eps = eps


class AdaDelta(_Rule):
    """Steps in the units of p, without a learning rate. Source: Zeiler, arXiv:1212.5701.

    h = rho * h + (1 - rho) * g * g; d = sqrt((s + eps) / (h + eps)) * g; s = rho * s + (1 - rho) * d * d; p -= d.
    """

    _kernel, _remembers, _numbers = "adadelta", ("h", "s"), ("rho", "eps")

    def __init__(self, rho: float = 0.95, eps: float = 1e-6) -> None:
        super().__init__()
        self.rho = rho
        self.eps = eps


class Adam(_Rule):
    """m += (1 - beta1) * (g - m); v += (1 - beta2) * (g * g - v); p -= lr * m / (sqrt(v) + eps).

    `lr` is alpha corrected for the zeros that m and v start from: alpha * sqrt(1 - beta2 ** t) / (1 - beta1 ** t) at
    step t. Source: Kingma and Ba, arXiv:1412.6980, section 2 (the rearranged form).
    """

    _kernel, _remembers, _numbers = "adam", ("m", "v"), ("lr", "beta1", "beta2", "eps")

    def __init__(self, alpha: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        super().__init__()
        self.t = 0
        self.alpha = alpha
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps

    def update(self) -> None:
        self._count()
        if (slots := _slots()) is not None:
            slots.action(self._count)
        super().update()

    def _count(self) -> None:
        self.t += 1

    @property
    def lr(self) -> float:
        t = max(self.t, 1)  # before the first step: the rate it will have
        return self.alpha * math.sqrt(1 - self.beta2**t) / (1 - self.beta1**t)


def _slots() -> Any:
    """kernels/gpu/slots.py, or None where no array of CuPy's has met a kernel, and so no step is being captured."""
    return sys.modules.get("dezero.kernels.gpu.slots")


def _number(value: Callable[[], float], dtype: Any) -> Any:
    """Return `value()`; while a step is captured an array of no axes, which is that in each replay."""
    slots = _slots()
    return value() if slots is None else slots.number(value, dtype)


# ----------------------------------------------------------------------------------------------------------------------
# Hooks
# ----------------------------------------------------------------------------------------------------------------------


class WeightDecay:
    """g += rate * p: parameters are drawn towards 0."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, params: list[Any]) -> None:
        rates = {dtype: _number(lambda: self.rate, dtype) for dtype in dict.fromkeys(param.dtype for param in params)}
        for param in params:
            param.grad.data += rates[param.dtype] * param.data


class ClipGrad:
    """Scale all gradients down together when their common norm sqrt(sum of g * g) is above `max_norm`."""

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def __call__(self, params: list[Any]) -> None:
        # in float64: the squares of large float32 gradients overflow
        squares = sum((param.grad.data.astype("f8") ** 2).sum() for param in params)
        if any(cuda.get_array_module(param.grad.data) is np for param in params):
            rate = self.max_norm / (math.sqrt(float(squares)) + 1e-6)
            if rate < 1:
                for param in params:
                    param.grad.data *= rate
        elif params:
            self._clip_on_gpu(params, squares)

    def _clip_on_gpu(self, params: list[Any], squares: Any) -> None:
        """Read no value: multiply always, with 1 where the norm is small, or is no number."""
        xp = cuda.get_array_module(squares)
        rate = xp.fmin(1, _number(lambda: self.max_norm, np.float64) / (xp.sqrt(squares) + 1e-6))
        rates = {dtype: rate.astype(dtype) for dtype in dict.fromkeys(param.grad.data.dtype for param in params)}
        for param in params:
            param.grad.data *= rates[param.grad.data.dtype]


class FreezeParam:
    """Keep parameters as they are: those given, and those of the layers given."""

    def __init__(self, *layers: Any) -> None:
        self.frozen: set[Any] = set()
        for layer in layers:
            if not isinstance(layer, Parameter) and not hasattr(layer, "params"):
                raise TypeError(f"FreezeParam: expected Layers and Parameters, got {type(layer).__name__}")
            self.frozen.update([layer] if isinstance(layer, Parameter) else layer.params())

    def __call__(self, params: list[Any]) -> None:
        for param in params:
            if param in self.frozen:
                param.cleargrad()
