"""Raw formats, one module each. To add one, add a module here that registers a `reader` or a `form`."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module

from medchatzh.ingest.files import Part
from medchatzh.ingest.formats.registry import FORMATS, FORMS, Format, Found, Sample, read_records, reject
from medchatzh.ingest.source import Source

__all__ = ["FORMATS", "FORMS", "Format", "format_of"]

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")


def format_of(part: Part, source: Source) -> Format:
    """The format that the source names, or, where it says `auto`, the one that the start of the file shows."""
    if source.format != "auto":
        return FORMATS[source.format]
    sample = Sample(part.head)
    for candidate in FORMATS.values():
        if candidate.sniff and candidate.sniff(sample):
            return candidate
    return _RECORDS if sample.is_json else _UNKNOWN


def _read_any_records(part: Part, source: Source) -> Iterator[Found]:
    return read_records(part, FORMS)


def _reject_file(part: Part, source: Source) -> Iterator[Found]:
    yield 1, reject("unknown_format", "the start of the file shows no known format; name the source's format")


_RECORDS = Format("json", _read_any_records)
_UNKNOWN = Format("unknown", _reject_file)
