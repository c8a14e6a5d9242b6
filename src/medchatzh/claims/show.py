"""The ledger as Markdown, which reads well in a terminal too, or as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from medchatzh.claims.ledger import PARTS, Checked
from medchatzh.claims.world import CANNOT, CONTRADICTED, REPRODUCED, Floors, Verdict, World

_MARKS: dict[Verdict, str] = {
    REPRODUCED: "✓ 复现 reproduced",
    CONTRADICTED: "✗ 不符 contradicted",
    CANNOT: "? 此处无法核查 cannot be checked here",
}
_TITLES = {
    "arithmetic": "数目与表格 / Sizes and tables",
    "protocol": "方法的表述 / What is said of the method",
    "repository": "对照其仓库 / Against its repository",
    "measured": "对照评测集与运行 / Against a benchmark and a run",
    "outside": "此处无法核查的 / What cannot be checked here",
}
_ROWS = {"canned": "固定套话 canned sentence", "other": "别的问题的回答 another question's answer"}


def markdown(checked: Sequence[Checked], world: World) -> str:
    """The whole ledger; with a benchmark, what the floors score under each protocol comes first."""
    return "\n".join(_lines(checked, world)) + "\n"


def _lines(checked: Sequence[Checked], world: World) -> Iterator[str]:
    yield "# 论文陈述核查 / The paper's statements, checked"
    yield ""
    yield "MedChatZH: a Better Medical Adviser Learns from Better Instructions (arXiv 2309.01114); tyang816/MedChatZH @ 94664b9."
    yield "复现：该问之答为“是”；不符：为“否”。 The verdict answers the question asked: reproduced is yes, contradicted is no."
    yield ""
    counts = Counter(one.verdict for one in checked)
    yield f"| 结论 verdict | {len(checked)} |"
    yield "|---|---:|"
    yield from (f"| {_MARKS[verdict]} | {counts[verdict]} |" for verdict in _MARKS)
    yield from _floors(world)
    for part in PARTS:
        yield ""
        yield f"## {_TITLES[part]}"
        for one in checked:
            if one.part == part:
                yield from _claim(one)


def _claim(one: Checked) -> Iterator[str]:
    yield ""
    yield f"### {one.id} · {_MARKS[one.verdict]}"
    yield ""
    yield f"> {one.quote} ({one.where})"
    yield ""
    for label, text in (("问 asked", one.asked), ("得 found", one.found), ("需 takes", one.takes)):
        if text:
            yield f"- {label}: {text.zh}"
            yield f"  {text.en}"


def _floors(world: World) -> Iterator[str]:
    given = world.benchmark
    if given is None:
        return
    yield ""
    yield "## 不用模型能得多少 / What no model at all scores"
    yield ""
    yield f"{given.name}, {given.num_sampled:,} 个问题 questions."
    if not given.is_official:
        yield "它不是 webMedQA 全集：以下只就这些问题而言。 It is not the whole of webMedQA: what is measured holds for these questions."
    yield ""
    yield f"| 协议 protocol | 回答 answer | {' | '.join(world.metrics)} |"
    yield "|---|---|" + "---:|" * len(world.metrics)
    for protocol, floors in given.floors.items():
        name = f"{protocol} ({floors.num_references:.1f} refs)"
        yield from (_row([name, title, *_values(floors, kind, world)]) for kind, title in _ROWS.items())
    own = world.own_row
    yield _row(["未说明 not stated", f"{own.system}, 论文表 1 the paper's table 1", *(f"{own.values[name]:.2f}" for name in world.metrics)])


def _values(floors: Floors, kind: str, world: World) -> list[str]:
    means = getattr(floors, kind)
    return [f"{means[name]:.2f}" for name in world.metrics]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def as_json(checked: Sequence[Checked], world: World) -> str:
    """For machines: `claims`, and what was measured on the benchmark and the run (null where none was given)."""
    measured = {"benchmark": world.benchmark, "run": world.run}
    return msgspec.json.format(msgspec.json.encode({"claims": checked} | measured), indent=2).decode() + "\n"
