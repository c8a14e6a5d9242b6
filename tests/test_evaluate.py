"""The evaluation stage: files in, scores, tables and named rejects out."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medchatzh import evaluate, records
from medchatzh.contamination import Overlap
from medchatzh.metrics.summary import Summary, load
from medchatzh.records import Prediction, Question, Reject, Score
from medchatzh.run import Context, Manifest, Result

TOPICS = ["感冒", "头痛", "失眠", "咳嗽", "胃痛", "腹泻", "高血压", "糖尿病"]
FAST = evaluate.Config(num_resamples=200, min_category_size=3)


def own(number: int) -> str:
    return f"{TOPICS[number % 8]}患者应注意休息，按时服用第{number}号药物，清淡饮食。"


def question(number: int, *, category: str | None = None) -> Question:
    distractors = tuple(own(number + step) for step in (1, 2, 3, 4))
    named = ("内科" if number % 4 else "外科") if category is None else category
    asked = f"{TOPICS[number % 8]}怎么办？"
    return Question(id=f"web:{number}", category=named, question=asked, references=(own(number),), distractors=distractors)


def prediction(number: int, answer: str, system: str, finish: str = "stop") -> Prediction:
    return Prediction(id=f"web:{number}", system=system, question="?", answer=answer, finish=finish)


class Bench:
    """A benchmark on disk, with systems and a judge, in the layout that the stage reads."""

    def __init__(self, folder: Path, questions: Sequence[Question]) -> None:
        self.folder = folder
        self.inputs: dict[str, Path] = {}
        self._put("ingest", "questions.jsonl", questions)

    def _put(self, label: str, name: str, rows: Sequence[msgspec.Struct]) -> None:
        self.inputs[label] = self.folder / label
        self.inputs[label].mkdir(parents=True)
        records.write(self.inputs[label] / name, rows)

    def system(self, name: str, predictions: Sequence[Prediction]) -> "Bench":
        self._put(f"generate@{name}", "predictions.jsonl", predictions)
        return self

    def judge(self, rewards: Sequence[Score]) -> "Bench":
        self._put("judge", "scores.jsonl", rewards)
        return self

    def run(self, config: evaluate.Config = FAST, context: Context | None = None, out: str = "out") -> Result:
        (self.folder / out).mkdir()
        self.out = self.folder / out
        return evaluate.run(config, self.inputs, self.out, context or Context())

    @property
    def summary(self) -> Summary:
        return load(self.out / "summary.json")

    @property
    def scores(self) -> list[Score]:
        return list(records.read(self.out / "scores.jsonl", Score))

    @property
    def rejects(self) -> list[Reject]:
        return list(records.read(self.out / "rejects.jsonl", Reject))

    def mean(self, system: str, name: str):
        protocol, _, metric = name.rpartition("/")
        return next(row for row in self.summary.means if (row.system, row.protocol, row.metric) == (system, protocol, metric))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Twelve questions; `good` gives the real answer, `floor` that to the next question."""
    built = Bench(tmp_path, [question(number) for number in range(12)])
    built.system("good", [prediction(number, own(number), "good") for number in range(12)])
    return built.system("floor", [prediction(number, own(number + 1), "floor") for number in range(12)])


def test_the_real_answer_scores_100_and_five_references_flatter_a_wrong_one(bench: Bench):
    result = bench.run()
    for metric in bench.summary.metrics:
        assert bench.mean("good", f"strict/{metric}").mean == pytest.approx(100)
        # the next question's answer is one of this question's distractors
        assert bench.mean("floor", f"medchatzh/{metric}").mean == pytest.approx(100)
        assert bench.mean("floor", f"strict/{metric}").mean < 95
    assert (result.num_in, result.num_out, dict(result.dropped)) == (24, 24, {})


def test_one_score_for_each_system_question_and_metric(bench: Bench):
    bench.run()
    assert len(bench.scores) == 2 * 12 * 16 == len({(row.system, row.id, row.metric) for row in bench.scores})
    first = bench.scores[0]
    assert (first.system, first.id, first.metric, first.category) == ("good", "web:0", "strict/BLEU-1", "外科")
    floor = [row.value for row in bench.scores if (row.system, row.metric) == ("floor", "strict/GLEU")]
    assert bench.mean("floor", "strict/GLEU").mean == pytest.approx(sum(floor) / 12, abs=1e-6)


def test_every_metric_of_every_protocol_is_signed(bench: Bench):
    bench.run(msgspec.structs.replace(FAST, smoothing="method2"))
    signatures = bench.summary.signatures
    assert {protocol: set(found) for protocol, found in signatures.items()} == {
        "strict": set(bench.summary.metrics),
        "medchatzh": set(bench.summary.metrics),
    }
    assert "|smooth:method2|refs:1(pos)|" in signatures["strict"]["BLEU-4"]
    assert "|refs:5(pos+neg)|" in signatures["medchatzh"]["ROUGE-L"]


def test_differences_are_main_minus_other_with_a_verdict(bench: Bench):
    bench.run()
    differences = {(row.protocol, row.metric): row for row in bench.summary.differences}
    strict = differences["strict", "ROUGE-L"]
    assert (strict.main, strict.other, strict.n, strict.verdict) == ("good", "floor", 12, "better")
    assert strict.mean == pytest.approx(100 - bench.mean("floor", "strict/ROUGE-L").mean, abs=1e-5)
    assert 0 < strict.low <= strict.mean <= strict.high
    assert differences["medchatzh", "ROUGE-L"].verdict == "not distinguishable"


def test_the_first_generate_input_is_the_main_system(bench: Bench):
    good, floor = bench.inputs.pop("generate@good"), bench.inputs.pop("generate@floor")
    bench.inputs |= {"generate@floor": floor, "generate@good": good}
    bench.run()
    assert bench.summary.systems == ("floor", "good")
    assert {(row.main, row.verdict) for row in bench.summary.differences if row.protocol == "strict"} == {("floor", "worse")}


def test_categories_largest_first_and_small_ones_marked(bench: Bench):
    bench.run(msgspec.structs.replace(FAST, min_category_size=4))
    assert list(bench.summary.categories.items()) == [("内科", 9), ("外科", 3)]
    assert {row.category: (row.n, row.small) for row in bench.summary.by_category} == {"内科": (9, False), "外科": (3, True)}
    assert {row.protocol for row in bench.summary.by_category} == {"strict"}
    values = [row.value for row in bench.scores if (row.system, row.metric, row.category) == ("floor", "strict/BLEU-1", "外科")]
    shown = next(row for row in bench.summary.by_category if (row.system, row.metric, row.category) == ("floor", "BLEU-1", "外科"))
    assert shown.mean == pytest.approx(sum(values) / 3, abs=1e-6)


@pytest.mark.parametrize(("named", "expected"), [((), {"all": 6}), ((0, 1), {"none": 4, "内科": 2})])
def test_questions_without_category(tmp_path: Path, named: tuple[int, ...], expected: dict[str, int]):
    bench = Bench(tmp_path, [question(number, category="内科" if number in named else "") for number in range(6)])
    bench.system("good", [prediction(number, own(number), "good") for number in range(6)]).run()
    assert bench.summary.categories == expected


def test_a_question_that_stands_twice_is_counted_once_with_the_answers_by_position(tmp_path: Path):
    numbers = (0, 1, 2, 1)
    bench = Bench(tmp_path, [question(number) for number in numbers])
    answers = [prediction(number, own(number), "good") for number in numbers[:3]]
    result = bench.system("good", [*answers, prediction(1, "多喝水", "good")]).run()
    assert Counter(reject.reason for reject in bench.rejects) == {"repeated_question": 1, "repeated_prediction": 1} == result.dropped
    assert (result.num_in, result.num_out) == (5, 3)
    counted = bench.summary.questions
    assert (counted.loaded, counted.repeated, counted.no_reference, counted.scorable) == (4, 1, 0, 3)
    assert bench.mean("good", "strict/BLEU-1").n == 3
    assert bench.mean("good", "strict/BLEU-1").mean == pytest.approx(100)


def test_what_is_set_aside_is_named(tmp_path: Path):
    orphan = msgspec.structs.replace(question(8), references=(" ",))
    bench = Bench(tmp_path, [question(0), question(1), question(2), question(1), orphan])
    answered = [prediction(number, own(number), "good") for number in (8, 2, 0, 77)]
    bench.system("good", [*answered, prediction(2, "多喝水", "good")])
    result = bench.run()
    assert [(reject.id, reject.reason) for reject in bench.rejects] == [
        ("web:1", "repeated_question"),
        ("web:8", "no_reference"),
        ("web:77", "unknown_question"),
        ("web:2", "repeated_prediction"),
        ("web:1", "no_prediction"),
    ]
    assert all(reject.stage == "evaluate" for reject in bench.rejects)
    assert {reject.detail for reject in bench.rejects[1:]} == {"good"}
    assert result.dropped == Counter(reject.reason for reject in bench.rejects)
    assert (result.num_in, result.num_out) == (7, 2)
    counted = bench.summary.questions
    assert (counted.loaded, counted.repeated, counted.no_reference, counted.scorable) == (5, 1, 1, 3)
    # the first of two predictions is scored
    assert bench.mean("good", "strict/BLEU-1").mean == pytest.approx(100)
    assert bench.mean("good", "strict/BLEU-1").n == 2


def test_comparison_uses_what_both_answered(tmp_path: Path):
    bench = Bench(tmp_path, [question(number) for number in range(12)])
    bench.system("main", [prediction(number, own(number), "main") for number in range(10)])
    bench.system("late", [prediction(number, own(number) if number < 3 else "不知道", "late") for number in range(11, 1, -1)])
    bench.run()
    row = next(row for row in bench.summary.differences if (row.protocol, row.metric) == ("strict", "ROUGE-1"))
    assert row.n == 8
    both = {at.id: at.value for at in bench.scores if (at.system, at.metric) == ("late", "strict/ROUGE-1")}
    paired = [100 - both[f"web:{number}"] for number in range(2, 10)]
    assert row.mean == pytest.approx(sum(paired) / 8, abs=1e-5)
    assert (bench.mean("main", "strict/GLEU").n, bench.mean("late", "strict/GLEU").n) == (10, 10)


def test_systems_without_a_common_question_are_not_compared(tmp_path: Path):
    bench = Bench(tmp_path, [question(0), question(1)])
    bench.system("a", [prediction(0, own(0), "a")]).system("b", [prediction(1, own(1), "b")]).run()
    assert bench.summary.differences == ()
    assert {row.n for row in bench.summary.means} == {1}


def test_rewards_stand_beside_text_metrics(bench: Bench):
    rewards = [Score(id=f"web:{number}", system="good", metric="reward", value=2.0 + number % 2) for number in range(12)]
    rewards += [Score(id=f"web:{number}", system="floor", metric="reward", value=-1.0) for number in range(8)]
    rewards += [
        Score(id="web:0", system="floor", metric="reward", value=99.0),
        Score(id="web:0", system="good", metric="other", value=99.0),
    ]
    bench.judge(rewards).run()
    assert (bench.mean("good", "judge/reward").mean, bench.mean("good", "judge/reward").n) == (2.5, 12)
    assert (bench.mean("floor", "judge/reward").mean, bench.mean("floor", "judge/reward").n) == (-1, 8)
    difference = next(row for row in bench.summary.differences if row.metric == "reward")
    assert (difference.protocol, difference.mean, difference.n, difference.verdict) == ("judge", 3.5, 8, "better")
    assert Counter(row.system for row in bench.scores if row.metric == "reward") == {"good": 12, "floor": 8}
    assert bench.summary.signatures["judge"] == {"reward": "reward|lvl:answer|agg:mean|v:judge"}
    assert [row.n for row in bench.summary.by_category if (row.metric, row.system) == ("reward", "floor")] == [6, 2]


def test_answers_are_described(tmp_path: Path):
    bench = Bench(tmp_path, [question(number) for number in range(4)])
    given_ = [("多喝 水", "stop"), ("多喝水", "length"), ("", "prompt_too_long"), ("\n", "stop")]
    bench.system("odd", [prediction(number, text, "odd", finish) for number, (text, finish) in enumerate(given_)]).run()
    (found,) = bench.summary.answers
    assert (found.n, found.empty, found.cut, found.prompt_too_long) == (4, 2, 1, 1)
    assert (found.mean_chars, found.distinct_1, found.distinct_2) == (1.5, 0.5, 0.5)
    assert {row.value for row in bench.scores if row.id in ("web:2", "web:3")} == {0.0}


def test_published_rows_travel_along(bench: Bench):
    bench.run()
    assert {row.note for row in bench.summary.published} == {"copied, protocol unknown"}
    assert bench.summary.published[-1].values["ROUGE-L"] == 21.77


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_bytes_again(bench: Bench):
    bench.run(out="one")
    once = files(bench.out)
    bench.run(out="again", context=Context(workers=2))
    assert files(bench.out) == once


def test_small_categories_are_merged(tmp_path: Path):
    names = ["内科"] * 6 + ["外科"] * 2 + ["儿科"]
    bench = Bench(tmp_path, [question(number, category=name) for number, name in enumerate(names)])
    bench.system("good", [prediction(number, own(number), "good") for number in range(9)])
    bench.system("floor", [prediction(number, own(number + 1), "floor") for number in range(9)]).run()
    assert bench.summary.categories == {"内科": 6, "其他 / other": 3}
    assert bench.summary.merged == {"外科": 2, "儿科": 1}
    assert {(row.category, row.n) for row in bench.summary.category_differences} == {("内科", 6), ("其他 / other", 3)}


def test_scores_on_what_the_training_mix_does_not_know(bench: Bench):
    known = [Overlap(id=f"web:{number}", category="内科", kind="exact" if number < 4 else "", share=1.0) for number in range(12)]
    bench._put("overlap", "overlaps.jsonl", known)
    bench.run()
    clean = {(row.system, row.protocol, row.metric): row for row in bench.summary.clean}
    values = {row.id: row.value for row in bench.scores if (row.system, row.metric) == ("floor", "strict/BLEU-1")}
    row = clean["floor", "strict", "BLEU-1"]
    assert row.n == 8
    assert row.mean == pytest.approx(sum(values[f"web:{number}"] for number in range(4, 12)) / 8, abs=1e-6)
    assert [(row.category, row.num_questions, row.num_clean, row.exact) for row in bench.summary.overlap] == [
        ("", 12, 8, 4),
        ("内科", 12, 8, 4),
    ]


def test_nothing_beside_the_whole_where_all_of_it_is_clean(bench: Bench):
    bench._put("overlap", "overlaps.jsonl", [Overlap(id=f"web:{number}") for number in range(12)])
    bench.run()
    assert bench.summary.clean == ()
    assert bench.summary.overlap[0].num_clean == 12


def test_a_human_is_compared_on_the_humans_terms(tmp_path: Path):
    """The human's answer is no reference for the human, so it must be none for the system that is compared with the human."""
    asked = [msgspec.structs.replace(question(number), references=(own(number), own(number + 3))) for number in range(12)]
    bench = Bench(tmp_path, asked)
    bench.system("good", [prediction(number, own(number), "good") for number in range(12)])
    human = [msgspec.structs.replace(prediction(number, own(number), "human"), reference=0) for number in range(12)]
    bench.system("human", human).run()
    assert bench.mean("good", "strict/ROUGE-L").mean == pytest.approx(100)
    assert bench.mean("human", "strict/ROUGE-L").mean < 95
    assert {row.mean for row in bench.summary.differences} == {0}  # the same words, against the same references


class TestJudges:
    def rewards(self, system: str, value: float, metric: str = "reward") -> list[Score]:
        return [Score(id=f"web:{number}", system=system, metric=metric, value=value + number % 2) for number in range(12)]

    def manifest(self, bench: Bench, label: str, model: str, **dropped: int) -> None:
        bench.inputs.setdefault(label, bench.folder / label).mkdir(exist_ok=True)
        made = Manifest(
            stage=label, fingerprint="", config={}, seed=0, inputs={}, files={}, versions={}, num_in=9, num_out=9,
            dropped=dropped, facts={"reward_fingerprint": model}, outputs={}, seconds=0,
        )  # fmt: skip
        (bench.inputs[label] / "manifest.json").write_bytes(msgspec.json.encode(made))

    def judged(self, bench: Bench, label: str, model: str) -> None:
        bench._put(label, "scores.jsonl", self.rewards("good", 2) + self.rewards("floor", -1))
        self.manifest(bench, label, model)

    def test_the_model_that_filtered_is_not_the_only_judge(self, bench: Bench):
        self.judged(bench, "judge", "a")
        self.manifest(bench, "score", "a", low_reward=7)
        bench.run()
        assert [(judge.metric, judge.fingerprint, judge.filtered) for judge in bench.summary.judges] == [("reward", "a", True)]
        assert "judge" not in {row.protocol for row in (*bench.summary.differences, *bench.summary.category_differences)}
        assert bench.mean("good", "judge/reward").n == 12

    def test_beside_another_it_is_one_of_two(self, bench: Bench):
        self.judged(bench, "judge", "a")
        self.judged(bench, "judge@second", "b")
        self.manifest(bench, "score", "a", low_reward=7)
        bench.run()
        found = {judge.metric: judge.filtered for judge in bench.summary.judges}
        assert found == {"reward": True, "reward@second": False}
        assert {row.metric: row.verdict for row in bench.summary.differences if row.protocol == "judge"} == dict.fromkeys(found, "better")
        assert bench.summary.signatures["judge"]["reward@second"] == "reward|lvl:answer|agg:mean|v:b"

    def test_a_filter_that_dropped_nothing_did_not_choose(self, bench: Bench):
        self.judged(bench, "judge", "a")
        self.manifest(bench, "score", "a")
        bench.run()
        assert bench.summary.judges[0].filtered is False
        assert any(row.protocol == "judge" for row in bench.summary.differences)


class TestSeeds:
    def bench(self, tmp_path: Path, *more: str) -> Bench:
        bench = Bench(tmp_path, [question(number) for number in range(12)])
        for name in ("main", "arm", "main#2", "arm#2", *more):
            wrong = ("main", "main#2", "arm", "arm#2", "arm#3").index(name)
            answers = [own(number) if number >= wrong else "不知道" for number in range(12)]
            bench.system(name, [prediction(number, answer, name) for number, answer in enumerate(answers)])
        return bench

    def test_an_arm_is_compared_seed_by_seed(self, tmp_path: Path):
        bench = self.bench(tmp_path)
        bench.run()
        assert bench.summary.systems == ("main", "arm")  # replicas stand in no other table
        (row,) = [row for row in bench.summary.ablations if row.metric == "ROUGE-L"]
        assert (row.arm, row.protocol, row.n) == ("arm", "strict", 12)
        assert row.by_seed == pytest.approx((200 / 12, 200 / 12), abs=0.01)
        assert row.mean == pytest.approx(sum(row.by_seed) / 2)
        assert row.low < row.mean < row.high

    def test_a_seed_without_its_partner_is_no_pair(self, tmp_path: Path):
        bench = self.bench(tmp_path, "arm#3")
        bench.run()
        assert {len(row.by_seed) for row in bench.summary.ablations} == {2}


def test_seed_moves_intervals_only(bench: Bench):
    bench.run(out="one")
    first, scored = bench.summary, bench.scores
    bench.run(context=Context(seed=7), out="two")
    assert bench.scores == scored
    assert [row.mean for row in bench.summary.means] == [row.mean for row in first.means]
    assert bench.summary.means != first.means


def test_one_protocol_other_than_strict(bench: Bench):
    bench.run(msgspec.structs.replace(FAST, protocols=("medchatzh",)))
    assert {row.protocol for row in bench.summary.by_category} == {"medchatzh"}


def test_missing_inputs(bench: Bench, tmp_path: Path):
    for label in ("generate@good", "generate@floor"):
        del bench.inputs[label]
    with pytest.raises(ValueError, match=r"generate@SYSTEM \(predictions\.jsonl\)"):
        bench.run()


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([], r"predictions\.jsonl: no prediction; generate answers first"),
        ([prediction(0, "好", "a"), prediction(1, "好", "b")], "predictions of a, b; give each system its own folder"),
        ([prediction(0, "好", "good")], "predictions of 'good', as in an input before it"),
        ([prediction(99, "好", "c")], "no prediction for a question of the benchmark"),
    ],
)
def test_predictions_that_cannot_be_used(bench: Bench, predictions: list[Prediction], message: str):
    bench.system("bad", predictions)
    with pytest.raises(ValueError, match=message):
        bench.run()


@pytest.mark.parametrize("questions", [[], [msgspec.structs.replace(question(0), references=())]])
def test_no_questions(tmp_path: Path, questions: list[Question]):
    bench = Bench(tmp_path, questions).system("good", [prediction(0, "好", "good")])
    with pytest.raises(ValueError, match=rf"questions\.jsonl: no question with a reference \({len(questions)} loaded\)"):
        bench.run()


def test_a_judge_of_other_systems(bench: Bench):
    bench.judge([Score(id="web:0", system="another", metric="reward", value=1.0)])
    with pytest.raises(ValueError, match="no reward for an answer of good, floor"):
        bench.run()


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"protocols": ()}, "strict, medchatzh"),
        ({"protocols": ("strict", "strict")}, "each once"),
        ({"protocols": ("loose",)}, "loose"),
        ({"smoothing": "method8"}, "method7"),
        ({"num_resamples": 10}, "at least 100"),
        ({"min_category_size": 0}, "1 .*or more"),
        ({"confidence": 95}, "0.95"),
    ],
)
def test_settings_out_of_range(settings_: dict, message: str):
    with pytest.raises(ValueError, match=message):
        evaluate.Config(**settings_)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 9), max_size=25), st.sets(st.integers(0, 9)))
def test_each_prediction_is_scored_or_rejected_once(predicted: list[int], orphans: set[int]):
    asked = [msgspec.structs.replace(question(at), references=() if at in orphans else (own(at),)) for at in range(8)]
    benchmark = evaluate.Benchmark(asked, ("strict",))
    given_ = [prediction(number, f"第{place}次", "x") for place, number in enumerate(predicted)]
    entries = list(benchmark.align(given_))
    kept = [entry for entry in entries if isinstance(entry, Prediction)]
    set_aside = [entry for entry in entries if isinstance(entry, Reject)]
    returned = [*kept, *(entry.record for entry in set_aside if entry.reason != "no_prediction")]
    assert Counter(map(repr, returned)) == Counter(map(repr, given_))
    missing = {entry.id for entry in set_aside if entry.reason == "no_prediction"}
    assert missing.isdisjoint(entry.id for entry in kept)
    assert missing | {entry.id for entry in kept} == {f"web:{at}" for at in range(8)} - {f"web:{at}" for at in orphans}


def test_floors_on_real_questions(shared_data: Path, tmp_path: Path):
    """On 40 real questions a wrong answer reaches the paper's best row under five references, and half of it under one."""
    path = shared_data / "evaluation" / "webmedqa_layout" / "medQA.test.txt"
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()[:200]]
    ids = list(dict.fromkeys(row[0] for row in rows))
    texts = {key: ([row[4] for row in rows if row[:2] == [key, "1"]], [row[4] for row in rows if row[:2] == [key, "0"]]) for key in ids}
    asked = [Question(id=key, question="?", references=tuple(real), distractors=tuple(drawn)) for key, (real, drawn) in texts.items()]
    wrong = [Prediction(id=at.id, system="wrong", question="?", answer=asked[number - 1].references[0]) for number, at in enumerate(asked)]
    bench = Bench(tmp_path, asked).system("wrong", wrong)
    bench.run()
    assert bench.summary.questions.scorable == 40
    assert bench.mean("wrong", "strict/BLEU-1").mean == pytest.approx(25.0, abs=4)
    assert bench.mean("wrong", "medchatzh/BLEU-1").mean == pytest.approx(58.5, abs=6)
    assert bench.mean("wrong", "medchatzh/ROUGE-L").mean == pytest.approx(18.9, abs=3)
