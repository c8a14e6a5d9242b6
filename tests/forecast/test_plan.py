"""What `medchatzh plan` states of a recipe, and what it warns of."""

import argparse
import shlex
from pathlib import Path

import msgspec
import numpy as np
import pytest

from medchatzh import forecast
from medchatzh.forecast import devices
from medchatzh.forecast.stage import Ground
from medchatzh.models import packing
from medchatzh.pipeline import Plan
from medchatzh.records import Dialogue, Turn, write
from medchatzh.run import PARTIAL, SCRATCH

RECIPES = Path(__file__).parents[2] / "recipes"
QUICKSTART = RECIPES / "quickstart.toml"
PAPER = RECIPES / "medchatzh-7b.toml"
GIB = 2**30


def ground(name="a800-80g", count=8, nodes=1):
    device = devices.find(name)
    return Ground(device=device, devices=count, nodes=nodes, efficiency=device.efficiency)


def planned(recipe, stage, tmp_path, *settings, on=None, **more):
    (made,), _ = forecast.plan(recipe, on or ground(), [stage], settings, tmp_path, **more)
    return made


def texts(made, level):
    return " ".join(warned.text for warned in made.warnings if warned.level == level)


def run(capsys, *words):
    parser = argparse.ArgumentParser()
    forecast.add_arguments(parser)
    status = forecast.main(parser.parse_args([str(word) for word in words]))
    return status, capsys.readouterr().out


def test_the_papers_run_fits_its_devices(tmp_path):
    made, notes = forecast.plan(PAPER, ground(), runs=tmp_path)
    assert [one.stage for one in made] == ["pretrain", "reward", "sft"] and all(one.fits for one in made)
    sft = made[-1]
    assert sft.num_parameters == sft.num_trained == 7_000_559_616 and sft.units_a_step == 64 and sft.micro_batches == 1
    assert sft.num_examples == pytest.approx((763_629 + 1_305_194) * 0.98, rel=1e-3)
    assert "data.root" in notes[0] and "assumed" in sft.basis
    assert "high rate" in texts(sft, "warning") and "high rate" not in texts(made[0], "warning")


def test_more_processes_than_micro_batches_cut_them(tmp_path):
    """64 rows on 8, 16 and 6 devices: 8 × 1, 4 × 1 and 6 × 2 with two places of 72 left empty ... each as many hours as its fullest."""
    eight, sixteen, six = (planned(PAPER, "sft", tmp_path, on=ground(count=count)) for count in (8, 16, 6))
    assert (eight.idle, sixteen.idle) == (0, 0) and six.idle == pytest.approx(8 / 72)
    assert sixteen.hours == pytest.approx(eight.hours / 2) and six.hours == pytest.approx(eight.hours * 12 / 8)
    assert sixteen.memory_bytes["activations"] < eight.memory_bytes["activations"]
    assert "nothing to do" in texts(six, "warning") and "nothing to do" not in texts(sixteen, "warning")


def test_states_of_a_sharded_model(tmp_path):
    """16-bit weights whole and 12 bytes shared by 8 (ZeRO-2); everything shared (FSDP2, ZeRO-3); fp32 whole (none)."""
    count = 7_000_559_616
    for sharding, weights, optimizer in (("zero2", 2, 12 / 8), ("zero3", 2 / 8, 12 / 8), ("fsdp2", 4 / 8, 8 / 8), ("none", 4, 8)):
        parts = planned(PAPER, "sft", tmp_path, f"sft.sharding={sharding}").memory_bytes
        assert parts["weights"] == pytest.approx(weights * count) and parts["optimizer"] == pytest.approx(optimizer * count), sharding


def test_work_is_six_a_parameter_and_token_and_eight_with_recomputation(tmp_path):
    tokens = {"pretrain": 10**8}
    plain = planned(PAPER, "pretrain", tmp_path, "pretrain.gradient_checkpointing=false", tokens=tokens)
    again = planned(PAPER, "pretrain", tmp_path, tokens=tokens)
    adapters = planned(PAPER, "pretrain", tmp_path, "pretrain.gradient_checkpointing=false", "pretrain.lora.rank=8", tokens=tokens)
    used = plain.num_parameters - 64000 * 4096  # looking embeddings up is no work
    assert plain.flops == pytest.approx(6 * used * plain.num_trained_tokens, rel=0.02)
    assert again.flops / plain.flops == pytest.approx(8 / 6, rel=0.02) and adapters.flops / plain.flops == pytest.approx(4 / 6, rel=0.02)
    assert again.hours == pytest.approx(again.flops / (8 * 312e12 * 0.5) / 3600)


def test_a_remedy_makes_it_fit(tmp_path):
    """Whatever setting is named, the same plan with it has nothing to say of memory."""
    cases = [
        (PAPER, "sft", ground("a100-40g", 8), ["sft.gradient_checkpointing=false"]),
        (PAPER, "pretrain", ground("a800-80g", 8), ["pretrain.gradient_checkpointing=false", "pretrain.rows=8"]),
        (PAPER, "sft", ground("rtx-4090", 1), ["sft.sharding=none"]),
        (PAPER, "reward", ground("a100-40g", 2), ["reward.sharding=none"]),
    ]
    for recipe, stage, on, settings in cases:
        made = planned(recipe, stage, tmp_path, *settings, on=on)
        (error,) = [warned for warned in made.warnings if warned.level == "error"]
        assert "does not fit" in error.text and error.remedy, (stage, settings)
        mended = planned(recipe, stage, tmp_path, *settings, *(word for word in shlex.split(error.remedy) if word != "--set"), on=on)
        assert mended.fits and not texts(mended, "error") and mended.units_a_step == made.units_a_step


def test_the_nearest_remedy_is_the_one_that_changes_least(tmp_path):
    on = ground("a800-80g", 8)
    made = planned(PAPER, "pretrain", tmp_path, "pretrain.gradient_checkpointing=false", "pretrain.rows=8", on=on)
    assert [warned.remedy for warned in made.warnings if warned.level == "error"] == ["--set pretrain.gradient_checkpointing=true"]


@pytest.mark.parametrize(
    ("settings", "device", "level", "text"),
    [
        (["sft.precision=fp16"], "a800-80g", "warning", "fp16 with this rate"),
        (["sft.precision=fp16", "sft.sharding=fsdp2"], "a800-80g", "error", "does not go with fsdp2"),
        (["sft.precision=fp16"], "cpu", "error", "fp16 needs CUDA"),
        (["sft.precision=bf16"], "v100-32g", "error", "has no bf16"),
        (["sft.row_tokens=8192", "sft.rows=1"], "a800-80g", "error", "beyond the model's positions"),
        (["sft.max_steps=5"], "a800-80g", "warning", "only 5 steps"),
        (["sft.devices=4"], "a800-80g", "warning", "the recipe counts for 4"),
        (["sft.devices=1", "sft.rows=4"], "a800-80g", "warning", "50% of the processes have nothing to do"),
        (["sft.attention=flash"], "cpu", "error", "needs CUDA"),
        (["sft.lora.rank=8", "sft.lora.quantized=true"], "a800-80g", "error", "cannot be sharded"),
    ],
)
def test_what_will_fail_is_told(settings, device, level, text, tmp_path):
    assert text in texts(planned(PAPER, "sft", tmp_path, *settings, on=ground(device)), level)


def test_several_processes_are_needed_to_share(tmp_path):
    assert "needs several processes" in texts(planned(PAPER, "sft", tmp_path, on=ground(count=1)), "error")


def test_a_disk_that_is_too_small_is_told(tmp_path, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**12, 0, 10**9))
    assert "the disk here is too small" in texts(planned(PAPER, "sft", tmp_path), "warning")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**15, 0, 10**14))
    assert "disk" not in texts(planned(PAPER, "sft", tmp_path), "warning")


def test_encoded_data_is_counted_exactly(tmp_path):
    """While a stage runs, its packed rows are known: as many steps as the loop would make."""
    lengths = np.random.default_rng(3).integers(5, 120, 400)
    plan = Plan(QUICKSTART, [], tmp_path)
    folder = plan.folder("sft")
    tokens = folder.with_name(folder.name + PARTIAL) / SCRATCH / "train"
    tokens.mkdir(parents=True)
    packing.store(
        ((number, ([5] * length, [-100] * (length // 2) + [5] * (length - length // 2))) for number, length in enumerate(lengths)),
        tokens,
        4000,
    )
    made = planned(QUICKSTART, "sft", tmp_path, on=ground("cpu", 1))
    assert made.num_examples == 400 and made.num_tokens == lengths.sum() and "encoded" in made.basis
    assert made.num_units == len(packing.pack(lengths, range(400), 512)) and made.num_steps == 12 * made.num_units


def test_records_at_hand_are_counted_by_their_characters(tmp_path):
    plan = Plan(QUICKSTART, [], tmp_path)
    made = planned(QUICKSTART, "sft", tmp_path, on=ground("cpu", 1))
    assert "raw files" in made.basis
    plan.run("curate")
    folder = plan.folder("books")
    plan.run("books")
    made = planned(QUICKSTART, "pretrain", tmp_path, on=ground("cpu", 1))
    assert folder.name in made.basis and 5_000 < made.num_tokens < 30_000


def test_a_base_may_be_elsewhere(tmp_path, checkpoint):
    made = planned(QUICKSTART, "sft", tmp_path, on=ground("cpu", 1), base="")
    assert made.model == "pretrain.architecture"
    made = planned(QUICKSTART, "sft", tmp_path, f"pretrain.base={checkpoint}", on=ground("cpu", 1))
    assert made.model == checkpoint.name and made.num_parameters < 100_000
    with pytest.raises(ValueError, match=r"models/unheard-of is not here; give its config.json with --base-config"):
        planned(PAPER, "sft", tmp_path, "pretrain.base=models/unheard-of")
    made = planned(PAPER, "sft", tmp_path, "pretrain.base=models/unheard-of", base="llama-13b")
    assert made.num_parameters == 13_015_864_320


def test_the_command_tells_and_its_status_says_whether_it_runs(tmp_path, capsys):
    status, out = run(capsys, PAPER, "--device", "a800-80g", "--devices", 8, "--runs", tmp_path)
    assert status == 0 and "7,000,559,616" in out and "一" not in out.splitlines()[0]
    for word in ("权重 weights", "优化器状态 optimizer states", "激活 activations", "显存 memory", "合计 total", "llm-foundry"):
        assert word in out
    status, out = run(capsys, PAPER, "--device", "rtx-3090", "--devices", 8, "--runs", tmp_path, "--stage", "sft", "--json")
    (told,) = msgspec.json.decode(out)["stages"]
    assert status == 1 and told["stage"] == "sft" and told["warnings"][0]["level"] == "error"
    assert sum(told["memory_bytes"].values()) > told["device_bytes"] == 24 * GIB


def test_an_unknown_device_is_told_or_described(tmp_path, capsys):
    with pytest.raises(ValueError, match=r"--device a100-80: unknown; did you mean a100-80g\? Known: a800-80g"):
        run(capsys, PAPER, "--device", "a100-80")
    status, out = run(
        capsys, PAPER, "--device", "mine", "--memory-gb", 96, "--tflops", 200, "--devices", 8, "--stage", "sft", "--runs", tmp_path
    )
    assert status == 0 and out.startswith("mine × 8: 200 TFLOP/s")
    wrong = {
        ("--efficiency", 40): "a share from 0 to 1",
        ("--tokens", "sft=many"): "write STAGE=N",
        ("--tokens", "sft=inf"): "write STAGE=N",
        ("--tflops", -1): "above 0",
        ("--memory-gb", 0): "above 0",
    }
    for words, message in wrong.items():
        with pytest.raises(ValueError, match=message):
            run(capsys, PAPER, *words)


def test_the_reward_models_lessons_are_forecast_too(tmp_path):
    """Each before the stage itself, with its own steps; instructions by rows, with the language model's head."""
    lessons = "[{kinds=['cut','cut','empty'],count=500,epochs=2,rankings=10,learning_rate=1e-4},{of='rankings',count=9}]"
    settings = ["reward.instruct.steps=40", "reward.rankings=3", f"reward.defects={lessons}"]
    made, _ = forecast.plan(QUICKSTART, ground("cpu", 1), ["reward"], settings, tmp_path)
    assert [one.lesson for one in made] == ["instruct", "defects-1", "defects-2", ""] and {one.stage for one in made} == {"reward"}
    instruct, first, second, rankings = made
    assert instruct.num_steps == 40 and instruct.num_parameters != first.num_parameters == rankings.num_parameters
    assert (first.num_units, first.num_examples, first.units_a_step, first.num_steps) == (1000, 4000, 10, 100)
    assert (second.num_steps, second.num_examples, second.units_a_step) == (3, 9 * 6, 3)
    assert first.num_trained_tokens == pytest.approx(first.num_tokens)  # of what the hold-out left


def test_a_lessons_answers_are_measured_where_they_are_there(tmp_path):
    plan = Plan(QUICKSTART, [], tmp_path)
    folder = plan.folder("curate")
    folder.mkdir(parents=True)
    said = [Dialogue(id=f"{i}", turns=(Turn("user", "问" * 62), Turn("assistant", "答" * 124))) for i in range(30)]
    write(folder / "medical.jsonl", said)
    write(folder / "general.jsonl", [])
    (folder / "manifest.json").write_text("{}")
    settings = ["reward.defects=[{kinds=['off_topic'],count=1000,epochs=3,chars=[100,200]}]"]
    made, _ = forecast.plan(QUICKSTART, ground("cpu", 1), ["reward"], settings, tmp_path)
    assert made[0].num_units == 90 and made[0].num_examples == 180  # each answer once an epoch
    assert made[0].num_tokens == pytest.approx(180 * (186 / 1.24), rel=0.1)
