"""The main job as a user runs it: a program of its own, from another folder."""

import importlib.util
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dezero
from dezero import datasets
from dezero import functions as F
from dezero.transforms import Compose, Normalize, ToFloat

ROOT = Path(dezero.__file__).parent.parent
PROGRAM = ROOT / "examples" / "train_cnn.py"
SMALL = ["--epochs", "1", "--hold-out", "5500"]  # 500 digits to train on

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="the package is installed, without the examples")


def start(folder, *arguments, interpreter=(sys.executable,), **options):
    # One thread: beside other programs, threads of a small product wait for one another longer than they work.
    here = {"PYTHONPATH": str(ROOT), "DEZERO_HOME": str(folder / "home"), "MPLCONFIGDIR": str(folder)}
    environment = {**os.environ, **here, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*interpreter, str(PROGRAM), *map(str, arguments)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def run(folder, *arguments):
    """Return exit status, what was printed, and what was said on the side."""
    with start(folder, *arguments, text=True) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def weights(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def has(module):
    return importlib.util.find_spec(module) is not None


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder after a small run with weights and, where matplotlib is, a picture; and what the run printed."""
    folder = tmp_path_factory.mktemp("trained")
    plot = ["--plot", "digits.png"] if has("matplotlib") else []
    status, out, err = run(folder, *SMALL, "--out", "a.npz", *plot)
    assert status == 0, err
    return folder, out


@pytest.fixture(scope="module")
def model(trained):
    folder, _ = trained
    model = runpy.run_path(str(PROGRAM))["CNN"]()
    model.load_weights(folder / "a.npz")
    return model


def test_it_prints_accuracy_and_where_things_are(trained):
    folder, out = trained
    number = re.search(r"^epoch  1: held-out loss \d\.\d{4}, held-out accuracy (\d+\.\d\d)%$", out, re.MULTILINE)
    assert float(number[1]) > 30  # after 8 batches; chance is 10
    assert "weights: a.npz\n" in out
    kept = [path.name for path in folder.glob("home/*")]
    assert all(name.startswith("kernels-") for name in kept)  # compiled, where Numba is; nothing is downloaded
    assert {name for name in os.listdir(folder) if name.endswith((".npz", ".part"))} == {"a.npz"}


def test_the_weights_load_into_the_same_network_and_judge_as_printed(trained, model):
    _, out = trained
    images = Compose([ToFloat(), Normalize(0, 255)])
    _, judged = datasets.hold_out(datasets.MiniMNIST(transform=images), 5500)
    with dezero.test_mode(), dezero.no_grad():
        parts = [judged.batch(range(i, i + 500)) for i in range(0, 5500, 500)]
        accuracy = np.mean([float(F.accuracy(model(x), t)) for x, t in parts])
    assert f"accuracy {accuracy:.2%}" in out


def test_the_picture_has_something_on_it_everywhere(trained):
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    folder, out = trained
    assert "picture: digits.png\n" in out
    with image.open(folder / "digits.png") as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("L"))
    H, W = pixels.shape
    assert (H, W) == (930, 1300)  # 4 inches above, and three full rows of mistakes
    curves, filters, mistakes = pixels[:400, : W // 2], pixels[:400, 2 * W // 3 :], pixels[400:]
    for part in (curves, filters, mistakes):
        assert 0.01 < (part < 250).mean() < 0.9
        assert len(np.unique(part)) > 50


def test_the_same_seed_gives_the_same_numbers_to_the_last_bit(trained):
    folder, out = trained
    status, again, _ = run(folder, *SMALL, "--out", "again.npz")
    assert status == 0
    assert again.splitlines()[0] == out.splitlines()[0]
    first, second = weights(folder / "a.npz"), weights(folder / "again.npz")
    assert list(first) == list(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_another_seed_gives_other_numbers(trained):
    folder, out = trained
    status, other, _ = run(folder, *SMALL, "--out", "other.npz", "--seed", "1")
    assert status == 0
    assert other.splitlines()[0] != out.splitlines()[0]
    first, second = weights(folder / "a.npz"), weights(folder / "other.npz")
    assert not any(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a signal")
def test_ctrl_c_saves_what_there_is(tmp_path):
    # A shell that starts its jobs in the background has them ignore the signal: the program begins by listening again.
    listening = (
        "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    endless = ("--hold-out", "5500", "--epochs", "100000")
    with start(tmp_path, *endless, interpreter=(sys.executable, "-c", listening)) as process:
        assert process.stdout.readline().startswith(b"epoch  1: ")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"interrupted" in out
    assert b"Traceback" not in err
    assert [name for name in os.listdir(tmp_path) if name != "home"] == ["train_cnn.npz"]
    network = runpy.run_path(str(PROGRAM))["CNN"]()
    network.load_weights(tmp_path / "train_cnn.npz")
    assert network.fc2.W.shape == (128, 10)


# ----------------------------------------------------------------------------------------------------------------------
# What would fail after the training fails before it
# ----------------------------------------------------------------------------------------------------------------------


BAD = {
    "no epochs": (["--epochs", "0"], r"--epochs: must be above 0, got 0"),
    "epochs in words": (["--epochs", "ten"], r"--epochs: invalid int value: 'ten'"),
    "batch size": (["--batch-size", "-1"], r"--batch-size: must be above 0, got -1"),
    "rate": (["--lr", "0"], r"--lr: must be above 0, got 0"),
    "rate that is no number": (["--lr", "nan"], r"--lr: must be above 0, got nan"),
    "rate without end": (["--lr", "inf"], r"--lr\b.*inf"),
    "seed": (["--seed", "-1"], r"--seed\b.*-1"),
    "hold-out": (["--hold-out", "0"], r"--hold-out: must be above 0, got 0"),
    "hold-out of everything": (["--hold-out", "6000"], r"--hold-out\b.*6000"),
    "hold-out of more": (["--hold-out", "6001"], r"--hold-out\b.*6001"),
    "data set": (["--dataset", "cifar"], r"--dataset: invalid choice: 'cifar'"),
    "folder without need": (["--data-dir", "."], r"--data-dir goes with --dataset mnist"),
    "out folder": (["--out", "none/w.npz"], r"--out\b.*none"),
    "plot folder": (["--plot", "none/p.png"], r"--plot\b.*none"),
    "out is a folder": (["--out", "."], r"--out \.: that is a folder"),
    "plot format": (["--plot", "digits.xyz"], r"--plot\b.*xyz"),
    "both devices": (["--gpu", "--cpu"], r"--cpu: not allowed with argument --gpu"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_end_it_at_once_with_the_arguments_name(tmp_path, arguments, message):
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    status, out, err = run(tmp_path, "--epochs", "1", "--hold-out", "5990", *arguments)
    assert "Traceback" not in err
    assert (status, out) == (2, "")
    assert re.search(r"error: .*" + message, err.splitlines()[-1])


def test_a_gpu_that_is_not_there(tmp_path):
    if dezero.cuda.gpu_enable:
        pytest.skip("there is one")
    status, out, err = run(tmp_path, "--gpu")
    assert (status, out) == (2, "")
    assert re.search("error: --gpu: .*CuPy", err.splitlines()[-1])


@pytest.mark.parametrize("folder", ["empty", "none"])
def test_a_folder_without_the_files_is_one_clear_line(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    status, out, err = run(tmp_path, "--dataset", "mnist", "--data-dir", folder)
    assert "Traceback" not in err
    assert status != 0
    assert out == ""
    assert "train-images-idx3-ubyte" in err.splitlines()[-1]
    assert not (tmp_path / "home").exists()
