"""Pictures of a graph: the SVG, the description, and how the program that draws it is called, without any shell."""

import gc
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import weakref
from xml.etree import ElementTree

import numpy as np
import pytest

from dezero import core_simple
from dezero import functions as F
from dezero.core import Function, Parameter, Variable
from dezero.drawing import get_dot_graph, graph, plot_dot_graph

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


def test_an_argument_that_was_left_out_is_no_node():
    y = F.linear(Variable(np.zeros((2, 3)), name="x"), Parameter(np.zeros((3, 4)), name="W"))
    assert labels(get_dot_graph(y, verbose=False), "ellipse") == ["", "W", "x"]


def test_several_outputs_share_one_picture():
    x = var(name="x")
    text = get_dot_graph([F.exp(x), F.sin(x)])
    assert labels(text, "box") == ["Exp", "Sin"]
    assert len(parse(text)[0]) == 5
    assert get_dot_graph((x, x)) == get_dot_graph(x)


def test_the_simple_cores_graphs_are_drawn_too():
    x = core_simple.Variable(np.array(2.0), name="x")
    y = x * x + 1.0
    assert labels(get_dot_graph(y, verbose=False), "box") == ["Add", "Mul"]
    assert Picture(graph(y)).names("leaf") == ["1.0", "x"]


@pytest.mark.parametrize("draw", [graph, get_dot_graph, plot_dot_graph])
@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        (3.0, TypeError, "expected a Variable, got float 3.0"),
        (np.zeros(2), TypeError, r"expected a Variable, got ndarray array\(\[0., 0.\]\)"),
        (None, TypeError, "expected a Variable, got NoneType None"),
        ([Variable(np.zeros(2)), "y"], TypeError, "expected a Variable, got str 'y'"),
        ([], ValueError, "expected a Variable or several, got an empty list"),
        ((), ValueError, "expected a Variable or several, got an empty tuple"),
    ],
)
def test_what_is_no_variable_is_an_error(draw, output, error, message):
    with pytest.raises(error, match=f"^{draw.__name__}: {message}"):
        draw(output)


def test_second_order_graphs_are_drawn_too():
    x = var(1.0, name="x")
    F.tanh(x).backward(create_graph=True)
    x.grad.name = "gx"
    assert "gx" in labels(get_dot_graph(x.grad, verbose=False), "ellipse")


# ----------------------------------------------------------------------------------------------------------------------
# SVG
# ----------------------------------------------------------------------------------------------------------------------


class Picture:
    """What an SVG shows, read back: nodes (kind, tooltip, texts, box), edges (their first and last point), heads."""

    def __init__(self, picture):
        self.root = ElementTree.fromstring(picture.svg)
        _, edges, heads, *nodes = list(self.root)
        self.nodes = [self._node(element) for element in nodes]
        self.edges = [self._ends(element.get("d")) for element in edges]
        self.heads = heads.get("d").count("M")

    def _node(self, element):
        title, rect, *texts = element
        assert [child.tag.partition("}")[2] for child in element] == ["title", "rect"] + ["text"] * len(texts)
        x, y, width, height = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
        return element.get("class"), title.text or "", [t.text for t in texts], (x, y, x + width, y + height)

    def _ends(self, path):
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", path)]
        return tuple(numbers[:2]), tuple(numbers[-2:])

    def names(self, kind):
        return sorted(texts[0] if texts else "" for k, _, texts, _ in self.nodes if k == kind)

    def links(self, sideways=False):
        """The edges as pairs of names, found by the borders on which they begin and end."""
        return sorted((self._at(start, 1, sideways), self._at(end, 0, sideways)) for start, end in self.edges)

    def _at(self, point, side, sideways):
        along, across = (0, 1) if sideways else (1, 0)
        (found,) = [
            texts[0]
            for _, _, texts, box in self.nodes
            if abs(box[along + 2 * side] - point[along]) < 0.2 and box[across] < point[across] < box[across + 2]
        ]
        return found


def goldstein_price():
    x, y = var(1.0, "x"), var(1.0, "y")
    z = (1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2)) * (
        30 + (2 * x - 3 * y) ** 2 * (18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2)
    )
    z.name = "z"
    return z


@pytest.mark.parametrize("direction", ["down", "right"])
def test_edges_join_the_borders_of_causes_and_results(direction):
    x, y = var(2.0, "x"), var(3.0, "y")
    a = x * x
    z = a + y
    a.name, z.name = "a", "z"
    picture = Picture(graph(z, direction=direction))
    expected = [("Add", "z"), ("Mul", "a"), ("a", "Add"), ("x", "Mul"), ("x", "Mul"), ("y", "Add")]
    assert picture.links(sideways=direction == "right") == expected
    assert picture.heads == 6


@pytest.mark.parametrize("direction", ["down", "right"])
def test_every_node_and_every_edge_of_goldstein_price_is_drawn_once(direction):
    picture = graph(goldstein_price(), direction=direction)
    nodes, edges = parse(picture.dot)
    drawn = Picture(picture)
    assert (len(drawn.nodes), len(drawn.edges), drawn.heads) == (len(nodes), len(edges), len(edges))
    assert drawn.names("function") == labels(picture.dot, "box")
    assert drawn.names("constant") == sorted(
        f"{float(c)}" for c in [1, 1, 19, 14, 3, 14, 6, 3, 30, 2, 3, 18, 32, 12, 48, 36, 27]
    )
    for (*_, a), (*_, b) in itertools.combinations(drawn.nodes, 2):
        assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]
    along = 0 if direction == "right" else 1
    assert all(start[along] < end[along] for start, end in drawn.edges)
    low_x, low_y, width, height = map(float, drawn.root.get("viewBox").split())
    for *_, (left, top, right, bottom) in drawn.nodes:
        assert low_x < left < right < low_x + width
        assert low_y < top < bottom < low_y + height


def test_kinds_are_told_apart():
    x, w = var(name="x"), Parameter(np.array(2.0), name="w")
    a = x * w
    a.name = "a"
    y = a + 3.0
    y.name = "y"
    drawn = Picture(graph(y))
    assert {kind: drawn.names(kind) for kind, *_ in drawn.nodes} == {
        "leaf": ["x"],
        "parameter": ["w"],
        "constant": ["3.0"],
        "function": ["Add", "Mul"],
        "result": ["a", "y"],
    }
    assert graph(y).svg.count('stroke-width="2.5"') == 1, "the output alone is bold"


def test_verbose_says_shapes_and_dtypes_and_the_numbers_of_functions():
    y = Variable(np.zeros((2, 3), np.float32), name="x") ** 2
    texts = [texts for _, _, texts, _ in Picture(graph(y)).nodes]
    assert texts == [["(2, 3) float32"], ["Pow", "c=2"], ["x", "(2, 3) float32"]]
    texts = [texts for _, _, texts, _ in Picture(graph(y, verbose=False)).nodes]
    assert texts == [[], ["Pow"], ["x"]]


def test_tooltips_tell_all():
    x = Variable(np.zeros((1, 2, 8, 8), np.float32), name="x")
    y = F.conv2d(x, Parameter(np.zeros((3, 2, 3, 3), np.float32), name="W"), stride=2, pad=1)
    y.name = "y"
    tooltips = {tooltip.split("\n")[0]: tooltip for _, tooltip, _, _ in Picture(graph(y, verbose=False)).nodes}
    assert set(tooltips) == {"x", "W", "y", "Conv2d"}
    assert tooltips["y"] == "y\nresult\n(1, 3, 4, 4) float32\nfrom Conv2d"
    assert "stride = (2, 2)" in tooltips["Conv2d"]


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (np.array(2.0), "2.0"),
        (np.array([[3]]), "3"),
        (np.array(1 / 3), "0.333333"),
        (np.array(0.1, np.float32), "0.1"),
        (np.array(1.23456789e-7), "1.23457e-07"),
        (np.array(True), "True"),
        (np.array(np.inf), "inf"),
        (np.zeros(2), "(2,) float64"),
    ],
)
def test_a_constant_without_a_name_shows_its_value_when_it_is_one_number(value, label):
    drawn = Picture(graph(Variable(np.ones((1, 2)), name="x") * value))
    assert drawn.names("constant") == [label]


NAMES = ['say "x"', "a < b & c > d", "</title><script>", "größe ☃ 漢字 é", "two\nlines\tand a tab", "&amp;", "]]>"]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_breaks_out_of_its_text(name):
    ((_, tooltip, texts, _),) = Picture(graph(var(name=name), verbose=False)).nodes
    assert texts == [re.sub(r"\s", " ", name)]
    assert tooltip.startswith(name.split("\n")[0].split("\t")[0])


@pytest.mark.parametrize("name", ["\0", "a\x07b", "\x1b[31m", "\ud800", "\ufffe"])
def test_characters_that_xml_has_no_place_for_are_replaced(name, tmp_path):
    picture = graph(var(name=name), verbose=False)
    ((_, _, texts, _),) = Picture(picture).nodes
    assert "\ufffd" in texts[0]
    assert len(texts[0]) == len(name)
    picture.save(tmp_path / "g.svg")
    picture.dot.encode("utf-8")


def test_a_long_name_is_shortened_in_the_label_and_whole_in_the_tooltip():
    ((_, tooltip, texts, box),) = Picture(graph(var(name="layer/" * 50), verbose=False)).nodes
    assert texts[0].endswith("…")
    assert len(texts[0]) < 40
    assert tooltip.startswith("layer/" * 50)
    assert box[2] - box[0] < 400


def test_a_longer_label_has_a_wider_box():
    widths = []
    for name in ("i", "iiii", "mmmm", "漢字漢字漢字"):
        ((*_, box),) = Picture(graph(var(name=name), verbose=False)).nodes
        widths.append(box[2] - box[0])
    assert widths == sorted(set(widths))


def test_the_picture_needs_nothing_outside_it_and_clashes_with_no_other():
    svg = graph(goldstein_price()).svg
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"\b(id|href|src)=|url\(|<style|<script|@import", svg)


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
padding = [object() for _ in range(int(sys.argv[2]))]  # moves what comes after it to other places in memory
from tests.test_drawing import goldstein_price
from dezero.drawing import graph
sys.stdout.buffer.write(graph(goldstein_price()).svg.encode("utf-8"))
"""


def test_the_same_graph_gives_the_same_bytes_in_every_process():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    runs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, root, padding],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed, padding in (("1", "0"), ("2", "1013"))
    ]
    assert runs[0] == runs[1] == graph(goldstein_price()).svg.encode("utf-8")


def test_a_leaf_and_a_variable_without_data():
    assert Picture(graph(var(name="x"))).names("leaf") == ["x"]
    assert Picture(graph(Variable(None, name="later"))).names("leaf") == ["later"]
    assert Picture(graph(Variable(None))).names("leaf") == [""]


def test_an_output_that_is_used_a_hundred_times():
    y = F.exp(var(name="x"))
    y.name = "y"
    z = y
    for _ in range(100):
        z = z + F.sin(y)
    drawn = Picture(graph(z))
    assert len(drawn.edges) == 2 + 100 * 5
    ((_, _, _, (left, _, right, bottom)),) = [node for node in drawn.nodes if node[2][:1] == ["y"]]
    border = pytest.approx(((left + right) / 2, bottom), abs=0.2)
    assert sum(start == border for start, _ in drawn.edges) == 101


def test_functions_of_several_outputs_show_those_that_somebody_holds():
    class Both(Function):
        def forward(self, x):
            return x + 1, x - 1

        def backward(self, ga, gb):
            return ga + gb

    a, b = Both()(var(name="x"))
    a.name, b.name = "a", "b"
    assert Picture(graph(a)).links() == [("Both", "a"), ("Both", "b"), ("x", "Both")]
    del b
    assert Picture(graph(a)).links() == [("Both", "a"), ("x", "Both")]


def test_outputs_that_have_nothing_in_common_stand_side_by_side():
    a, b = F.sin(var(name="x")), F.cos(var(name="y"))
    a.name, b.name = "a", "b"
    assert Picture(graph([a, b])).links() == [("Cos", "b"), ("Sin", "a"), ("x", "Sin"), ("y", "Cos")]


def test_a_long_chain_is_drawn_without_recursion():
    y = var(name="x")
    for _ in range(3000):
        y = -y
    picture = graph(y)
    assert repr(picture) == "<Graph: 3000 Functions, 3001 Variables>"
    assert len(Picture(picture).nodes) == 6001


def test_jupyter_is_given_the_svg_and_the_picture_keeps_no_variable_alive():
    y = F.exp(var(name="x"))
    picture = graph(y)
    assert picture._repr_svg_() == picture.svg
    assert picture.dot == get_dot_graph(y)
    reference = weakref.ref(y)
    del y
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("direction", ["up", "", None, "Down"])
def test_a_direction_that_is_none_is_an_error(direction):
    with pytest.raises(ValueError, match=f"graph: direction must be 'down' or 'right', got {direction!r}"):
        graph(var(), direction=direction)


@pytest.mark.parametrize("name", ["g.svg", "G.SVG", "-x.svg", "a b; rm.svg", "größe.v2.svg", '"$(x)".svg'])
def test_saving_svg_needs_no_program(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("older")
    picture = graph(var(name="größe") * 2.0)
    picture.save(name)
    assert os.listdir() == [name]
    assert (tmp_path / name).read_text(encoding="utf-8") == picture.svg


def test_a_name_without_an_ending_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"Graph.save: expected a file name with an ending, such as 'graph.svg', got"):
        graph(var()).save(tmp_path / "graph")
    assert os.listdir(tmp_path) == []


def test_other_endings_need_dot_and_the_error_says_that_svg_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"Graph.save: needs the program `dot`; .*save\('graph.svg'\)"):
        graph(var()).save(tmp_path / "g.png")


@pytest.mark.parametrize("name", ["g.svg", "g.png"])
def test_a_folder_that_is_not_there_is_an_error_that_names_it(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"Graph.save: there is no folder .*nowhere.* to write '{name}' to"):
        graph(var()).save(tmp_path / "nowhere" / name)
    with pytest.raises(FileNotFoundError, match=r"plot_dot_graph: there is no folder .*nowhere"):
        plot_dot_graph(var(), to_file=str(tmp_path / "nowhere" / name))


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
        "-x.png",
        "a b; rm.png",
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


def test_a_picture_is_saved_by_dot_where_the_ending_asks_for_it(dot):
    picture = graph(var(name="x") * 2.0)
    picture.save("-x.pdf")
    assert dot() == {"arguments": ["-T", "pdf", "-o", os.path.abspath("-x.pdf")], "input": picture.dot}


def test_a_dot_that_fails_is_an_error_with_what_it_said(dot, monkeypatch):
    monkeypatch.setenv("FAKE_DOT_FAILS", "1")
    with pytest.raises(RuntimeError, match="plot_dot_graph: dot failed: syntax error in line 1"):
        plot_dot_graph(var() * 2.0)


def test_without_dot_the_error_names_graphviz_and_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"plot_dot_graph: needs the program `dot`; install Graphviz"):
        plot_dot_graph(var() * 2.0, to_file=str(tmp_path / "g.png"))
    assert os.listdir(tmp_path) == []


needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")


@needs_dot
@pytest.mark.parametrize("name", ["-x.png", "a b; rm.png", '"$(x)" & größe.png'])
def test_graphviz_itself_draws_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    y = var(name='say "x" \\ <b>') * 2.0
    plot_dot_graph(y, to_file=name)
    assert os.listdir() == [name]
    assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@needs_dot
def test_graphviz_says_which_formats_it_knows(tmp_path):
    with pytest.raises(RuntimeError, match=r"plot_dot_graph: dot failed: .*nonsense"):
        plot_dot_graph(var(), to_file=str(tmp_path / "g.nonsense"))
