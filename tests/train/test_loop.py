"""The loop: resumed = uninterrupted, accumulation changes nothing, EOS is learnt, a NaN stops with a remedy."""

from collections import Counter

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from medchatzh import models
from medchatzh.models.calibration import HELD_OUT, Ranked
from medchatzh.models.packing import assemble, collect
from medchatzh.models.reward import Scorer, ScorerSettings
from medchatzh.records import Dialogue, Document, Preference, Turn, read, write
from medchatzh.run import SCRATCH, Context
from medchatzh.train import dpo, loop, pretrain, reward, sft
from medchatzh.train.optimization import Optimization
from medchatzh.train.processes import Processes
from medchatzh.train.reward import RankingBatches
from medchatzh.train.state import METRICS
from medchatzh.train.watch import STOPPED, Watch
from tests.models import published

CONTEXT = Context(seed=3, threads=1)


def data(count=40):
    random = np.random.default_rng(0)
    rows = [random.integers(5, 390, int(random.integers(5, 60))).tolist() for _ in range(count)]
    return collect((ids, ids) for ids in rows)


def run(checkpoint, out, config, stop_after=None, seed=3):
    batches = loop.Epochs(data(), config, pad_id=0, seed=seed)
    if stop_after is not None:

        def step(number, given=batches.step):
            if number == stop_after:
                raise KeyboardInterrupt
            return given(number)

        batches.step = step
    (out / SCRATCH).mkdir(parents=True, exist_ok=True)
    return loop.train(
        lambda _: models.load_causal(checkpoint),
        batches,
        loop.causal(config),
        config,
        out,
        CONTEXT,
        "test",
        lambda chosen: [f"r:{i}" for i in chosen],
    )[0]


def losses_of(out):
    return [msgspec.json.decode(line)["loss"] for line in (out / METRICS).read_bytes().splitlines()]


def scratch_of(tmp_path, name):
    (tmp_path / name / SCRATCH).mkdir(parents=True)
    return tmp_path / name


CONFIG = Optimization(row_tokens=64, rows=4, epochs=3, learning_rate=1e-2, save_steps=4, precision="fp32")


def test_resumed_equals_uninterrupted_to_the_bit(checkpoint, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = run(checkpoint, whole, CONFIG)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, broken, CONFIG, stop_after=9)
    assert [state.name for state in (broken / SCRATCH).glob("state-*")] == ["state-8"]
    resumed = run(checkpoint, broken, CONFIG)
    assert (broken / METRICS).read_bytes() == (whole / METRICS).read_bytes()
    for one, two in zip(expected.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_kill_while_saving_leaves_the_state_before(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, tmp_path, CONFIG, stop_after=5)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space"):
        run(checkpoint, tmp_path, CONFIG)
    assert [state.name for state in (tmp_path / SCRATCH).glob("state-*")] == ["state-4"]


@pytest.mark.parametrize(("file", "left"), [("state.safetensors", 100), ("state.safetensors", None), (METRICS, 0), ("whole.json", 0)])
def test_a_damaged_state_is_told_and_the_one_before_it_taken(checkpoint, tmp_path, capsys, file, left):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    config = msgspec.structs.replace(CONFIG, keep_states=2)
    run(checkpoint, whole, config)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, broken, config, stop_after=9)
    damaged = broken / SCRATCH / "state-8" / file
    if left is None:
        damaged.unlink()
    else:
        damaged.write_bytes(damaged.read_bytes()[:left])
    run(checkpoint, broken, config)
    assert "state-8: damaged" in capsys.readouterr().err
    assert (broken / METRICS).read_bytes() == (whole / METRICS).read_bytes()


def test_accumulation_changes_nothing(checkpoint, tmp_path):
    for rows, accumulation in ((8, 1), (1, 8)):
        run(checkpoint, tmp_path / f"{rows}", msgspec.structs.replace(CONFIG, rows=rows, accumulation=accumulation, epochs=1))
    assert losses_of(tmp_path / "8") == pytest.approx(losses_of(tmp_path / "1"), abs=2e-5)


def test_divergence_stops_with_a_remedy_and_the_records(checkpoint, tmp_path):
    config = msgspec.structs.replace(CONFIG, learning_rate=1e30, max_grad_norm=1e30)
    with pytest.raises(ValueError, match=r"lower learning_rate \(now 1e\+30 at this step\)"):
        run(checkpoint, tmp_path, config)
    about = msgspec.json.decode((tmp_path / SCRATCH / STOPPED).read_bytes())
    assert about["records"][0].startswith("r:") and about["step"] == 2


def test_training_that_comes_apart_stops_and_a_hard_batch_does_not(tmp_path):
    watch = Watch("test", CONFIG, 100, [], tmp_path, Processes(0, 1))
    (tmp_path / SCRATCH).mkdir()
    for loss in [*np.linspace(6, 2, 40), 12.0, *[2.0] * 30, *[5.0] * 20]:  # worse than the best, but never than the start
        watch.check(loss, 1.0, 1e-3, list)
        watch.add(loss, 1.0, 1e-3, 1, 1, 1)
    with pytest.raises(ValueError, match="come apart: the mean loss of the last 20 steps is"):
        for loss in [9.0] * 30:
            watch.check(loss, 1.0, 1e-3, list)
            watch.add(loss, 1.0, 1e-3, 1, 1, 1)
    resumed = Watch("test", CONFIG, 100, list(watch.log), tmp_path, Processes(0, 1))
    with pytest.raises(ValueError, match="come apart"):
        resumed.check(9.0, 1.0, 1e-3, list)


def test_rate_rises_then_falls_to_a_tenth():
    config = Optimization(learning_rate=1.0, warmup=0.1)
    rates = [loop.rate(config, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.1) and rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize("field", ["learning_rate", "rows", "row_tokens"])
def test_nonsense_settings_are_refused(field):
    with pytest.raises(ValueError, match=f"{field} must be positive"):
        Optimization(**{field: 0})
    with pytest.raises(ValueError, match="epochs must not be negative"):
        Optimization(epochs=-1)


def folder(tmp_path, name, **files):
    made = tmp_path / name
    made.mkdir(exist_ok=True)
    for stem, rows in files.items():
        write(made / f"{stem}.jsonl", rows)
    return made


def dialogues(count, pool, answer):
    return [
        Dialogue(id=f"{pool}:{i}", pool=pool, turns=(Turn("user", f"第{i}个问题是什么"), Turn("assistant", answer))) for i in range(count)
    ]


def test_sft_learns_the_answer_and_to_stop(checkpoint, tmp_path):
    from medchatzh.models.decoding.engine import Decoding, Engine

    base = tmp_path / "pretrain"
    base.mkdir()
    (base / "checkpoint").symlink_to(checkpoint)
    inputs = {
        "pretrain": base,
        "mix": folder(
            tmp_path,
            "mix",
            train=[*dialogues(4, "general", "规律服药。"), *dialogues(9, "medical", "规律服药。")],
            validation=dialogues(12, "medical", "规律服药。")[9:],
        ),
    }
    out = tmp_path / "sft"
    out.mkdir()
    config = sft.Config(row_tokens=64, rows=8, epochs=40, learning_rate=1e-2, precision="fp32")
    result = sft.run(config, inputs, out, CONTEXT)
    assert (result.num_in, result.num_out, result.facts["num_validation"]) == (13, 13, 3)
    assert result.facts["loss_last"] < 0.1 < result.facts["loss_first"] and result.facts["held_out_loss"] < 0.5
    decoding = Decoding(max_new_tokens=20, min_new_tokens=1, repetition_penalty=1.0)
    asked = [[Turn("user", text)] for text in ("第3个问题是什么", "问" * 300)]
    answers = Engine(out / "checkpoint", 1).answer(asked, decoding, 64)
    assert answers == [("规律服药。", "stop"), ("", "prompt_too_long")]


def test_an_arm_learns_from_and_is_measured_on_its_pools_alone(checkpoint, tmp_path):
    (tmp_path / "checkpoint").symlink_to(checkpoint)
    both = [*dialogues(4, "general", "规律服药。"), *dialogues(9, "medical", "多喝水。")]
    inputs = {"pretrain": tmp_path, "mix": folder(tmp_path, "mix", train=both, validation=both[3:6])}
    config = sft.Config(pools=("general",), row_tokens=64, precision="fp32", max_steps=1)
    result = sft.run(config, inputs, folder(tmp_path, "out"), CONTEXT)
    assert (result.num_in, result.facts["num_examples"], result.facts["num_validation"]) == (4, 4, 1)
    nothing = {**inputs, "mix": folder(tmp_path, "empty", train=both[4:], validation=[])}
    with pytest.raises(ValueError, match="sft: no instructions left in general"):
        sft.run(config, nothing, folder(tmp_path, "other"), CONTEXT)


def test_sft_counts_what_is_too_long(checkpoint, tmp_path):
    tokenizer, template = models.load_tokenizer(checkpoint)
    long = Dialogue(id="x", turns=(Turn("user", "问"), Turn("assistant", "答" * 500)))
    counts = Counter()
    encoded = sft.encode(enumerate([*dialogues(2, "medical", "好。"), long]), tokenizer, template, 64, counts)
    assert len(list(encoded)) == 2 and counts == {"dialogues": 3, "split": 0, "exchanges_too_long": 1, "too_long": 1}
    headless = Dialogue(id="mine:3", turns=(Turn("assistant", "答"), Turn("user", "问")))
    with pytest.raises(ValueError, match=r"sft: mine:3: turns\[0\] is 'assistant', expected 'user'"):
        list(sft.encode([(0, headless)], tokenizer, template, 64, Counter()))


def test_pretrain_from_scratch_then_from_that_checkpoint(checkpoint, tmp_path):
    documents = [Document(id=f"b:{i}", book=f"书{i}", text="脾胃虚弱者宜健脾益气，四君子汤为其代表方。" * 8) for i in range(20)]
    inputs = {"tokenizer": checkpoint, "books": folder(tmp_path, "books", documents=documents)}
    shape = models.Architecture(hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64)
    config = pretrain.Config(architecture=shape, row_tokens=64, rows=8, epochs=10, learning_rate=1e-2, held_out=0.2, precision="fp32")
    first = tmp_path / "first"
    first.mkdir()
    facts = pretrain.run(config, inputs, first, CONTEXT).facts
    assert facts["num_split_documents"] > 0 and facts["held_out_bits_per_char"] < 1.0
    second = tmp_path / "second"
    second.mkdir()
    onward = msgspec.structs.replace(config, base=str(first / "checkpoint"), epochs=1)
    assert pretrain.run(onward, inputs, second, CONTEXT).facts["loss_first"] < facts["loss_first"] / 2
    everything = msgspec.structs.replace(config, held_out=0.999)
    with pytest.raises(ValueError, match=r"lower pretrain.held_out"):
        pretrain.run(everything, inputs, folder(tmp_path, "third"), CONTEXT)
    missing = msgspec.structs.replace(config, base=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"no checkpoint there \(config.json is missing\)"):
        pretrain.run(missing, inputs, folder(tmp_path, "fourth"), CONTEXT)


def test_pretrain_loses_no_token(checkpoint):
    tokenizer, _ = models.load_tokenizer(checkpoint)
    text = "失眠多梦，心烦口干。" * 30
    counts = Counter()
    ids = [token for _, (chunk, _) in pretrain.encode([(0, Document(id="a", text=text))], tokenizer, 32, counts) for token in chunk]
    assert counts == {"documents": 1, "chars": len(text), "split": 1} and tokenizer.decode(ids) == text + tokenizer.eos_token


def preferences(count):
    return [
        Preference(
            id=f"p:{i}",
            group=f"g{i // 2}",
            source="ranked",
            prompt=(Turn("user", f"问题{i}"),),
            answers=("很差，差。", "规律服药，定期监测血压。", "应规律服药。"),
            ranks=(3, 1, 2),
        )
        for i in range(count)
    ]


def test_reward_learns_the_ranking_and_reports_the_length_baseline(checkpoint, tmp_path):
    inputs = {"ingest": folder(tmp_path, "ingest", preferences=preferences(40)), "pretrain": tmp_path}
    (tmp_path / "checkpoint").symlink_to(checkpoint)
    out = tmp_path / "reward"
    out.mkdir()
    config = reward.Config(row_tokens=64, rankings=4, epochs=6, learning_rate=3e-3, precision="fp32")
    result = reward.run(config, inputs, out, CONTEXT)
    assert result.num_in == 40 == result.num_out + result.dropped["held_out"]
    measured = result.facts["held_out"]["ranked"]
    assert measured["model"]["accuracy"] == 1.0
    # 12 > 6 > 5 characters: the longer answer is the better one in every pair here.
    assert [measured["length"][key] for key in ("accuracy", "low", "high")] == [1.0, 1.0, 1.0]
    assert measured["model"]["num_pairs"] == 3 * result.dropped["held_out"]
    left = list(read(out / HELD_OUT, Ranked))
    assert len(left) == result.dropped["held_out"] and all(each.ranks == (3, 1, 2) for each in left)
    assert all(each.scores[1] > each.scores[2] > each.scores[0] for each in left)  # as the accuracy of 1 says


def test_without_epochs_a_stage_passes_its_model_on(checkpoint, tmp_path):
    documents = [Document(id=f"b:{i}", book=f"书{i}", text="脾胃虚弱者宜健脾益气。" * 8) for i in range(20)]
    inputs = {"tokenizer": checkpoint, "books": folder(tmp_path, "books", documents=documents)}
    out = tmp_path / "pretrain"
    out.mkdir()
    facts = pretrain.run(pretrain.Config(base=str(checkpoint), row_tokens=64, epochs=0, held_out=0.2), inputs, out, CONTEXT).facts
    assert facts["num_steps"] == 0 and "loss_first" not in facts and facts["held_out_loss"] > 0
    before, after = (load_file(path / "model.safetensors") for path in (checkpoint, out / "checkpoint"))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("layout", ["own", "ziya"])
def test_a_finished_reward_model_is_measured_and_taken_over(layout, checkpoint, tmp_path):
    if layout == "ziya":
        base = published.ziya(tmp_path / "base")
    else:
        base = tmp_path / "base"
        tokenizer, template = models.load_tokenizer(checkpoint)
        models.save(models.load_reward(checkpoint, seed=1), tokenizer, template, base)
    inputs = {"ingest": folder(tmp_path, "ingest", preferences=preferences(10)), "pretrain": tmp_path}
    out = tmp_path / "reward"
    out.mkdir()
    result = reward.run(reward.Config(base=str(base), epochs=0), inputs, out, CONTEXT)
    assert (result.num_in, result.num_out, result.dropped) == (10, 0, {"held_out": 10})
    assert result.facts["held_out"]["all"]["model"]["num_pairs"] == 30
    assert {path.name: path.read_bytes() for path in base.iterdir()} == {
        path.name: path.read_bytes() for path in (out / "checkpoint").iterdir()
    }
    asked = [(*each.prompt, Turn("assistant", answer)) for each in preferences(1) for answer in each.answers]
    scorer = Scorer(ScorerSettings(checkpoint=out / "checkpoint", max_tokens=512, precision="auto", threads=1))
    assert next(iter(read(out / HELD_OUT, Ranked))).scores == tuple(scorer.score(asked))
    with pytest.raises(ValueError, match="set reward.base to the folder of a finished reward model"):
        reward.run(reward.Config(epochs=0), inputs, out, CONTEXT)


def test_rankings_too_long_are_counted_as_dropped(checkpoint, tmp_path):
    long = Preference(id="long", group="long", prompt=(Turn("user", "问" * 200),), answers=("甲", "乙"), ranks=(1, 2))
    inputs = {"ingest": folder(tmp_path, "ingest", preferences=[*preferences(8), long]), "pretrain": tmp_path}
    (tmp_path / "checkpoint").symlink_to(checkpoint)
    out = tmp_path / "reward"
    out.mkdir()
    result = reward.run(reward.Config(row_tokens=64, epochs=1, held_out=0.0001, precision="fp32"), inputs, out, CONTEXT)
    assert (result.dropped["too_long"], result.num_out, result.facts["num_answers_too_long"]) == (1, 8, 2)


def test_dpo_prefers_what_was_ranked_first_and_goes_on_after_a_kill(checkpoint, tmp_path, monkeypatch):
    inputs = {"ingest": folder(tmp_path, "ingest", preferences=preferences(40)), "sft": tmp_path}
    (tmp_path / "checkpoint").symlink_to(checkpoint)
    config = dpo.Config(row_tokens=64, rankings=4, epochs=4, held_out=0.25, learning_rate=2e-3, precision="fp32", save_steps=5)
    result = dpo.run(config, inputs, scratch_of(tmp_path, "whole"), CONTEXT)
    assert result.num_in == 40 == result.num_out + result.dropped["held_out"]
    measured = result.facts["held_out"]["ranked"]
    assert measured["model"]["accuracy"] > 0.9 > measured["before"]["accuracy"]
    assert result.facts["loss_first"] == pytest.approx(np.log(2), abs=1e-6)  # no answer has moved yet
    broken = scratch_of(tmp_path, "broken")
    steps = RankingBatches.step

    def stop(self, number):
        if number == 12:
            raise KeyboardInterrupt
        return steps(self, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RankingBatches, "step", stop)
        dpo.run(config, inputs, broken, CONTEXT)
    assert dpo.run(config, inputs, broken, CONTEXT).facts["held_out"] == result.facts["held_out"]
    assert (broken / METRICS).read_bytes() == (tmp_path / "whole" / METRICS).read_bytes()
    model, unchanged = models.load_causal(broken / "checkpoint"), models.load_causal(checkpoint)
    assert any(not torch.equal(one, two) for one, two in zip(model.parameters(), unchanged.parameters(), strict=True))


def test_log_probabilities_are_those_of_each_answer_alone(checkpoint):
    model, examples = models.load_causal(checkpoint).eval(), data(7)
    batch = assemble(examples, [[3, 1], [0]], 0)
    with torch.inference_mode():
        found = dpo.log_probabilities(model, batch)
        for value, number in zip(found, batch.examples, strict=True):
            ids = torch.tensor(examples.input_ids[None, examples.offsets[number] : examples.offsets[number + 1]]).long()
            expected = -model(input_ids=ids, labels=ids).loss * (ids.shape[1] - 1)
            assert float(value) == pytest.approx(float(expected), rel=1e-5)


def test_ranking_loss_is_the_mean_over_pairs_of_each_ranking():
    scores = torch.tensor([2.0, 0.0, 1.0, 5.0])
    rankings, ranks = torch.tensor([0, 0, 0, 1]), torch.tensor([1, 3, 2, 1])
    sigmoid = torch.nn.functional.logsigmoid
    expected = -(sigmoid(torch.tensor(2.0)) + sigmoid(torch.tensor(1.0)) + sigmoid(torch.tensor(1.0))) / 3
    assert float(reward.ranking_loss(scores, rankings, ranks)) == pytest.approx(float(expected))


def test_ties_give_no_pair():
    preference = Preference(id="p", prompt=(Turn("user", "问"),), answers=("甲", "乙", "丙"), ranks=(1, 2, 2))
    assert sorted(preference.pairs()) == [("甲", "丙"), ("甲", "乙")]
    assert reward.accuracy([np.array([1.0, 1.0, 0.0])], [preference], seed=0)["accuracy"] == 0.75


def test_reward_checkpoint_loads_with_transformers(checkpoint, tmp_path):
    tokenizer, template = models.load_tokenizer(checkpoint)
    models.save(models.load_reward(checkpoint, seed=1), tokenizer, template, tmp_path)
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).score.weight.shape == (1, 32)
    assert list(read(folder(tmp_path, "x", a=preferences(1)) / "a.jsonl", Preference)) == preferences(1)
