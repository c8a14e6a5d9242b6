"""The last step, over all books: drop what the settings say of repetition, list the rest of it, and write the documents in order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from medchatzh.books.book import rejected
from medchatzh.books.config import Config
from medchatzh.books.digitisation import LOST
from medchatzh.books.passages import passages
from medchatzh.books.repeats import CHAPTER, PASSAGE, Chapters, Repeat, compare, repeated
from medchatzh.books.tree import Tree
from medchatzh.records import Document, read

_SHOWN_PAIRS = 30
_encode = msgspec.json.Encoder().encode


def finish(config: Config, out: Path, shards: Sequence[Path]) -> tuple[Counter[str], dict[str, Any]]:
    """Write `documents.jsonl` and `repeats.jsonl`, append to `rejects.jsonl`; returns what was dropped here by reason, and the facts."""
    corpus = _Corpus(shards)
    same = compare(corpus.chapters, config.near_duplicate, corpus.documents, exact=config.duplicates)
    dropped: Counter[str] = Counter()
    repeats: list[Repeat] = []
    tally = _Tally()
    with (
        (out / "documents.jsonl").open("wb") as kept,
        (out / "rejects.jsonl").open("ab") as rejects,
        (out / "repeats.jsonl").open("wb") as listed,
    ):
        for document, found in _judged(corpus, same, config):
            for repeat in found:
                listed.write(_encode(repeat) + b"\n")
            repeats += found
            if isinstance(document, Document):
                kept.write(_encode(document) + b"\n")
                tally.add(document)
            else:
                reason, detail, original = document
                rejects.write(_encode(rejected(original, reason, detail)) + b"\n")
                dropped[reason] += 1
    return dropped, tally.facts(out / "tree.jsonl") | {"repeats": _summary(repeats)}


_Dropped = tuple[str, str, Document]


def _judged(corpus: _Corpus, same: Chapters, config: Config) -> Iterator[tuple[Document | _Dropped, list[Repeat]]]:
    """Each chapter as it stays, or (reason, keeper, chapter) where it goes; and what of it is said before."""
    gone = set(same.exact) | (set(same.near) if config.drop_near_duplicates else set())
    books, lines, chars = corpus.chapters["book"], corpus.passages["line"], corpus.passages["chars"]
    chapter_of = corpus.passages["chapter"]
    again = defaultdict(list)
    for passage, first in repeated(corpus.passages, books, gone):
        again[int(chapter_of[passage])].append((passage, first))
    ids: list[str] = []
    for index, document in corpus.documents():
        ids.append(document.id)
        if index in same.exact:
            yield ("exact_duplicate", ids[same.exact[index]], document), []
            continue
        found = []
        if index in same.near:
            keeper, jaccard = same.near[index]
            found.append(Repeat(id=document.id, first=ids[keeper], jaccard=round(jaccard, 3)))
            if index in gone:
                yield ("near_duplicate", f"{ids[keeper]} J={jaccard:.3f}", document), found
                continue
        for passage, first in again[index]:
            earlier = f"{ids[chapter_of[first]]}#{lines[first]}"
            found.append(Repeat(id=f"{document.id}#{lines[passage]}", first=earlier, num_chars=int(chars[passage])))
        if again[index] and config.drop_repeated_passages:
            shorter = _without(document, {int(lines[passage]) for passage, _ in again[index]})
            if len(shorter.text.strip()) < config.min_chars:
                yield ("repeated_passages", found[-1].first, document), found
                continue
            document = shorter
        yield document, found


def _without(document: Document, lines: Container[int]) -> Document:
    """The chapter without some passages. Their lines stay, empty, so that the others keep their ids."""
    left = ["" if number in lines else line for number, line in enumerate(document.text.split("\n"), 1)]
    return msgspec.structs.replace(document, text="\n".join(left), edits=(*document.edits, "repeated_passages"))


class _Corpus:
    """What the shards left: the documents in reading order, and the hashes of them and of their passages."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self._shards = shards
        chapters = [np.load(folder / "chapters.npy") for folder in shards]
        found = [np.load(folder / "passages.npy") for folder in shards]
        for part, start in zip(found, np.cumsum([0, *map(len, chapters)]), strict=False):
            part["chapter"] += start
        self.chapters = np.concatenate([np.empty(0, CHAPTER), *chapters])
        self.passages = np.concatenate([np.empty(0, PASSAGE), *found])

    def documents(self, wanted: Container[int] | None = None) -> Iterator[tuple[int, Document]]:
        """(index, document) of all, or of those wanted, in order."""
        decode = msgspec.json.Decoder(Document).decode
        number = count()
        for folder in self._shards:
            with (folder / "documents.jsonl").open("rb") as file:
                for line, index in zip(file, number, strict=False):  # in this order, or a number is lost at each end
                    if wanted is None or index in wanted:
                        yield index, decode(line)


class _Tally:
    """Counts over the documents that stay."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("num_chapters", "num_passages", "num_chars", "num_lost_chars"), 0)
        self.edits: Counter[str] = Counter()
        self.books: set[str] = set()

    def add(self, document: Document) -> None:
        self.counts["num_chapters"] += 1
        self.counts["num_passages"] += sum(1 for _ in passages(document))
        self.counts["num_chars"] += len(document.text)
        self.counts["num_lost_chars"] += document.text.count(LOST)
        self.edits.update(edit.partition(":")[0] for edit in document.edits)
        self.books.add(book_of(document.id))

    def facts(self, trees: Path) -> dict[str, Any]:
        """With the files: read = kept + set aside. A file is kept where one of its chapters is."""
        dynasties: Counter[str] = Counter()
        set_aside: Counter[str] = Counter()
        traditional = []
        num_files = 0
        for tree in read(trees, Tree):
            num_files += 1
            if tree.id in self.books:
                dynasties[tree.dynasty or "unknown"] += 1
                traditional += [tree.id] if tree.traditional else []
            else:
                set_aside[tree.set_aside or "all_chapters_dropped"] += 1
        return {
            "num_books": len(self.books),
            **self.counts,
            "files": {"read": num_files, "kept": len(self.books), "set_aside": dict(sorted(set_aside.items()))},
            "traditional": traditional,
            "dynasties": dict(sorted(dynasties.items())),
            "edits": dict(sorted(self.edits.items())),
        }


def book_of(identity: str) -> str:
    """The book's part of a chapter's or a passage's id."""
    return identity.rpartition("/")[0]


def _summary(repeats: Sequence[Repeat]) -> dict[str, Any]:
    """Of passages and near-repeated chapters; the pairs of books that share the most passages, `later < earlier`."""
    said = [repeat for repeat in repeats if not repeat.jaccard]
    pairs = Counter(f"{book_of(repeat.id)} < {book_of(repeat.first)}" for repeat in said)
    return {
        "num_passages": len(said),
        "num_chars": sum(repeat.num_chars for repeat in said),
        "num_near_chapters": len(repeats) - len(said),
        "num_pairs_of_books": len(pairs),
        "pairs_of_books": dict(sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:_SHOWN_PAIRS]),
    }
