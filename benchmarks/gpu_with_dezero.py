"""The workloads of gpu.py in dezero. gpu_with_torch.py is its twin."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from gpu_workloads import STAGES, Work, weights_of
from with_dezero import CNN

import dezero.functions as F
import dezero.layers as L
from dezero import Model, Variable, autocast, cuda, no_grad, optimizers, test_mode
from dezero.models import MLP


def prepare(spec: dict[str, Any], arrays: Any, repeat: int = 1) -> Work:
    """Make a workload ready; `repeat` is how often a step calls a single operation."""
    if spec["kind"] == "convolution":
        return convolution(spec, arrays, repeat)
    return globals()[spec["kind"]](spec, arrays)


# Training steps -------------------------------------------------------------------------------------------------------


class Block(Model):
    def __init__(self, C: int, OC: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = L.Conv2d(OC, 3, stride, 1, nobias=True), L.BatchNorm()
        self.conv2, self.bn2 = L.Conv2d(OC, 3, 1, 1, nobias=True), L.BatchNorm()
        self.shortcut = None
        if stride > 1 or C != OC:
            self.shortcut = L.Conv2d(OC, 1, stride, 0, nobias=True)
            self.bn3 = L.BatchNorm()

    def forward(self, x: Any) -> Any:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.shortcut is None else self.bn3(self.shortcut(x))))


class ResNet18(Model):
    """For small images: He et al., arXiv:1512.03385, with a 3x3 convolution and no pooling in front."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = L.Conv2d(STAGES[0], 3, 1, 1, nobias=True), L.BatchNorm()
        self.blocks, C = [], STAGES[0]
        for OC in STAGES:
            self.blocks += [Block(C, OC, 1 if C == OC else 2), Block(OC, OC, 1)]
            C = OC
        self.fc = L.Linear(10)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.bn(self.conv(x)))
        for block in self.blocks:
            x = block(x)
        return self.fc(F.mean(x, axis=(2, 3)))


def cnn(spec: Any, arrays: Any) -> Work:
    return training(CNN(), optimizers.Adam(spec["lr"], eps=spec["eps"]), arrays, spec.get("precision"))


def mlp(spec: Any, arrays: Any) -> Work:
    return training(MLP((1000, 1000, 10), activation=F.relu), optimizers.Adam(spec["lr"], eps=spec["eps"]), arrays)


def resnet(spec: Any, arrays: Any) -> Work:
    return training(ResNet18(), optimizers.MomentumSGD(spec["lr"], 0.9), arrays, spec.get("precision"))


def training(model: Any, optimizer: Any, arrays: Any, precision: str | None = None) -> Work:
    with test_mode(), no_grad():  # makes the weights, and leaves running statistics as they are
        model(arrays["x"][:2])
    params = [param for name, param in model.named_params() if name.endswith("/W")]
    for param, W in zip(params, weights_of(arrays), strict=True):
        param.data = W.copy()
    model.to_gpu()
    optimizer.setup(model)

    def step(x: Any, t: Any) -> Any:
        with autocast("float16") if precision == "float16" else contextlib.nullcontext():
            loss = F.softmax_cross_entropy(model(x), t)
        model.cleargrads()
        loss.backward()
        optimizer.update()
        return loss

    batch = cuda.as_cupy(arrays["x"]), cuda.as_cupy(arrays["t"])
    return Work(step, batch, lambda loss: {"loss": cuda.as_numpy(loss)})


def lstm(spec: Any, arrays: Any) -> Work:
    model = L.LSTM(spec["hidden"], in_size=spec["hidden"])
    for kind in "xh":
        for gate in "fiou":
            getattr(model, f"{kind}2{gate}").W.data = arrays[f"{kind}2{gate}"].copy()
    model.to_gpu()

    def step(xs: Any, g: Any) -> Any:
        model.cleargrads()
        model.reset_state()
        for x in xs:
            h = model(x)
        loss = F.sum(h * g)
        loss.backward()
        return loss

    def read(loss: Any) -> dict[str, np.ndarray]:
        grads = {f"gradient of {name}": getattr(model, name).W.grad for name in ("x2u", "h2f")}
        return {name: cuda.as_numpy(x) for name, x in {"loss": loss, **grads}.items()}

    return Work(step, (cuda.as_cupy(arrays["xs"]), cuda.as_cupy(arrays["g"])), read)


# Convolution ----------------------------------------------------------------------------------------------------------


def convolution(spec: Any, arrays: Any, repeat: int) -> Work:
    x, W, g = (Variable(cuda.as_cupy(array)) for array in arrays)
    *_, stride, pad = spec["sizes"]
    f, b = F.conv2d, None
    if spec.get("rectified"):
        f, b = F.conv2d_relu, cuda.as_cupy(arrays[1][:, 0, 0, 0])
    left: dict[str, Any] = {}  # not returned: what a captured step returns is copied

    def forward() -> None:
        with no_grad():
            left["y"] = f(x, W, b, stride, pad)

    def forward_and_backward() -> None:
        x.cleargrad()
        W.cleargrad()
        y = F.conv2d(x, W, None, stride, pad)
        y.grad = g
        y.backward()
        left.update({"y": y.data, "gradient of x": x.grad, "gradient of W": W.grad})

    call = forward_and_backward if spec["backward"] else forward

    def step(_: Any) -> None:
        for _ in range(repeat):
            call()

    # `capture` looks at the arguments to see where it is
    batch = (cuda.as_cupy(np.zeros(1, np.float32)),)
    return Work(step, batch, lambda _: {name: cuda.as_numpy(y) for name, y in left.items()})
