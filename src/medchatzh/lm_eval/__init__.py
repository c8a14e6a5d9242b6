"""Tasks for lm-evaluation-harness: our benchmark, our protocols, its models. The same answers get the same scores as in `evaluate`.

    lm-eval run --include_path "$(python -m medchatzh.lm_eval)" --tasks medchatzh_qa --model hf --model_args pretrained=FOLDER \\
        --metadata '{"questions": "questions.jsonl"}' --log_samples --output_path out
    python -m medchatzh.lm_eval out/…/samples_medchatzh_qa_….jsonl > answers.jsonl

`medchatzh_qa` asks in the words of the paper, `medchatzh_qa_chat` gives the bare question, for `--apply_chat_template`. This module
imports nothing of lm-evaluation-harness, which calls it by the names in the YAML files beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from medchatzh import prompt, records
from medchatzh.evaluate import Benchmark
from medchatzh.metrics.protocols import PROTOCOLS
from medchatzh.records import Question

SCORED_BY = ("strict", "medchatzh")
"""The protocols of the tasks; a metric is called `strict/BLEU-1`, as in `scores.jsonl`."""


def questions(questions: str = "", **_: Any) -> dict[str, Any]:
    """The split `test`, of what `--metadata` names; the signatures of its scores are written to standard error."""
    from datasets import Dataset  # comes with lm-evaluation-harness, which wants one

    if not questions:
        raise ValueError("""name the benchmark: --metadata '{"questions": "runs/…/ingest-…/questions.jsonl"}'""")
    return {"test": Dataset.from_list(documents(Path(questions)))}


def documents(path: Path) -> list[dict[str, Any]]:
    """What `evaluate` would score of a `questions.jsonl`: repeated ids and questions without an answer are left out.

    ValueError where nothing is left.
    """
    found = [*Benchmark(records.read(path, Question), SCORED_BY).questions.values()]
    if not found:
        raise ValueError(f"{path}: no question with a reference")
    for name in SCORED_BY:
        for metric, signature in PROTOCOLS[name].signatures(found).items():
            print(f"{name}/{metric}: {signature}", file=sys.stderr)
    # every field of each, since a table has no rows without some
    return [{field: msgspec.to_builtins(getattr(one, field)) for field in Question.__struct_fields__} for one in found]


def ask(doc: Mapping[str, Any]) -> str:
    """The whole conversation in the words of the paper, up to where the answer begins."""
    return prompt.text(_question(doc).turns, prompt.TEMPLATES["medchatzh"])


def ask_bare(doc: Mapping[str, Any]) -> str:
    """The last question, for a chat template. ValueError where turns stand before it, which the harness has no way to give."""
    question = _question(doc)
    if question.history:
        raise ValueError(f"{question.id}: has {len(question.history)} turns before the question; use the task medchatzh_qa")
    return question.question


def target(doc: Mapping[str, Any]) -> str:
    return _question(doc).references[0]


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """`protocol/metric` → score of the one answer, on a 0 to 100 scale."""
    (answer,), question = results, _question(doc)
    found: dict[str, float] = {}
    for name in SCORED_BY:
        protocol = PROTOCOLS[name]
        (row,) = protocol.scores([answer], [protocol.references(question)], compiled=False).tolist()
        found |= {f"{name}/{metric}": value for metric, value in zip(protocol.names, row, strict=True)}
    return found


def _question(doc: Mapping[str, Any]) -> Question:
    return msgspec.convert(dict(doc), Question)


class _Sample(msgspec.Struct):
    """A line that `--log_samples` writes, as far as it is read."""

    doc: Question
    filtered_resps: list[str]


def answers(samples: Path) -> Iterator[dict[str, str]]:
    """Logged samples as a file of predictions (`id`, `answer`), for `medchatzh compare` or `[[predictions]]`."""
    for sample in records.read(samples, _Sample):
        yield {"id": sample.doc.id, "answer": sample.filtered_resps[0]}
