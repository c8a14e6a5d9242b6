"""Measurements on what the user gives: a benchmark's files, a finished run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from medchatzh.benchmarks import PUBLISHED_QUESTIONS, sample, table2
from medchatzh.claims.floors import floors
from medchatzh.claims.world import Benchmark, Run
from medchatzh.explain import files
from medchatzh.explain.files import Folders
from medchatzh.ingest.benchmark import read_questions
from medchatzh.metrics.segment import characters
from medchatzh.records import Dialogue, Question, read

MAX_QUESTIONS = 2_000
"""Questions on which the floors are scored; the mean of BLEU-1 is then known to ± 0.4 points (standard deviation 10 on random answers)."""
MAX_ANSWERS = 20_000
"""Answers whose length is counted: a share is then known to ± 0.7 points."""


def benchmark(path: Path) -> Benchmark:
    """Measurements on a benchmark's file, a folder of its files, or a run's `questions.jsonl` (or the folder that holds it)."""
    questions = list(read_questions(path))
    own = {answer for question in questions for answer in question.references}
    strangers = [(answer, question) for question in questions for answer in question.distractors]
    scorable = [question for question in _first_of_each(questions) if any(characters(answer) for answer in question.references)]
    if not scorable:
        raise ValueError(f"{path}: no question with an answer of its own; give a benchmark such as webMedQA's text files")
    scored = sample(scorable, MAX_QUESTIONS, seed=0)
    return Benchmark(
        name=path.as_posix(),
        sizes=table2(questions),
        num_official=PUBLISHED_QUESTIONS,
        num_candidates=len(strangers),
        num_of_others=sum(answer in own and answer not in question.references for answer, question in strangers),
        num_sampled=len(scored),
        floors=floors(scored),
    )


def _first_of_each(questions: Iterable[Question]) -> Iterator[Question]:
    seen: set[str] = set()
    for question in questions:
        if question.id not in seen:
            seen.add(question.id)
            yield question


def run(path: Path) -> Run:
    """Measurements on a run folder such as runs/quickstart: lengths of the general answers as read, rewards of the medical records."""
    if path.is_file():
        raise ValueError(f"--run {path}: is a file; give the folder of a finished run, which for a recipe is runs/{path.stem} as a rule")
    folders = files.of_folder(path)
    answers = list(islice(_general_answers(folders), MAX_ANSWERS))
    quantiles = folders["score"].manifest.facts.get("quantiles", ()) if "score" in folders else ()
    return Run(
        name=path.as_posix(),
        num_answers=len(answers),
        short={name: sum(count < 200 for count in counts) / len(counts) for name, counts in _counts(answers, path)} if answers else {},
        num_rewards=folders["score"].manifest.num_in if "score" in folders else 0,
        reward_quantiles=tuple(quantiles),
    )


def _general_answers(folders: Folders) -> Iterator[str]:
    if "ingest" in folders:
        for dialogue in read(folders["ingest"].file("dialogues"), Dialogue):
            if dialogue.pool == "general":
                yield from dialogue.answers


def _counts(answers: Sequence[str], run: Path) -> Iterator[tuple[str, list[int]]]:
    """Ways to count, each with the count of every answer. The run's own tokenizer is left out where `tokenizers` is not installed."""
    yield "字符 characters", [len(characters(answer)) for answer in answers]
    yield "UTF-8 字节 bytes", [len(answer.encode()) for answer in answers]
    found = next(iter(sorted(run.glob("tokenizer-*/tokenizer.json"))), None)
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return
    if found:
        tokenizer = Tokenizer.from_file(str(found))
        yield (
            f"词元 tokens of {found.parent.name}",
            [len(one.ids) for one in tokenizer.encode_batch(list(answers), add_special_tokens=False)],
        )
