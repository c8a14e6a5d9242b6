"""Generate stage: one system answers the benchmark's questions → `predictions.jsonl`. Resumable batch by batch.

A system is a checkpoint, or one of the floors that any model must beat: a canned answer, a random training answer, the answer to the
nearest training question; or a human: one of a question's own answers, to be scored against the others. Predictions made elsewhere are read
by `ingest.predictions`, which takes this stage's place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from medchatzh.benchmarks import sample
from medchatzh.generate.floors import human_reference, random_answers, retrieved_answers
from medchatzh.models.engine import Decoding, Engine
from medchatzh.recipe import Settings
from medchatzh.records import Dialogue, Prediction, Question, Reject, read, write
from medchatzh.run import SCRATCH, Context, Progress, Result

VERSION = 2
LIBRARIES = ("torch", "transformers", "numpy")

_encode = msgspec.json.Encoder().encode


class Config(Settings, frozen=True, kw_only=True):
    decoding: Decoding = Decoding()
    batch_size: int = 32
    """Questions decoded side by side."""
    max_prompt_tokens: int = 1024
    """A longer question gets an empty answer, marked `prompt_too_long` (the paper's script cuts it silently)."""
    max_questions: int = 0
    """Answer a fixed random sample of so many questions; 0 for all."""
    canned: str = (
        "建议您及时到正规医院就诊，明确诊断后在医生的指导下进行治疗。患者在平时的生活中要注意多休息，不要过度劳累，饮食上以清淡为主，"
        "可以多吃一些新鲜的蔬菜和水果，不要吃辛辣刺激性的食物，同时要保持良好的心情，积极配合医生的治疗，这样才有利于身体的恢复。"
    )
    """What the floor `canned` answers to every question. As long as a usual answer (122 characters): a shorter sentence is a weak
    floor, for the brevity penalty alone (on 234 real questions, strict BLEU-1 28.2; with 58 characters 6.3)."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.max_prompt_tokens < 1:
            raise ValueError("batch_size and max_prompt_tokens must be at least 1")
        if self.max_questions < 0:
            raise ValueError("max_questions must not be negative (0: all)")


class System(Config, frozen=True, kw_only=True):
    """The settings of one system's step: what the recipe says, and which system it is."""

    system: str = "medchatzh"
    kind: Literal["checkpoint", "canned", "random", "retrieved", "human"] = "checkpoint"


def run(config: System, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """Answer `ingest/questions.jsonl`: with `model/checkpoint`, the canned sentence, answers of `score/medical.jsonl`, or own ones.

    As a human, questions with a single answer of their own become rejects; where all have, there is no prediction.
    """
    questions = sample(list(read(inputs["ingest"] / "questions.jsonl", Question)), config.max_questions, context.seed)
    if not questions:
        raise ValueError("generate: no benchmark questions; add a source of format 'webmedqa' to ingest.sources")
    facts: dict[str, Any] = {"system": config.system}
    rejects: list[Reject] = []
    if config.kind == "checkpoint":
        predictions = _with_model(config, questions, inputs["model"] / "checkpoint", out, context)
    elif config.kind == "canned":
        predictions = [_prediction(config, question, config.canned) for question in questions]
    elif config.kind == "human":
        predictions, rejects = _of_humans(config, questions, context.seed)
    else:
        answers, similarities = _of_training(config, questions, inputs["score"] / "medical.jsonl", context.seed)
        predictions = [_prediction(config, question, answer) for question, answer in zip(questions, answers, strict=True)]
        if similarities:
            facts["mean_similarity"] = round(sum(similarities) / len(similarities), 4)
    write(out / "predictions.jsonl", predictions)
    write(out / "rejects.jsonl", rejects)
    finishes = Counter(prediction.finish for prediction in predictions)
    return Result(
        num_in=len(questions),
        num_out=len(predictions),
        dropped=Counter(reject.reason for reject in rejects),
        facts=facts | {"finish": dict(sorted(finishes.items()))},
    )


def _of_training(config: System, questions: Sequence[Question], path: Path, seed: int) -> tuple[list[str], list[float]]:
    """(answers, their questions' similarities, where they were looked for)."""

    def dialogues() -> Iterator[Dialogue]:
        return read(path, Dialogue)

    if next(dialogues(), None) is None:
        raise ValueError("generate: no training answers to draw from; the score stage kept no medical record")
    if config.kind == "retrieved":
        return retrieved_answers(questions, dialogues)
    return list(random_answers(questions, [dialogue.answers[-1] for dialogue in dialogues()], seed)), []


def _of_humans(config: System, questions: Sequence[Question], seed: int) -> tuple[list[Prediction], list[Reject]]:
    predictions, rejects = [], []
    for question in questions:
        reference = human_reference(question, seed)
        if reference is None:
            detail = f"{len(question.references)} answer of its own: none would be left to score against"
            rejects.append(Reject.of(question, "generate", "single_reference", detail))
        else:
            made = _prediction(config, question, question.references[reference])
            predictions.append(msgspec.structs.replace(made, reference=reference))
    return predictions, rejects


def _prediction(config: System, question: Question, answer: str, finish: str = "stop") -> Prediction:
    return Prediction(
        id=question.id,
        source=question.source,
        category=question.category,
        system=config.system,
        question=question.question,
        answer=answer,
        finish=finish,
    )


def _with_model(config: System, questions: Sequence[Question], checkpoint: Path, out: Path, context: Context) -> list[Prediction]:
    """Each answer is appended to `answers.jsonl` when it is there; a rerun goes on with the questions that have none.

    An answer does not depend on what is decoded beside it, so an interrupted run ends in the same bytes.
    """
    journal = out / SCRATCH / "answers.jsonl"
    journal.parent.mkdir(exist_ok=True)
    answers = _journal(journal)
    missing = sorted(set(range(len(questions))) - answers.keys(), key=lambda number: (len(questions[number].question), number))
    if missing:
        if talks := sum(bool(question.history) for question in questions):
            raise ValueError(f"generate: {talks:,} questions follow earlier turns, which a checkpoint cannot be given yet; leave them out")
        engine = Engine(checkpoint, context.threads, config.batch_size)
        asked = [questions[number].question for number in missing]
        with Progress(config.system[:12], len(questions), "questions", initial=len(answers)) as progress, journal.open("ab") as file:
            for place, answered in engine.answers(asked, config.decoding, config.max_prompt_tokens, context.seed):
                file.write(_encode((missing[place], answered)) + b"\n")
                file.flush()
                answers[missing[place]] = answered
                progress.add()
    return [_prediction(config, question, *answers[number]) for number, question in enumerate(questions)]


def _journal(path: Path) -> dict[int, tuple[str, str]]:
    """The (answer, finish) of the questions that an interrupted run answered; a torn last line is cut off the file."""
    if not path.exists():
        return {}
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(sum(map(len, lines)) - len(lines.pop()))
    return dict(msgspec.json.decode(line, type=tuple[int, tuple[str, str]]) for line in lines)
