"""Twenty-one real books against `tests/golden/books.jsonl`, made by another reader (`read_simply.py`), and what an eye saw in them."""

import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from medchatzh.books import Config, passages
from medchatzh.books.book import Book, read_book
from medchatzh.books.tree import Node
from medchatzh.ingest.encoding import decode
from medchatzh.records import Document

GOLDEN = [json.loads(line) for line in (Path(__file__).parents[1] / "golden" / "books.jsonl").read_text("utf-8").splitlines()]


def _simply() -> ModuleType:
    spec = importlib.util.spec_from_file_location("read_simply", Path(__file__).with_name("read_simply.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SIMPLY = _simply()


@cache
def unpacked(archive: Path) -> dict[str, bytes]:
    if not archive.exists():
        pytest.skip(f"real books not found at {archive}")
    return SIMPLY.unpack(archive)  # type: ignore[no-any-return]


@pytest.fixture
def books(shared_data: Path) -> dict[str, bytes]:
    return unpacked(shared_data / "books" / "tcm_books.tar.xz")


def made(name: str, books: dict[str, bytes]) -> tuple[Book, dict[int, Document]]:
    """The book, and all its chapters that have text, the dropped ones too, by number."""
    file = Document(id="tcm:1", source="tcm", origin=f"{name}.txt:1", text=decode(books[name])[0])
    book = read_book(file, f"tcm:{name}", Config())
    chapters = [*book.documents, *(reject.record for reject in book.rejects)]
    return book, {int(chapter.id.rpartition("/")[2]): chapter for chapter in chapters}


def leaves(nodes: list[Node], path: tuple[str, ...] = ()) -> list[tuple[str, tuple[str, ...], int]]:
    """(id, path, passages) of the chapters of a tree, in its order."""
    found = []
    for node in nodes:
        own = (*path, *filter(None, [node.title]))
        if node.id:
            found.append((node.id, own, node.passages))
        found += leaves(node.parts, own)
    return found


@pytest.mark.parametrize("golden", GOLDEN, ids=[row["book"] for row in GOLDEN])
def test_tree_and_text_of_a_real_book(golden: dict[str, Any], books: dict[str, bytes]) -> None:
    name = golden["book"]
    book, chapters = made(name, books)
    is_marked = b"<\xc6\xaa\xc3\xfb>" in books[name]
    assert [book.tree.book, book.tree.author, book.tree.dynasty, book.tree.year] == golden["header"]
    in_tree = leaves(book.tree.parts)
    assert [identity for identity, _, _ in in_tree] == [chapters[number].id for number in sorted(chapters) if chapters[number].text]
    shown = []
    for identity, path, num_passages in in_tree:
        chapter = chapters[int(identity.rpartition("/")[2])]
        assert chapter.chapter == "/".join(path)
        assert num_passages == len(list(passages(chapter)))
        shown.append([SIMPLY.digest(SIMPLY.hanzi(text, is_marked)) for text in (chapter.chapter, chapter.text)] + [num_passages])
    expected = [row.split() for row in golden["chapters"]]
    assert [row[:2] for row in shown] == [row[:2] for row in expected]
    # wrapped lines are rejoined, so there are fewer passages than lines, and as many where nothing is wrapped
    lines = [int(row[2]) for row in expected]
    assert all(0 < passages <= most for (_, _, passages), most in zip(shown, lines, strict=True))


SEEN = {
    "118-增订医方歌诀": (4, 4, "王泰林", "清"),
    "196-产后十八论": (2, 2, "", ""),
    "228-发背对口治诀论": (5, 5, "", ""),
    "271-杨成博先生遗留穴道秘书": (4, 1, "", ""),  # three chapters stand under the first
    "521-察舌辨症新法": (16, 16, "刘恒瑞", "清"),
    "535-西池集": (3, 3, "", ""),
    "621-褚氏遗书": (16, 16, "褚澄", "南齐"),
}
"""Book → chapters and nodes of the first level, counted by eye, and two fields of the header."""


SEEN_PASSAGES = {
    "262-接骨手法/1": 81,  # verse, each line a passage
    "271-杨成博先生遗留穴道秘书/1": 3,
    "271-杨成博先生遗留穴道秘书/2": 3,
    "651-十二經補瀉溫涼引經藥歌/1": 25,  # a title, and twelve times a meridian and its paragraph
}
"""Chapter → paragraphs or verses, counted by eye."""


@pytest.mark.parametrize("identity", SEEN_PASSAGES)
def test_the_passages_an_eye_saw_in_a_real_chapter(identity: str, books: dict[str, bytes]) -> None:
    name, _, number = identity.partition("/")
    assert len(list(passages(made(name, books)[1][int(number)]))) == SEEN_PASSAGES[identity]


@pytest.mark.parametrize("name", SEEN)
def test_what_an_eye_saw_in_a_real_book(name: str, books: dict[str, bytes]) -> None:
    tree = made(name, books)[0].tree
    assert (len(leaves(tree.parts)), len(tree.parts), tree.author, tree.dynasty) == SEEN[name]
