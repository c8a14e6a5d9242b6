"""Any CSV, TSV or JSON records, by the columns that the source names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from medchatzh.ingest.files import Part
from medchatzh.ingest.formats.registry import Form, Found, broken, converted, read_records, reader
from medchatzh.ingest.rows import Broken, table_rows
from medchatzh.ingest.source import Source
from medchatzh.ingest.turns import Unusable, exchange, text_of
from medchatzh.records import Dialogue


def _converter(source: Source) -> Callable[[dict[str, Any]], Dialogue]:
    def convert(row: dict[str, Any]) -> Dialogue:
        lacking = [column for role, column in source.columns.items() if role in ("question", "answer") and column not in row]
        if len(lacking) == 2:
            raise Unusable("unknown_format", f"no {' and no '.join(lacking)} among {', '.join(row)}")
        return exchange(**{role: text_of(row.get(column), column) for role, column in source.columns.items()})

    return convert


def _read_table(part: Part, source: Source, delimiter: str) -> Iterator[Found]:
    convert = _converter(source)
    with part.text() as stream:
        for line, row in table_rows(stream, delimiter):
            yield line, broken(row) if isinstance(row, Broken) else converted(convert, row)


reader("csv")(partial(_read_table, delimiter=","))
reader("tsv")(partial(_read_table, delimiter="\t"))


@reader("jsonl")
def read_jsonl(part: Part, source: Source) -> Iterator[Found]:
    form = Form("jsonl", tuple(frozenset({column}) for column in source.columns.values()), _converter(source))
    return read_records(part, {"jsonl": form})
