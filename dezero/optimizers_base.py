"""Optimizer, what all update rules have in common, and groups of parameters with numbers of their own."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from dezero import cuda, serializers
from dezero.core import Parameter, Variable, check_number, is_int

__all__ = ["Group", "Optimizer", "biases_and_norms"]


class Optimizer:
    """An update rule. A subclass writes `update_one(param)`, which changes `param.data` by `param.grad.data`.

    Its numbers, such as `lr`, are attributes, to be changed at any time; those of a rule are checked when it is made.
    Some parameters can have others (`add_group`), `schedules` change rates from step to step, and `save_state` keeps
    all that the next step depends on.

    >>> import numpy as np
    >>> from dezero import layers as L
    >>> model = L.Linear(1, in_size=2)
    >>> from dezero.optimizers import SGD
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
        >>> from dezero.optimizers import SGD
        >>> optimizer = SGD(lr=0.1, weight_decay=1e-4).setup(model)
        >>> plain = optimizer.add_group(biases_and_norms(model), weight_decay=0)
        >>> head = optimizer.add_group(model.layers[2].W, lr=0.01)
        >>> optimizer.lr, head.lr, plain.lr, plain.weight_decay
        (0.1, 0.01, 0.1, 0)
        """
        rule = f"{type(self).__name__}.add_group"
        params = [param for param in params_of(rule, parts) if _learns(param)]
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
        if (slots := capturing_slots()) is not None:
            slots.take_part(self)
        for param in with_gradient(params):
            self._check(param)
        self._begin_step()
        if slots is not None:
            slots.action(self._begin_step)
        for hook in self.hooks:
            hook(with_gradient(params))
        self._update_groups(with_gradient(params))

    def _begin_step(self) -> None:
        """Work out what changes from step to step; in a captured step before each replay."""

    def _update_groups(self, params: list[Any]) -> None:
        by_group: dict[Group | None, list[Any]] = {}
        for param in params:
            by_group.setdefault(self._group_of(param), []).append(param)
        for group, members in by_group.items():
            with in_use(group):
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
        >>> from dezero.optimizers import Adam
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


def in_use(group: Group | None) -> Any:
    """Inside the `with` block a rule works with the numbers of a group; None stands for no group."""
    return _NO_GROUP if group is None else group.in_use()


def _learns(param: Any) -> bool:
    return not getattr(param, "is_buffer", False)


def with_gradient(params: Iterable[Any]) -> list[Any]:
    """The parameters that have one."""
    return [param for param in params if param.grad is not None]


def params_of(function: str, parts: Any) -> list[Any]:
    """The parameters of Layers, Parameters, and lists of them, each once."""
    found: dict[Any, None] = {}
    for part in parts:
        if isinstance(part, Parameter):
            found[part] = None
        elif hasattr(part, "params"):
            found.update(dict.fromkeys(part.params()))
        elif isinstance(part, (list, tuple, set, Iterator)):
            found.update(dict.fromkeys(params_of(function, part)))
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
    params = [param for param in params_of("biases_and_norms", parts) if _learns(param)]
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


def capturing_slots() -> Any:
    """kernels/gpu/slots.py, or None where no array of CuPy's has met a kernel, and so no step is being captured."""
    return sys.modules.get("dezero.kernels.gpu.slots")


def number_of_now(value: Callable[[], float], dtype: Any) -> Any:
    """Return `value()`; while a step is captured an array of no axes, which is that in each replay."""
    slots = capturing_slots()
    return value() if slots is None else slots.number(value, dtype)
