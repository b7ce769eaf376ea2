"""How weights begin."""

from __future__ import annotations

from typing import Any

import numpy as np

from dezero import cuda, random


def draw_weights(shape: tuple[int, ...], fan_in: int, like: Any, dtype: Any) -> Any:
    """Draw N(0, 1 / fan_in) (LeCun et al., "Efficient BackProp", 1998) on the CPU, and put it where `like` is."""
    weights = random.normal(*shape).astype(dtype) * np.dtype(dtype).type(np.sqrt(1 / fan_in))
    return cuda.as_owned_by(like, weights)
