"""Baselines, checkpoints and servers as systems of the generate stage: from a description to predictions, through every kill."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from medchatzh import generate, records
from medchatzh.generate import systems
from medchatzh.models.published import adapters, baselines, deltas
from medchatzh.models.published.asking import Asker
from medchatzh.models.published.baselines import baseline, render
from medchatzh.models.served.wire import Endpoint
from medchatzh.records import Prediction, Question, Reject, Turn
from medchatzh.run import Context
from tests.models import published
from tests.models.serving import Fault, Server, reply

CASES = json.loads((Path(__file__).parent / "golden" / "baselines.json").read_text("utf-8"))
KILLS = int(os.environ.get("MEDCHATZH_KILLS", "1"))
TALK = (Turn("user", "头痛"), Turn("assistant", "多久了？"))


def asked(number, question="", **more):
    return Question(id=f"q:{number}", source="q", question=question or f"第{number}个问题？", references=("答",), **more)


@pytest.fixture
def run(tmp_path):
    """Let a system answer questions; (result, predictions, rejects)."""

    def run(given, questions, out="out", seed=1, cache=None, **settings):
        config, folder = step(tmp_path, given, questions, **settings), tmp_path / out
        (folder / "scratch").mkdir(parents=True, exist_ok=True)
        result = generate.run(config, {"ingest": tmp_path}, folder, Context(seed=seed, threads=1, cache=cache))
        predictions = list(records.read(folder / "predictions.jsonl", Prediction))
        rejects = list(records.read(folder / "rejects.jsonl", Reject))
        assert (result.num_in, result.num_out, sum(result.dropped.values())) == (len(questions), len(predictions), len(rejects))
        assert all(one.system == given.name for one in predictions)
        return result, predictions, rejects

    return run


def step(folder, given, questions, **settings):
    records.write(folder / "questions.jsonl", questions)
    return generate.System.of(generate.Config(**settings), system=given.name, kind=given.kind, given=given)


def served(server, name="served", **fields):
    settings = fields.pop("settings", {})
    return systems.Config(name=name, endpoint=Endpoint(base_url=server.base_url, model="some-model", **settings), **fields)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return published.llama(tmp_path_factory.mktemp("systems") / "llama")


def cases_of(name, variant, number):
    """The first recorded single questions of a baseline, and its own code's answers."""
    cases = [case for case in CASES if (case["baseline"], case["variant"]) == (name, variant) and len(case["turns"]) == 1][:number]
    return [asked(n, case["turns"][0]) for n, case in enumerate(cases)], [case["answer"] or "" for case in cases]


def test_bentsao_from_a_base_and_its_adapter_answers_as_its_own_code(run, llama, tmp_path):
    questions, expected = cases_of("bentsao", "official", 3)
    given = systems.Config(name="bentsao", baseline="bentsao", model=str(llama), adapter=str(published.lora(tmp_path / "lora")))
    result, predictions, _ = run(given, questions)
    assert [one.answer for one in predictions] == expected
    assert result.facts["asked_as"] == "bentsao (official)" and "Huatuo-Llama-Med-Chinese" in result.facts["source"]


def test_a_checkpoint_is_asked_as_the_papers_script_asks_it(run, llama, tmp_path):
    """Both with the same weights and decoding, from one cache: only the prompt tells them apart."""
    for name, recorded in (("medchatzh", "official"), ("bentsao", "paper")):
        questions, expected = cases_of(name, recorded, 4)
        given = systems.Config(name="any", baseline=name, variant="paper", model=str(llama))
        assert [one.answer for one in run(given, questions, out=name, cache=tmp_path / "cache")[1]] == expected


def test_huatuogpt_is_assembled_from_a_base_and_two_deltas_and_only_once(run, tmp_path, monkeypatch):
    base, one, two = published.llama(tmp_path / "llama"), tmp_path / "ziya", tmp_path / "huatuogpt"
    published.delta(one, seed=4, vocab=published.VOCAB)
    published.delta(two, seed=5, vocab=published.VOCAB)
    decoding = msgspec.structs.replace(baseline("huatuogpt").decoding, max_new_tokens=16)
    chosen = msgspec.structs.replace(baseline("huatuogpt"), decoding=decoding)
    monkeypatch.setattr(systems.Config, "chosen", chosen)
    given = systems.Config(name="huatuogpt", baseline="huatuogpt", model=str(base), deltas=(str(one), str(two)))
    questions = [asked(0), asked(1, history=TALK), asked(2)]
    _, predictions, _ = run(given, questions, seed=3)
    deltas.apply(base, one, tmp_path / "first")
    deltas.apply(tmp_path / "first", two, tmp_path / "second")
    asker = Asker(chosen, tmp_path / "second", threads=1)
    expected = dict(asker.answers([question.turns for question in questions], seed=3))
    assert [(each.answer, each.finish) for each in predictions] == [expected[number] for number in range(3)]
    for journal in (tmp_path / "out/scratch").glob("generated-*"):
        journal.unlink()
    monkeypatch.setattr(deltas, "apply", None)  # a run that was killed while it answered finds the checkpoint that it had made
    assert run(given, questions, seed=3)[1] == predictions


def test_what_is_known_needs_no_model_in_memory(run, llama, tmp_path, monkeypatch):
    questions, expected = cases_of("bentsao", "official", 2)
    given = systems.Config(name="bentsao", baseline="bentsao", model=str(llama), adapter=str(published.lora(tmp_path / "lora")))
    run(given, questions, out="a", cache=tmp_path / "cache")
    monkeypatch.setattr(adapters, "merge", None)
    renamed = msgspec.structs.replace(given, name="BenTsao")
    assert [one.answer for one in run(renamed, questions, out="b", cache=tmp_path / "cache")[1]] == expected
    monkeypatch.setattr(baselines, "VERSION", baselines.VERSION + 1)
    with pytest.raises(TypeError):  # answers that were read in another way are not taken again
        run(renamed, questions, out="d", cache=tmp_path / "cache")
    with pytest.raises(TypeError):  # a baseline's two variants are two systems
        run(msgspec.structs.replace(given, variant="paper"), questions, out="c", cache=tmp_path / "cache")


def test_questions_that_a_baseline_has_no_way_to_ask_are_told(run, llama):
    given = systems.Config(name="bentsao", baseline="bentsao", variant="paper", model=str(llama))
    result, predictions, rejects = run(given, [asked(0), asked(1, history=TALK)])
    assert [one.id for one in predictions] == ["q:0"] and result.dropped == {"not_askable": 1}
    assert rejects[0].id == "q:1" and "asks single questions" in rejects[0].detail
    nowhere = msgspec.structs.replace(given, model="/nowhere")
    with pytest.raises(ValueError, match="bentsao cannot be asked any of the 1 questions: .* asks single questions"):
        run(nowhere, [asked(1, history=TALK)])
    with pytest.raises(ValueError, match="systems 'bentsao': model: /nowhere is not a folder"):
        nowhere.files()


def test_gpt_over_an_endpoint(run, tmp_path):
    questions = [asked(0), asked(1, history=TALK), asked(2)]
    with Server(answer=lambda prompt: f" {reply(prompt)}\n") as server:
        given = served(server, "gpt", baseline="gpt-3.5-turbo", settings={"prompt_price": 0.5, "completion_price": 1.5})
        result, predictions, _ = run(given, questions, cache=tmp_path / "cache", seed=5)
        assert run(given, questions, out="again", cache=tmp_path / "cache", seed=5)[0] == result
    assert (tmp_path / "again/predictions.jsonl").read_bytes() == (tmp_path / "out/predictions.jsonl").read_bytes()
    assert [one.answer for one in predictions] == [f" {reply(question.question)}\n" for question in questions]
    assert len(server.asked) == 3
    bodies = {body["messages"][-1]["content"]: body for _, body in server.asked}
    assert bodies["第1个问题？"]["messages"] == [{"role": turn.role, "content": turn.content} for turn in questions[1].turns]
    assert bodies["第0个问题？"] == {"model": "some-model", "seed": 5, "messages": [{"role": "user", "content": "第0个问题？"}]}
    used = result.facts["usage"]
    assert used["num_requests"] == 3 and used["served_models"] == ["some-model-0125"]
    assert used["cost"] == round((used["prompt_tokens"] * 0.5 + used["completion_tokens"] * 1.5) / 1e6, 6) > 0
    assert result.facts["asked_as"] == "gpt-3.5-turbo (official)"


def test_any_model_behind_a_server_gets_the_turns_and_what_extra_says(run):
    question = asked(0, history=(Turn("system", "你是医生。"), *TALK))
    with Server() as server:
        result, predictions, _ = run(served(server, settings={"extra": {"temperature": 0}}), [question])
    assert "asked_as" not in result.facts and predictions[0].answer == reply(question.question)
    [(path, body)] = server.asked
    assert path == "/v1/chat/completions" and [turn["role"] for turn in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["temperature"] == 0


def test_a_baseline_behind_a_server_gets_its_own_prompt_and_decoding(run):
    with Server(answer=lambda prompt: " 多休息。 </s>再见") as server:
        _, predictions, _ = run(served(server, baseline="huatuogpt", settings={"server": "vllm"}), [asked(0, history=TALK)])
    assert predictions[0].answer == "多休息。"
    [(path, body)] = server.asked
    assert path == "/v1/completions" and body["prompt"] == render(baseline("huatuogpt"), [*TALK, Turn("user", "第0个问题？")])
    assert (body["max_tokens"], body["temperature"], body["top_p"], body["top_k"]) == (512, 0.5, 1.0, -1)


def test_chatglms_limit_is_of_prompt_and_answer_together(run):
    """The server counts characters here. An answer beyond the 256 tokens of both is asked for anew, with what the prompt leaves."""
    short, long = asked(0, "头痛？"), asked(1, "头" * 240)
    with Server(answer=lambda prompt: "多休息" * 20 + "[[训练时间]]") as server:
        result, predictions, _ = run(served(server, baseline="chatglm-med", settings={"server": "vllm"}), [short, long])
    limits = Counter((body["messages"][-1]["content"], body["max_tokens"]) for _, body in server.asked)
    prompts = [f"问题：{question.question}\n答案：" for question in (short, long)]
    assert limits == {(prompts[0], 256): 1, (prompts[1], 256): 1, (prompts[1], 256 - len(prompts[1])): 1}
    assert predictions[0].answer == "多休息" * 20 + "2023年" and result.facts["usage"]["num_requests"] == 3


def test_what_a_server_refuses_is_an_empty_answer_with_its_reason(run):
    def fault(prompt, _):
        if "1" in prompt:
            return Fault(status=400, body={"error": {"message": "filtered", "code": "content_filter"}})
        return Fault(status=400, body={"error": {"message": "maximum context length"}}) if "2" in prompt else None

    with Server(fault=fault) as server:
        result, predictions, _ = run(served(server), [asked(n) for n in range(3)])
    assert [(bool(one.answer), one.finish) for one in predictions] == [
        (True, "stop"),
        (False, "content_filter"),
        (False, "prompt_too_long"),
    ]
    assert result.facts["finish"] == {"content_filter": 1, "prompt_too_long": 1, "stop": 1}


SCRIPT = """
import sys
from pathlib import Path
import msgspec
from medchatzh import generate
from medchatzh.run import Context

config = msgspec.json.decode(sys.argv[1], type=generate.System)
inputs, out = map(Path, sys.argv[2:])
(out / "scratch").mkdir(parents=True, exist_ok=True)
generate.run(config, {"ingest": inputs}, out, Context(seed=1, threads=1))
"""


def process(config, folder, out):
    arguments = [sys.executable, "-c", SCRIPT, msgspec.json.encode(config).decode(), str(folder), str(out)]
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def journal(out):
    """The whole lines that a step has written so far."""
    found = [*out.glob("scratch/generated-*.jsonl"), *out.glob("scratch/answers-*.jsonl")]
    return [line for path in found for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def kill_and_resume(config, folder, kills):
    """Run the step, kill it again and again, and let it end; the bytes of its predictions."""
    out, chance = folder / "killed", random.Random(3)
    for _ in range(kills):
        enough = len(journal(out)) + chance.randint(3, 9)
        running = process(config, folder, out)
        while running.poll() is None and len(journal(out)) < enough:
            time.sleep(0.001)
        running.send_signal(signal.SIGKILL)
        assert running.wait() in (0, -signal.SIGKILL), running.stderr.read()
        running.stderr.close()
    running = process(config, folder, out)
    assert running.wait(120) == 0, running.stderr.read()
    running.stderr.close()
    keys = Counter(msgspec.json.decode(line)[0] for line in journal(out))
    assert set(keys.values()) == {1}  # nothing twice
    return (out / "predictions.jsonl").read_bytes()


@pytest.mark.slow
def test_over_http_killed_at_any_moment_it_ends_in_the_same_bytes(run, tmp_path):
    questions, kills = [asked(n) for n in range(60)], 4
    with Server() as server:
        given = served(server, "gpt", baseline="gpt-3.5-turbo", settings={"max_concurrency": 4})
        run(given, questions)
        expected = (tmp_path / "out/predictions.jsonl").read_bytes()
        server.asked.clear()
        server.seconds = 0.02
        assert kill_and_resume(step(tmp_path, given, questions), tmp_path, kills) == expected
    assert len(questions) <= len(server.asked) <= len(questions) + kills * 4  # what was under way, and no more


@pytest.mark.slow
def test_a_checkpoint_killed_at_any_moment_ends_in_the_same_bytes(run, llama, tmp_path):
    questions = [asked(n) for n in range(30)]
    given = systems.Config(name="bentsao", baseline="bentsao", variant="paper", model=str(llama))
    run(given, questions, batch_size=4)
    expected = (tmp_path / "out/predictions.jsonl").read_bytes()
    assert kill_and_resume(step(tmp_path, given, questions, batch_size=4), tmp_path, KILLS) == expected


@pytest.mark.parametrize(
    "fields, told",
    [
        ({"model": "m", "name": "a b"}, "systems 'a b': a name has no spaces"),
        ({}, "give either model, a checkpoint folder, or endpoint.base_url and endpoint.model"),
        ({"model": "m", "endpoint": {"base_url": "http://h/v1", "model": "m"}}, "give either model"),
        ({"endpoint": {"base_url": "http://h/v1"}}, "give either model"),
        ({"adapter": "a", "endpoint": {"base_url": "http://h/v1", "model": "m"}}, "needs the base that it changes: set model"),
        ({"model": "m", "variant": "paper"}, "variant 'paper' is of a baseline: set baseline"),
        ({"model": "m", "baseline": "bentso"}, "did you mean 'bentsao'?"),
        ({"model": "m", "baseline": "huatuogpt", "variant": "paper"}, "no variant 'paper'"),
        ({"model": "m", "baseline": "chatglm-med"}, "has no checkpoint that runs here; give an endpoint"),
        ({"baseline": "bentsao", "endpoint": {"base_url": "http://h/v1", "model": "m"}}, "4 beams cannot be had over an endpoint"),
    ],
)
def test_a_description_that_cannot_work_is_told(fields, told):
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"name": "x"} | fields, systems.Config)
    assert told in str(caught.value)


def test_all_that_a_checkpoint_is_made_of_decides_its_fingerprint(llama, tmp_path):
    given = systems.Config(name="x", model=str(llama), adapter=str(published.lora(tmp_path / "lora")))
    assert set(given.files()) == {f"model/{file.name}" for file in llama.iterdir()} | {
        "adapter/adapter_config.json",
        "adapter/adapter_model.bin",
    }


def test_folders_are_laid_over_each_other_in_order():
    given = systems.Config(name="x", model="base", deltas=("ziya", "huatuogpt"), adapter="lora")
    assert list(given.folders().items()) == [
        ("model", Path("base")),
        ("deltas[0]", Path("ziya")),
        ("deltas[1]", Path("huatuogpt")),
        ("adapter", Path("lora")),
    ]
