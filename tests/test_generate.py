"""The floors and the human: what they answer, how they are found, and that every question is accounted for."""

import math
import random
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medchatzh import generate, prompt, records
from medchatzh.generate import floors, nearest
from medchatzh.generate.floors import answers_of_others
from medchatzh.generate.nearest import Nearest
from medchatzh.records import Dialogue, Prediction, Question, Reject, Turn, normalize, write
from medchatzh.run import Context, Result

TOPICS = ["感冒发热", "头痛失眠", "胃痛反酸", "高血压", "糖尿病", "腰椎间盘突出"]


def asked(number: int, **more) -> Question:
    fields = {"question": f"{TOPICS[number % 6]}第{number}天怎么办？", "references": (f"答{number}",), "category": "内科"} | more
    return Question(id=f"web:{number}", source="web", **fields)


def dialogue(number: int, question: str, *answers: str) -> Dialogue:
    turns = [Turn("user", question), Turn("assistant", answers[0])]
    for answer in answers[1:]:
        turns += [Turn("user", "还有呢"), Turn("assistant", answer)]
    return Dialogue(id=f"t:{number}", turns=tuple(turns))


@pytest.fixture
def run(tmp_path: Path):
    """Run the stage on these questions and training dialogues."""

    def run(kind: str, questions: list[Question], dialogues: list[Dialogue], seed: int = 1, **settings) -> tuple[Result, list, list]:
        inputs = {}
        for label, name, rows in (("ingest", "questions", questions), ("score", "medical", dialogues)):
            inputs[label] = tmp_path / label
            inputs[label].mkdir(exist_ok=True)
            records.write(inputs[label] / f"{name}.jsonl", rows)
        config = generate.System(system=kind, kind=kind, **settings)
        result = generate.run(config, inputs, tmp_path, Context(seed=seed))
        predictions = list(records.read(tmp_path / "predictions.jsonl", Prediction))
        rejects = list(records.read(tmp_path / "rejects.jsonl", Reject))
        assert (result.num_in, result.num_out) == (len(predictions) + len(rejects), len(predictions))
        assert all(one.system == kind and one.source == "web" and one.category == "内科" for one in predictions)
        return result, predictions, rejects

    return run


def test_the_nearest_training_question_answers(run) -> None:
    training = [
        dialogue(0, "得了高血压能吃什么", "低盐"),
        dialogue(1, "胃痛而且反酸", "少食", "不熬夜"),
        dialogue(2, "高血压能吃什么呢", "控盐"),
    ]
    questions = [asked(2), asked(3, question="高血压能吃什么？"), asked(4, question="完全无关")]
    result, predictions, _ = run("retrieved", questions, training)
    assert [one.answer for one in predictions] == ["少食", "控盐", "低盐"]  # nothing in common: the first
    assert [one.id for one in predictions] == ["web:2", "web:3", "web:4"]
    assert 0 < result.facts["mean_similarity"] < 1


def test_of_a_conversation_all_that_the_user_said_is_looked_for(run) -> None:
    training = [dialogue(0, "谢谢医生", "不客气"), dialogue(1, "孩子发热三天", "多喝水")]
    talk = asked(1, question="谢谢医生", history=(Turn("user", "孩子发热，烧了三天"), Turn("assistant", "量过体温吗")))
    assert [one.answer for one in run("retrieved", [talk], training)[1]] == ["多喝水"]


def test_equally_near_questions_are_answered_by_the_earliest_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = ["无关的话", "头痛失眠", "头痛失眠！", "头，痛失眠"]
    for block in (1, 2, 3, 4, 9):
        monkeypatch.setattr(nearest, "BLOCK_DOCUMENTS", block)
        found = nearest.nearest(["头痛 失眠", "无", ""], lambda: documents)
        assert found.places.tolist() == [1, 0, 0]
        assert found.similarities.tolist() == pytest.approx([1, 0, 0])


def slowly(queries: list[str], documents: list[str]) -> Nearest:
    """The same, as it is defined."""

    def bigrams(text: str) -> set[str]:
        text = normalize(text)
        return {text} - {""} if len(text) < 2 else {text[start : start + 2] for start in range(len(text) - 1)}

    frequency = Counter(gram for text in documents for gram in bigrams(text))

    def weight(grams: set[str]) -> int:
        return sum(round(max(0.0, math.log((len(documents) + 1) / (frequency[gram] + 0.5))) ** 2 * 1024) for gram in grams)

    places, similarities = [], []
    for query in queries:
        scores = [
            weight(bigrams(query) & bigrams(text)) / math.sqrt(weight(bigrams(text))) if weight(bigrams(text)) else 0.0
            for text in documents
        ]
        best = max(range(len(documents)), key=lambda place: (scores[place], -place))
        norm = math.sqrt(weight(bigrams(query)))
        places.append(best)
        similarities.append(scores[best] / norm if norm else 0.0)
    return Nearest(places, similarities)  # type: ignore[arg-type]


TEXTS = st.lists(st.text("痛咳血压头胃怎办，ab１🤒 ", max_size=12), min_size=1, max_size=12)


@settings(max_examples=60)
@given(TEXTS, TEXTS, st.integers(1, 5))
def test_the_search_is_exact(queries: list[str], documents: list[str], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "BLOCK_DOCUMENTS", block)
        patch.setattr(nearest, "_MERGE_AT", 4)
        found, expected = nearest.nearest(queries, lambda: iter(documents)), slowly(queries, documents)
    assert found.similarities.tolist() == pytest.approx(expected.similarities)
    near = [slowly([query], [documents[place]]) for query, place in zip(queries, found.places.tolist(), strict=True)]
    assert len(near) == len(queries)
    assert found.places.tolist() == list(expected.places)


def test_without_training_answers_there_is_no_floor(run) -> None:
    for kind in ("random", "retrieved"):
        with pytest.raises(ValueError, match="no training answers to draw from"):
            run(kind, [asked(1)], [])
    with pytest.raises(ValueError, match="the benchmark has no questions; look at why its rows were set aside"):
        run("canned", [], [])
    with pytest.raises(ValueError, match="no document"):
        nearest.nearest(["问"], lambda: [])


def test_another_humans_answer_is_one_of_several_and_never_scored_against_itself(run) -> None:
    questions = [asked(n, references=tuple(f"答{n}之{m}" for m in range(n % 4))) for n in range(200)]
    result, predictions, rejects = run("human", questions, [])
    by_id = {question.id: question for question in questions}
    assert len(predictions) == 100 and result.dropped == {"single_reference": 100}
    assert {one.id for one in rejects} == {question.id for question in questions if len(question.references) < 2}
    for one in predictions:
        question = by_id[one.id]
        assert one.reference is not None and question.references[one.reference] == one.answer
        left = question.without(one.reference).references
        assert len(left) == len(question.references) - 1 and one.answer not in left
    assert {one.reference for one in predictions} == {0, 1, 2}  # drawn, not always the first
    again = run("human", questions[50:], [])[1]
    assert again == [one for one in predictions if one.id in {question.id for question in questions[50:]}]  # whatever else is asked
    assert run("human", questions, [], seed=2)[1] != predictions


def test_a_repeated_answer_is_left_out_once() -> None:
    question = asked(1, references=("同", "同", "别"))
    assert question.without(0).references == ("同", "别") and question.without(None) is question


def test_a_benchmark_with_single_answers_has_no_human_row(run) -> None:
    result, predictions, rejects = run("human", [asked(n) for n in range(3)], [])
    assert predictions == [] and len(rejects) == 3 and result.num_out == 0
    assert rejects[0].detail == "1 answer of its own: none would be left to score against"


def test_canned_and_random(run) -> None:
    training = [dialogue(n, f"问{n}", f"答{n}") for n in range(20)]
    canned = run("canned", [asked(n) for n in range(9)], training, canned="请就医。", max_questions=5)[1]
    assert [one.answer for one in canned] == ["请就医。"] * 5
    drawn = run("random", [asked(n) for n in range(9)], training)[1]
    assert {one.answer for one in drawn} <= {f"答{n}" for n in range(20)} and len({one.answer for one in drawn}) > 3
    assert drawn == run("random", [asked(n) for n in range(9)], training)[1] != run("random", [asked(n) for n in range(9)], training, 5)[1]


def test_retrieval_on_real_questions(shared_data: Path) -> None:
    """A changed question finds its own among 5,866 others."""
    rows = (line.split("\t") for line in (shared_data / "evaluation/webmedqa_layout/medQA.train.txt").open(encoding="utf-8"))
    texts = list(dict.fromkeys(row[3] for row in rows))
    chance = random.Random(1)
    chosen = sorted(chance.sample([number for number, text in enumerate(texts) if len(text) > 20], 200))
    changed = [texts[number][: len(texts[number]) * 2 // 3] + "，请问该怎么治疗？" for number in chosen]
    found = nearest.nearest(changed, lambda: texts)
    hits = sum(place == number for place, number in zip(found.places.tolist(), chosen, strict=True))
    assert hits >= 190 and found.similarities.max() <= 1 + 1e-9


def test_dialogues_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a block of training dialogues is in memory."""
    alive = 0
    most = 0

    class Counted(str):
        def __new__(cls, text: str) -> "Counted":
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            return super().__new__(cls, text)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    monkeypatch.setattr(nearest, "BLOCK_DOCUMENTS", 10)
    nearest.nearest(["问5"], lambda: (Counted(f"问{n}") for n in range(500)))
    assert most <= 25
    dialogues = [dialogue(n, f"问{n}", f"答{n}") for n in range(30)]
    answers, _ = floors.retrieved_answers([asked(1, question="问7")], lambda: islice(dialogues, 30))
    assert answers == ["答7"]


@pytest.fixture
def answer(checkpoint: Path, tmp_path: Path):
    """Run the stage with the tiny checkpoint; (result, bytes of the predictions)."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/checkpoint").symlink_to(checkpoint)
    inputs = {"ingest": tmp_path / "ingest", "model": tmp_path / "model"}
    inputs["ingest"].mkdir()

    def answer(out: Path, questions: list[Question], cache: Path | None = None, seed: int = 1, **more) -> tuple[Result, bytes]:
        records.write(inputs["ingest"] / "questions.jsonl", questions)
        (out / "scratch").mkdir(parents=True, exist_ok=True)
        config = generate.System(system="x", decoding=generate.Decoding(max_new_tokens=8, min_new_tokens=1, **more), batch_size=4)
        result = generate.run(config, inputs, out, Context(seed=seed, threads=1, cache=cache))
        return result, (out / "predictions.jsonl").read_bytes()

    return answer


QUESTIONS = [asked(n, question=f"{TOPICS[n % 6]}{'的' * (n % 4)}怎么办？") for n in range(12)] + [asked(12, question="长" * 400)]


def test_a_model_answers_and_an_interrupted_run_goes_on_in_the_same_bytes(answer, tmp_path: Path) -> None:
    """Whatever was answered when it was killed, and a torn line: the rest is made, and nothing twice."""
    result, whole = answer(tmp_path / "whole", QUESTIONS)
    assert result.num_out == 13 and result.facts["finish"]["prompt_too_long"] == 1
    [journal] = (tmp_path / "whole/scratch").glob("generated-*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 12  # that a question is too long costs nothing to find again
    for number, torn in ((0, b""), (5, b'["7f",["'), (12, b"")):
        out = tmp_path / f"after{number}"
        (out / "scratch").mkdir(parents=True)
        (out / "scratch" / journal.name).write_bytes(b"".join(lines[:number]) + torn)
        assert answer(out, QUESTIONS)[1] == whole
        resumed = (out / "scratch" / journal.name).read_bytes().splitlines(keepends=True)
        assert sorted(resumed) == sorted(lines) and resumed[:number] == lines[:number]


def test_what_a_model_answered_in_another_run_is_not_decoded_again(answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    answers = generate.Engine.answers

    def counting(self, dialogues, *more):
        decoded.extend(turns[-1].content for turns in dialogues)
        return answers(self, dialogues, *more)

    monkeypatch.setattr(generate.Engine, "answers", counting)
    cache = tmp_path / "cache"
    fresh = answer(tmp_path / "fresh", QUESTIONS[:8])[1]
    decoded.clear()
    answer(tmp_path / "a", [*QUESTIONS[4:8], asked(30, question=QUESTIONS[4].question)], cache)
    assert sorted(decoded) == sorted(question.question for question in QUESTIONS[4:8])  # a question that stands there twice, once
    assert answer(tmp_path / "b", QUESTIONS[:8], cache)[1] == fresh
    assert sorted(decoded) == sorted(question.question for question in QUESTIONS[:8])
    answer(tmp_path / "c", QUESTIONS[:8], cache, seed=2)  # greedy: the seed changes nothing
    assert len(decoded) == 8
    answer(tmp_path / "d", QUESTIONS[:8], cache, repetition_penalty=1.3)
    answer(tmp_path / "e", QUESTIONS[:8], cache, do_sample=True)
    answer(tmp_path / "f", QUESTIONS[:8], cache, do_sample=True, seed=2)
    assert len(decoded) == 32 and len(list(cache.glob("generated-*.jsonl"))) == 4
    weights = tmp_path / "model/checkpoint"
    other = tmp_path / "other"
    other.mkdir()
    for file in weights.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    weights.unlink()
    weights.symlink_to(other)
    answer(tmp_path / "g", QUESTIONS[:8], cache)
    assert len(decoded) == 32  # the same model in another place
    (other / "prompt.json").write_text('{"name": "other", "user": "问：{}\\n答："}', "utf-8")
    answer(tmp_path / "h", QUESTIONS[:8], cache)
    assert len(decoded) == 40


def test_a_model_is_given_the_turns_before_a_question(answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only the last one: equal questions behind other turns are two prompts, and two entries of the cache."""
    given: list[list[Turn]] = []
    encode = prompt.encode
    monkeypatch.setattr(prompt, "encode", lambda turns, *more: given.append(list(turns)) or encode(turns, *more))
    talk = asked(1, question="怎么办？", history=(Turn("user", "头痛失眠"), Turn("assistant", "多久了？")))
    answer(tmp_path / "out", [talk, asked(2, question="怎么办？")])
    assert sorted(given, key=len) == [[Turn("user", "怎么办？")], list(talk.turns)]


def test_without_training_data_a_random_answer_is_that_to_another_question():
    asked = [Question(id=f"q:{number}", question=f"问{number}", references=(f"答{number}", "又答")) for number in range(9)]
    given = answers_of_others(asked, seed=1)
    assert sorted(given) == [f"答{number}" for number in range(9)]
    assert all(answer != question.references[0] for answer, question in zip(given, asked, strict=True))
    assert given == answers_of_others(asked, seed=1) != answers_of_others(asked, seed=2)
    assert answers_of_others(asked[:1], seed=1) == [None]
    crossed = [
        Question(
            id=f"q:{number}", question=f"问{number}", references=(f"答{number}",), distractors=tuple(f"答{other}" for other in range(4))
        )
        for number in range(6)
    ]
    drawn = answers_of_others(crossed, seed=3)
    assert all(answer not in (*each.references, *each.distractors) for answer, each in zip(drawn, crossed, strict=True))
    assert set(drawn) == {"答4", "答5"}


def test_a_floor_without_any_answer_and_a_system_of_empty_ones_are_told(tmp_path, capsys):
    (tmp_path / "ingest").mkdir()
    write(tmp_path / "ingest" / "questions.jsonl", [asked(1)])
    (tmp_path / "out").mkdir()
    result = generate.run(generate.System(system="random", kind="random"), {"ingest": tmp_path / "ingest"}, tmp_path / "out", Context())
    assert (result.num_out, result.dropped) == (0, {"no_other_answer": 1})
    silent = generate.System(system="mute", kind="canned", canned="")
    assert generate.run(silent, {"ingest": tmp_path / "ingest"}, tmp_path / "out", Context()).facts["num_empty"] == 1
    assert "mute: 1 of 1 answers are empty" in capsys.readouterr().err
