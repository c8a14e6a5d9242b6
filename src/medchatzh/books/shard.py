"""The work of a shard: some book files, each knowing nothing of the others, and hashes of what they say."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np

from medchatzh.books.book import read_book
from medchatzh.books.config import Config
from medchatzh.books.repeats import keys
from medchatzh.records import Document, read
from medchatzh.shards import Facts

_SHARD_BYTES = 8_000_000
"""A shard's books: small enough for many workers and little memory (the largest real book has 6 MB), large enough to hide a job's start."""
_NOT_IN_IDS = re.compile(r"[\s:/#]+")
_encode = msgspec.json.Encoder().encode


class Job(msgspec.Struct, frozen=True):
    """Some whole lines of `books.jsonl`."""

    path: Path
    start: int
    first: int
    """Index of the first file among all."""
    keys: tuple[str, ...]
    """What the ids of each file's chapters begin with."""
    config: Config


class ShardFacts(Facts):
    """Of a shard, with the chapters that needed no other book to be dropped, by reason."""

    dropped: dict[str, int]


def jobs_of(path: Path, config: Config) -> list[Job]:
    """Cut the file into shards of whole lines."""
    names = _names(list(read(path, _Place)))
    jobs: list[Job] = []
    start = end = first = 0
    with path.open("rb") as file:
        for index, line in enumerate(file, 1):
            end += len(line)
            if end - start >= _SHARD_BYTES or index == len(names):
                jobs.append(Job(path, start, first, tuple(names[first:index]), config))
                start, first = end, index
    return jobs


class _Place(msgspec.Struct):
    """Where a book comes from; the rest of its line is passed over."""

    id: str
    source: str = ""
    origin: str = ""

    @property
    def file(self) -> str:
        """`folder/archive!member.txt:1` without the line."""
        return self.origin.rpartition(":")[0]


def _names(places: Sequence[_Place]) -> list[str]:
    """What the ids of each book's chapters begin with, all different: source and file name; of a file of many texts (leaflets), its row."""
    rows = Counter((place.source, place.file) for place in places)
    names: dict[str, None] = {}
    for place in places:
        name = place.id
        if place.file and rows[place.source, place.file] == 1:
            name = f"{place.source}:{_NOT_IN_IDS.sub('_', PurePosixPath(place.file.replace('!', '/')).stem)}"
        if name in names:  # two folders hold files of one name
            name += "~" + hashlib.blake2b(place.origin.encode("utf-8", "surrogatepass"), digest_size=3).hexdigest()
        names[name] = None
    return list(names)


def read_shard(job: Job, folder: Path) -> ShardFacts:
    """The books of a shard: documents, rejects, trees, and the hashes that tell repetition."""
    documents: list[Document] = []
    books: list[int] = []
    dropped: Counter[str] = Counter()
    decode = msgspec.json.Decoder(Document).decode
    with (
        job.path.open("rb") as file,
        (folder / "documents.jsonl").open("wb") as kept,
        (folder / "rejects.jsonl").open("wb") as rejects,
        (folder / "tree.jsonl").open("wb") as trees,
    ):
        file.seek(job.start)
        for index, key in enumerate(job.keys, job.first):
            try:
                book = read_book(decode(file.readline()), key, job.config)
            except msgspec.DecodeError as error:
                raise ValueError(f"{job.path}:{index + 1}: not a Document: {error}") from None
            trees.write(_encode(book.tree) + b"\n")
            for document in book.documents:
                kept.write(_encode(document) + b"\n")
            for reject in book.rejects:
                rejects.write(_encode(reject) + b"\n")
            dropped.update(reject.reason for reject in book.rejects)
            documents += book.documents
            books += [index] * len(book.documents)
    chapters, found = keys(documents, books, job.config.min_repeat_chars)
    np.save(folder / "chapters.npy", chapters)
    np.save(folder / "passages.npy", found)
    return ShardFacts(num_in=len(job.keys), dropped=dict(dropped))
