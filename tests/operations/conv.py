"""Rows of functions_conv, held against loops over windows that spell out the definition."""

import numpy as np

from operations.row import numbers, on, refuses, row

IMAGE, KERNEL = numbers(1, 3, 8, 8), numbers(4, 3, 3, 3)


def pair(x):
    return x if isinstance(x, tuple) else (x, x)


def padded(x, pad, value=0.0):
    PH, PW = pair(pad)
    return np.pad(x, ((0, 0), (0, 0), (PH, PH), (PW, PW)), constant_values=value)


def cells(size, kernel_size, stride, pad, dilation):
    """For each window along one axis, where its cells are in the padded image."""
    reach = dilation * (kernel_size - 1) + 1
    return [start + dilation * np.arange(kernel_size) for start in range(0, size + 2 * pad - reach + 1, stride)]


def windows(image_size, kernel_size, stride=1, pad=0, dilation=1):
    """Yield (oh, ow) and the index of that window in the padded images."""
    along = [cells(*axis) for axis in zip(image_size, *map(pair, (kernel_size, stride, pad, dilation)), strict=True)]
    for oh, rows in enumerate(along[0]):
        for ow, columns in enumerate(along[1]):
            yield (oh, ow), (slice(None), slice(None), rows[:, None], columns)


def outsize(*window):
    return tuple(n + 1 for n in max(place for place, _ in windows(*window)))


def im2col(x, kernel_size, stride=1, pad=0, to_matrix=True, dilation=1):
    window = (x.shape[2:], kernel_size, stride, pad, dilation)
    col = np.zeros((*x.shape[:2], *pair(kernel_size), *outsize(*window)), x.dtype)
    for place, index in windows(*window):
        col[(..., *place)] = padded(x, pad)[index]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(-1, x.shape[1] * col.shape[2] * col.shape[3]) if to_matrix else col


def col2im(col, input_shape, kernel_size, stride=1, pad=0, to_matrix=True, dilation=1):
    N, C, H, W = input_shape
    (KH, KW), (PH, PW), window = pair(kernel_size), pair(pad), ((H, W), kernel_size, stride, pad, dilation)
    if to_matrix:
        col = col.reshape(N, *outsize(*window), C, KH, KW).transpose(0, 3, 4, 5, 1, 2)
    image = np.zeros((N, C, H + 2 * PH, W + 2 * PW), col.dtype)
    for place, index in windows(*window):
        np.add.at(image, index, col[(..., *place)])
    return image[:, :, PH : PH + H, PW : PW + W]


def conv2d(x, W, b=None, stride=1, pad=0, dilation=1, groups=1):
    N, OC = len(x), len(W)
    window = (x.shape[2:], W.shape[2:], stride, pad, dilation)
    y = np.zeros((N, OC, *outsize(*window)), np.result_type(x, W))
    for place, index in windows(*window):
        seen = padded(x, pad)[index]
        for o in range(OC):
            first = o // (OC // groups) * W.shape[1]  # the first channel of the kernel's group
            y[(slice(None), o, *place)] = (seen[:, first : first + W.shape[1]] * W[o]).sum(axis=(1, 2, 3))
    return y if b is None else y + b[:, None, None]


def deconv2d(x, W, b=None, stride=1, pad=0, outsize=None, dilation=1, groups=1):
    strides, pads, dilations = map(pair, (stride, pad, dilation))
    OH, OW = (
        pair(outsize)
        if outsize
        else (
            s * (n - 1) + d * (k - 1) + 1 - 2 * p
            for n, k, s, p, d in zip(x.shape[2:], W.shape[2:], strides, pads, dilations, strict=True)
        )
    )
    image = np.zeros((len(x), W.shape[1] * groups, OH + 2 * pads[0], OW + 2 * pads[1]), np.result_type(x, W))
    for place, index in windows((OH, OW), W.shape[2:], stride, pad, dilation):
        for c in range(x.shape[1]):
            first = c // (x.shape[1] // groups) * W.shape[1]
            here = (slice(None), slice(first, first + W.shape[1]), *index[2:])
            image[here] += x[(slice(None), c, *place)][:, None, None, None] * W[c]
    y = image[:, :, pads[0] : pads[0] + OH, pads[1] : pads[1] + OW]
    return y if b is None else y + b[:, None, None]


def conv1d(x, W, b=None, stride=1, pad=0, dilation=1, groups=1):
    return conv2d(x[:, :, None], W[:, :, None], b, (1, stride), (0, pad), (1, dilation), groups)[:, :, 0]


def depthwise_conv2d(x, W, b=None, stride=1, pad=0, dilation=1):
    return conv2d(x, W, b, stride, pad, dilation, groups=x.shape[1])


def pool(reduce, pad_value):
    def pooling(x, kernel_size, stride=1, pad=0):
        y = np.zeros((*x.shape[:2], *outsize(x.shape[2:], kernel_size, stride, pad)))
        for place, index in windows(x.shape[2:], kernel_size, stride, pad):
            y[(..., *place)] = reduce(padded(x.astype(float), pad, pad_value)[index], axis=(2, 3))
        return y.astype(x.dtype) if reduce is np.max else y

    return pooling


def adaptive_average_pooling(x, output_size):
    OH, OW = pair(output_size)
    H, W = x.shape[2:]
    y = np.zeros((*x.shape[:2], OH, OW))
    for i, j in np.ndindex(OH, OW):
        rows, columns = slice(i * H // OH, -(-(i + 1) * H // OH)), slice(j * W // OW, -(-(j + 1) * W // OW))
        y[..., i, j] = x[:, :, rows, columns].mean(axis=(2, 3))
    return y


def upsample(x, size=None, scale_factor=None, mode="nearest", align_corners=False):
    """Rows, then columns: each axis of the result is a mixture of places on the same axis of x."""
    factors = pair(scale_factor) if scale_factor else (None, None)
    sizes = pair(size) if size else tuple(int(n * s) for n, s in zip(x.shape[2:], factors, strict=True))
    for axis, (out, factor) in enumerate(zip(sizes, factors, strict=True), start=2):
        n = x.shape[axis]
        scale = 1 / factor if factor else n / out
        i = np.arange(out)
        if mode == "nearest":
            x = x.take(np.minimum(np.floor(i * scale).astype(int), n - 1), axis)
            continue
        at = i * ((n - 1) / max(out - 1, 1)) if align_corners else np.maximum((i + 0.5) * scale - 0.5, 0)
        low = np.minimum(np.floor(at).astype(int), n - 1)
        share = (at - low).reshape((-1,) + (1,) * (3 - axis))
        x = x.take(low, axis) * (1 - share) + x.take(np.minimum(low + 1, n - 1), axis) * share
    return x


def torch_im2col(t, x, kernel_size, stride=1, pad=0, to_matrix=True, dilation=1):
    N, C = x.shape[:2]
    (KH, KW), sizes = pair(kernel_size), outsize(x.shape[2:], kernel_size, stride, pad, dilation)
    col = t.nn.functional.unfold(x, kernel_size, stride=stride, padding=pad, dilation=dilation)
    return col.transpose(1, 2).reshape(-1, C * KH * KW) if to_matrix else col.reshape(N, C, KH, KW, *sizes)


def torch_col2im(t, col, input_shape, kernel_size, stride=1, pad=0, to_matrix=True, dilation=1):
    N, C, H, W = input_shape
    KH, KW = pair(kernel_size)
    count = int(np.prod(outsize((H, W), kernel_size, stride, pad, dilation)))
    cells = C * KH * KW
    col = col.reshape(N, count, cells).transpose(1, 2) if to_matrix else col.reshape(N, cells, count)
    return t.nn.functional.fold(col, (H, W), kernel_size, stride=stride, padding=pad, dilation=dilation)


def torch_conv2d(t, x, W, b=None, stride=1, pad=0, dilation=1, groups=1):
    return t.nn.functional.conv2d(x, W, b, stride, pad, dilation, groups)


def torch_deconv2d(t, x, W, b=None, stride=1, pad=0, outsize=None, dilation=1, groups=1):
    strides, pads, dilations = map(pair, (stride, pad, dilation))
    smallest = (
        s * (n - 1) + d * (k - 1) + 1 - 2 * p
        for n, k, s, p, d in zip(x.shape[2:], W.shape[2:], strides, pads, dilations, strict=True)
    )
    extra = [n - s for n, s in zip(pair(outsize), smallest, strict=True)] if outsize else 0
    return t.nn.functional.conv_transpose2d(x, W, b, stride, pad, extra, groups, dilation)


def torch_pool(name):
    return lambda t, x, kernel_size, stride=1, pad=0: getattr(t.nn.functional, name)(x, kernel_size, stride, pad)


def torch_upsample(t, x, size=None, scale_factor=None, mode="nearest", align_corners=None):
    return t.nn.functional.interpolate(x, size, scale_factor, mode, align_corners)


# The images' shape, and the arguments of a window: kernel_size, stride, pad
WINDOWS = [
    ((2, 3, 5, 5), 3, 1, 0),
    ((2, 2, 4, 4), 3, 1, 1),
    ((2, 3, 4, 5), 1, 1, 0),
    ((1, 2, 5, 4), 1, 2, 0),
    ((2, 2, 5, 6), (2, 4), 1, 0),
    ((2, 3, 7, 6), (3, 2), (2, 3), (1, 0)),
    ((1, 2, 3, 6), (2, 3), (1, 2), (0, 2)),  # padded by more than half the kernel
    ((1, 2, 8, 9), 2, 3, 0),  # a stride larger than the kernel
    ((2, 1, 3, 3), 2, 5, 1),  # and larger than the image
    ((1, 2, 6, 8), 3, 2, 0),  # rows and columns at the end that no window reaches
    ((2, 2, 3, 4), (3, 4), 1, 0),  # a kernel of the whole image
    ((1, 1, 2, 2), 4, 1, 2),  # a kernel larger than the image
    ((2, 2, 1, 6), (1, 3), 1, 0),
    ((1, 2, 1, 1), 3, 1, 1),
    ((0, 2, 4, 4), 2, 1, 0),  # no images
]
DILATED = [((2, 2, 7, 8), 2, 1, 0, (3, 2)), ((1, 2, 5, 6), (3, 2), (2, 1), (2, 1), (2, 3)), ((1, 1, 4, 4), 1, 1, 0, 5)]
GROUPED = [
    ((2, 4, 4, 5), 3, 1, 1, 1, 2),
    ((2, 6, 5, 4), (2, 3), (2, 1), (0, 1), (2, 1), 3),
    ((0, 2, 3, 3), 2, 1, 0, 1, 2),
]


def conv2d_samples(dilated, grouped):
    for shape, kernel, stride, pad in WINDOWS:
        yield on(numbers(*shape), numbers(4, shape[1], *pair(kernel), seed=1), numbers(4, seed=2), stride, pad)
    yield on(numbers(2, 3, 5, 5), numbers(4, 3, 3, 3, seed=1))
    if dilated:
        for shape, kernel, stride, pad, dilation in DILATED:
            W, b = numbers(3, shape[1], *pair(kernel), seed=1), numbers(3, seed=2)
            yield on(numbers(*shape), W, b, stride, pad, dilation=dilation)
    if grouped:
        for shape, kernel, stride, pad, dilation, groups in GROUPED:
            W, b = numbers(2 * groups, shape[1] // groups, *pair(kernel), seed=1), numbers(2 * groups, seed=2)
            yield on(numbers(*shape), W, b, stride=stride, pad=pad, dilation=dilation, groups=groups)


def conv2d_relu_samples():
    """The same with other biases: each channel's results lie on both sides of zero, and none near it."""
    for sample in conv2d_samples(dilated=True, grouped=True):
        x, W, *rest = sample.args
        y = conv2d(x, W, None, *rest[1:], **sample.options)
        b = np.array([-middle_of_a_gap(y[:, o].ravel()) for o in range(len(W))])
        yield on(x, W, b, *rest[1:], **sample.options)
    yield on(IMAGE, KERNEL)


def middle_of_a_gap(values):
    """A number that lies far from all of the values, and between them where they are several."""
    values = np.sort(values)
    if values.size < 2:
        return values.sum() - 1
    few = values.size // 4
    values = values[few : values.size - few]
    i = np.diff(values).argmax()
    return (values[i] + values[i + 1]) / 2


def deconv2d_samples():
    for shape, kernel, stride, pad in WINDOWS:
        x = numbers(shape[0], 3, *outsize(shape[2:], kernel, stride, pad))
        W, b = numbers(3, 2, *pair(kernel), seed=1), numbers(2, seed=2)
        yield on(x, W, b, stride, pad, shape[2:])
    yield on(numbers(2, 3, 4, 3), numbers(3, 2, 3, 2, seed=1))
    yield on(numbers(1, 2, 3, 4), numbers(2, 5, 3, 2, seed=1), None, (2, 3), (1, 0))
    for shape, kernel, stride, pad, dilation in DILATED:
        x = numbers(shape[0], 3, *outsize(shape[2:], kernel, stride, pad, dilation))
        W, b = numbers(3, 2, *pair(kernel), seed=1), numbers(2, seed=2)
        yield on(x, W, b, stride, pad, shape[2:], dilation=dilation)
    for shape, kernel, stride, pad, dilation, groups in GROUPED:
        x = numbers(shape[0], 2 * groups, *outsize(shape[2:], kernel, stride, pad, dilation))
        W, b = numbers(2 * groups, 3, *pair(kernel), seed=1), numbers(3 * groups, seed=2)
        yield on(x, W, b, stride, pad, shape[2:], dilation=dilation, groups=groups)


def col2im_samples():
    for shape, kernel, stride, pad, dilation in [*((*window, 1) for window in WINDOWS), *DILATED]:
        OH, OW = outsize(shape[2:], kernel, stride, pad, dilation)
        (KH, KW), (N, C) = pair(kernel), shape[:2]
        options = {} if dilation == 1 else {"dilation": dilation}
        yield on(numbers(N * OH * OW, C * KH * KW), shape, kernel, stride, pad, **options)
        yield on(numbers(N, C, KH, KW, OH, OW), shape, kernel, stride, pad, to_matrix=False, **options)


def im2col_samples():
    for shape, kernel, stride, pad, dilation in [*((*window, 1) for window in WINDOWS), *DILATED]:
        options = {} if dilation == 1 else {"dilation": dilation}
        yield on(numbers(*shape), kernel, stride, pad, **options)
        yield on(numbers(*shape), kernel, stride, pad, to_matrix=False, **options)


def fitting_pools():
    for shape, kernel, stride, pad in WINDOWS:
        fits = all(2 * p <= k for p, k in zip(pair(pad), pair(kernel), strict=True))
        yield on(numbers(*shape), kernel, stride, pad, torch=fits)  # PyTorch pads by half the kernel at most


# What every operation on images with a kernel_size refuses
BAD_WINDOWS = [
    refuses(
        "a 9x9 kernel does not fit into 8x8 images padded by (0, 0) (x (1, 3, 8, 8)); use a smaller "
        "kernel or a larger pad",
        IMAGE,
        9,
    ),
    refuses("kernel_size must be an int or a pair of ints, a tuple (height, width), got 2.0", IMAGE, 2.0),
    refuses("kernel_size must be at least 1, got 0", IMAGE, 0),
    refuses("stride must be at least 1, got 0", IMAGE, 2, 0),
    refuses("pad must be at least 0, got (0, -1)", IMAGE, 2, 1, (0, -1)),
    refuses("x must have shape (N, C, H, W), got (3, 8, 8); add the batch axis: x[None]", IMAGE[0], 2),
]


BAD_POOLING = [
    *BAD_WINDOWS,
    refuses(
        "pad (0, 2) must be smaller than the kernel (3, 2), or a window could hold padding alone",
        IMAGE,
        (3, 2),
        2,
        (0, 2),
    ),
]
BAD_WEIGHTS = [
    refuses("W takes 2 channels but x has 3 (x (1, 3, 8, 8), W (4, 2, 3, 3))", IMAGE, KERNEL[:, :2]),
    refuses("x must have shape (N, C, H, W), got (3, 8, 8); add the batch axis: x[None]", IMAGE[0], KERNEL),
    refuses("W must have shape (OC, C, KH, KW), got (3, 3, 3)", IMAGE, KERNEL[0]),
    refuses(
        "b must have shape (4,), one for each output channel, got (3,) (W (4, 3, 3, 3))", IMAGE, KERNEL, np.ones(3)
    ),
    refuses("stride must be at least 1, got 0", IMAGE, KERNEL, stride=0),
    refuses("pad must be an int or a pair of ints, a tuple (height, width), got 'same'", IMAGE, KERNEL, pad="same"),
    refuses(
        "a 3x3 kernel does not fit into 2x8 images padded by (0, 0) (x (1, 3, 2, 8)); use a smaller "
        "kernel or a larger pad",
        IMAGE[:, :, :2],
        KERNEL,
    ),
]


ROWS = [
    row(
        "im2col",
        im2col,
        *im2col_samples(),
        torch=torch_im2col,
        bad=[
            *BAD_WINDOWS,
            refuses("dilation must be at least 1, got 0", IMAGE, 3, dilation=0),
            refuses(
                "a 3x3 kernel of dilation (4, 4), 9x9 in all, does not fit into 8x8 images padded by (0, 0) (x "
                "(1, 3, 8, 8)); use a smaller kernel or a larger pad",
                IMAGE,
                3,
                dilation=4,
            ),
        ],
    ),
    row(
        "im2col_array",
        im2col,
        *(on(numbers(2, 3, 7, 6), (3, 2), (2, 3), (1, 0), to_matrix) for to_matrix in (True, False)),
        order=0,
        why="it works on plain arrays",
    ),
    row(
        "col2im",
        col2im,
        *col2im_samples(),
        torch=torch_col2im,
        bad=[
            refuses("expected col (36, 27) for images (1, 3, 8, 8), got (36, 26)", np.ones((36, 26)), (1, 3, 8, 8), 3),
            refuses("input_shape must be (N, C, H, W), got (3, 8, 8)", np.ones((36, 27)), (3, 8, 8), 3),
        ],
    ),
    row(
        "col2im_array",
        col2im,
        on(numbers(16, 18), (2, 3, 7, 6), (3, 2), (2, 3), (1, 0)),
        order=0,
        why="it works on plain arrays",
    ),
    row(
        "conv2d",
        conv2d,
        *conv2d_samples(dilated=True, grouped=True),
        torch=torch_conv2d,
        bad=[
            *BAD_WEIGHTS,
            refuses("dilation must be at least 1, got 0", IMAGE, KERNEL, dilation=0),
            refuses(
                "groups 2 does not divide the 3 channels of x (x (1, 3, 8, 8), W (4, 3, 3, 3))", IMAGE, KERNEL, groups=2
            ),
            refuses(
                "groups 3 does not divide the 4 output channels of W (x (1, 3, 8, 8), W (4, 1, 3, 3))",
                IMAGE,
                KERNEL[:, :1],
                groups=3,
            ),
            refuses("groups must be an int of at least 1, got 0", IMAGE, KERNEL, groups=0),
            refuses("groups must be an int of at least 1, got 1.5", IMAGE, KERNEL, groups=1.5),
            refuses(
                "a 3x3 kernel of dilation (4, 4), 9x9 in all, does not fit into 8x8 images padded by (0, 0) (x "
                "(1, 3, 8, 8)); use a smaller kernel or a larger pad",
                IMAGE,
                KERNEL,
                dilation=4,
            ),
        ],
    ),
    row(
        "conv2d_relu",
        lambda *args, **options: np.maximum(conv2d(*args, **options), 0),
        *conv2d_relu_samples(),
        torch=lambda t, *args, **options: t.relu(torch_conv2d(t, *args, **options)),
        bad=[
            *BAD_WEIGHTS,
            refuses("dilation must be at least 1, got 0", IMAGE, KERNEL, dilation=0),
            refuses("groups must be an int of at least 1, got 0", IMAGE, KERNEL, groups=0),
            refuses(
                "groups 2 does not divide the 3 channels of x (x (1, 3, 8, 8), W (4, 3, 3, 3))", IMAGE, KERNEL, groups=2
            ),
        ],
    ),
    row(
        "conv2d_simple",
        conv2d,
        *conv2d_samples(dilated=False, grouped=False),
        torch=torch_conv2d,
        bad=BAD_WEIGHTS,
    ),
    row(
        "deconv2d",
        deconv2d,
        *deconv2d_samples(),
        torch=torch_deconv2d,
        bad=[
            refuses("W takes 2 channels but x has 3 (x (1, 3, 8, 8), W (2, 3, 3, 3))", IMAGE, KERNEL[:2]),
            refuses("W must have shape (C, OC, KH, KW), got (3, 3, 3)", IMAGE, KERNEL[0]),
            refuses(
                "outsize (9, 9) does not lead back to x (1, 3, 8, 8) with W (3, 3, 3, 3), stride (1, 1), pad (0, "
                "0); it must be positive and lie in (10, 10)..(10, 10)",
                IMAGE,
                KERNEL[:3],
                outsize=9,
            ),
            refuses(
                "groups 2 does not divide the 3 channels of x (x (1, 3, 8, 8), W (3, 3, 3, 3))",
                IMAGE,
                KERNEL[:3],
                groups=2,
            ),
            refuses("dilation must be at least 1, got 0", IMAGE, KERNEL[:3], dilation=0),
            refuses(
                "outsize (0, 0) does not lead back to x (1, 3, 8, 8) with W (3, 3, 3, 3), stride (1, 1), pad (5, "
                "5); it must be positive and lie in (0, 0)..(0, 0)",
                IMAGE,
                KERNEL[:3],
                pad=5,
            ),
            refuses(
                "b must have shape (3,), one for each output channel, got (4,) (W (3, 3, 3, 3))",
                IMAGE,
                KERNEL[:3],
                np.ones(4),
            ),
        ],
    ),
    row(
        "conv1d",
        conv1d,
        on(numbers(2, 3, 7), numbers(4, 3, 3, seed=1), numbers(4, seed=2)),
        on(numbers(2, 3, 7), numbers(4, 3, 2, seed=1), None, 3, 1),
        on(numbers(2, 4, 8), numbers(6, 2, 3, seed=1), numbers(6, seed=2), 2, 2, 2, 2),
        on(numbers(1, 1, 1), numbers(2, 1, 1, seed=1), numbers(2, seed=2)),
        on(numbers(0, 3, 7), numbers(4, 3, 3, seed=1), numbers(4, seed=2)),
        torch=lambda t, x, W, b=None, *rest: t.nn.functional.conv1d(x, W, b, *rest),
        bad=[
            refuses("x must have shape (N, C, L), got (1, 3, 8, 8)", IMAGE, KERNEL),
            refuses("W must have shape (OC, C, K), got (4, 3, 3, 3)", IMAGE[0], KERNEL),
            refuses("W takes 3 channels but x has 8 (x (3, 8, 8), W (3, 3, 3))", IMAGE[0], KERNEL[0]),
            refuses("W takes 3 channels but x has 2 (x (3, 2, 8), W (4, 3, 3))", IMAGE[0, :, :2], KERNEL[:, 0]),
            refuses(
                "a kernel of 9 does not fit into 8 padded by 0 (x (3, 8, 8)); use a smaller kernel or a larger pad",
                IMAGE[0],
                numbers(4, 8, 9),
            ),
            refuses("stride must be an int of at least 1, got 0", IMAGE[0], numbers(4, 8, 3), stride=0),
            refuses("pad must be an int of at least 0, got (1, 1)", IMAGE[0], numbers(4, 8, 3), pad=(1, 1)),
        ],
    ),
    row(
        "depthwise_conv2d",
        depthwise_conv2d,
        on(numbers(2, 3, 5, 4), numbers(3, 1, 3, 2, seed=1), numbers(3, seed=2)),
        on(numbers(2, 3, 5, 4), numbers(6, 1, 2, 3, seed=1), numbers(6, seed=2), 2, 1, (2, 1)),
        on(numbers(1, 2, 4, 4), numbers(2, 1, 1, 1, seed=1)),
        on(numbers(0, 2, 4, 4), numbers(2, 1, 2, 2, seed=1)),
        torch=lambda t, x, W, b=None, *rest: t.nn.functional.conv2d(x, W, b, *rest, groups=x.shape[1]),
        bad=[
            refuses(
                "W must have shape (C*M, 1, KH, KW), M kernels for each of the 3 channels of x, got (4, 3, 3, 3) "
                "(x (1, 3, 8, 8))",
                IMAGE,
                KERNEL,
            ),
            refuses(
                "W must have shape (C*M, 1, KH, KW), M kernels for each of the 3 channels of x, got (4, 1, 3, 3) "
                "(x (1, 3, 8, 8))",
                IMAGE,
                KERNEL[:, :1],
            ),
            refuses(
                "x must have shape (N, C, H, W), got (3, 8, 8); add the batch axis: x[None]", IMAGE[0], KERNEL[:3, :1]
            ),
            refuses(
                "a 9x9 kernel does not fit into 8x8 images padded by (0, 0) (x (1, 3, 8, 8)); use a smaller "
                "kernel or a larger pad",
                IMAGE,
                numbers(3, 1, 9, 9),
            ),
        ],
    ),
    row(
        "pooling",
        pool(np.max, -np.inf),
        *fitting_pools(),
        torch=torch_pool("max_pool2d"),
        bad=BAD_POOLING,
    ),
    row(
        "pooling_simple",
        pool(np.max, 0.0),
        *(on(numbers(*shape), kernel, stride) for shape, kernel, stride, pad in WINDOWS if pad == 0),
        torch=torch_pool("max_pool2d"),
        bad=BAD_POOLING,
    ),
    row(
        "average_pooling",
        pool(np.mean, 0.0),
        *fitting_pools(),
        torch=torch_pool("avg_pool2d"),
        bad=BAD_POOLING,
    ),
    row(
        "global_average_pooling",
        lambda x, keepdims=False: x.mean(axis=(2, 3), keepdims=keepdims),
        on(numbers(2, 3, 4, 5)),
        on(numbers(2, 3, 4, 1), keepdims=True),
        on(numbers(0, 3, 4, 5)),
        torch=lambda t, x, keepdims=False: x.mean(dim=(2, 3), keepdim=keepdims),
        bad=[
            refuses("x must have shape (N, C, H, W), got (3, 8, 8); add the batch axis: x[None]", IMAGE[0]),
            refuses("the images of x (1, 3, 0, 8) have no pixels", IMAGE[:, :, :0]),
        ],
    ),
    row(
        "adaptive_average_pooling",
        adaptive_average_pooling,
        on(numbers(2, 3, 6, 4), 2),
        on(numbers(2, 2, 7, 5), (3, 4)),
        on(numbers(1, 2, 3, 2), (5, 3)),
        on(numbers(1, 2, 4, 4), 1),
        on(numbers(0, 2, 4, 4), (2, 3)),
        torch="adaptive_avg_pool2d",
        bad=[
            refuses("output_size must be at least 1, got 0", IMAGE, 0),
            refuses("x must have shape (N, C, H, W), got (3, 8, 8); add the batch axis: x[None]", IMAGE[0], 2),
            refuses(
                "output_size must be an int or a pair of ints, a tuple (height, width), got (2, 2, 2)", IMAGE, (2, 2, 2)
            ),
            refuses("the images of x (1, 3, 0, 8) have no pixels", IMAGE[:, :, :0], 2),
        ],
    ),
    row(
        "upsample",
        upsample,
        on(numbers(2, 3, 2, 3), scale_factor=2),
        on(numbers(1, 2, 3, 4), size=(5, 6)),
        on(numbers(1, 2, 5, 4), size=(2, 3)),
        on(numbers(1, 2, 3, 4), scale_factor=(1.5, 2.0)),
        on(numbers(1, 2, 2, 3), scale_factor=2, mode="bilinear"),
        on(numbers(1, 2, 3, 4), size=(5, 7), mode="bilinear"),
        on(numbers(1, 2, 5, 4), size=(3, 2), mode="bilinear"),
        on(numbers(1, 2, 3, 4), size=(5, 7), mode="bilinear", align_corners=True),
        on(numbers(1, 2, 3, 4), size=(1, 6), mode="bilinear", align_corners=True),
        on(numbers(1, 2, 3, 4), scale_factor=(1.7, 2.3), mode="bilinear"),
        on(numbers(1, 1, 1, 1), size=3, mode="bilinear"),
        on(numbers(0, 2, 2, 2), scale_factor=2, torch=False),  # PyTorch refuses empty batches here
        torch=torch_upsample,
        bad=[
            refuses("give size or scale_factor, one of them, got None and None", IMAGE),
            refuses("give size or scale_factor, one of them, got 2 and 2", IMAGE, 2, 2),
            refuses("mode must be 'nearest' or 'bilinear', got 'cubic'", IMAGE, 2, mode="cubic"),
            refuses(
                "align_corners is for mode='bilinear'; 'nearest' has no corners to align", IMAGE, 2, align_corners=True
            ),
            refuses("scale_factor must be a positive number or a pair of them, got 0", IMAGE, scale_factor=0),
            refuses("scale_factor 0.1 leaves 0x0 of 8x8 pixels (x (1, 3, 8, 8))", IMAGE, scale_factor=0.1),
            refuses("x must have shape (N, C, H, W), got (3, 8, 8); add the batch axis: x[None]", IMAGE[0], 2),
            refuses("size must be at least 1, got 0", IMAGE, size=0),
        ],
    ),
]
