"""Optimizers: update rules, groups of parameters with numbers of their own, and hooks that look at gradients before.

optimizers_base   Optimizer, Group
optimizers_rules  SGD, MomentumSGD, Adam and the others
optimizers_hooks  WeightDecay, ClipGrad, ClipGradValue, FreezeParam

In the formulas p is a parameter and g its gradient. A rule keeps what it remembers of each parameter in
`optimizer.state`, under the parameter's name. Rates that change from step to step are the business of `schedules`.
"""

from __future__ import annotations

from dezero.optimizers_base import *
from dezero.optimizers_hooks import *
from dezero.optimizers_rules import *
