"""DeZero: define-by-run deep learning on NumPy and CuPy, small enough to read."""

from dezero import (
    anomaly,
    core,
    core_simple,
    cuda,
    dataloaders,
    datasets,
    derivatives,
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
from dezero.anomaly import detect_anomaly
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
from dezero.derivatives import checkpoint, grad, hessian, hvp, jacobian, jvp, vjp
from dezero.drawing import graph
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
    "anomaly",
    "as_array",
    "as_variable",
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
    "grad",
    "graph",
    "hessian",
    "hvp",
    "is_simple_core",
    "jacobian",
    "jvp",
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
    "vjp",
]
