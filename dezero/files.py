"""Files that are written whole or not at all, and the folder of those that are kept."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO, Any

__all__ = ["cache_folder", "open_whole"]


def cache_folder() -> str:
    """Return where downloads and compiled kernels are kept: the environment variable `DEZERO_HOME`, or `~/.dezero`."""
    return os.path.expanduser(os.environ.get("DEZERO_HOME") or os.path.join("~", ".dezero"))


@contextlib.contextmanager
def open_whole(path: Any) -> Iterator[IO[bytes]]:
    """Open a file to write that appears at `path` only when it is complete, in place of any older one.

    What is interrupted, by an error or by Ctrl-C, leaves no trace. Until then `file.name` is where the bytes are.

    Raises FileNotFoundError for a folder that there is not.
    """
    from pathlib import Path

    path = Path(path)
    if not path.parent.exists():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to; make it first")
    temporary = path.with_name(f"{path.name}.{os.urandom(4).hex()}.part")  # beside it: a rename there is atomic
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
