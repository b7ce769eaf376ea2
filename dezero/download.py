"""Files that are fetched once and kept: whole and checked in their place, or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TypeVar
from urllib.parse import urlsplit

from dezero.files import cache_folder, open_whole

__all__ = ["cache_folder", "check_sha256", "fetch", "get_file"]

TIMEOUT = 10.0  # seconds without a byte
_CHUNK = 1 << 16

Content = TypeVar("Content")


def get_file(url: str, file_name: str | None = None, sha256: str | None = None) -> str:
    """Return the path of `url`'s file in the cache folder, downloading it if it is not there yet.

    Args:
        url: where the file is published.
        file_name: its name in the cache (default: the last part of the url's path).
        sha256: the checksum, in hexadecimal, that a file must have to be kept or used (default: any file will do).

    Raises ValueError for a url that names no file, and OSError, saying why, when the file cannot be had.
    """
    name = file_name or posixpath.basename(urlsplit(url).path)
    if not name:
        raise ValueError(f"get_file: {url} ends in no file name: give one with file_name=")
    path = os.path.join(cache_folder(), name)
    fetch([url], path, lambda found: check_sha256(found, sha256))
    return path


def fetch(urls: Sequence[str], path: str, read: Callable[[str], Content], limit: int | None = None) -> Content:
    """Return `read(path)`, after putting the first good file that `urls` offer at `path` unless one is there.

    Args:
        urls: the mirrors, the preferred one first.
        path: where the file belongs. A file there that `read` refuses is replaced, never by another bad one.
        read: takes a path and returns what the caller wants of the file; raises ValueError when it is not good.
        limit: how many bytes a good file has at most; no more are downloaded (default: any number).

    Raises OSError, listing what each source said, when none of them has a good file.
    """
    from http.client import HTTPException  # urllib's machinery is imported when something is downloaded

    said = []
    if os.path.exists(path):
        try:
            return read(path)
        except ValueError as error:
            said.append(f"{path}: {error}")
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    for url in urls:
        try:
            with open_whole(path) as file:
                _download(url, file, limit)
                file.flush()
                content = read(file.name)  # refused, it never gets to its place
            return content
        except (OSError, ValueError, HTTPException) as error:
            said.append(f"{url}: {error or type(error).__name__}")
    lines = "".join(f"\n  {line}" for line in said)
    raise OSError(f"no good copy of {os.path.basename(path)} could be had:{lines}\nIts place is {path}")


def _download(url: str, file: IO[bytes], limit: int | None) -> None:
    from urllib.request import Request, urlopen

    # Some mirrors turn urllib's own name away.
    request = Request(url, headers={"User-Agent": "dezero"})
    # The bar is there before the answer is: a mirror can take its time.
    with _progress_bar(url) as advance, urlopen(request, timeout=TIMEOUT) as response:
        length = response.headers.get("Content-Length")
        total = None if length is None else int(length)
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            if limit is not None and file.tell() > limit:
                raise ValueError(f"more than the {limit} bytes that it can have")
            advance(len(chunk), total)
        # A connection that dies reads as the end of the file.
        if total is not None and file.tell() != total:
            raise ValueError(f"the connection ended after {file.tell()} of {total} bytes")


@contextlib.contextmanager
def _progress_bar(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Draw a bar, and give the function that moves it on by a number of bytes of a total."""
    try:
        from tqdm import tqdm
    except ImportError:
        tqdm = None
    if tqdm is None:  # a download is no worse for not being watched
        yield lambda count, total: None
        return
    with tqdm(desc=name, unit="B", unit_scale=True) as bar:

        def advance(count: int, total: int | None) -> None:
            bar.total = total
            bar.update(count)

        yield advance


def check_sha256(path: str, expected: str | None) -> None:
    """Raise ValueError unless the file at `path` has this SHA-256, in hexadecimal; None is any."""
    if expected is None:
        return
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != expected.lower():
        raise ValueError(f"wrong SHA-256: expected {expected}, got {digest.hexdigest()}")
