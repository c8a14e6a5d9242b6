"""The Ziya reward model, from a folder as it is published, against its definition."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from medchatzh import models
from medchatzh.models import reward
from medchatzh.models.published import ziya
from medchatzh.models.published.weights import Weights
from medchatzh.records import Turn
from tests.models import published

PAIRS = [(Turn("user", f"第{n}个问题？" * (n + 1)), Turn("assistant", "多休息，清淡饮食。" * (n % 4 + 1))) for n in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return published.ziya(tmp_path_factory.mktemp("ziya") / "reward", bias=0.25)


def by_definition(folder, turns):
    """Head at the last token of BOS, text, EOS, by a body of transformers and the tensors of the file."""
    weights = Weights(folder)
    body = LlamaModel(LlamaConfig(**published.LLAMA_CONFIG)).eval()
    names = [name for name in weights.names if name.startswith("model.") and "inv_freq" not in name]
    body.load_state_dict({name.removeprefix("model."): weights.read(name) for name in names})
    tokenizer, _ = models.load_tokenizer(folder)
    text = f"Human:{turns[0].content}\n\nAssistant:{turns[1].content}"
    ids = [1, *tokenizer(text, add_special_tokens=False)["input_ids"], 2]
    with torch.inference_mode():
        last = body(torch.tensor([ids])).last_hidden_state[0, -1]
    return float(last @ weights.read("value_head.weight")[0]) + float(weights.read("value_head.bias"))


def test_a_score_is_the_heads_value_at_eos(folder):
    scores = ziya.Judge(folder, precision="fp32").score(PAIRS)
    assert scores == pytest.approx([by_definition(folder, turns) for turns in PAIRS], abs=1e-5)
    assert len(set(scores)) == len(PAIRS)


def test_a_score_does_not_depend_on_its_company(folder):
    judge = ziya.Judge(folder, precision="fp32")
    assert np.array_equal(judge.score(PAIRS)[2:3], judge.score(PAIRS[2:3]))


def test_a_long_answer_is_cut_and_still_ends_with_eos(folder):
    tokenizer, _ = models.load_tokenizer(folder)
    whole = ziya.ids(PAIRS[0], tokenizer)
    long = ziya.ids((PAIRS[0][0], Turn("assistant", PAIRS[0][1].content * 300)), tokenizer)
    assert len(long) == 1024 and (long[0], long[-1]) == (1, 2)
    assert long[: len(whole) - 1] == whole[:-1]


def test_it_is_told_from_a_reward_model_of_our_own(folder, checkpoint):
    assert ziya.is_ziya(folder) and not ziya.is_ziya(checkpoint)
    with pytest.raises(ValueError, match="not Ziya's reward model"):
        ziya.Judge(checkpoint)


def test_a_dialogue_has_the_mean_of_its_exchanges_and_nothing_of_a_system_turn(folder):
    judge = ziya.Judge(folder, precision="fp32")
    talk = (Turn("system", "你是医生。"), *PAIRS[1], *PAIRS[2])
    assert judge.score([PAIRS[0], talk]) == pytest.approx([judge.score(PAIRS)[0], judge.score(PAIRS)[1:3].mean()], abs=1e-6)
    tokenizer, _ = models.load_tokenizer(folder)
    with pytest.raises(ValueError, match="one question and its answer"):
        ziya.ids((*PAIRS[0], *PAIRS[1]), tokenizer)


def test_the_score_stage_asks_it_in_its_own_way(folder):
    scorer = reward.Scorer(reward.ScorerSettings(checkpoint=folder, max_tokens=1024, precision="fp32", threads=1))
    assert np.array_equal(scorer.score(PAIRS), ziya.Judge(folder, precision="fp32").score(PAIRS))
    sizes = {name: Weights(folder).read(name).numel() for name in Weights(folder).names}
    assert scorer.num_parameters == sum(size for name, size in sizes.items() if "inv_freq" not in name and name != "value_head.bias")
