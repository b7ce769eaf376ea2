"""The workloads of gpu.py in PyTorch, written as its users write them. gpu_with_dezero.py is its twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as TF
from gpu_workloads import STAGES, Work, weights_of
from torch import nn

WARMUP = 3  # calls before a capture, as PyTorch's documentation has them


def prepare(spec: Any, arrays: Any, repeat: int = 1, capturable: bool = False, compiled: bool = False) -> Work:
    """Make a workload ready; `repeat` is how often a step calls a single operation.

    With `capturable` Adam keeps its count on the device, as a CUDA graph needs it.
    """
    if spec["kind"] == "convolution":
        return convolution(spec, arrays, repeat)
    if spec["kind"] == "lstm":
        return lstm(spec, arrays)
    return training(spec, arrays, capturable, compiled)


def fused_lstm(spec: Any, arrays: Any) -> Work:
    """All steps of the LSTM in one call, by cuDNN."""
    return lstm(spec, arrays, fused=True)


class Graphed:
    """A step as a CUDA graph: calls that warm up, in a stream of their own, one that is captured, and replays."""

    def __init__(self, step: Any) -> None:
        self.step, self.calls = step, 0
        self.stream = torch.cuda.Stream()

    def __call__(self, *batch: Any) -> Any:
        self.calls += 1
        if self.calls <= WARMUP:
            current = torch.cuda.current_stream()
            self.stream.wait_stream(current)
            with torch.cuda.stream(self.stream):
                out = self.step(*batch)
            current.wait_stream(self.stream)
            return out
        if self.calls == WARMUP + 1:
            self.inputs = [x.clone() for x in batch]
            self.graph = torch.cuda.CUDAGraph()
            # relaxed: what CuPy does meanwhile, such as giving memory back, must not break the capture off
            with torch.cuda.graph(self.graph, capture_error_mode="relaxed"):
                self.out = self.step(*self.inputs)
        else:
            for place, x in zip(self.inputs, batch, strict=True):
                place.copy_(x)
        self.graph.replay()
        return self.out


# Training steps -------------------------------------------------------------------------------------------------------


def cnn() -> Any:
    blocks = nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    blocks += nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10))


def mlp() -> Any:
    return nn.Sequential(nn.Linear(784, 1000), nn.ReLU(), nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 10))


class Block(nn.Module):
    def __init__(self, C: int, OC: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(C, OC, 3, stride, 1, bias=False), batch_norm(OC)
        self.conv2, self.bn2 = nn.Conv2d(OC, OC, 3, 1, 1, bias=False), batch_norm(OC)
        self.shortcut = None
        if stride > 1 or C != OC:
            self.shortcut = nn.Sequential(nn.Conv2d(C, OC, 1, stride, 0, bias=False), batch_norm(OC))

    def forward(self, x: Any) -> Any:
        y = TF.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return TF.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet18(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, STAGES[0], 3, 1, 1, bias=False), batch_norm(STAGES[0])
        blocks, C = [], STAGES[0]
        for OC in STAGES:
            blocks += [Block(C, OC, 1 if C == OC else 2), Block(OC, OC, 1)]
            C = OC
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(C, 10)

    def forward(self, x: Any) -> Any:
        x = self.blocks(TF.relu(self.bn(self.conv(x))))
        return self.fc(x.mean((2, 3)))


def batch_norm(C: int) -> Any:
    return nn.BatchNorm2d(C, eps=2e-5)  # dezero's


MODELS = {"cnn": cnn, "mlp": mlp, "resnet": ResNet18}


def training(spec: Any, arrays: Any, capturable: bool, compiled: bool) -> Work:
    model = MODELS[spec["kind"]]()
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        for layer, W in zip(layers, map(torch.from_numpy, weights_of(arrays)), strict=True):
            layer.weight.copy_(W.T if isinstance(layer, nn.Linear) else W)
            if layer.bias is not None:
                layer.bias.zero_()
    model.cuda()
    if spec["kind"] == "resnet":
        optimizer: Any = torch.optim.SGD(model.parameters(), spec["lr"], momentum=0.9)
    else:
        optimizer = torch.optim.Adam(model.parameters(), spec["lr"], eps=spec["eps"], capturable=capturable)
    forward = torch.compile(model, dynamic=False) if compiled else model

    def step(x: Any, t: Any) -> Any:
        loss = TF.cross_entropy(forward(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    batch = torch.from_numpy(arrays["x"]).cuda(), torch.from_numpy(arrays["t"]).cuda()
    return Work(step, batch, lambda loss: {"loss": as_numpy(loss)})


def lstm(spec: Any, arrays: Any, fused: bool = False) -> Work:
    H = spec["hidden"]
    cell = (nn.LSTM if fused else nn.LSTMCell)(H, H).cuda()
    weight_ih, weight_hh, bias_ih, bias_hh = cell.parameters()
    with torch.no_grad():
        for weight, kind in ((weight_ih, "x"), (weight_hh, "h")):
            # PyTorch's order of gates; it calls u g
            weight.copy_(torch.from_numpy(np.concatenate([arrays[f"{kind}2{gate}"].T for gate in "ifuo"])))
        bias_ih.zero_()
        bias_hh.zero_()

    def step(xs: Any, g: Any) -> Any:
        cell.zero_grad()
        if fused:
            h = cell(xs)[1][0][0]
        else:
            state = None
            for x in xs:
                state = cell(x, state)
            h = state[0]
        loss = (h * g).sum()
        loss.backward()
        return loss.detach()

    def read(loss: Any) -> dict[str, np.ndarray]:
        x2u, h2f = weight_ih.grad[2 * H : 3 * H].T, weight_hh.grad[H : 2 * H].T
        return {"loss": as_numpy(loss), "gradient of x2u": as_numpy(x2u), "gradient of h2f": as_numpy(h2f)}

    return Work(step, (torch.from_numpy(arrays["xs"]).cuda(), torch.from_numpy(arrays["g"]).cuda()), read)


def as_numpy(x: Any) -> np.ndarray:
    return x.detach().cpu().numpy()


# Convolution ----------------------------------------------------------------------------------------------------------


def convolution(spec: Any, arrays: Any, repeat: int) -> Work:
    x, W, g = (torch.from_numpy(array).cuda() for array in arrays)
    x.requires_grad_()
    W.requires_grad_()
    *_, stride, pad = spec["sizes"]
    b = W[:, 0, 0, 0].detach().clone() if spec.get("rectified") else None
    left: dict[str, Any] = {}

    def forward() -> None:
        with torch.no_grad():
            y = TF.conv2d(x, W, b, stride, pad)
            left["y"] = y if b is None else TF.relu(y, inplace=True)

    def forward_and_backward() -> None:
        x.grad = W.grad = None
        y = TF.conv2d(x, W, None, stride, pad)
        y.backward(g)
        left.update({"y": y.detach(), "gradient of x": x.grad, "gradient of W": W.grad})

    call = forward_and_backward if spec["backward"] else forward

    def step(_: Any) -> None:
        for _ in range(repeat):
            call()

    return Work(step, (torch.zeros(1).cuda(),), lambda _: {name: as_numpy(y) for name, y in left.items()})
