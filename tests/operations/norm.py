"""Rows of functions_norm: normalisation and dropout. What differs between training and use is in test_functions.py."""

import numpy as np

from operations.row import numbers, on, refuses, row

X, IMAGES, SEQUENCES = numbers(4, 3), numbers(3, 2, 2, 3), numbers(2, 4, 5)
GAMMA, BETA = numbers(3, low=0.5, high=1.5, seed=1), numbers(3, seed=2)
ONES, ZEROS = np.ones(3), np.zeros(3)


def normalised(x, axes, eps):
    return (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + eps)


def per_channel(x, gamma, beta):
    shape = (-1,) + (1,) * (x.ndim - 2)
    x = x if gamma is None else x * gamma.reshape(shape)
    return x if beta is None else x + beta.reshape(shape)


def batch_norm(x, gamma, beta, mean, var, decay=0.9, eps=2e-5):
    return per_channel(normalised(x, (0, *range(2, x.ndim)), eps), gamma, beta)


def layer_norm(x, normalized_shape, gamma=None, beta=None, eps=1e-5):
    y = normalised(x, tuple(range(-np.size(normalized_shape), 0)), eps)
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


def group_norm(x, num_groups, gamma=None, beta=None, eps=1e-5):
    groups = x.reshape(len(x), num_groups, int(np.prod(x.shape[1:])) // num_groups)
    return per_channel(normalised(groups, -1, eps).reshape(x.shape), gamma, beta)


def instance_norm(x, gamma=None, beta=None, eps=1e-5):
    return per_channel(normalised(x, tuple(range(2, x.ndim)), eps), gamma, beta)


def torch_batch_norm(t, x, gamma, beta, mean, var, decay=0.9, eps=2e-5):
    return t.nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)


def torch_layer_norm(t, x, normalized_shape, gamma=None, beta=None, eps=1e-5):
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
    return t.nn.functional.layer_norm(x, shape, gamma, beta, eps)


def torch_instance_norm(t, x, gamma=None, beta=None, eps=1e-5):
    """Its own gamma and beta have no second order."""
    return per_channel(t.nn.functional.instance_norm(x, eps=eps) if len(x) else x, gamma, beta)


ROWS = [
    row(
        "batch_norm",
        batch_norm,
        on(X, GAMMA, BETA, mean=ZEROS, var=ONES),
        on(IMAGES, GAMMA[:2], BETA[:2], mean=ZEROS[:2], var=ONES[:2], decay=0.5, eps=1e-3),
        on(X[:3, :1], GAMMA[:1], BETA[:1], mean=ZEROS[:1], var=ONES[:1]),
        on(numbers(2, 3, 4), GAMMA, BETA, mean=ZEROS, var=ONES),
        torch=torch_batch_norm,
        bad=[
            refuses(
                "gamma must have shape (3,), one for each channel of x, got (2,)",
                X,
                GAMMA[:2],
                BETA,
                mean=ZEROS,
                var=ONES,
            ),
            refuses(
                "var must have shape (3,), one for each channel of x, got (2,)",
                X,
                GAMMA,
                BETA,
                mean=ZEROS,
                var=ONES[:2],
            ),
            refuses(
                "x must have shape (N, C), (N, C, L) or (N, C, H, W), got (3,)",
                GAMMA,
                GAMMA,
                BETA,
                mean=ZEROS,
                var=ONES,
            ),
            refuses(
                "gamma must have shape (4,), one for each channel of x, got (3,)",
                SEQUENCES,
                GAMMA,
                BETA,
                mean=ZEROS,
                var=ONES,
            ),
            refuses(
                "x (0, 3) is empty, so it has no mean to train with; use test_mode()",
                X[:0],
                GAMMA,
                BETA,
                mean=ZEROS,
                var=ONES,
            ),
        ],
    ),
    row(
        "layer_norm",
        layer_norm,
        on(X, 3),
        on(X, (3,), GAMMA, BETA),
        on(X, 3, GAMMA),
        on(SEQUENCES, (4, 5), numbers(4, 5, low=0.5, high=1.5), numbers(4, 5, seed=2)),
        on(SEQUENCES, 5, eps=1e-2),
        on(X[0], 3, GAMMA, BETA),
        on(X[:0], 3, GAMMA, BETA),
        torch=torch_layer_norm,
        bad=[
            refuses("normalized_shape must be the sizes of the last axes of x (4, 3), got (4,)", X, 4),
            refuses("gamma must have shape (3,), got (2,)", X, 3, GAMMA[:2]),
            refuses("normalized_shape must be the sizes of the last axes of x (4, 3), got ()", X, ()),
        ],
    ),
    row(
        "group_norm",
        group_norm,
        on(numbers(2, 4, 3), 2),
        on(numbers(2, 6, 2, 3), 3, numbers(6, low=0.5, high=1.5), numbers(6, seed=2)),
        on(IMAGES, 1, GAMMA[:2], BETA[:2], eps=1e-2),
        on(IMAGES, 2, GAMMA[:2]),
        on(numbers(3, 6), 2),
        on(IMAGES[:0], 2, GAMMA[:2], BETA[:2]),
        torch="group_norm",
        bad=[
            refuses("num_groups must divide the 2 channels of x (3, 2, 2, 3), got 3", IMAGES, 3),
            refuses("x must have shape (N, C, ...) and values to normalise, got (3,)", X[0], 1),
            refuses("gamma must have shape (2,), got (3,)", IMAGES, 2, GAMMA),
            refuses("beta must have shape (2,), got (3,)", IMAGES, 2, GAMMA[:2], BETA),
        ],
    ),
    row(
        "instance_norm",
        instance_norm,
        on(IMAGES),
        on(IMAGES, GAMMA[:2], BETA[:2]),
        on(SEQUENCES, eps=1e-2),
        on(SEQUENCES, None, numbers(4)),
        on(IMAGES[:0], GAMMA[:2], BETA[:2]),
        torch=torch_instance_norm,
        bad=[
            refuses("x must have shape (N, C, ...), with one axis more at least, got (4, 3)", X),
            refuses("gamma must have shape (2,), got (3,)", IMAGES, GAMMA),
        ],
    ),
    row(
        "dropout",
        lambda x, ratio: x * (1 - ratio),
        on(X, 0.0),
        on(X, 1.0),  # between them it is random: see test_functions.py
        on(X[:0], 0.0),
        torch=lambda t, x, ratio: t.dropout(x, ratio, train=True),
        bad=[
            refuses("dropout_ratio must lie in 0..1, got 1.5", X, 1.5),
            refuses("dropout_ratio must lie in 0..1, got -0.1", X, -0.1),
        ],
    ),
]
