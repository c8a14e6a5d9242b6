"""Score stage: the same bytes whatever is cached, interrupted or shared out; thresholds; nothing scored twice."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from medchatzh import models, score
from medchatzh.models import reward
from medchatzh.models.calibration import HELD_OUT, Ranked
from medchatzh.records import Dialogue, Prediction, Reject, Score, Turn, read, write
from medchatzh.run import SCRATCH, Context, Manifest, sha256, write_atomically

CONFIG = score.Config(kind="quantile", threshold=0.3, max_tokens=128, precision="fp32")


def records(count, start=0):
    return [
        Dialogue(
            id=f"a:{n}",
            source="a",
            origin=f"a.txt:{n}",
            turns=(Turn("user", f"第{n}个问题？"), Turn("assistant", "规律服药。" * (n % 13 + 1))),
        )
        for n in range(start, start + count)
    ]


@pytest.fixture(scope="module")
def judge(checkpoint, tmp_path_factory):
    """A finished reward stage with a head of random weights."""
    folder = tmp_path_factory.mktemp("reward")
    tokenizer, template = models.load_tokenizer(checkpoint)
    models.save(models.load_reward(checkpoint, seed=1), tokenizer, template, folder / "checkpoint")
    outputs = {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}
    made = Manifest(
        stage="reward", fingerprint="f00d", config={}, seed=1, inputs={}, files={}, versions={}, num_in=1, num_out=1, dropped={}, facts={},
        outputs=outputs, seconds=1.0,
    )  # fmt: skip
    write_atomically(folder / "manifest.json", msgspec.json.encode(made))
    return folder


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(score, "CHUNK", 8)
    monkeypatch.setattr(reward, "BATCH_TOKENS", {"cpu": 512, "cuda": 512})


def filtered(judge, out, dialogues, cache=None, config=CONFIG, **context):
    """Run the stage; returns the hashes of what it wrote, and its result."""
    curated = out.with_name(out.name + "-curated")
    curated.mkdir(exist_ok=True)
    write(curated / "medical.jsonl", dialogues)
    out.mkdir(exist_ok=True)
    result = score.run(config, {"reward": judge, "curate": curated}, out, Context(seed=1, threads=1, cache=cache, **context))
    return {path.name: sha256(path) for path in out.iterdir() if path.is_file()}, result


@pytest.fixture
def counted(monkeypatch):
    """How many dialogues each call scored."""
    calls = []
    original = reward.Scorer.score
    monkeypatch.setattr(reward.Scorer, "score", lambda self, dialogues: calls.append(len(dialogues)) or original(self, dialogues))
    return calls


def test_a_cache_changes_no_byte_and_only_new_records_are_scored(judge, tmp_path, counted):
    cache = tmp_path / "cache"
    filtered(judge, tmp_path / "first", records(20), cache)
    assert counted == [8, 8, 4]
    counted.clear()
    more, result = filtered(judge, tmp_path / "more", records(30)[::-1], cache)
    assert counted == [8, 2]
    scratch, expected = filtered(judge, tmp_path / "scratch", records(30)[::-1])
    assert more == scratch and result == expected
    counted.clear()
    other = msgspec.structs.replace(CONFIG, kind="absolute", threshold=-100.0)
    assert filtered(judge, tmp_path / "all", records(30), cache, other)[1].num_out == 30 and counted == []


def test_a_text_is_scored_once_however_often_it_stands_there(judge, tmp_path, counted):
    twice = [*records(4), *(msgspec.structs.replace(each, id=f"b:{number}") for number, each in enumerate(records(4)))]
    filtered(judge, tmp_path / "out", twice)
    values = {each.id: each.value for each in read(tmp_path / "out" / "scores.jsonl", Score)}
    assert counted == [4] and [values[f"a:{n}"] for n in range(4)] == [values[f"b:{n}"] for n in range(4)]


@pytest.mark.parametrize("outside", [True, False])
def test_broken_off_it_goes_on_from_the_last_chunk(outside, judge, tmp_path, monkeypatch, counted):
    cache = tmp_path / "cache" if outside else None
    expected, _ = filtered(judge, tmp_path / "whole", records(40))
    original, left = reward.Scorer.score, iter(range(3))

    def broken(self, dialogues):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return original(self, dialogues)

    with monkeypatch.context() as patch:
        patch.setattr(reward.Scorer, "score", broken)
        with pytest.raises(KeyboardInterrupt):
            filtered(judge, tmp_path / "broken", records(40), cache)
    [file] = (cache or tmp_path / "broken" / SCRATCH).glob("*/*.rewards")
    file.write_bytes(file.read_bytes()[:-5])  # the last entry is torn
    counted.clear()
    assert filtered(judge, tmp_path / "broken", records(40), cache)[0] == expected
    assert sum(counted) == 40 - 3 * 8 + 1


def test_another_model_window_or_precision_shares_no_scores(judge, checkpoint, tmp_path, counted):
    cache = tmp_path / "cache"
    other = tmp_path / "other"
    tokenizer, template = models.load_tokenizer(checkpoint)
    models.save(models.load_reward(checkpoint, seed=2), tokenizer, template, other / "checkpoint")
    known = msgspec.json.decode((judge / "manifest.json").read_bytes())
    known["outputs"] = {path.relative_to(other).as_posix(): sha256(path) for path in other.rglob("*") if path.is_file()}
    write_atomically(other / "manifest.json", msgspec.json.encode(known))
    filtered(judge, tmp_path / "a", records(5), cache)
    filtered(other, tmp_path / "b", records(5), cache)
    filtered(judge, tmp_path / "c", records(5), cache, msgspec.structs.replace(CONFIG, max_tokens=100))
    filtered(judge, tmp_path / "d", records(5), cache, msgspec.structs.replace(CONFIG, precision="bf16"))
    assert counted == [5, 5, 5, 5] and len(list(cache.iterdir())) == 4


QUICKSTART = Path(__file__).parents[1] / "recipes" / "quickstart.toml"


def test_two_processes_of_torchrun_share_the_work_and_write_the_same_bytes(judge, tmp_path, monkeypatch):
    monkeypatch.undo()
    expected, _ = filtered(judge, tmp_path / "alone", records(60))
    command = [sys.executable, "-m", "medchatzh", "score", str(QUICKSTART), "--runs", str(tmp_path), "--out", str(tmp_path / "out")]
    command += ["--input", f"reward={judge}", "--input", f"curate={tmp_path / 'alone-curated'}"]
    command += [part for field in ("threshold=0.3", "max_tokens=128", "precision=fp32") for part in ("--set", f"score.{field}")]
    processes = [
        subprocess.Popen(command, env=os.environ | {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"})
        for rank in ("0", "1")
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert {path.name: sha256(path) for path in (tmp_path / "out").iterdir() if path.name != "manifest.json"} == expected
    entries = [path.stat().st_size // 24 for path in tmp_path.glob(".cache/*/*.rewards")]
    assert len(entries) == 2 and sum(entries) == 60 and min(entries) > 15


def test_the_first_process_does_the_work_of_one_that_died(judge, tmp_path, monkeypatch, counted):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(score, "_PATIENCE_S", 0.0)
    shared, _ = filtered(judge, tmp_path / "shared", records(40), tmp_path / "cache")
    assert sum(counted) == 40
    monkeypatch.undo()
    monkeypatch.setattr(reward, "BATCH_TOKENS", {"cpu": 512, "cuda": 512})
    assert filtered(judge, tmp_path / "alone", records(40))[0] == shared


def test_ray_actors_write_the_same_bytes(judge, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    monkeypatch.undo()
    monkeypatch.setattr(score, "CHUNK", 8)
    expected, _ = filtered(judge, tmp_path / "alone", records(40))
    ray.shutdown()  # another test of this process may have left it running
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        shared, _ = filtered(judge, tmp_path / "shared", records(40), executor="ray", workers=2)
    finally:
        ray.shutdown()
    assert shared == expected


def test_low_and_too_long_records_are_set_aside_with_their_reason(judge, tmp_path):
    long = Dialogue(id="long", turns=(Turn("user", "问"), Turn("assistant", "答" * 300)))
    _, result = filtered(judge, tmp_path / "out", [*records(20), long])
    rejects = {each.id: each for each in read(tmp_path / "out" / "rejects.jsonl", Reject)}
    values = {each.id: each.value for each in read(tmp_path / "out" / "scores.jsonl", Score)}
    assert rejects.pop("long").reason == "too_long" and "long" not in values
    assert result.dropped == {"low_reward": 6, "too_long": 1} and result.num_out == 14
    assert {each.reason for each in rejects.values()} == {"low_reward"}
    assert (
        max(values[name] for name in rejects) <= result.facts["threshold"] <= min(values[name] for name in values.keys() - rejects.keys())
    )
    assert result.facts["retention"][0][1] == 1.0 and result.facts["retention"][-1][1] == 0.05
    assert result.facts["reward_fingerprint"] == "f00d" and len(result.facts["reward_checkpoint"]) == 16


def held_out(judge, tmp_path, ranked):
    """A reward stage that left these held-out rankings."""
    folder = tmp_path / "reward"
    folder.mkdir()
    (folder / "checkpoint").symlink_to(judge / "checkpoint")
    (folder / "manifest.json").symlink_to(judge / "manifest.json")
    write(folder / HELD_OUT, ranked)
    return folder


def test_a_probability_becomes_a_score(judge, tmp_path):
    """Rankings made so that a score of `middle` wins every second time: half of the records reach P = .5."""
    filtered(judge, tmp_path / "plain", records(30))
    middle = float(np.median([each.value for each in read(tmp_path / "plain" / "scores.jsonl", Score)]))
    random = np.random.default_rng(0)
    pairs = random.normal(middle, 1e-2, (400, 2))
    wins = random.random(400) < 1 / (1 + np.exp((pairs[:, 1] - pairs[:, 0]) / 5e-3))
    ranked = [
        Ranked(id=str(n), group=str(n), source="", scores=tuple(pair.tolist()), ranks=(1, 2) if win else (2, 1))
        for n, (pair, win) in enumerate(zip(pairs, wins, strict=True))
    ]
    likely = msgspec.structs.replace(CONFIG, kind="probability", threshold=0.5)
    _, result = filtered(held_out(judge, tmp_path, ranked), tmp_path / "out", records(30), config=likely)
    calibration = result.facts["calibration"]
    assert calibration["low"] < middle < calibration["high"] and calibration["low"] < result.facts["threshold"] < calibration["high"]
    assert calibration["num_pairs"] == calibration["num_groups"] == 400 and calibration["log_loss"] < np.log(2)
    assert result.facts["probabilities"] == sorted(result.facts["probabilities"])


def test_too_few_held_out_pairs_for_a_probability(judge, tmp_path):
    folder = held_out(judge, tmp_path, [Ranked(id="1", group="1", source="", scores=(1.0, 0.0), ranks=(1, 2))])
    with pytest.raises(ValueError, match=r"needs held-out pairs of at least 50 groups, the reward stage left 1: raise reward.held_out"):
        filtered(folder, tmp_path / "out", records(5), config=score.Config(kind="probability", max_tokens=128))


def test_judging_drops_nothing_but_what_is_too_long(judge, tmp_path):
    answers = [Prediction(id=f"q:{n}", system="ours", question="咳嗽怎么办", answer="答" * n) for n in (1, 9, 300)]
    folder, out = tmp_path / "generate", tmp_path / "out"
    folder.mkdir(), out.mkdir()
    write(folder / "predictions.jsonl", answers)
    result = score.run(CONFIG, {"reward": judge, "generate@ours": folder}, out, Context(threads=1))
    assert [(each.id, each.system) for each in read(out / "scores.jsonl", Score)] == [("q:1", "ours"), ("q:9", "ours")]
    assert (result.num_in, result.num_out, result.dropped) == (3, 2, {"too_long": 1})


def test_without_a_reward_all_records_pass_and_no_model_is_needed(tmp_path):
    curated, out = tmp_path / "curate", tmp_path / "out"
    curated.mkdir(), out.mkdir()
    write(curated / "medical.jsonl", records(7))
    result = score.run(score.Config(kind="none"), {"curate": curated}, out, Context())
    assert list(read(out / "medical.jsonl", Dialogue)) == records(7)
    assert (result.num_in, result.num_out, dict(result.dropped), result.facts) == (7, 7, {}, {"kind": "none"})


@pytest.mark.parametrize(("kind", "threshold"), [("quantile", 1.0), ("probability", 0.0), ("probability", 1.0)])
def test_thresholds_that_mean_nothing_are_refused(kind, threshold):
    with pytest.raises(ValueError, match="threshold: a "):
        score.Config(kind=kind, threshold=threshold)


def test_no_reward_folder_is_told(tmp_path):
    with pytest.raises(ValueError, match="not a finished stage"):
        score.run(CONFIG, {"reward": Path(tmp_path), "curate": tmp_path}, tmp_path, Context())
