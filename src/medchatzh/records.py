"""The records that flow between stages, and the JSON-lines files that carry them.

Data flows one way: raw files → `Document`, `Dialogue`, `Preference`, `Question` → checkpoints → `Prediction` → `Score`.
Whatever is dropped on the way becomes a `Reject` that names its reason.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

Role = Literal["system", "user", "assistant"]
Pool = Literal["general", "medical"]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What all records share: `id` is `<source>:<row>`, `origin` the `file:line` it was read from."""

    id: str
    source: str = ""
    origin: str = ""
    category: str = ""


class Turn(msgspec.Struct, frozen=True, gc=False):
    """One utterance. `content` is plain text; templates add their markers later."""

    role: Role
    content: str


class Dialogue(Record, frozen=True, kw_only=True):
    """An instruction record: one or more user/assistant exchanges, optionally after one system turn."""

    turns: tuple[Turn, ...]
    pool: Pool = "medical"
    edits: tuple[str, ...] = ()
    """Names of the repairs that curation made on the text, in order."""

    @property
    def question(self) -> str:
        """The first user text (it identifies the record), or '' where there is none."""
        return next((turn.content for turn in self.turns if turn.role == "user"), "")

    @property
    def answers(self) -> tuple[str, ...]:
        return tuple(turn.content for turn in self.turns if turn.role == "assistant")


class Document(Record, frozen=True, kw_only=True):
    """Running text for pre-training: one chapter of a book (or, straight from ingest, one whole book file)."""

    text: str
    book: str = ""
    author: str = ""
    dynasty: str = ""
    year: str = ""
    chapter: str = ""
    """Titles from the outermost part of the book down to the chapter's own, joined with `/` (a title's own slash is `／`)."""
    edits: tuple[str, ...] = ()


class Preference(Record, frozen=True, kw_only=True):
    """A ranking: `ranks[i]` is the rank of `answers[i]`, 1 is best, equal ranks are ties.

    `group` is what a split must keep together (a clinical case, a question).
    """

    prompt: tuple[Turn, ...]
    answers: tuple[str, ...]
    ranks: tuple[int, ...]
    group: str = ""

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every (chosen, rejected) pair of the ranking; ties give none."""
        for chosen, better in zip(self.answers, self.ranks, strict=True):
            for rejected, worse in zip(self.answers, self.ranks, strict=True):
                if better < worse:
                    yield chosen, rejected


class Question(Record, frozen=True, kw_only=True):
    """A benchmark item. `references` are its own answers, `distractors` answers sampled from other questions."""

    question: str
    references: tuple[str, ...]
    distractors: tuple[str, ...] = ()
    history: tuple[Turn, ...] = ()
    """The turns before the question, where the benchmark has several."""

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The conversation that is to be answered."""
        return (*self.history, Turn("user", self.question))

    @property
    def opening(self) -> str:
        """The first user text: it tells the item from others, where a last one may be `好的，谢谢医生`."""
        return next(turn.content for turn in self.turns if turn.role == "user")

    def without(self, reference: int | None) -> Question:
        """The same question without one of its references."""
        if reference is None:
            return self
        kept = self.references[:reference] + self.references[reference + 1 :]
        return msgspec.structs.replace(self, references=kept)


class Prediction(Record, frozen=True, kw_only=True):
    """One system's answer to a benchmark question.

    `finish` is `stop`, `length`, `prompt_too_long` (empty answer), `content_filter` (a server's filter stopped it), or `empty` (a file
    of predictions has none).
    """

    system: str
    question: str
    answer: str
    finish: str = "stop"
    reference: int | None = None
    """The answer is the question's own reference of this number, and must not be scored against it (`Question.without`)."""


class Score(Record, frozen=True, kw_only=True):
    """One number about one record (`system` empty) or one prediction."""

    metric: str
    value: float
    system: str = ""


class Reject(Record, frozen=True, kw_only=True):
    """A record that was set aside: where, by which rule (`reason`), what the rule saw (`detail`), and the record itself.

    Personal data never stands in `detail`, and is masked in `record`.
    """

    stage: str
    reason: str
    detail: str = ""
    span: tuple[int, int, int] | None = None
    """What the rule saw: turn of the record, first and last character but one (`turns[turn].content[start:end]`)."""
    record: Any = None

    @classmethod
    def of(cls, about: Record, stage: str, reason: str, detail: str = "", **more: Any) -> Reject:
        """The reject of a record, which has its place: id, source, origin and category. `more`: `record`, `span`."""
        place = {name: getattr(about, name) for name in Record.__struct_fields__}
        return cls(**place, stage=stage, reason=reason, detail=detail, **more)


R = TypeVar("R", bound=msgspec.Struct)
_encoder = msgspec.json.Encoder()


def write(path: Path, records: Iterable[msgspec.Struct]) -> int:
    """Write records as JSON lines (UTF-8) and return how many."""
    count = 0
    with path.open("wb") as file:
        for record in records:
            file.write(_encoder.encode(record))
            file.write(b"\n")
            count += 1
    return count


def read(path: Path, kind: type[R]) -> Iterator[R]:
    """Stream the records of a JSON-lines file.

    Raises ValueError naming file, line and field where a line does not hold a `kind`.
    """
    decoder = msgspec.json.Decoder(kind)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; it should hold {kind.__name__} records as JSON lines") from None
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ValueError(f"{path}:{number}: not a {kind.__name__}: {error}") from None


def is_held_out(key: str, share: float) -> bool:
    """Whether a key's hash falls into the held-out share: the same key always falls on the same side, whatever else is there."""
    digest = hashlib.blake2b(key.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") < share * 2**32


def hold_out(records: Iterable[R], share: float, key: Callable[[R], str]) -> tuple[list[R], list[R]]:
    """(kept, held out) by the hash of each record's key."""
    sides: tuple[list[R], list[R]] = ([], [])
    for record in records:
        sides[is_held_out(key(record), share)].append(record)
    return sides


_FOLD = re.compile(r"[\W_]+")


def normalize(text: str) -> str:
    """Fold what does not tell two texts apart: width, case, white space, punctuation. Used to find duplicates and leaks."""
    return _FOLD.sub("", unicodedata.normalize("NFKC", text).lower())
