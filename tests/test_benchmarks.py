"""What is known of benchmarks: table 2 of the paper, the reconciliation of the counts, and under which name questions may be shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import benchmarks
from medchatzh.records import Question


def asked(number: int, category: str = "内科", split: str = "test", **more) -> Question:
    fields = {"question": "问", "references": ("答",), "distractors": ("甲", "乙", "丙", "丁")} | more
    return Question(
        id=f"web:{number}", source="webmedqa", category=category, origin=f"webmedqa/{split}.zip!medQA.{split}.txt:{number}", **fields
    )


def test_table_2_has_the_papers_23_categories_once():
    printed = [category for size in benchmarks.TABLE_2 for category in size.categories]
    assert [len(size.categories) for size in benchmarks.TABLE_2] == [2, 2, 7, 12]
    assert len(set(printed)) == 23 == len(printed)
    assert set(benchmarks.ENGLISH.values()) == set(printed)


def test_the_papers_counts_are_reconciled():
    sizes = benchmarks.SIZES["webMedQA"]
    repeated = benchmarks.PUBLISHED_QUESTIONS - benchmarks.PAPER_QUESTIONS
    assert sum(sizes.values()) == benchmarks.PUBLISHED_QUESTIONS
    published = [asked(number % benchmarks.PAPER_QUESTIONS) for number in range(benchmarks.PUBLISHED_QUESTIONS)]
    table = benchmarks.table2(published)
    assert (table.num_loaded, table.num_repeated, table.num_scored) == (63_284, repeated, 63_255)
    assert table.num_own_answers == 63_284 and repeated == 29
    page = benchmarks.markdown(table, "webMedQA")
    assert "63,284 loaded = 29 with a repeated id + 63,255 to be scored; 63,284 answers with label 1." in page


def test_sizes_by_category_and_split():
    questions = [*(asked(n, "内科", "train") for n in range(12_000)), *(asked(n, "儿科", "valid") for n in range(20_000, 20_030))]
    questions += [asked(30_000, "怪科", "test"), asked(30_000, "怪科", "test"), asked(5, "外科", "test")]
    table = benchmarks.table2(questions)
    assert table.splits == {"train": 12_000, "valid": 30, "test": 1}
    assert [(row.category, row.english, row.num_questions, row.printed, row.agrees) for row in table.rows] == [
        ("内科", "Internal Medicine", 12_000, ">10000", True),
        ("儿科", "Pediatrics", 30, "5000-10000", False),
        ("怪科", "", 1, "", None),
    ]
    assert table.rows[1].by_split == {"train": 0, "valid": 30, "test": 0}
    page = benchmarks.markdown(table, "x")
    assert "| 内科 | Internal Medicine | 12,000 | 12,000 | 0 | 0 | >10000 | yes |" in page
    assert "| >10000 | 2 | 1 | 1 | Internal Medicine |" in page
    assert "The smallest category, Other: 30 in the paper, none here." in page


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["内科", "外科", ""]), st.sampled_from(["train", "test", "x"])), max_size=30))
def test_counts_add_up(drawn):
    table = benchmarks.table2(asked(*one) for one in drawn)
    assert table.num_loaded == len(drawn) == table.num_repeated + table.num_scored
    assert sum(row.num_questions for row in table.rows) == table.num_scored == sum(table.splits.values())
    assert all(sum(row.by_split.values()) == row.num_questions for row in table.rows)


@pytest.mark.parametrize(
    ("origin", "split"),
    [
        ("medQA.test.txt:3", "test"),
        ("train.zip!medQA_train.txt:3", "train"),
        ("a/dev_candidates.txt:3", "dev"),
        ("webmedqa/VALID/part.txt:9", "valid"),
        ("latest.txt:1", ""),
        ("training.txt:1", ""),
    ],
)
def test_the_split_stands_in_the_files_name(origin, split):
    assert benchmarks.split_of(origin) == split


@pytest.mark.parametrize(
    ("source", "count", "shown"),
    [
        ("webmedqa", 6_337, "webMedQA"),
        ("web_MedQA", 63_255, "webMedQA"),
        ("huatuo26m", 6_000, "huatuo-26M"),
        ("cmtmedqa", 1_144, "CMtMedQA"),
        ("toyhom_stand_in", 700, "toyhom_stand_in"),
        ("webmedqa", 700, "webmedqa (stand-in or part: 700 questions; webMedQA has 50,610, 6,337, 6,337)"),
        ("cmedqa2", 4_001, "cmedqa2 (stand-in or part: 4,001 questions; cMedQA2 has 100,000, 4,000, 4,000)"),
    ],
)
def test_only_as_many_questions_as_the_benchmark_has_may_bear_its_name(source, count, shown):
    assert benchmarks.shown_name(source, count) == shown


def test_a_sample_is_fixed_and_in_order():
    questions = [asked(number) for number in range(50)]
    chosen = benchmarks.sample(questions, 10, seed=3)
    assert chosen == benchmarks.sample(questions, 10, seed=3) != benchmarks.sample(questions, 10, seed=4)
    assert len(chosen) == 10 and chosen == sorted(chosen, key=lambda one: int(one.id.partition(":")[2]))
    assert benchmarks.sample(questions, 0, 3) == benchmarks.sample(questions, 99, 3) == questions


def test_a_page_has_each_source_under_its_own_name():
    page = benchmarks.page([asked(1), asked(2), Question(id="mine:1", source="mine", question="问", references=("答",))])
    assert [line for line in page.splitlines() if line.startswith("# ")] == [
        "# webmedqa (stand-in or part: 2 questions; webMedQA has 50,610, 6,337, 6,337)",
        "# mine",
    ]
    assert "2 loaded = 0 with a repeated id + 2 to be scored" in page
