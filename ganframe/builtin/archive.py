"""Zip archives whose members are read where they are: nothing is unpacked on the disk."""

from __future__ import annotations

import io
import lzma
import os
import re
import stat
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import attrs

_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, OSError)
"""What zipfile raises for damaged members, and for kinds of compression and encryption that it does not know."""


class Archive:
    """A zip archive: `members` by name, with / between folders, without folders and links.

    Each process has a handle of its own, opened at its first read, as forked processes would share the position in one.

    Raises ValueError, in one line with the name of the file, where it is no zip archive, is encrypted, or has names
    that lead out of it or stand for two members.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.handle: zipfile.ZipFile | None = None
        self.process = 0
        self.members: dict[str, zipfile.ZipInfo] = {}
        for info in self._opened().infolist():
            name = info.filename.replace("\\", "/")
            if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
                continue
            if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/"):
                raise ValueError(f"{file}: the member {name!r} has a path that leads out of the archive; pack it again")
            if info.flag_bits & 1:
                raise ValueError(f"{file}: the member {name!r} is encrypted; unpack it, and use image_folder")
            if name in self.members:
                raise ValueError(f"{file}: two members are called {name!r}; pack it again")
            self.members[name] = info

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "handle": None}

    def read(self, name: str) -> bytes:
        """The content of a member. Raises ValueError where it is damaged."""
        try:
            return self._opened().read(self.members[name])
        except _DAMAGE as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"this member of the archive is damaged: {reason}") from error

    def _opened(self) -> zipfile.ZipFile:
        """The handle of this process."""
        if self.handle is None or self.process != os.getpid():
            if not self.file.is_file():
                folder = self.file.is_dir()
                raise ValueError(
                    f"{self.file}: is a folder, not a zip archive" if folder else f"{self.file}: no such file"
                )
            try:
                self.handle, self.process = zipfile.ZipFile(self.file), os.getpid()
            except zipfile.BadZipFile as error:
                raise ValueError(f"{self.file}: is no zip archive, or was not copied whole ({error})") from error
        return self.handle


@attrs.frozen
class Member:
    """One file of an archive, which is opened as a path is."""

    archive: Archive
    name: str

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.name)[1]

    def open(self, mode: str = "rb") -> IO[bytes]:
        return io.BytesIO(self.read_bytes())

    def read_bytes(self) -> bytes:
        return self.archive.read(self.name)

    def __str__(self) -> str:
        return os.path.join(self.archive.file, self.name)
