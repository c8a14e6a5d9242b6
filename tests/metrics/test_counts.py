"""The integers under all metrics: the compiled loop and the plain one agree, and sums of them are what they say."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medchatzh.metrics import PROTOCOLS, Batch, Bleu, Distinct, Gleu, Rouge, counts
from medchatzh.metrics.counts import count, offsets
from tests.metrics.oracles import GENERATED

SENTENCES = st.lists(st.text("感冒多喝水𠮷\ud800", max_size=9) | st.text("感冒", min_size=60, max_size=140), max_size=3)


@settings(max_examples=150)
@given(
    items=st.lists(st.tuples(SENTENCES, st.lists(SENTENCES, max_size=4)), max_size=4),
    orders=st.sampled_from([2, 5]),
    sets=st.booleans(),
    words=st.booleans(),
)
def test_compiled_equals_plain(items, orders, sets, words):
    """Texts of several sentences, words of 64 bits and more, items without references, half of a surrogate pair."""
    if words:
        items = [([list(one) for one in text], [[list(one) for one in reference] for reference in group]) for text, group in items]
    hypotheses = [text for text, _ in items]
    groups = [group for _, group in items]
    references = [reference for group in groups for reference in group]
    compiled, plain = (count(hypotheses, references, offsets(groups), way, orders, sets) for way in (True, False))
    for name, first, second in zip(counts.Counts._fields, compiled, plain, strict=True):
        np.testing.assert_array_equal(first, second, err_msg=name)


@settings(max_examples=50)
@given(text=st.lists(st.text("感冒多喝水", max_size=20), min_size=1, max_size=3), compiled=st.booleans())
def test_a_text_has_all_in_common_with_itself(text, compiled):
    found = count([text], [text], np.array([0, 1]), compiled)
    whole = "".join(text)
    assert found.lengths[0] == found.ref_lengths[0] == len(whole)
    assert found.distinct[0, 0] == len(set(whole))
    assert found.common.tolist() == found.distinct.tolist() == found.ref_distinct.tolist()
    assert found.matches[0].tolist() == [max(0, len(whole) - order) for order in range(5)]
    assert found.pair_matches[0].tolist() == found.matches[0, :4].tolist()
    if len(text) == 1:
        assert found.lcs[0] == len(whole) and found.lcs_words[0] == len(set(whole))


@pytest.mark.parametrize("kind", GENERATED)
def test_items_do_not_touch_each_other(kind):
    """Counted together or one by one; the compiled loop uses its tables again and again."""
    cases = GENERATED[kind][-120:]
    together = Batch([text for text, _ in cases], [group for _, group in cases], True).counts
    for number, (text, group) in enumerate(cases):
        alone = Batch([text], [group], True).counts
        pairs = slice(together.items[number], together.items[number + 1])
        assert alone.matches[0].tolist() == together.matches[number].tolist()
        assert alone.lcs.tolist() == together.lcs[pairs].tolist()
        assert alone.lcs_words.tolist() == together.lcs_words[pairs].tolist()


def test_a_batch_without_sets_serves_the_other_metrics():
    cases = GENERATED["characters"][:300]
    texts = [text for text, _ in cases], [group for _, group in cases]
    for compiled in (True, False):
        whole, part = Batch(*texts, compiled), Batch(*texts, compiled, sets=False)
        for metric in (Bleu(smoothing="method7"), Gleu(), Rouge(), Distinct()):
            np.testing.assert_array_equal(metric.scores(part), metric.scores(whole))
        with pytest.raises(AssertionError, match="sets"):
            Rouge(library="rouge").scores(part)


def test_little_is_counted_without_numba():
    code = "import sys; from medchatzh.metrics import Bleu; print(Bleu().score('多喝水', ['多喝水'])['BLEU-1'], 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "100.0 False"


def test_without_numba_much_is_counted_too(monkeypatch):
    monkeypatch.setattr(counts, "_COMPILED_FROM", 1)
    assert counts.worth_compiling(1)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not counts.worth_compiling(1)
    assert PROTOCOLS["medchatzh"].scores(["多喝水"], [["多喝水"]])[0, 0] == pytest.approx(100)
