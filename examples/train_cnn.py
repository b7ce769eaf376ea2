"""Train a small CNN on handwritten digits, and show what it learned.

    python examples/train_cnn.py --plot digits.png

Data is MiniMNIST, 6,000 digits that the package carries, or all of MNIST with `--dataset mnist`. The network is two
blocks of convolution, relu and max pooling, and two linear layers. Digits are shifted by a pixel or two while training,
so that 6,000 go a longer way; the learning rate falls along half a cosine. Same seed, same numbers.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

# Read when NumPy loads. Products of this size gain nothing from a second thread, and lose much, waiting for each other,
# when another program wants the cores. Whoever set the variable has the last word.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from tqdm import tqdm

import dezero
import dezero.functions as F
import dezero.layers as L
from dezero import DataLoader, Model, datasets, optimizers, random
from dezero.files import open_whole
from dezero.transforms import Compose, Normalize, ToFloat


class CNN(Model):
    """(N, 1, 28, 28) -> (N, 10) scores."""

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
        return self.fc2(F.dropout(x, 0.3))


def shift_at_random(x: Any, most: int = 2) -> Any:
    """Move each image (N, C, H, W) by up to `most` pixels each way, filling in zeros."""
    H, W = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (most, most), (most, most)))
    offsets = (random.uniform(len(x), 2) * (2 * most + 1)).astype(int)
    return np.stack([image[:, i : i + H, j : j + W] for image, (i, j) in zip(padded, offsets, strict=True)])


class Shifted(datasets.Dataset):
    """The images of another dataset, moved at random each time they are asked for."""

    def __init__(self, dataset: Any) -> None:
        super().__init__()
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, rows: Any) -> tuple[Any, Any]:
        x, t = self.dataset.batch(rows)
        return shift_at_random(x), t


def load_data(args: argparse.Namespace) -> tuple[Any, Any]:
    """Return the digits to train on and the digits to judge by, as float32 images (1, 28, 28) in 0..1."""
    kind: Any = datasets.MiniMNIST
    options: dict[str, Any] = {"transform": Compose([ToFloat(), Normalize(0, 255)])}
    if args.dataset == "mnist":
        kind, options["data_dir"] = datasets.MNIST, args.data_dir
    if not args.hold_out:
        return kind(train=True, **options), kind(train=False, **options)
    train_set = kind(train=True, **options)
    if args.hold_out >= len(train_set):
        raise ValueError(f"--hold-out {args.hold_out} leaves nothing of {len(train_set)} digits to train on")
    return datasets.hold_out(train_set, args.hold_out)


def train_epoch(model: Any, optimizer: Any, loader: Any, args: argparse.Namespace, epoch: int) -> tuple[float, float]:
    """Go once over the data. Returns the mean loss and accuracy on the way."""
    loss_sum = correct = seen = 0.0
    # disable=None: no bar where nobody watches, in a pipe or a file
    with tqdm(loader, desc=f"epoch {epoch + 1:2}/{args.epochs}", unit="batch", disable=None) as bar:
        for step, (x, t) in enumerate(bar):
            progress = (epoch + step / len(loader)) / args.epochs
            optimizer.alpha = args.lr * (1 + math.cos(math.pi * progress)) / 2

            y = model(x)
            loss = F.softmax_cross_entropy(y, t)
            model.cleargrads()
            loss.backward()
            optimizer.update()

            loss_sum += float(loss) * len(t)
            correct += float(F.accuracy(y, t)) * len(t)
            seen += len(t)
            bar.set_postfix_str(f"loss {loss_sum / seen:.4f}, accuracy {correct / seen:.2%}", refresh=False)
    return loss_sum / seen, correct / seen


def predict(model: Any, loader: Any) -> Any:
    """Return the scores (N, 10) of all digits of a loader, in its order."""
    with dezero.test_mode(), dezero.no_grad():
        return np.concatenate([dezero.cuda.as_numpy(model(x)) for x, _ in loader])


def judge(model: Any, loader: Any, labels: Any) -> tuple[float, float]:
    """Return loss and accuracy on all digits of a loader."""
    scores = predict(model, loader)
    labels = labels.astype(int)
    return float(F.softmax_cross_entropy(scores, labels)), float(F.accuracy(scores, labels))


def draw(path: str, model: Any, history: list[tuple[float, ...]], judged_by: str, judged: Any, scores: Any) -> None:
    """Draw loss and accuracy by epoch, the filters of the first layer, and the digits it gets wrong."""
    from matplotlib.figure import Figure  # no window, no global state: a figure of its own

    wrong = mistakes(judged.label, scores)
    rows = math.ceil(min(len(wrong), 36) / 12)
    top_height, bottom_height = 4.0, 0.5 + 1.6 * rows
    figure = Figure(figsize=(13, top_height + bottom_height), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[top_height, bottom_height])
    curves, filters = top.subfigures(1, 2, width_ratios=[1.7, 1])
    draw_curves(curves, history, judged_by)
    draw_filters(filters, dezero.cuda.as_numpy(model.conv1.W))
    draw_mistakes(bottom, judged, scores, wrong, rows)
    with open_whole(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:] or "png", dpi=100)


def draw_curves(figure: Any, history: list[tuple[float, ...]], judged_by: str) -> None:
    epochs = range(1, len(history) + 1)
    train_loss, train_accuracy, test_loss, test_accuracy = np.transpose(history)
    left, right = figure.subplots(1, 2)
    for axes, train, test, title in (
        (left, train_loss, test_loss, f"loss (final {judged_by}: {test_loss[-1]:.4f})"),
        (
            right,
            100 * train_accuracy,
            100 * test_accuracy,
            f"accuracy, % (final {judged_by}: {test_accuracy[-1]:.2%})",
        ),
    ):
        axes.plot(epochs, train, "o--", label="training (shifted digits, dropout)", color="tab:gray")
        axes.plot(epochs, test, "o-", label=judged_by, color="tab:blue")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()


def draw_filters(figure: Any, W: Any) -> None:
    figure.suptitle("first-layer filters: red adds, blue subtracts, white is 0")
    largest = abs(W).max()
    for axes, kernel in zip(figure.subplots(math.ceil(len(W) / 8), 8).flat, W, strict=False):
        axes.imshow(kernel[0], cmap="bwr", vmin=-largest, vmax=largest)
        axes.set(xticks=[], yticks=[])


def mistakes(labels: Any, scores: Any) -> Any:
    """Return the indexes of the digits it gets wrong, those where it is surest first."""
    p = F.softmax(scores).data
    wrong = np.flatnonzero(scores.argmax(axis=1) != labels)
    return wrong[np.argsort(-p[wrong].max(axis=1), kind="stable")]


def draw_mistakes(figure: Any, judged: Any, scores: Any, wrong: Any, rows: int) -> None:
    title = f"{len(wrong)} of {len(judged)} digits it gets wrong: its guess (how sure), and what it is"
    figure.suptitle(title if len(wrong) <= 12 * rows else f"{title}; the surest {12 * rows}")
    if not rows:
        return
    p = F.softmax(scores).data
    cells = list(figure.subplots(rows, math.ceil(min(len(wrong), 12 * rows) / rows), squeeze=False).flat)
    for axes in cells:
        axes.axis("off")
    for axes, i in zip(cells, wrong, strict=False):
        axes.imshow(judged.data[i, 0], cmap="gray_r")
        axes.set_title(f"{p[i].argmax()} ({p[i].max():.0%}), is {judged.label[i]}", fontsize=9)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a small CNN on handwritten digits.")
    parser.add_argument(
        "--dataset", choices=["mini", "mnist"], default="mini", help="6,000 digits carried, or all 60,000"
    )
    parser.add_argument(
        "--data-dir", help="folder of the MNIST files (default: the cache, to which they are downloaded)"
    )
    parser.add_argument("--epochs", type=positive(int), default=12)
    parser.add_argument("--batch-size", type=positive(int), default=32)
    parser.add_argument("--lr", type=positive(float), default=0.002, help="Adam's alpha at the start (default: 0.002)")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--hold-out", type=positive(int), metavar="N",
                        help="judge by the last N training digits, left out of training, and not by the test digits: "
                             "the way to choose settings")  # fmt: skip
    device = parser.add_mutually_exclusive_group()
    device.add_argument("--gpu", action="store_true", help="train on the GPU")
    device.add_argument("--cpu", dest="gpu", action="store_false", help="train on the CPU (default)")
    parser.add_argument("--out", default="train_cnn.npz", help="where the weights go (default: train_cnn.npz)")
    parser.add_argument("--plot", metavar="PNG", help="draw curves, filters and mistakes to this file")
    args = parser.parse_args()
    if not args.out.endswith(".npz") and not Path(args.out).is_dir():
        args.out += ".npz"
    check_args(parser, args)
    return args


def positive(kind: Any) -> Any:
    def parse(text: str) -> Any:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
        if value == math.inf:
            raise argparse.ArgumentTypeError(f"must be finite, got {text}")
        return value

    parse.__name__ = kind.__name__
    return parse


def seed(text: str) -> int:
    if not 0 <= int(text) < 2**32:
        raise argparse.ArgumentTypeError(f"must lie in 0..2**32 - 1, got {text}")
    return int(text)


def check_args(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Find out now what would fail after the training."""
    if args.data_dir and args.dataset != "mnist":
        parser.error("--data-dir goes with --dataset mnist; the mini set is carried by the package")
    for option, path in (("--out", args.out), ("--plot", args.plot)):
        if not path:
            continue
        folder = Path(path).absolute().parent
        if Path(path).is_dir() or not folder.is_dir():
            parser.error(
                f"{option} {path}: {'that is a folder' if folder.is_dir() else f'there is no folder {folder}'}"
            )
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            parser.error(f"{option} {path}: cannot write to {folder}: {error.strerror}")
    if args.plot:
        try:
            from matplotlib.backend_bases import FigureCanvasBase
        except ImportError:
            parser.error("--plot needs matplotlib: pip install 'dezero[plot]'")
        formats = FigureCanvasBase.get_supported_filetypes()
        if (Path(args.plot).suffix or ".png")[1:].lower() not in formats:
            parser.error(f"--plot {args.plot}: the ending must be one of {', '.join(sorted(formats))}")
    if args.gpu:
        try:
            dezero.cuda.use_gpu()
        except RuntimeError as error:
            parser.error(f"--gpu: {error}")


def main() -> int:
    args = parse_args()
    dezero.seed(args.seed)
    try:
        train_set, judged = load_data(args)
    except (OSError, ValueError) as error:
        print(f"train_cnn.py: error: {error}", file=sys.stderr)
        return 2
    train_loader = DataLoader(Shifted(train_set), args.batch_size, gpu=args.gpu)
    judged_loader = DataLoader(judged, 500, shuffle=False, gpu=args.gpu)
    model = CNN()
    if args.gpu:
        model.to_gpu()
    optimizer = optimizers.Adam(args.lr).setup(model)

    judged_by = "held-out" if args.hold_out else "test"
    history: list[tuple[float, ...]] = []
    interrupted = False
    try:
        for epoch in range(args.epochs):
            trained = train_epoch(model, optimizer, train_loader, args, epoch)
            tested = judge(model, judged_loader, judged.label)
            history.append((*trained, *tested))
            print(
                f"epoch {epoch + 1:2}: {judged_by} loss {tested[0]:.4f}, {judged_by} accuracy {tested[1]:.2%}",
                flush=True,
            )
    except KeyboardInterrupt:
        interrupted = True
        print("\ninterrupted: saving what there is", flush=True)

    if model.fc2.W.data is not None:  # it has seen at least one batch
        model.save_weights(args.out)
        print(f"weights: {args.out}")
    if args.plot and history:
        draw(args.plot, model, history, judged_by, judged, predict(model, judged_loader))
        print(f"picture: {args.plot}")
    return 130 if interrupted else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before there is anything to save, or while it is saved: files are whole or not there
        sys.exit(130)
