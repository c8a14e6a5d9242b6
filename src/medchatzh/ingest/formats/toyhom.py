"""Toyhom's Chinese medical dialogues: CSV with department, title, ask, answer; and text of question line, answer line, blank lines."""

from __future__ import annotations

from collections.abc import Iterator

from medchatzh.ingest.encoding import BAD
from medchatzh.ingest.files import Part
from medchatzh.ingest.formats.registry import Found, Sample, broken, converted, reader, reject
from medchatzh.ingest.rows import Broken, table_rows, undecodable
from medchatzh.ingest.source import Source
from medchatzh.ingest.turns import exchange
from medchatzh.records import Dialogue

_COLUMNS = {"department", "title", "ask", "answer"}


def _columns(head: str) -> set[str]:
    return {name.strip().strip('"') for name in head.partition("\n")[0].split(",")}


def sniff_csv(sample: Sample) -> bool:
    return _columns(sample.head) >= _COLUMNS


@reader("toyhom_csv", sniff_csv)
def read_csv(part: Part, source: Source) -> Iterator[Found]:
    if missing := _COLUMNS - _columns(part.head):
        yield 1, reject("unknown_format", f"the header line lacks {', '.join(sorted(missing))}", part.head.partition("\n")[0][:500])
        return
    with part.text() as stream:
        for line, row in table_rows(stream, ","):
            yield line, broken(row) if isinstance(row, Broken) else converted(convert_row, row)


def convert_row(row: dict[str, str]) -> Dialogue:
    """The question is `title`, a line break, `ask`; `ask` is left out where it repeats the title."""
    title, ask = row["title"].rstrip(), row["ask"]
    question = title if ask.strip() in ("", title.strip()) else f"{title}\n{ask}"
    return exchange(question.strip(), row["answer"].strip(), row["department"].strip())


def sniff_text(sample: Sample) -> bool:
    """Some blocks, all of two lines, blank lines between."""
    blocks = [block.strip("\r\n").split("\n") for block in sample.head.replace("\r", "").split("\n\n") if block.strip()][:20]
    return not sample.is_json and len(blocks) >= 3 and all(len(block) == 2 for block in blocks[:-1])


@reader("toyhom_text", sniff_text)
def read_text(part: Part, source: Source) -> Iterator[Found]:
    with part.text() as stream:
        for line, block in _blocks(stream):
            if any(BAD in text for text in block):
                yield line, broken(undecodable("\n".join(block)))
            elif len(block) > 2:
                yield line, broken(Broken("broken_row", f"{len(block)} lines between blank lines, expected 2", "\n".join(block)))
            else:
                yield line, converted(convert_block, block)


def _blocks(stream: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    block: list[str] = []
    number = 0
    for number, line in enumerate(stream, 1):
        if not line.isspace():
            block.append(line.strip())
        elif block:
            yield number - len(block), block
            block = []
    if block:
        yield number - len(block) + 1, block


def convert_block(block: list[str]) -> Dialogue:
    return exchange(block[0], "\n".join(block[1:]))
