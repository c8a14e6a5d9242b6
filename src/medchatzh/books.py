"""Books: whole book files → one clean Document a chapter, which knows its book, author, dynasty and place in the book.

The form is that of the common collection of classics: `<篇名>` before the book's title and before every chapter, `<目录>` with the
path of the parts above it, a header (书名：作者：朝代：年份：), `属性：` or `内容：` before the text, lines hard-wrapped at about 40
characters with a space before the line end. Files of other sources pass as one document, or are split at short lines that stand alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import msgspec

from medchatzh.recipe import Settings
from medchatzh.records import Document, Reject, normalize, read
from medchatzh.run import Context, Progress, Result

VERSION = 2


class Config(Settings, frozen=True):
    """How books become documents."""

    min_chars: int = 20
    """Chapters with fewer characters are dropped: a heading without text, a lone prescription name."""
    max_lost_share: float = 0.3
    """A file with a larger share of lost, private-use and control characters is no book (one of 642 real files is all NULs)."""
    split_unmarked_chars: int = 20_000
    """A file without chapter markers is split at its headings where it is longer than this; a shorter one stays one document."""
    rejoin_lines: bool = True
    """Rejoin hard-wrapped lines (501 of 640 real books have them inside sentences)."""
    duplicates: bool = True
    """Drop chapters whose text (but for punctuation and space) stands in an earlier book too."""

    def __post_init__(self) -> None:
        if self.min_chars < 1 or self.split_unmarked_chars < 1:
            raise ValueError("books: min_chars and split_unmarked_chars must be at least 1")
        if not 0 < self.max_lost_share <= 1:
            raise ValueError(f"books.max_lost_share is {self.max_lost_share}; write a share in (0, 1]")


class Header(NamedTuple):
    """What a book file says of itself; empty where it says nothing."""

    book: str = ""
    author: str = ""
    dynasty: str = ""
    year: str = ""


class Chapter(NamedTuple):
    """A chapter's place in the book (parts and title, joined with `/`) and its text as it stood in the file."""

    name: str
    text: str


_LOST = "□"
_FIELD = re.compile(r"^[ \u3000]*(书名|書名|作者|朝代|年份)[：:∶][ \u3000]*(.*?)[ \u3000]*$", re.MULTILINE)
_FIELDS = {"书名": "book", "書名": "book", "作者": "author", "朝代": "dynasty", "年份": "year"}
_MARKER = re.compile(r"^[ \u3000]*<(目录|目錄|篇名)>[ \u3000]*(.*?)[ \u3000]*$", re.MULTILINE)
_LABEL = re.compile(r"\A\s*(?:属性|屬性|内容|內容)[：:∶]")
_ENDS = "。！？：…!?:.」』”’》】〉"
_LIST_GAP = re.compile(r"[^ \u3000][ \u3000]+(?=[^ \u3000])")
_PARENTHESES = re.compile(r"[（(][^（）()]*[）)]")
_HEADING = re.compile(r"(?<=\n\n)[ \u3000]*([^\n，。；！？、]{2,24})[ \u3000]*\n(?=\s*[^\n]{30})")
_MIN_WRAPPED_LINES = 5
_MAX_REMNANT_CHARS = 6


class _Edit(NamedTuple):
    name: str
    signs: tuple[str, ...]
    """One of these stands in every text that the edit could change: a cheap look before the pattern. None: always try."""
    apply: Callable[[str], str]


def _replace(pattern: str, by: str = "", flags: int = 0) -> Callable[[str], str]:
    compiled = re.compile(pattern, flags)
    return lambda text: compiled.sub(by, text)


_LINE_END = re.compile("\r+\n|\r|\x85")
_EDITS = (
    _Edit("control_characters", (), _replace("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060\ufeff]")),
    _Edit("private_use", (), _replace("[\ue000-\uf8ff\U000f0000-\U0010fffd\ufffd]", _LOST)),
    _Edit("ratio_colons", ("∶",), lambda text: text.replace("∶", "：")),
    # \r羚羊角\ph404.bmp\r is a picture with its caption: the caption is text, 图 alone is none
    _Edit(
        "figures",
        ("\\r",),
        _replace(r"\\r(?:[ \u3000]*图(?=\\))?([^\\\n]{0,40})\\[^\\\n]{1,30}\.(?:bmp|jpg|gif|png)\\r", r"\1", re.IGNORECASE),
    ),
    # \x…\x set prescription names and signatures in bold
    _Edit("bold_marks", ("\\x",), lambda text: text.replace("\\x", "")),
    _Edit(
        "site_lines",
        ("瑰宝苑", "民间中医", "民間中醫", "版权所有", "发布人", "建档", "网址"),
        _replace(
            r"^[> \u3000]*(?:中医)?瑰宝苑[> \u3000]*"
            r"|^[^\n。]{0,20}(?:转自民间中医网|民間中醫網恭校|版权所有|发布人[:：]|建档[:：]|网址/)[^\n。]{0,60}$",
            "",
            re.MULTILINE,
        ),
    ),
    _Edit(
        "urls",
        ("http", "www."),
        _replace(
            r"^[^\n。]{0,40}https?[:：]//[A-Za-z0-9./?=&#_%:\-。]+[^\n。]{0,12}$|(?:https?[:：]//|www\.)[A-Za-z0-9./?=&#_%:\-]+",
            "",
            re.MULTILINE,
        ),
    ),
    _Edit(
        "rules", ("---", "===", "___", "***", "———", "－－－", "───"), _replace(r"^[ \u3000]*[-=_*—－─]{4,}[ \u3000]*$", "", re.MULTILINE)
    ),
)
"""What digitisation added to the texts, in the order in which it is taken away."""


def clean(text: str) -> tuple[str, list[str]]:
    """The text without what its digitisation added, and the names of the edits that changed it. `□` stays: something stood there."""
    made = []
    for edit in _EDITS:
        if edit.signs and not any(sign in text for sign in edit.signs):
            continue
        changed = edit.apply(text)
        if changed != text:
            made.append(edit.name)
        text = changed
    return text, made + (["lost_characters"] if _LOST in text else [])


def split(text: str, config: Config) -> tuple[Header, list[Chapter]]:
    """Header and chapters of a file, in order. A file without markers gives one chapter, or one a heading."""
    marks = list(_MARKER.finditer(text))
    if not marks:
        return Header(), _split_unmarked(text, config)
    fields: dict[str, str] = {}
    chapters = []
    if (preface := text[: marks[0].start()]).strip():
        chapters.append(Chapter("", preface))
    parts: list[str] = []
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        body = text[mark.end() : following.start() if following else len(text)]
        if mark[1] != "篇名":
            parts = [part.strip() for part in mark[2].split("\\") if part.strip()]
        elif not fields and (found := _FIELD.findall(body[:400])):
            fields = {_FIELDS[name]: value for name, value in reversed(found)}
            fields.setdefault("book", mark[2])
            body = _FIELD.sub("", body, count=len(found))
        place = [*parts, mark[2]] if mark[1] == "篇名" else parts
        chapters.append(Chapter("/".join(dict.fromkeys(filter(None, place))), body))
    return Header(**fields), [chapter for chapter in chapters if chapter.text.strip()]


def rejoin(text: str, width: int) -> str:
    """Undo hard wraps: a line that ends in a space and in mid-sentence goes on in the next. Paragraphs, verse and lists keep their lines.

    `width` is the length of a full line (see `wrap_width`), 0 where the file has no wraps.
    """
    joined: list[str] = []
    is_open = False
    for line in text.split("\n"):
        content = line.strip(" \u3000\t")
        continues = is_open and bool(content)
        if continues:
            joined[-1] += content
        else:
            joined.append(content)
        # Many books were wrapped twice: a full line, a remnant of a few characters, the rest.
        is_remnant = continues and len(content) <= _MAX_REMNANT_CHARS and content[-1] not in _ENDS + "）)"
        is_open = bool(width and content) and line.endswith(" ") and (is_remnant or _goes_on(content, width))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(joined)).strip()


def wrap_width(text: str) -> int:
    """The length of the file's full lines: the 80th percentile of lines that end in a space but not in a sentence's end; 0 for none."""
    lengths = sorted(
        len(line.strip()) for line in text.split("\n") if line.endswith(" ") and line.strip() and line.strip()[-1] not in _ENDS
    )
    return lengths[len(lengths) * 4 // 5] if len(lengths) >= _MIN_WRAPPED_LINES else 0


def _goes_on(line: str, width: int) -> bool:
    """This wrapped line stops in mid-sentence: it is full, or it is prose (clauses, not a list of drugs) without an end."""
    if line[-1] in _ENDS:
        return False
    if sum(map(line.count, "（(")) > sum(map(line.count, "）)")):
        return True
    bare = _PARENTHESES.sub("", line)
    if len(_LIST_GAP.findall(bare)) >= 2 and not re.search("[，。；：]", bare):
        return False
    if len(line) >= 0.8 * width:
        return True
    # A short line that ends with a comma is verse; one that ends with a bare word after clauses was cut.
    last_clause = re.split("[，。；：]", bare)[-1]
    return line[-1] not in "，、；）)" and last_clause != bare and not re.search("[ \u3000]", last_clause)


def _split_unmarked(text: str, config: Config) -> list[Chapter]:
    if len(text) <= config.split_unmarked_chars:
        return [Chapter("", text)]
    headings = list(_HEADING.finditer(text))
    starts = [0, *(heading.start() for heading in headings)]
    names = ["", *(heading[1].strip() for heading in headings)]
    bodies = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    return [Chapter(name, body) for name, body in zip(names, bodies, strict=True) if body.strip()]


def documents(books: Iterable[Document], config: Config) -> Iterator[Document | Reject]:
    """Chapter documents in order, and a Reject for every file that is no book and every chapter that is too short or stood before."""
    keepers: dict[bytes, str] = {}
    taken: Counter[str] = Counter()
    for file in books:
        if reason := _not_a_book(file.text, config):
            yield _reject(file, "garbage", reason, record=msgspec.structs.replace(file, text=file.text[:200]))
            continue
        chapters = list(_chapters(file, config, taken))
        if not chapters:
            shown = msgspec.structs.replace(file, text=file.text[:200])
            yield _reject(file, "short_chapter", "headings, and no text under any of them", record=shown)
        for document in chapters:
            if len(document.text) < config.min_chars:
                yield _reject(document, "short_chapter", f"{len(document.text)} characters", record=document)
                continue
            digest = blake2b(normalize(document.text).encode("utf-8", "surrogatepass"), digest_size=16).digest()
            keeper = keepers.setdefault(digest, document.id) if config.duplicates else document.id
            if keeper != document.id:
                yield _reject(document, "exact_duplicate", keeper, record=document)
            else:
                yield document


def _chapters(file: Document, config: Config, taken: Counter[str]) -> Iterator[Document]:
    text = _LINE_END.sub("\n", file.text)
    header, chapters = split(text, config)
    width = wrap_width(text) if config.rejoin_lines else 0
    book = header.book or file.book
    # Two files may hold a book of the same name: the second's chapters get its own number.
    key = f"{file.source}:{book or file.id}"
    taken[key] += 1
    key += f"~{taken[key]}" if taken[key] > 1 else ""
    for number, chapter in enumerate(chapters, 1):
        body, edits = clean(_LABEL.sub("", chapter.text))
        rejoined = rejoin(body, width)
        lines = ["rejoined_lines"] if width and rejoined != rejoin(body, 0) else []
        yield msgspec.structs.replace(
            file,
            id=f"{key}/{number}",
            text=rejoined,
            book=book,
            author=header.author or file.author,
            dynasty=header.dynasty or file.dynasty,
            year=header.year or file.year,
            chapter=clean(chapter.name)[0] or file.chapter,
            edits=(*file.edits, *edits, *lines),
        )


def _not_a_book(text: str, config: Config) -> str:
    """What is wrong with the whole file, '' where it is a text."""
    letters = sum(map(str.isalpha, text[:100_000]))
    if not letters:
        return f"{len(text)} characters, none of them a letter"
    lost = len(re.findall("[\x00-\x08\x0e-\x1f\x7f-\x9f\ue000-\uf8ff\ufffd□]", text))
    return f"{lost} of {len(text)} characters are lost" if lost > config.max_lost_share * len(text) else ""


def _reject(document: Document, reason: str, detail: str, record: Document) -> Reject:
    return Reject(
        id=document.id,
        source=document.source,
        origin=document.origin,
        category=document.category,
        stage="books",
        reason=reason,
        detail=detail,
        record=record,
    )


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """`ingest/books.jsonl` → `documents.jsonl` (a chapter each) and `rejects.jsonl`."""
    names: set[str] = set()
    dynasties: Counter[str] = Counter()
    edits: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    num_chapters = num_chars = 0
    encode = msgspec.json.Encoder().encode
    with ExitStack() as stack:
        kept = stack.enter_context((out / "documents.jsonl").open("wb"))
        rejects = stack.enter_context((out / "rejects.jsonl").open("wb"))
        progress = stack.enter_context(Progress("books", None, "chapters"))
        for outcome in documents(read(inputs["ingest"] / "books.jsonl", Document), config):
            progress.add()
            if isinstance(outcome, Reject):
                rejects.write(encode(outcome) + b"\n")
                dropped[outcome.reason] += 1
                continue
            kept.write(encode(outcome) + b"\n")
            num_chapters += 1
            num_chars += len(outcome.text)
            edits.update(outcome.edits)
            book = outcome.id.rpartition("/")[0]
            dynasties[outcome.dynasty or "unknown"] += book not in names
            names.add(book)
    return Result(
        num_in=num_chapters + sum(dropped.values()),
        num_out=num_chapters,
        dropped=dict(dropped),
        facts={
            "num_books": len(names),
            "num_chapters": num_chapters,
            "num_chars": num_chars,
            "dynasties": dict(sorted(dynasties.items())),
            "edits": dict(sorted(edits.items())),
        },
    )
