"""Pictures of a graph: its description, and how the program that draws it is called, without any shell."""

import json
import os
import re
import sys

import numpy as np
import pytest

from dezero import functions as F
from dezero.core import Function, Variable
from dezero.drawing import get_dot_graph, plot_dot_graph

NODE = re.compile(r'(\d+) \[label="((?:[^"\\]|\\.)*)", (.*)\]')
EDGE = re.compile(r"(\d+) -> (\d+)")


def parse(text):
    """Return ({id: (label, style)}, [(from, to)]) of a description, of which every line must be understood."""
    lines = text.split("\n")
    assert lines[0] == "digraph g {"
    assert lines[-1] == "}"
    nodes, edges = {}, []
    for line in lines[1:-1]:
        if node := NODE.fullmatch(line):
            assert node[1] not in nodes, "a node described twice"
            nodes[node[1]] = node[2], node[3]
        else:
            edges.append(EDGE.fullmatch(line).groups())
    return nodes, edges


def var(value=1.0, name=None):
    return Variable(np.array(value), name=name)


def labels(text, kind):
    boxes = {True: "box", False: "ellipse"}
    return sorted(label for label, style in parse(text)[0].values() if boxes["shape=box" in style] == kind)


def test_variables_are_ellipses_and_functions_boxes():
    x, y = var(name="x"), var(name="y")
    z = x * y
    z.name = "z"
    text = get_dot_graph(z, verbose=False)
    assert labels(text, "ellipse") == ["x", "y", "z"]
    assert labels(text, "box") == ["Mul"]


def test_edges_go_from_causes_to_results():
    x, y = var(name="x"), var(name="y")
    z = x * y
    nodes, edges = parse(get_dot_graph(z))
    f = str(id(z.creator))
    assert sorted(edges) == sorted([(str(id(x)), f), (str(id(y)), f), (f, str(id(z)))])
    assert set(nodes) == {str(id(x)), str(id(y)), str(id(z)), f}


def test_every_node_of_a_diamond_is_described_once():
    x = var(2.0)
    a = F.exp(x)
    y = a * a + F.sin(a) + a
    nodes, edges = parse(get_dot_graph(y))
    assert labels(get_dot_graph(y), "box") == ["Add", "Add", "Exp", "Mul", "Sin"]
    assert len(nodes) == 5 + 6
    assert {end for edge in edges for end in edge} == set(nodes)
    assert [start for start, _ in edges].count(str(id(a))) >= 3


def test_a_ladder_of_diamonds_is_walked_once():
    x = y = var()
    for _ in range(60):
        y = y + y
    nodes, _ = parse(get_dot_graph(y))
    assert len(nodes) == 121
    assert str(id(x)) in nodes


def test_a_long_chain_needs_no_recursion():
    y = var()
    for _ in range(3000):
        y = -y
    assert len(parse(get_dot_graph(y))[0]) == 6001


def test_outputs_that_somebody_still_holds_are_in_the_picture():
    class Both(Function):
        def forward(self, x):
            return x + 1, x - 1

        def backward(self, ga, gb):
            return ga + gb

    a, b = Both()(var())
    nodes, edges = parse(get_dot_graph(a))
    assert (str(id(a.creator)), str(id(b))) in edges
    del b
    nodes, edges = parse(get_dot_graph(a))
    assert len(nodes) == 3
    assert len(edges) == 2


def test_verbose_writes_shapes_and_dtypes_beside_names():
    x = Variable(np.zeros((2, 3), np.float32), name="x")
    y = x.sum()
    assert labels(get_dot_graph(y), "ellipse") == ["() float32", "x: (2, 3) float32"]
    assert labels(get_dot_graph(y, verbose=False), "ellipse") == ["", "x"]


def test_a_variable_without_data_has_its_name_alone():
    assert labels(get_dot_graph(Variable(None, name="empty")), "ellipse") == ["empty"]
    assert labels(get_dot_graph(Variable(None)), "ellipse") == [""]


def test_a_leaf_is_a_picture_of_one_node():
    nodes, edges = parse(get_dot_graph(var(name="x")))
    assert ([label for label, _ in nodes.values()], edges) == (["x: () float64"], [])


@pytest.mark.parametrize(
    "name", ['say "x"', "back\\slash", 'ends in \\"', "two\nlines", 'x"]; } digraph evil {', "\\", "x -> y", "größe"]
)
def test_no_name_breaks_out_of_its_label(name):
    text = get_dot_graph(var(name=name), verbose=False)
    (label, _), = parse(text)[0].values()  # fmt: skip
    assert re.sub(r"\\(.)", r"\1", label) == name.replace("\n", " ")


def test_second_order_graphs_are_drawn_too():
    x = var(1.0, name="x")
    F.tanh(x).backward(create_graph=True)
    x.grad.name = "gx"
    assert "gx" in labels(get_dot_graph(x.grad, verbose=False), "ellipse")


# ----------------------------------------------------------------------------------------------------------------------
# Calling dot
# ----------------------------------------------------------------------------------------------------------------------


FAKE_DOT = """#!{python}
import json, os, sys
with open({log!r}, "w", encoding="utf-8") as log:
    json.dump({{"arguments": sys.argv[1:], "input": sys.stdin.buffer.read().decode("utf-8")}}, log)
if os.environ.get("FAKE_DOT_FAILS"):
    sys.exit("syntax error in line 1")
with open(sys.argv[sys.argv.index("-o") + 1], "w") as file:
    file.write("a picture")
"""


@pytest.fixture
def dot(tmp_path, monkeypatch):
    """A program called `dot` that writes down how it was called; the fixture is a function that tells."""
    if os.name != "posix":
        pytest.skip("the stand-in for dot is a script with a #! line")
    folder, log = tmp_path / "bin", tmp_path / "log.json"
    folder.mkdir()
    script = folder / "dot"
    script.write_text(FAKE_DOT.format(python=sys.executable, log=str(log)))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return lambda: json.loads(log.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "name",
    [
        "graph.png",
        "my graph.png",
        'it\'s "it".png',
        "a; touch evil; .png",
        "$(touch evil).png",
        "-o evil.png",
        "&&|.png",
    ],
)
def test_any_file_name_is_one_argument(dot, name):
    y = var(name="x") * 2.0
    plot_dot_graph(y, to_file=name)
    assert dot() == {"arguments": ["-T", "png", "-o", os.path.abspath(name)], "input": get_dot_graph(y)}
    assert os.listdir() == [name]


@pytest.mark.parametrize(
    ("name", "kind"), [("g.svg", "svg"), ("g.pdf", "pdf"), ("folder.v1/g.png", "png"), ("g", "png")]
)
def test_the_ending_names_the_format(dot, name, kind):
    os.mkdir("folder.v1")
    plot_dot_graph(var() * 2.0, to_file=name)
    assert dot()["arguments"][:2] == ["-T", kind]


def test_the_default_file_and_what_is_written_in_it(dot):
    y = Variable(np.zeros(3, np.float32), name="größe") * 2.0
    plot_dot_graph(y, verbose=False)
    assert os.listdir() == ["graph.png"]
    assert dot()["input"] == get_dot_graph(y, verbose=False)


def test_a_dot_that_fails_is_an_error_with_what_it_said(dot, monkeypatch):
    monkeypatch.setenv("FAKE_DOT_FAILS", "1")
    with pytest.raises(RuntimeError, match="plot_dot_graph: dot failed: syntax error in line 1"):
        plot_dot_graph(var() * 2.0)


def test_without_dot_the_error_names_graphviz_and_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"plot_dot_graph: needs the program `dot`; install Graphviz"):
        plot_dot_graph(var() * 2.0, to_file=str(tmp_path / "g.png"))
    assert os.listdir(tmp_path) == []
