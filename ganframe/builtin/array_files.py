"""Arrays of numpy in files: .npy, and each array of an .npz, mapped into memory where they are not compressed."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import attrs
import numpy as np

Array = np.ndarray[Any, Any]
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a member of a zip archive: the lengths of its name and of its extra field


@attrs.frozen
class ArrayFile:
    """One array of a file: its shape and type, as its header says, and where its values begin if they can be mapped.

    `member` is the name of the array in an .npz, None for an .npy.
    """

    file: Path
    member: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int | None
    crc: int | None = None

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def name(self) -> str:
        return str(self.file) if self.member is None else f"{self.file}: array '{self.member.removesuffix('.npy')}'"

    def mapped(self) -> Array:
        """The array, read from the file at each access. Raises ValueError where the file is too short."""
        assert self.offset is not None
        order: Any = "F" if self.fortran else "C"
        try:
            return np.memmap(self.file, self.dtype, "r", self.offset, self.shape, order)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.name}: cannot be read: {_reason(error)}; is the file whole?") from error

    def read(self) -> Array:
        """The array in memory. Raises ValueError where the file is damaged: an .npz has a checksum of each array."""
        try:
            if self.member is None:
                return np.array(np.load(self.file, allow_pickle=False))
            with zipfile.ZipFile(self.file) as archive, archive.open(self.member) as stream:
                found = np.lib.format.read_array(stream, allow_pickle=False)
                stream.read()  # to its end, where the checksum is compared
                return found
        except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
            raise ValueError(f"{self.name}: cannot be read: {_reason(error)}; is the file whole?") from error


def array_files(file: Path) -> dict[str, ArrayFile]:
    """The arrays of an .npz by name, or that of an .npy under "". Their values are not read.

    Raises ValueError where the file is none of both, and OSError where it cannot be opened.
    """
    if not file.is_file():
        raise ValueError(f"{file}: is a folder, not an .npz or .npy" if file.is_dir() else f"{file}: no such file")
    if not file.stat().st_size:
        raise ValueError(f"{file}: is empty; was it copied whole?")
    try:
        if not zipfile.is_zipfile(file):
            with file.open("rb") as stream:
                shape, fortran, dtype = _header(stream)
                return {"": ArrayFile(file, None, shape, dtype, fortran, stream.tell())}
        with zipfile.ZipFile(file) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            found = {info.filename.removesuffix(".npy"): _of_member(file, archive, info) for info in members}
    except (ValueError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{file}: cannot be read as arrays of numpy (.npz, .npy): {_reason(error)}") from error
    if not found:
        raise ValueError(f"{file}: a zip archive without arrays of numpy (.npy)")
    return found


def _of_member(file: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> ArrayFile:
    with archive.open(info) as stream:
        shape, fortran, dtype = _header(stream)
        before = stream.tell()
    offset = None
    if info.compress_type == zipfile.ZIP_STORED:
        with file.open("rb") as raw:
            raw.seek(info.header_offset)
            name, extra = _LOCAL_HEADER.unpack(raw.read(_LOCAL_HEADER.size))
            offset = info.header_offset + _LOCAL_HEADER.size + name + extra + before
    return ArrayFile(file, info.filename, shape, dtype, fortran, offset, info.CRC)


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type at the beginning of an .npy."""
    version = np.lib.format.read_magic(stream)
    if version[0] == 1:
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)  # 3.0 differs in names of fields, which are not read here


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
