"""What the model is trained on is what it is served with; labels cover the answers and their EOS, nothing else."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from medchatzh import models, prompt
from medchatzh.records import Turn

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=40)
RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def tokenizer(checkpoint):
    return models.load_tokenizer(checkpoint)[0]


def dialogue(*contents: str) -> tuple[Turn, ...]:
    return tuple(Turn("assistant" if number % 2 else "user", content) for number, content in enumerate(contents))


def test_the_papers_text():
    paper = prompt.template("medchatzh")
    assert prompt.text(dialogue("头痛怎么办？", "多休息。"), paper) == "Human: \n头痛怎么办？\n\nAssistant: \n多休息。</s>"
    assert prompt.text(dialogue("甲", "乙", "丙"), paper) == "Human: \n甲\n\nAssistant: \n乙</s>Human: \n丙\n\nAssistant: \n"


def test_unknown_template_lists_the_known_ones():
    with pytest.raises(ValueError, match="medchatzh, bentsao"):
        prompt.template("alpaca2")


@pytest.mark.parametrize("name", prompt.TEMPLATES)
@RELAXED
@given(contents=st.lists(TEXT, min_size=1, max_size=3))
def test_served_ids_are_a_prefix_of_trained_ids(tokenizer, name, contents):
    template = prompt.template(name)
    turns = dialogue(*[text for content in contents for text in (content, content[::-1])])
    trained = prompt.encode(turns, tokenizer, template)
    for stop in range(1, len(turns), 2):
        served = prompt.encode(turns[:stop], tokenizer, template)
        assert trained.input_ids[: len(served.input_ids)] == served.input_ids
        answer = [label for label in prompt.encode(turns[stop : stop + 1], tokenizer, template).labels]
        start = len(served.input_ids)
        assert trained.labels[start : start + len(answer)] == answer
        assert answer[-1] == tokenizer.eos_token_id
    supervised = [label for label in trained.labels if label != prompt.IGNORE_INDEX]
    answers = [i for turn in turns[1::2] for i in prompt.encode([turn], tokenizer, template).input_ids]
    assert supervised == answers


@pytest.mark.parametrize("name", prompt.TEMPLATES)
def test_exported_chat_template_gives_the_same_text(tokenizer, checkpoint, name, tmp_path):
    template = prompt.template(name)
    models.save_tokenizer(AutoTokenizer.from_pretrained(checkpoint), template, tmp_path)
    exported = AutoTokenizer.from_pretrained(tmp_path)
    turns = [Turn("system", "你是医生。"), *dialogue("咳嗽'三天'\\了？\n痰黄", "多饮水。", "还发热呢？")]
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    assert exported.apply_chat_template(messages, tokenize=False) == prompt.text(turns, template)
    single = [{"role": "user", "content": "咳嗽三天了？"}]
    ids = exported.apply_chat_template(single, tokenize=True, return_dict=True)["input_ids"]
    assert ids == prompt.encode(dialogue("咳嗽三天了？"), tokenizer, template).input_ids
    assert prompt.load(tmp_path) == template


def test_special_tokens_of_a_template_are_themselves_and_a_users_stay_text(checkpoint, tmp_path):
    """As in Qwen's checkpoints, where ChatML's markers are tokens: what is trained on is what transformers and vLLM serve."""
    loaded = AutoTokenizer.from_pretrained(checkpoint)
    loaded.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    template = prompt.template("chatml")
    models.save_tokenizer(loaded, template, tmp_path)
    exported = AutoTokenizer.from_pretrained(tmp_path)
    turns = [Turn("system", "你是医生。"), *dialogue("咳嗽", "多饮水。", "还发热")]
    ids = prompt.encode(turns, exported, template).input_ids
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    assert ids == exported.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
    start = exported.convert_tokens_to_ids("<|im_start|>")
    assert ids.count(start) == 5 and ids[0] == start
    shouted = prompt.encode(dialogue("咳嗽<|im_start|>"), exported, template).input_ids
    assert shouted.count(start) == 2 and "咳嗽<|im_start|>" in exported.decode(shouted)


def test_a_users_literal_eos_stays_text(tokenizer):
    encoded = prompt.encode(dialogue("前</s>后<pad><s>"), tokenizer, prompt.template("medchatzh"))
    assert tokenizer.eos_token_id not in encoded.input_ids
    assert "前</s>后<pad><s>" in tokenizer.decode(encoded.input_ids)


def test_long_dialogues_are_split_between_exchanges_and_counted(tokenizer):
    template = prompt.template("medchatzh")
    turns = dialogue("甲" * 10, "乙" * 10, "丙" * 10, "丁" * 10, "问" * 300, "答" * 300, "戊", "己")
    whole = prompt.encode(turns[:2], tokenizer, template)
    windows, dropped = prompt.split_to_fit(turns, tokenizer, template, len(whole.input_ids) + 2)
    assert dropped == 1
    assert [tokenizer.decode(window.input_ids, skip_special_tokens=True)[8:9] for window in windows] == ["甲", "丙", "戊"]
    assert all(window.labels[-1] == tokenizer.eos_token_id for window in windows)


def test_history_loses_its_oldest_exchanges_first(tokenizer):
    template = prompt.template("medchatzh")
    turns = dialogue("甲" * 20, "乙" * 20, "丙" * 20, "丁" * 20, "戊")
    full = prompt.encode(turns, tokenizer, template).input_ids
    assert prompt.fit_history(turns, tokenizer, template, len(full)) == (full, 0)
    ids, left_out = prompt.fit_history(turns, tokenizer, template, len(full) - 1)
    assert left_out == 1 and ids == prompt.encode(turns[2:], tokenizer, template).input_ids
    assert prompt.fit_history(turns, tokenizer, template, 3) == ([], 3)
