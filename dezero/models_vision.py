"""Networks for images that are known by a name: VGG16, ResNet and SqueezeNet.

Each makes scores (N, num_classes) of images (N, 3, H, W), which its `preprocess` makes of Pillow's. `pretrained=True`
fetches weights where some are published, once, to the cache folder (`DEZERO_HOME`, or `~/.dezero`);
`pretrained="my.npz"` takes a file that `save_weights` wrote.
"""

from __future__ import annotations

import math
import os
import posixpath
from typing import Any

import numpy as np

from dezero import functions as F
from dezero import layers as L
from dezero import serializers
from dezero.core import Variable, as_operand, is_int
from dezero.models_base import Model

__all__ = [
    "VGG16",
    "BasicBlock",
    "BottleneckA",
    "BottleneckB",
    "BuildingBlock",
    "Fire",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "SqueezeNet",
]

RELEASES = "https://github.com/koki0702/dezero-models/releases/download/v0.1/"
CLASSES = 1000  # ImageNet's
MEAN = (103.939, 116.779, 123.68)  # of ImageNet's pixels: blue, green, red
BICUBIC = 3  # Pillow's own number for it

Weights = bool | str | os.PathLike[str]


class _ImageNetwork(Model):
    """What the networks here share: the images that they take, and weights that others trained.

    A subclass calls `_begin` before it makes its parts, and `_end` after.
    """

    WEIGHTS_PATH: str | None = None  # where its weights are published
    min_size: int  # the least height and width of an image

    @staticmethod
    def preprocess(image: Any, size: Any = (224, 224), dtype: Any = np.float32) -> np.ndarray:
        """Make a PIL image what the network was trained on: (3, H, W), blue first, minus ImageNet's mean colour.

        Args:
            image: a PIL image of any mode. `preprocess(image)[None]` is a batch of one.
            size: (width, height) to which it is resized, whatever its proportions; None leaves it as it is.
            dtype: the array's (default: float32).

        Raises TypeError for what is no PIL image, ImportError where Pillow is missing.
        """
        from dezero import transforms

        resize: list[Any] = [] if size is None else [transforms.Resize(size, BICUBIC)]
        steps = [transforms.Convert("BGR"), *resize, transforms.ToArray(dtype), transforms.Normalize(MEAN)]
        return np.asarray(transforms.Compose(steps)(image), dtype)

    def load_weights(self, path: Any) -> None:
        """Load all weights from an npz file that `save_weights` wrote, also into a network that was never called.

        Raises FileNotFoundError, or ValueError that lists the names missing, left over, or of another shape; then no
        weight has changed.
        """
        serializers.load_weights(self, path, complete=True)

    def _begin(self, name: str, pretrained: Any, num_classes: Any, url: str | None, last: str) -> None:
        """Keep what errors and `_end` want to know. Raises for wrong arguments, before any weights are made.

        Args:
            name: the network's in errors.
            url: where weights of this kind are published, or None.
            last: the part that makes the scores.
        """
        self._name, self._url, self._pretrained = name, url, pretrained
        if not is_int(num_classes) or num_classes < 1:
            raise ValueError(f"{name}: num_classes must be a positive int, got {num_classes!r}")
        if not isinstance(pretrained, (bool, str, os.PathLike)):
            raise TypeError(f"{name}: pretrained must be True, False or the path of an npz file, got {pretrained!r}")
        if pretrained is True and url is None:
            raise ValueError(f"{name}: no weights are published for it; pretrained='my.npz' takes a file of yours")
        if pretrained is True and num_classes != CLASSES:
            raise ValueError(
                f"{name}: the published weights know {CLASSES} classes, got num_classes={num_classes}; make it with "
                f"pretrained=True alone, then give it another {last}"
            )

    def _end(self) -> None:
        if self._pretrained is True:
            self._fetch_weights(str(self._url))
        elif self._pretrained is not False:
            self.load_weights(self._pretrained)

    def _fetch_weights(self, url: str) -> None:
        from dezero import download  # which brings what only a download needs

        path = os.path.join(download.cache_folder(), posixpath.basename(url))
        shapes: list[Any] = [p.expected_shape if p.data is None else p.shape for p in self.params()]
        most = 8 * sum(map(math.prod, shapes)) + (1 << 20)  # float64 at the widest, and names
        # The files' checksums are not known here: a good one has every weight, of its shape, and nothing else.
        try:
            download.fetch([url], path, self.load_weights, limit=most)
        except OSError as error:
            way_out = f"put it there by other means, or name it: {type(self).__name__}(pretrained='my.npz')"
            raise OSError(f"{self._name}: {error}: {way_out}") from error

    def _check(self, x: Any) -> Variable:
        """Return images as a Variable. Raises ValueError when they have another shape, or are too small."""
        x = as_operand(self._name, x)
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < self.min_size:
            raise ValueError(
                f"{self._name}: expected images (N, 3, H, W), H and W at least {self.min_size}, got x {x.shape}"
                f"{_remedy(x.shape)}"
            )
        return x


def _remedy(shape: tuple[int, ...]) -> str:
    if len(shape) == 3:
        return "; add the batch axis: x[None]"
    if len(shape) == 4 and shape[3] == 3:
        return "; put the channels second: x.transpose(0, 3, 1, 2)"
    if len(shape) == 4 and shape[1] == 1:
        return "; a grey image has three channels alike: np.repeat(x, 3, axis=1)"
    return ""


# ----------------------------------------------------------------------------------------------------------------------
# VGG16
# ----------------------------------------------------------------------------------------------------------------------


class VGG16(_ImageNetwork):
    """Thirteen convolutions 3x3, `conv1_1` to `conv5_3`, and `fc6 fc7 fc8`: (N, 3, H, W) -> (N, num_classes).

    Max pooling 2/2 follows each of the five groups; dropout of 0.5 follows fc6 and fc7 while training. Weights are made
    at the first call, and fc6 takes images of that size from then on; with `pretrained=True` that is 224x224.

    Args:
        pretrained: True for the published weights, or the path of an npz file (default: False).
        num_classes: how many scores (default: 1000, ImageNet's).

    Images are at least 32x32. Raises ValueError or TypeError for wrong arguments, OSError when the weights cannot be
    had. Checksums of the published files are not known here: one is held to the names, shapes and dtypes of the
    parameters, and to the bytes that these can take.

    K. Simonyan, A. Zisserman, arXiv:1409.1556.

    >>> [name for name, _ in VGG16().named_params()][:4]
    ['conv1_1/W', 'conv1_1/b', 'conv1_2/W', 'conv1_2/b']
    """

    WEIGHTS_PATH = RELEASES + "vgg16.npz"
    min_size = 32

    def __init__(self, pretrained: Weights = False, num_classes: int = CLASSES) -> None:
        super().__init__()
        self._begin("VGG16", pretrained, num_classes, self.WEIGHTS_PATH, last="fc8")
        self.conv1_1 = _conv3x3(3, 64)
        self.conv1_2 = _conv3x3(64, 64)
        self.conv2_1 = _conv3x3(64, 128)
        self.conv2_2 = _conv3x3(128, 128)
        self.conv3_1 = _conv3x3(128, 256)
        self.conv3_2 = _conv3x3(256, 256)
        self.conv3_3 = _conv3x3(256, 256)
        self.conv4_1 = _conv3x3(256, 512)
        self.conv4_2 = _conv3x3(512, 512)
        self.conv4_3 = _conv3x3(512, 512)
        self.conv5_1 = _conv3x3(512, 512)
        self.conv5_2 = _conv3x3(512, 512)
        self.conv5_3 = _conv3x3(512, 512)
        self.fc6 = L.Linear(4096)
        self.fc7 = L.Linear(4096)
        self.fc8 = L.Linear(num_classes)
        self.fc6.W.expected_shape = (512 * 7 * 7 if pretrained is True else None, 4096)
        self.fc7.W.expected_shape = (4096, 4096)
        self.fc8.W.expected_shape = (4096, num_classes)
        self._end()

    def forward(self, x: Any) -> Variable:
        x = self._check(x)
        for convs in (
            (self.conv1_1, self.conv1_2),
            (self.conv2_1, self.conv2_2),
            (self.conv3_1, self.conv3_2, self.conv3_3),
            (self.conv4_1, self.conv4_2, self.conv4_3),
            (self.conv5_1, self.conv5_2, self.conv5_3),
        ):
            for conv in convs:
                x = F.relu(conv(x))
            x = F.pooling(x, kernel_size=2, stride=2)
        x = F.flatten(x)
        x = F.dropout(F.relu(self.fc6(x)))
        x = F.dropout(F.relu(self.fc7(x)))
        return self.fc8(x)

    def _check(self, x: Any) -> Variable:
        x = super()._check(x)
        W = getattr(self.fc6, "W", None)  # another fc6 may have none
        takes = None if W is None or W.data is None else len(W)
        makes = 512 * (x.shape[2] // 32) * (x.shape[3] // 32)
        if takes not in (None, makes):
            raise ValueError(
                f"VGG16: fc6 takes {takes} numbers of an image (25088 is 224x224), but x {x.shape} makes {makes}; "
                "resize the images, as preprocess does, or give it another fc6"
            )
        return x


def _conv3x3(in_channels: int, out_channels: int) -> L.Conv2d:
    """A convolution that keeps the size of images. It makes W at the first call; a file is held to its shape before."""
    conv = L.Conv2d(out_channels, kernel_size=3, stride=1, pad=1)
    conv.W.expected_shape = (out_channels, in_channels, 3, 3)
    return conv


# ----------------------------------------------------------------------------------------------------------------------
# ResNet
# ----------------------------------------------------------------------------------------------------------------------


class ResNet(_ImageNetwork):
    """Blocks that add to what they get: (N, 3, H, W) -> (N, num_classes).

    `conv1` (7x7, stride 2), `bn1`, relu and max pooling 3/2 without padding; the stages `res2 res3 res4 res5`, each a
    `BuildingBlock`; the mean over all pixels; `fc6`. Stages of 18 and 34 layers are made of `BasicBlock`, those of 50,
    101 and 152 of `BottleneckA` and `BottleneckB`. Running statistics move by a tenth a step (`decay` 0.9), eps is
    2e-5. `BatchNorm` knows its channels from the start: all weights are there before the first call.

    Args:
        n_layers: 18, 34, 50, 101 or 152 (the default).
        pretrained: True for the published weights, of 50, 101 and 152 layers, or the path of an npz file (default:
            False).
        num_classes: how many scores (default: 1000, ImageNet's).

    Images are at least 5x5. Raises ValueError or TypeError for wrong arguments, OSError when the weights cannot be had.
    Checksums of the published files are not known here: one is held to the names, shapes and dtypes of the parameters,
    and to the bytes that these can take.

    K. He, X. Zhang, S. Ren, J. Sun, arXiv:1512.03385.

    >>> ResNet(18, num_classes=10)(np.zeros((2, 3, 32, 32), np.float32)).shape
    (2, 10)
    """

    WEIGHTS_PATH = RELEASES + "resnet{}.npz"
    min_size = 5

    def __init__(self, n_layers: int = 152, pretrained: Weights = False, num_classes: int = CLASSES) -> None:
        super().__init__()
        if not is_int(n_layers) or n_layers not in _BLOCKS:
            raise ValueError(f"ResNet: n_layers must be 18, 34, 50, 101 or 152, got {n_layers!r}")
        bottleneck = n_layers >= 50
        url = self.WEIGHTS_PATH.format(n_layers) if bottleneck else None
        self._begin(f"ResNet-{n_layers}", pretrained, num_classes, url, last="fc6")
        times = 4 if bottleneck else 1  # as many channels leave a block as its 3x3 convolutions have
        n2, n3, n4, n5 = _BLOCKS[n_layers]
        self.conv1 = L.Conv2d(64, kernel_size=7, stride=2, pad=3, in_channels=3)
        self.bn1 = _batch_norm(64)
        self.res2 = BuildingBlock(n2, 64, 64, 64 * times, stride=1, bottleneck=bottleneck)
        self.res3 = BuildingBlock(n3, 64 * times, 128, 128 * times, stride=2, bottleneck=bottleneck)
        self.res4 = BuildingBlock(n4, 128 * times, 256, 256 * times, stride=2, bottleneck=bottleneck)
        self.res5 = BuildingBlock(n5, 256 * times, 512, 512 * times, stride=2, bottleneck=bottleneck)
        self.fc6 = L.Linear(num_classes, in_size=512 * times)
        self._end()

    def forward(self, x: Any) -> Variable:
        x = F.relu(self.bn1(self.conv1(self._check(x))))
        x = F.pooling(x, kernel_size=3, stride=2)
        x = self.res5(self.res4(self.res3(self.res2(x))))
        return self.fc6(F.mean(x, axis=(2, 3)))


_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class ResNet18(ResNet):
    """`ResNet(18)`."""

    def __init__(self, pretrained: Weights = False, num_classes: int = CLASSES) -> None:
        super().__init__(18, pretrained, num_classes)


class ResNet34(ResNet):
    """`ResNet(34)`."""

    def __init__(self, pretrained: Weights = False, num_classes: int = CLASSES) -> None:
        super().__init__(34, pretrained, num_classes)


class ResNet50(ResNet):
    """`ResNet(50)`."""

    def __init__(self, pretrained: Weights = False, num_classes: int = CLASSES) -> None:
        super().__init__(50, pretrained, num_classes)


class ResNet101(ResNet):
    """`ResNet(101)`."""

    def __init__(self, pretrained: Weights = False, num_classes: int = CLASSES) -> None:
        super().__init__(101, pretrained, num_classes)


class ResNet152(ResNet):
    """`ResNet(152)`."""

    def __init__(self, pretrained: Weights = False, num_classes: int = CLASSES) -> None:
        super().__init__(152, pretrained, num_classes)


class BuildingBlock(L.Layer):
    """A stage of a ResNet: the block `a`, which changes size and channels, then `b1`, `b2` and so on, which do not.

    (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)).

    Args:
        n_layers: how many blocks.
        in_channels, out_channels: what comes in and goes out.
        mid_channels: what the 3x3 convolutions of a bottleneck have.
        stride: that of `a`.
        downsample_fb: see `BottleneckA` (default: False).
        bottleneck: whether the blocks are bottlenecks; if not, they are of `BasicBlock` (default: True).

    >>> BuildingBlock(2, 4, 2, 8, stride=2)(np.zeros((1, 4, 6, 6), np.float32)).shape
    (1, 8, 3, 3)
    """

    def __init__(
        self,
        n_layers: int,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        stride: int,
        downsample_fb: bool = False,
        bottleneck: bool = True,
    ) -> None:
        super().__init__()
        if not is_int(n_layers) or n_layers < 1:
            raise ValueError(f"BuildingBlock: n_layers must be a positive int, got {n_layers!r}")
        self.a: L.Layer
        if bottleneck:
            self.a = BottleneckA(in_channels, mid_channels, out_channels, stride, downsample_fb)
        else:
            self.a = BasicBlock(in_channels, out_channels, stride)
        self.blocks: list[L.Layer] = [self.a]
        for i in range(1, n_layers):
            b = BottleneckB(out_channels, mid_channels) if bottleneck else BasicBlock(out_channels, out_channels)
            setattr(self, f"b{i}", b)
            self.blocks.append(b)

    def forward(self, x: Any) -> Variable:
        for block in self.blocks:
            x = block(x)
        return x


class BottleneckA(L.Layer):
    """The first block of a stage: relu(bn3(conv3(...)) + bn4(conv4(x))), convolutions 1x1, 3x3, 1x1 and 1x1.

    (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)).

    Args:
        in_channels, mid_channels, out_channels: of x, between the convolutions, and of what comes out.
        stride: that of the first 1x1 convolution, as in the paper, and of the shortcut (default: 2).
        downsample_fb: the stride is that of the 3x3 convolution instead, as PyTorch's models have it (default: False).

    >>> BottleneckA(4, 2, 8)(np.zeros((1, 4, 6, 6), np.float32)).shape
    (1, 8, 3, 3)
    """

    def __init__(
        self, in_channels: int, mid_channels: int, out_channels: int, stride: int = 2, downsample_fb: bool = False
    ) -> None:
        super().__init__()
        stride1, stride2 = (1, stride) if downsample_fb else (stride, 1)
        self.conv1 = L.Conv2d(mid_channels, 1, stride1, 0, nobias=True, in_channels=in_channels)
        self.bn1 = _batch_norm(mid_channels)
        self.conv2 = L.Conv2d(mid_channels, 3, stride2, 1, nobias=True, in_channels=mid_channels)
        self.bn2 = _batch_norm(mid_channels)
        self.conv3 = L.Conv2d(out_channels, 1, 1, 0, nobias=True, in_channels=mid_channels)
        self.bn3 = _batch_norm(out_channels)
        self.conv4 = L.Conv2d(out_channels, 1, stride, 0, nobias=True, in_channels=in_channels)
        self.bn4 = _batch_norm(out_channels)

    def forward(self, x: Any) -> Variable:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.bn4(self.conv4(x)))


class BottleneckB(L.Layer):
    """Any other block of a stage: relu(bn3(conv3(...)) + x), (N, in_channels, H, W) to the same shape.

    >>> BottleneckB(8, 2)(np.zeros((1, 8, 6, 6), np.float32)).shape
    (1, 8, 6, 6)
    """

    def __init__(self, in_channels: int, mid_channels: int) -> None:
        super().__init__()
        self.conv1 = L.Conv2d(mid_channels, 1, 1, 0, nobias=True, in_channels=in_channels)
        self.bn1 = _batch_norm(mid_channels)
        self.conv2 = L.Conv2d(mid_channels, 3, 1, 1, nobias=True, in_channels=mid_channels)
        self.bn2 = _batch_norm(mid_channels)
        self.conv3 = L.Conv2d(in_channels, 1, 1, 0, nobias=True, in_channels=mid_channels)
        self.bn3 = _batch_norm(in_channels)

    def forward(self, x: Any) -> Variable:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + x)


class BasicBlock(L.Layer):
    """The block of the ResNets of 18 and 34 layers: relu(bn2(conv2(...)) + x), two convolutions 3x3.

    (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)). Where that is another shape,
    bn3(conv3(x)), a convolution 1x1, takes the place of x.

    Args:
        in_channels, out_channels: of x, and of what comes out.
        stride: that of the first convolution, and of the shortcut (default: 1).

    >>> BasicBlock(4, 8, stride=2)(np.zeros((1, 4, 6, 6), np.float32)).shape
    (1, 8, 3, 3)
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = L.Conv2d(out_channels, 3, stride, 1, nobias=True, in_channels=in_channels)
        self.bn1 = _batch_norm(out_channels)
        self.conv2 = L.Conv2d(out_channels, 3, 1, 1, nobias=True, in_channels=out_channels)
        self.bn2 = _batch_norm(out_channels)
        self.projects = stride != 1 or in_channels != out_channels
        if self.projects:
            self.conv3 = L.Conv2d(out_channels, 1, stride, 0, nobias=True, in_channels=in_channels)
            self.bn3 = _batch_norm(out_channels)

    def forward(self, x: Any) -> Variable:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (self.bn3(self.conv3(x)) if self.projects else x))


def _batch_norm(channels: int) -> L.BatchNorm:
    """A BatchNorm that has its arrays from the start: a network saved before its first call is whole, too."""
    bn = L.BatchNorm()
    for param, value in ((bn.avg_mean, 0), (bn.avg_var, 1), (bn.gamma, 1), (bn.beta, 0)):
        param.data = np.full(channels, value, np.float32)
    return bn


# ----------------------------------------------------------------------------------------------------------------------
# SqueezeNet
# ----------------------------------------------------------------------------------------------------------------------


class SqueezeNet(_ImageNetwork):
    """SqueezeNet 1.1, of 1.2 million weights: (N, 3, H, W) -> (N, num_classes).

    `conv1` (3x3, stride 2, no padding), `fire2` to `fire9`, each a `Fire`, `conv10` (1x1), relu after each, and the
    mean over all pixels. Max pooling 3/2 comes before fire2, fire4 and fire6, dropout of 0.5 before conv10 while
    training. Parts have the names they have in the authors' files.

    Args:
        pretrained: the path of an npz file; none is published (default: False).
        num_classes: how many scores (default: 1000, ImageNet's).

    Images are at least 17x17. Raises ValueError or TypeError for wrong arguments.

    F. Iandola et al., arXiv:1602.07360; version 1.1 is the authors' own, with the accuracy of 1.0 for 2.4 times less
    work.

    >>> SqueezeNet(num_classes=10)(np.zeros((2, 3, 32, 32), np.float32)).shape
    (2, 10)
    """

    min_size = 17

    def __init__(self, pretrained: Weights = False, num_classes: int = CLASSES) -> None:
        super().__init__()
        self._begin("SqueezeNet", pretrained, num_classes, self.WEIGHTS_PATH, last="conv10")
        self.conv1 = L.Conv2d(64, kernel_size=3, stride=2, in_channels=3)
        self.fire2 = Fire(64, 16, 64)
        self.fire3 = Fire(128, 16, 64)
        self.fire4 = Fire(128, 32, 128)
        self.fire5 = Fire(256, 32, 128)
        self.fire6 = Fire(256, 48, 192)
        self.fire7 = Fire(384, 48, 192)
        self.fire8 = Fire(384, 64, 256)
        self.fire9 = Fire(512, 64, 256)
        self.conv10 = L.Conv2d(num_classes, kernel_size=1, in_channels=512)
        self._end()

    def forward(self, x: Any) -> Variable:
        x = _pool_to_the_edge(F.relu(self.conv1(self._check(x))))
        x = _pool_to_the_edge(self.fire3(self.fire2(x)))
        x = _pool_to_the_edge(self.fire5(self.fire4(x)))
        x = self.fire9(self.fire8(self.fire7(self.fire6(x))))
        x = F.relu(self.conv10(F.dropout(x)))
        return F.mean(x, axis=(2, 3))


class Fire(L.Layer):
    """A squeeze and two ways to expand: (N, in_channels, H, W) -> (N, 2 * expand, H, W).

    y = relu(squeeze1x1(x)) goes through `expand1x1` and `expand3x3`, each with `expand` channels and relu, and their
    results stand one behind the other.

    >>> Fire(8, squeeze=2, expand=4)(np.zeros((1, 8, 6, 6), np.float32)).shape
    (1, 8, 6, 6)
    """

    def __init__(self, in_channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze1x1 = L.Conv2d(squeeze, kernel_size=1, in_channels=in_channels)
        self.expand1x1 = L.Conv2d(expand, kernel_size=1, in_channels=squeeze)
        self.expand3x3 = L.Conv2d(expand, kernel_size=3, pad=1, in_channels=squeeze)

    def forward(self, x: Any) -> Variable:
        y = F.relu(self.squeeze1x1(x))
        return F.relu(F.concat([self.expand1x1(y), self.expand3x3(y)], axis=1))


def _pool_to_the_edge(x: Variable) -> Variable:
    """Max pooling 3/2 where the last window may hang over the edge, as it does in the authors' network.

    x comes from relu: beside what is not negative, a window's zeros outside change nothing.
    """
    right, bottom = (size % 2 == 0 for size in (x.shape[3], x.shape[2]))
    if right or bottom:
        x = F.pad(x, ((0, 0), (0, 0), (0, int(bottom)), (0, int(right))))
    return F.pooling(x, kernel_size=3, stride=2)
