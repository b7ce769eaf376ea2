"""What README and CONTRIBUTING show runs, and prints what they say."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simulated_cublas
from operations.row import numbers, unary

from dezero import cuda
from dezero import functions as F
from dezero.testing import check_grads

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(text):
    return re.findall(r"```python\n(.+?)```", text, re.DOTALL)


FIRST_GRADIENT, FIRST_CNN, LONGER, GPU, CAPTURE, PRECISION, GRAPH, DERIVATIVES, ANOMALY, KERNELS = blocks(README)


def run(source, capsys):
    exec(compile(source, "README.md", "exec"), {"__name__": "readme"})
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("source", [FIRST_GRADIENT, DERIVATIVES], ids=["a first gradient", "derivatives"])
def test_it_prints_what_its_comments_say(source, capsys):
    said = re.findall(r"print\(.+\)  # (variable\(.+?\))(?:,|\n)", source)
    assert said
    assert " ".join(run(source, capsys)).split() == " ".join(said).split()


def test_the_program_for_a_gpu_runs_without_one(capsys):
    (loss,) = run(GPU, capsys)
    assert 0 < float(loss) < 3


def test_the_program_for_a_gpu_runs_on_one(gpu, capsys):
    (loss,) = run(GPU, capsys)
    assert 0 < float(loss) < 3


def test_a_captured_step_learns(capsys):
    assert run(CAPTURE, capsys) == ["True"]


def test_a_captured_step_learns_on_a_gpu(gpu, capsys, monkeypatch):
    if hasattr(gpu.cupy, "_machine"):
        simulated_cublas.install(monkeypatch, gpu.cupy)
    assert run(CAPTURE, capsys) == ["True"]


@pytest.mark.parametrize("on", ["the CPU", "the GPU"])
def test_mixed_precision_leaves_float32(on, request, capsys):
    if on == "the GPU":
        request.getfixturevalue("simulated")
    assert run(PRECISION, capsys) == ["float32 float32"]


def test_the_picture_is_the_one_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(GRAPH, capsys)
    shown = re.search(r"!\[.+\]\((examples/.+\.svg)\)", README)[1]
    assert (tmp_path / "graph.svg").read_bytes() == (ROOT / shown).read_bytes()


def test_the_anomaly_is_named_as_shown():
    shown = re.search(r"```\n(FloatingPointError: (.+)\n  /home/me/train\.py, line (\d+): (.+))\n```", README)
    assert ANOMALY.splitlines()[int(shown[3]) - 1].strip() == shown[4]
    with pytest.raises(FloatingPointError) as error:
        exec(compile(ANOMALY, "train.py", "exec"), {"__name__": "readme"})
    assert str(error.value).splitlines()[0] == shown[2]
    assert f"train.py, line {shown[3]}: " in str(error.value)


def test_kernels_are_chosen_as_shown(capsys):
    serving, chosen = run(KERNELS, capsys)
    assert serving in KERNELS.splitlines()[3]
    assert chosen in KERNELS.splitlines()[5]
    assert chosen == "reference"


def test_the_first_cnn_learns_most_digits_in_one_epoch(capsys):
    (line,) = run(FIRST_CNN, capsys)
    accuracy = float(re.fullmatch(r"variable\((.+)\)", line).group(1))
    assert 0.8 < accuracy < 1.0


def test_the_longer_run_learns_and_shows_its_summary(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    *table, line = run(LONGER, capsys)
    assert 0.9 < float(re.fullmatch(r"variable\((.+)\)", line).group(1)) < 1.0
    shown = re.search(r"```\n(layer .+?)\n```", README, re.DOTALL)[1].splitlines()
    assert [line for line in table if not line.startswith("dezero: compiling")][: len(shown)] == shown
    assert {path.name for path in tmp_path.iterdir()} == {"weights.npz", "training.npz"}


def test_the_two_commands_are_there_to_copy():
    commands = [text for text in re.findall(r"```sh\n(.+?)\n```", README, re.DOTALL) if text.startswith("python3")]
    assert [command.split("/")[-1].split()[0] for command in commands] == ["train_cnn.py", "python"]
    assert all(command.startswith("python3 -m venv .venv && ") for command in commands)


def test_a_first_operation_takes_fifteen_lines_and_is_right():
    (source,) = blocks(CONTRIBUTING)
    assert len([line for line in source.splitlines() if line.strip()]) <= 15
    names = {**vars(F), "cuda": cuda, "np": np, "Any": Any, "unary": unary}
    exec(compile(source, "CONTRIBUTING.md", "exec"), names)
    x = numbers(2, 3)
    np.testing.assert_allclose(names["tanhshrink"](x).data, x - np.tanh(x))
    check_grads(names["tanhshrink"], x, order=3)


def test_the_number_of_cases_is_not_overstated(request):
    stated = int(re.search(r"([\d,]+) cases", README)[1].replace(",", ""))
    collected = request.session.testscollected
    if collected > stated / 2:  # else only a part of the suite was asked for
        assert collected >= stated
