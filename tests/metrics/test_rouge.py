"""ROUGE: rouge-score's arithmetic over characters, the best reference by kind."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from medchatzh.metrics import text_metrics
from medchatzh.metrics.rouge import Rouge
from medchatzh.metrics.segment import characters

TEXT = st.text("感冒多喝水，用药。a1", max_size=14)


def rouge(hypothesis: str, *references: str) -> dict[str, float]:
    return Rouge().score(characters(hypothesis), [characters(text) for text in references])


def test_equal_chinese_is_100_where_the_default_tokenizer_gives_0():
    assert set(rouge("多喝水", "多喝水").values()) == {100.0}
    assert RougeScorer(["rouge1"]).score("多喝水", "多喝水")["rouge1"].fmeasure == 0


def test_by_hand():
    # 水多喝热 / 多喝热水: 4 of 4 unigrams, bigrams 多喝 喝热 of 3 and 3, longest common subsequence 多喝热
    assert rouge("水多喝热", "多喝热水") == pytest.approx({"ROUGE-1": 100, "ROUGE-2": 200 / 3, "ROUGE-L": 75})


def test_counts_are_clipped():
    # precision 1/3, recall 1/2; counting sets, as others do, would give 2/3
    assert rouge("水水水", "水热")["ROUGE-1"] == pytest.approx(100 * 2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))


def test_best_reference_by_kind():
    one, other = "喝多水热", "多喝"
    both = rouge("多喝热水", one, other)
    assert both["ROUGE-1"] == rouge("多喝热水", one)["ROUGE-1"] > rouge("多喝热水", other)["ROUGE-1"]
    assert both["ROUGE-2"] == rouge("多喝热水", other)["ROUGE-2"] > rouge("多喝热水", one)["ROUGE-2"]


@pytest.mark.parametrize(("hypothesis", "reference"), [("", "好"), ("好", ""), (" \n", "好"), ("好", "水"), ("", "")])
def test_nothing_in_common_is_zero(hypothesis, reference):
    assert set(rouge(hypothesis, reference).values()) == {0.0}


def test_no_references():
    with pytest.raises(ValueError, match="at least one reference"):
        Rouge().score(["好"], [])


class Characters:
    def tokenize(self, text: str) -> list[str]:
        return list(text)


@settings(max_examples=60, deadline=None)
@given(hypothesis=TEXT, references=st.lists(TEXT, min_size=1, max_size=3))
def test_equals_rouge_score_called_on_text(hypothesis, references):
    direct = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=Characters()).score_multi(references, hypothesis)
    assert list(rouge(hypothesis, *references).values()) == pytest.approx([100 * found.fmeasure for found in direct.values()])


def test_signature_says_maximum_over_references():
    assert (
        Rouge()
        .signature("5(pos+neg)")
        .startswith("ROUGE|lvl:sentence|f:1|multi:max|tok:char|ws:drop|refs:5(pos+neg)|agg:mean|v:rouge-score-")
    )


def test_the_papers_eight_numbers():
    names = [name for metric in text_metrics("none") for name in metric.names]
    assert names == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "GLEU", "ROUGE-1", "ROUGE-2", "ROUGE-L"]


@settings(max_examples=40, deadline=None)
@given(hypothesis=TEXT, references=st.lists(TEXT, min_size=1, max_size=3))
def test_spaces_change_nothing(hypothesis, references):
    spaced = " \u3000".join(hypothesis) + "\n"
    for metric in text_metrics("none"):
        tokens = [characters(text) for text in references]
        assert metric.score(characters(spaced), tokens) == metric.score(characters(hypothesis), tokens)


def test_segment_folds_nothing():
    assert characters("ＣＴ CT\t2 次，\n") == ["Ｃ", "Ｔ", "C", "T", "2", "次", "，"]
