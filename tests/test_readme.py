"""What README and CONTRIBUTING show runs, and prints what they say; README.ko.md says what README says."""

import hashlib
import re
from collections import Counter
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
KOREAN = (ROOT / "README.ko.md").read_text(encoding="utf-8")
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


# ----------------------------------------------------------------------------------------------------------------------
# The Korean twin: the same sections, code, tables, figures and links
# ----------------------------------------------------------------------------------------------------------------------

CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
TO_THE_TWIN = re.compile(r"^\[.+\]\(README(\.ko)?\.md\)\n\n", re.MULTILINE)


def sections(text):
    """Return [(heading, what is below it), ...]. Code is left out, as # means another thing in it."""
    prose = TO_THE_TWIN.sub("", CODE.sub("```", text))
    parts = re.split(r"^(#+ .+)\n", prose, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def mark(heading, body):
    """Return what a translated section bears to say which text it was made from."""
    return f"<!-- {hashlib.sha256((heading + body).encode()).hexdigest()[:8]} -->"


def kind(paragraph):
    """Return what a paragraph is, and how many lines it has where that is not the translator's to choose."""
    if paragraph.startswith(("|", "- ")):
        return paragraph[0], len(re.findall(rf"^{re.escape(paragraph[0])}", paragraph, re.MULTILINE))
    return paragraph if paragraph == "```" else paragraph[:2] if paragraph.startswith("![") else "prose"


def kinds(body):
    return [kind(paragraph) for paragraph in re.sub(r"^<!-- \w+ -->\n", "", body).strip().split("\n\n")]


def code_words(body):
    return {re.sub(r"\s+", " ", word) for word in re.findall(r"`([^`]+)`", body.replace("```", ""))}


def links(body):
    """Return where links lead; those inside the page are counted alone, for headings are translated."""
    found = re.findall(r"\]\((.+?)\)", body)
    return Counter("#" if link.startswith("#") else link for link in found)


def in_korean(link):
    """Return the Korean page where a link leads to one that has a Korean twin, else the link."""
    its_twin = link.replace(".md", ".ko.md")
    return its_twin if (ROOT / its_twin).is_file() else link


def figures(text):
    """Return the numbers of a text, without those in code and links."""
    plain = re.sub(r"`[^`]+`|\]\(.+?\)|<!-- .+? -->", "", text)
    return Counter(re.findall(r"\d+(?:[.,]\d+)*", plain))


def cells(body):
    return [line.strip("|").split("|") for line in body.splitlines() if line.startswith("|")]


TWINS = list(zip(sections(README), sections(KOREAN), strict=False))
twins = pytest.mark.parametrize(("section", "its_twin"), TWINS, ids=[heading for (heading, _), _ in TWINS])


def test_the_korean_readme_has_the_same_sections_and_code():
    levels, its_levels = ([heading.partition(" ")[0] for heading, _ in sections(text)] for text in (README, KOREAN))
    assert levels == its_levels
    assert CODE.findall(README) == CODE.findall(KOREAN)


@twins
def test_a_korean_section_has_the_paragraphs_code_links_and_figures_of_the_english_one(section, its_twin):
    (_, body), (_, its_body) = section, its_twin
    assert kinds(body) == kinds(its_body)
    assert code_words(body) == code_words(its_body)
    assert Counter(map(in_korean, links(body).elements())) == links(its_body)
    assert not figures(body) - figures(its_body)  # Korean writes figures for some words, such as "three to five"
    for row, its_row in zip(cells(body), cells(its_body), strict=True):
        assert [figures(cell) for cell in row] == [figures(cell) for cell in its_row]


@twins
def test_a_korean_section_was_made_from_the_english_one_as_it_is(section, its_twin):
    (heading, _), (its_heading, its_body) = section, its_twin
    todo = f"README.md: {heading!r} has changed; change README.ko.md: {its_heading!r}, and put below that heading: "
    assert its_body.partition("\n")[0] == mark(*section), todo + mark(*section)


def anchors(text):
    """Return what links to the headings of a page are called on GitHub."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ["README.md", "README.ko.md", "steps/README.md", "steps/README.ko.md"])
def test_links_lead_somewhere(name):
    page = ROOT / name
    for link in re.findall(r"\]\((.+?)\)", CODE.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists() or re.fullmatch(r"step\d\d\.py", path), link  # a test of the steps has those
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link
