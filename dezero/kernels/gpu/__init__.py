"""The kernels for CuPy's arrays: those of the reference that ask which module owns an array; no convolution yet."""

from __future__ import annotations

from typing import Any

from dezero.kernels import reference

_ON_THE_CPU_ALONE = {
    "average_pool",
    "average_pool_grad",
    "col2im",
    "conv2d",
    "conv2d_grad_w",
    "deconv2d",
    "im2col",
    "max_pool",
    "max_pool_gather",
    "max_pool_scatter",
}


def __getattr__(name: str) -> Any:
    if name in _ON_THE_CPU_ALONE:
        raise NotImplementedError(
            "kernels: convolution and pooling have no backend for CuPy arrays; move them with to_cpu()"
        )
    return getattr(reference, name)
