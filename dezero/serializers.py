"""Weights on disk: npz files, an array for each parameter under its name. Nothing in them is ever executed."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from dezero import cuda
from dezero.files import open_whole

__all__ = ["load_weights", "save_weights"]


def save_weights(layer: Any, path: Any) -> None:
    """Save the parameters of `layer` to the npz file `path`, to which `.npz` is added when it is not there.

    Parameters that have no data yet, because their layer was never called, are left out.
    """
    from zipfile import ZIP_DEFLATED, ZipFile

    with open_whole(_npz_path(path)) as file, ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for name, param in layer.named_params():
            if param.data is not None:  # an npz file is a zip of npy files
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, cuda.as_numpy(param.data), allow_pickle=False)


def load_weights(layer: Any, path: Any) -> None:
    """Load the npz file `path` into the parameters of `layer`, all of them or, when anything does not fit, none.

    Raises FileNotFoundError when there is no such file, ValueError when it is no npz file of arrays or its names and
    shapes are not those of the layer.
    """
    path = path if os.path.isfile(path) else _npz_path(path)
    arrays = _read_npz(path)
    params = dict(layer.named_params())
    problems = _misfits(params, arrays)
    if problems:
        raise ValueError(f"load_weights: {os.fspath(path)} does not fit {type(layer).__name__}: {'; '.join(problems)}")
    for name, array in arrays.items():
        param = params[name]
        if param.data is None:
            param.data = array
        else:
            param.data = cuda.get_array_module(param.data).asarray(array.astype(param.dtype, copy=False))


def _npz_path(path: Any) -> str:
    path = os.fspath(path)
    return path if path.endswith(".npz") else path + ".npz"


def _read_npz(path: Any) -> dict[str, Any]:
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"load_weights: there is no file {path}")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: _array(archive[name]) for name in archive.files}
    except Exception as error:  # damaged bytes fail in more ways than zipfile and NumPy name
        raise ValueError(f"load_weights: {path} is not an npz file of arrays: {error}") from error


def _array(x: Any) -> Any:
    if not isinstance(x, np.ndarray):  # what is no npy file in the archive comes as bytes
        raise ValueError("it holds something else")
    return x


def _misfits(params: dict[str, Any], arrays: dict[str, Any]) -> list[str]:
    """Say what stands between a layer and a file; a parameter without data yet takes any shape, or waits for a call."""
    missing = [name for name, param in params.items() if name not in arrays and param.data is not None]
    left_over = [name for name in arrays if name not in params]
    shapes = [
        f"{name} has shape {array.shape} in the file but {params[name].shape} here"
        for name, array in arrays.items()
        if name in params and params[name].data is not None and params[name].shape != array.shape
    ]
    problems = [f"missing in the file: {', '.join(missing)}"] if missing else []
    problems += [f"not in the layer: {', '.join(left_over)}"] if left_over else []
    return problems + shapes
