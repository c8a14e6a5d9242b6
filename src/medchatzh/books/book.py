"""One book file → its chapters as Documents, its rejects, and its tree. Knows no other book."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from medchatzh.books.chapters import is_marked, split
from medchatzh.books.config import Config
from medchatzh.books.digitisation import LINE_END, LOST, clean, is_traditional, not_a_book, restore
from medchatzh.books.lines import rejoin, wrap_width
from medchatzh.books.passages import passages
from medchatzh.books.tree import Tree, grow
from medchatzh.records import Document, Reject

_SHOWN_CHARS = 200


class Book(NamedTuple):
    """What became of a file. `rejects` holds the chapters that are too short, or one for the whole file."""

    tree: Tree
    documents: list[Document]
    rejects: list[Reject]


def read_book(file: Document, key: str, config: Config) -> Book:
    """Split and mend a whole book file; ids of its chapters are `<key>/<number>`."""
    tree = Tree(id=key, origin=file.origin, book=file.book, author=file.author, dynasty=file.dynasty, year=file.year)
    if wrong := not_a_book(file.text, config.max_lost_share):
        return _set_aside(file, tree, "garbage", wrong)
    text = LINE_END.sub("\n", file.text)
    header, chapters = split(text, config.split_unmarked_chars)
    for name, value in header._asdict().items():
        if cleaned := clean(value)[0].strip():
            setattr(tree, name, cleaned)
    tree.traditional = is_traditional(text)
    of_collection = is_marked(text)
    width = wrap_width(text) if config.rejoin_lines else 0
    documents, rejects, branches = [], [], []
    for chapter in chapters:
        path = tuple(_title(title, of_collection) for title in chapter.path)
        body, edits = clean(chapter.text)
        joined = rejoin(body, width)
        if width and joined != rejoin(body, 0):
            edits.append("rejoined_lines")
        if of_collection:
            joined, more = restore(joined)
            edits += more
        if LOST in joined:
            edits.append("lost_characters")
        document = msgspec.structs.replace(
            file,
            id=f"{key}/{chapter.number}",
            text=joined,
            book=tree.book,
            author=tree.author,
            dynasty=tree.dynasty,
            year=tree.year,
            chapter="/".join(path) or file.chapter,
            edits=(*file.edits, *edits),
        )
        num_passages = sum(1 for _ in passages(document))
        if num_passages or chapter.number:
            branches.append((path, document.id if num_passages else "", num_passages))
        if len(joined) >= config.min_chars:
            documents.append(document)
        elif chapter.text.strip():
            rejects.append(rejected(document, "short_chapter", f"{len(joined)} characters"))
    if not documents and not rejects:
        return _set_aside(file, tree, "no_text", "headings, and no text under any of them")
    tree.parts = grow(branches)
    return Book(tree, documents, rejects)


def _title(text: str, of_collection: bool) -> str:
    cleaned = clean(text)[0].replace("/", "／")
    return restore(cleaned)[0] if of_collection else cleaned


def rejected(document: Document, reason: str, detail: str) -> Reject:
    """The reject of a chapter or a file."""
    return Reject.of(document, "books", reason, detail, record=document)


def _set_aside(file: Document, tree: Tree, reason: str, detail: str) -> Book:
    tree.set_aside = reason
    shown = msgspec.structs.replace(file, id=tree.id, text=file.text[:_SHOWN_CHARS])
    return Book(tree, [], [rejected(shown, reason, detail)])
