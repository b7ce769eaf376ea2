"""DeZero: define-by-run deep learning on NumPy and CuPy, small enough to read."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dezero import core, cuda, derivatives, functions, functions_conv, initializers, layers, models, optimizers
from dezero.core import (
    Config,
    Function,
    Parameter,
    Variable,
    as_array,
    as_variable,
    no_grad,
    setup_variable,
    test_mode,
    using_config,
)
from dezero.derivatives import checkpoint, grad, hessian, hvp, jacobian, jvp, vjp
from dezero.kernels import get_num_threads, set_num_threads
from dezero.layers import Layer
from dezero.models import Model
from dezero.random import seed

__version__ = "0.1.0"
is_simple_core = False

__all__ = [
    "Config",
    "DataLoader",
    "Dataset",
    "Function",
    "GradScaler",
    "Layer",
    "Model",
    "Parameter",
    "SeqDataLoader",
    "Variable",
    "anomaly",
    "as_array",
    "as_variable",
    "autocast",
    "checkpoint",
    "core",
    "core_simple",
    "cuda",
    "dataloaders",
    "datasets",
    "derivatives",
    "detect_anomaly",
    "functions",
    "functions_conv",
    "get_num_threads",
    "grad",
    "graph",
    "hessian",
    "hvp",
    "initializers",
    "is_simple_core",
    "jacobian",
    "jvp",
    "layers",
    "models",
    "no_grad",
    "optimizers",
    "schedules",
    "seed",
    "serializers",
    "set_num_threads",
    "setup_variable",
    "test_mode",
    "testing",
    "transforms",
    "using_config",
    "utils",
    "vjp",
]

# What not every program needs is imported when it is first asked for (PEP 562): `import dezero` then costs little more
# than `import numpy`. Here stand the names that live in such modules; type checkers and editors read the imports.
_LATER = {
    "DataLoader": "dataloaders",
    "Dataset": "datasets",
    "GradScaler": "precision",
    "SeqDataLoader": "dataloaders",
    "autocast": "precision",
    "detect_anomaly": "anomaly",
    "graph": "drawing",
}
_MODULES_LATER = {
    *("anomaly", "core_simple", "dataloaders", "datasets", "download", "drawing", "files", "layout", "precision"),
    *("schedules", "serializers", "testing", "transforms", "utils"),
}

if TYPE_CHECKING:
    from dezero import anomaly, core_simple, dataloaders, datasets, schedules, serializers, testing, transforms, utils
    from dezero.anomaly import detect_anomaly
    from dezero.dataloaders import DataLoader, SeqDataLoader
    from dezero.datasets import Dataset
    from dezero.drawing import graph
    from dezero.precision import GradScaler, autocast
else:

    def __getattr__(name: str) -> Any:
        if name in _MODULES_LATER:
            return importlib.import_module(f"dezero.{name}")  # which makes it an attribute
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(importlib.import_module(f"dezero.{_LATER[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LATER, *_MODULES_LATER})
