"""Sound machines, recipes and folders: nothing to warn of."""

import json
import shutil
from pathlib import Path

import pytest

from medchatzh.doctor import examine
from medchatzh.doctor.machine import Gpu
from medchatzh.doctor.subject import Subject
from tests.doctor.patients import GPU, edit, exchanges

ROOT = Path(__file__).parents[2]
QWEN = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"


def plain(patient, checkpoint):
    pass


def bf16(patient, checkpoint):
    patient.change("sft.precision=bf16")


def with_a_base(patient, checkpoint):
    patient.base(checkpoint)


def base_with_lora(patient, checkpoint):
    patient.base(checkpoint)
    patient.have(versions=patient.machine.versions | {"peft": "0.21.2"})
    patient.change("sft.lora.rank=8", "sft.learning_rate=2e-3")


def base_in_bin(patient, checkpoint):
    import torch
    from safetensors.torch import load_file

    folder = patient.base(checkpoint)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def qwen_base_with_its_template(patient, checkpoint):
    """Base models of Qwen come with a chat template, and can be trained with any."""
    folder = patient.base(checkpoint)
    (folder / "prompt.json").unlink()
    (folder / "chat_template.jinja").write_text(QWEN)


def base_of_the_same_chat_template(patient, checkpoint):
    patient.base(checkpoint).rename(patient.folder / "tiny-chat")
    patient.change(f"pretrain.base={patient.folder / 'tiny-chat'}", f"tokenizer.path={patient.folder / 'tiny-chat'}")


def llama_without_pad(patient, checkpoint):
    edit(patient.base(checkpoint) / "tokenizer_config.json", pad_token=None)


def padded_embeddings(patient, checkpoint):
    """Some round the embeddings up; the tokenizer has a few pieces fewer."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = patient.base(checkpoint)
    tensors = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in tensors:
            tensors[name] = torch.nn.functional.pad(tensors[name], (0, 0, 0, 16))
    rows = len(tensors["model.embed_tokens.weight"])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    edit(folder / "config.json", vocab_size=rows)


def one_gpu(patient, checkpoint):
    patient.have(gpus=(GPU,), driver_cuda="12.4", torch_cuda="12.4", backends=("gloo", "nccl"))


def eight_gpus_and_zero2(patient, checkpoint):
    patient.have(gpus=(GPU,) * 8, driver_cuda="12.4", torch_cuda="12.4", backends=("gloo", "nccl"), shared_memory_bytes=1 << 36)
    patient.have(versions=patient.machine.versions | {"deepspeed": "0.19.8"})
    patient.change("sft.devices=8", "sft.sharding=zero2", "sft.epochs=5")
    patient.change("pretrain.devices=8", "reward.devices=8", "pretrain.epochs=16", "reward.epochs=2")


def fp16_with_a_low_rate(patient, checkpoint):
    patient.have(gpus=(Gpu("Tesla V100", 32_000_000_000, False),), driver_cuda="12.4", torch_cuda="12.4", backends=("gloo", "nccl"))
    patient.change("sft.precision=fp16", "sft.learning_rate=1e-3")


def gbk_files(patient, checkpoint):
    for name in ("medical.jsonl", "book.txt"):
        path = patient.data / name
        path.write_bytes(path.read_text("utf-8").encode("gb18030"))


def duplicates_that_curation_drops(patient, checkpoint):
    path = patient.data / "medical.jsonl"
    path.write_text(path.read_text("utf-8") * 2, "utf-8")


def training_data_with_the_benchmark_that_curation_removes(patient, checkpoint):
    rows = [{"instruction": f"小儿{question}", "output": answer} for question, answer in exchanges()[:5]]
    with (patient.data / "medical.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def several_turns(patient, checkpoint):
    turns = [{"from": role, "value": text} for pair in exchanges()[:3] for role, text in zip(("human", "gpt"), pair, strict=True)]
    (patient.data / "medical.jsonl").write_text(json.dumps({"conversations": turns}, ensure_ascii=False) + "\n", "utf-8")


def a_finished_mix(patient, checkpoint):
    patient.mixed(exchanges()[:90], exchanges()[90:])


def no_reward(patient, checkpoint):
    patient.change("score.kind=none", "reward.epochs=0")


def a_short_trial(patient, checkpoint):
    patient.change("sft.max_steps=30", "sft.epochs=50")


def both_pools_in_one(patient, checkpoint):
    patient.change('sft.pools=["medical"]')


def quickstart(patient, checkpoint):
    patient.recipe = ROOT / "recipes" / "quickstart.toml"


def public_data(patient, checkpoint):
    patient.recipe = ROOT / "recipes" / "public-data.toml"
    patient.change(f"data.root={patient.shared}")


SOUND = (
    plain, bf16, with_a_base, base_with_lora, base_in_bin, qwen_base_with_its_template, base_of_the_same_chat_template, llama_without_pad,
    padded_embeddings, one_gpu, eight_gpus_and_zero2, fp16_with_a_low_rate, gbk_files, duplicates_that_curation_drops,
    training_data_with_the_benchmark_that_curation_removes, several_turns, a_finished_mix, no_reward, a_short_trial, both_pools_in_one,
    quickstart,
)  # fmt: skip


@pytest.mark.parametrize("made", SOUND, ids=lambda made: made.__name__)
def test_nothing_is_said_of_what_is_sound(made, patient, checkpoint):
    made(patient, checkpoint)
    found = patient.findings()
    assert not [finding for finding in found if finding.severity != "note"]
    assert not [finding for finding in found if "could not check" in finding.what]


def test_nothing_is_said_of_the_recipe_for_public_data(patient, checkpoint, shared_data):
    patient.shared = shared_data
    public_data(patient, checkpoint)
    assert patient.found() == set()


def test_this_machine_passes(here):
    assert [finding.check for finding in examine(Subject(here))[0]] == []


def test_a_copied_checkpoint_folder_is_left_as_it_was(patient, checkpoint):
    folder = patient.base(checkpoint)
    before = {path: path.read_bytes() for path in sorted(patient.folder.rglob("*")) if path.is_file()}
    patient.findings()
    assert {path: path.read_bytes() for path in sorted(patient.folder.rglob("*")) if path.is_file()} == before
    assert not patient.runs.exists()
    shutil.rmtree(folder)
