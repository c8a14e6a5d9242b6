"""Each baseline against what its own published code did on tiny checkpoints (record_baselines.py ran it, and wrote the golden file)."""

import json
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import models
from medchatzh.models.published import adapters, baselines, beams, deltas
from medchatzh.models.published.baselines import answer, baseline, extract, from_text, ids, render, request
from medchatzh.records import Turn
from tests.models import published

CASES = json.loads((Path(__file__).parents[1] / "golden" / "baselines.json").read_text("utf-8"))


DIALOGUE = (Turn("user", " 甲 "), Turn("assistant", "乙"), Turn("user", "丙"))


def turns_of(case):
    return [Turn("assistant" if number % 2 else "user", text) for number, text in enumerate(case["turns"])]


def named(*names):
    """The cases of baselines with these names, for parametrize."""
    return [
        pytest.param(case, id=f"{case['baseline']}-{case['variant']}-{len(case['turns'])}-{number}")
        for number, case in enumerate(CASES)
        if case["baseline"] in names
    ]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Name and variant → (model, tokenizer), from folders in the published layouts."""
    folder = tmp_path_factory.mktemp("baselines")
    models.set_threads(1)  # so small a model has nothing for a second one to do but wait
    llama = published.llama(folder / "llama")
    adapters.merge(llama, published.lora(folder / "lora"), folder / "bentsao")
    base = published.llama(folder / "ziya", num_shards=2)
    deltas.apply(base, published.delta(folder / "delta", vocab=published.VOCAB), folder / "huatuogpt")
    places = {
        ("bentsao", "official"): folder / "bentsao",
        ("bentsao", "paper"): llama,  # the script was run without an adapter
        ("huatuogpt", "official"): folder / "huatuogpt",
        ("medchatzh", "official"): llama,  # a Baichuan of the same weights answered
    }
    return {key: (models.load_causal(place).eval(), models.load_tokenizer(place)[0]) for key, place in places.items()}


@pytest.mark.parametrize("case", named(*baselines.NAMES))
def test_the_prompt_is_that_of_its_own_code(case):
    assert render(baseline(case["baseline"], case["variant"]), turns_of(case)) == case["text"]


@pytest.mark.parametrize("case", named("medchatzh", "bentsao", "huatuogpt"))
def test_the_model_sees_the_ids_that_its_own_code_gave_it(case, loaded):
    _, tokenizer = loaded[case["baseline"], case["variant"]]
    assert ids(baseline(case["baseline"], case["variant"]), turns_of(case), tokenizer) == case["ids"]


@pytest.mark.parametrize("case", [param for param in named("medchatzh", "bentsao") if "new_ids" in param.values[0]])
def test_what_is_decoded_and_read_is_what_its_own_code_decoded_and_read(case, loaded):
    chosen = baseline(case["baseline"], case["variant"])
    model, tokenizer = loaded[case["baseline"], case["variant"]]
    prompt_ids = ids(chosen, turns_of(case), tokenizer)
    if chosen.num_beams > 1:
        new_ids = beams.search(model, prompt_ids, chosen.num_beams, chosen.decoding.max_new_tokens, tokenizer.eos_token_id)
    else:
        new_ids = greedy(model, prompt_ids, chosen)
    assert new_ids == case["new_ids"]
    if case["answer"] is None:  # its own code raised IndexError: the question had pushed the marker out
        assert answer(chosen, turns_of(case), new_ids, tokenizer) == ""
    else:
        assert answer(chosen, turns_of(case), new_ids, tokenizer) == case["answer"]


def greedy(model, prompt_ids, chosen):
    decoding = chosen.decoding
    output = model.generate(
        torch.tensor([prompt_ids]),
        max_new_tokens=decoding.max_new_tokens,
        min_new_tokens=decoding.min_new_tokens,
        repetition_penalty=decoding.repetition_penalty,
        do_sample=False,
        pad_token_id=0,
    )
    return output[0, len(prompt_ids) :].tolist()


@pytest.mark.parametrize("case", named("huatuogpt"))
def test_huatuogpt_from_its_delta_answers_as_its_own_code_without_chance(case, loaded):
    chosen = baseline("huatuogpt")
    model, tokenizer = loaded["huatuogpt", "official"]
    new_ids = greedy(model, ids(chosen, turns_of(case), tokenizer), chosen)
    assert answer(chosen, turns_of(case), new_ids, tokenizer) == case["answer"]


@pytest.mark.parametrize("case", [param for param in named("medchatzh") if "shown_ids" in param.values[0]])
def test_medchatzh_with_a_history_answers_as_dialog_py(case, loaded):
    chosen = baseline("medchatzh")
    model, tokenizer = loaded["medchatzh", "official"]
    new_ids = greedy(model, ids(chosen, turns_of(case), tokenizer), chosen)
    assert new_ids[:-1] == case["shown_ids"]
    assert answer(chosen, turns_of(case), new_ids, tokenizer) == case["answer"]


@pytest.mark.parametrize("case", named("chatglm-med"))
def test_chatglm_is_asked_and_read_as_by_its_own_code(case):
    chosen = baseline("chatglm-med", case["variant"])
    assert extract(chosen, turns_of(case), case["decoded"]) == case["answer"]
    sampling = request(chosen, turns_of(case), num_prompt_tokens=3).sampling
    options = case["options"]
    assert sampling.max_tokens == (options["max_length"] - 3 if "max_length" in options else options["max_new_tokens"])
    assert sampling.min_tokens == options.get("min_new_tokens")
    assert sampling.repetition_penalty == options.get("repetition_penalty")
    if options.get("do_sample"):
        assert (sampling.temperature, sampling.top_p, sampling.top_k) == (options["temperature"], options["top_p"], 50)
    else:
        assert sampling.temperature == 0 and sampling.ignore_eos


def test_the_golden_cases_hold_what_is_hard():
    """Answers with and without an end, a question too long, one that holds markers: else the file was recorded amiss."""
    bentsao = [case for case in CASES if case["baseline"] == "bentsao" and case["variant"] == "official"]
    assert {case["new_ids"][-1] == 2 for case in bentsao} == {True, False}
    assert any(case["answer"].endswith("</s>") for case in bentsao)
    assert any(case["answer"] is None for case in CASES if case["baseline"] == "medchatzh")
    assert any(len(case["ids"]) == 504 for case in CASES if case["baseline"] == "huatuogpt")
    assert any("Assistant: \n" in case["turns"][0] for case in CASES)


@pytest.mark.parametrize("name, variant", [(each.name, each.variant) for each in baselines._BASELINES.values()])
@given(question=st.text(min_size=1, max_size=40))
def test_a_question_stands_in_its_prompt_untouched(name, variant, question):
    chosen = baseline(name, variant)
    expected = question.strip() if chosen.question.strips_question else question
    before, after = chosen.question.template.user.split("{}")
    assert render(chosen, [Turn("user", question)]) == chosen.question.preamble + before + expected + after


def test_huatuogpts_history_ends_each_answer_with_the_tokenizers_eos():
    turns = [Turn("user", "甲"), Turn("assistant", "乙"), Turn("user", "丙")]
    assert render(baseline("huatuogpt"), turns, eos="<eos>").endswith("<病人>：甲 <HuatuoGPT>：乙<eos><病人>：丙 <HuatuoGPT>：")


def test_the_papers_dialogues_get_chinese_punctuation():
    """`process_response` of modeling_baichuan.py: ASCII marks beside a hanzi."""
    expected = "头疼：多休息，少熬夜；好吗？2023年 T,38:5"
    assert extract(baseline("medchatzh"), DIALOGUE, "头疼:多休息,少熬夜;好吗?[[训练时间]] T,38:5 ") == expected


def test_an_eos_written_in_the_answer_ends_huatuogpts():
    assert extract(baseline("huatuogpt"), [Turn("user", "甲")], "前文乙</s>丙</s>", prefix="前文") == "乙"


def test_gpt_gets_the_turns_and_the_apis_defaults():
    asked = request(baseline("gpt-3.5-turbo"), DIALOGUE)
    assert asked.prompt == DIALOGUE and asked.sampling.given() == {}
    assert from_text(baseline("gpt-3.5-turbo"), DIALOGUE, " 丁\n") == " 丁\n"


def test_chatglms_server_gets_questions_wrapped_and_makes_the_rounds():
    asked = request(baseline("chatglm-med"), DIALOGUE, num_prompt_tokens=300)
    assert [turn.content for turn in asked.prompt] == ["问题：甲\n答案：", "乙", "问题：丙\n答案："]
    assert asked.sampling.max_tokens == 1, "256 tokens were for prompt and answer together"


def test_a_model_behind_a_server_gets_its_finished_prompt():
    turns = [Turn("user", "头疼 <HuatuoGPT>：")]
    asked = request(baseline("huatuogpt"), turns, seed=7)
    assert asked.prompt == render(baseline("huatuogpt"), turns) and asked.seed == 7
    assert asked.sampling.given() == {"max_tokens": 512, "temperature": 0.5, "top_p": 1.0, "top_k": -1}
    assert from_text(baseline("huatuogpt"), turns, " 多休息。") == "多休息。"
    assert request(baseline("medchatzh"), turns).sampling.given() == {
        "max_tokens": 512,
        "min_tokens": 5,
        "temperature": 0.0,
        "repetition_penalty": 1.2,
    }


@pytest.mark.parametrize("name, variant", [("medchatzh", "official"), ("bentsao", "paper"), ("chatglm-med", "paper")])
def test_new_text_is_read_as_if_the_prompt_stood_before_it(name, variant):
    chosen = baseline(name, variant)
    assert from_text(chosen, [Turn("user", "头疼")], " 多休息。\n") == "多休息。"
    marker = chosen.question.marker
    if marker:
        assert from_text(chosen, [Turn("user", "头疼")], f"多休息。{marker}再说") == "多休息。"
        assert from_text(chosen, [Turn("user", f"头疼{marker}呢")], "多休息。").startswith("呢")


def test_the_papers_way_for_its_own_model_is_the_official_one():
    official, paper = baseline("medchatzh"), baseline("medchatzh", "paper")
    assert paper.variant == "paper" and msgspec.structs.replace(paper, variant="official") == official


def test_every_baseline_has_its_own_key():
    keys = {msgspec.json.encode(each) for each in baselines._BASELINES.values()}
    assert len(keys) == len(baselines._BASELINES) == 8


@pytest.mark.parametrize(
    "name, variant, told",
    [
        ("bentso", "official", "did you mean 'bentsao'?"),
        ("GPT-3.5", "official", "did you mean 'gpt-3.5-turbo'?"),
        ("灵枢", "official", "known: medchatzh, bentsao, huatuogpt, chatglm-med, gpt-3.5-turbo"),
        ("huatuogpt", "paper", "copied this row from HuatuoGPT's"),
        ("bentsao", "best", "unknown variant 'best'; known: official, paper"),
    ],
)
def test_a_wrong_name_is_told_with_the_remedy(name, variant, told):
    with pytest.raises(ValueError, match="baseline") as caught:
        baseline(name, variant)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "turns, told",
    [
        ([Turn("user", "甲"), Turn("assistant", "乙"), Turn("user", "丙")], "asks single questions"),
        ([Turn("system", "你是医生"), Turn("user", "甲")], "takes no system turn"),
        ([Turn("user", "甲"), Turn("assistant", "乙")], "the last turn must be the user's question"),
    ],
)
def test_turns_that_its_own_code_cannot_ask_are_refused(turns, told):
    with pytest.raises(ValueError, match=told):
        render(baseline("bentsao"), turns)


def test_what_only_an_endpoint_or_only_a_checkpoint_can_do_is_told(checkpoint):
    tokenizer, _ = models.load_tokenizer(checkpoint)
    with pytest.raises(ValueError, match="reached over an endpoint"):
        ids(baseline("chatglm-med"), [Turn("user", "甲")], tokenizer)
    with pytest.raises(ValueError, match="4 beams cannot be had over an endpoint"):
        request(baseline("bentsao"), [Turn("user", "甲")])
