"""Schedules: rates that change from step to step.

A schedule belongs to an optimizer, takes the rate that it finds there for the base rate, and sets it to
base rate * factor(n), where n is how often `step()` was called: once a batch or once an epoch, as the factor is meant.

    optimizer = optimizers.AdamW(0.001).setup(model)
    schedule = schedules.Cosine(optimizer, steps=epochs * len(loader), warm_up=500)
    for x, t in loader:
        ...
        optimizer.update()
        schedule.step()

The rate is the attribute that the rule names as its `base_rate`: `alpha` of Adam and its kin, `lr` of all others.
Groups that have a rate of their own each start from that. `step()` may stand in a step given to `cuda.capture`. An
optimizer has one schedule at a time: a rate that something else assigns lasts until the next `step()`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dezero import cuda, serializers
from dezero.core import as_python_number, check_number, is_int

__all__ = ["Cosine", "Exponential", "Linear", "MultiStep", "OneCycle", "Plateau", "Polynomial", "Schedule", "Step"]


class Schedule:
    """The rate is base rate * factor(n) after n steps; `factor` is a function, or the method of a subclass.

    Args:
        optimizer: whose rate it is; a rule without one, such as AdaDelta, is an error.
        factor: a plain function of n, an int that counts from 0.
        warm_up: for how many steps the rate climbs first, in a line from base rate / (warm_up + 1) to the factor's
            first; the factor's n counts from there (default: 0).

    `rate` is what the rate is now, `count` how many steps there were.

    >>> from dezero import optimizers
    >>> optimizer = optimizers.SGD(lr=0.5)
    >>> schedule = Schedule(optimizer, lambda n: 1 / (1 + n), warm_up=1)
    >>> for _ in range(4):
    ...     print(round(schedule.rate, 3))
    ...     schedule.step()
    0.25
    0.5
    0.25
    0.167
    """

    def __init__(self, optimizer: Any, factor: Callable[[int], float] | None = None, warm_up: int = 0) -> None:
        if factor is not None:
            if not callable(factor):
                raise TypeError(f"{self._name}: factor must be a function of n, got {type(factor).__name__}")
            self.factor = factor  # type: ignore[method-assign,assignment]
        elif type(self).factor is Schedule.factor:
            raise TypeError(f"{self._name}: expected a function of n that returns a factor, got None")
        self.optimizer = optimizer
        self.warm_up = self._count_of("warm_up", warm_up, 0)
        self.count = 0
        self._rate_name = self._find_rate()
        self._base_rates: dict[int, float] = {}  # by the group's place, 0 for the optimizer itself
        self._apply()

    @property
    def _name(self) -> str:
        return type(self).__name__

    def factor(self, n: int) -> float:
        """What the base rate is multiplied with after n steps."""
        raise NotImplementedError(f"{self._name} has no factor method")

    def step(self) -> None:
        """Go on to the next rate. In a captured step that is done at each replay, too."""
        slots = sys.modules.get("dezero.kernels.gpu.slots")
        if slots is not None:
            slots.take_part(self)
            slots.take_part(self.optimizer)
            slots.action(self._advance)
        self._advance()

    def _advance(self) -> None:
        self.count += 1
        self._apply()

    def _apply(self) -> None:
        factor = self._factor_now()
        for place, holder in self._holders():
            base = self._base_rates.setdefault(place, getattr(holder, self._rate_name))
            setattr(holder, self._rate_name, base * factor)

    def _factor_now(self) -> float:
        if self.count < self.warm_up:
            return (self.count + 1) / (self.warm_up + 1) * self._checked(0)
        return self._checked(self.count - self.warm_up)

    def _checked(self, n: int) -> float:
        factor = as_python_number(self.factor(n))
        if not isinstance(factor, (int, float)):
            raise TypeError(f"{self._name}: factor({n}) must return a number, got {type(factor).__name__}")
        if not math.isfinite(factor):
            raise ValueError(f"{self._name}: factor({n}) must be finite, got {factor}")
        return factor

    def _holders(self) -> list[tuple[int, Any]]:
        """The optimizer, and those of its groups that have a rate of their own, with their places."""
        groups = enumerate(getattr(self.optimizer, "groups", ()), 1)
        return [(0, self.optimizer), *((i, group) for i, group in groups if self._rate_name in group.numbers)]

    def _find_rate(self) -> str:
        rule = type(self.optimizer).__name__
        name = getattr(self.optimizer, "base_rate", "lr")
        if name is None:
            raise ValueError(f"{self._name}: {rule} has no rate that a schedule could change")
        if name not in getattr(self.optimizer, "__dict__", ()):
            raise ValueError(
                f"{self._name}: {rule} has no attribute {name!r} to change; "
                "expected an optimizer, whose base_rate is the name of its rate"
            )
        return name

    @property
    def rate(self) -> float:
        """The optimizer's rate, now."""
        return getattr(self.optimizer, self._rate_name)

    def state_dict(self) -> dict[str, Any]:
        """Return how far it is, as plain numbers: what it was made with is not among them."""
        bases = {f"base_rates/{place}": base for place, base in self._base_rates.items()}
        return {"schedule": self._name, "count": self.count, **bases}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; the rates are those of then.

        Raises ValueError for the state of another kind of schedule, or of an optimizer with other groups.
        """
        mine = self.state_dict()
        where = f"{self._name}.load_state_dict"
        if not isinstance(state, dict) or state.keys() != mine.keys() or state["schedule"] != self._name:
            raise ValueError(f"{where}: expected a dict of {', '.join(mine)}, of a {self._name}, got {state!r:.80}")
        numbers = {name: check_number(where, name, x) for name, x in state.items() if name != "schedule"}
        if not is_int(numbers["count"]) or numbers["count"] < 0:
            raise ValueError(f"{where}: count must be an int of at least 0, got {numbers['count']}")
        for name, x in numbers.items():
            place = name.removeprefix("base_rates/")
            if place == name:
                setattr(self, name, x)
            else:
                self._base_rates[int(place)] = x
        self._apply()

    def save_state(self, path: Any) -> None:
        """Save `state_dict()` to an npz file; `serializers.save_state` puts it into one file with the optimizer's."""
        serializers.save_state(self, path)

    def load_state(self, path: Any) -> None:
        """Load what `save_state` has saved. Raises FileNotFoundError, or ValueError that says what does not fit."""
        serializers.load_state(self, path)

    def _count_of(self, what: str, x: Any, low: int) -> int:
        if not is_int(x) or x < low:
            raise ValueError(f"{self._name}: {what} must be an int of at least {low}, got {x!r:.60}")
        return int(x)

    def _share(self, what: str, x: Any, high: float = math.inf) -> float:
        x = float(check_number(self._name, what, x, 0, high))
        if x == math.inf:
            raise ValueError(f"{self._name}: {what} must be finite, got {x}")
        return x

    def _length(self, steps: Any, warm_up: Any) -> int:
        """How many steps remain after the warm-up."""
        length = self._count_of("steps", steps, 1) - self._count_of("warm_up", warm_up, 0)
        if length < 1:
            raise ValueError(f"{self._name}: steps must be more than those of the warm-up, {warm_up}, got {steps}")
        return length


class Step(Schedule):
    """factor(n) = gamma ** (n // size): the rate falls every `size` steps. PyTorch's StepLR."""

    def __init__(self, optimizer: Any, size: int, gamma: float = 0.1, warm_up: int = 0) -> None:
        self.size, self.gamma = self._count_of("size", size, 1), self._share("gamma", gamma)
        super().__init__(optimizer, warm_up=warm_up)

    def factor(self, n: int) -> float:
        return self.gamma ** (n // self.size)


class MultiStep(Schedule):
    """factor(n) = gamma ** (how many of `milestones` are at most n). PyTorch's MultiStepLR."""

    def __init__(self, optimizer: Any, milestones: Sequence[int], gamma: float = 0.1, warm_up: int = 0) -> None:
        if not isinstance(milestones, Iterable):
            raise TypeError(f"{self._name}: milestones must be a sequence of ints, got {milestones!r:.60}")
        self.milestones = sorted(self._count_of("each of milestones", x, 0) for x in milestones)
        self.gamma = self._share("gamma", gamma)
        super().__init__(optimizer, warm_up=warm_up)

    def factor(self, n: int) -> float:
        return self.gamma ** sum(milestone <= n for milestone in self.milestones)


class Exponential(Schedule):
    """factor(n) = gamma ** n. PyTorch's ExponentialLR."""

    def __init__(self, optimizer: Any, gamma: float, warm_up: int = 0) -> None:
        self.gamma = self._share("gamma", gamma)
        super().__init__(optimizer, warm_up=warm_up)

    def factor(self, n: int) -> float:
        return self.gamma**n


class Cosine(Schedule):
    """Half a wave from 1 to `end` in `steps`, the warm-up among them; then it stays at `end`.

    factor(n) = end + (1 - end) * (1 + cos(pi * n / (steps - warm_up))) / 2. PyTorch's CosineAnnealingLR, with
    eta_min = end * base rate. Source: Loshchilov and Hutter, arXiv:1608.03983, without restarts.
    """

    def __init__(self, optimizer: Any, steps: int, end: float = 0.0, warm_up: int = 0) -> None:
        self.length, self.end = self._length(steps, warm_up), self._share("end", end)
        super().__init__(optimizer, warm_up=warm_up)

    def factor(self, n: int) -> float:
        return _between(1.0, self.end, min(n / self.length, 1.0))


class Polynomial(Schedule):
    """factor(n) = end + (1 - end) * (1 - n / (steps - warm_up)) ** power; then it stays at `end`. PolynomialLR."""

    def __init__(self, optimizer: Any, steps: int, power: float = 1.0, end: float = 0.0, warm_up: int = 0) -> None:
        self.length, self.end = self._length(steps, warm_up), self._share("end", end)
        self.power = self._share("power", power)
        super().__init__(optimizer, warm_up=warm_up)

    def factor(self, n: int) -> float:
        return self.end + (1 - self.end) * (1 - min(n / self.length, 1.0)) ** self.power


class Linear(Schedule):
    """A line from `start` to `end` in `steps`, the warm-up among them; then it stays at `end`. PyTorch's LinearLR."""

    def __init__(self, optimizer: Any, steps: int, start: float = 1.0, end: float = 0.0, warm_up: int = 0) -> None:
        self.length, self.start, self.end = (
            self._length(steps, warm_up),
            self._share("start", start),
            self._share("end", end),
        )
        super().__init__(optimizer, warm_up=warm_up)

    def factor(self, n: int) -> float:
        return self.start + (self.end - self.start) * min(n / self.length, 1.0)


class OneCycle(Schedule):
    """Up from `start` to the base rate, then down to `end`, each along half a wave; momentum goes the other way.

    Args:
        optimizer: its rate is the highest there will be.
        steps: how many there are in all, 2 or more; after them all stays as it is.
        rise: the share of the steps that climb (default: 0.3).
        start, end: the first and the last factor (default: 1 / 25 and 1 / 250000).
        momentum: the lowest and the highest momentum, or beta1; None leaves it as it is, which a rule that has neither
            needs (default: (0.85, 0.95)).

    PyTorch's OneCycleLR takes the same steps. Source: Smith and Topin, "Super-Convergence", arXiv:1708.07120.
    """

    def __init__(
        self,
        optimizer: Any,
        steps: int,
        rise: float = 0.3,
        start: float = 1 / 25,
        end: float = 1 / 250_000,
        momentum: tuple[float, float] | None = (0.85, 0.95),
    ) -> None:
        self.steps, self.rise = self._count_of("steps", steps, 2), self._share("rise", rise, 1)
        self.start, self.end = self._share("start", start), self._share("end", end)
        self.momentum = None if momentum is None else self._limits(momentum)
        names = [name for name in ("momentum", "beta1") if name in getattr(optimizer, "__dict__", ())]
        if momentum is not None and not names:
            raise ValueError(
                f"{self._name}: {type(optimizer).__name__} has no momentum and no beta1; give momentum=None"
            )
        self._momentum_name = names[0] if names else ""
        super().__init__(optimizer)

    def _limits(self, momentum: Any) -> tuple[float, float]:
        if not isinstance(momentum, (tuple, list)) or len(momentum) != 2:
            raise ValueError(f"{self._name}: momentum must be a pair, the lowest and the highest, got {momentum!r:.60}")
        low, high = (self._share("momentum", x, 1) for x in momentum)
        if max(low, high) == 1:
            raise ValueError(f"{self._name}: momentum must be below 1, got {momentum}")
        return low, high

    def _along(self, n: int, start: float, peak: float, end: float) -> float:
        """The value after n steps of what goes from `start` to `peak` and on to `end`."""
        n, top = min(n, self.steps - 1), self.rise * self.steps - 1
        if n <= top:
            return _between(start, peak, n / top if top else 1.0)
        return _between(peak, end, (n - top) / (self.steps - 1 - top))

    def factor(self, n: int) -> float:
        return self._along(n, self.start, 1.0, self.end)

    def _apply(self) -> None:
        super()._apply()
        if self.momentum is not None:
            low, high = self.momentum
            name, now = self._momentum_name, self._along(self.count, high, low, high)
            holders = [group for group in getattr(self.optimizer, "groups", ()) if name in group.numbers]
            for holder in (self.optimizer, *holders):
                setattr(holder, name, now)


class Plateau(Schedule):
    """The rate falls, by `gamma`, when what `step(loss)` is told has not become better for more than `patience` steps.

    Args:
        optimizer: whose rate it is.
        gamma: what the rate is multiplied with (default: 0.1).
        patience: how many steps in turn may be no better before it falls (default: 10).
        threshold: how much better counts, as a share of the best (default: 1e-4).
        cooldown: for how many steps after a fall nothing counts (default: 0).
        end: the factor below which it does not fall (default: 0).
        mode: "min" where less is better, as of a loss; "max" as of an accuracy (default: "min").

    NaN is no better than anything. PyTorch's ReduceLROnPlateau takes the same steps.

    >>> from dezero import optimizers
    >>> schedule = Plateau(optimizers.SGD(0.1), gamma=0.5, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     schedule.step(loss)
    >>> schedule.rate
    0.05
    """

    def __init__(
        self,
        optimizer: Any,
        gamma: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        end: float = 0.0,
        mode: str = "min",
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f'{self._name}: mode must be "min" or "max", got {mode!r:.60}')
        self.gamma, self.threshold = self._share("gamma", gamma, 1), self._share("threshold", threshold)
        self.patience, self.cooldown = self._count_of("patience", patience, 0), self._count_of("cooldown", cooldown, 0)
        self.end, self.mode = self._share("end", end), mode
        self.best = math.inf if mode == "min" else -math.inf
        self.bad_steps, self.cooling, self.factor_now = 0, 0, 1.0
        super().__init__(optimizer)

    def factor(self, n: int) -> float:
        return self.factor_now

    def step(self, loss: Any) -> None:  # type: ignore[override]
        """Hear of a loss: a number, or an array or Variable of one, which is read, and so waits for a GPU.

        Raises RuntimeError in a step given to `cuda.capture`, which must not read.
        """
        slots = sys.modules.get("dezero.kernels.gpu.slots")
        if slots is not None and slots.capturing():
            raise RuntimeError(
                f"{self._name}.step reads the loss; call it outside the captured step, on what that returns"
            )
        self._hear(self._number_of(loss))
        self._advance()

    def _number_of(self, loss: Any) -> float:
        x = cuda.plain(loss)
        if cuda.is_array(x):
            if x.size != 1:
                raise ValueError(f"{self._name}.step: expected one number, got an array of shape {x.shape}")
            return float(cuda.as_numpy(x).reshape(()))
        if not isinstance(x, (int, float)) and not hasattr(x, "dtype"):
            raise TypeError(f"{self._name}.step: expected a loss, a number, got {type(loss).__name__}")
        return float(x)

    def _hear(self, loss: float) -> None:
        if self._is_better(loss):
            self.best, self.bad_steps = loss, 0
        else:
            self.bad_steps += 1
        if self.cooling > 0:
            self.cooling, self.bad_steps = self.cooling - 1, 0
        if self.bad_steps > self.patience:
            self.factor_now = max(self.factor_now * self.gamma, self.end)
            self.cooling, self.bad_steps = self.cooldown, 0

    def _is_better(self, loss: float) -> bool:
        if self.mode == "min":
            return loss < self.best * (1 - self.threshold)
        return loss > self.best * (1 + self.threshold)

    def state_dict(self) -> dict[str, Any]:
        """Return how far it is, as plain numbers: what it was made with is not among them."""
        heard = {name: getattr(self, name) for name in ("best", "bad_steps", "cooling", "factor_now")}
        return {**super().state_dict(), **heard}


def _between(start: float, end: float, share: float) -> float:
    """Half a wave of the cosine from `start`, where `share` is 0, to `end`, where it is 1."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
