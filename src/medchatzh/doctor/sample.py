"""A bounded look at the data: some records of each raw source, by ingest's own readers, and of what a run has made already."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from medchatzh import ingest
from medchatzh.ingest.units import Tally, read_source
from medchatzh.prompt import Encoded, Template, split_to_fit
from medchatzh.records import Dialogue, Document, Preference, Question, Record, Reject, read

MAX_RECORDS = 150
"""Of a source. 20 sources in the usual formats take a second; enough to see a share of 5 %."""
MAX_SECONDS = 3.0
"""For all sources together: what is left is told as not looked at."""
MAX_LINES = 20_000
"""Of a file of the mix that is read for questions on both sides: half a second."""
CHARS_A_TOKEN = 1.24
"""Of Chinese text in a vocabulary of 8,000 pieces, where no tokenizer is there yet (lab log, tokenizer)."""

R = TypeVar("R", bound=Record)


class Sampled(NamedTuple):
    """What was read of a source."""

    source: ingest.Source
    num_bytes: int
    """Of its files, as they lie on disk."""
    records: Sequence[Record]
    is_whole: bool
    """All there is was read."""
    is_skipped: bool = False
    """There was no time for it."""
    problem: str = ""
    """Why its files were not found."""

    def of(self, kind: type[R]) -> list[R]:
        return [record for record in self.records if isinstance(record, kind)]

    @property
    def num_kept(self) -> int:
        """Records that are no rejects, of those read."""
        return sum(not isinstance(record, Reject) for record in self.records)

    @property
    def num_records(self) -> float:
        """Records that are no rejects, estimated by bytes where only some were read (archives hold more than they show)."""
        kept = [record for record in self.records if not isinstance(record, Reject)]
        if self.is_whole or not kept:
            return len(kept)
        size = sum(len(text.encode("utf-8", "replace")) for record in kept for text in texts(record))
        estimate = max(len(kept), len(kept) * self.num_bytes / max(1, size))
        return min(estimate, self.source.limit or estimate)


def texts(record: Record) -> tuple[str, ...]:
    """What was written in it."""
    if isinstance(record, Dialogue):
        return tuple(turn.content for turn in record.turns)
    if isinstance(record, Preference):
        return (*(turn.content for turn in record.prompt), *record.answers)
    if isinstance(record, Question):
        return (*(turn.content for turn in record.turns), *record.references)
    return (record.text,) if isinstance(record, Document) else ()


def sample(config: ingest.Config, root: Path) -> list[Sampled]:
    """At most `MAX_RECORDS` rows of each source, in `MAX_SECONDS` altogether."""
    until = time.monotonic() + MAX_SECONDS
    found = []
    for number, source in enumerate(config.sources):
        try:
            files = ingest.raw_files(ingest.Config(sources=(source,)), root)
        except ValueError as error:
            found.append(Sampled(source, 0, (), True, problem=str(error)))
            continue
        size = sum(path.stat().st_size for path in files.values())
        now = time.monotonic()
        if now >= until:
            found.append(Sampled(source, size, (), False, is_skipped=True))
            continue
        share = now + (until - now) / (len(config.sources) - number)  # an even share of what is left: one slow source starves no other
        records, is_whole = _taken(read_source(source, files, Tally()), share)
        found.append(Sampled(source, size, records, is_whole))
    return found


def _taken(records: Iterable[Record], until: float) -> tuple[list[Record], bool]:
    taken: list[Record] = []
    for record in records:
        taken.append(record)
        if len(taken) >= MAX_RECORDS or time.monotonic() >= until:
            return taken, False
    return taken, True


def lines(path: Path, kind: type[R], limit: int = MAX_LINES) -> list[R]:
    """The first records of a file of JSON lines; none where there is no such file."""
    return list(islice(read(path, kind), limit)) if path.is_file() else []


class Estimate:
    """Stands in for a tokenizer that is not trained yet: as many ids as the text will have, about."""

    eos_token_id = 2

    def __call__(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [0] * -(-len(text) * 100 // round(CHARS_A_TOKEN * 100))}


class Fitted(NamedTuple):
    """How dialogues go into rows."""

    examples: list[Encoded]
    num_exchanges: int
    num_dropped: int
    """Exchanges that are too long by themselves."""


def fit(dialogues: Iterable[Dialogue], tokenizer: object, template: Template, row_tokens: int) -> Fitted:
    """Encode as SFT does."""
    examples: list[Encoded] = []
    num_exchanges = num_dropped = 0
    for dialogue in dialogues:
        encoded, dropped = split_to_fit(dialogue.turns, tokenizer, template, row_tokens)  # type: ignore[arg-type]
        examples += encoded
        num_exchanges += len(dialogue.answers)
        num_dropped += dropped
    return Fitted(examples, num_exchanges, num_dropped)
