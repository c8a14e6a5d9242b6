"""BLEU: NLTK 3.8.1 on generated cases, sacrebleu on corpora, values worked out by hand, and what differs."""

import math
import random
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu, sentence_bleu
from sacrebleu.metrics import BLEU

from medchatzh.metrics import Batch, Bleu, Segmenter
from medchatzh.metrics.bleu import SMOOTHINGS
from tests.metrics import oracles
from tests.metrics.oracles import GENERATED, assert_equal

TEXT = st.text("感冒多喝水，用药。a1𠮷", max_size=14)
SUM_OF_THE_LAST = ("method5", "method6", "method7")
"""Of a corpus, NLTK smooths these by the counts of its last item."""


def bleu(hypothesis: str, *references: str, smoothing: str = "none") -> dict[str, float]:
    return Bleu(smoothing=smoothing).score(hypothesis, references)


def ours(cases, smoothing: str, compiled: bool) -> np.ndarray:
    batch = oracles.batch(cases, compiled)
    return np.hstack([Bleu(smoothing=smoothing, weights=weights).scores(batch) for weights in ("cum", "ind")]) / 100


@pytest.mark.parametrize("kind", GENERATED)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("compiled", [True, False])
def test_sentences_equal_nltk(kind, smoothing, compiled):
    assert_equal(ours(GENERATED[kind], smoothing, compiled), oracles.generated_bleu(kind, smoothing))


@settings(max_examples=100)
@given(hypothesis=TEXT, references=st.lists(TEXT, min_size=1, max_size=5), smoothing=st.sampled_from(SMOOTHINGS), compiled=st.booleans())
def test_any_sentence_equals_nltk(hypothesis, references, smoothing, compiled):
    case = (hypothesis, references)
    assert_equal(ours([case], smoothing, compiled)[0], oracles.bleu([case], smoothing))


@pytest.mark.parametrize("kind", GENERATED)
@pytest.mark.parametrize("smoothing", [name for name in SMOOTHINGS if name not in SUM_OF_THE_LAST])
def test_corpora_equal_nltk(kind, smoothing):
    cases = GENERATED[kind]
    for start in range(0, 400, 40):
        corpus = cases[start : start + 40]
        found = [Bleu(smoothing=smoothing, weights=weights).corpus(oracles.batch(corpus, True)).values() for weights in ("cum", "ind")]
        assert_equal(np.concatenate([list(part) for part in found]) / 100, oracles.bleu(corpus, smoothing))


@pytest.mark.parametrize("smoothing", SUM_OF_THE_LAST)
def test_corpora_smoothed_by_the_last_item_as_nltk_does(smoothing):
    """The one difference is where the counts come from: with the last item's in their place the numbers are NLTK's."""
    metric = Bleu(smoothing=smoothing)
    for start in range(0, 400, 40):
        corpus = GENERATED["characters"][start : start + 40]
        statistics = metric.statistics(oracles.batch(corpus, True))
        sums = statistics.sum(axis=0, keepdims=True)
        sums[0, [4, 9]], sums[0, 10:15] = statistics[-1, [4, 9]], statistics[-1, 10:15]
        assert_equal(metric.of(sums)[0] / 100, oracles.bleu(corpus, smoothing)[:4])


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_a_corpus_in_another_order_scores_the_same(smoothing):
    cases = GENERATED["characters"][:50]
    shuffled = random.Random(1).sample(cases, len(cases))
    metric = Bleu(smoothing=smoothing)
    assert metric.corpus(oracles.batch(cases, True)) == metric.corpus(oracles.batch(shuffled, True))


def test_nltks_order_of_items_matters_where_ours_does_not():
    cases = [("多喝热水多休息", ["多喝热水多休息"]), ("注意休息", ["多休息"])]
    first, second = (oracles.bleu(corpus, "method5")[3] for corpus in (cases, cases[::-1]))
    assert first != pytest.approx(second)
    assert "=nltk" in Bleu(smoothing="method5").signature("1(pos)")
    assert "=nltk" not in Bleu(smoothing="method5").signature("1(pos)", "corpus")
    assert Bleu(smoothing="method4").signature("1(pos)", "corpus").endswith("=nltk-3.8.1")


@pytest.mark.parametrize("kind", ["characters", "words"])
def test_corpora_equal_sacrebleu(kind):
    """A second oracle, of other authors: no tokenizer, no smoothing. It takes the same number of references for all items, and of a
    text too short for an n-gram it counts none, where NLTK counts one."""
    by_number = {number: [case for case in GENERATED[kind] if len(case[0]) >= 4 and len(case[1]) == number] for number in range(1, 6)}
    for number, cases in by_number.items():
        # A token is a string without white space, as sacrebleu cuts at it.
        named = [(_joined(hypothesis), [_joined(one) for one in references]) for hypothesis, references in cases]
        streams = [[references[at] for _, references in named] for at in range(number)]
        scorer = BLEU(tokenize="none", smooth_method="none", force=True)
        assert len(cases) > 50
        expected = scorer.corpus_score([hypothesis for hypothesis, _ in named], streams).score
        assert Bleu().corpus(oracles.batch(cases, True))["BLEU-4"] == pytest.approx(expected, rel=1e-12)


def _joined(tokens) -> str:
    return " ".join("".join(f"{ord(one):x}_" for one in token) or "empty" for token in tokens)


def test_by_hand():
    # 多喝水休息 / 多喝热水: unigrams 多 喝 水 of 5, bigram 多喝 of 4, no trigram; longer than the reference, so no penalty
    values = bleu("多喝水休息", "多喝热水")
    assert values["BLEU-1"] == pytest.approx(100 * 3 / 5)
    assert values["BLEU-2"] == pytest.approx(100 * math.sqrt(3 / 5 * 1 / 4))
    assert 0 < values["BLEU-3"] < 1e-80
    alone = Bleu(weights="ind").score("多喝水休息", ["多喝热水"])
    assert alone["BLEU-2"] == pytest.approx(100 / 4)


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
    assert bleu("水喝多息", "多热息凉喝冷水")["BLEU-2"] == pytest.approx(100 * oracles.bleu([("水喝多息", ["多热息凉喝冷水"])], "none")[1])
    assert 0 < bleu("水喝多息", "多热息凉喝冷水")["BLEU-2"] < 1e-150


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize(("hypothesis", "reference"), [("", "好"), ("  \n", "好"), ("好", ""), ("好", "水"), ("", "")])
def test_nothing_in_common_is_zero_without_warning(hypothesis, reference, smoothing):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(bleu(hypothesis, reference, smoothing=smoothing).values()) == {0.0}


def test_exact_thirds():
    reference, hypothesis = "患者平时要注意休息多喝水", "患者平时应注意休息"
    exact, loose = (sentence_bleu([list(reference)], list(hypothesis), weights=(third,) * 3) for third in (1 / 3, 0.33))
    assert bleu(hypothesis, reference)["BLEU-3"] == pytest.approx(100 * exact, abs=1e-12)
    assert abs(exact - loose) > 1e-4


def test_no_references():
    """NLTK: KeyError, or ValueError for an empty hypothesis."""
    for hypothesis, error in (("好", KeyError), ("", ValueError)):
        with pytest.raises(error):
            sentence_bleu([], list(hypothesis))
        with pytest.raises(ValueError, match=r"item 0 of 1 has no reference.*at least one"):
            bleu(hypothesis)
    with pytest.raises(ValueError, match="item 1 of 2"):
        Bleu().scores(Batch.of(["好", "好"], [["好"], []]))


def test_no_items():
    with pytest.raises(ZeroDivisionError):
        corpus_bleu([], [])
    assert Bleu().scores(Batch.of([], [])).shape == (0, 4)
    with pytest.raises(ValueError, match="no answer to score"):
        Bleu().corpus(Batch.of([], []))
    with pytest.raises(ValueError, match="1 answers, but references of 2"):
        Batch.of(["好"], [["好"], ["好"]])


def test_unknown_settings_list_the_known():
    with pytest.raises(ValueError, match=r"smoothing: 'method9'.*none, method1"):
        Bleu(smoothing="method9")
    with pytest.raises(ValueError, match=r"weights: 'cumulative': give one of cum, ind"):
        Bleu(weights="cumulative")
    with pytest.raises(ValueError, match=r"unit: 'word': give one of char, jieba"):
        Bleu(segmenter=Segmenter("word"))


def test_method5_can_exceed_100():
    assert bleu("患者平时要注意休息", "患者平时要注意休息", smoothing="method5")["BLEU-1"] > 100


def test_method6_without_a_trigram_stays_unsmoothed():
    with pytest.raises(AssertionError):
        sentence_bleu([list("多喝热水")], list("多喝水休息"), smoothing_function=SmoothingFunction().method6)
    assert bleu("多喝水休息", "多喝热水", smoothing="method6") == bleu("多喝水休息", "多喝热水")


@settings(max_examples=40)
@given(hypothesis=TEXT.filter(bool), references=st.lists(TEXT, min_size=1, max_size=3))
def test_a_copy_among_the_references_is_100(hypothesis, references):
    assert bleu(hypothesis, *references, hypothesis)["BLEU-1"] == pytest.approx(100)


def test_signatures():
    assert (
        Bleu(smoothing="method3")
        .signature("1(pos)")
        .startswith("BLEU|lvl:sentence|w:cum|tok:char|ws:drop|smooth:method3|refs:1(pos)|agg:max|v:medchatzh-")
    )
    assert (
        Bleu(weights="ind")
        .signature("5(pos+neg)", "corpus")
        .startswith("BLEU|lvl:corpus|w:ind|tok:char|ws:drop|smooth:none|refs:5(pos+neg)|agg:max|v:medchatzh-")
    )
