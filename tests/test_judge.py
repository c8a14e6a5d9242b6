"""The LLM judge against a real server that plays judges whose faults are known: what is reported must be those faults."""

import re
import signal
import subprocess
import sys
import time
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medchatzh import judge
from medchatzh.judge import Judgement, Pairwise, choose, reliability, share, verdict, versus
from medchatzh.models.served.wire import Answer, Endpoint, Sampling
from medchatzh.records import Prediction, Question, Turn, read, write
from medchatzh.run import SCRATCH, Context
from tests.models.serving import Server

NUM = 40


def shown(prompt):
    """The question and the two answers, as the judge reads them."""
    return re.search(
        r"【患者提问】\n(.*)\n【患者提问结束】.*【回答A】\n(.*)\n【回答A结束】.*【回答B】\n(.*)\n【回答B结束】", prompt, re.DOTALL
    ).groups()


def says(mark):
    return f"两份回答各有长处，[[A]] 与 [[B]] 相比……\n\n{mark}\n"


def longer(prompt):
    """A judge without position bias: the longer answer wins."""
    _, one, two = shown(prompt)
    return says("[[平]]" if len(one) == len(two) else "[[A]]" if len(one) > len(two) else "[[B]]")


def systems(folder, **answers):
    """Inputs of the stage: a benchmark of NUM questions, and systems whose answer to question n is `answers[name](n)` ('' for none)."""
    questions = [
        Question(id=f"q:{n}", source="q", category="内科", question=f"第{n}个问题？", references=("多休息。",)) for n in range(NUM)
    ]
    inputs = {"ingest": folder / "ingest"}
    inputs |= {f"generate@{name}": folder / name for name in answers}
    for path in inputs.values():
        path.mkdir(parents=True, exist_ok=True)
    write(inputs["ingest"] / "questions.jsonl", questions)
    for name, given_by in answers.items():
        answered = [(question, given_by(n)) for n, question in enumerate(questions)]
        write(
            folder / name / "predictions.jsonl",
            [
                Prediction(id=question.id, source="q", category="内科", system=name, question=question.question, answer=answer)
                for question, answer in answered
                if answer
            ],
        )
    return inputs


def run(server, inputs, out, cache=None, seed=1, **settings):
    endpoint = Endpoint(base_url=server.base_url, model="judge-model", prompt_price=1.0, completion_price=2.0)
    out.mkdir(exist_ok=True)
    result = judge.run(judge.Config(endpoint=endpoint, **settings), inputs, out, Context(seed=seed, cache=cache))
    return msgspec.json.decode((out / "pairwise.json").read_bytes(), type=Pairwise), result


def ours(n):
    """Longer than `theirs` at 24 questions, as long at 6, shorter at 10."""
    return "答" * (5 + (n < 24) - (n >= 30))


def theirs(_):
    return "复" * 5


def test_a_judge_without_bias_finds_who_is_better(tmp_path):
    with Server(answer=longer) as server:
        found, result = run(server, systems(tmp_path, ours=ours, theirs=theirs), tmp_path / "out")
    [against] = found.versus
    assert (against.main, against.other) == ("ours", "theirs")
    assert (against.wins, against.ties, against.losses, against.num_unreadable, against.num_unpaired) == (24, 6, 10, 0, 0)
    assert (against.win.mean, against.tie.mean, against.loss.mean, against.score.mean) == (0.6, 0.15, 0.25, 0.675)
    assert 0.4 < against.score.low < 0.6 < 0.75 < against.score.high < 0.85 and against.score.n == 40
    sure = found.reliability
    assert sure.agreement.mean == 1 and sure.unreadable.mean == 0 and sure.num_verdicts == 80
    assert sure.first_position.mean == 0.5 and sure.first_position.low == sure.first_position.high == 0.5 and sure.first_position.n == 68
    assert sure.outcomes == {"loss/loss": 10, "tie/tie": 6, "win/win": 24}
    assert (result.num_in, result.num_out, result.dropped) == (80, 80, {})
    assert result.facts["num_requests"] == 80 and result.facts["scores"] == {"theirs": 0.675} and result.facts["cost"] > 0


def test_a_judge_that_only_looks_at_the_place_decides_nothing(tmp_path):
    with Server(answer=lambda _: says("[[A]]")) as server:
        found, _ = run(server, systems(tmp_path, ours=ours, theirs=theirs), tmp_path / "out")
    [against] = found.versus
    assert (against.wins, against.ties, against.losses, against.score.mean) == (0, 40, 0, 0.5)
    assert found.reliability.first_position.mean == 1 and found.reliability.agreement.mean == 0
    assert found.reliability.outcomes == {"win/loss": 40}


def test_a_judge_that_leans_to_the_second_place(tmp_path):
    """At every fourth question it names the second answer, else the longer one."""

    def leaning(prompt):
        return says("[[B]]") if int(re.search(r"第(\d+)个", prompt)[1]) % 4 == 0 else longer(prompt)

    with Server(answer=leaning) as server:
        found, _ = run(server, systems(tmp_path, ours=ours, theirs=theirs), tmp_path / "out")
    assert found.reliability.agreement.mean == 0.75 and found.reliability.outcomes["loss/win"] == 10
    biased = found.reliability.first_position
    decided = Counter(n % 4 == 0 for n in range(NUM) if n % 4 == 0 or ours(n) != "答" * 5)
    assert biased.mean == pytest.approx(decided[False] / (2 * decided.total()), abs=1e-6) and biased.high < 0.5


def test_what_cannot_be_read_is_counted_and_kept(tmp_path):
    def mumbling(prompt):
        question, one, _ = shown(prompt)
        return "我认为回答A更好。" if "第7个" in question and "答" in one else longer(prompt)

    with Server(answer=mumbling) as server:
        found, result = run(server, systems(tmp_path, ours=ours, theirs=theirs), tmp_path / "out")
    [against] = found.versus
    assert against.num_unreadable == 1 and against.wins == 23 and found.reliability.num_unreadable == 1
    assert found.reliability.unreadable.mean == 1 / 80 and result.dropped == {"unreadable": 1} and result.num_out == 79
    assert found.reliability.outcomes["unreadable/win"] == 1 and found.reliability.agreement.n == 39
    kept = [each for each in read(tmp_path / "out" / "judgements.jsonl", Judgement) if each.verdict == "unreadable"]
    assert [(each.id, each.first, each.second, each.reply) for each in kept] == [("q:7", "ours", "theirs", "我认为回答A更好。")]


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_a_judge_that_says_nothing_useful_at_all(finish, tmp_path):
    cut = {"finish_reason": finish, "message": {"content": "[[A]]"}}
    with Server(answer=lambda _: cut) as server:
        found, _ = run(server, systems(tmp_path, ours=ours, theirs=theirs), tmp_path / "out")
    assert found.versus[0].score is None and found.reliability.agreement is None and found.reliability.first_position is None
    assert found.reliability.unreadable.mean == 1


def test_each_pair_is_asked_in_both_orders_and_every_word_is_kept(tmp_path):
    with Server(answer=longer) as server:
        run(server, systems(tmp_path, ours=ours, theirs=theirs), tmp_path / "out")
    asked = Counter(shown(prompt) for prompt in server.prompts)
    assert asked == Counter({(f"第{n}个问题？", *both): 1 for n in range(NUM) for both in ((ours(n), theirs(n)), (theirs(n), ours(n)))})
    assert {body["max_tokens"] for _, body in server.asked} == {1024} and {body["temperature"] for _, body in server.asked} == {0}
    kept = list(read(tmp_path / "out" / "judgements.jsonl", Judgement))
    assert [(each.id, each.first, each.second) for each in kept[:2]] == [("q:0", "ours", "theirs"), ("q:0", "theirs", "ours")]
    assert len(kept) == 80 and all(each.reply.startswith("两份回答") and each.category == "内科" for each in kept)


def test_the_signature_names_model_prompt_and_decoding(tmp_path, monkeypatch):
    inputs = systems(tmp_path, ours=ours, theirs=theirs)
    with Server(answer=longer) as server:
        plain, _ = run(server, inputs, tmp_path / "a")
        warm, _ = run(server, inputs, tmp_path / "b", sampling=Sampling(max_tokens=1024, temperature=0.7))
        monkeypatch.setattr(judge, "PROMPT", judge.PROMPT.replace("严谨", "仔细"))
        other, _ = run(server, inputs, tmp_path / "c")
    form = r"judge\|lvl:pair\|orders:both\|model:judge-model\|served:judge-model-0125\|prompt:[0-9a-f]{12}\|dec:(.*)\|seed:1\|v:1"
    assert re.fullmatch(form, plain.signature)[1] == '{"max_tokens":1024,"temperature":0.0}'
    assert len({plain.signature, warm.signature, other.signature}) == 3
    assert plain.prompt in other.prompt.replace("仔细", "严谨")


def test_a_cache_changes_no_byte_and_more_questions_ask_only_what_is_new(tmp_path):
    inputs = systems(tmp_path, ours=ours, theirs=theirs, third=lambda n: "第三" if n % 5 else "")
    with Server(answer=longer) as server:
        few, _ = run(server, inputs, tmp_path / "few", tmp_path / "cache", max_questions=10)
        assert len(server.asked) == 2 * (10 + len(few.versus[1:]) * 10 - few.versus[1].num_unpaired)
        asked = set(server.prompts)
        server.asked.clear()
        run(server, inputs, tmp_path / "all", tmp_path / "cache", max_questions=0)
        assert len(server.asked) == 2 * (40 + 32) - len(asked) and not asked & set(server.prompts)
        found, _ = run(server, inputs, tmp_path / "alone", max_questions=0)
    assert [each.num_unpaired for each in found.versus] == [0, 8] and found.reliability.num_verdicts == 144
    for name in ("pairwise.json", "judgements.jsonl"):
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert list((tmp_path / "alone" / SCRATCH).glob("answers-judge-model-*.jsonl"))


SCRIPT = """
import sys
from pathlib import Path
from medchatzh import judge
from medchatzh.models.served.wire import Endpoint
from medchatzh.run import Context

url, folder, cache, out = sys.argv[1], *map(Path, sys.argv[2:])
out.mkdir(exist_ok=True)
inputs = {"ingest": folder / "ingest"} | {f"generate@{name}": folder / name for name in ("ours", "theirs")}
judge.run(judge.Config(endpoint=Endpoint(base_url=url, model="judge-model")), inputs, out, Context(seed=1, cache=cache))
"""


def test_killed_it_goes_on_and_writes_the_same_bytes(tmp_path):
    inputs = systems(tmp_path, ours=ours, theirs=theirs)
    with Server(answer=longer, seconds=0.01) as server:
        run(server, inputs, tmp_path / "expected")
        server.asked.clear()
        command = [sys.executable, "-c", SCRIPT, server.base_url, *(str(tmp_path / name) for name in ("", "cache", "out"))]
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while len(server.asked) < 30:
            assert running.poll() is None
            time.sleep(0.002)
        running.send_signal(signal.SIGKILL)
        running.wait()
        assert not (tmp_path / "out" / "pairwise.json").exists()
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert len(server.asked) <= 80 + 8 and set(Counter(server.prompts).values()) <= {1, 2}
    for name in ("pairwise.json", "judgements.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()


def test_of_several_turns_the_judge_sees_all(tmp_path):
    inputs = systems(tmp_path, ours=ours, theirs=theirs)
    history = (Turn("user", "咳嗽三天"), Turn("assistant", "有痰吗？"))
    write(inputs["ingest"] / "questions.jsonl", [Question(id="q:3", question="有，黄色", references=("看医生。",), history=history)])
    with Server(answer=longer) as server:
        found, _ = run(server, inputs, tmp_path / "out")
    assert shown(server.prompts[0])[0] == "患者：咳嗽三天\n医生：有痰吗？\n患者：有，黄色"
    assert found.versus[0].wins == 1 and len(server.asked) == 2


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("[[A]]", "first"),
        ("理由\n[[B]]", "second"),
        ("先看 [[A]]。\n\n**[[平]]**  \n", "tie"),
        ("[[A]]更好", "unreadable"),
        ("结论：[[A]]", "unreadable"),
        ("不是\n[[A]]\n[[B]]，而是平", "unreadable"),
        ("[[C]]", "unreadable"),
        ("A", "unreadable"),
        ("", "unreadable"),
        ("\n \n", "unreadable"),
    ],
)
def test_the_last_line_alone_is_the_verdict(text, read_as):
    assert verdict(Answer(text, "stop")) == read_as


@given(st.text(), st.sampled_from(["[[A]]", "[[B]]", "[[平]]"]))
def test_any_reasoning_before_it_is_let_pass(text, mark):
    assert verdict(Answer(f"{text}\n{mark}", "stop")) == verdict(Answer(mark, "stop")) != "unreadable"
    assert verdict(Answer(f"{text}\n{mark}", "length")) == "unreadable"


def judged(question, first, mark):
    names = ("ours", "theirs") if first == "ours" else ("theirs", "ours")
    return Judgement(id=question, question=question, first=names[0], second=names[1], verdict=mark, reply="", finish="stop")


MARKS = st.sampled_from(["first", "second", "tie", "unreadable"])


@settings(max_examples=25)  # sixteen bootstraps each
@given(st.lists(st.tuples(MARKS, MARKS), min_size=1, max_size=20))
def test_to_swap_the_systems_swaps_wins_and_losses_and_nothing_else(marks):
    pairs = [(judged(str(n), "ours", one), judged(str(n), "theirs", two)) for n, (one, two) in enumerate(marks)]
    swapped = [(two, one) for one, two in pairs]
    forward, backward = versus(pairs, "ours", "theirs", 0, seed=1), versus(swapped, "theirs", "ours", 0, seed=1)
    assert (forward.wins, forward.ties, forward.losses) == (backward.losses, backward.ties, backward.wins)
    assert forward.wins + forward.ties + forward.losses + forward.num_unreadable == len(pairs)
    one, two = forward.reliability, backward.reliability
    assert (one.agreement, one.first_position, one.unreadable) == (two.agreement, two.first_position, two.unreadable)
    if forward.score:
        assert forward.score.mean + backward.score.mean == pytest.approx(1, abs=2e-6)
    assert sum(one.outcomes.values()) == len(pairs) and reliability(pairs, seed=1) == one


def test_what_belongs_to_one_question_is_drawn_together():
    twenty = [("一", 1.0)] * 20 + [("二", 0.0)] * 20
    assert share(twenty, seed=0) == judge.Share(mean=0.5, low=0.0, high=1.0, n=40)
    apart = share([(str(n), value) for n, (_, value) in enumerate(twenty)], seed=0)
    assert 0.3 < apart.low < 0.5 < apart.high < 0.7 and share([], seed=0) is None


@given(st.sets(st.text(max_size=5), max_size=30), st.integers(1, 10), st.integers(0, 20))
def test_more_questions_hold_the_fewer(ids, few, more):
    assert choose(ids, few, 1) <= choose(ids, few + more, 1) <= ids == choose(ids, 0, 1)
    assert len(choose(ids, few, 1)) == min(few, len(ids)) and choose(sorted(ids), few, 1) == choose(ids, few, 1)


def test_inputs_that_cannot_be_judged_are_told(tmp_path):
    inputs = systems(tmp_path, ours=ours, theirs=theirs, none=lambda _: "")
    with Server(answer=longer) as server:
        with pytest.raises(ValueError, match="two or more inputs generate@SYSTEM"):
            run(server, {"ingest": inputs["ingest"], "generate@ours": inputs["generate@ours"]}, tmp_path / "out")
        with pytest.raises(ValueError, match="2 inputs, but predictions of ours alone; generate answers first"):
            run(server, {label: path for label, path in inputs.items() if label != "generate@theirs"}, tmp_path / "out")
        with pytest.raises(ValueError, match="2 inputs hold the predictions of ours; give each"):
            run(
                server, {"ingest": inputs["ingest"], "generate@a": inputs["generate@ours"], "generate@b": inputs["generate@ours"]}, tmp_path
            )
        write(inputs["ingest"] / "questions.jsonl", [Question(id="other", question="问", references=("答",))])
        del inputs["generate@none"]
        with pytest.raises(ValueError, match="no question that ours and another system both answered"):
            run(server, inputs, tmp_path / "out")
        assert server.asked == []
    with pytest.raises(ValueError, match="max_questions: -1"):
        judge.Config(max_questions=-1)


def test_without_an_address_it_says_so(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="base_url and model are not set"):
        judge.run(judge.Config(), systems(tmp_path, ours=ours, theirs=theirs), tmp_path / "out", Context())
