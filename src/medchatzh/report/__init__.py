"""The report of a run: one HTML file that needs nothing else, the same in Markdown, and its numbers in JSON.

Equal inputs give equal bytes: no time, host or absolute path stands in it. A stage that was not given is named as missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from medchatzh.recipe import Settings
from medchatzh.run import Context, Result

if TYPE_CHECKING:
    from medchatzh.report.view import Report

VERSION = 5
LIBRARIES = ("jinja2",)


class Config(Settings, frozen=True, kw_only=True):
    """What the report is called and how much it shows."""

    title: str = "MedChatZH 复现报告"
    """Heading of the report; name the recipe in it."""
    note: str = ""
    """A caveat that stands first: a stand-in benchmark, say, or a model too small to be of use."""
    command: str = ""
    """The command that makes this run again."""
    num_samples: int = 12
    """Benchmark questions shown with all answers, spread over the categories."""
    num_items: int = 300
    """Benchmark questions in the item browser; where there are more, a sample spread over the categories. They never take more than
    3.5 MB of the page: long answers make them fewer."""
    num_rejects: int = 20
    """Rejected records shown for each reason, and masked values for each kind of personal data."""
    force: bool = False
    """Mark the best of all rows of table 1, though their signatures or questions differ, the paper's rows among them. The report
    then says so beside every such table."""

    def __post_init__(self) -> None:
        for name in ("num_samples", "num_items", "num_rejects"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)}: give 0 (show none) or more")


def build(config: Config, inputs: Mapping[str, Path], context: Context) -> Report:
    """The whole report as data. ValueError where a folder is no finished stage."""
    from medchatzh.report import corpus, draws, evidence, figures, items, lengths, provenance, ranks, samples, scores, training
    from medchatzh.report.contamination import contamination
    from medchatzh.report.data import Inputs
    from medchatzh.report.exam import exam
    from medchatzh.report.pairwise import pairwise
    from medchatzh.report.view import Both, Report, Section

    given = Inputs(inputs)
    drawn = draws.draw(given, context.seed, config.num_rejects)
    gathered = items.gather(given, max(config.num_items, config.num_samples), context.seed, lengths.columns(given.summary))
    sections = (
        ("run", "本次运行", "What this run is", provenance.overview(given, config.title, config.note, context.seed)),
        ("findings", "主要结论", "Key findings", scores.key_findings(given)),
        ("table1", "表 1：评测分数", "Table 1: benchmark scores", scores.tables(given, config.force)),
        ("protocols", "协议之间", "Across protocols", ranks.protocols(given)),
        ("figure1", "图 1：各科室", "Figure 1: by category", figures.categories(given)),
        ("pairwise", "大模型评审", "Pairwise verdicts", pairwise(given)),
        ("exam", "考试", "Exams", exam(given)),
        ("contamination", "训练集与评测集", "Contamination", contamination(given)),
        ("lengths", "长度的影响", "Effects of length", lengths.lengths(given, gathered)),
        ("figure2", "图 2：消融", "Figure 2: ablation", figures.ablation(given)),
        ("data", "数据的去留", "Retention", corpus.retention(given, drawn.lost)),
        ("evidence", "供判断的样例", "Samples to judge", evidence.evidence(given, drawn)),
        ("training", "训练", "Training", training.curves(given)),
        ("items", "逐题浏览", "Item browser", samples.browser(given, gathered, config.num_items)),
        ("samples", "答案样例", "Sample answers", samples.samples(given, gathered, config.num_samples)),
        ("reproduce", "如何重现", "How to reproduce", provenance.reproduce(given, config.command)),
    )
    made = tuple(Section(key, Both(zh, en), blocks) for key, zh, en, blocks in sections if blocks)
    return Report(config.title, scores.findings(given.summary), made)


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """Write `report.html`, `report.md` and `report.json` from whatever stages are given."""
    from medchatzh.report import html, markdown

    report = build(config, inputs, context)
    (out / "report.html").write_text(html.render(report), "utf-8")
    (out / "report.md").write_text(markdown.render(report), "utf-8")
    (out / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return Result(num_in=len(inputs), num_out=1, facts={"sections": [section.key for section in report.sections]})
