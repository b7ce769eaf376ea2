"""The workloads in PyTorch, written as its users write them. See with_dezero.py, whose twin this is."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import inputs
import numpy as np
import torch
import torch.nn.functional as TF
from torch import nn

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

Results = dict[str, Any]
Call = Callable[[], Results]


def prepare(spec: Any) -> Call:
    return globals()[spec["kind"]](spec)


def describe() -> dict[str, str]:
    return {"PyTorch": torch.__version__, "NumPy": np.__version__}


def as_array(result: Any) -> np.ndarray:
    return result.detach().numpy() if isinstance(result, torch.Tensor) else np.asarray(result)


# Training steps -------------------------------------------------------------------------------------------------------


def cnn(spec: Any) -> Call:
    conv1, conv2 = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
    fc1, fc2 = nn.Linear(3136, 128), nn.Linear(128, 10)
    blocks = conv1, nn.ReLU(), nn.MaxPool2d(2), conv2, nn.ReLU(), nn.MaxPool2d(2)
    model = nn.Sequential(*blocks, nn.Flatten(), fc1, nn.ReLU(), fc2)
    layers = {"conv1": conv1, "conv2": conv2, "fc1": fc1, "fc2": fc2}
    return training_step(model, layers, adam(model, spec), inputs.cnn(spec))


def mlp(spec: Any) -> Call:
    l0, l1, l2 = nn.Linear(784, 1000), nn.Linear(1000, 1000), nn.Linear(1000, 10)
    model = nn.Sequential(l0, nn.ReLU(), l1, nn.ReLU(), l2)
    optimizer = adam(model, spec) if spec["optimizer"] == "Adam" else torch.optim.SGD(model.parameters(), spec["lr"])
    return training_step(model, {"l0": l0, "l1": l1, "l2": l2}, optimizer, inputs.mlp(spec))


def adam(model: Any, spec: Any) -> Any:
    return torch.optim.Adam(model.parameters(), spec["lr"], eps=spec.get("eps", 1e-8))


def training_step(model: Any, layers: dict[str, Any], optimizer: Any, arrays: inputs.Arrays) -> Call:
    for name, layer in layers.items():
        W = torch.from_numpy(arrays[name])
        with torch.no_grad():
            layer.weight.copy_(W.T if isinstance(layer, nn.Linear) else W)
            layer.bias.zero_()
    x, t = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["t"])

    def call() -> Results:
        loss = TF.cross_entropy(model(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss, **{f"gradient of {name}": gradient(layer) for name, layer in layers.items()}}

    return call


def gradient(layer: Any) -> Any:
    """The gradient of a layer's weight, with axes in dezero's order."""
    return layer.weight.grad.T if isinstance(layer, nn.Linear) else layer.weight.grad


def lstm(spec: Any) -> Call:
    arrays, H = inputs.lstm(spec), spec["hidden"]
    cell = nn.LSTMCell(H, H)
    with torch.no_grad():
        for weight, kind in ((cell.weight_ih, "x"), (cell.weight_hh, "h")):
            # PyTorch's order of gates; it calls u g
            weight.copy_(torch.from_numpy(np.concatenate([arrays[f"{kind}2{gate}"].T for gate in "ifuo"])))
        cell.bias_ih.zero_()
        cell.bias_hh.zero_()
    xs, g = torch.from_numpy(arrays["xs"]), torch.from_numpy(arrays["g"])

    def call() -> Results:
        cell.zero_grad()
        state = None
        for x in xs:
            state = cell(x, state)
        h = state[0]
        loss = (h * g).sum()
        loss.backward()
        x2u, h2f = cell.weight_ih.grad[2 * H : 3 * H].T, cell.weight_hh.grad[H : 2 * H].T
        return {"h": h, "gradient of x2u": x2u, "gradient of h2f": h2f}

    return call


# Many small nodes -----------------------------------------------------------------------------------------------------


def chain(spec: Any) -> Call:
    x = torch.tensor(1.0, requires_grad=True)

    def call() -> Results:
        x.grad = None
        y = x
        for _ in range(spec["nodes"] // 2):
            y = y * 0.99 + 0.01
        y.backward()
        return {"y": y, "gradient": x.grad}

    return call


def fan(spec: Any) -> Call:
    pairs = [tuple(torch.tensor(value, requires_grad=True) for value in pair) for pair in inputs.fan(spec)]

    def call() -> Results:
        y = None
        for a, b in pairs:
            a.grad = None
            b.grad = None
            y = a * b if y is None else y + a * b
        y.backward()
        return {"y": y, "first": pairs[0][0].grad, "last": pairs[-1][1].grad}

    return call


# Operations on images -------------------------------------------------------------------------------------------------


def convolution(spec: Any) -> Call:
    x, W, g = map(torch.from_numpy, inputs.convolution(spec))
    x.requires_grad_()
    W.requires_grad_()
    *_, stride, pad = spec["sizes"]

    def forward() -> Results:
        with torch.no_grad():
            return {"y": TF.conv2d(x, W, None, stride, pad)}

    def forward_and_backward() -> Results:
        return there_and_back(lambda: TF.conv2d(x, W, None, stride, pad), g, x, W)

    return forward_and_backward if spec["backward"] else forward


def there_and_back(operation: Callable[[], Any], g: Any, *leaves: Any) -> Results:
    for leaf in leaves:
        leaf.grad = None
    y = operation()
    y.backward(g)
    return {"y": y, **{f"gradient {i}": leaf.grad for i, leaf in enumerate(leaves)}}


def operands(spec: Any) -> tuple[Any, Any]:
    x, g = map(torch.from_numpy, inputs.operation(spec))
    return x.requires_grad_(), g


def max_pool(spec: Any) -> Call:
    x, g = operands(spec)
    return lambda: there_and_back(lambda: TF.max_pool2d(x, spec["kernel_size"], spec["stride"]), g, x)


def average_pool(spec: Any) -> Call:
    x, g = operands(spec)
    return lambda: there_and_back(lambda: TF.avg_pool2d(x, spec["kernel_size"], spec["stride"]), g, x)


def relu(spec: Any) -> Call:
    x, g = operands(spec)
    return lambda: there_and_back(lambda: TF.relu(x), g, x)


def batch_norm(spec: Any) -> Call:
    x, g = operands(spec)
    C = x.shape[1]
    gamma, beta = torch.ones(C, requires_grad=True), torch.zeros(C, requires_grad=True)
    mean, var = torch.zeros(C), torch.ones(C)

    def operation() -> Any:
        return TF.batch_norm(x, mean, var, gamma, beta, training=True, momentum=0.1, eps=2e-5)

    return lambda: there_and_back(operation, g, x, gamma, beta)


# Data -----------------------------------------------------------------------------------------------------------------


class Digits(torch.utils.data.Dataset):
    def __init__(self) -> None:
        images, labels = inputs.digits()
        self.images, self.labels = torch.from_numpy(images), torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.images[index].flatten().float() / 255, self.labels[index]


def loading(spec: Any) -> Call:
    loader = torch.utils.data.DataLoader(Digits(), spec["batch"], shuffle=spec.get("shuffle", True))

    def call() -> Results:
        for count, batch in enumerate(loader, 1):
            last = count, *batch
        return dict(zip(("batches", "x", "t"), last, strict=True))

    return call
