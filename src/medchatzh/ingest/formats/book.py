"""Book files: plain text, one whole file a document. Chapters, headers and wrapped lines are left to the books' own stage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from medchatzh.ingest.encoding import decode
from medchatzh.ingest.files import Part
from medchatzh.ingest.formats.registry import Found, Sample, reader, reject
from medchatzh.ingest.source import Source
from medchatzh.records import Document

_NUMBER = re.compile(r"[0-9]+[-_.、 ]+")
_MARKERS = ("<篇名>", "<目录>", "书名：", "书名:")


def sniff(sample: Sample) -> bool:
    return any(marker in sample.head for marker in _MARKERS) and not sample.is_json


@reader("book", sniff)
def read(part: Part, source: Source) -> Iterator[Found]:
    """`book` is the file's name without its leading number. Members of an archive that are no .txt files are set aside."""
    path = PurePosixPath(part.file_name)
    with part.open() as file:
        data = file.read()
    text, _, num_bad = decode(data, source.encoding)
    if part.is_member and path.suffix.lower() != ".txt":
        yield 1, reject("unknown_format", f"a member {path.suffix or 'without suffix'}, not a book's .txt")
        return
    edits = (f"undecodable_bytes:{num_bad}",) if num_bad else ()
    yield 1, Document(id="", text=text.removeprefix("\ufeff"), book=_NUMBER.sub("", path.stem, count=1) or path.stem, edits=edits)
