"""The report's section on data: what each stage kept, why the rest went, and examples of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from medchatzh.records import Reject
from medchatzh.report.charts import Band, Flow
from medchatzh.report.data import Inputs, quote, record_text
from medchatzh.report.view import Block, Both, Cell, Figure, Row, Table, Text, count, missing, share, text

POOLS = {"general": ("通用", "s2"), "medical": ("医疗", "main")}
_STAGES = {
    "ingest": "读入",
    "books": "古籍",
    "curate": "清洗",
    "reward": "奖励模型",
    "score": "奖励筛选",
    "pretrain": "继续预训练",
    "sft": "微调",
}
_EXAMPLE_CHARS = 120


def retention(inputs: Inputs, seed: int, num_rejects: int) -> tuple[Block, ...]:
    """Flow by pool, stages, reasons, sources, repairs, lengths, overlap with the benchmark, examples."""
    examples, lost = inputs.rejects(seed, num_rejects)
    absent = [label for label in ("ingest", "books", "curate", "score", "sft") if label not in inputs]
    blocks: list[Block] = [missing(label, "该阶段的保留情况", "records kept") for label in absent]
    curated = inputs.facts("curate")
    blocks += _flow(inputs, _table(curated, "by_pool"))
    blocks += [*_stages(inputs), *_reasons(inputs)]
    blocks += _sources(inputs, _table(curated, "by_source"), lost)
    blocks += _edits(_table(curated, "edits"), inputs)
    blocks += _lengths(_table(curated, "lengths"))
    blocks += _overlap(inputs, curated)
    blocks += _examples(examples)
    return tuple(blocks)


def _table(facts: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A fact that should be a table; {} where it is not there."""
    found = facts.get(key)
    return found if isinstance(found, dict) else {}


def _flow(inputs: Inputs, by_pool: Mapping[str, Any]) -> Iterator[Block]:
    if not by_pool:
        return
    trained_on = inputs.manifests["sft"].config.get("pools", list(POOLS)) if "sft" in inputs else None
    bands, rows = [], []
    for pool, counts in by_pool.items():
        name, tone = POOLS.get(pool, (pool, "s3"))
        kept = counts.get("num_out")
        after_reward = inputs.manifests["score"].num_out if "score" in inputs else None
        filtered = after_reward if pool == "medical" else kept
        trained = None if trained_on is None else filtered if pool in trained_on else 0
        steps = (counts.get("num_in"), kept, filtered, trained)
        bands.append(Band(name, tone, steps))
        rows.append(
            Row((text(f"{name} / {pool}"), *map(count, steps), share(steps[-1] or 0, steps[0] or 0) if steps[-1] is not None else Cell()))
        )
    columns = ("读入", "清洗后", "奖励筛选后", "用于微调")
    note = Both(
        "奖励模型只筛选医疗数据；微调的留出部分计入最后一列",
        "Only medical records are filtered by reward; the last column includes what SFT holds out",
    )
    yield Figure(Both("数据的去留", "Records kept, by pool"), Flow("records kept by stage and pool", columns, tuple(bands)), (note,))
    heads = ("池 / pool", "读入 / ingested", "清洗后 / curated", "奖励筛选后 / by reward", "用于微调 / SFT", "保留 / kept")
    yield Table(Both("数据的去留：数字", "The same as numbers"), heads, tuple(rows), (note,), folded=True)


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
    for label in ("ingest", "books", "curate", "score", "evaluate"):
        manifest = inputs.manifests.get(label)
        for reason, dropped in sorted(manifest.dropped.items(), key=lambda item: (-item[1], item[0])) if manifest else ():
            rows.append(Row((text(label), text(reason), count(dropped), share(dropped, manifest.num_in) if manifest else Cell())))
    if rows:
        columns = ("阶段 / stage", "原因 / reason", "条数 / count", "占该阶段 / share of stage")
        yield Table(Both("舍弃的原因", "Why records were dropped"), columns, tuple(rows))


def _sources(inputs: Inputs, by_source: Mapping[str, Any], lost: Counter[tuple[str, str]]) -> Iterator[Block]:
    rows = []
    for source, counts in by_source.items():
        num_in, kept = counts.get("num_in", 0), counts.get("num_out", 0)
        after = kept - lost["score", source]
        reasons = sorted(counts.get("dropped", {}).items(), key=lambda item: (-item[1], item[0]))
        top = "，".join(f"{reason} {dropped:,}" for reason, dropped in reasons[:3])
        by_reward = (count(after), share(after, num_in)) if "score" in inputs else (Cell(), Cell())
        rows.append(Row((text(source), count(num_in), count(kept), share(kept, num_in), *by_reward, text(top))))
    if rows:
        heads = (
            "来源 / source",
            "读入 / in",
            "清洗后 / curated",
            "保留 / kept",
            "奖励筛选后 / by reward",
            "保留 / kept",
            "清洗的主要原因 / top reasons",
        )
        yield Table(Both("按来源的保留", "Kept by source"), heads, tuple(rows))


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
        rows = tuple(Row((text(label), count(b), count(a), share(a, b))) for label, b, a in zip(labels, before, after, strict=True))
        name = POOLS.get(pool, (pool, ""))[0]
        columns = ("字数 / chars", "清洗前 / before", "清洗后 / after", "保留 / kept")
        yield Table(Both(f"答案长度（{name}）", f"Answer length in characters ({pool})"), columns, rows)


def _overlap(inputs: Inputs, curated: Mapping[str, Any]) -> Iterator[Block]:
    if "benchmark_overlap" not in curated:
        return
    overlap = _table(curated, "benchmark_overlap")
    found = sum(overlap.values())
    where = "，".join(f"{source} {number:,}" for source, number in overlap.items()) or "无"
    whole = inputs.manifests["curate"].num_in
    zh = f"与评测集重叠：{whole:,} 条中 {found:,} 条（{where}），已在训练前剔除。"
    yield Text(Both(zh, f"Overlap with the benchmark: {found:,} of {whole:,} records, dropped before training."))


def _examples(examples: Mapping[tuple[str, str], list[Reject]]) -> Iterator[Block]:
    rows = []
    for (label, reason), rejects in sorted(examples.items()):
        for reject in rejects:
            shown = quote(record_text(reject.record), _EXAMPLE_CHARS)
            rows.append(Row((text(label), text(reason), text(reject.source), text(reject.detail[:_EXAMPLE_CHARS]), text(shown))))
    if rows:
        columns = ("阶段 / stage", "原因 / reason", "来源 / source", "规则所见 / detail", "记录 / record")
        note = Both(
            f"每个原因随机抽取，记录截到 {_EXAMPLE_CHARS} 字，个人信息已遮盖",
            "Drawn at random for each reason; shortened, personal data masked",
        )
        yield Table(Both("舍弃的例子", "Examples of rejects"), columns, tuple(rows), (note,))
