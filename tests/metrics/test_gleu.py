"""Google's GLEU: NLTK 3.8.1 on generated cases, by hand, and what differs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.gleu_score import sentence_gleu

from medchatzh.metrics import Batch, Gleu
from tests.metrics import oracles
from tests.metrics.oracles import GENERATED, assert_equal

TEXT = st.text("感冒多喝水，用药。a1𠮷", max_size=14)


@pytest.mark.parametrize("kind", GENERATED)
@pytest.mark.parametrize("compiled", [True, False])
def test_sentences_equal_nltk(kind, compiled):
    expected = np.array([[oracles.gleu([case])] for case in GENERATED[kind]])
    assert_equal(Gleu().scores(oracles.batch(GENERATED[kind], compiled)) / 100, expected)


@settings(max_examples=100)
@given(hypothesis=TEXT, references=st.lists(TEXT, min_size=1, max_size=5), compiled=st.booleans())
def test_any_sentence_equals_nltk(hypothesis, references, compiled):
    case = (hypothesis, references)
    assert_equal(Gleu().scores(oracles.batch([case], compiled)) / 100, np.array([[oracles.gleu([case])]]))


@pytest.mark.parametrize("kind", GENERATED)
def test_corpora_equal_nltk(kind):
    """Empty hypotheses among them, which still add to the denominator; ties, of which the first reference's counts."""
    cases = GENERATED[kind]
    for start in range(0, len(cases), 50):
        corpus = cases[start : start + 50]
        assert Gleu().corpus(oracles.batch(corpus, True))["GLEU"] == pytest.approx(100 * oracles.gleu(corpus), rel=1e-12)


def test_by_hand():
    # 多喝水 against 多喝热水: n-grams 3+2+1 and 4+3+2+1; common 多 喝 水 多喝; the larger total is 10
    assert Gleu().score("多喝水", ["多喝热水"])["GLEU"] == pytest.approx(40)


def test_a_tie_takes_the_first_reference():
    """1 of 3 n-grams either way, but 1 of 3 and 2 of 6 add up to other corpora."""
    first, second = "多热", "多喝热"  # in common with 多喝: 1 of 3, and 3 of 6
    statistics = Gleu().statistics(Batch.of(["多水", "多水"], [[first, first + "冷"], [first + "冷", first]]))
    assert statistics.tolist() == [[1, 3], [1, 3]], "not a tie: the better one whatever its place"
    tied = Gleu().statistics(Batch.of(["水", "水"], [["热", "热冷"], ["热冷", "热"]]))
    assert tied.tolist() == [[0, 1], [0, 3]]
    assert Gleu().score("多喝", [second])["GLEU"] == pytest.approx(50)


def test_no_reference_is_an_error_where_nltk_gives_0():
    assert sentence_gleu([], list("好")) == 0
    with pytest.raises(ValueError, match="no reference"):
        Gleu().score("好", [])
    with pytest.raises(ValueError, match="no answer to score"):
        Gleu().corpus(Batch.of([], []))


@pytest.mark.parametrize(("hypothesis", "reference"), [("", "好"), (" \n", "好"), ("好", ""), ("好", "水"), ("", "")])
def test_nothing_in_common_is_zero(hypothesis, reference):
    assert Gleu().score(hypothesis, [reference]) == {"GLEU": 0.0}


def test_signature():
    found = Gleu().signature("5(pos+neg)")
    assert found.startswith("GLEU|kind:google|lvl:sentence|n:1-4|tok:char|ws:drop|refs:5(pos+neg)|agg:max|v:medchatzh-")
    assert found.endswith("=nltk-3.8.1")
