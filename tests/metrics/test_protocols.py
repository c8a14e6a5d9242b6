"""Presets: which references they take, with whose arithmetic, under which signature; and what the paper printed."""

import doctest

import jieba
import numpy as np
import pytest
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from nltk.translate.gleu_score import sentence_gleu
from rouge import Rouge as PltrdyRouge
from rouge_chinese import Rouge as ChineseRouge

import medchatzh.metrics
from medchatzh.metrics import PROTOCOLS, Batch, conflicts
from medchatzh.metrics.published import METRICS, TABLE_1
from medchatzh.records import Question
from tests.metrics import oracles

ANSWERS = [
    "建议患者注意休息，多喝温水，体温超过38.5℃时服用退热药。",
    "高血压患者应低盐饮食 ，规律服药。",
    "多喝水",
    "",
    "𠮷野家医生说：别担心！按时吃药……很快就好。",
]
OWN = [
    "注意休息，多喝水；体温38.5℃以上可用退热药。",
    "高血压患者 平时应规律服药，低盐饮食，定期监测血压。",
    "多喝热水，注意休息。",
    "脾胃虚弱者宜健脾益气。",
    "别担心，按时吃药就好！",
]
OTHERS = ["失眠多梦，宜滋阴清热。", "小儿发热注意补水。"]
QUESTIONS = [Question(id=str(number), question="?", references=(own,), distractors=tuple(OTHERS)) for number, own in enumerate(OWN)]


def question(*references: str, distractors: tuple[str, ...] = ()) -> Question:
    return Question(id="q", question="?", references=references, distractors=distractors)


def scores(name: str, answers=ANSWERS, **more) -> np.ndarray:
    return PROTOCOLS[name].scores(answers, [PROTOCOLS[name].references(one) for one in QUESTIONS], **more)


def libraries(answer: str, references: list[str], cut, rouge) -> list[float]:
    """The eight numbers, from NLTK and from `rouge`: F by reference → one."""
    tokens, groups = cut(answer), [cut(one) for one in references]
    return [
        *(100 * value for value in oracles.bleu([(tokens, groups)], "none")[:4]),
        100 * sentence_gleu(groups, tokens),
        *(100 * rouge(tokens, groups)),
    ]


def by_library(library: str, choose):
    return lambda tokens, groups: choose(oracles.rouge_by_reference(library, (tokens, groups)))


def characters(text: str) -> list[str]:
    return list("".join(text.split()))


def words(text: str) -> list[str]:
    return [word for word in jieba.lcut(text) if not word.isspace()]


def largest(by_reference):
    return by_reference[:, :, 2].max(axis=0)


def mean(by_reference):
    return by_reference[:, :, 2].mean(axis=0)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("name", "cut", "library", "choose"),
    [
        ("strict", characters, "rouge-score", largest),
        ("medchatzh", characters, "rouge", largest),
        ("huatuogpt-char", characters, "rouge", mean),
        ("huatuogpt-jieba", words, "rouge", mean),
    ],
)
def test_presets_are_the_libraries(name, cut, library, choose, compiled):
    protocol = PROTOCOLS[name]
    expected = [
        libraries(answer, list(protocol.references(one)), cut, by_library(library, choose))
        for answer, one in zip(ANSWERS, QUESTIONS, strict=True)
    ]
    oracles.assert_equal(scores(name, compiled=compiled), np.array(expected))


def compute_similarity(pred: str, label: str) -> dict[str, float]:
    """LLaMA-Factory's src/llamafactory/train/sft/metric.py, ComputeSimilarity, but for its rounding to 4 decimals."""
    hypothesis, reference = list(jieba.cut(pred)), list(jieba.cut(label))
    if len(" ".join(hypothesis).split()) == 0 or len(" ".join(reference).split()) == 0:
        result = {"rouge-1": {"f": 0.0}, "rouge-2": {"f": 0.0}, "rouge-l": {"f": 0.0}}
    else:
        result = ChineseRouge().get_scores(" ".join(hypothesis), " ".join(reference))[0]
    bleu = sentence_bleu([list(label)], list(pred), smoothing_function=SmoothingFunction().method3)
    return {name: value["f"] * 100 for name, value in result.items()} | {"bleu-4": bleu * 100}


def test_llamafactory_is_its_own_arithmetic():
    expected = [compute_similarity(answer, own) for answer, own in zip(ANSWERS, OWN, strict=True)]
    columns = [PROTOCOLS["llamafactory"].names.index(name) for name in ("BLEU-4", "ROUGE-1", "ROUGE-2", "ROUGE-L")]
    found = scores("llamafactory")[:, columns]
    oracles.assert_equal(found, np.array([[row[name] for name in ("bleu-4", "rouge-1", "rouge-2", "rouge-l")] for row in expected]))
    assert found[1, 0] != pytest.approx(scores("llamafactory", [answer.replace(" ", "") for answer in ANSWERS])[1, 0]), "white space counts"


def test_medchatzh_is_what_the_paper_imports():
    """The maximum over references of pltrdy's F, as a script with `from rouge import Rouge` has it."""
    answer, references = ANSWERS[0], [OWN[0], *OTHERS]
    found = dict(zip(PROTOCOLS["medchatzh"].names, scores("medchatzh")[0], strict=True))
    direct = [PltrdyRouge().get_scores(" ".join(answer), " ".join(one))[0] for one in references]
    for name, key in (("ROUGE-1", "rouge-1"), ("ROUGE-2", "rouge-2"), ("ROUGE-L", "rouge-l")):
        assert found[name] == pytest.approx(100 * max(one[key]["f"] for one in direct), rel=1e-12)


def test_signatures_say_what_was_done():
    def ends(name):
        return {
            metric: line.replace(f"medchatzh-{medchatzh.__version__}=", "")
            for metric, line in PROTOCOLS[name].signatures(QUESTIONS).items()
        }

    jieba_words = "tok:jieba-0.42.1"
    char = "tok:char|ws:drop"
    assert ends("strict")["BLEU-4"] == f"BLEU|lvl:sentence|w:cum|{char}|smooth:none|refs:1(pos)|agg:max|v:nltk-3.8.1"
    assert ends("strict")["ROUGE-L"] == f"ROUGE|lvl:sentence|f:1|{char}|refs:1(pos)|agg:max|v:rouge-score-0.1.2"
    assert ends("medchatzh")["GLEU"] == f"GLEU|kind:google|lvl:sentence|n:1-4|{char}|refs:3(pos+neg)|agg:max|v:nltk-3.8.1"
    assert ends("medchatzh")["ROUGE-1"] == f"ROUGE|lvl:sentence|f:1|{char}|refs:3(pos+neg)|agg:max|v:rouge-1.0.1"
    assert ends("huatuogpt-char")["ROUGE-2"] == f"ROUGE|lvl:sentence|f:1|{char}|refs:1(pos)|agg:mean|v:rouge-1.0.1"
    assert f"|{jieba_words}|ws:drop|" in ends("huatuogpt-jieba")["BLEU-1"]
    assert ends("llamafactory")["BLEU-4"].startswith("BLEU|lvl:sentence|w:cum|tok:char|ws:keep|smooth:method3|")
    assert ends("llamafactory")["ROUGE-1"] == f"ROUGE|lvl:sentence|f:1|{jieba_words}|ws:keep|refs:1(pos)|agg:max|v:rouge-chinese-1.0.3"


def test_signatures_of_two_protocols_differ_where_a_number_does():
    for name in PROTOCOLS:
        for other in PROTOCOLS:
            first, second = scores(name), scores(other)
            signed, others = (PROTOCOLS[one].signatures(QUESTIONS) for one in (name, other))
            for column, metric in enumerate(PROTOCOLS[name].names):
                if not np.array_equal(first[:, column], second[:, column]):
                    assert conflicts(signed[metric], others[metric]), (name, other, metric)


def test_only_an_open_smoothing_can_be_chosen():
    assert PROTOCOLS["strict"].smoothed("method1").bleu.smoothing == PROTOCOLS["medchatzh"].smoothed("method1").bleu.smoothing == "method1"
    for name in ("huatuogpt-char", "huatuogpt-jieba", "llamafactory"):
        assert PROTOCOLS[name].smoothed("method1") is PROTOCOLS[name]
    with pytest.raises(ValueError, match="give one of none, method1"):
        PROTOCOLS["strict"].smoothed("method8")


def test_many_answers_are_counted_in_parts(monkeypatch):
    whole = scores("strict", ANSWERS)
    monkeypatch.setattr(medchatzh.metrics.protocols, "_CHUNK", 2)
    heard: list[int] = []
    np.testing.assert_array_equal(scores("strict", ANSWERS, advance=heard.append), whole)
    assert heard == [2, 2, 1]


def test_answers_and_references_go_together():
    with pytest.raises(ValueError, match="2 answers, but references of 1"):
        PROTOCOLS["strict"].scores(["好", "好"], [["好"]])
    with pytest.raises(ValueError, match="no reference"):
        PROTOCOLS["strict"].scores(["好"], [[]])
    assert PROTOCOLS["strict"].scores([], []).shape == (0, 8)


def test_strict_takes_the_own_answers():
    asked = question("甲", "乙", distractors=("丙",))
    assert PROTOCOLS["strict"].references(asked) == ("甲", "乙")
    assert PROTOCOLS["medchatzh"].references(asked) == ("甲", "乙", "丙")


def test_empty_references_are_left_out():
    assert PROTOCOLS["medchatzh"].references(question("甲", "", distractors=(" \n", "丙"))) == ("甲", "丙")


def test_signature_counts_references():
    questions = [question("甲", distractors=tuple("丙丁戊己")), question("甲", distractors=tuple("丙丁戊"))]
    assert PROTOCOLS["strict"].signature(questions) == "1(pos)"
    assert PROTOCOLS["medchatzh"].signature(questions) == "4-5(pos+neg)"
    assert PROTOCOLS["medchatzh"].signature(questions[:1]) == "5(pos+neg)"


def test_the_papers_eight_numbers():
    assert all(protocol.names == METRICS for protocol in PROTOCOLS.values())
    assert [name for name, protocol in PROTOCOLS.items() if protocol.counts_words] == ["huatuogpt-jieba", "llamafactory"]


def test_published_rows_name_no_protocol():
    assert [row.system for row in TABLE_1][-1] == "MedChatZH 7B"
    assert TABLE_1[-1].values["BLEU-1"] == pytest.approx(56.31)
    assert all(tuple(row.values) == METRICS and row.note == "copied, protocol unknown" for row in TABLE_1)
    assert all(row.values["BLEU-1"] > row.values["BLEU-2"] > row.values["BLEU-3"] > row.values["BLEU-4"] for row in TABLE_1)


def test_documented_examples():
    assert doctest.testmod(medchatzh.metrics) == (0, 8)
    assert isinstance(Batch.of(["好"], [["好"]]), Batch)
