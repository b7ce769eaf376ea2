"""L: every layer, offered in one place. Each lives in a room of its own:

layers_base       Layer, and the walk over its parts
layers_linear     Linear, Conv2d, Deconv2d, EmbedID
layers_norm       BatchNorm
layers_recurrent  RNN, LSTM: a step a call
"""

from __future__ import annotations

from dezero.core import Parameter
from dezero.layers_attention import *
from dezero.layers_base import *
from dezero.layers_linear import *
from dezero.layers_norm import *
from dezero.layers_recurrent import *
from dezero.layers_sequence import *
