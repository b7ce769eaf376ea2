"""Packaging. Nothing of the package is imported here: it is not installed yet."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'^__version__ = "(.+)"', (here / "dezero/__init__.py").read_text(encoding="utf-8"), re.MULTILINE)

setup(
    name="dezero",
    version=version.group(1),
    description="Define-by-run deep learning on NumPy and CuPy, small enough to read",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE", "dezero/data/README.md"],
    packages=find_packages(include=["dezero", "dezero.*"]),
    package_data={"dezero": ["py.typed", "data/*"]},
    python_requires=">=3.10",
    install_requires=["numpy>=2", "tqdm"],
    extras_require={
        "plot": ["matplotlib>=3.8", "Pillow>=10"],
        "fast": ["numba>=0.61"],
        # CuPy with the CUDA libraries that it calls, cuDNN and the way to it, and bfloat16; the driver is the system's.
        "gpu": [
            "cupy-cuda12x[ctk]>=14",
            "nvidia-cudnn-cu12>=9.1",
            "nvidia-cudnn-frontend>=1.32",
            "ml_dtypes",
        ],
        "gpu13": [
            "cupy-cuda13x[ctk]>=14",
            "nvidia-cudnn-cu13>=9.12",
            "nvidia-cudnn-frontend>=1.32",
            "ml_dtypes",
        ],
        "test": ["pytest>=8", "hypothesis>=6.100", "matplotlib>=3.8", "Pillow>=10", "numba>=0.61"],
    },
    classifiers=[
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 15)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
