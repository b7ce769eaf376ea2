"""What the steps from 23 on share: the way to the package, a few options, and a place for pictures.

Importing this file is enough for `import dezero` to work from any folder, without installing anything.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Read when NumPy loads, so steps import this file first. Products of this size gain nothing from a second thread, and
# lose much, waiting for each other, when another program wants the cores. Whoever set the variable has the last word.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

_folder: Path | None = None  # where `show` writes pictures; None where it opens windows


def read_options(
    description: str | None, gpu: bool = False, dataset: bool = False, weights: bool = False
) -> argparse.Namespace:
    """Read a step's command line: `--save FOLDER` always, the others where the step has a use for them.

    Args:
        description: what `--help` prints; a step gives its docstring.
        gpu: offer `--gpu`, which a step passes on to its model and its loader.
        dataset: offer `--dataset mini` (the digits that the package carries) and `--dataset mnist` (all of them).
        weights: offer `--weights FILE`, which a step loads instead of training.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write pictures there; open no window")
    if gpu:
        parser.add_argument("--gpu", action="store_true", help="compute on the GPU")
    if dataset:
        parser.add_argument("--dataset", choices=["mini", "mnist"], default="mini", help="6,000 digits, or 60,000")
    if weights:
        parser.add_argument("--weights", type=Path, metavar="FILE", help="load these weights; do not train")
    options = parser.parse_args()
    if options.save is not None:
        options.save.mkdir(parents=True, exist_ok=True)
    if gpu and options.gpu:
        _use_gpu(parser)
    global _folder
    _folder = options.save
    return options


def _use_gpu(parser: argparse.ArgumentParser) -> None:
    from dezero import cuda

    try:
        cuda.use_gpu()
    except RuntimeError as error:  # says what is missing
        parser.error(f"--gpu: {error}")


def show(name: str, picture: Any, size: tuple[float, float] = (8, 5)) -> None:
    """Save a picture with `--save`, else open a window, else say that there is a picture to be had. Then go on.

    Args:
        name: of the file, without an ending: step34_sine.
        picture: a Graph, or a function that draws on the empty matplotlib figure it is given.
        size: width and height of the figure in inches.
    """
    if callable(picture):
        _show_figure(name, picture, size)
    else:
        _show_graph(name, picture)


def _show_figure(name: str, draw: Callable[[Any], None], size: tuple[float, float]) -> None:
    try:
        from matplotlib import pyplot
        from matplotlib.figure import Figure
    except ImportError:
        print(f'picture {name}: needs matplotlib; pip install -e ".[plot]"')
        return
    if _folder is not None:
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        path = _folder / f"{name}.png"
        figure.savefig(path, dpi=100)
        print(f"picture {name}: {path}")
    elif not _has_window(pyplot):
        _say_how(name)
    else:
        draw(pyplot.figure(name, figsize=size, layout="constrained"))
        pyplot.show()  # waits until the window is closed
        pyplot.close()


def _show_graph(name: str, graph: Any) -> None:
    """Save a Graph as SVG, or hand it to the web browser, which draws SVG."""
    if _folder is None and not _has_display():
        _say_how(name)
        return
    path = (_folder or Path(tempfile.mkdtemp())) / f"{name}.svg"
    graph.save(path)
    print(f"picture {name}: {path}")
    if _folder is None:
        webbrowser.open(path.as_uri())


def _say_how(name: str) -> None:
    print(f"picture {name}: no display here; --save FOLDER writes it to a file")


def _has_window(pyplot: Any) -> bool:
    """Say whether matplotlib found a way to open windows; asking makes it look."""
    return _has_display() and pyplot.get_backend().lower() != "agg"


def _has_display() -> bool:
    """Say whether there is a screen: on Linux the environment tells, elsewhere there nearly always is."""
    return not sys.platform.startswith("linux") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & {*os.environ})
