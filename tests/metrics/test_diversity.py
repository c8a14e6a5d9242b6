"""Distinct and length."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medchatzh.metrics import Batch, Distinct, Length, Segmenter
from medchatzh.metrics.diversity import pooled

TEXT = st.text("感冒多喝𠮷", max_size=14)


def shares(texts: list[str]) -> list[float]:
    found = []
    for order in (1, 2):
        grams = [text[at : at + order] for text in texts for at in range(len(text) - order + 1)]
        found.append(len(set(grams)) / max(1, len(grams)))
    return found


@settings(max_examples=80)
@given(texts=st.lists(TEXT, max_size=5), compiled=st.booleans())
def test_as_defined(texts, compiled):
    batch = Batch.of(texts, [[]] * len(texts), compiled=compiled)
    assert Distinct().scores(batch).ravel().tolist() == pytest.approx([100 * share for text in texts for share in shares([text])])
    assert Length().scores(batch).ravel().tolist() == [len(text) for text in texts]
    assert pooled(texts) == pytest.approx(shares(texts))
    assert pooled([list(text) for text in texts]) == pooled(texts)


def test_canned_answers_are_near_0():
    assert pooled(["建议多休息"] * 1000) == (5 / 5000, 4 / 4000)


def test_needs_no_reference():
    assert Distinct().score("多喝水水", []) == {"Distinct-1": 75.0, "Distinct-2": 100.0}
    assert Length(segmenter=Segmenter("jieba")).score("注意 休息", []) == {"length": 2.0}


def test_signatures():
    assert Distinct().signature().startswith("Distinct|lvl:sentence|tok:char|ws:drop|refs:0|v:medchatzh-")
    assert Length().signature().startswith("length|lvl:sentence|tok:char|ws:drop|refs:0|v:medchatzh-")
