"""What is known of the published benchmarks: their sizes, webMedQA's categories, and table 2 of the paper, computed. No data of theirs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from medchatzh.records import Question

SIZES = {
    "webMedQA": {"train": 50_610, "valid": 6_337, "test": 6_337},  # the publishers' README; He et al. 2019, table 2
    "cMedQA2": {"train": 100_000, "dev": 4_000, "test": 4_000},  # the publishers' README
    "huatuo-26M": {"test": 6_000},  # huatuo26M-testdatasets, and Zhongjing's data/huatuo26M_test.json
    "CMtMedQA": {"test": 1_144},  # Zhongjing's data/CMtMedQA_test.json: 1,000 dialogues and 144 questions about superstitions
}
"""Benchmark → split → questions, as published."""

_TOLERANCE = 0.01
"""Repeated ids and broken rows cost a published file some questions (webMedQA: 29 of 63,284)."""
_SPLIT = re.compile(r"(?<![a-z])(train|valid|dev|test)(?![a-z])", re.IGNORECASE)


def sample(questions: Sequence[Question], max_questions: int, seed: int) -> list[Question]:
    """The questions to answer, in the benchmark's order."""
    if not max_questions or max_questions >= len(questions):
        return list(questions)
    chosen = np.random.default_rng(seed).choice(len(questions), max_questions, replace=False)
    return [questions[number] for number in sorted(chosen)]


def shown_name(source: str, num_questions: int) -> str:
    """The name under which a source's questions may stand in a table.

    That is the source's own name. Where it is a published benchmark's, it stands alone only over as many questions as one of its splits
    (or all) has; else the difference is told, so that neither a stand-in nor a part passes for the benchmark.
    """
    known = {_folded(name): name for name in SIZES}
    name = known.get(_folded(source))
    if name is None:
        return source
    splits = SIZES[name].values()
    if any(size * (1 - _TOLERANCE) <= num_questions <= size for size in (*splits, sum(splits))):
        return name
    sizes = ", ".join(f"{size:,}" for size in splits)
    return f"{source} (stand-in or part: {num_questions:,} questions; {name} has {sizes})"


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


class SizeClass(msgspec.Struct, frozen=True):
    """A row of the paper's table 2: its categories have `least` questions or more, and fewer than `below`."""

    printed: str
    least: int
    below: int
    categories: tuple[str, ...]


TABLE_2 = (
    SizeClass(">10000", 10_000, 1 << 31, ("Internal Medicine", "Surgery")),
    SizeClass("5000-10000", 5_000, 10_000, ("Pediatrics", "Gynaecology and Obstetrics")),
    SizeClass(
        "1000-5000",
        1_000,
        5_000,
        ("Pentaphthaliaceae", "Oncology", "Dermatovenereology", "Infectious Diseases", "Mental Health", "Plastic Surgery", "TMC"),
    ),
    SizeClass(
        "<1000",
        0,
        1_000,
        (
            "Health Care", "Aesthetic Medicine", "Auxiliary Examination", "Rehabilitation Medicine", "Nutrition and Health",
            "Home Environment", "Exercise and Fitness", "Physical Examination", "Childcare Knowledge", "Drug", "Heredity", "Other",
        ),
    ),
)  # fmt: skip
"""The paper's table 2, in its words. It prints no count of a single category but two, in its caption."""

LARGEST, SMALLEST = ("Internal Medicine", 17_000), ("Other", 30)
"""The caption of table 2: "over 17,000 data points", "only 30 questions and answers"."""
PAPER_QUESTIONS, PUBLISHED_QUESTIONS = 63_255, 63_284
"""What the paper counts (section 4.2, footnote 9), and what the publishers do: train + valid + test."""

ENGLISH = {
    chinese: english
    for english, names in {
        "Internal Medicine": "内科",
        "Surgery": "外科",
        "Pediatrics": "儿科",
        "Gynaecology and Obstetrics": "妇产科",
        "Pentaphthaliaceae": "五官科",
        "Oncology": "肿瘤科",
        "Dermatovenereology": "皮肤性病科",
        "Infectious Diseases": "传染科 传染病科",
        "Mental Health": "精神心理科 心理健康科 心理健康 心理科",
        "Plastic Surgery": "整形美容科 整形美容 整形科",
        "TMC": "中医科 中医",
        "Health Care": "保健养生 保健科 养生保健",
        "Aesthetic Medicine": "美容科 医学美容 医疗美容",
        "Auxiliary Examination": "辅助检查科 辅助检查",
        "Rehabilitation Medicine": "康复医学科 康复医学 康复科",
        "Nutrition and Health": "营养健康科 营养健康 营养科",
        "Home Environment": "家居环境",
        "Exercise and Fitness": "运动瘦身 运动健身",
        "Physical Examination": "体检科 体检",
        "Childcare Knowledge": "育儿知识 子女教育",
        "Drug": "药品 药物",
        "Heredity": "遗传 遗传科",
        "Other": "其他 其它 其他科室",
    }.items()
    for chinese in names.split()
}
"""Chinese department → the paper's English name, with its slips (五官科, ear, nose, throat, eyes and mouth, is "Pentaphthaliaceae", and
中医科, TCM, "TMC"). The paper prints no Chinese names, and the publishers show 内科 alone; the others are ours to translate."""

_CLASS_OF = {category: size for size in TABLE_2 for category in size.categories}


class CategoryRow(msgspec.Struct, frozen=True, kw_only=True):
    """The questions of one category. `english` and `printed` (the paper's size class) are '' where the paper has no such category."""

    category: str
    english: str
    num_questions: int
    by_split: dict[str, int]
    printed: str
    agrees: bool | None
    """Whether the number lies in the paper's class; None where it prints none."""


class Table2(msgspec.Struct, frozen=True, kw_only=True):
    """The paper's table 2 as the given questions have it, largest category first. An id that comes again counts once."""

    rows: tuple[CategoryRow, ...]
    splits: dict[str, int]
    """Split, by the name of the file, → questions."""
    num_loaded: int
    """Questions read, those of a repeated id too: loaded = repeated + scored."""
    num_repeated: int
    num_scored: int
    num_own_answers: int
    """Answers with label 1. The publishers count one question for each."""


def table2(questions: Iterable[Question]) -> Table2:
    """Sizes by category and split, in one pass."""
    counts: Counter[tuple[str, str]] = Counter()
    seen: set[str] = set()
    num_loaded = num_own_answers = 0
    for question in questions:
        num_loaded += 1
        num_own_answers += len(question.references)
        if question.id not in seen:
            seen.add(question.id)
            counts[question.category, split_of(question.origin)] += 1
    splits = {split: 0 for split in ("train", "valid", "dev", "test", "") if any(found == split for _, found in counts)}
    sizes: Counter[str] = Counter()
    for (category, split), count in counts.items():
        sizes[category] += count
        splits[split] += count
    rows = []
    for category, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        english = ENGLISH.get(category, "")
        printed = _CLASS_OF.get(english)
        row = CategoryRow(
            category=category,
            english=english,
            num_questions=size,
            by_split={split: counts[category, split] for split in splits},
            printed=printed.printed if printed else "",
            agrees=printed.least <= size < printed.below if printed else None,
        )
        rows.append(row)
    return Table2(
        rows=tuple(rows),
        splits=splits,
        num_loaded=num_loaded,
        num_repeated=num_loaded - len(seen),
        num_scored=len(seen),
        num_own_answers=num_own_answers,
    )


def split_of(origin: str) -> str:
    """The split that a file's name tells: `test` of `webmedqa/test.zip!medQA.test.txt:7`; '' where it tells none."""
    found = _SPLIT.findall(origin.replace("_", "."))
    return found[-1].lower() if found else ""


def page(questions: Iterable[Question]) -> str:
    """Table 2 of each source of the benchmark, as Markdown. ValueError where there is no question."""
    sources: dict[str, list[Question]] = {}
    for question in questions:
        sources.setdefault(question.source, []).append(question)
    if not sources:
        raise ValueError("no benchmark question there; give webMedQA's text files or zips, or another benchmark's")
    tables = {source: table2(asked) for source, asked in sources.items()}
    return "\n".join(markdown(table, shown_name(source, table.num_scored)) for source, table in tables.items())


def markdown(table: Table2, name: str) -> str:
    """Table 2 and the reconciliation as Markdown; `name` is what `shown_name` gives."""
    splits = [split for split in table.splits if split]
    heads = ["类别", "category (paper's name)", "questions", *splits, "paper's class", "agrees"]
    lines = [f"# {name}", "", _joined(heads), _joined(["---"] * 2 + ["---:"] * (1 + len(splits)) + ["---"] * 2)]
    for row in table.rows:
        agrees = "" if row.agrees is None else "yes" if row.agrees else "no"
        counts = [f"{row.num_questions:,}", *(f"{row.by_split[split]:,}" for split in splits)]
        lines.append(_joined([row.category or "—", row.english or "—", *counts, row.printed or "—", agrees]))
    lines.append(_joined(["合计", "all", f"{table.num_scored:,}", *(f"{table.splits[split]:,}" for split in splits), "", ""]))
    lines += ["", "In the paper's form:", "", _joined(["size", "paper", "here", "here, of the paper's", "categories here"])]
    lines.append(_joined(["---", "---:", "---:", "---:", "---"]))
    for size in TABLE_2:
        here = [row for row in table.rows if size.least <= row.num_questions < size.below]
        same = sum(row.english in size.categories for row in here)
        names = "; ".join(row.english or row.category or "—" for row in here)
        lines.append(_joined([size.printed, f"{len(size.categories)}", f"{len(here)}", f"{same}", names]))
    lines += [
        "",
        f"{table.num_loaded:,} loaded = {table.num_repeated:,} with a repeated id + {table.num_scored:,} to be scored;"
        f" {table.num_own_answers:,} answers with label 1.",
        "",
        f"webMedQA's publishers count {PUBLISHED_QUESTIONS:,} questions, one for each label 1 (50,610 + 6,337 + 6,337); the paper counts"
        f" {PAPER_QUESTIONS:,}, and its script skips an id that came before: the difference is {PUBLISHED_QUESTIONS - PAPER_QUESTIONS}.",
    ]
    for what, (category, count), sign in (("largest", LARGEST, "over "), ("smallest", SMALLEST, "")):
        found = next((f"{row.num_questions:,}" for row in table.rows if row.english == category), "none")
        lines.append(f"The {what} category, {category}: {sign}{count:,} in the paper, {found} here.")
    return "\n".join(lines) + "\n"


def _joined(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
