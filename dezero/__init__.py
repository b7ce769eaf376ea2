"""DeZero: define-by-run deep learning on NumPy and CuPy, small enough to read."""

from dezero import (
    core,
    core_simple,
    cuda,
    dataloaders,
    datasets,
    functions,
    functions_conv,
    layers,
    models,
    optimizers,
    serializers,
    testing,
    transforms,
    utils,
)
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
from dezero.dataloaders import DataLoader, SeqDataLoader
from dezero.datasets import Dataset
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
    "Layer",
    "Model",
    "Parameter",
    "SeqDataLoader",
    "Variable",
    "as_array",
    "as_variable",
    "core",
    "core_simple",
    "cuda",
    "dataloaders",
    "datasets",
    "functions",
    "functions_conv",
    "is_simple_core",
    "layers",
    "models",
    "no_grad",
    "optimizers",
    "seed",
    "serializers",
    "setup_variable",
    "test_mode",
    "testing",
    "transforms",
    "using_config",
    "utils",
]
