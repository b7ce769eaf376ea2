"""L: every layer, offered in one place. Each lives in a room of its own:

layers_base       Layer, LayerList, and the walk over their parts
layers_linear     Linear, Conv1d, Conv2d, Deconv2d, EmbedID
layers_norm       BatchNorm, LayerNorm, GroupNorm, InstanceNorm, Dropout
layers_recurrent  RNN, LSTM, GRU: a step a call
layers_sequence   SequenceRNN, SequenceLSTM, SequenceGRU: a sequence a call
layers_attention  MultiHeadAttention
"""

from __future__ import annotations

from dezero.core import Parameter
from dezero.layers_attention import *
from dezero.layers_base import *
from dezero.layers_linear import *
from dezero.layers_norm import *
from dezero.layers_recurrent import *
from dezero.layers_sequence import *
