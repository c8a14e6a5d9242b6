"""ROUGE: the three libraries on generated cases, by hand, and what differs."""

import numpy as np
import pytest
import rouge
import rouge_chinese
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from medchatzh.metrics import Batch, Rouge, Segmenter
from medchatzh.metrics.segment import characters
from tests.metrics import oracles
from tests.metrics.oracles import GENERATED, LIBRARIES, assert_equal

TEXT = st.text("感冒多喝水。？…”.1a𠮷 \n", max_size=14)
WORDS = st.lists(st.text("感水。？”…. 1", max_size=3) | st.sampled_from(["......", "38.5", "。”"]), max_size=10)


@pytest.mark.parametrize("kind", GENERATED)
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("compiled", [True, False])
def test_equals_the_library(kind, library, compiled):
    """Precision, recall and F of the best reference by kind, and their means over the references."""
    expected = oracles.generated_rouge(kind, library)
    batch = oracles.batch(GENERATED[kind], compiled)
    assert_equal(Rouge(library=library).precision_recall_f(batch), np.stack([oracles.best(one) for one in expected]))
    assert_equal(Rouge(library=library, aggregate="mean").precision_recall_f(batch), np.stack([one.mean(axis=0) for one in expected]))


@settings(max_examples=150)
@given(
    hypothesis=TEXT,
    references=st.lists(TEXT, min_size=1, max_size=5),
    library=st.sampled_from(LIBRARIES),
    compiled=st.booleans(),
)
def test_any_text_equals_the_library(hypothesis, references, library, compiled):
    case = (hypothesis, references)
    found = Rouge(library=library).precision_recall_f(oracles.batch([case], compiled))
    assert_equal(found[0], oracles.best(oracles.rouge_by_reference(library, case)))


@settings(max_examples=150)
@given(
    hypothesis=WORDS,
    references=st.lists(WORDS, min_size=1, max_size=5),
    library=st.sampled_from(LIBRARIES),
    compiled=st.booleans(),
)
def test_any_words_equal_the_library(hypothesis, references, library, compiled):
    """Words may hold what the libraries cut at, or be nothing but white space."""
    case = (hypothesis, references)
    found = Rouge(library=library).precision_recall_f(oracles.batch([case], compiled))
    assert_equal(found[0], oracles.best(oracles.rouge_by_reference(library, case)))


def test_several_references_as_rouge_score_takes_them():
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=oracles.AsTheyAre())
    for hypothesis, references in GENERATED["characters"][:300]:
        direct = scorer.score_multi([list(one) for one in references], list(hypothesis))
        assert list(Rouge().score(hypothesis, references).values()) == pytest.approx([100 * found.fmeasure for found in direct.values()])


def test_equal_chinese_is_100_where_the_default_tokenizer_gives_0():
    assert set(Rouge().score("多喝水", ["多喝水"]).values()) == {100.0}
    assert RougeScorer(["rouge1"]).score("多喝水", "多喝水")["rouge1"].fmeasure == 0


def test_by_hand():
    # 水多喝热 / 多喝热水: 4 of 4 unigrams, bigrams 多喝 喝热 of 3 and 3, longest common subsequence 多喝热
    assert Rouge().score("水多喝热", ["多喝热水"]) == pytest.approx({"ROUGE-1": 100, "ROUGE-2": 200 / 3, "ROUGE-L": 75})


def test_counted_or_in_sets():
    # 水水水 / 水热, clipped: precision 1/3, recall 1/2; as sets: 1 and 1/2
    assert Rouge().score("水水水", ["水热"])["ROUGE-1"] == pytest.approx(40)
    for library in ("rouge-chinese", "rouge"):
        assert Rouge(library=library).score("水水水", ["水热"])["ROUGE-1"] == pytest.approx(200 / 3)
    # ROUGE-L of 水水 / 水水: rouge counts one different token of one, rouge-chinese two of two
    assert Rouge(library="rouge").score("水水热", ["水水"])["ROUGE-L"] == pytest.approx(200 / 3)
    assert Rouge(library="rouge-chinese").score("水水热", ["水水"])["ROUGE-L"] == pytest.approx(80)


def test_a_point_cuts_for_rouge_alone():
    """`38.5` is two sentences to it, and the point is gone."""
    assert Rouge(library="rouge").score("38.5", ["385"])["ROUGE-1"] == pytest.approx(100)
    assert Rouge(library="rouge-chinese").score("38.5", ["385"])["ROUGE-1"] == pytest.approx(100 * 6 / 7)


def test_best_reference_by_kind():
    def score(*references):
        return Rouge().score("多喝热水", references)

    one, other = "喝多水热", "多喝"
    assert score(one, other)["ROUGE-1"] == score(one)["ROUGE-1"] > score(other)["ROUGE-1"]
    assert score(one, other)["ROUGE-2"] == score(other)["ROUGE-2"] > score(one)["ROUGE-2"]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("hypothesis", "reference"), [("", "好"), ("好", ""), (" \n", "好"), ("好", "水"), ("", "")])
def test_nothing_in_common_is_zero(library, hypothesis, reference):
    assert set(Rouge(library=library).score(hypothesis, [reference]).values()) == {0.0}


def test_where_the_libraries_raise():
    for library in (rouge, rouge_chinese):
        for pair in (("", "好"), ("好", "")):
            with pytest.raises(ValueError):
                library.Rouge().get_scores(*pair)
    with pytest.raises(ValueError):  # a text of points has no sentence
        rouge.Rouge().get_scores("...", "好")
    assert set(Rouge(library="rouge").score("...", ["好"]).values()) == {0.0}


def test_long_texts_need_no_recursion():
    text = "感冒多喝水" * 300
    with pytest.raises(RecursionError):
        rouge.Rouge().get_scores(" ".join(text), " ".join(text))
    for compiled in (True, False):
        batch = Batch([text], [[text]], compiled)
        assert Rouge(library="rouge").scores(batch)[0] == pytest.approx([100, 100, 100])


@pytest.mark.parametrize("library", LIBRARIES)
def test_no_references(library):
    with pytest.raises(ValueError, match=r"no reference.*at least one"):
        Rouge(library=library).score("好", [])


def test_unknown_settings_list_the_known():
    with pytest.raises(ValueError, match=r"library: 'rouge_score': give one of rouge-score, rouge-chinese, rouge"):
        Rouge(library="rouge_score")
    with pytest.raises(ValueError, match=r"aggregate: 'sum': give one of max, mean"):
        Rouge(aggregate="sum")


@settings(max_examples=40)
@given(hypothesis=TEXT, references=st.lists(TEXT, min_size=1, max_size=3), library=st.sampled_from(LIBRARIES))
def test_spaces_change_nothing(hypothesis, references, library):
    """Characters: white space is dropped before anything is counted, unless the segmenter keeps it."""
    spaced = " \u3000".join(characters(hypothesis)) + "\n"
    metric = Rouge(library=library)
    assert metric.score(spaced, references) == metric.score(hypothesis, references)


def test_kept_spaces_count():
    kept = Rouge(segmenter=Segmenter(spaces="keep"))
    assert kept.score("多 喝", ["多喝"])["ROUGE-1"] == pytest.approx(80)
    assert Rouge().score("多 喝", ["多喝"])["ROUGE-1"] == pytest.approx(100)


def test_signature_names_the_library():
    found = Rouge(library="rouge", aggregate="mean").signature("5(pos+neg)")
    assert found.startswith("ROUGE|lvl:sentence|f:1|tok:char|ws:drop|refs:5(pos+neg)|agg:mean|v:medchatzh-")
    assert found.endswith("=rouge-1.0.1")
