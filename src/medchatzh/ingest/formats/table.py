"""Any CSV, TSV, JSON, Parquet or Excel records: by the columns that the source names, else by the forms that their keys tell.

Parquet files and workbooks come as JSON lines (see `tables.py`), so all but CSV and TSV are read as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from medchatzh.ingest.files import Part
from medchatzh.ingest.formats.registry import FORMS, Form, Found, Sample, best_form, read_records, read_rows, reader
from medchatzh.ingest.rows import table_rows
from medchatzh.ingest.source import Source
from medchatzh.ingest.turns import Unusable, exchange, first_text, text_of
from medchatzh.records import Dialogue


def _forms(name: str, source: Source) -> Mapping[str, Form]:
    if not source.columns:
        return FORMS
    return {name: Form(name, tuple(frozenset({column}) for column in source.columns.values()), _converter(source.columns))}


def _converter(columns: Mapping[str, str]) -> Callable[[dict[str, Any]], Dialogue]:
    question, answer, category, system, own_id = (columns.get(role, "") for role in ("question", "answer", "category", "system", "id"))

    def convert(row: dict[str, Any]) -> Dialogue:
        if question not in row and answer not in row:
            raise Unusable("unknown_format", f"no {question} and no {answer} among {', '.join(row)}")
        for role, column in (("question", question), ("answer", answer)):
            if column not in row:
                raise Unusable(f"missing_{role}", f"no column {column} among {', '.join(row)}")
        more = (text_of(row.get(column), column) if column else "" for column in (category, system))
        made = exchange(first_text(row.get(question), question), first_text(row.get(answer), answer), *more)
        return msgspec.structs.replace(made, id=text_of(row.get(own_id), own_id)) if own_id else made

    return convert


def told_by(sample: Sample, columns: Mapping[str, str]) -> str | None:
    """Which of these formats a file is in: JSON, or a table whose first line names the source's columns, or at least two keys of a form."""
    if sample.is_json:
        return "jsonl"
    for name, delimiter in (("tsv", "\t"), ("csv", ",")):
        names = {field.strip().strip('"') for field in sample.head.partition("\n")[0].split(delimiter)}
        form = best_form(names, FORMS.values())
        if names & set(columns.values()) or (form and any(len(keys) > 1 and keys <= names for keys in form.keys)):
            return name
    return None


def _read_table(part: Part, source: Source, name: str, delimiter: str) -> Iterator[Found]:
    with part.text() as stream:
        yield from read_rows(part, table_rows(stream, delimiter), _forms(name, source), source.benchmark)


def _read_json(part: Part, source: Source, name: str) -> Iterator[Found]:
    return read_records(part, _forms(name, source), source.benchmark)


reader("csv")(partial(_read_table, name="csv", delimiter=","))
reader("tsv")(partial(_read_table, name="tsv", delimiter="\t"))
for _name in ("json", "jsonl", "parquet", "xlsx"):
    reader(_name, by_line=True)(partial(_read_json, name=_name))
