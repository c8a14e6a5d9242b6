"""Parquet files and Excel workbooks → JSON lines, so that all that reads JSON lines reads them too. Row n stands on line n."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

PARQUET = b"PAR1"
_BATCH_ROWS = 1024
_MAX_SHEET_ROWS = 1 << 20
"""Excel's own limit; a damaged row number beyond it would make openpyxl fill the gap with millions of empty rows."""


class Damaged(Exception):
    """A table that its library cannot read; the message says why."""


def open_parquet(path: Path) -> BinaryIO:
    return _as_file(_parquet_lines(path))


def sheet_names(path: Path) -> list[str]:
    """The sheets of a workbook that hold cells, in its order. Raises Damaged."""
    with _damage("openpyxl"), closing(_workbook(path)) as book:
        return [sheet.title for sheet in book.worksheets]


def open_sheet(path: Path, name: str) -> BinaryIO:
    """A sheet's rows as objects, named by its first row that is not empty. Formulas give the values that Excel last saved."""
    return _as_file(_sheet_lines(path, name))


def _parquet_lines(path: Path) -> Iterator[bytes]:
    """Reads a batch at a time. A batch with a broken text is read row by row: the row becomes a line that is no JSON."""
    with _damage("pyarrow"):
        from pyarrow import parquet

        with parquet.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
            for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
                try:
                    yield msgspec.json.Encoder().encode_lines(batch.to_pylist())
                except UnicodeError:
                    for row in range(batch.num_rows):
                        yield _line(batch.slice(row, 1))


def _line(batch: Any) -> bytes:
    try:
        return msgspec.json.encode(batch.to_pylist()[0]) + b"\n"
    except UnicodeError as error:
        return f"a text that is not UTF-8: {error}\n".encode()


def _sheet_lines(path: Path, name: str) -> Iterator[bytes]:
    with _damage("openpyxl"), closing(_workbook(path)) as book:
        header: list[str] = []
        for number, cells in enumerate(book[name].iter_rows(values_only=True), 1):
            if number > _MAX_SHEET_ROWS:
                raise Damaged(f"more than {_MAX_SHEET_ROWS} rows in sheet {name}")
            row = {_column(header, place): cell for place, cell in enumerate(cells) if cell is not None}
            if row and not header:
                header = ["" if cell is None else str(cell).strip() for cell in cells]
                row = {}
            yield (msgspec.json.encode(row) if row else b"") + b"\n"


def _column(header: list[str], place: int) -> str:
    return header[place] if place < len(header) and header[place] else f"column {place + 1}"


def _workbook(path: Path) -> Any:
    from openpyxl import load_workbook

    return load_workbook(path, read_only=True, data_only=True)


@contextmanager
def _damage(library: str) -> Iterator[None]:
    """Both libraries raise nearly anything on a damaged file; what the machine did stays what it is."""
    try:
        yield
    except Damaged:
        raise
    except ImportError:
        raise ValueError(f"reading this table needs {library}: pip install {library}") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Damaged(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}") from None


class _Stream(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _as_file(pieces: Iterator[bytes]) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Stream(pieces), 1 << 16))
