"""What the README shows runs, and prints what it says."""

import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
FIRST_GRADIENT, FIRST_CNN = re.findall(r"```python\n(.+?)```", README, re.DOTALL)


def run(source, capsys):
    exec(compile(source, "README.md", "exec"), {"__name__": "readme"})
    return capsys.readouterr().out.splitlines()


def test_the_first_gradient_prints_what_its_comments_say(capsys):
    said = re.findall(r"print\(.+\)  # (variable\(.+?\))", FIRST_GRADIENT)
    assert said
    assert run(FIRST_GRADIENT, capsys) == said


def test_the_first_cnn_learns_most_digits_in_one_epoch(capsys):
    (line,) = run(FIRST_CNN, capsys)
    accuracy = float(re.fullmatch(r"variable\((.+)\)", line).group(1))
    assert 0.8 < accuracy < 1.0


def test_the_two_commands_are_there_to_copy():
    commands = re.findall(r"```sh\n(.+?)\n```", README)
    assert [command.split("/")[-1].split()[0] for command in commands] == ["train_cnn.py", "python"]
    assert all(command.startswith("python3 -m venv .venv && ") for command in commands)
