"""The dataset card: `README.md` as the hub wants it, in Chinese and English. All its numbers come from manifests and files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from medchatzh.mix.exports import SPLITS
from medchatzh.recipe import Settings
from medchatzh.run import SCRATCH, Manifest, Result, read_manifest, sha256

NAME = "med-mix"
_LICENCES = ("apache-2.0", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-3.0", "mit", "odc-by")
"""Identifiers of the hub that a card may claim; anything else is `other`, with the table of sources to tell."""
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"), (10**8, "10M<n<100M"))
_REWARD_LIMIT = """\
- 奖励模型的分数只在同一模型内可比；它偏好什么，数据就偏向什么。
  Rewards compare within one model only; what it prefers, the data leans to.
"""
_LIMITS = f"""\
- 记录未经医生逐条审核，其中的诊断与用药建议可能过时或有误；不可代替就医。
  The records were not reviewed one by one by physicians; advice in them may be outdated or wrong. No substitute for medical care.
- 个人信息、广告、与评测集的重叠由规则清除，规则会漏，也会误删；每一条被删的记录及理由留在各阶段的 rejects.jsonl。
  Personal data, advertising and overlap with benchmarks were removed by rules, which miss some and take some wrongly; each reject is
  kept with its reason.
{_REWARD_LIMIT}- 验证集与训练集没有相同的问题（归一化后的首问），但可能有相近的问题。
  No question (first question, normalised) stands in both training and validation; similar ones may.
- 许可以各来源为准，使用前请核对。
  Licences are those of the sources; check them before use."""


def write(out: Path, inputs: Mapping[str, Path], settings: Settings, seed: int, result: Result) -> None:
    """Write the card of what lies in `out`. A stage folder without a manifest (made by hand) has no rows in it."""
    manifests = {label: found for label in ("ingest", "curate", "score") if (found := _manifest(inputs.get(label))) is not None}
    is_unscored = _is_unscored(manifests)
    sources = {source["name"]: source for source in manifests["ingest"].config.get("sources", ())} if "ingest" in manifests else {}
    parts = [
        _front_matter(
            out, [str(sources.get(name, {}).get("licence", "")) for name in result.facts["by_source"]], result.facts["num_train"]
        ),
        f"# {NAME}\n\n"
        f"中文医疗与通用指令混合数据：训练 {result.facts['num_train']:,} 条，验证 {result.facts['num_validation']:,} 条。"
        f"由 MedChatZH 工具链从下列来源清洗、{'' if is_unscored else '筛选、'}混合而成。\n\n"
        f"Chinese medical and general instructions: {result.facts['num_train']:,} for training, {result.facts['num_validation']:,} for"
        f" validation. Made from the sources below with the MedChatZH toolchain: curated by rules,"
        f" {'not filtered by a reward' if is_unscored else 'filtered by a reward model'}, mixed.",
        _counts(result, manifests, sources),
        _fields(out),
        _making(manifests, settings, seed, result),
        _files(out),
        "## 局限 / Known limits\n\n" + (_LIMITS.replace(_REWARD_LIMIT, "") if is_unscored else _LIMITS),
    ]
    (out / "README.md").write_text("\n\n".join(parts) + "\n", "utf-8")


def _is_unscored(manifests: Mapping[str, Manifest]) -> bool:
    """Whether the recipe has no reward filter (`score.kind = "none"`)."""
    return "score" in manifests and manifests["score"].facts.get("kind") == "none"


def _manifest(folder: Path | None) -> Manifest | None:
    try:
        return read_manifest(folder) if folder else None
    except ValueError:
        return None


def _front_matter(out: Path, licences: list[str], num_train: int) -> str:
    known = {licence.strip().lower() for licence in licences}
    licence = known.pop() if len(known) == 1 and known <= set(_LICENCES) else ""
    size = next((name for bound, name in _SIZES if num_train < bound), "n>100M")
    lines = [f"license: {licence}"] if licence else ["license: other", "license_name: by-source"]
    lines += ["language:", "- zh", f"pretty_name: {NAME}", "task_categories:", "- text-generation", "- question-answering"]
    lines += [
        "tags:",
        "- medical",
        "- instruction-tuning",
        "size_categories:",
        f"- {size}",
        "configs:",
        "- config_name: default",
        "  data_files:",
    ]
    for split in SPLITS:
        path = f"data/{split}-*.parquet" if (out / "data").is_dir() else f"{split}.jsonl"
        lines += [f"  - split: {split}", f"    path: {path}"]
    return "\n".join(["---", *lines, "---"])


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    def line(cells: Iterable[Any]) -> str:
        shown = (f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
        return "| " + " | ".join(shown) + " |"

    heads = list(heads)
    return "\n".join([line(heads), "|" + " --- |" * len(heads), *map(line, rows)])


def _counts(result: Result, manifests: Mapping[str, Manifest], sources: Mapping[str, Any]) -> str:
    heads = ("候选 / candidates", "训练 / train", "其中重复 / of these repeats", "验证 / validation")
    keys = ("num_in", "train", "repeats", "validation")
    pools = [(pool, *(counts[key] for key in keys)) for pool, counts in result.facts["by_pool"].items()]
    curated = manifests["curate"].facts.get("by_source", {}) if "curate" in manifests else {}
    rows = []
    for name, counts in result.facts["by_source"].items():
        source = sources.get(name, {})
        raw = curated.get(name, {}).get("num_in", "")
        rows.append(
            (name, source.get("pool", "medical"), source.get("licence") or "未注明 / not stated", raw, *(counts[key] for key in keys))
        )
    return (
        "## 数量 / Counts\n\n"
        + _table(("池 / pool", *heads), pools)
        + "\n\n"
        + _table(("来源 / source", "池 / pool", "许可 / licence", "读入 / read", *heads), rows)
    )


def _fields(out: Path) -> str:
    forms = [
        ("train.jsonl, validation.jsonl", "`turns`: [{role, content}], `id`, `source`, `origin`, `category`, `pool`, `edits`"),
        ("data/*.parquet", "同上，供 `datasets` 读取 / the same, for `datasets`"),
        ("alpaca_*.json", "`instruction`, `input`, `output`, `system`, `history`"),
        ("sharegpt_*.json", "`conversations`: [{from: human or gpt, value}], `system`"),
        ("dataset_info.json", "LLaMA-Factory: `dataset_dir` = 本目录 / this folder, `dataset` = `med_mix_alpaca_train` …"),
    ]
    present = [form for form in forms if any(next(out.glob(pattern.strip()), None) for pattern in form[0].split(","))]
    return (
        "## 字段 / Fields\n\n"
        + _table(("文件 / file", "内容 / content"), present)
        + "\n\n各文件的第 n 条是同一段对话。 / Item n of all files of a split is the same dialogue."
    )


def _making(manifests: Mapping[str, Manifest], settings: Settings, seed: int, result: Result) -> str:
    stages = [(label, found.fingerprint, found.num_in, found.num_out, found.dropped) for label, found in manifests.items()]
    stages.append(("mix", "", result.num_in, result.num_out, result.dropped))
    reasons = [
        (label, reason, count) for label, *_, dropped in stages for reason, count in sorted(dropped.items(), key=lambda item: -item[1])
    ]
    configs = {label: found.config for label, found in manifests.items() if label != "ingest"} | {"mix": msgspec.to_builtins(settings)}
    shown = msgspec.json.format(msgspec.json.encode({"seed": seed, **configs}, order="deterministic"), indent=2).decode()
    is_unscored = _is_unscored(manifests)
    text = [
        "## 来历 / How it was made",
        "`medchatzh mix RECIPE.toml`：读取（ingest）→ 规则清洗（curate）→"
        f" {'' if is_unscored else '医疗数据按奖励筛选（score）→ '}混合（mix）。  \n"
        f"Read, curated by rules, medical records {'not filtered by a reward' if is_unscored else 'filtered by reward'}, mixed.",
        _table(
            ("阶段 / stage", "指纹 / fingerprint", "进 / in", "出 / out", "舍弃 / left out"),
            ((label, made, num_in, num_out, sum(dropped.values())) for label, made, num_in, num_out, dropped in stages),
        ),
    ]
    if "score" in manifests and not is_unscored:
        facts = manifests["score"].facts
        text.append(
            f"奖励模型 / reward model: `{facts.get('reward_checkpoint', facts.get('reward_fingerprint', ''))}`，"
            f"阈值 / threshold {facts.get('threshold')}（{facts.get('kind')}）"
        )
    text += [
        "### 舍弃的理由 / Why records were left out",
        _table(("阶段 / stage", "理由 / reason", "条数 / records"), reasons),
        "### 规则与阈值 / Rules and thresholds",
        f"<details><summary>设置 / settings</summary>\n\n```json\n{shown}\n```\n\n</details>",
    ]
    return "\n\n".join(text)


def _files(out: Path) -> str:
    paths = [path for path in sorted(out.rglob("*")) if path.is_file() and out / SCRATCH not in path.parents and path.name != "README.md"]
    rows = [(path.relative_to(out).as_posix(), path.stat().st_size, f"`{sha256(path)}`") for path in paths]
    return "## 文件 / Files\n\n" + _table(("文件 / file", "字节 / bytes", "sha256"), rows)
