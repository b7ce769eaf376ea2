"""Say what an image shows, with a network that others trained.

    python examples/classify.py cat.jpg
    python examples/classify.py cat.jpg --model squeezenet --weights squeezenet.npz

Without --weights, published ones are fetched once: those of vgg16, resnet50, resnet101 and resnet152 are.
"""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image

import dezero.functions as F
from dezero import datasets, models, no_grad, test_mode

NAMES = "VGG16", "ResNet18", "ResNet34", "ResNet50", "ResNet101", "ResNet152", "SqueezeNet"
NETWORKS = {name.lower(): getattr(models, name) for name in NAMES}


def main() -> None:
    parser = argparse.ArgumentParser(description="Say what an image shows.")
    parser.add_argument("image", help="a file that Pillow can read")
    parser.add_argument("--model", choices=list(NETWORKS), default="vgg16")
    parser.add_argument("--weights", help="an npz file of the network's weights (default: the published ones)")
    parser.add_argument("--num-classes", type=int, default=1000, help="how many classes it knows (default: 1000)")
    args = parser.parse_args()
    try:
        with Image.open(args.image) as image:
            x = models.VGG16.preprocess(image)[np.newaxis]
        model = NETWORKS[args.model](pretrained=args.weights or True, num_classes=args.num_classes)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    with test_mode(), no_grad():
        p = F.softmax(model(x)).data[0]
    known = args.num_classes == 1000 and hasattr(datasets, "ImageNet")
    labels = datasets.ImageNet.labels() if known else {}
    for i in np.argsort(-p, kind="stable")[:5]:
        print(f"{p[i]:7.2%}  {labels[i] if known else f'class {i}'}")


if __name__ == "__main__":
    main()
