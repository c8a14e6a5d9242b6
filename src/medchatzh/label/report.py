"""What a labelling folder holds: who did what, and how far they agree."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import msgspec

from medchatzh.label.agreement import Orders, kendall_w, krippendorff_alpha, midranks, net_agreement, orders
from medchatzh.label.export import of_task
from medchatzh.label.tasks import Task, load, queue
from medchatzh.label.verdicts import SKIPS, Verdict, read_verdicts

_NUM_SHOWN = 10
_QUESTION_CHARS = 24


class Labeller(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    num_tasks: int
    num_ranked: int
    skipped: dict[str, int]
    tied_share: float | None
    """Of the pairs of answers ranked."""
    median_seconds: float | None
    first_place: float | None
    """How often the answer shown first got the best rank or shared it, less how often the one shown last did, per ranking: 0 where the
    place says nothing, 1 for one who always takes the first."""


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two labellers on the tasks that both ranked."""

    first: str
    second: str
    num_tasks: int
    same: int
    opposite: int
    half: int
    net: float


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """A task that two or more ranked."""

    task: str
    question: str
    num_labellers: int
    kendall_w: float | None
    net_agreement: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    num_tasks: int
    num_finished: int
    """Answered by all of their labellers."""
    labellers: list[Labeller]
    shared: list[Shared]
    mean_kendall_w: float | None
    chance_kendall_w: float | None
    """What rankings at random would give with as many labellers."""
    krippendorff_alpha: float | None
    pairs: list[Pair]


def report(folder: Path) -> Report:
    """Measure a labelling folder, finished or not. ValueError where it is none."""
    labelling, tasks = load(folder)
    verdicts = {name: read_verdicts(folder, name, tasks) for name in labelling.labellers}
    rankings = {task.key: {name: one.ranks for name, one in of_task(task, verdicts).items() if one.ranks} for task in tasks}
    shared = [_shared(task, list(rankings[task.key].values())) for task in tasks if len(rankings[task.key]) > 1]
    measured = [one for one in shared if one.kendall_w is not None]
    return Report(
        num_tasks=len(tasks),
        num_finished=sum(len(of_task(task, verdicts)) == len(task.labellers) for task in tasks),
        labellers=[_labeller(name, queue(labelling, tasks, name), verdicts[name]) for name in labelling.labellers],
        shared=shared,
        mean_kendall_w=_mean(one.kendall_w for one in measured if one.kendall_w is not None),
        chance_kendall_w=_mean(1 / one.num_labellers for one in measured),
        krippendorff_alpha=alpha([list(of_task.values()) for of_task in rankings.values()]),
        pairs=list(_pairs(labelling.labellers, rankings)),
    )


def alpha(tasks: Iterable[Sequence[Sequence[float]]]) -> float | None:
    """Krippendorff's alpha of tasks, each the rankings that its labellers gave: a unit is an answer, a value its mid-rank.

    Tasks of 2 and of 6 answers do not share a chance level (rank 2 of 2 is the worst), so each number of answers has its own alpha; the
    mean is weighted by the values behind it.
    """
    units: dict[int, list[list[float]]] = defaultdict(list)
    for rankings in tasks:
        if len(rankings) > 1:
            units[len(rankings[0])] += map(list, zip(*map(midranks, rankings), strict=True))
    found = [(krippendorff_alpha(of_size), sum(map(len, of_size))) for of_size in units.values()]
    weighed = [(value, weight) for value, weight in found if value is not None]
    return sum(value * weight for value, weight in weighed) / sum(weight for _, weight in weighed) if weighed else None


def _shared(task: Task, rankings: Sequence[Sequence[int]]) -> Shared:
    net = net_agreement(rankings)
    assert net is not None
    question = task.prompt[-1].content
    return Shared(task=task.key, question=question, num_labellers=len(rankings), kendall_w=kendall_w(rankings), net_agreement=net)


def _labeller(name: str, own: Sequence[Task], verdicts: Mapping[str, Verdict]) -> Labeller:
    said = [verdicts[task.key] for task in own if task.key in verdicts]
    ranked = [one for one in said if one.ranks]
    tied = [one == other for verdict in ranked for one, other in combinations(verdict.ranks, 2)]
    places = [(verdict.ranks[verdict.shown[0]] == 1) - (verdict.ranks[verdict.shown[-1]] == 1) for verdict in ranked]
    return Labeller(
        name=name,
        num_tasks=len(own),
        num_ranked=len(ranked),
        skipped=dict(Counter(verdict.skip for verdict in said if verdict.skip).most_common()),
        tied_share=_mean(tied),
        median_seconds=statistics.median(verdict.seconds for verdict in said) if said else None,
        first_place=_mean(places),
    )


def _pairs(names: Sequence[str], rankings: Mapping[str, Mapping[str, Sequence[int]]]) -> Iterable[Pair]:
    for first, second in combinations(names, 2):
        both = [orders(of_task[first], of_task[second]) for of_task in rankings.values() if first in of_task and second in of_task]
        total = Orders(0, 0, 0)
        for one in both:
            total = total.plus(one)
        if both:
            yield Pair(first=first, second=second, num_tasks=len(both), **total._asdict(), net=total.net)


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def markdown(found: Report) -> str:
    """The report for people."""
    lines = ["# 偏好标注 / Preference labelling", "", f"题目 {found.num_tasks:,}，其中所有标注者都已答 {found.num_finished:,}"]
    lines += [f"{found.num_tasks:,} tasks, {found.num_finished:,} answered by all of their labellers", ""]
    lines += _table(
        "标注者 / labeller|题 / tasks|已排 / ranked|跳过 / skipped|并列 / tied pairs|秒 / median s|首位偏好 / first place",
        (
            [
                *(one.name, one.num_tasks, one.num_ranked, _skips(one.skipped), _share(one.tied_share)),
                *(_number(one.median_seconds, 0), _number(one.first_place, 2, sign=True)),
            ]
            for one in found.labellers
        ),
    )
    lines += ["首位偏好：排在最前的回答得第一的次数，减去排在最后的；0 为无偏。"]
    lines += ["First place: how often the answer shown first got rank 1, less the one shown last; 0 is unbiased.", ""]
    lines += ["## 一致性 / Agreement", ""]
    if not found.shared:
        return "\n".join([*lines, "还没有两人都排过的题 / no task yet that two labellers have ranked", ""])
    lines += _table(
        "量 / measure|值 / value|随机 / chance",
        [
            ["两人以上排过的题 / tasks ranked by two or more", len(found.shared), ""],
            ["Kendall W，均值 / mean (1 = 完全一致 / all agree)", _number(found.mean_kendall_w, 3), _number(found.chance_kendall_w, 3)],
            ["Krippendorff α，顺序 / ordinal", _number(found.krippendorff_alpha, 3), "0"],
        ],
    )
    lines += _table(
        "标注者 / labellers|题 / tasks|同序 / same order|反序 / opposite|一方并列 / tied by one|净一致 / net",
        (
            [
                f"{one.first} – {one.second}",
                one.num_tasks,
                *(_share(part / (one.same + one.opposite + one.half)) for part in (one.same, one.opposite, one.half)),
                _number(one.net, 2, sign=True),
            ]
            for one in found.pairs
        ),
    )
    worst = sorted(found.shared, key=lambda one: one.net_agreement)[:_NUM_SHOWN]
    lines += [f"分歧最大的 {len(worst)} 题 / the {len(worst)} tasks with the least agreement", ""]
    lines += _table(
        "题 / task|问 / question|人数 / labellers|W|净一致 / net",
        (
            [one.task, _short(one.question), one.num_labellers, _number(one.kendall_w, 2), _number(one.net_agreement, 2, sign=True)]
            for one in worst
        ),
    )
    return "\n".join(lines)


def _table(head: str, rows: Iterable[Sequence[object]]) -> list[str]:
    columns = head.split("|")
    made = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return [*made, *(f"| {' | '.join(map(str, row))} |" for row in rows), ""]


def _short(question: str) -> str:
    """One line of a table cell."""
    line = " ".join("".join(one if one.isprintable() else " " for one in question).replace("|", "｜").split())
    return line if len(line) <= _QUESTION_CHARS else line[: _QUESTION_CHARS - 1] + "…"


def _skips(skipped: Mapping[str, int]) -> str:
    return "；".join(f"{SKIPS[reason]} {count}" for reason, count in skipped.items()) or "0"  # type: ignore[index]


def _share(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.0f}%"


def _number(value: float | None, digits: int, *, sign: bool = False) -> str:
    return "—" if value is None else f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")
