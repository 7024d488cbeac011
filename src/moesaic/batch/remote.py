"""A folder that fsspec reaches, such as `s3://bucket/photos`: listed, fetched from and put into, whole files at a time.

Where a file appears only when all of it has come, as in object stores, it is put into its place at once; elsewhere it
is written beside its place and then moved.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from moesaic.errors import ArgumentError, MissingExtraError, MoesaicError, PictureError

Stamp = tuple[int | None, int | str | None]
"""Size of a file, bytes, and the time of its last change as far as the store tells it: ns, or the store's own text."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")
_OBJECT_STORES = frozenset(
    ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "ocilake", "tos", "obs", "memory")
)
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")  # of fsspec's many stores
PART = ".part"


def folder_of(text: str) -> Path | RemoteFolder:
    """A folder by its path or URL; `file://` is the path that it names.

    Raises:
        ArgumentError: the text is an URL that names no folder.
    """
    if _URL.match(text) is None:
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme.lower() == "file" and parts.netloc in ("", "localhost"):
        return Path(url2pathname(unquote(parts.path)))
    if not text.partition("://")[2].strip("/") and "::" not in text and parts.scheme != "memory":
        raise ArgumentError(f"{text} names no folder; write what follows the slashes, such as s3://bucket/photos")
    return RemoteFolder(text.rstrip("/"))


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """A folder by its URL; it travels by pickle, and each process opens it anew, with credentials of its own."""

    url: str  # without a slash at its end

    def __str__(self) -> str:
        return self.url

    def named(self, path: str) -> str:
        """The URL of a file in it."""
        return f"{self.url}/{path}"

    def files(self, *, recursive: bool) -> dict[str, Stamp]:
        """All files in it, by their paths relative to it, with slashes; empty where there is no such folder.

        Raises:
            ArgumentError: the store cannot be reached, or refuses.
            MissingExtraError: the package for this kind of store is missing.
        """
        system, root = self._opened()
        with self._told("list"):
            try:
                if recursive:
                    found = system.find(root, detail=True)
                else:
                    found = {one["name"]: one for one in system.ls(root, detail=True) if one["type"] == "file"}
            except FileNotFoundError:
                return {}
            if list(found) == [root]:
                raise ArgumentError(f"{self.url} is no folder; a batch works on all files of one")
            return {
                name[len(root) :].lstrip("/"): _stamp(told)
                for name, told in found.items()
                if not name.endswith(("/", PART))  # an empty object that stands for a folder; what a kill has left
            }

    def fetch(self, path: str, target: Path) -> None:
        """Copy a file of it to a local place.

        Raises:
            PictureError: it is not there, or cannot be read.
        """
        system, root = self._opened()
        try:
            system.get_file(f"{root}/{path}", str(target))
        except FileNotFoundError as cause:
            raise PictureError(f"{self.named(path)}: there is no such file") from cause
        except Exception as cause:  # stores raise kinds of their own
            raise PictureError(f"{self.named(path)} cannot be fetched: {_reason(cause)}") from cause

    def put(self, source: Path, path: str) -> None:
        """Copy a local file into it, in the place of any that is there; nobody ever sees half of it.

        Raises:
            ArgumentError: the store cannot be written to.
        """
        self._place(path, lambda system, place: system.put_file(str(source), place))

    def write(self, path: str, data: bytes) -> None:
        """Make a small file in it, in the same way.

        Raises:
            ArgumentError: the store cannot be written to.
        """
        self._place(path, lambda system, place: system.pipe_file(place, data))

    def has(self, path: str) -> bool:
        """Whether a file is there.

        Raises:
            ArgumentError: the store cannot be reached.
        """
        system, root = self._opened()
        with self._told("look into"):
            return bool(system.exists(f"{root}/{path}"))

    def read(self, path: str) -> bytes:
        """All of a small file.

        Raises:
            ArgumentError: it cannot be read.
        """
        system, root = self._opened()
        with self._told("read from"):
            data: bytes = system.cat_file(f"{root}/{path}")
            return data

    def remove(self, path: str) -> None:
        """Remove a file; it may have gone.

        Raises:
            ArgumentError: the store refuses.
        """
        system, root = self._opened()
        with self._told("remove from"), suppress(FileNotFoundError):
            system.rm_file(f"{root}/{path}")

    def remove_empty(self, path: str) -> None:
        """Remove a folder in it, where the store has folders; stays where something is in it."""
        system, root = self._opened()
        with suppress(Exception):  # of the store's own kinds, and no harm is done
            system.rmdir(f"{root}/{path}")

    def _place(self, path: str, copy: Callable[[Any, str], None]) -> None:
        system, root = self._opened()
        place = f"{root}/{path}"
        with self._told("write into"):
            if _is_object_store(system):
                copy(system, place)
                return
            folder, _, name = place.rpartition("/")
            system.makedirs(folder, exist_ok=True)
            beside = f"{folder}/.{name[:32]}.{secrets.token_hex(6)}{PART}"
            try:
                copy(system, beside)
                system.mv(beside, place)
            except BaseException:
                with suppress(Exception):
                    system.rm_file(beside)
                raise

    def _opened(self) -> tuple[Any, str]:
        with self._told("reach"):
            return _open(self.url)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except MoesaicError:
            raise
        except ImportError as cause:
            raise MissingExtraError(f"{self.url}: {_reason(cause)}") from cause
        except Exception as cause:  # stores raise kinds of their own
            raise ArgumentError(f"cannot {what} {self.url}: {_reason(cause)}") from cause


@lru_cache(maxsize=16)
def _open(url: str) -> tuple[Any, str]:
    """The file system of an URL, and its path there."""
    from fsspec.core import url_to_fs

    # Without its cache of listings, in which what other machines write would be missing.
    system, root = url_to_fs(url, use_listings_cache=False)
    return system, root.rstrip("/")


def _is_object_store(system: Any) -> bool:
    names = (system.protocol,) if isinstance(system.protocol, str) else system.protocol
    return not _OBJECT_STORES.isdisjoint(names)


def _stamp(told: Mapping[str, Any]) -> Stamp:
    when = next((told[name] for name in _TIMES if told.get(name) is not None), None)
    if isinstance(when, datetime):
        when = when.timestamp()
    size = told.get("size")
    return (
        None if size is None else int(size),
        round(when * 1e9) if isinstance(when, int | float) else None if when is None else str(when),
    )


def _reason(cause: BaseException) -> str:
    text = getattr(cause, "strerror", None) or str(cause)
    return " ".join(str(text).split()) or type(cause).__name__
