"""Pictures of a graph: an SVG, which needs nothing, or what Graphviz makes of a description in its DOT language."""

from __future__ import annotations

import html
import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dezero import core, core_simple
from dezero.files import open_whole
from dezero.layout import HEAD, Layout, Point, layout

__all__ = ["Graph", "get_dot_graph", "graph", "plot_dot_graph"]


@dataclass(frozen=True)
class Graph:
    """A picture of a graph, as `graph` makes it; Jupyter shows it. It keeps no Variable and no array alive.

    Attributes:
        svg: the picture, an SVG document.
        dot: the same graph in Graphviz's DOT language.
        counts: the numbers of Functions and of Variables.
    """

    svg: str = field(repr=False)
    dot: str = field(repr=False)
    counts: tuple[int, int]

    def __repr__(self) -> str:
        return f"<Graph: {self.counts[0]} Functions, {self.counts[1]} Variables>"

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: Any) -> None:
        """Write the picture to a file. `.svg` needs nothing; other endings (.png, .pdf, ...) need Graphviz's `dot`.

        Raises ValueError for a name without an ending, FileNotFoundError when there is no such folder, and RuntimeError
        when Graphviz is needed and is not there, or fails.
        """
        path = Path(path)
        if not path.suffix:
            raise ValueError(f"Graph.save: expected a file name with an ending, such as 'graph.svg', got {str(path)!r}")
        if path.suffix.lower() != ".svg":
            return _run_dot("Graph.save", self.dot, path)
        _check_folder("Graph.save", path)
        with open_whole(path) as file:
            file.write(self.svg.encode("utf-8"))


def graph(output: Any, verbose: bool = True, direction: str = "down") -> Graph:
    """Draw the graph behind `output`: Jupyter shows it, `graph(y).save("graph.svg")` writes it to a file.

    Boxes are Functions, with the number they were given (`c=2`); rounded boxes are Variables: white results, orange
    leaves, green Parameters, grey constants, and outputs with a bold edge. A constant of one element shows its value.
    Resting the mouse on a node tells all about it.

    Args:
        output: a Variable, or a list or tuple of them.
        verbose: write shapes and dtypes below the names.
        direction: where results are: "down", or "right".

    Raises TypeError when `output` is no Variable; ValueError for an empty list and other directions. A graph of 1,000
    nodes takes about a second. The time grows with its nodes and with the layers that its edges pass, and large ones
    have more crossings than they need: see `dezero.layout.layout`.

    >>> x = core.Variable(np.array(3.0), name="x")
    >>> picture = graph(x**2 + 1)
    >>> picture
    <Graph: 2 Functions, 4 Variables>
    >>> picture.svg[:4]
    '<svg'
    """
    outputs = _check_outputs("graph", output)
    if direction not in ("down", "right"):
        raise ValueError(f"graph: direction must be 'down' or 'right', got {direction!r}")
    nodes, edges = _walk(outputs)
    bold = set(outputs)
    svg = _svg([_box(node, verbose, node in bold) for node in nodes], edges, sideways=direction == "right")
    functions = sum(not isinstance(node, VARIABLES) for node in nodes)
    return Graph(svg, _dot(nodes, edges, verbose), (functions, len(nodes) - functions))


def get_dot_graph(output: Any, verbose: bool = True) -> str:
    """Describe the graph behind `output` in the DOT language: ellipses are Variables, boxes Functions.

    Args:
        output: a Variable, or a list or tuple of them.
        verbose: write shapes and dtypes beside the names.

    Raises TypeError when `output` is no Variable, and ValueError for an empty list.

    >>> print(get_dot_graph(core.Variable(np.array(3.0), name="x")))  # doctest: +ELLIPSIS
    digraph g {
    ... [label="x: () float64", color=orange, style=filled]
    }
    """
    return _dot(*_walk(_check_outputs("get_dot_graph", output)), verbose)


def plot_dot_graph(output: Any, verbose: bool = True, to_file: str = "graph.png") -> Any:
    """Draw the graph behind `output` with Graphviz to `to_file`, in the format its ending names (png, svg, pdf, ...).

    Args:
        output: a Variable, or a list or tuple of them.
        verbose: write shapes and dtypes beside the names.

    Returns an IPython image where IPython is running. Raises TypeError when `output` is no Variable, FileNotFoundError
    when there is no such folder, and RuntimeError when there is no `dot` program or it fails.
    """
    text = _dot(*_walk(_check_outputs("plot_dot_graph", output)), verbose)
    path = Path(to_file)
    _run_dot("plot_dot_graph", text, path)
    return _notebook_image(path)


# ----------------------------------------------------------------------------------------------------------------------
# The graph behind an output
# ----------------------------------------------------------------------------------------------------------------------

VARIABLES = (core.Variable, core_simple.Variable)


def _check_outputs(operation: str, output: Any) -> list[Any]:
    outputs = list(output) if isinstance(output, (list, tuple)) else [output]
    for y in outputs:
        if not isinstance(y, VARIABLES):
            raise TypeError(f"{operation}: expected a Variable, got {type(y).__name__} {y!r:.60}")
    if not outputs:
        raise ValueError(f"{operation}: expected a Variable or several, got an empty {type(output).__name__}")
    return outputs


def _walk(outputs: Sequence[Any]) -> tuple[list[Any], list[tuple[int, int]]]:
    """Return the Variables and Functions behind `outputs`, first inputs first, and the edges from causes to results."""
    number: dict[Any, int] = {}
    edges: list[tuple[Any, Any]] = []
    waiting = list(reversed(outputs))
    while waiting:
        node = waiting.pop()
        if node in number:
            continue
        number[node] = len(number)
        if isinstance(node, VARIABLES):
            waiting += [node.creator] if node.creator is not None else []
            continue
        alive = [y for output in node.outputs if (y := output()) is not None]
        given = [x for x in node.inputs if x.data is not None or getattr(x, "requires_grad", True)]  # no None for b
        edges += [(x, node) for x in given]  # x * x has two
        edges += [(node, y) for y in alive]
        waiting += [*reversed(alive), *reversed(given)]
    return list(number), [(number[start], number[end]) for start, end in edges]


def _kind(v: Any) -> str:
    """Return a Variable's shape and dtype, as far as what it holds has any."""
    return "" if v.data is None else f"{getattr(v.data, 'shape', ())} {getattr(v.data, 'dtype', type(v.data).__name__)}"


def _clean(text: str) -> str:
    """Make one line of a name, without the characters that XML has no place for."""
    return re.sub(r"[^ -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", re.sub(r"[\t\n\r]", " ", text))


# ----------------------------------------------------------------------------------------------------------------------
# DOT, and the program that draws it
# ----------------------------------------------------------------------------------------------------------------------


def _dot(nodes: Sequence[Any], edges: Sequence[tuple[int, int]], verbose: bool) -> str:
    lines = [_variable_line(node, verbose) if isinstance(node, VARIABLES) else _function_line(node) for node in nodes]
    arrows = [f"{id(nodes[start])} -> {id(nodes[end])}" for start, end in edges]
    return "\n".join(["digraph g {", *lines, *arrows, "}"])


def _variable_line(v: Any, verbose: bool) -> str:
    parts = [str(v.name or ""), _kind(v) if verbose else ""]
    return f'{id(v)} [label="{_quote(": ".join(filter(None, parts)))}", color=orange, style=filled]'


def _function_line(func: Any) -> str:
    return f'{id(func)} [label="{_quote(type(func).__name__)}", color=lightblue, style=filled, shape=box]'


def _quote(text: str) -> str:
    return _clean(text).replace("\\", "\\\\").replace('"', '\\"')


def _run_dot(operation: str, text: str, path: Path) -> None:
    """Have Graphviz's `dot` draw `text` to the file `path`."""
    import shutil
    import subprocess

    _check_folder(operation, path)
    dot = shutil.which("dot")
    if dot is None:
        raise RuntimeError(
            f"{operation}: needs the program `dot`; install Graphviz (for example `apt install graphviz` or "
            "`brew install graphviz`), or write the picture that needs nothing: graph(y).save('graph.svg')"
        )
    # The description goes in by a pipe and the file name is one argument: no shell reads either.
    command = [dot, "-T", path.suffix[1:] or "png", "-o", str(path.absolute())]
    done = subprocess.run(command, input=text, encoding="utf-8", capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{operation}: dot failed: {done.stderr.strip()}")


def _check_folder(operation: str, path: Path) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{operation}: there is no folder {str(path.parent)!r} to write {path.name!r} to")


def _notebook_image(path: Path) -> Any:
    try:
        from IPython import display, get_ipython
    except ImportError:
        return None
    if get_ipython() is None or path.suffix not in (".png", ".jpg", ".gif"):
        return None
    return display.Image(filename=str(path))


# ----------------------------------------------------------------------------------------------------------------------
# Boxes
# ----------------------------------------------------------------------------------------------------------------------

MARGIN = 16.0
LONGEST = 28  # characters of a label
FONTS = (13.0, 11.0)  # of a name, and of what is written below it
COLOURS = {  # fill and edge; all stand on a white ground, as notebooks may be dark
    "function": ("#dcebfa", "#6f9fd0"),
    "result": ("#ffffff", "#b9a68c"),
    "leaf": ("#ffe4bd", "#d9973a"),
    "parameter": ("#dff0d8", "#6fa85f"),
    "constant": ("#f1f1f1", "#b4b4b4"),
}


class _Box(NamedTuple):
    """What is drawn for one node."""

    kind: str
    name: str
    below: str  # in smaller letters
    tooltip: str
    bold: bool

    @property
    def lines(self) -> list[tuple[str, float]]:
        """The lines of the label, each with the size of its letters."""
        return [(text, font) for text, font in zip((self.name, self.below), FONTS, strict=True) if text]

    @property
    def size(self) -> Point:
        height = max(16.0, 8 + sum(font + 4 for _, font in self.lines))
        return max([height, *(20 + _width(text, font) for text, font in self.lines)]), height


def _box(node: Any, verbose: bool, bold: bool) -> _Box:
    return _variable_box(node, verbose, bold) if isinstance(node, VARIABLES) else _function_box(node, verbose)


def _function_box(func: Any, verbose: bool) -> _Box:
    settings = {name: value for name, value in vars(func).items() if _is_setting(name, value)}
    numbers = [f"{name}={value}" for name, value in settings.items() if type(value) in (int, float)]
    name = type(func).__name__
    tooltip = "\n".join([name, *(f"{name} = {value}" for name, value in settings.items())])
    return _Box("function", _shorten(name), _shorten(" ".join(numbers)) if verbose else "", tooltip, bold=False)


def _is_setting(name: str, value: Any) -> bool:
    """Say whether an attribute of a Function is one it was given: a number, a word, or a few of them."""
    if name[0] == "_" or name in ("inputs", "outputs", "generation"):
        return False
    parts = value if isinstance(value, tuple) else (value,)
    return all(part is None or isinstance(part, (bool, int, float, str)) for part in parts)


def _variable_box(v: Any, verbose: bool, bold: bool) -> _Box:
    if not getattr(v, "requires_grad", True):
        kind = "constant"
    elif isinstance(v, core.Parameter):
        kind = "parameter"
    else:
        kind = "leaf" if v.creator is None else "result"
    name, below, value = str(v.name or ""), _kind(v), ""
    made_by = "" if v.creator is None else f"from {type(v.creator).__name__}"
    if v.data is not None and getattr(v.data, "size", 1) == 1:
        value = _number(v.data)
    tooltip = "\n".join(filter(None, [name, kind, below, value and f"value {value}", made_by]))
    if not name and v.creator is None and value:
        name, below = value, ""
    return _Box(kind, _shorten(name), _shorten(below) if verbose else "", tooltip, bold)


def _number(data: Any) -> str:
    """Write an array of one element as a number: 2.0, 0.333333."""
    text = str(data.reshape(())) if hasattr(data, "reshape") else str(data)
    return text if len(text) <= 8 or data.dtype.kind != "f" else f"{float(text):.6g}"


def _shorten(text: str) -> str:
    text = _clean(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _width(text: str, font: float) -> float:
    """Estimate how wide a text is in Helvetica or what stands for it: no font can be measured here."""
    return font * sum(_character_width(character) for character in text)


def _character_width(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    if character in "mwMW@%…":
        return 0.9
    return 0.36 if character in "ijltf.,:;'|!()[] " else 0.72 if character.isupper() else 0.58


# ----------------------------------------------------------------------------------------------------------------------
# SVG
# ----------------------------------------------------------------------------------------------------------------------


def _svg(boxes: list[_Box], edges: list[tuple[int, int]], sideways: bool) -> str:
    """Write the picture. It refers to nothing outside it, and has no ids that another on the same page could have."""
    sizes = [box.size for box in boxes]
    plan = layout([size[::-1] for size in sizes] if sideways else sizes, edges)
    if sideways:
        plan = _on_its_side(plan)
    width, height = plan.width + 2 * MARGIN, plan.height + 2 * MARGIN
    paths = [_edge(route, sideways) for route in plan.routes]
    heads = "".join(_head(*route[-1], sideways) for route in plan.routes)
    drawn = [_node(box, size, centre) for box, size, centre in zip(boxes, sizes, plan.centres, strict=True)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="{-MARGIN:.0f} {-MARGIN:.0f} {width:.0f} {height:.0f}" style="max-width: none" '
            'font-family="Helvetica, Arial, sans-serif" text-anchor="middle">',
            f'<rect x="{-MARGIN:.0f}" y="{-MARGIN:.0f}" width="{width:.0f}" height="{height:.0f}" rx="6" fill="#fff"/>',
            '<g fill="none" stroke="#8a929c" stroke-width="1.2">',
            *paths,
            "</g>",
            f'<path d="{heads}" fill="#6b737d"/>',
            *drawn,
            "</svg>",
        ]
    )


def _on_its_side(plan: Layout) -> Layout:
    centres = [(y, x) for x, y in plan.centres]
    return Layout(centres, [[(y, x) for x, y in route] for route in plan.routes], plan.height, plan.width)


def _edge(route: list[Point], sideways: bool) -> str:
    steps = [f"M{_at(*route[0])}"]
    for (x0, y0), (x1, y1) in itertools.pairwise(route):
        if (y0 == y1) if sideways else (x0 == x1):
            steps.append(f"L{_at(x1, y1)}")
        elif sideways:
            steps.append(f"C{_at((x0 + x1) / 2, y0)} {_at((x0 + x1) / 2, y1)} {_at(x1, y1)}")
        else:
            steps.append(f"C{_at(x0, (y0 + y1) / 2)} {_at(x1, (y0 + y1) / 2)} {_at(x1, y1)}")
    return f'<path d="{"".join(steps)}"/>'


def _head(x: float, y: float, sideways: bool) -> str:
    """Draw an arrow head: as every edge ends upright, it needs no marker that would have to turn, and no id."""
    sides = [(x - HEAD, y - 3.5), (x - HEAD, y + 3.5)] if sideways else [(x - 3.5, y - HEAD), (x + 3.5, y - HEAD)]
    return f"M{_at(x, y)}L{_at(*sides[0])}L{_at(*sides[1])}Z"


def _node(box: _Box, size: Point, centre: Point) -> str:
    (width, height), (x, y) = size, centre
    fill, edge = COLOURS[box.kind]
    radius = 3 if box.kind == "function" else min(12, height / 2)
    baseline = y - sum(font + 4 for _, font in box.lines) / 2 - 1.5
    texts = []
    for text, font in box.lines:
        baseline += font + 3
        texts.append(
            f'<text x="{x:.1f}" y="{baseline:.1f}" font-size="{font:.0f}" fill="#222">{html.escape(text)}</text>'
        )
    tooltip = "\n".join(_clean(line) for line in box.tooltip.split("\n"))
    return (
        f'<g class="{box.kind}"><title>{html.escape(tooltip)}</title>'
        f'<rect x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="{radius:.1f}" fill="{fill}" stroke="{edge}" stroke-width="{2.5 if box.bold else 1.2}"/>'
        f"{''.join(texts)}</g>"
    )


def _at(x: float, y: float) -> str:
    return f"{x:.1f},{y:.1f}"
