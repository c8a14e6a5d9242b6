"""The report's section on a language model's pairwise verdicts."""

from __future__ import annotations

import msgspec

from medchatzh.metrics.pairwise import FILE, Pairwise, Share
from medchatzh.report.charts import Estimate
from medchatzh.report.data import Inputs
from medchatzh.report.view import Block, Both, Cell, Row, Table, Text, count, interval, text


def pairwise(inputs: Inputs) -> tuple[Block, ...]:
    """What the judge preferred, and beside it what its word is worth. Nothing where the recipe asks none."""
    folder = inputs.folders.get("pairwise")
    if folder is None:
        return ()
    found = msgspec.json.decode((folder / FILE).read_bytes(), type=Pairwise)
    counts = ("胜 / wins", "平 / ties", "负 / losses", "读不懂 / unreadable")
    columns = ("对照 / other", *counts, "得分 / score", "一致 / agreement", "偏向先者 / first")
    rows = []
    for each in found.versus:
        verdicts = map(count, (each.wins, each.ties, each.losses, each.num_unreadable))
        shares = (each.score, each.reliability.agreement, each.reliability.first_position)
        known = inputs.system(each.other)
        rows.append(Row((text(known.label), *verdicts, *map(_share, shares)), known.kind))
    notes = (
        Both(
            "得分：胜加半平，0.5 为不相上下；两次先后对调都判胜才算胜",
            "score: wins and half the ties, 0.5 is even; a win is a win in both orders",
        ),
        Both("一致：对调先后而判断不变的比例", "agreement: pairs judged alike in both orders"),
        Both("偏向先者：分出高下时选先出现者的比例，0.5 为不偏", "first: verdicts that name the answer shown first; 0.5 is without bias"),
    )
    caption = Both(f"{found.main} 与其他系统，大模型评审", f"{found.main} against others, judged by a language model")
    return (*_worth(found), Table(caption, columns, tuple(rows), notes, (found.signature,)))


def _worth(found: Pairwise) -> tuple[Block, ...]:
    agreement, first = found.reliability.agreement, found.reliability.first_position
    if not agreement or not first:
        return (Text(Both("没有可读的判断。", "No verdict could be read."), "bad"),)
    biased = not first.low <= 0.5 <= first.high
    said = Both(
        f"{found.reliability.num_verdicts:,} 次判断；对调先后仍一致 {agreement.mean:.0%}；"
        f"选先出现者 {first.mean:.0%}{'（有先后偏向）' if biased else ''}。大模型的偏好不是医生的判断。",
        f"{found.reliability.num_verdicts:,} verdicts; the same in both orders in {agreement.mean:.0%}; the answer shown first is named in"
        f" {first.mean:.0%}{': biased by place' if biased else ''}. A language model's preference is not a doctor's judgement.",
    )
    return (Text(said, "warn" if biased or agreement.mean < 0.7 else ""),)


def _share(share: Share | None) -> Cell:
    if share is None:
        return Cell()
    return interval(Estimate(share.mean, share.low, share.high))
