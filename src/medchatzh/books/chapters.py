"""A book file → its header and its chapters in order, each with its number and its place in the book.

The form is that of the common collection of classics: `<篇名>` before the book's title and before every chapter, `<目录>` with the path of
the parts above it (divided by `\\`), a header (书名：作者：朝代：年份：), `属性：` or `内容：` before the text. Files of other sources pass
as one chapter, or are split at short lines that stand alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from medchatzh.books.digitisation import clean


class Header(NamedTuple):
    """What a book file says of itself; empty where it says nothing."""

    book: str = ""
    author: str = ""
    dynasty: str = ""
    year: str = ""


class Chapter(NamedTuple):
    """A chapter as it stood in the file.

    `number` counts the file's own chapter headings from 1, so it changes with nothing but the file; 0 is what stands before the first.
    `path` holds the titles from the outermost part down to the chapter's own.
    """

    number: int
    path: tuple[str, ...]
    text: str


_FIELD = re.compile(r"^[ \u3000]*(书名|書名|作者|朝代|年份)[：:∶][ \u3000]*(.*?)[ \u3000]*$", re.MULTILINE)
_FIELDS = {"书名": "book", "書名": "book", "作者": "author", "朝代": "dynasty", "年份": "year"}
_MAX_HEADER_CHARS = 400
_MAX_PARTS = 15
"""Real books have three levels at most; a damaged line must not nest a tree deeper than an encoder goes."""
_MARKER = re.compile(r"^[ \u3000]*<(目录|目錄|篇名)>[ \u3000]*(.*?)[ \u3000]*$", re.MULTILINE)
_LABEL = re.compile(r"^[ \u3000]*(?:属性|屬性|内容|内\?|內容)[：:∶]", re.MULTILINE)
# A short line between blank ones, with a long line after it.
_HEADING = re.compile(r"(?<=\n\n)[ \u3000]*([^\n，。；！？、：:【】]{2,24})[ \u3000]*\n(?=\s*[^\n]{30})")
# Dates and signatures of prefaces, sources in brackets, and lists of drugs have the same form.
_NO_HEADING = re.compile(
    r".*[年月日撰识序著叙校订]$|[（(《].{4,}[）)》]$|.*\S[ \u3000]+\S\S+[ \u3000]+\S\S|.*[0-9０-９一二两三四五六七八九十半][两钱克分斤升枚]"
)
_SPACED = re.compile(r"[\u4e00-\u9fff](?:[ \u3000]+[\u4e00-\u9fff])+")


def is_marked(text: str) -> bool:
    """Whether a file has the collection's markers."""
    return _MARKER.search(text) is not None


def split(text: str, split_unmarked_chars: int) -> tuple[Header, list[Chapter]]:
    """Header and chapters of a file whose lines end with `\\n`, those without text too. Chapter 0 stands first, if it has text."""
    marks = list(_MARKER.finditer(text))
    if not marks:
        return Header(), list(_unmarked(text, split_unmarked_chars))
    header = Header()
    before = text[: marks[0].start()]
    chapters: list[Chapter] = []
    parts: list[str] = []
    for mark, end in zip(marks, [*(following.start() for following in marks[1:]), len(text)], strict=True):
        body = text[mark.end() : end]
        if mark[1] != "篇名":
            parts = [part.strip() for part in mark[2].split("\\", _MAX_PARTS)]
            title, is_title = "", False
        else:
            title, is_title = mark[2], not chapters and header == Header() and bool(_FIELD.search(body[:_MAX_HEADER_CHARS]))
        if is_title:
            header, body = _header(title, body)
            before += _LABEL.sub("", body)
        elif mark[1] == "篇名" or body.strip():
            path = [*parts, title]
            names = tuple(name for name, last in zip(path, ["", *path], strict=False) if name and name != last)
            chapters.append(Chapter(len(chapters) + 1, names, _LABEL.sub("", body)))
    first = [Chapter(0, (), before)] if before.strip() else []
    return header, first + chapters


def _header(title: str, body: str) -> tuple[Header, str]:
    """The fields under the book's title, and what stands after them. The first of two equal fields counts."""
    found = _FIELD.findall(body[:_MAX_HEADER_CHARS])
    fields = {_FIELDS[name]: value for name, value in reversed(found)}
    return Header(**({"book": title} | {name: value for name, value in fields.items() if value})), _FIELD.sub("", body, count=len(found))


def _unmarked(text: str, split_unmarked_chars: int) -> Iterator[Chapter]:
    found = _HEADING.finditer(text) if len(text) > split_unmarked_chars else ()
    # page numbers and a site's lines stand alone too
    headings = [heading for heading in found if clean(heading[1])[0].strip() and not _NO_HEADING.match(heading[1].strip())]
    if not headings:
        yield Chapter(1, (), text)
        return
    if text[: headings[0].start()].strip():
        yield Chapter(0, (), text[: headings[0].start()])
    for number, (heading, end) in enumerate(zip(headings, [*(h.start() for h in headings[1:]), len(text)], strict=True), 1):
        title = heading[1].strip()
        if _SPACED.fullmatch(title):  # 舌　　苔
            title = re.sub("[ \u3000]", "", title)
        yield Chapter(number, (title,), text[heading.start() : end])  # the heading stays, for a short line alone may be none
