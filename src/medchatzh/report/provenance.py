"""The report's first and last sections: what this run is, and how to make it again. No time, no host, no path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from medchatzh import __version__
from medchatzh.metrics.summary import JUDGE
from medchatzh.report.data import Inputs
from medchatzh.report.view import Block, Both, Cell, Command, Row, Table, Text, count, missing, text


def overview(inputs: Inputs, title: str, note: str, seed: int) -> tuple[Block, ...]:
    blocks: list[Block] = [Text(Both(note), "warn")] if note else []
    summary = inputs.summary
    if not summary:
        blocks.append(missing("evaluate", "评测", "the evaluation"))
    rows = [("配方", "recipe", text(title))]
    rows += [("主模型", "main system", text(summary.main))] if summary else []
    rows += [(zh, en, cell) for zh, en, cell in _counts(inputs) if cell.value is not None]
    if summary:
        loaded = summary.questions
        broken = _broken(inputs)
        reconciled = f"{loaded.loaded + broken:,} − {broken:,} 坏行 − {loaded.repeated:,} 重复 − {loaded.no_reference:,} 无参考"
        rows += [
            ("评测集", "benchmark", text("；".join(summary.benchmark))),
            (
                "评测题目",
                "questions: rows − broken (benchmark rows set aside) − repeated − no reference = scorable",
                text(f"{reconciled} = {loaded.scorable:,}"),
            ),
            ("系统", "systems", text("、".join(inputs.system(name).label for name in summary.systems))),
        ]
    rows += [("随机种子", "seed", text(seed)), ("软件版本", "package", text(f"medchatzh {__version__}"))]
    table = Table(
        Both("本次运行", "This run"), ("项目 / item", "值 / value"), tuple(Row((text(f"{zh} / {en}"), cell)) for zh, en, cell in rows)
    )
    return (*blocks, table, *_answers(inputs))


def _broken(inputs: Inputs) -> int:
    """Rows of the benchmark's files that are no question; ingest says why."""
    asked = {source["name"] for source in inputs.config("ingest").get("sources", ()) if source.get("benchmark")}
    found = inputs.facts("ingest").get("sources", {}).items()
    return sum(
        source.get("num_rows", 0) - source.get("num_kept", 0)
        for name, source in found
        if name in asked or source.get("format") == "webmedqa"
    )


def _answers(inputs: Inputs) -> Iterator[Block]:
    """What became of each system's answers: nothing that a file held, and no question, is lost without a word."""
    rows, is_whole = [], True
    for label, manifest in inputs.manifests.items():
        if not label.startswith("generate@"):
            continue
        facts, system = manifest.facts, inputs.system(label.partition("@")[2])
        from_file = "num_unanswered" in facts
        lost, num_empty = Counter(manifest.dropped), facts.get("num_empty", 0)
        if 2 * num_empty > manifest.num_out:
            yield Text(
                Both(
                    f"{system.label} 的 {manifest.num_out:,} 个回答中有 {num_empty:,} 个是空的：先查它怎样被提问，再看它的分数。",
                    f"{num_empty:,} of the {manifest.num_out:,} answers of {system.name} are empty: see how it is asked before its scores.",
                ),
                "bad",
            )
        is_whole &= not num_empty and not (from_file and (lost or facts["num_unanswered"]))
        unknown, repeated = (lost.pop(reason, 0) if from_file else None for reason in ("unknown_question", "repeated_prediction"))
        cells = [count(number) for number in (manifest.num_in, manifest.num_out, facts.get("num_unanswered"), unknown)]
        differing = facts.get("num_differing", 0)
        cells.append(Cell(f"{repeated:,} ({differing:,} ≠)", value=repeated) if differing else count(repeated))
        ends = ", ".join(f"{finish} {number:,}" for finish, number in facts.get("finish", {}).items())
        others = ", ".join(f"{reason} {number:,}" for reason, number in lost.items())
        rows.append(Row((text(system.label), *cells, count(num_empty), text(ends), text(others)), system.kind))
    if rows:
        columns = (
            "系统 / system",
            "行或题 / rows or questions",
            "回答 / answers",
            "缺 / missing",
            "未知题 / unknown",
            "重复 / repeated",
            "空 / empty",
            "结束 / ended by",
            "其他未用 / set aside otherwise",
        )
        notes = (
            Both(
                "来自文件的系统按行计：行 = 回答 + 未知题 + 重复 + 其他未用；其余按题计。空回答计零分，缺的不计分",
                "Systems from files count rows: rows = answers + unknown + repeated + set aside otherwise; the others count questions."
                " Empty answers score 0, missing ones are not scored",
            ),
            Both("重复的行用第一行；≠ 是与第一行不同的行数", "Of repeated rows the first is used; ≠ counts those that differ from it"),
        )
        yield Table(Both("各系统的回答", "Answers by system"), columns, tuple(rows), notes, folded=is_whole)


def _counts(inputs: Inputs) -> list[tuple[str, str, Cell]]:
    def facts(label: str, key: str) -> Cell:
        return count(inputs.facts(label).get(key))

    def out(label: str) -> Cell:
        return count(inputs.manifests[label].num_out if label in inputs else None)

    parameters = facts("sft", "num_parameters")
    filtered = [("奖励筛选后医疗指令", "medical instructions after reward filter", out("score"))] if inputs.is_reward_filtered else []
    return [
        ("参数量", "parameters", parameters if parameters.value is not None else facts("pretrain", "num_parameters")),
        ("词表", "vocabulary", facts("tokenizer", "vocab_size")),
        ("读入记录", "records ingested", out("ingest")),
        ("古籍章节", "book chapters", out("books")),
        ("清洗后指令", "instructions after curation", out("curate")),
        *filtered,
        ("偏好排序", "preference rankings", count(inputs.manifests["reward"].num_in if "reward" in inputs else None)),
        ("微调训练对话", "dialogues trained on", out("sft")),
    ]


def reproduce(inputs: Inputs, command: str) -> tuple[Block, ...]:
    blocks: list[Block] = []
    if command:
        blocks.append(Command(command))
    else:
        blocks.append(Text(Both("配方没有记下命令（report.command）。", "The recipe names no command (report.command)."), "warn"))
    rows = [
        Row((text(label), text(manifest.fingerprint), count(manifest.seed), text(_stage_command(command, label))))
        for label, manifest in inputs.manifests.items()
    ]
    caption = Both(
        "各阶段的指纹：设置、种子、输入与原始文件的摘要，相同则产物相同", "Fingerprints: digest of settings, seed, inputs and raw files"
    )
    blocks.append(Table(caption, ("阶段 / stage", "指纹 / fingerprint", "种子 / seed", "命令 / command"), tuple(rows)))
    blocks.append(_versions(inputs))
    if inputs.summary:
        signed = inputs.summary.signatures
        lines = tuple(Row((text(name), text(metric), text(line))) for name, metrics in signed.items() for metric, line in metrics.items())
        judge = Both(f"{JUDGE} 的签名以评分文件夹的指纹为版本", "The judge's version is the fingerprint of its stage")
        blocks.append(
            Table(
                Both("评分签名：只有签名相同的数才可比较", "Signatures: only equal ones compare"),
                ("协议 / protocol", "指标 / metric", "签名 / signature"),
                lines,
                (judge,),
            )
        )
    else:
        blocks.append(missing("evaluate", "评分签名", "score signatures"))
    return tuple(blocks)


def _stage_command(command: str, label: str) -> str:
    """The command of one stage, with what it needs. `medchatzh compare` makes all of them; '' where the report's own is another."""
    if command.startswith("medchatzh compare "):
        return "medchatzh compare …"
    head, _, rest = command.partition("medchatzh run ")
    stage, _, arm = ("score@judge" if label == JUDGE else label).partition("@")
    return f"medchatzh {stage} {rest}{f' --arm {arm}' if arm else ''}" if rest and not head else ""


def _versions(inputs: Inputs) -> Table:
    """Library → versions; a library that differs between stages shows all of them."""
    found: dict[str, dict[str, list[str]]] = {}
    for label, manifest in inputs.manifests.items():
        for library, version in manifest.versions.items():
            found.setdefault(library, {}).setdefault(version, []).append(label)
    rows = []
    for library, by_version in sorted(found.items()):
        words = (version if len(by_version) == 1 else f"{version}（{'、'.join(labels)}）" for version, labels in by_version.items())
        rows.append(Row((text(library), text("；".join(words)))))
    return Table(Both("软件版本", "Library versions"), ("库 / library", "版本 / version"), tuple(rows))
