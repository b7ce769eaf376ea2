"""Weights on disk, and the state of training: npz files, an array under each name. Nothing in them is ever executed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dezero import cuda
from dezero.files import open_whole

__all__ = ["load_state", "load_weights", "save_state", "save_weights"]


def save_weights(layer: Any, path: Any) -> None:
    """Save the parameters of `layer` to the npz file `path`, to which `.npz` is added when it is not there.

    Parameters that have no data yet, because their part of the layer was never called, are left out. Raises ValueError
    when that is so of all that wait for a first call, when there are no parameters, or when two have one name.
    """
    params = _named_params("save_weights", layer)
    _check_called(layer, params)
    _write_npz(path, {name: param.data for name, param in params.items() if param.data is not None})


def _named_params(operation: str, layer: Any) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for name, param in layer.named_params():
        if name in params:  # of a dict with the keys 1 and "1", say
            raise ValueError(
                f"{operation}: two parameters of {type(layer).__name__} have one name, {name}; change a key"
            )
        params[name] = param
    return params


def _write_npz(path: Any, arrays: dict[str, Any]) -> None:
    from zipfile import ZIP_DEFLATED, ZipFile

    with open_whole(_npz_path(path)) as file, ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for name, x in arrays.items():  # an npz file is a zip of npy files
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, _as_written(x), allow_pickle=False)


def _as_written(x: Any) -> Any:
    x = cuda.as_numpy(x)
    return x.astype(np.float32) if x.dtype.name == "bfloat16" else x  # which an npy file has no name for


def _check_called(layer: Any, params: dict[str, Any]) -> None:
    made_at_first_call = [name for name, param in params.items() if param.expected_shape is not None]
    unmade = [name for name in made_at_first_call if params[name].data is None]
    if not params:
        raise ValueError(f"save_weights: {type(layer).__name__} has no parameters")
    if unmade and unmade == made_at_first_call:
        raise ValueError(
            f"save_weights: {type(layer).__name__} was never called: {', '.join(unmade)} are made at the first call; "
            "call it once on data of the right shape"
        )


def load_weights(layer: Any, path: Any, complete: bool = False) -> None:
    """Load the npz file `path` into the parameters of `layer`, all of them or, when anything does not fit, none.

    Names, shapes and dtypes are compared before any array is read: a file that does not fit takes no memory.

    Args:
        complete: whether the file must also have the parameters that wait for a first call (default: False; a file
            that `save_weights` wrote lacks those of parts that were never called).

    Raises FileNotFoundError when there is no such file, ValueError when it is no npz file of arrays or its names,
    shapes and dtypes are not those of the layer.
    """
    path = path if os.path.isfile(path) else _npz_path(path)
    params = _named_params("load_weights", layer)
    problems = _misfits(params, _read_npz("load_weights", path, _kind), complete)
    if problems:
        raise ValueError(f"load_weights: {os.fspath(path)} does not fit {type(layer).__name__}: {'; '.join(problems)}")
    for name, array in _read_npz("load_weights", path, _array).items():
        param = params[name]
        expected = param.expected_dtype if param.data is None else param.dtype
        dtype = expected or (array.dtype if array.dtype.kind == "f" else np.float32)
        param.data = cuda.as_owned_by(param.data, np.asarray(array, dtype, order="C"))


def _npz_path(path: Any) -> str:
    path = os.fspath(path)
    if not os.path.basename(path):
        raise ValueError(f"expected the name of a file for weights, got the folder {path!r}")
    return path if path.endswith(".npz") else path + ".npz"


class _Kind(NamedTuple):
    """What an npy file says of its array."""

    shape: tuple[int, ...]
    dtype: Any


def _read_npz(operation: str, path: Any, read: Callable[[Any, str], Any]) -> dict[str, Any]:
    """Return what `read(archive, name)` makes of each name in an npz file."""
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{operation}: there is no file {path}")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: read(archive, name) for name in archive.files}
    except Exception as error:  # damaged bytes fail in more ways than zipfile and NumPy name
        raise ValueError(
            f"{operation}: {path} is not an npz file of arrays, as {operation.replace('load', 'save')} writes"
        ) from error


def _array(archive: Any, name: str) -> Any:
    x = archive[name]
    if not isinstance(x, np.ndarray):  # what is no npy file in the archive comes as bytes
        raise ValueError("it holds something else")
    return x


def _kind(archive: Any, name: str) -> _Kind:
    with archive.zip.open(f"{name}.npy") as entry:  # what is no npy file has not that name
        version = np.lib.format.read_magic(entry)
        headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = headers[version](entry)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects")
    return _Kind(shape, dtype)


def _misfits(params: dict[str, Any], arrays: dict[str, _Kind], complete: bool) -> list[str]:
    """Say what stands between a layer and a file."""
    missing = [name for name, p in params.items() if name not in arrays and (complete or p.data is not None)]
    left_over = [name for name in arrays if name not in params]
    problems = [f"missing in the file: {', '.join(missing)}"] if missing else []
    problems += [f"not in the layer: {', '.join(left_over)}"] if left_over else []
    for name, array in arrays.items():
        if name in params:
            expected = expected_shape(params[name])
            if not fits(array.shape, expected):
                problems.append(f"{name} has shape {array.shape} in the file but {expected} here")
            elif array.dtype.kind not in "fiub":
                problems.append(f"{name} has dtype {array.dtype} in the file")
    return problems


def expected_shape(param: Any) -> Any:
    """The shape of a parameter, or what is known of it before the first call."""
    return param.expected_shape if param.data is None else param.shape


def fits(shape: tuple[int, ...], expected: tuple[int | None, ...] | None) -> bool:
    """Say whether a shape is the expected one, where None stands for any size, or for any shape."""
    if expected is None:
        return True
    return len(shape) == len(expected) and all(m in (None, n) for n, m in zip(shape, expected, strict=True))


# ----------------------------------------------------------------------------------------------------------------------
# The state of training
# ----------------------------------------------------------------------------------------------------------------------


def save_state(parts: Any, path: Any) -> None:
    """Save what `parts.state_dict()` returns, numbers, text and arrays, to the npz file `path`, whole or not at all.

    `parts` is an optimizer, a schedule, a GradScaler, or a dict of such by name, which go into one file:

        save_state({"optimizer": optimizer, "schedule": schedule}, "training.npz")

    Raises TypeError for what has no `state_dict`.
    """
    _write_npz(path, {name: np.asarray(x) for name, x in _states("save_state", parts).items()})


def load_state(parts: Any, path: Any) -> None:
    """Load what `save_state` has saved into parts of the same kinds, all of it or, when anything does not fit, nothing.

    Raises FileNotFoundError when there is no such file, ValueError when it is no npz file or does not fit the parts.
    """
    before = _states("load_state", parts)
    path = path if os.path.isfile(path) else _npz_path(path)
    arrays = _read_npz("load_state", path, _array)
    state = {name: x if x.ndim or _is_remembered(name) else x.item() for name, x in arrays.items()}
    try:
        _load(parts, state)
    except (TypeError, ValueError) as error:
        _load(parts, before)
        raise ValueError(f"load_state: {os.fspath(path)} does not fit: {error}") from error


def _is_remembered(name: str) -> bool:
    """Say whether it is of a parameter, which may have no axes; all else without axes is a number, or text."""
    return "/state/" in f"/{name}"


def _states(operation: str, parts: Any) -> dict[str, Any]:
    if isinstance(parts, dict):
        whole = {name: _states(operation, part) for name, part in parts.items()}
        return {f"{name}/{key}": x for name, state in whole.items() for key, x in state.items()}
    if not hasattr(parts, "state_dict"):
        raise TypeError(
            f"{operation}: expected an optimizer, a schedule or a GradScaler, or a dict of them, "
            f"got {type(parts).__name__}"
        )
    return parts.state_dict()


def _load(parts: Any, state: dict[str, Any]) -> None:
    if not isinstance(parts, dict):
        parts.load_state_dict(state)
        return
    if left_over := sorted({key.split("/")[0] for key in state} - {*parts}):
        raise ValueError(f"there is no part for {', '.join(left_over)}")
    for name, part in parts.items():
        prefix = f"{name}/"
        _load(part, {key.removeprefix(prefix): x for key, x in state.items() if key.startswith(prefix)})
