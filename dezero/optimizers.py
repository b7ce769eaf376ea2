"""Optimizers: update rules, groups of parameters with numbers of their own, and hooks that look at gradients before.

In the formulas p is a parameter and g its gradient. A rule keeps what it remembers of each parameter in
`optimizer.state`, under the parameter's name. Rates that change from step to step are the business of `schedules`.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from dezero import cuda, kernels, serializers
from dezero.core import Parameter, Variable, check_number, is_int


class Optimizer:
    """An update rule. A subclass writes `update_one(param)`, which changes `param.data` by `param.grad.data`.

    Its numbers, such as `lr`, are attributes, to be changed at any time; those of a rule are checked when it is made.
    Some parameters can have others (`add_group`), `schedules` change rates from step to step, and `save_state` keeps
    all that the next step depends on.

    >>> import numpy as np
    >>> from dezero import layers as L
    >>> model = L.Linear(1, in_size=2)
    >>> optimizer = SGD(lr=0.1).setup(model)
    >>> model(np.ones((4, 2), np.float32)).sum().backward()
    >>> optimizer.update()
    """

    base_rate: str | None = "lr"  # the attribute that schedules change, if there is one
    _counts: tuple[str, ...] = ()  # attributes that the rule itself changes from step to step, for all parameters,
    _counts_of_group: tuple[str, ...] = ()  # and those that depend on other numbers, so that each group has its own

    def __init__(self) -> None:
        self.target: Any = None
        self.hooks: list[Callable[[list[Parameter]], None]] = []
        self.groups: list[Group] = []
        self.state: dict[str, dict[str, Any]] = {}
        self._names: dict[Any, str] = {}

    def setup(self, target: Any) -> Any:
        """Take the parameters of `target`, a Layer or anything with a `params()`, and return the optimizer itself."""
        if not hasattr(target, "params"):
            raise TypeError(f"{type(self).__name__}.setup: expected a Layer or Model, got {type(target).__name__}")
        self.target = target
        return self

    def add_group(self, *parts: Any, **numbers: Any) -> Group:
        """Give the parameters of `parts` numbers of their own, and return them as a Group, whose attributes these are.

        Args:
            parts: Layers, Parameters, and lists of them, all of the model that `setup` was called with.
            numbers: attributes of this rule, such as `lr=0.1` or `weight_decay=0`; for the others the group follows
                the optimizer.

        A parameter is in one group at most. Raises ValueError for one that is in a group already, or not in the model,
        for no parameters at all, and for numbers that the rule cannot have; TypeError for other parts.

        >>> from dezero import layers as L, models
        >>> model = models.Sequential(L.Linear(4, in_size=3), L.BatchNorm(), L.Linear(2, in_size=4))
        >>> optimizer = SGD(lr=0.1, weight_decay=1e-4).setup(model)
        >>> plain = optimizer.add_group(biases_and_norms(model), weight_decay=0)
        >>> head = optimizer.add_group(model.layers[2].W, lr=0.01)
        >>> optimizer.lr, head.lr, plain.lr, plain.weight_decay
        (0.1, 0.01, 0.1, 0)
        """
        rule = f"{type(self).__name__}.add_group"
        params = [param for param in _params_of(rule, parts) if _learns(param)]
        learned = set(self._params("add_group"))
        if not params:
            raise ValueError(f"{rule}: there are no parameters in what was given")
        if strange := [param for param in params if param not in learned]:
            raise ValueError(
                f"{rule}: {len(strange)} of {len(params)} parameters are not in the model, "
                f"a {type(self.target).__name__}; give parts of what setup was called with"
            )
        if twice := [self._names[param] for param in params if self._group_of(param) is not None]:
            raise ValueError(f"{rule}: in a group already: {', '.join(twice)}; a parameter is in one group at most")
        own = {name: self._checked(rule, name, x) for name, x in numbers.items()}
        self.groups.append(Group(self, params, own | {name: getattr(self, name) for name in self._counts_of_group}))
        return self.groups[-1]

    def _checked(self, where: str, name: str, x: Any) -> Any:
        """Return a number that a group can have."""
        if name not in self._settings():
            raise ValueError(
                f"{where}: {type(self).__name__} has no number {name!r}; it has {', '.join(self._settings()) or 'none'}"
            )
        return check_number(where, name, x) if not isinstance(x, bool) else x

    def _settings(self) -> dict[str, Any]:
        """The numbers that are there to be set, by name."""
        hidden = *self._counts, *self._counts_of_group
        return {name: x for name, x in self._numbers_now().items() if name not in hidden}

    def _numbers_now(self) -> dict[str, Any]:
        return {
            name: x
            for name, x in vars(self).items()
            if isinstance(x, (int, float, np.number)) and not name.startswith("_")
        }

    def _group_of(self, param: Any) -> Group | None:
        for group in self.groups:
            if param in group.members:
                return group
        return None

    def _params(self, method: str) -> list[Any]:
        """The parameters that are learned, each once; they have names now."""
        if self.target is None:
            raise ValueError(f"{type(self).__name__}.{method}: there is nothing to update; call setup(model) first")
        params = [param for param in dict.fromkeys(self.target.params()) if _learns(param)]
        if not params:
            raise ValueError(
                f"{type(self).__name__}.{method}: {type(self.target).__name__} has no parameters; they are found in "
                "attributes, and in lists and dicts of nothing but Layers and Parameters"
            )
        self._name_params(params)
        return params

    def update(self) -> None:
        """Run the hooks on all parameters that have a gradient, then change each that still has one."""
        params = self._params("update")
        if (slots := _slots()) is not None:
            slots.take_part(self)
        for param in _with_gradient(params):
            self._check(param)
        self._begin_step()
        if slots is not None:
            slots.action(self._begin_step)
        for hook in self.hooks:
            hook(_with_gradient(params))
        self._update_groups(_with_gradient(params))

    def _begin_step(self) -> None:
        """Work out what changes from step to step; in a captured step before each replay."""

    def _update_groups(self, params: list[Any]) -> None:
        by_group: dict[Group | None, list[Any]] = {}
        for param in params:
            by_group.setdefault(self._group_of(param), []).append(param)
        for group, members in by_group.items():
            with _in_use(group):
                self._update_all(members)

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
        if isinstance(param.data, np.ndarray) and not param.data.flags.writeable:
            raise ValueError(f"{where} is read-only, and is changed in place; give it a copy: data.copy()")
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
        owners = {name: param for param, name in self._names.items()}
        for param in new:
            name = names.get(param, str(len(owners)))
            spare = f"{name}#{len(owners)}"
            if name in owners and param in names and owners[name] not in names:
                owners[spare] = owners.pop(name)  # a part that was replaced leaves its name to the new one
                self._rename(owners[spare], spare)
            elif name in owners:
                name = spare
            self._names[param] = name
            owners[name] = param

    def _rename(self, param: Any, name: str) -> None:
        before, self._names[param] = self._names[param], name
        if before in self.state:
            self.state[name] = self.state.pop(before)

    def update_one(self, param: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no update_one method")

    def add_hook(self, f: Callable[[list[Parameter]], None]) -> None:
        """Call `f(params)` at every update, before the rule; `f` may change gradients in place or set them to None.

        Raises TypeError for what cannot be called.
        """
        if not callable(f):
            raise TypeError(f"{type(self).__name__}.add_hook: expected a function of a list, got {type(f).__name__}")
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

    def state_dict(self) -> dict[str, Any]:
        """Return the rule's name, its numbers, those of its groups, and what it remembers: numbers, text and arrays.

        The arrays are NumPy's, and copies. What hooks hold is not among it.

        >>> from dezero import layers as L
        >>> Adam().setup(L.Linear(1, in_size=2)).state_dict()["alpha"]
        0.001
        """
        names = {self._names[param] for param in self._params("state_dict")}
        state = {"rule": type(self).__name__, **self._numbers_now()}
        for i, group in enumerate(self.groups):
            state[f"groups/{i}/params"] = np.array([self._names[param] for param in group.members])
            state |= {f"groups/{i}/{name}": x for name, x in group.numbers.items()}
        for name, kept in self.state.items():
            if name in names:  # of this model
                state |= {f"state/{name}/{key}": np.array(cuda.as_numpy(x)) for key, x in kept.items()}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, so that the next step is the one that it would have been.

        The optimizer is one of the same rule, set up with a model of the same parameters, and has the same groups.
        Raises ValueError that says what does not fit; the optimizer is then as it was.
        """
        params = {self._names[param]: param for param in self._params("load_state_dict")}
        misfits = _Misfits(self, state, params)
        if misfits.found:
            raise ValueError(f"{type(self).__name__}.load_state_dict: this does not fit: {'; '.join(misfits.found)}")
        for name in self._numbers_now():
            setattr(self, name, state[name])
        for i, group in enumerate(self.groups):
            group.numbers.update({name: state[f"groups/{i}/{name}"] for name in group.numbers})
        self.state = {}
        for name, key, x in misfits.arrays:
            self.state.setdefault(name, {})[key] = np.array(x)

    def save_state(self, path: Any) -> None:
        """Save `state_dict()` to an npz file, written whole or not at all; weights have `model.save_weights`."""
        serializers.save_state(self, path)

    def load_state(self, path: Any) -> None:
        """Load what `save_state` has saved, so that training goes on as if it had never stopped.

        Raises FileNotFoundError, or ValueError that says what does not fit.
        """
        serializers.load_state(self, path)

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


class Group:
    """Parameters for which some numbers of an optimizer are others: its attributes. See `Optimizer.add_group`.

    An attribute that the group does not have is the optimizer's, until it is assigned.
    """

    optimizer: Optimizer
    members: dict[Any, None]
    numbers: dict[str, Any]

    def __init__(self, optimizer: Optimizer, params: list[Any], numbers: dict[str, Any]) -> None:
        vars(self).update(optimizer=optimizer, members=dict.fromkeys(params), numbers=numbers)

    def params(self) -> Iterator[Any]:
        """Yield the group's parameters."""
        yield from self.members

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "optimizer" not in vars(self):  # which copies ask for, before anything is there
            raise AttributeError(name)
        with self.in_use():
            return getattr(self.optimizer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        rule = self.optimizer
        if name not in self.numbers and name not in rule._settings():
            raise AttributeError(
                f"Group: {type(rule).__name__} has no number {name!r}; it has {', '.join(rule._settings()) or 'none'}"
            )
        self.numbers[name] = value

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Let the optimizer's attributes be the group's; so a rule need not know that there are groups."""
        attributes = vars(self.optimizer)
        before = {name: attributes[name] for name in self.numbers}
        attributes.update(self.numbers)
        try:
            yield
        finally:
            self.numbers.update({name: attributes[name] for name in self.numbers})
            attributes.update(before)


_NO_GROUP = contextlib.nullcontext()


def _in_use(group: Group | None) -> Any:
    return _NO_GROUP if group is None else group.in_use()


def _learns(param: Any) -> bool:
    return not getattr(param, "is_buffer", False)


def _with_gradient(params: Iterable[Any]) -> list[Any]:
    return [param for param in params if param.grad is not None]


def _params_of(function: str, parts: Any) -> list[Any]:
    """The parameters of Layers, Parameters, and lists of them, each once."""
    found: dict[Any, None] = {}
    for part in parts:
        if isinstance(part, Parameter):
            found[part] = None
        elif hasattr(part, "params"):
            found.update(dict.fromkeys(part.params()))
        elif isinstance(part, (list, tuple, set, Iterator)):
            found.update(dict.fromkeys(_params_of(function, part)))
        else:
            raise TypeError(f"{function}: expected Layers, Parameters and lists of them, got {type(part).__name__}")
    return list(found)


def biases_and_norms(*parts: Any) -> list[Any]:
    """Return the parameters of Layers that have one axis or none: biases, and the scales and shifts of normalisation.

    They are those that weight decay commonly leaves out: see `Optimizer.add_group`. Raises ValueError where the shape
    of a parameter is not known before the first call.

    >>> from dezero import layers as L
    >>> len(biases_and_norms(L.Linear(2), L.BatchNorm()))  # b; gamma and beta
    3
    """
    params = [param for param in _params_of("biases_and_norms", parts) if _learns(param)]
    if any(param.data is None and param.expected_shape is None for param in params):
        raise ValueError("biases_and_norms: some parameters have no shape yet; call the model once on data before")
    return [p for p in params if len(p.expected_shape if p.data is None else p.shape) <= 1]


class _Misfits:
    """What stands between an optimizer and a state, and what the state holds for which parameters."""

    def __init__(self, optimizer: Optimizer, state: Any, params: dict[str, Any]) -> None:
        self.found: list[str] = []
        self.arrays: list[tuple[str, str, Any]] = []
        rule = type(optimizer).__name__
        if not isinstance(state, dict) or "rule" not in state:
            self.found = ["it is not what state_dict returns"]
        elif state["rule"] != rule:
            self.found = [f"it is of the rule {state['rule']}"]
        else:
            self._compare_numbers(optimizer, state)
            self._compare_groups(optimizer, state)
            self._compare_arrays(optimizer, state, params)

    def _compare_numbers(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        wanted = {"rule", *optimizer._numbers_now()}
        for i, group in enumerate(optimizer.groups):
            wanted |= {f"groups/{i}/{name}" for name in ("params", *group.numbers)}
        there = {name for name in state if not name.startswith("state/")}
        missing, left_over = sorted(wanted - there), sorted(there - wanted)
        self.found += [f"missing: {', '.join(missing)}"] if missing else []
        self.found += [f"not in the optimizer: {', '.join(left_over)}"] if left_over else []
        strange = [
            name
            for name in sorted((wanted & there) - {"rule"})
            if not name.endswith("/params") and not isinstance(state[name], (int, float, np.number))
        ]
        self.found += [f"no numbers: {', '.join(strange)}"] if strange else []
        counts = {name: state[name] for name in optimizer._counts if name in state and name not in strange}
        self.found += [f"{name} counts steps, and is {x}" for name, x in counts.items() if not is_int(x) or x < 0]

    def _compare_groups(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        for i, group in enumerate(optimizer.groups):
            names = {optimizer._names[param] for param in group.members}
            if f"groups/{i}/params" in state and names != set(np.ravel(state[f"groups/{i}/params"]).tolist()):
                self.found.append(f"group {i} has other parameters; call add_group as it was called before")

    def _compare_arrays(self, optimizer: Optimizer, state: dict[str, Any], params: dict[str, Any]) -> None:
        for place, x in state.items():
            if not place.startswith("state/"):
                continue
            name, _, key = place.removeprefix("state/").rpartition("/")
            if name not in params:
                self.found.append(f"there is no parameter {name}")
            elif not isinstance(x, np.ndarray) or x.dtype.kind != "f":
                self.found.append(f"{place} is no array of floats")
            elif not serializers.fits(x.shape, shape := serializers.expected_shape(params[name])):
                self.found.append(f"{place} has shape {x.shape}, but the parameter {shape}")
            else:
                self.arrays.append((name, key, x))


# ----------------------------------------------------------------------------------------------------------------------
# Rules
# ----------------------------------------------------------------------------------------------------------------------


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
        with _in_use(group):
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
        with _in_use(group):
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
            with _in_use(group):
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
    """g += rate * p: parameters are drawn towards 0. Raises ValueError or TypeError unless `rate` is 0 or more."""

    def __init__(self, rate: float) -> None:
        self.rate = check_number("WeightDecay", "rate", rate, 0)

    def __call__(self, params: list[Any]) -> None:
        rates = {dtype: _number(lambda: self.rate, dtype) for dtype in dict.fromkeys(param.dtype for param in params)}
        for param in params:
            param.grad.data += rates[param.dtype] * param.data


class ClipGrad:
    """Scale all gradients down together when their common norm sqrt(sum of g * g) is above `max_norm`.

    Where the norm is NaN all gradients stay as they are; where it is infinite, finite elements become 0, and infinite
    ones NaN. Raises ValueError or TypeError unless `max_norm` is 0 or more.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = check_number("ClipGrad", "max_norm", max_norm, 0)

    def __call__(self, params: list[Any]) -> None:
        _clip_norm(params, lambda: self.max_norm)


class ClipGradValue:
    """Clip each element of each gradient to -max_value..max_value: an infinite one too, while NaN stays NaN.

    Raises ValueError or TypeError unless `max_value` is 0 or more.
    """

    def __init__(self, max_value: float) -> None:
        self.max_value = check_number("ClipGradValue", "max_value", max_value, 0)

    def __call__(self, params: list[Any]) -> None:
        _clip_value(params, lambda: self.max_value)


def clip_grad_norm(params: Any, max_norm: float) -> Any:
    """Do what the hook ClipGrad does to the gradients there are now, and return what their norm was.

    Args:
        params: a Layer, a Parameter, or a list of them; those without a gradient do not count.
        max_norm: what the norm is to be at most, 0 or more; math.inf to find the norm alone.

    Returns an array of no axes, float64; reading it (`float(norm)`) waits for a GPU. Raises ValueError for a `max_norm`
    that is negative or NaN, TypeError for what are no parameters.

    >>> p = Parameter(np.zeros(2))
    >>> p.grad = Variable(np.array([3.0, 4.0]))
    >>> float(clip_grad_norm([p], 1.0)), np.round(p.grad.data, 3).tolist()
    (5.0, [0.6, 0.8])
    """
    max_norm = check_number("clip_grad_norm", "max_norm", max_norm, 0)
    return _clip_norm(_with_gradient(_params_of("clip_grad_norm", [params])), lambda: max_norm)


def clip_grad_value(params: Any, max_value: float) -> None:
    """Do what the hook ClipGradValue does to the gradients of a Layer, a Parameter, or a list of them.

    Raises ValueError for a negative or NaN `max_value`, TypeError for what are no parameters.
    """
    max_value = check_number("clip_grad_value", "max_value", max_value, 0)
    _clip_value(_with_gradient(_params_of("clip_grad_value", [params])), lambda: max_value)


def _clip_norm(params: list[Any], max_norm: Callable[[], float]) -> Any:
    # in float64: the squares of large float32 gradients overflow
    squares = sum((param.grad.data.astype("f8") ** 2).sum() for param in params)
    if any(cuda.get_array_module(param.grad.data) is np for param in params):
        norm = math.sqrt(float(squares))
        rate = max_norm() / (norm + 1e-6)
        if rate < 1:
            for param in params:
                param.grad.data *= rate
        return np.asarray(norm)
    return _clip_norm_on_gpu(params, squares, max_norm) if params else np.zeros(())


def _clip_norm_on_gpu(params: list[Any], squares: Any, max_norm: Callable[[], float]) -> Any:
    """Read no value: multiply always, with 1 where the norm is small, or is no number."""
    xp = cuda.get_array_module(squares)
    norm = xp.sqrt(squares)
    rate = xp.fmin(1, _number(max_norm, np.float64) / (norm + 1e-6))
    rates = {dtype: rate.astype(dtype) for dtype in dict.fromkeys(param.grad.data.dtype for param in params)}
    for param in params:
        param.grad.data *= rates[param.grad.data.dtype]
    return norm


def _clip_value(params: list[Any], max_value: Callable[[], float]) -> None:
    limits = {dtype: _number(max_value, dtype) for dtype in dict.fromkeys(param.grad.data.dtype for param in params)}
    for param in params:
        g = param.grad.data
        limit = limits[g.dtype]
        cuda.get_array_module(g).clip(g, -limit, limit, out=g)


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
