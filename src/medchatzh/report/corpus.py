"""The report's section on data: what each stage kept of each source, why the rest went, lengths, leaks, the reward threshold, the mix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from medchatzh.report.charts import Histogram, Line, Lines
from medchatzh.report.data import Inputs
from medchatzh.report.flow import Band, Flow
from medchatzh.report.view import Block, Both, Cell, Figure, Row, Table, Text, count, decimal, missing, number, share, text

POOLS = {"general": ("通用", "s2"), "medical": ("医疗", "main")}
_STAGES = {
    "ingest": "读入",
    "books": "古籍",
    "curate": "清洗",
    "reward": "奖励模型",
    "score": "奖励筛选",
    "mix": "混合",
    "pretrain": "继续预训练",
    "sft": "微调",
}
_MAX_STREAMS = 16
"""Sources drawn one by one in the flow; the smallest of more are drawn as one."""


def retention(inputs: Inputs, lost: Counter[tuple[str, str]]) -> tuple[Block, ...]:
    """Flow by source, stages, reasons, repairs, lengths, overlap with the benchmark, threshold, mix. `lost`: see `draws.Drawn`."""
    absent = [label for label in ("ingest", "books", "curate", "score", "sft") if label not in inputs]
    blocks: list[Block] = [missing(label, "该阶段的保留情况", "records kept") for label in absent]
    curated = inputs.facts("curate")
    streams = _streams(inputs, _table(curated, "by_source"), lost)
    blocks += [*_flow(inputs, streams), *_pools(inputs, _table(curated, "by_pool"))]
    blocks += [*_stages(inputs), *_reasons(inputs)]
    blocks += _edits(_table(curated, "edits"), inputs)
    blocks += _lengths(_table(curated, "lengths"))
    blocks += _overlap(inputs, curated)
    blocks += [*_threshold(inputs), *_mix(inputs)]
    return tuple(blocks)


def _table(facts: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A fact that should be a table; {} where it is not there."""
    found = facts.get(key)
    return found if isinstance(found, dict) else {}


def _streams(inputs: Inputs, by_source: Mapping[str, Any], lost: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Source → column → records, medical sources first, large ones first."""
    if not by_source:
        return {}
    read = _table(inputs.facts("ingest"), "sources")
    pools = _source_pools(inputs)
    trained_on = inputs.config("sft").get("pools", list(POOLS))
    streams: dict[str, dict[str, int]] = {}
    for source, counts in sorted(by_source.items(), key=lambda item: (pools.get(item[0]) == "general", -item[1].get("num_in", 0), item[0])):
        num_in, kept = counts.get("num_in", 0), counts.get("num_out", 0)
        stream = streams[source] = {"原始行 / raw rows": max(read.get(source, {}).get("num_rows", 0), num_in)} if read else {}
        stream |= {"读入 / ingested": num_in, "清洗后 / curated": kept}
        if inputs.is_reward_filtered:
            kept -= lost["score", source]
            stream["奖励筛选后 / by reward"] = kept
        if "mix" in inputs:
            used = _table(inputs.facts("mix"), "by_source").get(source, {})
            stream["混合 / mix"] = used.get("train", 0) - used.get("repeats", 0) + used.get("validation", 0)
        elif "sft" in inputs:
            stream["用于微调 / SFT"] = kept if pools.get(source) in (None, *trained_on) else 0
    return streams


def _source_pools(inputs: Inputs) -> dict[str, str]:
    sources = inputs.config("ingest").get("sources", ())
    return {str(source.get("name")): str(source.get("pool")) for source in sources if isinstance(source, dict)}


def _flow(inputs: Inputs, streams: Mapping[str, Mapping[str, int]]) -> Iterator[Block]:
    if not streams:
        return
    pools = _source_pools(inputs)
    columns = list(next(iter(streams.values())))
    bands = [Band(source, POOLS.get(pools.get(source, ""), ("", "s3"))[1], tuple(stream.values())) for source, stream in streams.items()]
    largest = sorted(bands, key=lambda band: -(band.counts[0] or 0))[: _MAX_STREAMS - 1 if len(bands) > _MAX_STREAMS else None]
    if others := [band for band in bands if band not in largest]:
        sums = tuple(sum(column) for column in zip(*(band.counts for band in others), strict=True))
        bands = [*(band for band in bands if band in largest), Band(f"其余 {len(others)} 个", "floor1", sums)]
    reward = ("奖励模型只筛选医疗数据；", "Reward filters medical records only; ") if inputs.is_reward_filtered else ("", "")
    note = Both(
        f"蓝：医疗；绿：通用；红：舍弃。{reward[0]}最后一列含微调留出的部分",
        f"Blue: medical; green: general; red: dropped. {reward[1]}the last column includes what is held out",
    )
    chart = Flow("records by source and stage", tuple(column.partition(" / ")[0] for column in columns), tuple(bands))
    yield Figure(Both("各来源的数据在各阶段的去留", "Records by source and stage"), chart, (note,))
    dropped = _table(inputs.facts("curate"), "by_source")
    rows = []
    for source, stream in streams.items():
        reasons = sorted(dropped[source].get("dropped", {}).items(), key=lambda item: (-item[1], item[0]))
        top = "，".join(f"{reason} {number:,}" for reason, number in reasons[:3])
        first, *_, last = stream.values()
        rows.append(Row((text(source), *map(count, stream.values()), share(last, first), text(top))))
    heads = ("来源 / source", *columns, "保留 / kept", "清洗的主要原因 / top reasons of curation")
    yield Table(Both("按来源的保留", "Kept by source"), heads, tuple(rows), (note,))


def _pools(inputs: Inputs, by_pool: Mapping[str, Any]) -> Iterator[Block]:
    rows = []
    for pool, counts in by_pool.items():
        steps = [counts.get("num_in", 0), counts.get("num_out")]
        if inputs.is_reward_filtered:
            steps.append(inputs.manifests["score"].num_out if pool == "medical" else steps[-1])
        rows.append(Row((text(f"{POOLS.get(pool, (pool,))[0]} / {pool}"), *map(count, steps), share(steps[-1] or 0, steps[0]))))
    if rows:
        by_reward = ("奖励筛选后 / by reward",) if inputs.is_reward_filtered else ()
        heads = ("池 / pool", "读入 / ingested", "清洗后 / curated", *by_reward, "保留 / kept")
        yield Table(Both("按池的保留", "Kept by pool"), heads, tuple(rows))


def _stages(inputs: Inputs) -> Iterator[Block]:
    shown = [label for label in inputs.manifests if label.partition("@")[0] in _STAGES]
    if not shown:
        return
    rows = []
    for label in shown:
        manifest = inputs.manifests[label]
        name, _, arm = label.partition("@")
        dropped = sum(manifest.dropped.values())
        rows.append(
            Row(
                (text(f"{_STAGES[name]}{f'（{arm}）' if arm else ''} / {label}"), *map(count, (manifest.num_in, manifest.num_out, dropped)))
            )
        )
    note = Both("古籍一册拆成多章，读入一行可成多条，故进出不必相等", "A book becomes many chapters, so in and out need not balance")
    columns = ("阶段 / stage", "进 / in", "出 / out", "舍弃或留出 / dropped or held out")
    yield Table(Both("各阶段的记录数", "Records by stage"), columns, tuple(rows), (note,))


def _reasons(inputs: Inputs) -> Iterator[Block]:
    rows = []
    for label in ("ingest", "books", "curate", "score", "mix", "evaluate"):
        manifest = inputs.manifests.get(label)
        for reason, dropped in sorted(manifest.dropped.items(), key=lambda item: (-item[1], item[0])) if manifest else ():
            rows.append(Row((text(label), text(reason), count(dropped), share(dropped, manifest.num_in) if manifest else Cell())))
    if rows:
        columns = ("阶段 / stage", "原因 / reason", "条数 / count", "占该阶段 / share of stage")
        yield Table(Both("舍弃的原因", "Why records were dropped"), columns, tuple(rows))


def _edits(edits: Mapping[str, Any], inputs: Inputs) -> Iterator[Block]:
    if edits:
        whole = inputs.manifests["curate"].num_out
        rows = tuple(
            Row((text(name), count(changed), share(changed, whole))) for name, changed in sorted(edits.items(), key=lambda item: -item[1])
        )
        yield Table(
            Both("清洗所作的修补", "Repairs, counted in records that were kept"),
            ("修补 / repair", "条数 / records", "占保留 / share"),
            rows,
        )


def _lengths(lengths: Mapping[str, Any]) -> Iterator[Block]:
    for pool, histogram in lengths.items():
        bins, before, after = (list(histogram.get(key, ())) for key in ("bins", "before", "after"))
        if not bins or not len(bins) == len(before) == len(after):
            continue
        labels = [f"{low}–{high - 1}" for low, high in pairwise(bins)] + [f"≥ {bins[-1]}"]
        name, tone = POOLS.get(pool, (pool, "s3"))
        caption = Both(f"答案长度（{name}）", f"Answer length in characters ({pool})")
        words = ("清洗前 / before", "清洗后 / after")
        yield Figure(caption, Histogram(caption.en, "字数 / characters", tuple(labels), tuple(before), tuple(after), words, tone))
        rows = tuple(Row((text(label), count(b), count(a), share(a, b))) for label, b, a in zip(labels, before, after, strict=True))
        yield Table(Both(f"{caption.zh}：数字", "The same as numbers"), ("字数 / chars", *words, "保留 / kept"), rows, folded=True)


def _overlap(inputs: Inputs, curated: Mapping[str, Any]) -> Iterator[Block]:
    if "benchmark_overlap" not in curated:
        return
    overlap = {source: kinds if isinstance(kinds, dict) else {"": kinds} for source, kinds in _table(curated, "benchmark_overlap").items()}
    found = sum(sum(kinds.values()) for kinds in overlap.values())
    whole = inputs.manifests["curate"].num_in
    zh = f"与评测集重叠：{whole:,} 条中 {found:,} 条，已在训练前剔除。"
    yield Text(Both(zh, f"Overlap with the benchmark: {found:,} of {whole:,} records, dropped before training."))
    read = _table(curated, "by_source")
    names = {"exact": "全同 / exact", "contained": "包含 / contained", "near": "近似 / near"}
    kinds = [kind for kind in names if any(kind in row for row in overlap.values())]
    rows = []
    for source, row in sorted(overlap.items(), key=lambda item: (-sum(item[1].values()), item[0])):
        total = sum(row.values())
        rows.append(Row((text(source), *(count(row.get(kind, 0)) for kind in kinds), count(total), share(total, _num_in(read, source)))))
    if rows:
        heads = ("来源 / source", *map(names.__getitem__, kinds), "合计 / all", "占来源 / share of source")
        yield Table(Both("与评测集的重叠", "Overlap with the benchmark"), heads, tuple(rows))


def _num_in(by_source: Mapping[str, Any], source: str) -> int:
    return by_source.get(source, {}).get("num_in", 0)


def _threshold(inputs: Inputs) -> Iterator[Block]:
    facts = inputs.facts("score")
    points = [tuple(pair) for pair in facts.get("retention", ()) if len(pair) == 2]
    if not points:
        if "score" not in inputs:
            yield missing("score", "保留率与阈值的曲线", "retention against the threshold")
        elif not inputs.is_reward_filtered:
            yield Text(Both("医疗数据没有经过奖励筛选。", "The medical records are not filtered by a reward."))
        return
    threshold = facts.get("threshold")
    kind = facts.get("kind", "absolute")
    marks = ((threshold, f"阈值 {decimal(threshold, 3)}"),) if isinstance(threshold, int | float) else ()
    chart = Lines("share of medical records kept", "阈值 / threshold", "保留 / kept", (Line("医疗数据", "main", tuple(points)),), marks)
    note = Both(
        f"本次阈值的类型：{kind}。论文用绝对值 0.5，但奖励是无界的回归分，零点与尺度没有意义",
        "The paper cuts at 0.5 of an unbounded score, whose zero and scale mean nothing by themselves",
    )
    yield Figure(Both("阈值与保留率", "Retention against the threshold"), chart, (note,))
    chances = facts.get("probabilities", ())
    columns = ("阈值 / threshold", "保留 / kept", *(("胜率 / probability",) if chances else ()))
    rows = tuple(
        Row((number(value, 3), Cell(f"{100 * kept:.0f} %", value=kept), *(number(chance) for chance in chances[place : place + 1])))
        for place, (value, kept) in enumerate(points)
    )
    yield Table(Both("阈值与保留率：数字", "The same as numbers"), columns, rows[::2], folded=True)


def _mix(inputs: Inputs) -> Iterator[Block]:
    facts = inputs.facts("mix")
    parts = ("num_in", "train", "validation", "repeats")
    groups = [(f"{POOLS.get(pool, (pool,))[0]} / {pool}", counts) for pool, counts in _table(facts, "by_pool").items()]
    groups += sorted(_table(facts, "by_source").items(), key=lambda item: (-item[1].get("train", 0), item[0]))
    rows = tuple(Row((text(name), *(count(counts.get(part)) for part in parts))) for name, counts in groups if counts.get("num_in"))
    if rows:
        heads = ("池、来源 / pool, source", "可用 / available", "训练 / train", "验证 / validation", "其中重复 / repeats")
        note = Both(
            "重复：按配比多次取用的行，计入训练", "Repeats: lines of training that are not a record's first, as the proportions ask"
        )
        yield Table(Both("混合", "The mix"), heads, rows, (note,))
