import hashlib
import html
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import report
from medchatzh.metrics.summary import JUDGE, Summary
from medchatzh.metrics.summary import load as load_summary
from medchatzh.records import Prediction, read, write
from medchatzh.report import markdown
from medchatzh.report.data import Inputs, quote, record_text
from medchatzh.report.samples import draw
from medchatzh.report.training import smooth, thin
from medchatzh.report.view import Figure, Points, Report, Row, Sample, Section, Table, Text
from medchatzh.run import Context

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
    assert "script" not in tags and "link" not in tags and "img" not in tags
    assert not any(
        name in ("src", "onclick") or (name == "href" and not value.startswith("#")) for _, at in balance.seen for name, value in at.items()
    )
    assert "@import" not in page and "url(" not in page
    assert page.count("<svg") == page.count('role="img"') == tags.count("svg") > 5
    identifiers = [at["id"] for _, at in balance.seen if "id" in at]
    assert len(identifiers) == len(set(identifiers)) == 9
    assert {at["href"][1:] for tag, at in balance.seen if tag == "a"} == set(identifiers)


def test_hostile_text_is_shown_and_not_obeyed(finished_run, tmp_path):
    written = run(finished_run, tmp_path / "out")
    assert "<script" not in written[".html"]
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
    assert any(note.zh == "BLEU|refs:strict|v:test" for note in strict.notes)
    assert not any("medchatzh" in note.zh for note in strict.notes), "each table has its own signature"


def test_nothing_is_best_where_systems_answered_different_numbers_of_questions(finished_run):
    def shrink(found: Summary) -> Summary:
        means = tuple(msgspec.structs.replace(mean, n=50) if mean.system == "random" else mean for mean in found.means)
        return msgspec.structs.replace(found, means=means)

    rewrite(finished_run["evaluate"], shrink)
    strict = tables(build(finished_run), "table1")[0]
    assert not any(cell.best for found in strict.rows for cell in found.cells)
    assert row(strict, "random").cells[1].text == "50"


@pytest.mark.parametrize(
    ("fingerprint", "words_expected"), [("abc", "高分不是独立的证据"), ("other", "没有参与训练数据的筛选"), (None, "无法确认")]
)
def test_a_judge_that_filtered_is_named(finished_run, fingerprint, words_expected):
    path = finished_run["judge"] / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["facts"] = {"reward_fingerprint": fingerprint} if fingerprint else {}
    path.write_text(json.dumps(manifest), "utf-8")
    assert words_expected in words(build(finished_run), "figure1")


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
        return msgspec.structs.replace(found, **keep)

    rewrite(finished_run["evaluate"], unjudged)
    made = build(finished_run)
    assert "缺少输入 judge" in words(made, "figure1")
    assert "ROUGE-L" in tables(made, "figure1")[0].caption.zh


def test_figure_2_shows_arms_alone(finished_run):
    figures = [block for block in section(build(finished_run), "figure2").blocks if isinstance(block, Figure)]
    assert [figure.chart.title for figure in figures] == [f"medchatzh − no_medical ({name})" for name in ("strict", "medchatzh", "judge")]
    assert figures[0].chart.effects[0].label == "BLEU-1"


def test_an_arm_that_was_trained_but_not_scored_is_named(finished_run):
    rewrite(finished_run["evaluate"], lambda found: msgspec.structs.replace(found, differences=()))
    assert "消融 no_medical 没有可比的分数" in words(build(finished_run), "figure2")


def test_flow_follows_pools_through_curation_reward_and_sft(finished_run):
    figure = next(block for block in section(build(finished_run), "data").blocks if isinstance(block, Figure))
    assert {band.name: band.counts for band in figure.chart.bands} == {"通用": (400, 380, 380, 380), "医疗": (800, 670, 536, 536)}


def test_reasons_have_counts_and_shares(finished_run):
    table = next(found for found in tables(build(finished_run), "data") if found.caption.zh == "舍弃的原因")
    cells = [tuple(cell.text for cell in found.cells) for found in table.rows]
    assert ("curate", "too_short", "120", "10.0 %") in cells
    assert ("score", "low_reward", "134", "20.0 %") in cells


def test_sources_lose_to_the_reward_filter_too(finished_run):
    table = next(found for found in tables(build(finished_run), "data") if found.caption.zh == "按来源的保留")
    assert [cell.text for cell in row(table, "clinic").cells][1:6] == ["800", "670", "83.8 %", "536", "67.0 %"]
    assert row(table, "belle").cells[4].text == "380"


def test_reject_examples_are_few_seeded_short_and_masked(finished_run):
    def examples(seed: int, num_rejects: int = 3) -> list[tuple[str, ...]]:
        made = report.build(msgspec.structs.replace(CONFIG, num_rejects=num_rejects), finished_run, Context(seed=seed))
        found = [table for table in tables(made, "data") if table.caption.zh == "舍弃的例子"]
        return [tuple(cell.text for cell in line.cells) for table in found for line in table.rows]

    shown = examples(1)
    assert len(shown) == 12, "three for each of four reasons"
    assert shown == examples(1) != examples(2)
    assert all(len(line[-1]) <= 120 for line in shown)
    assert not any("13800138000" in cell for line in shown for cell in line)
    assert examples(1, num_rejects=0) == []


def test_reward_model_is_held_against_length(finished_run):
    assert "无法区分" in words(build(finished_run), "training")


def test_samples_spread_over_categories_with_scores(finished_run):
    made = [block for block in section(build(finished_run, num_samples=7), "samples").blocks if isinstance(block, Sample)]
    assert len(made) == 7
    assert {sample.category for sample in made} == {"内科", "外科", "妇产科", "儿科", "其他"}
    assert made[0].replies[0].system == "medchatzh"
    assert made[0].replies[0].figures == {"BLEU-1": 21.5, "ROUGE-L": 14.25, "reward": 0.5}
    assert made[0].references[0].startswith("真实答案")


def test_a_system_without_predictions_is_named(finished_run):
    assert "没有任何答案的系统：silent" in words(build(finished_run), "samples")


def test_main_without_predictions_is_said(finished_run):
    (finished_run["generate@medchatzh"] / "predictions.jsonl").write_bytes(b"")
    assert "主模型 medchatzh 没有答案" in words(build(finished_run), "samples")


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
    ["电话13800138000", "138 0013 8000", "138-0013-8000", "１３８００１３８０００", "身份证11010119900307123X", "信箱a.b@x.com", "ａ@x"],
)
def test_quoted_texts_lose_personal_data(text):
    assert not re.search(r"[0-9０-９]{4}|a\.b@", quote(text, 99))


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


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.sampled_from("abcd")), st.integers(0, 20), st.integers(0, 3))
def test_draw_spreads_and_repeats(questions, how_many, seed):
    chosen = draw(questions.items(), how_many, seed)
    assert chosen == draw(reversed(list(questions.items())), how_many, seed), "the order of the file does not matter"
    assert len(chosen) == len(set(chosen)) == min(how_many, len(questions))
    if how_many >= len(set(questions.values())):
        assert {questions[key] for key in chosen} == set(questions.values())


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


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"turns": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]}, "问 ▸ 答"),
        ({"text": "章节"}, "章节"),
        ({"question": "问"}, "问"),
        ("原文", "原文"),
        (None, ""),
        ([1, 2], "[1,2]"),
    ],
)
def test_text_of_any_record(record, text):
    assert record_text(record) == text
