"""A porch: the names that DeZero programs import from here. Each lives in a room of its own."""

from __future__ import annotations

from dezero.core import max_backward_shape, reshape_sum_backward
from dezero.core import sum_array_to as sum_to
from dezero.download import cache_folder, get_file
from dezero.drawing import get_dot_graph, plot_dot_graph
from dezero.functions_conv import pair
from dezero.functions_reduction import logsumexp_array as logsumexp
from dezero.kernels import conv_outsize as get_conv_outsize
from dezero.kernels import deconv_outsize as get_deconv_outsize
from dezero.testing import array_allclose, array_equal, gradient_check, numerical_grad


def __getattr__(name: str) -> str:
    if name == "cache_dir":  # DEZERO_HOME is read when it is asked for
        return str(cache_folder())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
