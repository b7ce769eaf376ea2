"""Pictures of a graph: its description in Graphviz's DOT language, and the file Graphviz's `dot` makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dezero.core import Variable

__all__ = ["get_dot_graph", "plot_dot_graph"]


def get_dot_graph(output: Variable, verbose: bool = True) -> str:
    """Describe the graph behind `output` in the DOT language: ellipses are Variables, boxes Functions.

    Args:
        verbose: write shapes and dtypes beside the names.
    """
    nodes, edges = [_variable_line(output, verbose)], []
    seen: set[Any] = set()
    waiting = [output.creator]
    while waiting:
        func = waiting.pop()
        if func is None or func in seen:
            continue
        seen.add(func)
        nodes += [_function_line(func), *(_variable_line(x, verbose) for x in func.inputs)]
        edges += [f"{id(x)} -> {id(func)}" for x in func.inputs]  # x * x has two
        edges += [f"{id(func)} -> {id(y())}" for y in func.outputs if y() is not None]
        waiting += [x.creator for x in func.inputs]
    return "\n".join(["digraph g {", *dict.fromkeys(nodes), *edges, "}"])


def plot_dot_graph(output: Variable, verbose: bool = True, to_file: str = "graph.png") -> Any:
    """Draw the graph behind `output` with Graphviz to `to_file`, in the format its ending names (png, svg, pdf, ...).

    Returns an IPython image where IPython is running. Raises RuntimeError when there is no `dot` program or it fails.
    """
    import shutil
    import subprocess

    dot = shutil.which("dot")
    if dot is None:
        raise RuntimeError(
            "plot_dot_graph: needs the program `dot`; install Graphviz (for example `apt install graphviz` or "
            "`brew install graphviz`), or print get_dot_graph(y) into an online viewer"
        )
    path = Path(to_file)
    # The description goes in by a pipe and the file name is one argument: no shell reads either.
    command = [dot, "-T", path.suffix[1:] or "png", "-o", str(path.absolute())]
    done = subprocess.run(
        command, input=get_dot_graph(output, verbose), encoding="utf-8", capture_output=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"plot_dot_graph: dot failed: {done.stderr.strip()}")
    return _notebook_image(path)


def _notebook_image(path: Path) -> Any:
    try:
        from IPython import display, get_ipython
    except ImportError:
        return None
    if get_ipython() is None or path.suffix not in (".png", ".jpg", ".gif"):
        return None
    return display.Image(filename=str(path))


def _variable_line(v: Variable, verbose: bool) -> str:
    label = v.name or ""
    if verbose and v.data is not None:
        label += (": " if v.name else "") + f"{v.shape} {v.dtype}"
    return f'{id(v)} [label="{_escape(label)}", color=orange, style=filled]'


def _function_line(func: Any) -> str:
    return f'{id(func)} [label="{_escape(type(func).__name__)}", color=lightblue, style=filled, shape=box]'


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
