"""Beam search of 2023. That its answers are those of transformers 4.30.1 is shown with BenTsao, in test_baselines."""

import pytest
import torch

from medchatzh import models
from medchatzh.models.published import beams
from tests.models import published


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.load_causal(published.llama(tmp_path_factory.mktemp("beams") / "llama")).eval()


@pytest.mark.parametrize("first", range(3, 13))
def test_one_beam_is_greedy_decoding(model, first):
    prompt = [1, first, 40, 50]
    greedy = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False, pad_token_id=0)[0, 4:].tolist()
    assert beams.search(model, prompt, 1, 24, eos_id=2) == greedy


def likelihood(model, prompt, answer):
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return sum(float(logits[len(prompt) - 1 + n, token]) for n, token in enumerate(answer))


def test_all_beams_together_find_the_best_of_all_answers(model):
    """With as many beams as there are prefixes nothing is lost, so the answer is the best of all, by likelihood over length without EOS."""
    small = published.llama_weights(1)
    small["model.embed_tokens.weight"], small["lm_head.weight"] = small["model.embed_tokens.weight"][:4], small["lm_head.weight"][:4]
    config = type(model.config)(**{**model.config.to_dict(), "vocab_size": 4})
    tiny = type(model)(config).eval()
    tiny.load_state_dict({name: tensor for name, tensor in small.items() if "inv_freq" not in name})
    prompt = [1, 3]
    every: list[list[int]] = [[]]
    ended: list[list[int]] = []
    for _ in range(3):
        every = [[*answer, token] for answer in every for token in range(4)]
        ended += [answer for answer in every if answer[-1] == 2]
        every = [answer for answer in every if answer[-1] != 2]
    scores = {tuple(answer): likelihood(tiny, prompt, answer) / (len(prompt) + len(answer) - (answer[-1] == 2)) for answer in ended + every}
    assert tuple(beams.search(tiny, prompt, 64, 3, eos_id=2)) == max(scores, key=scores.__getitem__)
