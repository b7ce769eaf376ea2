"""The workloads in dezero: ours, and the published DeZero 0.0.13, whose programs are the same.

`prepare(spec)` returns a function of no arguments that does the work once and returns what came out, by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

if not hasattr(np, "int"):
    np.int = int  # type: ignore[attr-defined]  # the published DeZero uses a name that NumPy has dropped

import inputs

import dezero
import dezero.functions as F
import dezero.layers as L
from dezero import DataLoader, Dataset, Model, Variable, no_grad, optimizers
from dezero.models import MLP
from dezero.transforms import Compose, Flatten, Normalize, ToFloat

Results = dict[str, Any]
Call = Callable[[], Results]


def prepare(spec: Any) -> Call:
    return globals()[spec["kind"]](spec)


def describe() -> dict[str, str]:
    return {"dezero": dezero.__version__, "NumPy": np.__version__}


def as_array(result: Any) -> np.ndarray:
    return np.asarray(result.data if isinstance(result, Variable) else result)


# Training steps -------------------------------------------------------------------------------------------------------


class CNN(Model):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = L.Conv2d(32, kernel_size=3, pad=1)
        self.conv2 = L.Conv2d(64, kernel_size=3, pad=1)
        self.fc1 = L.Linear(128)
        self.fc2 = L.Linear(10)

    def forward(self, x: Any) -> Any:
        x = F.pooling(F.relu(self.conv1(x)), kernel_size=2, stride=2)
        x = F.pooling(F.relu(self.conv2(x)), kernel_size=2, stride=2)
        x = F.relu(self.fc1(F.flatten(x)))
        return self.fc2(x)


def cnn(spec: Any) -> Call:
    return training_step(CNN(), ("conv1", "conv2", "fc1", "fc2"), adam(spec), inputs.cnn(spec))


def mlp(spec: Any) -> Call:
    model = MLP((1000, 1000, 10), activation=F.relu)
    optimizer = adam(spec) if spec["optimizer"] == "Adam" else optimizers.SGD(spec["lr"])
    return training_step(model, ("l0", "l1", "l2"), optimizer, inputs.mlp(spec))


def adam(spec: Any) -> Any:
    return optimizers.Adam(spec["lr"], eps=spec.get("eps", 1e-8))


def training_step(model: Any, names: tuple[str, ...], optimizer: Any, arrays: inputs.Arrays) -> Call:
    layers = {name: getattr(model, name) for name in names}
    for name, layer in layers.items():
        layer.W.data = arrays[name]
    optimizer.setup(model)
    x, t = arrays["x"], arrays["t"]

    def call() -> Results:
        loss = F.softmax_cross_entropy(model(x), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        return {"loss": loss, **{f"gradient of {name}": layer.W.grad for name, layer in layers.items()}}

    return call


def lstm(spec: Any) -> Call:
    arrays = inputs.lstm(spec)
    model = L.LSTM(spec["hidden"])
    for kind in "xh":
        for gate in "fiou":
            getattr(model, f"{kind}2{gate}").W.data = arrays[f"{kind}2{gate}"]
    xs, g = arrays["xs"], arrays["g"]

    def call() -> Results:
        model.cleargrads()
        model.reset_state()
        for x in xs:
            h = model(x)
        loss = F.sum(h * g)
        loss.backward()
        return {"h": h, "gradient of x2u": model.x2u.W.grad, "gradient of h2f": model.h2f.W.grad}

    return call


# Many small nodes -----------------------------------------------------------------------------------------------------


def chain(spec: Any) -> Call:
    x = Variable(np.array(1.0, np.float32))

    def call() -> Results:
        x.cleargrad()
        y = x
        for _ in range(spec["nodes"] // 2):
            y = y * 0.99 + 0.01
        y.backward()
        return {"y": y, "gradient": x.grad}

    return call


def fan(spec: Any) -> Call:
    pairs = [(Variable(np.array(a)), Variable(np.array(b))) for a, b in inputs.fan(spec)]

    def call() -> Results:
        y = None
        for a, b in pairs:
            a.cleargrad()
            b.cleargrad()
            y = a * b if y is None else y + a * b
        y.backward()
        return {"y": y, "first": pairs[0][0].grad, "last": pairs[-1][1].grad}

    return call


# Operations on images -------------------------------------------------------------------------------------------------


def convolution(spec: Any) -> Call:
    x, W, g = map(Variable, inputs.convolution(spec))
    *_, stride, pad = spec["sizes"]

    def forward() -> Results:
        with no_grad():
            return {"y": F.conv2d(x, W, None, stride, pad)}

    def forward_and_backward() -> Results:
        return there_and_back(lambda: F.conv2d(x, W, None, stride, pad), g, x, W)

    return forward_and_backward if spec["backward"] else forward


def there_and_back(operation: Callable[[], Any], g: Any, *leaves: Any) -> Results:
    for leaf in leaves:
        leaf.cleargrad()
    y = operation()
    y.grad = g
    y.backward()
    return {"y": y, **{f"gradient {i}": leaf.grad for i, leaf in enumerate(leaves)}}


def max_pool(spec: Any) -> Call:
    x, g = map(Variable, inputs.operation(spec))
    return lambda: there_and_back(lambda: F.pooling(x, spec["kernel_size"], spec["stride"]), g, x)


def average_pool(spec: Any) -> Call:
    x, g = map(Variable, inputs.operation(spec))
    return lambda: there_and_back(lambda: F.average_pooling(x, spec["kernel_size"], spec["stride"]), g, x)


def relu(spec: Any) -> Call:
    x, g = map(Variable, inputs.operation(spec))
    return lambda: there_and_back(lambda: F.relu(x), g, x)


def batch_norm(spec: Any) -> Call:
    x, g = map(Variable, inputs.operation(spec))
    C = x.shape[1]
    gamma, beta = Variable(np.ones(C, np.float32)), Variable(np.zeros(C, np.float32))
    mean, var = np.zeros(C, np.float32), np.ones(C, np.float32)
    return lambda: there_and_back(lambda: F.batch_nrom(x, gamma, beta, mean, var), g, x, gamma, beta)


# Data -----------------------------------------------------------------------------------------------------------------


class Digits(Dataset):
    """MiniMNIST as a program for the published DeZero, which has none, would write it."""

    def prepare(self) -> None:
        self.data, self.label = inputs.digits()


def loading(spec: Any) -> Call:
    if hasattr(dezero.datasets, "MiniMNIST"):
        digits = dezero.datasets.MiniMNIST(train=True)
    else:
        digits = Digits(transform=Compose([Flatten(), ToFloat(), Normalize(0.0, 255.0)]))
    loader = DataLoader(digits, spec["batch"], shuffle=spec.get("shuffle", True))

    def call() -> Results:
        for count, batch in enumerate(loader, 1):
            last = count, *batch
        return dict(zip(("batches", "x", "t"), last, strict=True))

    return call
