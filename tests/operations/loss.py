"""Rows of functions_loss."""

from dataclasses import replace

import numpy as np

from operations.activation import sigmoid, softmax
from operations.row import numbers, on, refuses, row

X, LABELS = numbers(4, 3), np.array([2, 0, 1, 2])
A, B = numbers(2, 3), numbers(2, 3, low=-1.5, high=1.5, seed=1)
UNIT, BITS = numbers(2, 3, low=0.1, high=0.9), np.array([[1, 0, 1], [0, 0, 1]])
IMAGES, PIXELS = numbers(2, 3, 2, 2), np.array([[[0, 2], [1, 1]], [[2, 2], [0, 1]]])
IGNORED = np.array([2, -100, 1, 2])
WEIGHT = np.array([0.5, 2.0, 1.5])
P, Q = softmax(X), softmax(numbers(4, 3, seed=3))


def squared_error(x0, x1):
    return ((x0 - x1) ** 2).sum() / len(x0 - x1)


def binary_cross_entropy(p, t):
    return -(t * np.log(p) + (1 - t) * np.log(1 - p)).sum() / len(p)


def reduced(losses, reduction, weights=None):
    if reduction == "mean":
        return losses.sum() / weights.sum() if weights is not None else losses.mean()
    return losses.sum() if reduction == "sum" else losses


def nll_loss(x, t, weight=None, ignore_index=-100, reduction="mean"):
    counts = t != ignore_index
    labels = np.where(counts, t, 0)
    weights = counts * (np.ones(x.shape[1]) if weight is None else weight)[labels]
    return reduced(-np.take_along_axis(x, labels[:, None], axis=1)[:, 0] * weights, reduction, weights)


def cross_entropy(x, t, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    C, log_p = x.shape[1], np.log(softmax(x))
    shape = (-1,) + (1,) * (x.ndim - 2)
    each = np.ones(C) if weight is None else weight
    if t.dtype.kind == "f":
        t = t * (1 - label_smoothing) + label_smoothing / C
        losses = -(t * log_p * each.reshape(shape)).sum(axis=1)
        return losses.sum() / (losses.size) if reduction == "mean" else reduced(losses, reduction)
    counts = t != ignore_index
    weights = counts * each[np.where(counts, t, 0)]
    smooth = -(log_p * each.reshape(shape)).sum(axis=1) * counts / C
    losses = (1 - label_smoothing) * nll_loss(log_p, t, weight, ignore_index, "none") + label_smoothing * smooth
    return reduced(losses, reduction, weights)


def huber(x, t, delta=1.0, reduction="mean"):
    d = np.abs(x - t)
    return reduced(np.where(d < delta, 0.5 * d**2, delta * (d - 0.5 * delta)), reduction)


def kl_divergence(x, t, reduction="batchmean"):
    losses = np.where(t > 0, t * np.log(np.where(t > 0, t, 1)), 0) - t * x
    return losses.sum() / len(x) if reduction == "batchmean" else reduced(losses, reduction)


def torch_kl_div(t, x, target, reduction="batchmean"):
    losses = t.nn.functional.kl_div(x, target, reduction="none")
    return losses.sum() / len(x) if reduction == "batchmean" else reduced(losses, reduction)


def torch_huber(t, x, target, delta=1.0, reduction="mean"):
    return t.nn.functional.huber_loss(x, target, delta=delta, reduction=reduction)


BAD_LABELS = [
    refuses("labels must lie in 0..2, got 3 at index 3", X, np.array([0, 1, 2, 3])),
    refuses("labels must lie in 0..2, got -1 at index 1", X, np.array([0, -1, 2, 1])),
]


ROWS = [
    row(
        "mean_squared_error",
        squared_error,
        on(A, B),
        on(A, B[0]),
        on(A[:, 0], B[:, 0]),
        on(A[:1], B),
        torch=lambda t, a, b: ((a - b) ** 2).sum() / len(a - b),
        bad=[
            refuses(
                "shapes (4, 1) and (4,) would broadcast to (4, 4); reshape one to the other's shape", X[:, :1], X[:, 0]
            ),
            refuses("shapes (4, 3) and (2, 3) cannot broadcast", X, A),
            refuses("expected at least one row to average over, got shapes (0, 3) and (0, 3)", X[:0], X[:0]),
            refuses("expected at least one row to average over, got shapes () and ()", np.array(1.0), np.array(2.0)),
        ],
    ),
    row(
        "mean_squared_error_simple",
        squared_error,
        on(A, B),
        on(A, B[0]),
        torch=lambda t, a, b: ((a - b) ** 2).sum() / len(a - b),
        speaks_as=("sub",),
    ),
    row(
        "softmax_cross_entropy",
        cross_entropy,
        on(X, LABELS),
        on(X[:1], LABELS[:1]),
        torch="cross_entropy",
        bad=[
            *BAD_LABELS,
            refuses(
                "labels must be integers, got float64; use t.astype(int)", X, LABELS.astype(float), error=TypeError
            ),
            refuses("labels must be integers, got bool; use t.astype(int)", X, LABELS > 0, error=TypeError),
            refuses("expected x (N, C) and t (N,), got x (4, 3) and t (3,)", X, LABELS[:3]),
            refuses("expected x (N, C) and t (N,), got x (4, 3) and t (4, 3)", X, np.eye(3, dtype=int)[LABELS]),
            refuses("expected x (N, C) and t (N,), got x (3,) and t (1,)", X[0], LABELS[:1]),
            refuses("x (0, 3) is empty, so there is no loss to average", X[:0], LABELS[:0]),
            refuses("expected Variables, arrays or numbers, got list [2, 0, 1, 2]", X, [2, 0, 1, 2], error=TypeError),
        ],
    ),
    row(
        "softmax_cross_entropy_simple",
        cross_entropy,
        on(X, LABELS),
        torch="cross_entropy",
        bad=[replace(refusal, by="softmax_cross_entropy") for refusal in BAD_LABELS],
    ),
    row(
        "sigmoid_cross_entropy",
        lambda x, t: binary_cross_entropy(sigmoid(x), t),
        on(A, UNIT),
        on(A[0], UNIT[0]),
        on(A, BITS),
        torch=lambda t, x, y: (
            t.nn.functional.binary_cross_entropy_with_logits(x, y.to(x.dtype), reduction="sum") / len(x)
        ),
        bad=[
            refuses("expected x and t of one shape, got x (2, 3) and t (3,)", A, BITS[0]),
            refuses("expected at least one row to average over, got x (0, 3)", A[:0], BITS[:0]),
        ],
    ),
    row(
        "binary_cross_entropy",
        binary_cross_entropy,
        on(UNIT, BITS),
        on(UNIT, Q[:2]),
        on(UNIT[0], BITS[0]),
        torch=lambda t, p, y: t.nn.functional.binary_cross_entropy(p, y.to(p.dtype), reduction="sum") / len(p),
        tolerance=1e-9,  # it adds 1e-12 inside its logarithms
        integers=False,
        bad=[
            refuses("expected x and t of one shape, got x (2, 3) and t (3, 2)", UNIT, BITS.T),
            refuses("expected at least one row to average over, got x (0, 3)", UNIT[:0], BITS[:0]),
            refuses(
                "p must lie in 0..1, got 0.5..1.5; sigmoid_cross_entropy takes scores",
                np.array([0.5, 1.5]),
                BITS[0, :2],
            ),
        ],
    ),
    row(
        "cross_entropy",
        cross_entropy,
        on(X, LABELS),
        on(X, LABELS, reduction="sum"),
        on(X, LABELS, reduction="none"),
        on(X, LABELS, weight=WEIGHT),
        on(X, IGNORED, weight=WEIGHT, label_smoothing=0.1),
        on(X, IGNORED, label_smoothing=0.1, reduction="none"),
        on(X, LABELS, ignore_index=2),
        on(IMAGES, PIXELS, weight=WEIGHT),
        on(IMAGES, PIXELS, ignore_index=1, reduction="none"),
        on(X, Q),
        on(X, Q, weight=WEIGHT, label_smoothing=0.2),
        on(X, Q, reduction="none"),
        on(IMAGES, softmax(numbers(2, 3, 2, 2, seed=3)), reduction="sum"),
        on(X[:0], LABELS[:0], reduction="sum"),
        on(X[:0], LABELS[:0], reduction="none"),
        torch="cross_entropy",
        integers=False,  # integers of x's shape are no probabilities
        bad=[
            refuses(
                "expected x (N, C, ...) and integer labels t (N, ...), or probabilities, floats, of x's shape, "
                "got x (4, 3) and t (3,)",
                X,
                LABELS[:3],
            ),
            refuses("label_smoothing must lie in 0..1, got 2.0", X, LABELS, label_smoothing=2.0),
            refuses("reduction must be 'mean', 'sum' or 'none', got 'average'", X, LABELS, reduction="average"),
            refuses("weight must be an array (3,), one number for each class, got (2,)", X, LABELS, weight=WEIGHT[:2]),
            refuses(
                "there is nothing to average, t (4,) has no label that is not ignored or of weight 0",
                X,
                np.full(4, -100),
            ),
            refuses(
                "labels must be integers, got float64; use t.astype(int)", X, LABELS.astype(float), error=TypeError
            ),
            refuses("labels must lie in 0..2, got 3 at index 3", X, np.array([0, 1, 2, 3])),
            refuses("labels must lie in 0..2, got -1 at index 1", X, np.array([0, -1, 2, 1])),
            refuses(
                "expected x (N, C, ...) and integer labels t (N, ...), or probabilities, floats, of x's shape, "
                "got x (3,) and t (1,)",
                X[0],
                LABELS[:1],
            ),
            refuses("there is nothing to average, shape (0,)", X[:0], Q[:0]),
            refuses("expected Variables, arrays or numbers, got list [2, 0, 1, 2]", X, [2, 0, 1, 2], error=TypeError),
        ],
    ),
    row(
        "nll_loss",
        nll_loss,
        on(np.log(P), LABELS),
        on(np.log(P), LABELS, reduction="sum"),
        on(np.log(P), IGNORED, reduction="none"),
        on(np.log(P), IGNORED, weight=WEIGHT),
        on(IMAGES, PIXELS, weight=WEIGHT, ignore_index=0),
        on(X[:0], LABELS[:0], reduction="sum"),
        torch="nll_loss",
        bad=[
            refuses(
                "expected x (N, C, ...) and integer labels t (N, ...), got x (4, 3) and t (3,)",
                X,
                LABELS[:3],
            ),
            refuses("reduction must be 'mean', 'sum' or 'none', got 'average'", X, LABELS, reduction="average"),
            refuses(
                "there is nothing to average, t (4,) has no label that is not ignored or of weight 0",
                X,
                np.full(4, -100),
            ),
            refuses("labels must lie in 0..2, got 3 at index 3", X, np.array([0, 1, 2, 3])),
            refuses("expected x (N, C, ...) and integer labels t (N, ...), got x (4, 3) and t (4, 3)", X, Q),
            refuses("expected Variables, arrays or numbers, got list [2, 0, 1, 2]", X, [2, 0, 1, 2], error=TypeError),
        ],
    ),
    row(
        "l1_loss",
        lambda x, t, reduction="mean": reduced(np.abs(x - 1.0 * t), reduction),
        on(A, B),
        on(A, B, reduction="sum"),
        on(A, B, reduction="none"),
        on(A[:0], B[:0], reduction="sum"),
        torch="l1_loss",
        bad=[
            refuses("shapes (2, 3) and (4, 3) cannot broadcast", A, X),
            refuses("reduction must be 'mean', 'sum' or 'none', got 'average'", A, B, reduction="average"),
            refuses("there is nothing to average, shape (0, 3)", A[:0], B[:0]),
            refuses(
                "shapes (4, 1) and (4,) would broadcast to (4, 4); reshape one to the other's shape", X[:, :1], X[:, 0]
            ),
        ],
    ),
    row(
        "huber_loss",
        huber,
        on(A, B),
        on(2 * A, B, delta=0.5, reduction="sum"),
        on(2 * A, B, reduction="none"),
        on(A[:0], B[:0], reduction="sum"),
        torch=torch_huber,
        bad=[
            refuses("shapes (2, 3) and (4, 3) cannot broadcast", A, X),
            refuses("delta must be above 0, got 0", A, B, delta=0),
            refuses("reduction must be 'mean', 'sum' or 'none', got 'average'", A, B, reduction="average"),
            refuses("there is nothing to average, shape (0, 3)", A[:0], B[:0]),
        ],
    ),
    row(
        "kl_divergence",
        kl_divergence,
        on(np.log(P), Q),
        on(np.log(P), Q, reduction="mean"),
        on(np.log(P), Q, reduction="sum"),
        on(np.log(P), Q, reduction="none"),
        on(np.log(P[:0]), Q[:0], reduction="sum"),
        torch=torch_kl_div,
        bad=[
            refuses("expected x and t of one shape, got x (2, 3) and t (3,)", A, B[0]),
            refuses("reduction must be 'batchmean', 'mean', 'sum' or 'none', got 'average'", A, B, reduction="average"),
            refuses("there is no row to average over, shape (0, 3)", A[:0], B[:0]),
            refuses("there is no row to average over, shape ()", np.array(-1.0), np.array(0.5)),
        ],
    ),
    row(
        "accuracy",
        lambda y, t: (y.argmax(axis=1) == t).mean(),
        on(X, LABELS),
        on(X, np.array([0, 0, 0, 0])),
        torch=lambda t, y, labels: (y.argmax(1) == labels).to(y.dtype).mean(),
        order=0,
        why="it counts",
        keeps_dtype=False,
        bad=[
            refuses("expected scores y (N, C) and labels t (N,), N > 0, got y (4, 3) and t (2,)", X, LABELS[:2]),
            refuses("expected scores y (N, C) and labels t (N,), N > 0, got y (0, 3) and t (0,)", X[:0], LABELS[:0]),
            refuses("expected Variables, arrays or numbers, got list [2, 0, 1, 2]", X, [2, 0, 1, 2], error=TypeError),
        ],
    ),
]
