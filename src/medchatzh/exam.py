"""Exam stage: multiple-choice questions, scored by how likely a model finds each option → `answers.jsonl`, `exam.json`. Resumable.

Nothing is generated: the option chosen is the one whose letter (or text) has the highest log-likelihood behind the question. That is how
C-Eval and CMMLU score models that they can look into; a model that is asked to write its answer has other, usually lower, shares.
A model far too small for the exam is right about as often as guessing, whatever it was trained on: look at the floors.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from medchatzh import models, records
from medchatzh.metrics.exam import EXAMPLES, FILE, Answer, ExamSummary, Graded, Item, about, accuracies, differences
from medchatzh.metrics.signature import signature, version
from medchatzh.recipe import Settings
from medchatzh.records import Reject
from medchatzh.run import SCRATCH, Context, Digests, Progress, Result, versions

if TYPE_CHECKING:
    from medchatzh.models.likelihood import Reader, Request

VERSION = 1
LIBRARIES = ("torch", "transformers", "numpy")
CONFIDENCE = 0.95

By = Literal["letter", "text"]


class Style(NamedTuple):
    """An exam's words. `heading` takes the subject, once; `question` and `answer` stand before theirs."""

    heading: str
    question: str
    answer: str


STYLES = {
    "ceval": Style("以下是中国关于{}考试的单项选择题，请选出其中的正确答案。\n\n", "", "\n答案："),
    "cmmlu": Style("以下是关于{}的单项选择题，请直接给出正确答案的选项。\n\n", "题目：", "\n答案是："),
}
"""C-Eval's of code/evaluator_series/evaluators/llama.py in hkust-nlp/ceval, CMMLU's of src/mp_utils.py in haonan-li/CMMLU."""

SUBJECTS = {
    "basic_medicine": "基础医学",
    "clinical_medicine": "临床医学",
    "physician": "医师资格",
    "veterinary_medicine": "兽医学",
    "anatomy": "解剖学",
    "clinical_knowledge": "临床知识",
    "college_medical_statistics": "大学医学统计",
    "college_medicine": "大学医学",
    "genetics": "遗传学",
    "nutrition": "营养学",
    "professional_medicine": "专业医学",
    "traditional_chinese_medicine": "中医中药",
    "virology": "病毒学",
}
"""Subject → its Chinese name in the heading, as both exams have them; another subject stands there under its own name."""


class Config(Settings, frozen=True, kw_only=True):
    """How the exams of `[papers]` are held."""

    shots: tuple[int, ...] = (0, 5)
    """How many solved questions of the subject's dev split stand before each: every number given is one setting. C-Eval and CMMLU
    report five. What does not fit into the model is left out, the last ones first; an answer says how many it had."""
    by: tuple[By, ...] = ("letter",)
    """What is scored: `letter`, the options being shown, as C-Eval and CMMLU do; `text`, the options not being shown: each option's text
    as the answer, its log-likelihood divided by its characters (acc_norm of lm-evaluation-harness). The latter tells more of a small
    model, which knows nothing of letters, and costs a pass for each option."""
    splits: tuple[str, ...] = ("val", "test")
    """What is asked. C-Eval publishes no answers of its test split: those choices are written to `submission-…json`."""
    max_tokens: int = 2048
    """Of a question with its examples. A model with a shorter context has that one's limit."""
    max_questions: int = 0
    """Ask at most so many of each subject and split, the first ones; 0 for all."""
    precision: Literal["auto", "bf16", "fp32"] = "fp32"
    checkpoints: dict[str, str] = msgspec.field(default_factory=dict)
    """Name → folder of further checkpoints, trained elsewhere: any causal model that transformers loads."""

    def __post_init__(self) -> None:
        for name in ("shots", "by", "splits"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}: {list(values)}: give one or more, each once")
        if min(self.shots) < 0 or self.max_questions < 0 or self.max_tokens < 1:
            raise ValueError("shots and max_questions must not be negative, max_tokens must be at least 1")
        if examples := [split for split in self.splits if split in EXAMPLES]:
            raise ValueError(f"splits: {examples[0]!r} holds the examples and cannot be asked")
        if bad := [name for name in self.checkpoints if not name or set(name) & set(" @=/#,")]:
            raise ValueError(f"checkpoints.{bad[0]}: a name has no spaces and none of @, =, #, / and comma")

    @property
    def settings(self) -> tuple[Setting, ...]:
        return tuple(Setting(by, shots) for by in self.by for shots in self.shots)


class Setting(NamedTuple):
    by: By
    num_shots: int

    def __str__(self) -> str:
        return f"{self.by}, {self.num_shots} shots"


def prompt(item: Item, examples: Sequence[Item], by: By) -> str:
    """Heading, solved examples, the question, up to where the answer begins."""
    style = STYLES[item.style]
    solved = "".join(f"{_asked(one, by)}{one.answer if by == 'letter' else one.options[one.answer]}\n\n" for one in examples)
    return style.heading.format(SUBJECTS.get(item.category, item.category)) + solved + _asked(item, by)


def _asked(item: Item, by: By) -> str:
    style = STYLES[item.style]
    options = "".join(f"\n{letter}. {text}" for letter, text in item.options.items()) if by == "letter" else ""
    return f"{style.question}{item.question}{options}{style.answer}"


def continuations(item: Item, by: By) -> list[str]:
    return list(item.options if by == "letter" else item.options.values())


def fitted(item: Item, examples: Sequence[Item], by: By, reader: Reader, max_tokens: int) -> tuple[Request, int] | None:
    """(request, examples shown): as many as fit. None where not even the question does."""
    from medchatzh.models.likelihood import request

    for num_shots in range(len(examples), -1, -1):
        made = request(reader.tokenizer, prompt(item, examples[:num_shots], by), continuations(item, by))
        if made.num_tokens <= max_tokens:
            return made, num_shots
    return None


def choose(item: Item, scores: Mapping[str, float]) -> str:
    """The letter with the highest score, of equal ones the first."""
    return max(item.options, key=scores.__getitem__)


def sit(
    system: str,
    checkpoint: Path,
    config: Config,
    items: Sequence[Item],
    examples: Mapping[tuple[str, str], Sequence[Item]],
    context: Context,
    cache: Path,
) -> Iterator[Answer | Reject]:
    """A checkpoint's answers in every setting, in the order of the items; a question that does not fit is a Reject, `prompt_too_long`.

    Each batch is on disk as soon as it is there, a line of an append-only file named by all that its numbers depend on, so a killed run
    goes on from it. Batches are made of the items alone: it ends in the same bytes.
    """
    from medchatzh.models.likelihood import Reader

    models.require_torch()
    digests = Digests(cache / ".digests.json")
    files = {file.name: digests[file] for file in sorted(checkpoint.iterdir()) if file.is_file() and file.name[0] != "."}
    digests.save()
    reader: Reader | None = None
    for setting in config.settings:
        shown = {key: found[: setting.num_shots] for key, found in examples.items()}
        computed = versions(LIBRARIES), models.device().type, config.precision
        way = files, computed, VERSION, setting, config.max_tokens, items, list(shown.items())
        path = cache / f"exam-{hashlib.sha256(msgspec.json.encode(way)).hexdigest()[:16]}.jsonl"
        done = _read_journal(path)
        if not done.is_whole:
            reader = reader or Reader(checkpoint, context.threads, config.precision)
            done = _read(path, system, reader, setting, config.max_tokens, items, shown)
        for number, item in enumerate(items):
            if number not in done.found:
                yield Reject.of(item, "exam", "prompt_too_long", f"{system}, {setting}")
                continue
            num_shots, values = done.found[number]
            texts = continuations(item, setting.by)
            lengths = [len(text) if setting.by == "text" else 1 for text in texts]
            scores = {letter: value / length for letter, value, length in zip(item.options, values, lengths, strict=True)}
            yield Answer.to(item, system, str(setting), choose(item, scores), num_shots=num_shots, scores=scores)


class Journal(msgspec.Struct):
    """What a file of batches holds: item → (examples shown, log-likelihoods). A line is a batch, the last one `null`: all are there."""

    found: dict[int, tuple[int, list[float]]] = {}
    batches: set[int] = set()
    num_bytes: int = 0
    is_whole: bool = False


_Line = tuple[int, dict[int, tuple[int, list[float]]]] | None
_decode = msgspec.json.Decoder(_Line).decode


def _read_journal(path: Path) -> Journal:
    """A line without its end was torn by a kill, and is not read."""
    journal = Journal()
    if path.exists():
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    batch = _decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise ValueError(f"{path}:{number}: no batch of an exam: {error}; delete the file, and it is read again") from None
                journal.num_bytes += len(line)
                if batch is None:
                    journal.is_whole = True
                else:
                    journal.batches.add(batch[0])
                    journal.found |= batch[1]
    return journal


def _read(
    path: Path,
    label: str,
    reader: Reader,
    setting: Setting,
    max_tokens: int,
    items: Sequence[Item],
    examples: Mapping[tuple[str, str], Sequence[Item]],
) -> Journal:
    """Compute the batches that the journal lacks."""
    from medchatzh.models.served.answers import _opened

    limit = min(max_tokens, reader.max_positions)
    fitting: dict[int, tuple[Request, int]] = {}
    with Progress("tokenize", len(items), "questions") as progress:
        for number, item in enumerate(items):
            if fits := fitted(item, examples.get((item.source, item.category), ()), setting.by, reader, limit):
                fitting[number] = fits
            progress.add()
    numbers = list(fitting)
    requests = [made for made, _ in fitting.values()]
    groups = [(items[number].source, items[number].category, fitting[number][1]) for number in numbers]
    batches = reader.batches(requests, groups)
    with _opened(path) as file:
        journal = _read_journal(path)  # another process may have read while this one waited
        file.truncate(journal.num_bytes)
        left = [place for place in range(len(batches)) if place not in journal.batches]
        with Progress(label[:12], len(numbers), "questions", initial=len(journal.found)) as progress:
            read = reader.read(requests, [batches[place] for place in left])
            for place, (batch, values) in zip(left, read, strict=True):
                named = [numbers[one] for one in batch.numbers]
                made = {number: (fitting[number][1], value) for number, value in zip(named, values, strict=True)}
                file.write(msgspec.json.encode((place, made)) + b"\n")
                journal.found |= made
                progress.add(len(made))
        if not journal.is_whole:
            file.write(b"null\n")
    return journal


def _same_letter(items: Sequence[Item], seed: int) -> Iterator[str]:
    """Of each exam the letter that is right most often, known only afterwards: what no choice of a letter can beat."""
    counts = {exam: Counter(item.answer for item in items if item.source == exam and item.answer) for exam in {i.source for i in items}}
    best = {exam: min(found, key=lambda letter: (-found[letter], letter), default="A") for exam, found in counts.items()}
    return (best[item.source] if best[item.source] in item.options else next(iter(item.options)) for item in items)


def _random(items: Sequence[Item], seed: int) -> Iterator[str]:
    """By the seed and the question's id, so that it does not hang on what else is asked."""
    return (random.Random(f"{seed} {item.id}").choice([*item.options]) for item in items)


def _longest(items: Sequence[Item], seed: int) -> Iterator[str]:
    """The longest text, of equal ones the first: who sets an exam qualifies what is right."""
    return (max(item.options, key=lambda letter: len(item.options[letter])) for item in items)


FLOORS: dict[str, Callable[[Sequence[Item], int], Iterator[str]]] = {
    "same_letter": _same_letter,
    "random": _random,
    "longest_option": _longest,
}
"""Choices that read no question."""


def summarize(
    config: Config,
    items: Sequence[Item],
    examples: Sequence[Item],
    answers: Iterable[Answer],
    rejects: Iterable[Reject],
    systems: Sequence[str],
) -> ExamSummary:
    """The tables. The first of the `systems` is the main one."""
    settings = tuple(map(str, config.settings))
    rows = [*((system, setting) for setting in settings for system in systems), *((floor, "") for floor in FLOORS)]
    graded: Graded = {row: {} for row in rows}
    for answer in answers:
        if answer.right is not None:
            graded[answer.system, answer.setting][answer.id] = answer
    exams = {item.source: [one for one in items if one.source == item.source] for item in items}
    given = Counter(item.source for item in examples)
    return ExamSummary(
        main=systems[0],
        systems=(*systems, *FLOORS),
        floors=tuple(FLOORS),
        settings=settings,
        signatures={exam: _signatures(config, [one for one in own if one.answer] or own, graded) for exam, own in exams.items()},
        exams=tuple(about(exam, own, given[exam]) for exam, own in exams.items()),
        accuracies=tuple(row for exam, own in exams.items() for row in accuracies(exam, own, graded, CONFIDENCE)),
        differences=tuple(differences(exams, graded, systems[0], CONFIDENCE)),
        unanswered=dict(Counter(reject.detail for reject in rejects)),
        confidence=CONFIDENCE,
    )


def _signatures(config: Config, items: Sequence[Item], graded: Graded) -> dict[str, str]:
    styles, splits = ("+".join(dict.fromkeys(getattr(item, name) for item in items)) for name in ("style", "split"))
    ids = {item.id for item in items}
    found = {}
    for setting in config.settings:
        counts = {
            answer.num_shots for (_, name), own in graded.items() if name == str(setting) for answer in own.values() if answer.id in ids
        } or {setting.num_shots}
        shots = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)}-{max(counts)}"
        parts = {"by": setting.by, "shots": shots, "prompt": styles, "split": splits, "v": version("")}
        found[str(setting)] = signature("accuracy", **parts)
    return found


def _sheet(path: Path, config: Config) -> tuple[list[Item], list[Item], list[Item]]:
    """(questions to ask, examples, questions of other splits or beyond `max_questions`) of `papers.jsonl`, in its order."""
    asked, examples, left = [], [], []
    counts: Counter[tuple[str, str, str]] = Counter()
    for item in records.read(path, Item):
        key = item.source, item.category, item.split
        if item.split in EXAMPLES:
            examples.append(item)
        elif item.split in config.splits and not (config.max_questions and counts[key] >= config.max_questions):
            counts[key] += 1
            asked.append(item)
        else:
            left.append(item)
    if not asked:
        raise ValueError(f"{path}: no question of the splits {', '.join(config.splits)}; name others in exam.splits")
    return asked, examples, left


def by_subject(examples: Sequence[Item]) -> dict[tuple[str, str], list[Item]]:
    """(exam, subject) → its solved questions, those of the split `dev` where it has one."""
    found: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for split in EXAMPLES:
        known = set(found)
        for item in examples:
            key = item.source, item.category
            if item.split == split and item.answer and key not in known:
                found[key].append(item)
    return dict(found)


def _submissions(out: Path, items: Sequence[Item], answers: Sequence[Answer]) -> int:
    """`submission-EXAM-SYSTEM-BY-SHOTS.json` in C-Eval's form, subject → number → letter, of the questions without a published answer."""
    hidden = {item.id: item for item in items if not item.answer}
    made: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for answer in answers:
        if answer.id in hidden and answer.setting:
            by, shots, _ = answer.setting.replace(",", "").split()
            name = f"submission-{answer.source}-{answer.system}-{by}-{shots}.json"
            made[name][answer.category][hidden[answer.id].number] = answer.chosen
    for name, subjects in made.items():
        (out / name).write_bytes(msgspec.json.format(msgspec.json.encode(subjects), indent=2) + b"\n")
    return len(made)


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """Ask `papers/papers.jsonl` of the checkpoints in the inputs `model`, `model@NAME` (the first is the main one), of those that the
    settings name, and of the floors.

    In the result, `num_in` counts the answers wanted of checkpoints; `dropped` those that had no place in the context.
    """
    folders = {label.partition("@")[2] or "model": path for label, path in inputs.items() if label.partition("@")[0] == "model"}
    folders |= {name: Path(folder).expanduser() for name, folder in config.checkpoints.items()}
    if "papers" not in inputs or not folders:
        raise ValueError("exam needs the input papers (papers.jsonl) and one or more inputs model@SYSTEM (a checkpoint)")
    if taken := next((name for name in folders if name in FLOORS), None):
        raise ValueError(f"exam: {taken!r} is the name of a floor; choose another")
    items, examples, left = _sheet(inputs["papers"] / "papers.jsonl", config)
    shown = by_subject(examples)
    answers: list[Answer] = []
    rejects: list[Reject] = []
    for system, folder in folders.items():
        checkpoint = folder / "checkpoint" if (folder / "checkpoint").is_dir() else folder
        for made in sit(system, checkpoint, config, items, shown, context, context.cache or out / SCRATCH):
            (answers if isinstance(made, Answer) else rejects).append(made)  # type: ignore[arg-type]
    num_answers = len(answers)
    for floor, chosen in FLOORS.items():
        answers += [Answer.to(item, floor, "", letter) for item, letter in zip(items, chosen(items, context.seed), strict=True)]
    records.write(out / "answers.jsonl", answers)
    records.write(out / "rejects.jsonl", rejects)
    summary = summarize(config, items, examples, answers, rejects, list(folders))
    (out / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    shares = {f"{row.system} {row.setting} {row.exam}": round(row.mean, 4) for row in summary.accuracies if row.subject == "micro"}
    facts = {"num_questions": len(items), "num_examples": len(examples), "num_not_asked": len(left), "accuracy": shares}
    return Result(
        num_in=num_answers + len(rejects),
        num_out=num_answers,
        dropped=Counter(reject.reason for reject in rejects),
        facts=facts | {"num_submissions": _submissions(out, items, answers)},
    )
