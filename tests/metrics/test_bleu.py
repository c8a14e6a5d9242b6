"""BLEU and GLEU: NLTK called directly, values worked out by hand, and the edge cases."""

import math
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from nltk.translate.gleu_score import sentence_gleu

from medchatzh.metrics.bleu import SMOOTHINGS, Bleu, Gleu
from medchatzh.metrics.segment import characters

TEXT = st.text("感冒多喝水，用药。a1", min_size=0, max_size=14)


def bleu(hypothesis: str, *references: str, smoothing: str = "none") -> dict[str, float]:
    return Bleu(smoothing).score(characters(hypothesis), [characters(text) for text in references])


def test_by_hand():
    # 多喝水休息 / 多喝热水: unigrams 多 喝 水 of 5, bigram 多喝 of 4, no trigram; longer than the reference, so no penalty
    values = bleu("多喝水休息", "多喝热水")
    assert values["BLEU-1"] == pytest.approx(100 * 3 / 5)
    assert values["BLEU-2"] == pytest.approx(100 * math.sqrt(3 / 5 * 1 / 4))
    assert 0 < values["BLEU-3"] < 1e-80


def test_counts_are_clipped_by_the_largest_reference():
    assert bleu("水水水水", "水", "水水热热")["BLEU-1"] == pytest.approx(50)


def test_a_tie_between_lengths_takes_the_shorter():
    # 12 characters against 11 and 13: the closest is 11, no penalty; against 13 alone there is one
    hypothesis, shorter, longer = "水" * 12, "热" * 11, "水" * 13
    assert bleu(hypothesis, longer, shorter)["BLEU-1"] == pytest.approx(100)
    assert bleu(hypothesis, longer)["BLEU-1"] == pytest.approx(100 * math.exp(1 - 13 / 12))


@pytest.mark.parametrize(
    ("hypothesis", "reference", "smoothing", "expected"),
    [
        ("好", "好", "none", 1.8218e-231),
        ("好", "好", "method1", 0.17783),
        ("好", "好", "method2", 0.59460),
        ("好", "好", "method3", 0.35355),
        ("好", "好", "method4", 1.0),
        ("多喝水", "多喝水", "none", 1.2213e-77),
        ("多喝水", "多喝水", "method1", 0.56234),
        ("多喝水", "多喝水", "method4", 0.57576),
    ],
)
def test_short_and_exact(hypothesis, reference, smoothing, expected):
    assert bleu(hypothesis, reference, smoothing=smoothing)["BLEU-4"] == pytest.approx(100 * expected, rel=1e-4)


def test_unigram_without_bigram_is_tiny_not_zero():
    # sqrt(p1 × the smallest float), p1 = 4/11: the shape of the table's 9.047e-155
    value = bleu("水喝多息", "多热息凉喝冷水")["BLEU-2"]
    assert 0 < value < 1e-150


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize(("hypothesis", "reference"), [("", "好"), ("  \n", "好"), ("好", ""), ("好", "水"), ("", "")])
def test_nothing_in_common_is_zero_without_warning(hypothesis, reference, smoothing):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(bleu(hypothesis, reference, smoothing=smoothing).values()) == {0.0}
        assert Gleu().score(characters(hypothesis), [characters(reference)]) == {"GLEU": 0.0}


def test_exact_thirds():
    reference = "患者平时要注意休息多喝水"
    hypothesis = "患者平时应注意休息"
    exact = sentence_bleu([list(reference)], list(hypothesis), weights=(1 / 3, 1 / 3, 1 / 3))
    loose = sentence_bleu([list(reference)], list(hypothesis), weights=(0.33, 0.33, 0.33))
    assert bleu(hypothesis, reference)["BLEU-3"] == pytest.approx(100 * exact, abs=1e-12)
    assert abs(exact - loose) > 1e-4


def test_no_references():
    for metric in (Bleu(), Gleu()):
        with pytest.raises(ValueError, match="at least one reference"):
            metric.score(["好"], [])


def test_unknown_smoothing_lists_the_known():
    with pytest.raises(ValueError, match=r"method9.*none, method1"):
        Bleu("method9")


@pytest.mark.parametrize("smoothing", ["none", "method1", "method2", "method3", "method4"])
@settings(max_examples=60, deadline=None)
@given(hypothesis=TEXT, references=st.lists(TEXT, min_size=1, max_size=3))
def test_equals_nltk_called_once_an_order(smoothing, hypothesis, references):
    values = bleu(hypothesis, *references, smoothing=smoothing)
    method = SmoothingFunction().method0 if smoothing == "none" else getattr(SmoothingFunction(), smoothing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for order in (1, 2, 3, 4):
            direct = sentence_bleu([list(text) for text in references], list(hypothesis), [1 / order] * order, method)
            assert values[f"BLEU-{order}"] == pytest.approx(100 * direct, rel=1e-12, abs=0)


def test_methods_5_to_7_see_the_next_order():
    reference, hypothesis = "患者平时要注意休息多喝水", "患者平时应注意休息"
    weights = [[1 / order] * order for order in (1, 2, 3, 4)]
    for smoothing in ("method5", "method6", "method7"):
        direct = sentence_bleu([list(reference)], list(hypothesis), weights, getattr(SmoothingFunction(), smoothing))
        assert list(bleu(hypothesis, reference, smoothing=smoothing).values()) == pytest.approx([100 * value for value in direct])


def test_method5_can_exceed_100():
    assert bleu("患者平时要注意休息", "患者平时要注意休息", smoothing="method5")["BLEU-1"] > 100


def test_method6_without_a_trigram_stays_unsmoothed():
    assert bleu("多喝水休息", "多喝热水", smoothing="method6") == bleu("多喝水休息", "多喝热水")


def test_nltks_warnings_are_silent_and_ours_are_not():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        bleu("多喝水休息", "多喝热水")
        warnings.warn("ours", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["ours"]


@settings(max_examples=60, deadline=None)
@given(hypothesis=TEXT, references=st.lists(TEXT, min_size=1, max_size=3))
def test_gleu_equals_nltk(hypothesis, references):
    direct = sentence_gleu([list(text) for text in references], list(hypothesis))
    assert Gleu().score(list(hypothesis), [list(text) for text in references])["GLEU"] == pytest.approx(100 * direct)


def test_gleu_by_hand():
    # 多喝水 against 多喝热水: n-grams 3+2+1 and 4+3+2+1; common 多 喝 水 多喝; the larger total is 10
    assert Gleu().score(list("多喝水"), [list("多喝热水")])["GLEU"] == pytest.approx(40)


@settings(max_examples=40, deadline=None)
@given(hypothesis=TEXT, references=st.lists(TEXT, min_size=1, max_size=3))
def test_another_reference_never_lowers_clipped_matches(hypothesis, references):
    """With a copy of the hypothesis among the references, BLEU-1 is 100 whatever the others are."""
    if hypothesis:
        assert bleu(hypothesis, *references, hypothesis)["BLEU-1"] == pytest.approx(100)


def test_signatures():
    assert (
        Bleu("method3")
        .signature("1(pos)")
        .startswith("BLEU|lvl:sentence|w:cum|tok:char|ws:drop|smooth:method3|refs:1(pos)|agg:mean|v:nltk-3.")
    )
    assert (
        Gleu().signature("5(pos+neg)").startswith("GLEU|kind:google|lvl:sentence|n:1-4|tok:char|ws:drop|refs:5(pos+neg)|agg:mean|v:nltk-3.")
    )
