"""Published files that data sets are read from: each is checked to be the one that was published."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import tarfile
import zlib
from typing import Any, NamedTuple

import numpy as np

from dezero.datasets_base import Dataset
from dezero.download import cache_folder, check_sha256, fetch
from dezero.transforms import Transform

__all__ = ["Archive", "IdxFile", "PublishedDataset", "TextFile"]


class IdxFile(NamedTuple):
    """A published file of bytes in the IDX format, gzipped or not: its name, and what is known of its content.

    `sha256` is that of the unpacked bytes: who packed them, and how well, does not matter. With `packed` it is that of
    the gzipped file, which must then be there as it was published.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str
    packed: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names that the file may have, the published one first."""
        return (f"{self.name}.gz",) if self.packed else (f"{self.name}.gz", self.name)

    def read(self, path: str) -> np.ndarray:
        """Return the array in the file at `path`; raises ValueError when that is not the published file."""
        if self.packed:
            _check_sum(self.names[0], path, self.sha256)
        header = 4 + 4 * len(self.shape)
        size = header + math.prod(self.shape)
        content = _read_packed(path, size + 1)  # one more would show; a small archive can unpack to a full disk
        if len(content) != size:
            got = f"{len(content)} bytes" if len(content) < size else "more"
            raise ValueError(f"not {self.name}: expected {size} bytes unpacked, got {got}")
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256 and not self.packed:
            raise ValueError(f"not {self.name}: wrong SHA-256 unpacked: expected {self.sha256}, got {digest}")
        return np.frombuffer(content, np.uint8, offset=header).reshape(self.shape).copy()


class Archive(NamedTuple):
    """A published tar archive, gzipped, of which some members are wanted: files of records of equal length.

    `members` are pairs of a name and a number of records, `record` is the length of one in bytes. Nothing is extracted
    to the disk, and no other name in the archive is looked at.
    """

    name: str
    sha256: str
    record: int
    members: tuple[tuple[str, int], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The name that the file has."""
        return (self.name,)

    def read(self, path: str) -> np.ndarray:
        """Return the records of the members, one after the other, (N, record) uint8; raises ValueError as IdxFile's."""
        _check_sum(self.name, path, self.sha256)
        wanted = dict(self.members)
        found: dict[str, bytes] = {}
        try:
            with tarfile.open(path, "r:gz") as archive:
                for member in archive:
                    if member.name in wanted and member.name not in found:
                        found[member.name] = self._content(archive, member, wanted[member.name] * self.record)
                    if len(found) == len(wanted):
                        break
        except (EOFError, zlib.error, tarfile.TarError, gzip.BadGzipFile) as error:
            raise ValueError(f"a broken archive: {error}") from error
        missing = [name for name in wanted if name not in found]
        if missing:
            raise ValueError(f"not {self.name}: there is no {missing[0]} in it")
        return np.frombuffer(b"".join(found[name] for name in wanted), np.uint8).reshape(-1, self.record)

    def _content(self, archive: tarfile.TarFile, member: tarfile.TarInfo, size: int) -> bytes:
        file = archive.extractfile(member) if member.isreg() else None
        if file is None or member.size != size:
            got = f"{member.size} bytes" if file else "no file"
            raise ValueError(f"not {self.name}: expected {member.name} of {size} bytes, got {got}")
        return file.read()


class TextFile(NamedTuple):
    """A published file of text: its name and its SHA-256."""

    name: str
    sha256: str

    @property
    def names(self) -> tuple[str, ...]:
        """The name that the file has."""
        return (self.name,)

    def read(self, path: str) -> str:
        """Return the text, line ends as they are; raises ValueError when that is not the published file."""
        _check_sum(self.name, path, self.sha256)
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()


def _check_sum(name: str, path: str, sha256: str) -> None:
    try:
        check_sha256(path, sha256)
    except ValueError as error:
        raise ValueError(f"not {name}: {error}") from None


def _read_packed(path: str, limit: int) -> bytes:
    """Return at most the first `limit` bytes of a file, unpacked if they begin as gzip does."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"  # the name does not tell: browsers unpack and keep the name
        file.seek(0)
        if not packed:
            return file.read(limit)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                return unpacked.read(limit)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"a broken gzip archive: {error}") from error


def _find(folder: str | os.PathLike[str], file: Any) -> str:
    """Return the file's path in `folder`: the first of its names that is there, or the published one."""
    paths = [os.path.join(folder, name) for name in file.names]
    return next((path for path in paths if os.path.exists(path)), paths[0])


class PublishedDataset(Dataset):
    """A data set whose `prepare` reads published files with `load`: from `data_dir`, or else the cache or a mirror.

    Args:
        train, transform, target_transform: as `Dataset`'s.
        data_dir: the folder of the files; nothing is downloaded then (default: the cache folder).
    """

    mirrors: tuple[str, ...] = ()
    folder = ""  # within the cache folder: files of two sets can have one name
    instead = ""  # what serves whoever cannot have the files

    def __init__(
        self,
        train: bool = True,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        super().__init__(train, transform, target_transform)

    def load(self, file: Any) -> Any:
        """Return what `file`, such as an IdxFile, reads; raises OSError or ValueError where no good one can be had."""
        return self._load_cached(file) if self.data_dir is None else self._load_given(file)

    def _load_given(self, file: Any) -> Any:
        name, path = type(self).__name__, _find(self.data_dir or "", file)
        way_out = "Put the published file there, or leave data_dir out: it is downloaded then"
        try:
            return file.read(path)
        except FileNotFoundError:
            other = "".join(f", nor an unpacked {other}" for other in file.names[1:])
            raise FileNotFoundError(f"{name}: there is no {path}{other}. {way_out}") from None
        except ValueError as error:
            raise ValueError(f"{name}: {path} is {error}. {way_out}") from error

    def _load_cached(self, file: Any) -> Any:
        name, urls = type(self).__name__, [mirror + file.names[0] for mirror in self.mirrors]
        try:
            return fetch(urls, _find(os.path.join(cache_folder(), self.folder), file), file.read)
        except OSError as error:
            way_out = f"put it there by other means, or name its folder: {name}(data_dir=...){self.instead}"
            raise OSError(f"{name}: {error}: {way_out}") from error
