"""Exam papers: multiple-choice questions of C-Eval, CMMLU, CMExam and the like → `papers.jsonl`.

Each row of the files is accounted for: it becomes an `Item`, or a Reject that names its file, line and reason. Files of C-Eval and CMMLU
that hold other subjects than those asked for are passed over, and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from medchatzh.ingest import matches
from medchatzh.ingest.encoding import Unreadable
from medchatzh.ingest.files import CORRUPT, Part, is_of_machine, parts
from medchatzh.ingest.formats.registry import broken, reject
from medchatzh.ingest.rows import Broken, is_json, json_rows, table_rows
from medchatzh.ingest.turns import Unusable, text_of
from medchatzh.metrics.exam import LETTERS, Item
from medchatzh.recipe import Settings
from medchatzh.records import Reject, write
from medchatzh.run import Context, Result

VERSION = 1
LIBRARIES = ("openpyxl", "pyarrow")
SEEDED = False

MEDICAL = (
    *("basic_medicine", "clinical_medicine", "physician"),
    *("anatomy", "clinical_knowledge", "college_medical_statistics", "college_medicine", "genetics", "nutrition", "professional_medicine"),
    *("traditional_chinese_medicine", "virology"),
)
"""C-Eval's three subjects of human medicine and CMMLU's nine, of subject_mapping.json in hkust-nlp/ceval and src/categories.py in
haonan-li/CMMLU. (C-Eval's veterinary_medicine is not among them; C-Eval has no subject of traditional Chinese medicine.)"""

_SPLITS = {"dev": "dev", "val": "val", "valid": "val", "validation": "val", "test": "test", "train": "train"}
_OPTION = re.compile(r"^\s*([A-H])\s*[.．、:：]?\s*(.*)$")
_DELIMITERS = ("\t", ",", ";")


class Source(Settings, frozen=True, kw_only=True):
    """The files of one exam. A file's name or folder tells split and subject: `dev/anatomy.csv`, `physician_val.csv`,
    `test_virology.csv`, or members of a zip so named."""

    name: str
    """The exam's name in tables."""
    path: str
    """Glob below `data.root`, or an absolute one. CSV, TSV, JSON lines, a JSON array, Parquet, Excel, packed or not: columns `question`,
    `A` to `H` (or `options`: an object, a list, or lines such as `A 甲`), `answer`, and if there are any `id`, `subject`, `split`."""
    subjects: tuple[str, ...] = ()
    """Which subjects to ask: none named asks all, `medical` stands for those of human and traditional medicine in C-Eval and CMMLU. A
    file whose name tells another subject is passed over."""
    style: str = "auto"
    """In whose words to ask: `ceval` or `cmmlu`; `auto` takes CMMLU's where the columns are written as CMMLU writes them."""
    encoding: str = ""
    """Codec name for files without a byte-order mark that are not UTF-8; '' tells it."""

    def __post_init__(self) -> None:
        where = f"papers {self.name!r}"
        if not re.fullmatch(r"[^\s:!/]+", self.name):
            raise ValueError(f"{where}: a name has no spaces, colons, slashes or '!'")
        if not self.path or ".." in PurePosixPath(self.path).parts:
            raise ValueError(f"{where}: path {self.path!r}: write a glob below data.root, for example exam/cmmlu/*.csv, or an absolute one")
        if self.style not in ("auto", "ceval", "cmmlu"):
            raise ValueError(f"{where}: style {self.style!r}: give auto, ceval or cmmlu")

    @property
    def wanted(self) -> set[str]:
        return {name for asked in self.subjects for name in (MEDICAL if asked == "medical" else (asked,))}


class Config(Settings, frozen=True, kw_only=True):
    """The exams of a recipe."""

    sources: tuple[Source, ...] = ()
    """Each with a name of its own. None: no exam is held."""

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(source.name for source in self.sources).items() if count > 1]
        if twice:
            raise ValueError(f"source name {twice[0]!r} is used twice; give each exam its own")


def placed(config: Config, root: Path) -> tuple[Config, dict[str, Path]]:
    """(the settings without folders of this machine, name → path of the files of all exams, sorted). ValueError where a glob finds none.

    A name is the path below `root`, with '/'. That of an absolute glob's file begins with the exam's name, and so does the glob.
    """
    sources: list[Source] = []
    found: dict[str, Path] = {}
    for source in config.sources:
        base, pattern, above = root, source.path, ""
        if PurePosixPath(source.path).is_absolute():
            base, pattern = _split(source.path)
            above = f"{source.name}/"
            source = msgspec.structs.replace(source, path=above + pattern)
        here = {above + path.relative_to(base).as_posix(): path for path in base.glob(pattern) if path.is_file() and path.name[0] != "."}
        if not here:
            raise ValueError(f"papers.sources {source.name!r}: no file matches {pattern} in {base}; correct its path, or data.root")
        sources.append(source)
        found |= here
    return msgspec.structs.replace(config, sources=tuple(sources)), dict(sorted(found.items()))


def _split(path: str) -> tuple[Path, str]:
    """The folder above an absolute glob's first part with a wildcard, or above the file, and the rest."""
    parts = PurePosixPath(path).parts
    wild = next((place for place, part in enumerate(parts) if set(part) & set("*?[")), len(parts) - 1)
    return Path(*parts[:wild]), "/".join(parts[wild:])


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context, *, files: Mapping[str, Path]) -> Result:
    """The files, of which each source takes those that its glob matches → `papers.jsonl`, `rejects.jsonl`."""
    items: list[Item] = []
    rejects: list[Reject] = []
    passed_over = 0
    for source in config.sources:
        seen: set[str] = set()
        for name in sorted(name for name in files if matches(name, source.path)):
            for entry in read(source, name, files[name]):
                if entry is None:
                    passed_over += 1
                elif isinstance(entry, Item) and entry.id not in seen:
                    seen.add(entry.id)
                    items.append(entry)
                else:
                    rejects.append(entry if isinstance(entry, Reject) else _repeated(entry))
    if not items:
        told = ", ".join(f"{reason} {count:,}" for reason, count in Counter(each.reason for each in rejects).most_common())
        raise ValueError(
            f"papers: no question in {len(files)} files ({told or 'none is of the subjects asked for'}); look at their columns"
        )
    write(out / "papers.jsonl", items)
    write(out / "rejects.jsonl", rejects)
    return Result(
        num_in=len(items) + len(rejects),
        num_out=len(items),
        dropped=Counter(each.reason for each in rejects),
        facts={
            "exams": {source.name: _facts([item for item in items if item.source == source.name]) for source in config.sources},
            "num_files_of_other_subjects": passed_over,
        },
    )


def _repeated(item: Item) -> Reject:
    return Reject.of(item, "ingest", "repeated_question", "the first with this id is asked", record=item)


def _facts(items: list[Item]) -> dict[str, Any]:
    counts = Counter((item.split, bool(item.answer)) for item in items)
    return {f"num_{split}{'' if answered else '_without_answer'}": count for (split, answered), count in sorted(counts.items())}


def read(source: Source, name: str, path: Path) -> Iterator[Item | Reject | None]:
    """Each row of a file, or of the members of an archive; None for a file or member that is passed over."""
    part_name = name
    try:
        for part in parts(name, path, source.encoding):
            part_name = part.name
            try:
                yield from _read_part(part, source)
            except Unreadable as error:
                yield _placed(reject(error.reason, error.detail), source, f"{part.name}:1")
            except CORRUPT as error:
                yield _placed(_corrupt(error), source, f"{part.name}:1")
    except CORRUPT as error:
        yield _placed(_corrupt(error), source, f"{part_name}:1")


def _corrupt(error: Exception) -> Reject:
    if is_of_machine(error):
        raise error
    return reject("corrupt_file", f"{type(error).__name__}: {error}; what came before the damage is kept")


def _placed(found: Reject, source: Source, origin: str) -> Reject:
    return msgspec.structs.replace(found, id=f"{source.name}:{origin}", source=source.name, origin=origin)


def told_by_name(name: str) -> tuple[str, str]:
    """(split, subject) of a file: of its name, the split else of its folder's. `test` where neither tells; the subject may be ''."""
    path = PurePosixPath(name.replace("!", "/"))
    stem = path.name.partition(".")[0]
    for split in _SPLITS:
        told = re.fullmatch(rf"(?:{split}[_-](.+)|(.+)[_-]{split}|{split})", stem, re.IGNORECASE)
        if told:
            return _SPLITS[split], told[1] or told[2] or ""
    return _SPLITS.get(path.parent.name.lower(), "test"), stem


def _read_part(part: Part, source: Source) -> Iterator[Item | Reject | None]:
    split, subject = told_by_name(part.name)
    first = part.head.lstrip("\ufeff").partition("\n")[0]
    if source.wanted and subject not in source.wanted and "subject" not in first.lower():
        yield None
        return
    in_json = is_json(part.head)
    delimiter = next((sign for sign in _DELIMITERS if sign in first), "")
    if not in_json and not delimiter:
        told = f"neither JSON nor a table whose first line names the columns: {first[:200]}"
        yield _placed(reject("unknown_format", told), source, f"{part.name}:1")
        return
    with part.text() as stream:
        found = json_rows(stream, part.head, lambda value: isinstance(value, dict)) if in_json else table_rows(stream, delimiter)
        for number, (line, value) in enumerate(found):
            origin = f"{part.name}:{line}"
            if isinstance(value, Broken):
                yield _placed(broken(value), source, origin)
                continue
            try:
                item = item_of(value, source, split, subject or source.name, str(number))
                yield msgspec.structs.replace(item, origin=origin)
            except (Unusable, RecursionError) as error:
                reason = error.reason if isinstance(error, Unusable) else "unknown_format"
                yield _placed(reject(reason, str(error.args[-1]), value), source, origin)


def item_of(row: Any, source: Source, split: str, subject: str, number: str) -> Item:
    """A row as a question. `split`, `subject` and `number` are what the file and its order say, where the row itself does not.

    Raises Unusable: `unknown_format`, `other_subject`, `no_question`, `too_few_options`, `several_answers`, `wrong_answer`.
    """
    if not isinstance(row, dict):
        raise Unusable("unknown_format", f"a {type(row).__name__}, not an object")
    keys = {key.strip().lower(): key for key in reversed(row)}

    def field(*names: str) -> str:
        return next((text_of(row[keys[name]], name) for name in names if name in keys), "")

    if "question" not in keys:
        raise Unusable("unknown_format", f"columns {', '.join(row)}"[:500] + "; needed: question, A, B …, answer")
    subject, split = field("subject") or subject, field("split").lower() or split
    if source.wanted and subject not in source.wanted:
        raise Unusable("other_subject", subject[:100])
    question, options = field("question"), _options(row, keys)
    if not question:
        raise Unusable("no_question")
    if len(options) < 2:
        raise Unusable("too_few_options", f"options: {', '.join(options) or 'none'}")
    is_cmmlu = source.style == "cmmlu" or (source.style == "auto" and "Question" in row and "Answer" in row and "" in keys)
    return Item(
        id=f"{source.name}:{subject}/{split}/{field('id', '', 'unnamed: 0') or number}",
        source=source.name,
        category=subject,
        split=_SPLITS.get(split, split),
        style="cmmlu" if is_cmmlu else "ceval",
        question=question,
        options=options,
        answer=_answer(field("answer_idx", "answer"), options),
    )


def _options(row: dict[str, Any], keys: dict[str, str]) -> dict[str, str]:
    """Letter → text. A letter without a text is left out; the others keep theirs."""
    given = next((row[keys[name]] for name in ("options", "option", "choices") if name in keys), None)
    if isinstance(given, str):
        found = [match for line in given.splitlines() if (match := _OPTION.match(line))]
        given = {match[1]: match[2] for match in found}
    if isinstance(given, list):
        given = dict(zip(LETTERS, given, strict=False))
    if not isinstance(given, dict):
        given = {letter: row[keys[letter.lower()]] for letter in LETTERS if letter.lower() in keys}
    texts = {str(letter).strip().upper(): text_of(text, str(letter)) for letter, text in given.items()}
    return {letter: texts[letter] for letter in LETTERS if texts.get(letter)}


def _answer(given: str, options: dict[str, str]) -> str:
    """The letter; '' for none. An option's text is as good."""
    letter = given.upper().strip(" .。．()（）")
    if not letter or letter in options:
        return letter
    if given in options.values():
        return next(letter for letter, text in options.items() if text == given)
    if len(letter) > 1 and set(letter) <= {*LETTERS, ",", "，", "、", " "}:
        raise Unusable("several_answers", letter[:50])
    raise Unusable("wrong_answer", f"{given[:100]!r} is none of {', '.join(options)}")
