"""Models: a porch that offers those of every room."""

from __future__ import annotations

from dezero.models_base import *
from dezero.models_vision import *
