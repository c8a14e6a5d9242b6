"""Generate stage: one system answers the benchmark's questions → `predictions.jsonl`. Resumable answer by answer.

A system is a checkpoint, trained here or not, or a model behind a server, either perhaps asked as a baseline's own code asks (`systems`);
or one of the floors that any model must beat: a canned answer, a random training answer, the answer to the nearest training question; or a
human: one of a question's own answers, to be scored against the others. Predictions made elsewhere are read by `ingest.predictions`, which
takes this stage's place.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from medchatzh.benchmarks import sample
from medchatzh.generate import systems
from medchatzh.generate.floors import answers_of_others, human_reference, random_answers, retrieved_answers
from medchatzh.generate.systems import Answered, answer_here, answer_over_http, assembled, files_in
from medchatzh.models.decoding.engine import Decoding, Engine
from medchatzh.models.published import baselines
from medchatzh.models.published.asking import Asker
from medchatzh.recipe import Settings
from medchatzh.records import Dialogue, Prediction, Question, Reject, Turn, read, write
from medchatzh.run import SCRATCH, Context, Result, versions

VERSION = 3
LIBRARIES = ("torch", "transformers", "numpy")


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
    kind: Literal["checkpoint", "endpoint", "canned", "random", "retrieved", "human"] = "checkpoint"
    given: systems.Config | None = None
    """What it is, where it is not trained here."""

    @classmethod
    def of(cls, config: Config, **which: Any) -> System:
        """The settings of all systems, and which this one is."""
        return cls(**{name: getattr(config, name) for name in config.__struct_fields__}, **which)


def run(config: System, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """Answer `ingest/questions.jsonl`: with `model/checkpoint` or the system given, the canned sentence, answers of `score/medical.jsonl`,
    or own ones. Without `score`, random answers are those of other questions.

    Rejects are, for a human, questions with a single answer of their own (where all have, there is no prediction); for a baseline,
    questions that its own code has no way to ask.
    """
    questions = sample(list(read(inputs["ingest"] / "questions.jsonl", Question)), config.max_questions, context.seed)
    if not questions:
        raise ValueError(
            "generate: the benchmark has no questions; look at why its rows were set aside (rejects.jsonl of ingest),"
            " or add one to ingest.sources (format 'webmedqa')"
        )
    facts: dict[str, Any] = {"system": config.system}
    rejects: list[Reject] = []
    if config.kind in ("checkpoint", "endpoint"):
        predictions, rejects, more = _asked(config, questions, inputs, out, context)
        facts |= more
    elif config.kind == "canned":
        predictions = [_prediction(config, question, config.canned) for question in questions]
    elif config.kind == "human":
        predictions, rejects = _of_humans(config, questions, context.seed)
    elif config.kind == "random" and "score" not in inputs:
        drawn = list(zip(questions, answers_of_others(questions, context.seed), strict=True))
        predictions = [_prediction(config, question, answer) for question, answer in drawn if answer is not None]
        why = "no other question has an answer that is not one of its own"
        rejects = [Reject.of(question, "generate", "no_other_answer", why) for question, answer in drawn if answer is None]
    else:
        answers, similarities = _of_training(config, questions, inputs["score"] / "medical.jsonl", context.seed)
        predictions = [_prediction(config, question, answer) for question, answer in zip(questions, answers, strict=True)]
        if similarities:
            facts["mean_similarity"] = round(sum(similarities) / len(similarities), 4)
    write(out / "predictions.jsonl", predictions)
    write(out / "rejects.jsonl", rejects)
    facts |= empties(config.system, predictions)
    finishes = Counter(prediction.finish for prediction in predictions)
    return Result(
        num_in=len(questions),
        num_out=len(predictions),
        dropped=Counter(reject.reason for reject in rejects),
        facts=facts | {"finish": dict(sorted(finishes.items()))},
    )


def empties(system: str, predictions: Sequence[Prediction]) -> dict[str, int]:
    """The fact `num_empty`, where there are any. More than half of them are a fault in the asking, and said on standard error."""
    num_empty = sum(not prediction.answer.strip() for prediction in predictions)
    if 2 * num_empty > len(predictions):
        told = f"{system}: {num_empty:,} of {len(predictions):,} answers are empty; look at its prompt and at predictions.jsonl"
        print(f"medchatzh: warning: {told} / 大多数回答为空", file=sys.stderr)
    return {"num_empty": num_empty} if num_empty else {}


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
        finish=sys.intern(finish),  # msgspec leaves a default out only where it is the same object: as read from a cache it would not be
    )


def _asked(
    config: System, questions: Sequence[Question], inputs: Mapping[str, Path], out: Path, context: Context
) -> tuple[list[Prediction], list[Reject], dict[str, Any]]:
    """(predictions, rejects, facts) of a model. ValueError where its own code has no way to ask any of the questions."""
    given, cache = config.given, context.cache or out / SCRATCH
    chosen = given.chosen if given else None
    rejects: list[Reject] = []
    askable: list[Question] = []
    for question in questions:
        try:
            if chosen:
                chosen.form(question.turns)
            askable.append(question)
        except ValueError as error:
            rejects.append(Reject.of(question, "generate", "not_askable", str(error)))
    if not askable:
        raise ValueError(f"generate: {config.system} cannot be asked any of the {len(questions):,} questions: {rejects[0].detail}")
    dialogues = [question.turns for question in askable]
    facts: dict[str, Any] = {"asked_as": f"{chosen.name} ({chosen.variant})", "source": chosen.source} if chosen else {}
    if config.kind == "endpoint":
        assert given
        answers, used = answer_over_http(given, dialogues, cache, context.seed)
        facts["usage"] = used
    else:
        folders = given.folders() if given else {"model": inputs["model"] / "checkpoint"}

        def ask(missing: Sequence[Sequence[Turn]]) -> Iterator[tuple[int, Answered]]:
            checkpoint = assembled(folders, out / SCRATCH)
            if chosen:
                return Asker(chosen, checkpoint, context.threads, config.batch_size).answers(missing, context.seed)
            engine = Engine(checkpoint, context.threads, config.batch_size)
            return engine.answers(missing, config.decoding, config.max_prompt_tokens, context.seed)

        decoding = chosen.decoding if chosen else config.decoding
        seed = context.seed if decoding and decoding.do_sample else None
        way = (versions(LIBRARIES), seed, (chosen, baselines.VERSION) if chosen else (decoding, config.max_prompt_tokens))
        answers = answer_here(config.system, files_in(folders), way, dialogues, ask, cache)
    return [_prediction(config, question, *answer) for question, answer in zip(askable, answers, strict=True)], rejects, facts
