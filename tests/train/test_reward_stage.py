"""The reward stage: what its loss weighs, what it starts from, and what it says of itself."""

import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from medchatzh import models, recipe
from medchatzh.models.packing import collect, load
from medchatzh.records import Dialogue, Preference, Turn, hold_out, normalize, write
from medchatzh.run import SCRATCH, Context
from medchatzh.train import loop, reward, sft
from medchatzh.train.defects import KINDS, SOURCE

CONTEXT = Context(seed=3, threads=1)
CONFIG = reward.Config(row_tokens=800, rankings=4, epochs=2, learning_rate=3e-3, precision="fp32")


def preferences(count):
    return [
        Preference(
            id=f"p:{i}",
            group=f"g{i // 2}",
            source="one" if i % 2 else "two",
            prompt=(Turn("user", f"问题{i}"),),
            answers=("很差，差。", "规律服药，定期监测血压。", "应规律服药。"),
            ranks=(3, 1, 2),
        )
        for i in range(count)
    ]


def dialogues(count):
    topics = ("高血压", "糖尿病", "失眠", "发热")
    return [
        Dialogue(
            id=f"d:{i}",
            turns=(
                Turn("user", f"{topics[i % 4]}患者第{i}问"),
                Turn("assistant", f"{topics[i % 4]}患者应注意休息{'。多饮水' * (i % 7)}。" * 6),
            ),
        )
        for i in range(count)
    ]


@pytest.fixture
def inputs(checkpoint, tmp_path):
    for stage in ("ingest", "curate", "pretrain"):
        (tmp_path / stage).mkdir()
    write(tmp_path / "ingest" / "preferences.jsonl", preferences(40))
    write(tmp_path / "curate" / "medical.jsonl", dialogues(80))
    write(tmp_path / "curate" / "general.jsonl", [])
    (tmp_path / "pretrain" / "checkpoint").symlink_to(checkpoint)
    return {stage: tmp_path / stage for stage in ("ingest", "curate", "pretrain")}


def run(config, inputs, out):
    out.mkdir(exist_ok=True)
    return reward.run(config, inputs, out, CONTEXT)


def loss(scores, rankings, ranks, margin=0.0):
    return float(reward.ranking_loss(torch.tensor(scores), torch.tensor(rankings), torch.tensor(ranks), margin))


def test_all_pairs_of_a_ranking_count_and_a_long_ranking_weighs_as_a_short_one():
    two = loss([1.0, 0.0], [0, 0], [1, 2])
    assert two == pytest.approx(math.log1p(math.exp(-1)))
    assert loss([0.0] * 7, [5] * 7, list(range(1, 8))) == pytest.approx(math.log(2))  # 21 pairs, one ranking
    assert loss([0.0] * 9, [0] * 7 + [1] * 2, [*range(1, 8), 2, 1]) == pytest.approx(2 * math.log(2))
    three = [loss(pair, [0, 0], [1, 2]) for pair in ([3.0, 1.0], [3.0, 0.0], [1.0, 0.0])]
    assert loss([0.0, 3.0, 1.0], [0] * 3, [3, 1, 2]) == pytest.approx(np.mean(three))
    assert loss([2.0, 9.0, 0.0], [0] * 3, [1, 2, 2]) == pytest.approx(
        np.mean([loss([2.0, x], [0, 0], [1, 2]) for x in (9.0, 0.0)])
    )  # a tie
    assert loss([1.0, 5.0], [0, 1], [1, 2]) == 0  # answers of different rankings are no pair


def test_a_margin_grows_with_the_ranks_between():
    near, far = loss([1.0, 0.0], [0, 0], [1, 2], margin=0.5), loss([1.0, 0.0], [0, 0], [1, 4], margin=0.5)
    assert near == pytest.approx(math.log1p(math.exp(-0.5))) and far == pytest.approx(math.log1p(math.exp(0.5)))
    assert loss([1.0, 0.0], [0, 0], [1, 4]) == loss([1.0, 0.0], [0, 0], [1, 2])


def test_facts_tell_accuracy_difference_to_length_and_calibration_by_source(inputs, tmp_path):
    held_out = run(CONFIG, inputs, tmp_path / "out").facts["held_out"]
    assert set(held_out) == {"all", "one", "two"}
    for found in held_out.values():
        assert found["length"]["accuracy"] == 1.0  # the longer answer is the better one here, so nothing can be above it
        assert found["above_length"]["difference"] == pytest.approx(found["model"]["accuracy"] - 1.0, abs=1e-4)
        assert found["above_length"]["low"] <= found["above_length"]["difference"] <= found["above_length"]["high"] <= 0
        assert 0 <= found["ece"] <= 1 and found["temperature"] > 0
        assert sum(count for *_, count in found["curve"]) == found["model"]["num_pairs"]
    json.dumps(held_out, allow_nan=False)


def test_lessons_are_learnt_first_in_order_and_measured_on_dialogues_not_taught(inputs, tmp_path, monkeypatch):
    taught, rows = {}, {}
    fit = reward.fit

    def watched(config, base, encoded, out, context, label="reward"):
        taught[label] = (encoded.ids, config, base)
        rows[label] = Counter(encoded.rankings.tolist())
        return fit(config, base, encoded, out, context, label)

    monkeypatch.setattr(reward, "fit", watched)
    out = tmp_path / "out"
    lessons = (
        reward.Defects(kinds=("off_topic",), epochs=2, rankings=2, learning_rate=1e-3),
        reward.Defects(kinds=("cut", "cut", "empty"), count=20, chars=(80, 100)),
        reward.Defects(of="rankings", kinds=("repeated",), chars=(6, 12)),
    )
    facts = run(msgspec.structs.replace(CONFIG, defects=lessons), inputs, out).facts
    assert list(taught) == ["defects-1", "defects-2", "defects-3", "reward"]
    bases = [inputs["pretrain"] / "checkpoint", *(out / SCRATCH / f"defects-{number}" / "checkpoint" for number in (1, 2, 3))]
    assert [base for *_, base in taught.values()] == bases
    settings = [(config.epochs, config.rankings, config.learning_rate) for _, config, _ in taught.values()]
    assert settings == [(1, 2, 1e-3), (1, 4, 3e-3), (1, 4, 3e-3), (2, 4, 3e-3)]
    first, second, third, rankings = (ids for ids, *_ in taught.values())
    assert len(first) == 2 * len(set(first)) and 40 < len(set(first)) < 80  # each once an epoch
    assert 0 < len(second) <= 20 and max(rows["defects-2"].values()) == 4
    assert {each.partition(":")[2].partition("/")[0] for each in third} <= set(rankings)  # of no held-out ranking
    assert not any(each.startswith(SOURCE) for each in rankings)
    assert {kind for kind, found in facts["defects"].items() if found["taught"]} == {"off_topic", "cut", "empty", "repeated"}
    # Every dialogue is either taught or measured, none is both.
    assert list(facts["defects"]) == list(KINDS)
    assert max(found["num_pairs"] for found in facts["defects"].values()) == 80 - len(set(first))
    assert set(facts["held_out"]) == {"all", "one", "two"}  # the defects are no source of rankings


def test_what_was_learnt_of_defects_survives_a_kill(inputs, tmp_path, monkeypatch):
    config = msgspec.structs.replace(CONFIG, defects=(reward.Defects(count=12), reward.Defects(count=8)))
    whole = run(config, inputs, tmp_path / "whole")
    encode, calls = reward.encode, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 3:  # the rankings, after the defects
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(reward, "encode", killed)
    with pytest.raises(KeyboardInterrupt):
        run(config, inputs, tmp_path / "broken")
    monkeypatch.setattr(reward, "encode", encode)
    fit, labels = reward.fit, []
    monkeypatch.setattr(reward, "fit", lambda *arguments: labels.append(arguments[5:]) or fit(*arguments))
    result = run(config, inputs, tmp_path / "broken")
    assert labels == [()] and result.facts["defects"] == whole.facts["defects"]  # the defects are not learnt again
    for name in ("checkpoint/model.safetensors", "held_out.jsonl"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_it_is_instructed_before_it_learns_rankings(inputs, tmp_path, monkeypatch):
    """On dialogues that the defects are not measured on, at a rate of its own; made once."""
    train, trained = loop.train, []

    def watched(make, batches, loss, config, out, context, label, names, head=""):
        trained.append((label, config.learning_rate, config.num_steps(batches.steps_per_epoch)))
        return train(make, batches, loss, config, out, context, label, names, head)

    monkeypatch.setattr(loop, "train", watched)
    changes = {"instruct": reward.Instruct(steps=6, learning_rate=1e-3), "defects": (reward.Defects(count=20, learning_rate=2e-3),)}
    config = msgspec.structs.replace(CONFIG, **changes)
    out = tmp_path / "out"
    run(config, inputs, out)
    assert [label for label, *_ in trained] == ["instruct", "defects-1", "reward"]
    assert [rate for _, rate, _ in trained] == [1e-3, 2e-3, CONFIG.learning_rate] and trained[0][2] == 6
    known, _ = hold_out(dialogues(80), CONFIG.held_out, key=lambda dialogue: normalize(dialogue.question))
    told = [normalize(tokens) for tokens in decoded(out / SCRATCH / "instruct" / SCRATCH / "train", inputs["pretrain"] / "checkpoint")]
    assert len(told) == len(known) and all(normalize(each.question) in text for each, text in zip(known, told, strict=True))
    started = models.load_causal(out / SCRATCH / "instruct" / "checkpoint")
    assert held_out_loss(started) < held_out_loss(models.load_causal(inputs["pretrain"] / "checkpoint"))
    run(config, inputs, out)
    assert [label for label, *_ in trained] == ["instruct", "defects-1", "reward", "reward"]


def decoded(folder, checkpoint):
    """The texts of stored examples."""
    tokenizer, (examples, _) = models.load_tokenizer(checkpoint)[0], load(folder)
    return [tokenizer.decode(examples.input_ids[a:b]) for a, b in pairwise(examples.offsets)]


def held_out_loss(model):
    tokenizer, template = models.load_tokenizer(Path(model.config.name_or_path))
    encoded = sft.encode(enumerate(dialogues(80)), tokenizer, template, 800, Counter())
    return loop.held_out_loss(model, collect(each for _, each in encoded), tokenizer.pad_token_id, CONFIG)


def test_the_first_layers_of_a_base_make_a_smaller_model_that_transformers_loads(inputs, checkpoint, tmp_path):
    facts = run(msgspec.structs.replace(CONFIG, layers=1), inputs, tmp_path / "out").facts
    whole = models.load_reward(checkpoint)
    model = models.load_reward(tmp_path / "out" / "checkpoint")
    assert model.config.num_hidden_layers == 1 == len(model.model.layers) and whole.config.num_hidden_layers == 2
    a_layer = sum(each.numel() for each in whole.model.layers[0].parameters())
    assert facts["num_parameters"] == models.num_parameters(model) == models.num_parameters(whole) - a_layer


@pytest.mark.parametrize("name", ["layers", "instruct.steps", "instruct.learning_rate"])
def test_negative_settings_are_refused(name):
    with pytest.raises(ValueError, match="must not be negative"):
        recipe.convert(recipe.override({}, [f"{name}=-1"]), reward.Config, "reward")


@pytest.mark.parametrize(
    ("lesson", "message"),
    [
        ("rankings=-1", "must not be negative"),
        ("count=0", "at least 1"),
        ("kinds=[]", "needs a kind"),
        ("kinds=['torn']", "torn"),
        ("chars=[9,3]", "the shortest and the longest"),
    ],
)
def test_a_lesson_that_cannot_be_is_refused(lesson, message):
    with pytest.raises(ValueError, match=message):
        recipe.convert(recipe.override({}, [f"defects=[{{{lesson}}}]"]), reward.Config, "reward")


def test_a_lesson_without_an_answer_to_damage_is_refused(inputs, tmp_path):
    write(inputs["curate"] / "medical.jsonl", [])
    with pytest.raises(ValueError, match="no dialogue has an answer of 60 to 1500 characters that could be damaged; widen chars"):
        run(msgspec.structs.replace(CONFIG, defects=(reward.Defects(),)), inputs, tmp_path / "out")


def test_micro_batches_of_rankings_hold_no_padding(checkpoint):
    """Bar: at most 1.15 positions computed a useful one."""
    tokenizer, template = models.load_tokenizer(checkpoint)
    encoded = reward.encode(preferences(40), tokenizer, template, 800)
    batches = reward.RankingBatches(encoded, CONFIG, pad_id=tokenizer.pad_token_id, seed=0)
    for number in range(batches.steps_per_epoch):
        units = batches.step(number)
        assert batches.assemble(units).input_ids.size <= 1.05 * batches.num_tokens(units)
