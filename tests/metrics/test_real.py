"""All metrics against the libraries on real answers: five candidates a question in webMedQA's layout, and another question's answer."""

from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from medchatzh.metrics import Bleu, Gleu, Rouge, Segmenter
from medchatzh.metrics.bleu import SMOOTHINGS
from tests.metrics import oracles
from tests.metrics.oracles import LIBRARIES, Case, assert_equal

SEGMENTERS = {"characters": Segmenter(), "words": Segmenter("jieba")}


@pytest.fixture(scope="module")
def texts(shared_data: Path) -> list[tuple[str, list[str]]]:
    """700 answers, each with the candidates of another question, or (one in ten) with its own."""
    path = shared_data / "evaluation" / "webmedqa_layout" / "medQA.test.txt"
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
    groups = [[row[4] for row in group] for _, group in groupby(rows, lambda row: row[0])]
    return [(groups[number if number % 10 == 0 else number - 1][0], group) for number, group in enumerate(groups)]


@pytest.fixture(scope="module")
def cases(texts):
    @cache
    def cut(unit: str) -> list[Case]:
        tokens = SEGMENTERS[unit].tokens
        return [(tokens(answer), [tokens(one) for one in references]) for answer, references in texts]

    return cut


@pytest.mark.parametrize("unit", SEGMENTERS)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_bleu(cases, unit, smoothing):
    some = cases(unit)[:100]
    expected = np.array([oracles.bleu([case], smoothing) for case in some])
    for compiled in (True, False):
        batch = oracles.batch(some, compiled)
        found = [Bleu(smoothing=smoothing, weights=weights).scores(batch) for weights in ("cum", "ind")]
        assert_equal(np.hstack(found) / 100, expected)


@pytest.mark.parametrize("unit", SEGMENTERS)
def test_corpora(cases, unit):
    batch = oracles.batch(cases(unit), True)
    assert list(Bleu().corpus(batch).values()) == pytest.approx([100 * value for value in oracles.bleu(cases(unit), "none")[:4]], rel=1e-12)
    assert Gleu().corpus(batch)["GLEU"] == pytest.approx(100 * oracles.gleu(cases(unit)), rel=1e-12)


@pytest.mark.parametrize("unit", SEGMENTERS)
def test_gleu(cases, unit):
    some = cases(unit)[:200]
    expected = np.array([[oracles.gleu([case])] for case in some])
    for compiled in (True, False):
        assert_equal(Gleu().scores(oracles.batch(some, compiled)) / 100, expected)


@pytest.mark.parametrize("unit, number", [("characters", 30), ("words", 60)])
@pytest.mark.parametrize("library", LIBRARIES)
def test_rouge(cases, unit, number, library):
    # Answers with a point, which one library cuts at, are one in seven; rouge fails near 1,000 tokens.
    short = [case for case in cases(unit) if len(case[0]) + max(map(len, case[1])) < 800]
    some = sorted(short, key=lambda case: "." not in case[0])[: number // 2] + short[: number // 2]
    expected = np.stack([oracles.best(oracles.rouge_by_reference(library, case)) for case in some])
    for compiled in (True, False):
        assert_equal(Rouge(library=library).precision_recall_f(oracles.batch(some, compiled)), expected)


def test_compiled_equals_plain_on_all(cases):
    compiled, plain = (oracles.batch(cases("characters"), way) for way in (True, False))
    for library in LIBRARIES:
        np.testing.assert_array_equal(Rouge(library=library).precision_recall_f(compiled), Rouge(library=library).precision_recall_f(plain))
    for metric in (Bleu(smoothing="method7"), Gleu()):
        np.testing.assert_array_equal(metric.scores(compiled), metric.scores(plain))
