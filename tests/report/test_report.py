import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import report
from medchatzh.metrics.pairwise import FILE, Pairwise, Reliability, Share, Versus
from medchatzh.metrics.summary import JUDGE, RewardModel, Summary
from medchatzh.metrics.summary import load as load_summary
from medchatzh.records import Dialogue, Prediction, Reject, Score, Turn, read, write
from medchatzh.report import markdown
from medchatzh.report.charts import Bars, Forest, Histogram, Lines
from medchatzh.report.data import Inputs, hide, quote
from medchatzh.report.draws import Draw
from medchatzh.report.flow import Flow
from medchatzh.report.quotes import differences, marked, transcript
from medchatzh.report.training import smooth, thin
from medchatzh.report.view import Figure, Points, Quotes, Report, Row, Sample, Section, Table, Text
from medchatzh.run import Context
from tests.report.conftest import finish

CONTEXT = Context(seed=7)
CONFIG = report.Config(title="测试 <报告>", note="替代的评测集", command="medchatzh run recipes/quickstart.toml")
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Balance(HTMLParser):
    """Fails on a tag that is closed out of order; keeps what was seen."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def build(inputs: dict[str, Path], **changes) -> Report:
    return report.build(msgspec.structs.replace(CONFIG, **changes), inputs, CONTEXT)


def section(made: Report, key: str) -> Section:
    return next(found for found in made.sections if found.key == key)


def tables(made: Report, key: str) -> list[Table]:
    return [block for block in section(made, key).blocks if isinstance(block, Table)]


def words(made: Report, key: str) -> str:
    """The sentences of a section."""
    blocks = section(made, key).blocks
    items = [item for block in blocks if isinstance(block, Points) for item in block.items]
    return "\n".join(str(text.text) for text in [*(block for block in blocks if isinstance(block, Text)), *items])


def row(table: Table, start: str) -> Row:
    return next(found for found in table.rows if found.cells[0].text.startswith(start))


def rewrite(folder: Path, change: Callable[[Summary], Summary]) -> None:
    path = folder / "summary.json"
    path.write_bytes(msgspec.json.encode(change(load_summary(path))))


def run(inputs: dict[str, Path], out: Path) -> dict[str, str]:
    out.mkdir()
    result = report.run(CONFIG, inputs, out, CONTEXT)
    assert result.num_in == len(inputs)
    return {path.suffix: path.read_text("utf-8") for path in out.iterdir()}


def test_equal_inputs_give_equal_bytes_and_no_time_or_place(finished_run, tmp_path):
    first, second = run(finished_run, tmp_path / "a"), run(finished_run, tmp_path / "b")
    assert first == second
    assert set(first) == {".html", ".md", ".json"}
    for text in first.values():
        assert str(tmp_path) not in text
        assert "seconds" not in text
        assert not re.search(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}", text)


def test_page_is_well_formed_self_contained_and_accessible(finished_run, tmp_path):
    page = run(finished_run, tmp_path / "out")[".html"]
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    tags = [tag for tag, _ in balance.seen]
    scripts = [at for tag, at in balance.seen if tag == "script"]
    assert scripts == [{"type": "application/json", "class": "browser-data"}, {}] and "link" not in tags and "img" not in tags
    assert not any(
        name in ("src", "onclick") or (name == "href" and not value.startswith("#")) for _, at in balance.seen for name, value in at.items()
    )
    assert "@import" not in page and "url(" not in page
    assert page.count("<svg") == page.count('role="img"') == tags.count("svg") > 5
    identifiers = [at["id"] for _, at in balance.seen if "id" in at]
    assert len(identifiers) == len(set(identifiers)) == 14
    assert {at["href"][1:] for tag, at in balance.seen if tag == "a"} == set(identifiers)


def test_hostile_text_is_shown_and_not_obeyed(finished_run, tmp_path):
    written = run(finished_run, tmp_path / "out")
    assert written[".html"].count("<script") == 2, "the questions as data, and the page's own"
    data = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', written[".html"], re.DOTALL)[1])
    assert "<script>alert('x')</script>" in data["items"][0]["question"]
    assert "{{7*7}}" in html.unescape(written[".html"])
    assert "测试 &lt;报告&gt;" in written[".html"]
    assert "<script" not in re.sub(r"\\<", "", written[".md"])


def test_markdown_tables_keep_their_columns(finished_run, tmp_path):
    lines = run(finished_run, tmp_path / "out")[".md"].splitlines()
    bars = re.compile(r"(?<!\\)\|")
    width = 0
    checked = 0
    for line in lines:
        if not line.startswith("|"):
            width = 0
            continue
        width = width or len(bars.findall(line))
        assert len(bars.findall(line)) == width, line
        checked += 1
    assert checked > 100


def test_both_renderings_have_all_sections_and_every_table(finished_run, tmp_path):
    written = run(finished_run, tmp_path / "out")
    made = build(finished_run)
    page = html.unescape(written[".html"])
    for found in made.sections:
        assert f"{found.title.zh} / {found.title.en}" in written[".md"]
        assert found.title.zh in page
        for block in found.blocks:
            if isinstance(block, Table):
                assert markdown.escape(str(block.caption)) in written[".md"]
                assert block.caption.zh in page
    assert json.loads(written[".json"])["findings"][0]["main"] == "medchatzh"


def test_defeat_by_a_floor_is_said_first_and_plainly(finished_run):
    made = build(finished_run)
    said = words(made, "findings")
    assert "主模型在 BLEU-1、BLEU-2、BLEU-3、BLEU-4 上输给 canned（固定答案）（strict 协议" in said
    assert "BLEU-1 −2.00 [−2.50, −1.50]" in said
    headline = section(made, "findings").blocks[0]
    assert isinstance(headline, Text)
    assert headline.tone == "bad"
    assert "没有胜过全部下限" in headline.text.zh
    points = next(block for block in section(made, "findings").blocks if isinstance(block, Points))
    assert points.items[0].tone == "bad"
    assert "68 次配对比较" in said


def test_findings_count_verdicts(finished_run):
    said = words(build(finished_run), "findings")
    assert "主模型胜过 before_sft（微调前）（strict 协议，121 题）：8 项更好" in said
    assert "无法区分主模型与 random（随机答案）（medchatzh 协议，121 题）：8 项无法区分" in said


def test_table_1_never_ranks_copied_rows(finished_run):
    made = build(finished_run)
    strict, five = tables(made, "table1")[:2]
    for table in (strict, five):
        copied = [found for found in table.rows if found.kind == "copied"]
        assert [found.cells[0].text for found in copied] == [
            "GPT-3.5-turbo",
            "HuatuoGPT 13B",
            "ChatGLM-Med 6B",
            "BenTsao 7B",
            "MedChatZH 7B",
        ]
        assert not any(cell.best for found in copied for cell in found.cells)
        assert [found.kind for found in table.rows[:5]] == ["main", "", "", "floor", "floor"]
    assert row(strict, "MedChatZH 7B").cells[2].text == "56.31"
    best = [cell.best for cell in (found.cells[2] for found in strict.rows)]
    assert best == [False, False, False, True, False, *[False] * 5], "the floor has the best BLEU-1, and the mark"
    assert strict.signatures[0] == "BLEU|refs:strict|v:test"
    assert not any("medchatzh" in line for line in strict.signatures), "each table has its own signature"


def test_every_table_and_figure_of_scores_is_signed(finished_run):
    made = build(finished_run)
    unsigned = {"答案的样子", "答案有多长", "答案与参考的字数"}
    for key in ("findings", "table1", "protocols", "figure1", "figure2", "lengths"):
        shown = [block for block in section(made, key).blocks if isinstance(block, Table | Figure)]
        assert shown
        assert {block.caption.zh for block in shown if not block.signatures} <= unsigned
        for block in shown:
            if isinstance(block, Table):
                assert all(markdown.escape(line) in markdown.render(made) for line in block.signatures)


def test_rows_over_other_numbers_of_questions_stand_apart_and_are_not_ranked(finished_run):
    def shrink(found: Summary) -> Summary:
        means = tuple(msgspec.structs.replace(mean, n=50) if mean.system == "random" else mean for mean in found.means)
        return msgspec.structs.replace(found, means=means)

    rewrite(finished_run["evaluate"], shrink)
    strict = tables(build(finished_run), "table1")[0]
    assert [group[0].cells[0].text for group in strict.groups()] == [
        "medchatzh",
        "random（随机答案）",
        "GPT-3.5-turbo",
    ]
    assert not any(cell.best for cell in row(strict, "random").cells) and row(strict, "random").cells[1].text == "50"
    assert row(strict, "canned").cells[2].best
    assert "random" in next(table for table in tables(build(finished_run), "protocols")).notes[-1].zh


def test_a_human_has_other_references_and_is_never_ranked_with_models(finished_run, tmp_path):
    folder = tmp_path / "human"
    folder.mkdir()
    shutil.copy(finished_run["generate@canned"] / "predictions.jsonl", folder)
    manifest = json.loads((finished_run["generate@canned"] / "manifest.json").read_text("utf-8"))
    (folder / "manifest.json").write_text(json.dumps(manifest | {"config": {"system": "doctor", "kind": "human"}}), "utf-8")

    def joined(found: Summary) -> Summary:
        means = tuple(msgspec.structs.replace(mean, system="doctor", mean=99.0) for mean in found.means if mean.system == "canned")
        return msgspec.structs.replace(found, systems=(*found.systems, "doctor"), means=(*found.means, *means))

    rewrite(finished_run["evaluate"], joined)
    made = build(finished_run | {"generate@doctor": folder})
    strict = tables(made, "table1")[0]
    doctor = row(strict, "doctor（真人答案")
    assert doctor.kind == "" and doctor.cells[2].value == 99.0
    assert not any(cell.best for cell in doctor.cells) and row(strict, "canned").cells[2].best
    assert [found.cells[0].text for found in strict.groups()[1]] == [doctor.cells[0].text]
    assert not any("doctor" in found.cells[0].text for found in tables(made, "protocols")[0].rows)


def test_force_ranks_across_signatures_and_says_so(finished_run):
    made = build(finished_run, force=True)
    assert "‡ 强制排名" in words(made, "table1") and "‡" not in words(build(finished_run), "table1")
    strict = tables(made, "table1")[0]
    assert row(strict, "MedChatZH 7B").cells[2].best and not row(strict, "canned").cells[2].best
    assert len(strict.groups()) == 1 and strict.caption.zh.endswith("‡")


@pytest.mark.parametrize(("filtered", "expected"), [(True, "不是独立的证据"), (False, "没有参与训练数据的筛选"), (None, "无法确认")])
def test_a_judge_that_filtered_is_named(finished_run, filtered, expected):
    judge = RewardModel(metric="reward", fingerprint="abc", filtered=filtered)
    rewrite(finished_run["evaluate"], lambda found: msgspec.structs.replace(found, judges=(judge,)))
    assert expected in words(build(finished_run), "figure1")


def test_of_two_judges_the_independent_one_comes_first(finished_run):
    def second(found: Summary) -> Summary:
        again = tuple(msgspec.structs.replace(row, metric="reward@second") for row in found.by_category if row.protocol == JUDGE)
        judges = (
            RewardModel(metric="reward", fingerprint="a", filtered=True),
            RewardModel(metric="reward@second", fingerprint="b", filtered=False),
        )
        return msgspec.structs.replace(found, judges=judges, by_category=(*found.by_category, *again))

    rewrite(finished_run["evaluate"], second)
    charts = figures(build(finished_run), "figure1", Bars)
    assert [figure.chart.title for figure in charts] == ["reward@second by category", "reward by category", "ROUGE-L by category"]


def test_scores_on_the_clean_part_stand_beside_the_whole(finished_run):
    made = build(finished_run)
    overlap, strict, *_ = tables(made, "contamination")
    assert [cell.text for cell in overlap.rows[0].cells] == ["全部 / all", "121", "112", "4", "3", "2", "25.0 %", "10.0 %"]
    assert [(row.cells[1].text, row.cells[2].text) for row in strict.rows[:2]] == [("干净 / clean", "112"), ("全部 / all", "121")]
    assert strict.signatures
    assert "9 题" in words(made, "contamination")


def test_several_seeds_have_a_figure_of_their_own(finished_run):
    made = build(finished_run)
    (table,) = [table for table in tables(made, "figure2") if "种子 / seed 3" in table.columns]
    assert [cell.text for cell in table.rows[0].cells] == ["BLEU-1", "+2.00", "1.00", "2.00", "3.00", "121"]
    figure = next(figure for figure in figures(made, "figure2", Forest) if "3 个种子" in figure.caption.zh)
    assert {effect.tone for effect in figure.chart.effects} == {"even"}


def test_pairwise_verdicts_have_a_section_where_there_are_any(finished_run, tmp_path):
    assert not [found for found in build(finished_run).sections if found.key == "pairwise"]
    half = Share(mean=0.5, low=0.4, high=0.6, n=90)
    reliable = Reliability(
        num_verdicts=180,
        num_unreadable=2,
        unreadable=half,
        agreement=Share(mean=0.8, low=0.7, high=0.9, n=90),
        first_position=half,
        outcomes={},
    )
    one = Versus(
        main="medchatzh", other="canned", wins=40, ties=30, losses=19, num_unreadable=1, num_unpaired=0,
        win=half, tie=half, loss=half, score=Share(mean=0.618, low=0.52, high=0.71, n=89), reliability=reliable,
    )  # fmt: skip
    found = Pairwise(main="medchatzh", signature="pairwise|v:test", prompt="", versus=(one,), reliability=reliable)
    folder = finish(tmp_path / "pairwise", "judge")
    (folder / FILE).write_bytes(msgspec.json.encode(found))
    made = build(finished_run | {"pairwise": folder})
    (table,) = tables(made, "pairwise")
    assert [cell.text for cell in table.rows[0].cells][1:] == ["40", "30", "19", "1", "0.62", "0.80", "0.50"]
    assert table.signatures == ("pairwise|v:test",)
    assert "一致 80%" in words(made, "pairwise") and "有先后偏向" not in words(made, "pairwise")


def test_figure_1_fades_small_categories(finished_run):
    figure = next(block for block in section(build(finished_run), "figure1").blocks if isinstance(block, Figure))
    assert {group.label: group.faded for group in figure.chart.groups} == {
        "内科 n=40": False, "外科 n=35": False, "妇产科 n=31": False, "儿科* n=12": True, "其他* n=3": True
    }  # fmt: skip
    assert figure.chart.series[0].name == "medchatzh"


def test_without_a_judge_figure_1_falls_back_to_rouge(finished_run):
    def unjudged(found: Summary) -> Summary:
        keep = {
            name: tuple(entry for entry in getattr(found, name) if entry.protocol != JUDGE)
            for name in ("means", "by_category", "differences")
        }
        return msgspec.structs.replace(found, judges=(), **keep)

    rewrite(finished_run["evaluate"], unjudged)
    made = build(finished_run)
    assert "缺少输入 judge" in words(made, "figure1")
    (table,) = tables(made, "figure1")
    assert "ROUGE-L" in table.caption.zh


def test_figure_1_shows_the_reward_and_a_text_metric_of_one_protocol(finished_run):
    def doubled(found: Summary) -> Summary:
        five = tuple(msgspec.structs.replace(entry, protocol="medchatzh", mean=99.0) for entry in found.by_category)
        return msgspec.structs.replace(found, by_category=(*found.by_category, *five))

    rewrite(finished_run["evaluate"], doubled)
    reward, rouge = (block for block in section(build(finished_run), "figure1").blocks if isinstance(block, Figure))
    assert reward.signatures == ("reward|refs:judge|v:test",) and rouge.signatures == ("ROUGE|refs:strict|v:test",)
    assert len(rouge.chart.groups) == 5 and all(bar.value < 99 for group in rouge.chart.groups for bar in group.bars)


def test_figure_2_shows_arms_alone(finished_run):
    shown = figures(build(finished_run), "figure2", Forest)
    by_protocol = [f"medchatzh − no_medical ({name})" for name in ("strict", "medchatzh", "judge")]
    assert [figure.chart.title for figure in shown] == [*by_protocol, "medchatzh − no_medical"]
    assert shown[0].chart.effects[0].label == "BLEU-1"


def test_an_arm_that_was_trained_but_not_scored_is_named(finished_run):
    rewrite(finished_run["evaluate"], lambda found: msgspec.structs.replace(found, differences=(), ablations=()))
    assert "消融 no_medical 没有可比的分数" in words(build(finished_run), "figure2")


def figures(made: Report, key: str, kind: type) -> list[Figure]:
    return [block for block in section(made, key).blocks if isinstance(block, Figure) and isinstance(block.chart, kind)]


def quotes(made: Report) -> dict[str, Quotes]:
    """Start of the caption → what can be unfolded."""
    return {block.caption.zh.partition("（")[0]: block for block in section(made, "evidence").blocks if isinstance(block, Quotes)}


def words_of(block: Quotes) -> list[str]:
    return ["".join(piece.text for piece in side.pieces) for quote in block.quotes for side in quote.sides]


def test_flow_follows_sources_through_all_stages(finished_run):
    (figure,) = figures(build(finished_run), "data", Flow)
    assert figure.chart.columns == ("原始行", "读入", "清洗后", "奖励筛选后", "混合")
    assert {band.name: band.counts for band in figure.chart.bands} == {
        "clinic": (805, 800, 670, 536, 520),
        "belle": (400, 400, 380, 380, 380),
    }
    assert [band.tone for band in figure.chart.bands] == ["main", "s2"], "medical first, each pool in its colour"


def test_without_a_mix_the_flow_ends_with_what_sft_reads(finished_run):
    del finished_run["mix"]
    manifest = json.loads((finished_run["sft"] / "manifest.json").read_text("utf-8"))
    (finished_run["sft"] / "manifest.json").write_text(json.dumps(manifest | {"config": {"pools": ["medical"]}}), "utf-8")
    (figure,) = figures(build(finished_run), "data", Flow)
    assert {band.name: band.counts[-1] for band in figure.chart.bands} == {"clinic": 536, "belle": 0}


def test_many_sources_are_drawn_as_the_largest_and_one_rest(finished_run):
    path = finished_run["curate"] / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["facts"]["by_source"] = {f"s{number:02}": {"num_in": number, "num_out": number, "dropped": {}} for number in range(1, 31)}
    path.write_text(json.dumps(manifest), "utf-8")
    made = build(finished_run)
    (figure,) = figures(made, "data", Flow)
    assert len(figure.chart.bands) == 16
    assert figure.chart.bands[-1].name == "其余 15 个" and figure.chart.bands[-1].counts[0] == sum(range(1, 16))
    assert len(next(table for table in tables(made, "data") if table.caption.zh == "按来源的保留").rows) == 30


def test_lengths_are_drawn_before_and_after(finished_run):
    (figure,) = figures(build(finished_run), "data", Histogram)
    assert (figure.chart.labels, figure.chart.before, figure.chart.after) == (("0–19", "20–199", "≥ 200"), (150, 600, 50), (30, 590, 50))


def test_the_threshold_is_marked_on_the_retention_curve(finished_run):
    (figure,) = figures(build(finished_run), "data", Lines)
    assert figure.chart.marks == ((-1.2, "阈值 −1.200"),)
    assert figure.chart.lines[0].points[0] == (-2.0, 1.0)


def test_the_mix_is_counted_by_pool_and_source(finished_run):
    table = next(found for found in tables(build(finished_run), "data") if found.caption.zh == "混合")
    assert [cell.text for cell in row(table, "clinic").cells] == ["clinic", "536", "530", "6", "16"]
    assert row(table, "医疗").cells[2].value == 530


@pytest.mark.parametrize("kinds", [{"exact": 20, "contained": 10}, 30])
def test_overlap_with_the_benchmark_by_source_and_kind(finished_run, kinds):
    path = finished_run["curate"] / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["facts"]["benchmark_overlap"] = {"clinic": kinds}
    path.write_text(json.dumps(manifest), "utf-8")
    made = build(finished_run)
    assert "1,200 条中 30 条" in words(made, "data")
    table = next(found for found in tables(made, "data") if found.caption.zh == "与评测集的重叠")
    assert [cell.text for cell in row(table, "clinic").cells][-2:] == ["30", "3.8 %"]
    assert len(table.columns) == (5 if isinstance(kinds, dict) else 3)


def test_reasons_have_counts_and_shares(finished_run):
    table = next(found for found in tables(build(finished_run), "data") if found.caption.zh == "舍弃的原因")
    cells = [tuple(cell.text for cell in found.cells) for found in table.rows]
    assert ("curate", "too_short", "120", "10.0 %") in cells
    assert ("score", "low_reward", "134", "20.0 %") in cells


def test_sources_lose_to_the_reward_filter_too(finished_run):
    table = next(found for found in tables(build(finished_run), "data") if found.caption.zh == "按来源的保留")
    assert [cell.text for cell in row(table, "clinic").cells][1:] == [
        "805",
        "800",
        "670",
        "536",
        "520",
        "64.6 %",
        "too_short 100，in_benchmark 30",
    ]
    assert row(table, "belle").cells[4].text == "380"


def test_rejects_of_each_reason_are_seeded_short_and_masked(finished_run):
    def drawn(seed: int, num_rejects: int = 3) -> dict[str, list[str]]:
        made = report.build(msgspec.structs.replace(CONFIG, num_rejects=num_rejects), finished_run, Context(seed=seed))
        return {name: [quote.head for quote in block.quotes] for name, block in quotes(made).items() if " · " in name}

    shown = drawn(1)
    assert {name: len(ids) for name, ids in shown.items()} == {
        "ingest · bad_row": 3, "curate · too_short": 3, "curate · in_benchmark": 3, "score · low_reward": 3
    }  # fmt: skip
    assert shown == drawn(1) != drawn(2)
    assert len(drawn(1, 20)["curate · too_short"]) == 20
    assert not any(drawn(1, 0).values())
    block = quotes(build(finished_run))["curate · too_short"]
    assert block.caption.en == "20 of 120"
    assert all(len(said) <= 242 and "13800138000" not in said for said in words_of(block))


def plant(folder: Path, *planted: Reject) -> None:
    path = folder / "rejects.jsonl"
    write(path, [*read(path, Reject), *planted])


def spoken(question: str, answer: str) -> dict:
    return {"turns": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def test_what_a_rule_saw_is_marked(finished_run):
    record = spoken("孩子发烧怎么办", "甲" * 400 + "建议多喝水，以及")
    plant(finished_run["curate"], Reject(id="clinic:5", stage="curate", reason="cut_off", span=(1, 406, 408), record=record))
    (quote,) = quotes(build(finished_run))["curate · cut_off"].quotes
    pieces = quote.sides[0].pieces
    assert [piece.text for piece in pieces if piece.marked] == ["以及"]
    assert "".join(piece.text for piece in pieces).endswith("多喝水，以及") and pieces[0].text == "…"


def test_masked_values_stand_in_their_context(finished_run):
    record = spoken("在哪里看", "乙" * 300 + "联系<手机>，微信<微信>")
    plant(finished_run["curate"], Reject(id="clinic:6", stage="curate", reason="personal_data", detail="mobile,wechat", record=record))
    made = build(finished_run)
    mobile, wechat = (quotes(made)[f"<{kind}> 的前后文"].quotes[0] for kind in ("手机", "微信"))
    assert [piece.text for piece in mobile.sides[0].pieces if piece.marked] == ["<手机>"]
    assert "联系" in words_of(quotes(made)["<手机> 的前后文"])[0] and len(words_of(quotes(made)["<手机> 的前后文"])[0]) <= 82
    assert wechat.head == "clinic:6"
    counted = next(table for table in tables(made, "evidence") if table.caption.zh == "个人信息的种类")
    assert [cell.text for cell in counted.rows[0].cells] == ["mobile", "7"]


def test_where_values_are_masked_the_samples_come_from_the_kept_records(finished_run):
    path = finished_run["curate"] / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(manifest | {"config": {"personal_data": "mask"}}), "utf-8")
    turns = (Turn("user", "怎么预约"), Turn("assistant", "打<手机>"))
    plain = Dialogue(id="clinic:4", turns=turns)
    write(finished_run["curate"] / "medical.jsonl", [Dialogue(id="clinic:3", turns=turns, edits=("personal_data",)), plain])
    assert [quote.head for quote in quotes(build(finished_run))["<手机> 的前后文"].quotes] == ["clinic:3"]


def test_near_duplicates_stand_side_by_side_with_their_differences_marked(finished_run):
    (quote,) = quotes(build(finished_run))["近似重复的对照"].quotes
    assert quote.head == "J = 0.88"
    assert [side.label for side in quote.sides] == ["舍弃 / dropped clinic:9", "保留 / keeper clinic:1"]
    assert [[piece.text for piece in side.pieces if piece.marked] for side in quote.sides] == [["浓茶"], ["咖啡"]]
    assert not any("13800138000" in piece.text for side in quote.sides for piece in side.pieces)


def test_boilerplate_is_listed_with_counts(finished_run):
    table = next(found for found in tables(build(finished_run), "evidence") if "许多不同问题" in found.caption.zh)
    assert [cell.text for cell in table.rows[0].cells] == ["祝您早日康复", "41"]


def test_a_draw_is_uniform_seeded_and_in_order():
    def drawn(seed: str, size: int = 5) -> list[int]:
        draw = Draw(seed, size)
        for item in range(20):
            draw.add(item)
        return list(draw)

    assert drawn("a") == drawn("a") == sorted(drawn("a")) != drawn("b")
    assert drawn("a", 30) == list(range(20)) and drawn("a", 0) == []
    counts = Counter(item for seed in range(2000) for item in drawn(str(seed)))
    assert all(400 < counts[item] < 600 for item in range(20)), "each item in a quarter of the draws"


@given(st.text(max_size=50), st.text(max_size=50))
def test_what_is_not_marked_is_common_to_both(first, second):
    spans = differences(first, second)
    rest = ["".join(text[end:start] for (_, end), (start, _) in zip([(0, 0), *own], [*own, (len(text), 0)], strict=True))
            for text, own in zip((first, second), spans, strict=True)]  # fmt: skip
    assert rest[0] == rest[1]


@given(st.text("甲乙丙 \n1", max_size=80), st.integers(0, 80), st.integers(0, 80), st.integers(1, 60))
def test_marked_pieces_are_a_window_of_the_text(text, start, end, limit):
    start, end = sorted((min(start, len(text)), min(end, len(text))))
    pieces = marked(text, [(start, end)], limit)
    shown = "".join(piece.text for piece in pieces if piece.text != "…")
    assert shown in text.replace("\n", "↵") and len(shown) == min(limit, len(text))
    if end - start and end - start <= limit // 2:
        assert "".join(piece.text for piece in pieces if piece.marked) == text[start:end].replace("\n", "↵")
    else:
        assert all(piece.text in text.replace("\n", "↵") for piece in pieces if piece.marked)


@pytest.mark.parametrize(
    ("record", "text", "starts"),
    [
        (spoken("问题", "答案"), "问：问题\n答：答案", [2, 7]),
        ({"turns": ["no turn"]}, '{"turns":["no turn"]}', []),
        ({"text": "一章"}, "一章", []),
        ("raw row", "raw row", []),
        (None, "", []),
        ([1, 2], "[1,2]", []),
    ],
)
def test_records_of_any_form_have_a_text(record, text, starts):
    assert transcript(record) == (text, starts)


@given(st.text())
def test_hiding_keeps_places(text):
    assert len(hide(text)) == len(text)


def test_reward_model_is_held_against_length(finished_run):
    assert "无法区分" in words(build(finished_run), "training") and "+0.020 [-0.030, +0.060]" in words(build(finished_run), "training")


@pytest.mark.parametrize(("low", "high", "said"), [(0.01, 0.05, "胜过“长者胜”"), (-0.05, -0.01, "不如“长者胜”")])
def test_the_difference_to_length_decides_what_is_said(finished_run, low, high, said):
    manifest = finished_run["reward"] / "manifest.json"
    found = json.loads(manifest.read_text(encoding="utf-8"))
    found["facts"]["held_out"]["all"]["above_length"] = {"difference": (low + high) / 2, "low": low, "high": high}
    manifest.write_text(json.dumps(found), encoding="utf-8")
    assert said in words(build(finished_run), "training")


def test_calibration_and_planted_defects_are_shown(finished_run):
    shown = repr(section(build(finished_run), "training").blocks)
    assert "ECE" in shown and "0.021" in shown and "0.410" in shown  # error and temperature
    assert "重复 / repeated" in shown and "0.987" in shown and "没教过 / never taught" in shown


def test_samples_spread_over_categories_with_scores(finished_run):
    made = [block for block in section(build(finished_run, num_samples=7), "samples").blocks if isinstance(block, Sample)]
    assert len(made) == 7
    assert {sample.category for sample in made} == {"内科", "外科", "妇产科", "儿科", "其他"}
    assert made[0].replies[0].system == "medchatzh"
    kept = {
        (score.id, score.metric): score.value
        for score in read(finished_run["evaluate"] / "scores.jsonl", Score)
        if score.system == "medchatzh"
    }
    for sample in made:
        expected = {
            "BLEU-1": kept[sample.id, "strict/BLEU-1"],
            "ROUGE-L": kept[sample.id, "strict/ROUGE-L"],
            "reward": kept[sample.id, "reward"],
        }
        assert sample.replies[0].figures == expected
    assert made[0].references[0].startswith("真实答案") and made[0].sampled[0].startswith("别题的答案")


def test_a_system_without_predictions_is_named(finished_run):
    assert "没有任何答案的系统：silent" in words(build(finished_run), "samples")


def test_main_without_predictions_is_said(finished_run):
    (finished_run["generate@medchatzh"] / "predictions.jsonl").write_bytes(b"")
    made = build(finished_run)
    assert "没有任何答案的系统：medchatzh、silent" in words(made, "samples")
    sample = next(block for block in section(made, "samples").blocks if isinstance(block, Sample))
    assert "before_sft（微调前）" in [reply.system for reply in sample.replies]


@pytest.mark.parametrize(
    "label",
    [
        "ingest",
        "curate",
        "books",
        "tokenizer",
        "pretrain",
        "reward",
        "score",
        "sft",
        "sft@no_medical",
        "judge",
        "evaluate",
        "generate@medchatzh",
    ],
)
def test_any_stage_may_be_missing(finished_run, tmp_path, label):
    del finished_run[label]
    written = run(finished_run, tmp_path / "out")
    if label not in ("tokenizer", "sft@no_medical", "judge", "generate@medchatzh"):
        assert f"缺少输入 {label}" in written[".md"]


def test_an_evaluation_alone_makes_a_report(summarized, finished_run, tmp_path):
    inputs = summarized(load_summary(finished_run["evaluate"] / "summary.json"))
    written = run(inputs, tmp_path / "out")
    for label in ("ingest", "curate", "pretrain", "reward", "sft", "score", "generate@…"):
        assert f"缺少输入 {label}" in written[".md"]


def test_no_input_at_all_makes_a_report_that_says_so(tmp_path):
    assert "缺少输入 evaluate" in run({}, tmp_path / "out")[".html"]


def test_an_empty_evaluation_is_no_crash(finished_run, summarized, tmp_path):
    def emptied(found: Summary) -> Summary:
        nothing = dict.fromkeys(("means", "by_category", "differences", "answers"), ())
        return msgspec.structs.replace(found, categories={}, **nothing)

    rewrite(finished_run["evaluate"], emptied)
    written = run(finished_run, tmp_path / "out")
    assert "无从比较" in written[".md"]
    assert "没有按类别的分数" in written[".md"]


def test_bare_manifests_are_enough(finished_run, tmp_path):
    for folder in finished_run.values():
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text("utf-8")) | {"facts": {}, "config": {}, "dropped": {}, "versions": {}}
        path.write_text(json.dumps(manifest), "utf-8")
        for name in ("metrics.jsonl", "rejects.jsonl", "scores.jsonl", "questions.jsonl"):
            (folder / name).unlink(missing_ok=True)
    assert "没有留下损失记录" in run(finished_run, tmp_path / "out")[".md"]


def test_a_folder_that_is_no_stage_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a finished stage"):
        Inputs({"sft": tmp_path})


def test_config_refuses_negative_numbers():
    with pytest.raises(ValueError, match="num_samples"):
        report.Config(num_samples=-1)


def test_each_stage_has_its_command(finished_run):
    made = build(finished_run, command="medchatzh run r.toml --set run.seed=3")
    table = tables(made, "reproduce")[0]
    found = {cells[0].text: cells[-1].text for cells in (found.cells for found in table.rows)}
    assert found["evaluate"] == "medchatzh evaluate r.toml --set run.seed=3"
    assert found["sft@no_medical"] == "medchatzh sft r.toml --set run.seed=3 --arm no_medical"
    assert found["judge"] == "medchatzh score r.toml --set run.seed=3 --arm judge"
    assert {
        cells.text for cells in (found.cells[-1] for found in tables(build(finished_run, command="make demo"), "reproduce")[0].rows)
    } == {"—"}


def test_import_is_light():
    code = "import sys; import medchatzh.report; print([name for name in ('jinja2', 'numpy', 'nltk', 'torch') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_predictions_of_a_repeated_id_count_once(finished_run):
    path = finished_run["generate@canned"] / "predictions.jsonl"
    write(path, [*read(path, Prediction)] * 2)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    samples = [block for block in section(build(finished_run), "samples").blocks if isinstance(block, Sample)]
    assert all(len([reply for reply in sample.replies if reply.system.startswith("canned")]) == 1 for sample in samples)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before, "a report changes nothing"


@pytest.mark.parametrize(
    "text",
    [
        "电话13800138000",
        "138 0013 8000",
        "138-0013-8000",
        "１３８００１３８０００",
        "身份证11010119900307123X",
        "信箱a.b@x.com",
        "ａ@x",
        "微信abc1234",
    ],
)
def test_quoted_texts_lose_personal_data(text):
    assert not re.search(r"[0-9０-９]{4}|a\.b@", quote(text, 99))


def test_a_name_is_hidden_wherever_it_stands_in_a_quote():
    assert quote("我叫王建国，胃疼。王建国你好", 99) == "我叫▇▇▇，胃疼。▇▇▇你好"
    assert hide("QQ：12345，微信abc12，12345 67890123，abc12@qq.com") == "QQ：▇▇▇▇▇，微信▇▇▇▇▇，▇▇▇▇▇▇▇▇▇▇▇▇▇▇，▇▇▇▇▇▇▇▇▇▇▇▇"
    assert hide("姓名：李小明 性别：女，我叫某某") == "姓名：▇▇▇ 性别：女，我叫某某"


@pytest.mark.parametrize("text", ["血压120/80", "服用0.25g，每日3次", "2010年9月", "血小板200000"])
def test_quoted_texts_keep_medical_numbers(text):
    assert quote(text, 99) == text


@given(st.text(), st.integers(1, 50))
def test_quotes_are_one_line_within_the_limit(text, limit):
    shown = quote(text, limit)
    assert len(shown) <= limit
    assert "\n" not in shown


@given(st.text())
def test_escaped_markdown_has_no_live_bar_or_tag(text):
    escaped = markdown.escape(text)
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<*`]", escaped)
    assert "\n" not in escaped


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=200))
def test_smoothing_stays_within_the_values(values):
    points = list(enumerate(values))
    smoothed = smooth(points)
    assert [step for step, _ in smoothed] == [step for step, _ in points]
    assert all(min(values) - 1e-9 <= value <= max(values) + 1e-9 for _, value in smoothed)


@given(st.integers(0, 2000), st.integers(1, 50))
def test_thinning_keeps_both_ends(size, limit):
    points = [(float(step), 0.0) for step in range(size)]
    kept = thin(points, limit)
    assert len(kept) <= limit + 1
    assert (kept[:1], kept[-1:]) == (points[:1], points[-1:])
