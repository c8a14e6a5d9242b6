"""Drug leaflets: a JSON array of strings, the drug's name on the first line of each. They become documents, not invented questions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medchatzh.ingest.files import Part
from medchatzh.ingest.formats.registry import Found, Sample, broken, converted, reader
from medchatzh.ingest.rows import Broken, json_rows
from medchatzh.ingest.source import Source
from medchatzh.ingest.turns import Unusable, called
from medchatzh.records import Document


def sniff(sample: Sample) -> bool:
    return sample.head.lstrip().startswith("[") and isinstance(sample.first, str)


@reader("drug_text", sniff)
def read(part: Part, source: Source) -> Iterator[Found]:
    with part.text() as stream:
        for line, row in json_rows(stream, part.head, lambda value: isinstance(value, str)):
            yield line, broken(row) if isinstance(row, Broken) else converted(convert, row)


def convert(leaflet: Any) -> Document:
    if not isinstance(leaflet, str):
        raise Unusable("unknown_format", f"{called(leaflet)}, not a text")
    name = leaflet.strip().partition("\n")[0].strip()
    if not name:
        raise Unusable("missing_answer", "an empty text")
    return Document(id="", text=leaflet.strip(), book=name)
