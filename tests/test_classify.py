"""The example that says what an image shows, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dezero
from dezero.models import SqueezeNet

ROOT = Path(dezero.__file__).parent.parent
PROGRAM = ROOT / "examples" / "classify.py"

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="the package is installed, without the examples")


def run(folder, *arguments):
    """Return exit status, what was printed, and what was said on the side."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DEZERO_KERNELS": "blocked"}
    command = [sys.executable, str(PROGRAM), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path):
    """A folder with a picture, and with a network that knows 7 classes and takes everything for the third."""
    module = pytest.importorskip("PIL.Image")
    module.fromarray(np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8)).save(tmp_path / "cat.png")
    model = SqueezeNet(num_classes=7)
    model.conv10.b.data[:] = [0, 0, 100, 0, 0, 0, 0]
    model.conv10.W.data[:] = 0
    model.save_weights(tmp_path / "w.npz")
    return tmp_path


def test_it_says_what_the_image_shows(folder):
    arguments = ["cat.png", "--model", "squeezenet", "--weights", "w.npz", "--num-classes", "7"]
    status, out, err = run(folder, *arguments)
    assert (status, err) == (0, "")
    assert [line.split("  ")[-1] for line in out.splitlines()] == [f"class {i}" for i in (2, 0, 1, 3, 4)]
    assert out.startswith("100.00%  class 2\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dog.png"], "No such file or directory: 'dog.png'"),
        (["w.npz"], "cannot identify image file 'w.npz'"),
        (["cat.png", "--model", "squeezenet"], "SqueezeNet: no weights are published for it; pretrained='my.npz'"),
        (["cat.png", "--model", "squeezenet", "--weights", "w.npz"], "conv10/W has shape (7, 512, 1, 1) in the file"),
        (["cat.png", "--model", "alexnet"], "invalid choice: 'alexnet'"),
    ],
)
def test_what_is_missing_is_said_without_a_traceback(folder, arguments, said):
    status, out, err = run(folder, *arguments)
    assert (status, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
