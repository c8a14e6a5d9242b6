"""Raw files → parts: a plain file is one part, an archive one part a member, a workbook one a sheet, in a fixed order, one at a time."""

from __future__ import annotations

import bz2
import codecs
import errno
import gzip
import io
import lzma
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TextIO, cast

from medchatzh.ingest import tables
from medchatzh.ingest.encoding import ERRORS, SAMPLE_BYTES, detect

CORRUPT = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, NotImplementedError, tables.Damaged)
"""What is raised on a cut or damaged archive. bz2 and gzip raise OSError, which may be `is_of_machine` too."""

MAX_DEPTH = 3
"""Archives inside archives are opened so deep (a repository's zip of zips has depth 2); a bomb of zips in zips is not."""
_ZIP = b"PK\x03\x04"
_UNPACKERS: tuple[tuple[bytes, Callable[[Path], Any]], ...] = ((b"\x1f\x8b", gzip.open), (b"\xfd7zXZ\x00", lzma.open), (b"BZh", bz2.open))


class Part:
    """One readable file: plain, unpacked, or a member of an archive. `name` is `path` or `path!member`.

    With a `span` (start, end) only those bytes are read, but the format is told from the start of the whole file.
    """

    def __init__(self, name: str, opener: Callable[[], BinaryIO], declared: str = "", span: tuple[int, int] | None = None) -> None:
        self.name = name
        self.formats: set[str] = set()
        """Names of the formats found in it, filled by the readers."""
        self._opener = opener
        self._declared = declared
        self._span = span

    @classmethod
    def of_plain(cls, name: str, path: Path, start: int, end: int, encoding: str) -> Part:
        """Bytes of a plain file whose encoding is known."""
        part = cls(name, partial(_open_plain, path), span=(start, end))
        part.encoding = encoding
        return part

    @property
    def is_plain(self) -> bool:
        """Whether it is a file as it lies on the disk."""
        return isinstance(self._opener, partial) and self._opener.func is _open_plain and not self.is_member

    def open(self) -> BinaryIO:
        file = self._opener()
        return cast(BinaryIO, io.BufferedReader(_Span(file, *self._span), 1 << 16)) if self._span else file

    @property
    def is_member(self) -> bool:
        return "!" in self.name

    @property
    def file_name(self) -> str:
        return self.name.replace("!", "/").rpartition("/")[2]

    @cached_property
    def sample(self) -> bytes:
        """The first 256 KiB, or what of them can be unpacked. Raises one of CORRUPT where that is nothing."""
        with self._opener() as file:
            data, damage = _read(file)
        if damage and not data.strip():
            raise damage
        return data

    @cached_property
    def encoding(self) -> str:
        """Codec name, told by the first bytes that are not all ASCII. Raises `encoding.Unreadable`."""
        if not (self.sample.isascii() and len(self.sample) == SAMPLE_BYTES):
            return detect(self.sample, self._declared)
        with self._opener() as file:
            while (data := _read(file)[0]) and data.isascii():
                pass
        return detect(data or self.sample, self._declared)

    @cached_property
    def head(self) -> str:
        """The decoded sample, to tell the format by."""
        return codecs.getincrementaldecoder(self.encoding)(ERRORS).decode(self.sample, False)

    def text(self) -> TextIO:
        """The decoded text; lines end with `\\n` alone, undecodable bytes are `encoding.BAD`."""
        return io.TextIOWrapper(self.open(), encoding=self.encoding, errors=ERRORS, newline="\n")


class _Span(io.RawIOBase):
    """Some bytes of a file as a file."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        file.seek(start)
        self._file = file
        self._left = end - start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._file.readinto(memoryview(buffer)[: self._left])  # type: ignore[attr-defined]
        self._left -= size
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


def is_of_machine(error: Exception) -> bool:
    """Whether the operating system failed (no permission, a full disk), not the data: then a rerun may well succeed.

    EINVAL is the data's: a zip whose directory names a place before the file's start.
    """
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def _read(file: BinaryIO) -> tuple[bytes, Exception | None]:
    """The next SAMPLE_BYTES, fewer at the end or at damage, and the damage."""
    chunks = []
    missing = SAMPLE_BYTES
    damage = None
    try:
        while missing and (chunk := file.read1(missing)):  # type: ignore[attr-defined]
            chunks.append(chunk)
            missing -= len(chunk)
    except CORRUPT as error:
        if is_of_machine(error):
            raise
        damage = error
    return b"".join(chunks), damage


def parts(name: str, path: Path, declared: str = "", depth: int = 1) -> Generator[Part]:
    """The parts of a file, told by content: zip members by name, tar members in archive order, sheets, else the (unpacked) file.

    A part must be read before the next is asked for. Raises one of CORRUPT where an archive is cut.
    """
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(tables.PARQUET):
        yield Part(name, partial(tables.open_parquet, path), "utf-8")
    elif start.startswith(_ZIP) and _is_workbook(path):
        for sheet in tables.sheet_names(path):
            yield Part(f"{name}!{sheet}", partial(tables.open_sheet, path, sheet), "utf-8")
    elif start.startswith(_ZIP):
        yield from _zip_members(name, path, declared, depth)
    else:
        opener = next((opener for magic, opener in _UNPACKERS if start.startswith(magic)), _open_plain)
        with opener(path) as file:
            is_tar = file.read(512)[257:262] == b"ustar"
        if is_tar:
            yield from _tar_members(name, path, declared, depth)
        else:
            yield Part(name, partial(opener, path), declared)


def _opened_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (ValueError, struct.error) as error:  # a directory of which a name is no UTF-8, or a field is cut
        raise zipfile.BadZipFile(f"damaged directory: {error}") from None


def _is_workbook(path: Path) -> bool:
    with _opened_zip(path) as archive:
        return "xl/workbook.xml" in archive.NameToInfo


def _zip_members(name: str, path: Path, declared: str, depth: int) -> Iterator[Part]:
    with _opened_zip(path) as archive:
        # A list, for a zip may hold several members of one name.
        named = [(_zip_name(info), info) for info in archive.infolist() if not info.is_dir()]
        for inner, info in sorted(named, key=lambda pair: pair[0]):
            if _is_system_file(inner):
                continue
            opener = partial(_open_member, archive, info)
            if depth < MAX_DEPTH and _is_packed(opener):
                yield from _packed_member(f"{name}!{inner}", opener, declared, depth)
            else:
                yield Part(f"{name}!{inner}", opener, declared)


def _is_packed(opener: Callable[[], BinaryIO]) -> bool:
    with suppress(*CORRUPT), opener() as file:
        return file.read(6).startswith((_ZIP, tables.PARQUET, *(magic for magic, _ in _UNPACKERS)))
    return False


def _packed_member(name: str, opener: Callable[[], BinaryIO], declared: str, depth: int) -> Iterator[Part]:
    """The parts of an archive or table inside an archive; where it is damaged, one part that cannot be opened: its neighbours can."""
    with tempfile.NamedTemporaryFile() as spool:
        try:
            with opener() as stream:
                shutil.copyfileobj(stream, spool)
            spool.flush()
            yield from parts(name, Path(spool.name), declared, depth + 1)
        except CORRUPT as error:
            if is_of_machine(error):
                raise
            yield Part(name, partial(_fail, error))


def _fail(error: Exception) -> NoReturn:
    raise error


def _open_plain(path: Path) -> BinaryIO:
    return path.open("rb")


def _open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    try:
        return cast(BinaryIO, archive.open(info))
    except RuntimeError as error:  # an encrypted member
        raise zipfile.BadZipFile(str(error)) from None


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Without the UTF-8 flag a zip says nothing of its names' encoding; Python reads cp437, Chinese Windows wrote GBK."""
    return info.filename if info.flag_bits & 0x800 else decoded_name(info.filename.encode("cp437", "replace"))


def decoded_name(raw: bytes) -> str:
    """The name of a file: UTF-8, else GB18030 (Chinese Windows), else with its strange bytes as escapes."""
    for encoding in ("utf-8", "gb18030"):
        with suppress(UnicodeDecodeError):
            return raw.decode(encoding)
    return raw.decode("utf-8", "backslashreplace")


def _tar_members(name: str, path: Path, declared: str, depth: int) -> Iterator[Part]:
    """Streams, since seeking back in a compressed tar unpacks it anew; a member is spooled to disk, to be read twice."""
    with tarfile.open(path, "r|*", encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            inner = decoded_name(member.name.encode("utf-8", "surrogateescape")).removeprefix("./")
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is None or _is_system_file(inner):
                continue
            with tempfile.NamedTemporaryFile() as spool:
                shutil.copyfileobj(stream, spool)
                spool.flush()
                opener = partial(_open_plain, Path(spool.name))
                if depth < MAX_DEPTH and _is_packed(opener):
                    yield from _packed_member(f"{name}!{inner}", opener, declared, depth)
                else:
                    yield Part(f"{name}!{inner}", opener, declared)


def _is_system_file(inner: str) -> bool:
    """What macOS and Windows put into archives beside the data."""
    return inner.startswith("__MACOSX/") or inner.rpartition("/")[2] in (".DS_Store", "Thumbs.db", "desktop.ini")
