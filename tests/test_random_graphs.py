"""Random programs of 50 to 500 operations: their values and gradients of two orders are PyTorch's.

A program is a list of instructions, made from a seed alone; nodes are numbered, the leaves first. Everything is used
by chance: often twice, sometimes never. `python tests/test_random_graphs.py SEED` prints a program.
"""

import sys
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from operations.row import import_torch

from dezero import functions as F
from dezero.core import Variable, no_grad

ORDINARY, THOROUGH = range(40), range(40, 1000)

# ----------------------------------------------------------------------------------------------------------------------
# What programs are made of: `m` is F, or PyTorch under the same names. Results stay within a few units.
# ----------------------------------------------------------------------------------------------------------------------

ONE = {
    "sin": lambda m, x: m.sin(x),
    "cos": lambda m, x: m.cos(2 * x),
    "tanh": lambda m, x: m.tanh(x),
    "sigmoid": lambda m, x: m.sigmoid(x),
    "arctan": lambda m, x: m.arctan(x),
    "erf": lambda m, x: m.erf(x),
    "exp": lambda m, x: m.exp(-x * x),
    "log": lambda m, x: m.log(1 + x * x),
    "sqrt": lambda m, x: m.sqrt(0.5 + x**2),
    "power": lambda m, x: (1 + m.abs(x)) ** 0.7,
    "reciprocal": lambda m, x: 2 / (1.5 + x * x),
    "relu": lambda m, x: m.relu(x),
    "softplus": lambda m, x: m.softplus(x),
    "gelu": lambda m, x: m.gelu(x),
    "clip": lambda m, x: m.clip(x, -0.9, 0.8),
}
TWO = {
    "add": lambda m, x, y: (x + y) * 0.6,
    "sub": lambda m, x, y: m.tanh(x - y),
    "mul": lambda m, x, y: m.tanh(x * y),
    "div": lambda m, x, y: x / (1.5 + y * y),
    "maximum": lambda m, x, y: m.maximum(x, y),
    "minimum": lambda m, x, y: m.minimum(x, y),
    "hypot": lambda m, x, y: m.sqrt(0.3 + x * x + y * y),
}
PRODUCTS = {
    "matmul": lambda m, x, y: m.tanh(m.matmul(x, y)),
    "concat": lambda m, x, y, axis: m.concat([x, y], axis),
    "stack": lambda m, x, y, axis: m.mean(m.stack([x, y, x], axis), axis, False),
    "where": lambda m, x, y, mask: m.where(mask, x, y),
}
ALONG = {  # along an axis
    "sum": lambda m, x, axis: m.sum(x, axis, False) * 0.4,
    "mean": lambda m, x, axis: m.mean(x, axis, True),
    "max": lambda m, x, axis: m.max(x, axis),
    "logsumexp": lambda m, x, axis: m.logsumexp(x, axis) * 0.5,
    "softmax": lambda m, x, axis: m.softmax(x, axis) * 3,
    "log_softmax": lambda m, x, axis: m.log_softmax(x, axis) * 0.3,
    "cumsum": lambda m, x, axis: m.tanh(m.cumsum(x, axis)),
    "normalised": lambda m, x, axis: (x - m.mean(x, axis, True)) / m.sqrt(m.var(x, axis) + 0.3),
    "layer_norm": lambda m, x, axis: m.layer_norm(x, x.shape[axis:], None, None, 0.2),
    "flip": lambda m, x, axis: m.flip(x, (axis,)),
    "expand_dims": lambda m, x, axis: m.expand_dims(x, axis),
    "squeeze": lambda m, x, axis: m.squeeze(x, axis),
    "half": lambda m, x, axis: x[(slice(None),) * axis + (slice(0, (x.shape[axis] + 1) // 2),)],
    "first": lambda m, x, axis: x[(slice(None),) * axis + (0,)],
    "twice": lambda m, x, axis: m.take(x, np.array([0, -1, 0]), axis),
}
WHOLE = {
    "transpose": lambda m, x: m.transpose(x),
    "flatten": lambda m, x: x.reshape(-1),
    "column": lambda m, x: x.reshape((-1, 1)),
    "total": lambda m, x: m.tanh(m.sum(x, tuple(range(x.ndim)), False)),
}
OPERATIONS = {**ONE, **TWO, **PRODUCTS, **ALONG, **WHOLE}


def torch_names(torch):
    """PyTorch's operations under the names of F."""
    functional = torch.nn.functional
    ours = {
        "max": lambda x, axis: torch.amax(x, axis),
        "var": lambda x, axis: torch.var(x, axis, correction=0, keepdim=True),
        "transpose": lambda x: x.permute(tuple(reversed(range(x.ndim)))),
        "expand_dims": torch.unsqueeze,
        "take": lambda x, i, axis: torch.index_select(x, axis, torch.tensor(i % x.shape[axis])),
        "where": lambda mask, x, y: torch.where(torch.tensor(mask), x, y),
        "softplus": functional.softplus,
        "gelu": functional.gelu,
        "layer_norm": functional.layer_norm,
    }
    return SimpleNamespace(**{**vars(torch), **ours})


DEZERO = SimpleNamespace(**{**vars(F), "max": F.max, "var": lambda x, axis: F.var(x, axis, keepdims=True)})


# ----------------------------------------------------------------------------------------------------------------------
# Programs
# ----------------------------------------------------------------------------------------------------------------------


class Instruction(NamedTuple):
    operation: str
    inputs: tuple[int, ...]
    details: tuple = ()


class Program(NamedTuple):
    leaves: list[np.ndarray]
    instructions: list[Instruction]
    outputs: list[tuple[int, np.ndarray]]  # nodes, and what their elements weigh in the result

    def __str__(self):
        lines = [f"v{i} = leaf {leaf.shape}" for i, leaf in enumerate(self.leaves)]
        for i, (operation, inputs, details) in enumerate(self.instructions, start=len(self.leaves)):
            lines.append(f"v{i} = {operation}({', '.join([*(f'v{j}' for j in inputs), *map(repr, details)])})")
        return "\n".join([*lines, f"result: {', '.join(f'v{node}' for node, _ in self.outputs)}"])


def build(seed, length=None):
    """Make a program of `length` instructions; a shorter one is the beginning of a longer one."""
    rng = np.random.default_rng(seed)
    drawn = int(rng.integers(50, 501))
    leaves = [rng.standard_normal(rng.integers(1, 5, size=rng.integers(0, 4))) for _ in range(rng.integers(2, 8))]
    values, instructions = list(leaves), []
    while len(instructions) < (drawn if length is None else length):
        instruction = draw(rng, values)
        y = attempt(instruction, values)
        if y is not None:
            instructions.append(instruction)
            values.append(y)
    used = {i for instruction in instructions for i in instruction.inputs}
    ends = [i for i in range(len(leaves), len(values)) if i not in used]
    kept = [i for i in ends if i % 4] or ends  # a branch in four is never used
    return Program(
        leaves, instructions, [(i, np.cos(np.arange(values[i].size)).reshape(values[i].shape)) for i in kept]
    )


def draw(rng, values):
    """Draw an operation and its inputs: half of the time a recent one, else any, leaves too."""
    room = (ONE, TWO, PRODUCTS, ALONG, WHOLE)[rng.choice(5, p=[0.3, 0.27, 0.13, 0.25, 0.05])]
    operation = str(rng.choice(list(room)))
    recent = max(0, len(values) - 6)
    count = 2 if room in (TWO, PRODUCTS) else 1
    inputs = tuple(int(rng.integers(recent if rng.random() < 0.5 else 0, len(values))) for _ in range(count))
    details = ()
    if room is ALONG or operation in ("concat", "stack"):
        details = (int(rng.integers(0, max(1, values[inputs[0]].ndim))),)
    if operation == "where":
        details = (rng.random(values[inputs[0]].shape) < 0.5,)
    return Instruction(operation, inputs, details)


def attempt(instruction, values):
    """The value of an instruction, or None where its inputs do not fit it or the result would be large."""
    if instruction.operation in ALONG and not values[instruction.inputs[0]].ndim:
        return None  # NumPy lets a number pass as having one axis, PyTorch does not always
    try:
        with no_grad():
            y = execute(DEZERO, instruction, [Variable(v) for v in values]).data
    except (ValueError, IndexError):
        return None
    return y if 0 < y.size <= 64 and y.ndim <= 4 and np.abs(y).max() < 20 else None


def execute(m, instruction, nodes):
    operation, inputs, details = instruction
    return OPERATIONS[operation](m, *(nodes[i] for i in inputs), *details)


def run(m, program, leaves, constant=lambda x: x, order=None):
    """The program's result, one number; `order` is another order of its instructions."""
    nodes = dict(enumerate(leaves))
    for i in order or range(len(program.instructions)):
        nodes[len(leaves) + i] = execute(m, program.instructions[i], nodes)
    return sum((nodes[i] * constant(weights)).sum() for i, weights in program.outputs)


def another_order(program, seed):
    """The instructions in an order that chance gave, each after those whose results it takes."""
    rng, first = np.random.default_rng(seed), len(program.leaves)
    waiting, order, done = list(range(len(program.instructions))), [], set(range(first))
    while waiting:
        ready = [i for i in waiting if done.issuperset(program.instructions[i].inputs)]
        i = int(rng.choice(ready))
        waiting.remove(i)
        order.append(i)
        done.add(first + i)
    return order


# ----------------------------------------------------------------------------------------------------------------------
# Gradients of two orders
# ----------------------------------------------------------------------------------------------------------------------


def directions(program):
    rng = np.random.default_rng(len(program.instructions))
    return [rng.standard_normal(leaf.shape) for leaf in program.leaves]


def with_dezero(program, dtype=np.float64, order=None):
    """Value, gradients, and gradients of the gradients along a direction."""
    leaves = [Variable(leaf.astype(dtype)) for leaf in program.leaves]
    y = run(DEZERO, program, leaves, lambda x: x.astype(dtype), order)
    y.backward(create_graph=True)
    gradients = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.cleargrad()
    used = [(gx, v.astype(dtype)) for gx, v in zip(gradients, directions(program), strict=True) if gx is not None]
    slope = sum((gx * v).sum() for gx, v in used)
    if slope.creator is not None:
        slope.backward()
    return [y.data, *map(array_of, gradients, leaves), *(array_of(leaf.grad, leaf) for leaf in leaves)]


def array_of(gradient, leaf):
    return np.zeros_like(leaf.data) if gradient is None else gradient.data


def with_torch(program):
    torch = import_torch()
    leaves = [torch.tensor(leaf, requires_grad=True) for leaf in program.leaves]
    y = run(torch_names(torch), program, leaves, torch.tensor)
    gradients = torch.autograd.grad(y, leaves, create_graph=True, materialize_grads=True)
    slope = sum((gx * torch.tensor(v)).sum() for gx, v in zip(gradients, directions(program), strict=True))
    second = torch.autograd.grad(slope, leaves, materialize_grads=True) if slope.requires_grad else 0 * gradients
    return [x.numpy(force=True) for x in (y, *gradients, *second)]


def agree(found, wanted, tolerance=1e-8):
    return all(
        y.shape == z.shape and np.allclose(y, z, rtol=tolerance, atol=tolerance * max(1, np.abs(z).max()))
        for y, z in zip(found, wanted, strict=True)
    )


def shortest(seed):
    """The shortest beginning of a program on which we and PyTorch differ, and how to run it."""
    length = next(n for n in range(1, 501) if not agree(with_dezero(build(seed, n)), with_torch(build(seed, n))))
    program = build(seed, length)
    return f"with_dezero(program) and with_torch(program) differ for program = build({seed}, {length}):\n{program}"


@pytest.mark.parametrize("seed", [*ORDINARY, *(pytest.param(seed, marks=pytest.mark.thorough) for seed in THOROUGH)])
def test_gradients_of_two_orders_are_those_of_torch(seed):
    program = build(seed)
    assert agree(with_dezero(program), with_torch(program)), shortest(seed)


@pytest.mark.parametrize("seed", range(10))
def test_gradients_do_not_depend_on_the_order_of_use(seed):
    program = build(seed)
    assert agree(with_dezero(program, order=another_order(program, seed)), with_dezero(program), 1e-10)


@pytest.mark.parametrize("seed", range(10))
def test_float32_stays_float32_through_the_whole_graph(seed):
    program = build(seed)
    found = with_dezero(program, np.float32)
    assert {x.dtype for x in found} == {np.dtype(np.float32)}
    assert agree(found[: 1 + len(program.leaves)], with_dezero(program)[: 1 + len(program.leaves)], 1e-3)


def test_programs_use_every_operation_and_have_50_to_500_nodes():
    programs = [build(seed) for seed in ORDINARY]
    assert {i.operation for program in programs for i in program.instructions} == set(OPERATIONS)
    assert all(50 <= len(program.instructions) <= 500 for program in programs)


def test_some_nodes_are_used_often_and_some_never():
    program = build(0)
    uses = [i for instruction in program.instructions for i in instruction.inputs]
    assert max(map(uses.count, set(uses))) > 3
    ends = set(range(len(program.leaves), len(program.leaves) + len(program.instructions))) - set(uses)
    assert ends > {node for node, _ in program.outputs}


if __name__ == "__main__":
    print(build(int(sys.argv[1])))
