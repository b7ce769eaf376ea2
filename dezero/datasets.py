"""Examples to learn from: `ds[i]` is one pair (x, t), `ds.batch(indexes)` many at once, as two arrays.

A data set of your own is a subclass of `Dataset` whose `prepare` fills `data` and `label`; or one with its own
`__getitem__` and `__len__`, when the examples do not fit in memory. Each lives in a room of its own:

    datasets_base    Dataset, collate, hold_out
    datasets_parts   TensorDataset, Subset, ConcatDataset, random_split
    datasets_drawn   Spiral, SinCurve
    datasets_files   PublishedDataset, and the kinds of files that sets are read from
    datasets_images  MNIST, MiniMNIST, FashionMNIST, CIFAR10, CIFAR100, ImageNet's labels
    datasets_text    Shakespeare
"""

from __future__ import annotations

from dezero.datasets_base import *
from dezero.datasets_drawn import *
from dezero.datasets_files import *
from dezero.datasets_images import *
from dezero.datasets_parts import *
from dezero.datasets_text import *
