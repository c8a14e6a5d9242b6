"""Verdicts → preferences: one ranking a question, the mean of its labellers'. What they do not agree on is set aside, with the reason.

Written in the form that ingest calls `rankings`, so that a recipe takes the file as one of its sources; further keys tell what stands
behind a ranking. Rankings of one question share a `group`, which ingest makes from the prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from medchatzh.label.agreement import midranks, net_agreement
from medchatzh.label.tasks import Task, load
from medchatzh.label.verdicts import Verdict, ranks_of, read_verdicts
from medchatzh.records import Reject, write
from medchatzh.run import write_atomically

STAGE = "label"


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of tasks."""

    num_written: int
    set_aside: dict[str, int]
    """By reason."""
    num_waiting: int
    """No verdict yet."""
    num_partly: int
    """Written or set aside, though some of their labellers have not answered yet."""


def export(folder: Path, out: Path, min_agreement: float = 0.0) -> Exported:
    """Write `out`, and what is set aside beside it (`….rejects.jsonl`, with the reason).

    Reasons: `skipped` (by as many as ranked it, not counting those who could not judge; or by all), `no_preference` (all answers equal in
    the mean), `disagreement` (`net_agreement` of its labellers is not above `min_agreement`; 0 is chance).
    """
    if not -1 <= min_agreement <= 1:
        raise ValueError(f"--min-agreement {min_agreement}: give -1 to 1")
    if not out.parent.is_dir():
        raise ValueError(f"{out}: no folder {out.parent}")
    labelling, tasks = load(folder)
    verdicts = {name: read_verdicts(folder, name, tasks) for name in labelling.labellers}
    rows: list[bytes] = []
    rejects: list[Reject] = []
    num_waiting = num_partly = 0
    for task in tasks:
        said = of_task(task, verdicts)
        if not said:
            num_waiting += 1
            continue
        num_partly += len(said) < len(task.labellers)
        made = aggregate(task, said, min_agreement)
        if isinstance(made, Reject):
            rejects.append(made)
        else:
            rows.append(msgspec.json.encode(made) + b"\n")
    if not rows:
        raise ValueError(f"{folder}: no ranking to write ({num_waiting:,} tasks without a verdict, {len(rejects):,} set aside); rank first")
    write_atomically(out, b"".join(rows))
    write(beside(out), rejects)
    reasons = Counter(reject.reason for reject in rejects)
    return Exported(num_written=len(rows), set_aside=dict(reasons.most_common()), num_waiting=num_waiting, num_partly=num_partly)


def beside(out: Path) -> Path:
    """Where the set-aside rows of `out` go."""
    return out.with_name(f"{out.stem}.rejects.jsonl")


def of_task(task: Task, verdicts: Mapping[str, Mapping[str, Verdict]]) -> dict[str, Verdict]:
    """Labeller → verdict, of those who have given one."""
    return {name: verdicts[name][task.key] for name in task.labellers if task.key in verdicts[name]}


def aggregate(task: Task, said: Mapping[str, Verdict], min_agreement: float) -> dict[str, Any] | Reject:
    """A row of form `rankings`, or why there is none."""
    rankings = [verdict.ranks for verdict in said.values() if verdict.ranks]
    agreement = net_agreement(rankings)
    summed = sums(rankings) if rankings else []
    reason, detail = "", ""
    num_against = sum(verdict.skip not in ("", "cannot_judge") for verdict in said.values())
    if num_against >= len(rankings) or not rankings:
        reason, detail = "skipped", ", ".join(f"{name}: {verdict.skip}" for name, verdict in said.items() if verdict.skip)
    elif agreement is not None and agreement <= min_agreement:
        reason, detail = "disagreement", f"agreement of {len(rankings)} labellers {agreement:.2f}, wanted: above {min_agreement:g}"
    elif len(set(summed)) == 1:
        reason, detail = "no_preference", f"all {len(summed)} answers are equal to {len(rankings)} labellers"
    if reason:
        record = {"task": task.key, "verdicts": dict(said)}
        return Reject.of(task, STAGE, reason, detail, record=msgspec.to_builtins(record))
    answers = [{"text": one.text, "rank": rank} for one, rank in zip(task.candidates, ranks_of(summed), strict=True)]
    row: dict[str, Any] = {"prompt": task.prompt, "answers": answers}
    if task.category:
        row["category"] = task.category
    return row | {"task": task.key, "question": task.id, "num_labellers": len(rankings), "agreement": agreement}


def sums(rankings: Sequence[Sequence[int]]) -> list[float]:
    """Mid-ranks of each answer, summed over labellers: the order of the means, and exact, so that equal means are ties."""
    return [sum(of_answer) for of_answer in zip(*map(midranks, rankings), strict=True)]
