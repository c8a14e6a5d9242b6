"""Likelihoods: equal to transformers' own one by one, whatever stands beside them, and measured from the same place for all rivals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import models
from medchatzh.models.likelihood import Reader, Request, common, plan, request

SHARED = "以下是关于解剖学的单项选择题。\n\n" + "题目：脾胃虚弱者宜\nA. 健脾\nB. 清热\n答案：A\n\n" * 3


@pytest.fixture(scope="module")
def reader(checkpoint):
    return Reader(checkpoint, threads=1)


def by_hand(reader: Reader, one: Request) -> list[float]:
    """Each continuation by a pass of its own, without cache, padding or company."""
    model = models.load_causal(reader.checkpoint)
    found = []
    for continuation in one.continuations:
        ids = torch.tensor([one.context + continuation])
        with torch.inference_mode():
            chances = torch.log_softmax(model(ids).logits[0].double(), -1)
        first = len(one.context)
        found.append(sum(float(chances[first - 1 + place, token]) for place, token in enumerate(continuation)))
    return found


@pytest.fixture(scope="module")
def requests(reader):
    texts = [(SHARED + f"题目：{'高血压' * (n % 7 + 1)}{n}\n答案：", ["A", "B", "健脾益气", "清热" * (n % 3 + 1)]) for n in range(12)]
    letters = [(f"失眠第{n}天" * (n % 5 + 1) + "答案：", ["A", "B", "C", "D"]) for n in range(12)]
    return [request(reader.tokenizer, *each) for each in (*texts, *letters)]


def test_likelihoods_are_those_of_transformers_one_by_one(reader, requests):
    batches = reader.batches(requests, ["shots"] * 12 + ["none"] * 12)
    assert batches[0].num_shared > 50, "the examples are read once"
    assert max(len(batch.numbers) for batch in batches) > 1
    assert sorted(number for batch in batches for number in batch.numbers) == list(range(24))
    for batch, values in reader.read(requests, batches):
        for number, found in zip(batch.numbers, values, strict=True):
            assert found == pytest.approx(by_hand(reader, requests[number]), abs=1e-5)


def test_likelihoods_are_the_same_alone_and_in_any_company(reader, requests):
    def values(numbers: list[int], group: bool) -> dict[int, list[float]]:
        chosen = [requests[number] for number in numbers]
        batches = reader.batches(chosen, ["all" if group else number for number in numbers])
        return {numbers[place]: row for batch, rows in reader.read(chosen, batches) for place, row in zip(batch.numbers, rows, strict=True)}

    together = values(list(range(12)), True)
    for number in range(12):
        assert values([number], False)[number] == pytest.approx(together[number], abs=1e-5)


def test_letters_cost_one_row_and_texts_one_each(requests):
    (batch,) = plan(requests[12:13], [0], 4096)
    assert batch == ((0,), 0)
    widths = [requests[number].num_tokens for number in range(12, 24)]
    rows_of_letters = plan(requests[12:], [0] * 12, max(widths) * 4)
    assert max(len(batch.numbers) for batch in rows_of_letters) >= 4, "four questions in the room of four rows"


class Merging:
    """A tokenizer whose one long piece joins the end of the context with the first option."""

    bos_token_id = None
    pieces = ("答案：A", "：AB", "：A")

    def __call__(self, text: str, **options) -> dict:
        ids = []
        while text:
            piece = next((piece for piece in self.pieces if text.startswith(piece)), text[0])
            ids.append(10_000_000 + self.pieces.index(piece) if piece in self.pieces else ord(piece))
            text = text[len(piece) :]
        return {"input_ids": ids}


def test_a_letter_that_merges_with_the_context_moves_the_start_of_all():
    found = request(Merging(), "问答案：", ["A", "B"])
    assert found.context == (ord("问"),)
    assert found.continuations == ((10_000_000,), tuple(map(ord, "答案：B")))
    assert request(Merging(), "问：", ["甲", "乙"]) == Request((ord("问"), ord("：")), ((ord("甲"),), (ord("乙"),)))


def test_a_context_that_is_swallowed_whole_is_refused():
    with pytest.raises(ValueError, match="no token of the context"):
        request(Merging(), "答案：", ["A", "B"])


def test_sentencepiece_letters_stand_where_the_tokens_differ(reader):
    found = request(reader.tokenizer, "答案：", ["A", "B", "C"])
    whole = reader.tokenizer("答案：B", add_special_tokens=False)["input_ids"]
    assert [*found.context, *found.continuations[1]] == whole
    assert len({*found.continuations}) == 3


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 5), st.integers(0, 2)), min_size=1, max_size=30), st.integers(1, 300))
def test_a_plan_holds_each_request_once_and_keeps_to_its_size(shapes, batch_tokens):
    requests = [Request((7,) * 20 + tuple(range(length)), tuple((n,) for n in range(rows))) for length, rows, _ in shapes]
    groups = [group for _, _, group in shapes]
    batches = plan(requests, groups, batch_tokens)
    assert sorted(number for batch in batches for number in batch.numbers) == list(range(len(requests)))
    for batch in batches:
        assert len({groups[number] for number in batch.numbers}) == 1
        assert all(batch.num_shared < len(requests[number].context) for number in batch.numbers)
        width = max(requests[number].num_tokens for number in batch.numbers) - batch.num_shared
        assert len(batch.numbers) == 1 or len(batch.numbers) * width <= batch_tokens
    assert batches == plan(requests, groups, batch_tokens)


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_common_is_the_longest_common_beginning(first, second):
    length = common(first, second)
    assert first[:length] == second[:length]
    assert length == min(len(first), len(second)) or first[length] != second[length]


@pytest.mark.parametrize("kind", ["absolute positions", "sliding window"])
def test_other_architectures_are_read_alike(checkpoint, tmp_path, kind):
    from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

    tokenizer, template = models.load_tokenizer(checkpoint)
    torch.manual_seed(0)
    shape = {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2}
    if kind == "absolute positions":
        model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=300, **shape))
    else:
        shape |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 64}
        model = MistralForCausalLM(MistralConfig(sliding_window=24, **shape))
    models.save(model.eval(), tokenizer, template, tmp_path)
    reader = Reader(tmp_path, threads=1)
    asked = [request(reader.tokenizer, SHARED[-150:] + "肝" * n + "答案：", ["A", "B", "滋阴清热"]) for n in range(1, 4)]
    batches = reader.batches(asked, [0, 0, 0])
    assert batches[0].num_shared > 0
    for batch, values in reader.read(asked, batches):
        for number, found in zip(batch.numbers, values, strict=True):
            assert found == pytest.approx(by_hand(reader, asked[number]), abs=1e-5)
            assert all(value < 0 and math.isfinite(value) for value in found)


def test_a_sum_over_all_continuations_is_a_chance(reader):
    every = Request((1, 5), tuple((token,) for token in range(len(reader.tokenizer))))
    ((_, ((*values,),)),) = reader.read([every], reader.batches([every], [0]))
    assert np.exp(values).sum() == pytest.approx(1, abs=1e-4)
