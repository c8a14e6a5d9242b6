"""Raw formats, one module each. To add one, add a module here that registers a `reader` or a `form`."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module

from medchatzh.ingest.files import Part
from medchatzh.ingest.formats import table
from medchatzh.ingest.formats.registry import FORMATS, FORMS, Format, Found, Sample, reject
from medchatzh.ingest.source import Source

__all__ = ["ALIASES", "FORMATS", "FORMS", "Format", "format_of"]

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")


ALIASES = {
    "belle": "alpaca",
    "bentsao": "alpaca",
    "med_chatglm": "context_target",
    "openai": "messages",
    "medicalgpt": "sharegpt",
}
"""Data set → the format in which it is published, where that has another name."""


def format_of(part: Part, source: Source) -> Format:
    """The format that the source names, or, where it says `auto`, the one that the start of the file shows."""
    if source.format != "auto":
        return FORMATS[ALIASES.get(source.format, source.format)]
    sample = Sample(part.head)
    if not source.columns:
        for candidate in FORMATS.values():
            if candidate.sniff and candidate.sniff(sample):
                return candidate
    name = table.told_by(sample, source.columns)
    return FORMATS[name] if name else _UNKNOWN


def _reject_file(part: Part, source: Source) -> Iterator[Found]:
    yield 1, reject("unknown_format", "the start of the file shows no known format; name the source's format")


_UNKNOWN = Format("unknown", _reject_file)
