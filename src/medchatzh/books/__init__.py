"""Books: whole book files → one clean Document a chapter, which knows its book, author, dynasty and place in the book; a table of contents
of every book; and a list of what books repeat of one another.

Files are worked on in shards, each knowing nothing of the others (`book.py`); what is said twice is found afterwards by hashes
(`repeats.py`).

Ids are for citing: `<source>:<file name>/<chapter>#<passage>`, told by the file alone. Adding a book changes none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from medchatzh.books.config import Config
from medchatzh.books.passages import passages
from medchatzh.run import Context, Result

__all__ = ["VERSION", "Config", "passages", "run"]

VERSION = 3
SEEDED = False


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """`ingest/books.jsonl` → `documents.jsonl` (a chapter each), `rejects.jsonl`, `tree.jsonl` (a book each) and `repeats.jsonl`."""
    from medchatzh.books.finish import finish  # not on top: NumPy is no part of planning
    from medchatzh.books.shard import ShardFacts, jobs_of, read_shard
    from medchatzh.shards import shard, work

    jobs = jobs_of(inputs["ingest"] / "books.jsonl", config)
    merged = ("rejects.jsonl", "tree.jsonl")
    for name in merged:
        (out / name).touch()
    num_books = sum(len(job.keys) for job in jobs)
    facts = work(read_shard, jobs, out, context, label="books", unit="books", kind=ShardFacts, merge=merged, total=num_books)
    dropped = sum((Counter(of_shard.dropped) for of_shard in facts), Counter())
    later, shown = finish(config, out, [shard(out, "books", number) for number in range(len(jobs))])
    dropped += later
    num_out = shown["num_chapters"]
    return Result(num_in=num_out + dropped.total(), num_out=num_out, dropped=dict(dropped), facts=shown)
