"""Update rules. In the formulas p is a parameter, g its gradient, and t counts the steps from 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dezero import kernels
from dezero.core import check_number
from dezero.optimizers_base import Group, Optimizer, in_use

__all__ = [
    "SGD",
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Lion",
    "MomentumSGD",
    "NAdam",
    "NesterovSGD",
    "RMSprop",
]


class _Rule(Optimizer):
    """A rule that is a kernel, called with p, what is remembered of it, g, and numbers, which are attributes.

    On a GPU one launch changes all parameters of a group, unless a subclass has an `update_one` of its own.
    """

    weight_decay: float = 0.0
    _kernel = ""
    _remembers: tuple[str, ...] = ()
    _numbers: tuple[str, ...] = ()
    _shares: tuple[str, ...] = ()  # those of its numbers that are 1 at most

    def _valid(self, **numbers: Any) -> list[Any]:
        return [_check_setting(type(self).__name__, name, x, self._shares) for name, x in numbers.items()]

    def _checked(self, where: str, name: str, x: Any) -> Any:
        super()._checked(where, name, x)
        return _check_setting(where, name, x, self._shares)

    def update_one(self, param: Any) -> None:
        self._change([param])

    def _update_all(self, params: list[Any]) -> None:
        if getattr(self.update_one, "__func__", None) is _Rule.update_one:
            self._change(params)
        else:
            super()._update_all(params)

    def _change(self, params: list[Any]) -> None:
        group, on_gpu = self._group_of(params[0]), []  # of which all are
        with in_use(group):
            kernel, numbers, decay = self._kernel_name(), self._values(), self._decay()
        for param in params:
            p, g = param.data, param.grad.data
            kept = self.memory(param, *self._remembers) if self._remembers else ()
            if isinstance(p, np.ndarray):
                getattr(kernels.for_array(p), kernel)(p, *kept, g if decay == 0 else g + decay * p, *numbers)
            else:
                on_gpu.append((p, *kept, g))
        if on_gpu:  # a captured step asks for its numbers again before each replay
            update_all = kernels.for_array(on_gpu[0][0]).update_all
            update_all(kernel, on_gpu, _of_group(group, self._values), _of_group(group, self._decay))

    def _kernel_name(self) -> str:
        return self._kernel

    def _values(self) -> tuple[float, ...]:
        return tuple(getattr(self, number) for number in self._numbers)

    def _decay(self) -> float:
        """What times p is added to g: the weight decay, unless the kernel has its own way."""
        return self.weight_decay


def _of_group(group: Group | None, f: Callable[[], Any]) -> Callable[[], Any]:
    def in_group() -> Any:
        with in_use(group):
            return f()

    return in_group


_BELOW_ONE = "beta1", "beta2"


def _check_setting(where: str, name: str, x: Any, shares: tuple[str, ...]) -> Any:
    """Return a number that a rule can work with; raise for any other."""
    if isinstance(x, bool):
        return x
    x = check_number(where, name, x, 0, 1 if name in (*_BELOW_ONE, *shares) else math.inf)
    if x == math.inf or (name in _BELOW_ONE and x == 1):
        raise ValueError(f"{where}: {name} must be {'below 1' if name in _BELOW_ONE else 'finite'}, got {x}")
    return x


class SGD(_Rule):
    """Stochastic gradient descent: p -= lr * g.

    Here as in all rules but AdamW and Lion, `weight_decay` is added to the gradient first: g + weight_decay * p.
    """

    _kernel, _numbers = "sgd", ("lr",)

    def __init__(self, lr: float = 0.01, weight_decay: float = 0) -> None:
        super().__init__()
        self.lr, self.weight_decay = self._valid(lr=lr, weight_decay=weight_decay)


class MomentumSGD(_Rule):
    """Gradient descent with momentum: v = momentum * v - lr * g; p += v. Source: Polyak (1964).

    With `nesterov`, Nesterov's momentum, p += momentum * v - lr * g, v being the new one: the gradient is that of the
    place where momentum alone would lead. Source: Sutskever et al., ICML (2013), as rearranged in arXiv:1212.0901.
    """

    _remembers, _numbers = ("v",), ("lr", "momentum")

    def __init__(
        self, lr: float = 0.01, momentum: float = 0.9, nesterov: bool = False, weight_decay: float = 0
    ) -> None:
        super().__init__()
        if nesterov not in (0, 1):
            raise TypeError(f"{type(self).__name__}: nesterov must be True or False, got {nesterov!r}")
        self.lr, self.momentum, self.nesterov, self.weight_decay = self._valid(
            lr=lr, momentum=momentum, nesterov=bool(nesterov), weight_decay=weight_decay
        )

    def _kernel_name(self) -> str:
        return "nesterov_sgd" if self.nesterov else "momentum_sgd"


class NesterovSGD(MomentumSGD):
    """MomentumSGD with `nesterov`: v = momentum * v - lr * g; p += momentum * v - lr * g."""

    def __init__(self, lr: float = 0.01, momentum: float = 0.9, weight_decay: float = 0) -> None:
        super().__init__(lr, momentum, True, weight_decay)


class AdaGrad(_Rule):
    """h += g * g; p -= lr * g / (sqrt(h) + eps). Source: Duchi, Hazan and Singer, JMLR 12 (2011)."""

    _kernel, _remembers, _numbers = "adagrad", ("h",), ("lr", "eps")

    def __init__(self, lr: float = 0.001, eps: float = 1e-8, weight_decay: float = 0) -> None:
        super().__init__()
        self.lr, self.eps, self.weight_decay = self._valid(lr=lr, eps=eps, weight_decay=weight_decay)


class RMSprop(_Rule):
    """h = alpha * h + (1 - alpha) * g * g; p -= lr * g / (sqrt(h) + eps).

    Source: Tieleman and Hinton, "Lecture 6.5 - rmsprop", Coursera: Neural Networks for Machine Learning (2012).
    """

    _kernel, _remembers, _numbers, _shares = "rmsprop", ("h",), ("lr", "alpha", "eps"), ("alpha",)

    def __init__(self, lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0) -> None:
        super().__init__()
        self.lr, self.alpha, self.eps, self.weight_decay = self._valid(
            lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay
        )


class AdaDelta(_Rule):
    """Steps in the units of p, without a learning rate. Source: Zeiler, arXiv:1212.5701.

    h = rho * h + (1 - rho) * g * g; d = sqrt((s + eps) / (h + eps)) * g; s = rho * s + (1 - rho) * d * d; p -= d.
    """

    base_rate = None
    _kernel, _remembers, _numbers, _shares = "adadelta", ("h", "s"), ("rho", "eps"), ("rho",)

    def __init__(self, rho: float = 0.95, eps: float = 1e-6, weight_decay: float = 0) -> None:
        super().__init__()
        self.rho, self.eps, self.weight_decay = self._valid(rho=rho, eps=eps, weight_decay=weight_decay)


class Adam(_Rule):
    """m += (1 - beta1) * (g - m); v += (1 - beta2) * (g * g - v); p -= lr * m / (sqrt(v) + eps).

    `lr` is alpha corrected for the zeros that m and v start from: alpha * sqrt(1 - beta2 ** t) / (1 - beta1 ** t) at
    step t. Source: Kingma and Ba, arXiv:1412.6980, section 2 (the rearranged form, in which eps is not corrected, as it
    is in AdamW, NAdam and PyTorch: there it is eps * sqrt(1 - beta2 ** t)).
    """

    base_rate = "alpha"
    _counts = ("t",)
    _kernel, _remembers, _numbers = "adam", ("m", "v"), ("lr", "beta1", "beta2", "eps")

    def __init__(
        self,
        alpha: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0,
    ) -> None:
        super().__init__()
        self.alpha, self.beta1, self.beta2, self.eps, self.weight_decay = self._valid(
            alpha=alpha, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay
        )
        self.t = 0

    def _begin_step(self) -> None:
        self.t += 1

    @property
    def lr(self) -> float:
        return self.alpha * self._root() / (1 - self.beta1 ** max(self.t, 1))

    @lr.setter
    def lr(self, rate: float) -> None:
        raise AttributeError(f"{type(self).__name__}: lr follows from alpha and the step; set alpha")

    def _root(self) -> float:
        return math.sqrt(1 - self.beta2 ** max(self.t, 1))  # before the first step: what it will be there


class AdamW(Adam):
    """Adam whose weight decay is decoupled from the gradient: p -= alpha * weight_decay * p, then as Adam.

    eps is corrected as `lr` is: eps * sqrt(1 - beta2 ** t). Source: Loshchilov and Hutter, arXiv:1711.05101; PyTorch's
    AdamW takes the same steps. To let biases alone: `optimizer.add_group(biases_and_norms(model), weight_decay=0)`.
    """

    _kernel = "adamw"

    def __init__(
        self,
        alpha: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(alpha, beta1, beta2, eps, weight_decay)

    def _values(self) -> tuple[float, ...]:
        return self.lr, self.beta1, self.beta2, self.eps * self._root(), self.alpha * self.weight_decay

    def _decay(self) -> float:
        return 0.0


class NAdam(Adam):
    """Adam with Nesterov's momentum: m as it will be at the next step takes the place of m.

    With mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)) at step t, and M the product of the mu until then:
    p -= alpha * ((1 - mu) / (1 - M) * g + mu' / (1 - M * mu') * m) / (sqrt(v / (1 - beta2 ** t)) + eps), where mu' is
    that of step t + 1. `mu_product` is M. Source: Dozat, "Incorporating Nesterov Momentum into Adam", ICLR workshop
    (2016); PyTorch's NAdam takes the same steps.
    """

    _kernel, _counts_of_group = "nadam", ("mu_product",)

    def __init__(
        self,
        alpha: float = 0.002,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 0.004,
    ) -> None:
        super().__init__(alpha, beta1, beta2, eps, weight_decay)
        (self.momentum_decay,) = self._valid(momentum_decay=momentum_decay)
        self.mu_product = 1.0

    def _begin_step(self) -> None:
        super()._begin_step()
        for group in (None, *self.groups):
            with in_use(group):
                self.mu_product *= self._mu(self.t)

    def _mu(self, t: int) -> float:
        return self.beta1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))

    def _values(self) -> tuple[float, ...]:
        t, rate = max(self.t, 1), self.alpha * self._root()
        mu, ahead, product = self._mu(t), self._mu(t + 1), self.mu_product if self.t else self._mu(1)
        rates = rate * (1 - mu) / (1 - product), rate * ahead / (1 - product * ahead)
        return *rates, self.beta1, self.beta2, self.eps * self._root()


class Lion(_Rule):
    """p -= lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * p); m = beta2 * m + (1 - beta2) * g.

    Every element takes a step of `lr`, so that is to be three to ten times smaller than Adam's, and `weight_decay` as
    much larger. Source: Chen et al., "Symbolic Discovery of Optimization Algorithms", arXiv:2302.06675.
    """

    _kernel, _remembers = "lion", ("m",)

    def __init__(self, lr: float = 0.0001, beta1: float = 0.9, beta2: float = 0.99, weight_decay: float = 0) -> None:
        super().__init__()
        self.lr, self.beta1, self.beta2, self.weight_decay = self._valid(
            lr=lr, beta1=beta1, beta2=beta2, weight_decay=weight_decay
        )

    def _values(self) -> tuple[float, ...]:
        return self.lr, self.beta1, self.beta2, self.lr * self.weight_decay

    def _decay(self) -> float:
        return 0.0
