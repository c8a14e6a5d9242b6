"""Text as it comes: whole characters, nothing lost, nothing of a stop text shown."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import models
from medchatzh.models.decoding.detokenize import TextStream

STOPS = ("<病人>", "\n\n", "好好")


@pytest.fixture(scope="module")
def tokenizer(checkpoint):
    return models.load_tokenizer(checkpoint)[0]


def streamed(tokenizer, ids, stops=()):
    """The stream at its end, and its text after each id."""
    stream = TextStream(tokenizer, stops)
    steps = []
    for token in ids:
        stream.push(token)
        steps.append(stream.text)
        if stream.stopped:
            break
    stream.finish()
    return stream, [*steps, stream.text]


texts = st.text(st.sampled_from([*"脾胃虚弱好 \n1.a<>病人", "𠮷", "👨", "\u200d", "鱻", "é", "\u0301"]), max_size=40)


@given(texts)
def test_pieces_are_whole_characters_and_make_up_the_text(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    stream, steps = streamed(tokenizer, ids)
    assert stream.text == text == tokenizer.decode(ids, skip_special_tokens=True)
    for before, after in pairwise(steps):
        assert after.startswith(before) and "\ufffd" not in after


@given(st.lists(st.integers(0, 399), max_size=30))
def test_any_ids_give_growing_text_without_half_characters(tokenizer, ids):
    _, steps = streamed(tokenizer, ids)
    assert all(after.startswith(before) for before, after in pairwise(steps))


def test_the_bytes_of_a_character_are_shown_together(tokenizer):
    ids = tokenizer("好𠮷", add_special_tokens=False)["input_ids"]
    assert len(ids) >= 5  # neither has a piece of its own but perhaps 好
    _, steps = streamed(tokenizer, ids)
    assert {*steps} <= {"", "好", "好𠮷"}
    assert streamed(tokenizer, ids[:-1])[0].text == "好"


@given(texts, st.sampled_from(STOPS), texts)
def test_text_ends_before_the_first_stop_and_never_shows_its_beginning(tokenizer, before, stop, after):
    whole = before + stop + after
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    stream, steps = streamed(tokenizer, ids, STOPS)
    assert stream.stopped
    assert stream.text == whole[: min(whole.find(each) for each in STOPS if each in whole)]
    assert all(stream.text.startswith(step) for step in steps)


@given(texts)
def test_the_beginning_of_a_stop_that_does_not_come_is_text(tokenizer, text):
    whole = text.replace("好好", "好").replace("\n\n", "\n").replace("<病人>", "") + "<病"
    if any(stop in whole for stop in STOPS):
        return
    stream, _ = streamed(tokenizer, tokenizer(whole, add_special_tokens=False)["input_ids"], STOPS)
    assert stream.text == whole and not stream.stopped


def test_special_tokens_are_no_text(tokenizer):
    ids = tokenizer("脾胃", add_special_tokens=False)["input_ids"]
    assert streamed(tokenizer, [1, *ids, 2, *ids])[0].text == "脾胃脾胃"
