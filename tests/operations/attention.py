"""Rows of functions_attention: embeddings and attention."""

import numpy as np

from operations.row import numbers, on, refuses, row

W, IDS = numbers(4, 3), np.array([[1, 0, 3], [1, 1, 2]])
QUERY, KEY, VALUE = numbers(2, 3, 4), numbers(2, 5, 4, seed=1), numbers(2, 5, 2, seed=2)
MASK = np.arange(15).reshape(3, 5) % 4 != 0
NOTHING = MASK & np.array([[True], [False], [True]])  # the second query may look at no key


def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
    scores = query @ key.swapaxes(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = np.tri(*scores.shape[-2:], dtype=bool)
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask
    e = np.exp(scores)
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total > 0, total, 1) @ value


def torch_attention(t, query, key, value, **options):
    """The one of PyTorch's implementations that has a second order."""
    with t.nn.attention.sdpa_kernel(t.nn.attention.SDPBackend.MATH):
        return t.nn.functional.scaled_dot_product_attention(query, key, value, **options)


def one_hot(x, num_classes=None, dtype=np.float32):
    return np.eye(num_classes or x.max() + 1)[x]


def embedding(name):
    return row(
        name,
        lambda x, W: W[x],
        on(IDS, W),
        on(IDS[0], W),
        on(np.array(2), W),
        on(IDS[:0], W, torch=False),  # PyTorch cannot derive it twice
        torch=lambda t, x, W: t.nn.functional.embedding(x, W),
        bad=[
            refuses("ids must be integers, got float64", W[0], W, error=TypeError),
            refuses("ids must lie in 0..3, got 4 at index 1", np.array([0, 4]), W, error=IndexError),
            refuses("ids must lie in 0..3, got -1 at index 0", np.array([-1, 4]), W, error=IndexError),
        ],
    )


ROWS = [
    embedding("embed_id"),
    embedding("embedding"),
    row(
        "one_hot",
        one_hot,
        on(IDS),
        on(IDS, 5),
        on(IDS, num_classes=4, dtype=np.float64),
        on(np.array(2), 3),
        on(IDS[:0], 3),
        torch=lambda t, x, num_classes=-1, dtype=None: t.nn.functional.one_hot(x, num_classes),
        order=0,
        why="labels have no gradient",
        bad=[
            refuses("ids must lie in 0..1, got 3 at index 2", IDS, 2),
            refuses("ids must be integers, got float64", W, error=TypeError),
            refuses("ids must lie in 0..1, got -1 at index 1", np.array([1, -1]), 2),
        ],
    ),
    row(
        "scaled_dot_product_attention",
        attention,
        on(QUERY, KEY, VALUE),
        on(QUERY, KEY, VALUE, scale=0.3),
        on(QUERY, KEY, VALUE, attn_mask=MASK),
        on(QUERY, KEY, VALUE, attn_mask=NOTHING),
        on(QUERY, KEY, VALUE, attn_mask=numbers(2, 3, 5)),
        on(QUERY, KEY, VALUE, is_causal=True),
        on(numbers(2, 1, 3, 4), numbers(5, 3, 4, seed=1), numbers(5, 3, 2, seed=2)),
        on(QUERY[0], KEY[0], VALUE[0]),
        on(QUERY[:, :1], KEY[:, :1], VALUE[:, :1]),
        on(QUERY[:0], KEY[:0], VALUE[:0]),
        torch=torch_attention,
        bad=[
            refuses(
                "query and key must have equal last axes, got (query (2, 3, 4), key (2, 5, 3), value (2, 5, 2))",
                QUERY,
                KEY[..., :3],
                VALUE,
            ),
            refuses(
                "there must be as many keys as values, got (query (2, 3, 4), key (2, 5, 4), value (2, 4, 2))",
                QUERY,
                KEY,
                VALUE[:, :4],
            ),
            refuses(
                "expected (..., length, size) each, got (query (4,), key (2, 5, 4), value (2, 5, 2))",
                QUERY[0, 0],
                KEY,
                VALUE,
            ),
            refuses(
                "attn_mask (2, 5) does not broadcast to the scores (2, 3, 5)", QUERY, KEY, VALUE, attn_mask=MASK[:2]
            ),
            refuses(
                "there is nothing to attend to, got (query (2, 3, 4), key (2, 0, 4), value (2, 0, 2))",
                QUERY,
                KEY[:, :0],
                VALUE[:, :0],
            ),
            refuses(
                "the first axes do not broadcast, got (query (3, 3, 4), key (2, 5, 4), value (2, 5, 2))",
                numbers(3, 3, 4),
                KEY,
                VALUE,
            ),
            refuses("dropout_p must lie in 0..1, got 2.0", QUERY, KEY, VALUE, dropout_p=2.0),
        ],
    ),
]
