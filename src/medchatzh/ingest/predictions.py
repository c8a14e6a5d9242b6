"""Answers made elsewhere: a file of predictions, in whatever table or JSON form, joined to the benchmark's questions. Needs no torch.

It takes the place of a `generate` step. Each row of the file is accounted for: it becomes a Prediction, or a Reject that names its file,
line and reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from medchatzh.benchmarks import sample
from medchatzh.ingest.encoding import Unreadable
from medchatzh.ingest.files import CORRUPT, Part, is_of_machine, parts
from medchatzh.ingest.formats.registry import broken, reject
from medchatzh.ingest.rows import Broken, is_json, json_rows, table_rows
from medchatzh.ingest.turns import Unusable, first_text, text_of
from medchatzh.personal import hide
from medchatzh.recipe import Settings
from medchatzh.records import Prediction, Question, Reject, normalize, read, write
from medchatzh.run import Context, Result

VERSION = 2
LIBRARIES = ("openpyxl", "pyarrow")

ROLES = ("id", "question", "answer")
_IDS = ("id", "question_id", "qid")
_QUESTIONS = ("question", "query", "instruction", "prompt")
_ANSWERS = ("prediction", "predict", "predicted", "response", "output", "generated", "generated_text", "answer")
"""`answer` comes last, since a file that has a prediction too means the reference by it."""
_DELIMITERS = ("\t", ",", ";")
_MAX_ID_CHARS = 10
"""A longer one that is no question's id may be a mobile number, and is masked."""


class Config(Settings, frozen=True, kw_only=True):
    """A system whose answers to the benchmark lie in a file."""

    name: str
    """The system's name in tables."""
    path: str
    """Below the working folder, or absolute: JSON lines, a JSON array, CSV, TSV, Parquet or Excel, in UTF-8, GBK …, packed or not."""
    columns: dict[str, str] = msgspec.field(default_factory=dict)
    """`answer`, with `id` or `question` or both → the column (key) that holds it. Told by the usual names where left out: ours; `id`,
    `answer`; `question`, `prediction`; and the paper's `label`, `question`, `predict`, whose label is the question's id."""
    encoding: str = ""
    """Codec name for a file without a byte-order mark that is not UTF-8; '' tells it."""

    def __post_init__(self) -> None:
        where = f"predictions {self.name!r}"
        if not re.fullmatch(r"[^\s@=/]+", self.name):
            raise ValueError(f"{where}: a name has no spaces and none of @, = and /")
        if unknown := set(self.columns) - set(ROLES):
            raise ValueError(f"{where}: columns.{min(unknown)}: known here: {', '.join(ROLES)}")
        if self.columns and not ("answer" in self.columns and len(self.columns) > 1):
            raise ValueError(f'{where}: columns: name the answer, and the id or the question: columns = {{ id = "…", answer = "…" }}')


class System(Config, frozen=True, kw_only=True):
    """The settings of the step; of the path it has the file's name alone."""

    max_questions: int = 0
    """As in [generate]: rows about other questions than the sampled ones are set aside."""


class Row(NamedTuple):
    """What a row of the file says. `id` and `question` are '' where it has none."""

    id: str
    question: str
    answer: str
    finish: str


def run(config: System, inputs: Mapping[str, Path], out: Path, context: Context, *, files: Mapping[str, Path]) -> Result:
    """The one file, joined to `ingest/questions.jsonl` → `predictions.jsonl`, `rejects.jsonl`."""
    ((name, path),) = files.items()
    questions = list(read(inputs["ingest"] / "questions.jsonl", Question))
    if not questions:
        path = inputs["ingest"] / "rejects.jsonl"
        lost = list(read(path, Reject)) if path.exists() else []  # a finished questions.jsonl has none
        why = ", ".join(f"{reason} {count:,}" for reason, count in Counter(found.reason for found in lost).most_common())
        first = f"; first: {lost[0].origin}: {lost[0].detail}" if lost else ""
        raise ValueError(f"the benchmark has no questions ({why or 'it holds no rows'}{first}); correct its file")
    joiner = Joiner(questions, config.name, {question.id for question in sample(questions, config.max_questions, context.seed)})
    outcomes = [joiner.join(place, row) for place, row in rows(name, path, config.columns, config.encoding)]
    predictions = [outcome for outcome in outcomes if isinstance(outcome, Prediction)]
    rejects = [outcome for outcome in outcomes if isinstance(outcome, Reject)]
    dropped = Counter(outcome.reason for outcome in rejects)
    if not predictions:
        told = ", ".join(f"{reason} {count:,}" for reason, count in dropped.most_common()) or "the file has no rows"
        first = f"; first: {rejects[0].origin}: {rejects[0].detail}" if rejects else ""
        raise ValueError(f"{path}: no row answers a question of the benchmark ({told}{first}); correct the file, or name its columns")
    write(out / "predictions.jsonl", predictions)
    write(out / "rejects.jsonl", rejects)
    finishes = Counter(prediction.finish for prediction in predictions)
    return Result(
        num_in=len(outcomes),
        num_out=len(predictions),
        dropped=dropped,
        facts={"system": config.name, "finish": dict(sorted(finishes.items())), "joined": dict(sorted(joiner.joined.items()))}
        | {"num_unanswered": len(joiner.wanted) - len(predictions)}
        | {name: number for name, number in (("num_empty", finishes["empty"]), ("num_differing", joiner.num_differing)) if number},
    )


def lacks(facts: Mapping[str, Any]) -> list[str]:
    """In words, what a step's facts say that is missing, empty or repeated otherwise; [] where nothing is."""
    words = {"num_unanswered": "questions without", "num_empty": "empty", "num_differing": "repeated with another answer"}
    return [f"{facts[name]:,} {told}" for name, told in words.items() if facts.get(name)]


def rows(name: str, path: Path, columns: Mapping[str, str], encoding: str = "") -> Iterator[tuple[str, Row | Reject]]:
    """(file:line, row) of each row of a file, which may be an archive; what cannot be read is a Reject, still without its place."""
    part_name = name
    try:
        for part in parts(name, path, encoding):
            part_name = part.name
            try:
                yield from ((f"{part.name}:{line}", row) for line, row in _part_rows(part, columns))
            except Unreadable as error:
                yield f"{part.name}:1", reject(error.reason, error.detail)
            except CORRUPT as error:
                yield f"{part.name}:1", _corrupt(error)
    except CORRUPT as error:
        yield f"{part_name}:1", _corrupt(error)


def _corrupt(error: Exception) -> Reject:
    if is_of_machine(error):
        raise error
    return reject("corrupt_file", f"{type(error).__name__}: {error}; what came before the damage is kept")


def _part_rows(part: Part, columns: Mapping[str, str]) -> Iterator[tuple[int, Row | Reject]]:
    pick = _picker(columns)
    delimiter = "" if is_json(part.head) else _delimiter(part.head, pick)
    if delimiter is None:
        first = part.head.lstrip("\ufeff").partition("\n")[0]
        yield 1, reject("unknown_format", f"neither JSON nor a table whose first line names the columns: {first[:200]}")
        return
    with part.text() as stream:
        found = table_rows(stream, delimiter) if delimiter else json_rows(stream, part.head, lambda value: isinstance(value, dict))
        for line, value in found:
            yield line, broken(value) if isinstance(value, Broken) else _row(value, pick)


class _Names(NamedTuple):
    """The keys of a record, by role; '' for none."""

    id: str
    question: str
    answer: str


def _picker(columns: Mapping[str, str]) -> Callable[[Iterable[str]], _Names | None]:
    """keys → who is who among them, or None where there is no answer, or nothing to join by."""

    def pick(keys: Iterable[str]) -> _Names | None:
        found = {key.strip().lower(): key for key in reversed([*keys])}
        if columns:
            names = _Names(*(found.get(columns.get(role, "").strip().lower(), "") for role in ROLES))
        else:
            ids = (*_IDS, "label") if "question" in found else _IDS  # LLaMA-Factory's `label`, with `prompt`, is the reference
            names = _Names(*(next((found[key] for key in known if key in found), "") for known in (ids, _QUESTIONS, _ANSWERS)))
        return names if names.answer and (names.id or names.question) else None

    return pick


def _delimiter(head: str, pick: Callable[[Iterable[str]], _Names | None]) -> str | None:
    first = next((line for line in head.lstrip("\ufeff").split("\n") if line.strip()), "")
    fits = (delimiter for delimiter in _DELIMITERS if pick([name.strip().strip('"') for name in first.split(delimiter)]))
    return next(fits, None)


def _row(value: Any, pick: Callable[[Iterable[str]], _Names | None]) -> Row | Reject:
    names = pick(value) if isinstance(value, dict) else None
    if names is None:
        seen = f"keys {', '.join(value)}"[:500] if isinstance(value, dict) else f"a {type(value).__name__}"
        return reject("unknown_format", f"{seen}; needed: an answer, and an id or a question", value)
    try:
        own_id = text_of(value[names.id], names.id) if names.id else ""
        question = first_text(value[names.question], names.question) if names.question else ""
        given = value[names.answer]
        if isinstance(given, int | float) and not isinstance(given, bool):
            raise Unusable("unknown_format", f"{names.answer} is the number {given}, not text")
        if given == []:
            raise Unusable("unknown_format", f"{names.answer} is an empty list, not text")
        answer = text_of(given, names.answer)  # a list of answers is none: nobody said which
    except (Unusable, RecursionError) as error:
        return reject("unknown_format", str(error.args[-1]), value)
    finish = value.get("finish")
    # pandas writes whole numbers beside gaps as 23000000.0
    return Row(re.sub(r"(?<=\d)\.0\Z", "", own_id), question, answer, finish if isinstance(finish, str) and finish else "stop")


class Joiner:
    """Finds the question of each row: by the id, as we write it or as the benchmark does, else by the question's text, normalised."""

    def __init__(self, questions: Iterable[Question], system: str, wanted: set[str] | None = None) -> None:
        self._system = system
        self._by_id: dict[str, Question] = {}
        own: dict[str, dict[str, Question]] = {}
        texts: dict[str, dict[str, Question]] = {}
        for question in questions:
            kept = self._by_id.setdefault(question.id, question)
            own.setdefault(question.id.partition(":")[2], {})[question.id] = kept
            texts.setdefault(normalize(question.question), {})[question.id] = kept
        self._by_own_id = own
        self._by_text = {text: found for text, found in texts.items() if text}
        self.wanted = self._by_id.keys() & wanted if wanted is not None else set(self._by_id)
        self.joined: Counter[str] = Counter()
        """How the predictions were joined: `by_id`, `by_question`."""
        self.num_differing = 0
        """Of the repeated predictions, those that say something else than the one that is kept."""
        self._answered: dict[str, tuple[str, str]] = {}
        self._num_rows = 0

    def join(self, origin: str, row: Row | Reject) -> Prediction | Reject:
        """The prediction, or why the row is set aside.

        `unknown_question`, `ambiguous_question` (its id or text stands for several), `contradiction` (its id means one question, its text
        another), `not_sampled`, `repeated_prediction` (the first row of a question is kept), or what the reader found. A row without an
        answer is kept: it scores 0.
        """
        self._num_rows += 1
        if isinstance(row, Reject):
            return self._placed(row, origin)
        try:
            question, how = self._question(row)
            if question.id not in self.wanted:
                raise Unusable("not_sampled", question.id)
            if question.id in self._answered:
                kept, answer = self._answered[question.id]
                self.num_differing += row.answer != answer
                said = "the same" if row.answer == answer else "something else"
                raise Unusable("repeated_prediction", f"{question.id} has that of {kept}, which says {said}")
        except Unusable as error:
            found = reject(error.reason, record=row._asdict())
            # The detail is ids alone. They must not be masked as telephones are: webMedQA's have eight digits.
            return self._placed(msgspec.structs.replace(found, detail=error.detail), origin)
        self._answered[question.id] = origin, row.answer
        self.joined[how] += 1
        return Prediction(
            id=question.id,
            source=question.source,
            origin=origin,
            category=question.category,
            system=self._system,
            question=question.question,
            answer=row.answer,
            finish=row.finish if row.answer or row.finish != "stop" else "empty",
        )

    def _placed(self, found: Reject, origin: str) -> Reject:
        return msgspec.structs.replace(found, id=f"{self._system}:{self._num_rows}", source=self._system, origin=origin, stage="generate")

    def _question(self, row: Row) -> tuple[Question, str]:
        named = self._by_text.get(normalize(row.question), {}) if row.question else {}
        meant = {row.id: self._by_id[row.id]} if row.id in self._by_id else self._by_own_id.get(row.id, {}) if row.id else {}
        if len(meant) > 1:
            meant = {key: question for key, question in meant.items() if key in named} or meant
        if meant and named and not meant.keys() & named.keys():
            raise Unusable("contradiction", f"its id means {', '.join(meant)}, its question is that of {', '.join(named)}"[:500])
        how, found = ("by_id", meant) if meant else ("by_question", named)
        if not found:
            shown = row.id if len(row.id) <= _MAX_ID_CHARS else hide(row.id, lambda found: "***")[:200]
            raise Unusable("unknown_question", f"id {shown or 'none'}; question {'not in the benchmark' if row.question else 'none'}")
        if len(found) > 1:
            raise Unusable("ambiguous_question", f"stands for {len(found)} questions: {', '.join(found)}"[:500])
        return next(iter(found.values())), how
