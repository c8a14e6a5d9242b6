"""Seeded faults: each is named by its check, with a place and a remedy."""

import fcntl
import json
import os
import struct
from pathlib import Path

import pytest

from medchatzh import prompt
from medchatzh.doctor import finding
from medchatzh.doctor.machine import Gpu
from tests.doctor.patients import GPU, alpaca, edit, exchanges, write_lines

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 134217728\n"
FAULTS = {}
"""Name → (the check that must speak, severity, what seeds it)."""


def fault(check, severity):
    def register(seed):
        FAULTS[seed.__name__] = check, severity, seed
        return seed

    return register


def gpus(patient, number=1, **changes):
    patient.have(gpus=(GPU,) * number, backends=("gloo", "nccl"), shared_memory_bytes=1 << 36, **changes)


def seven_billion(patient, checkpoint, **config):
    """A base whose config.json is LLaMA-7B's."""
    shape = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 11008}
    return patient.base(checkpoint, **shape, num_key_value_heads=32, head_dim=128, tie_word_embeddings=False, **config)


# ---- templates, EOS, PAD, tokenizer


@fault("wrong_template", "warning")
def base_of_another_template(patient, checkpoint):
    patient.base(checkpoint)
    patient.change("tokenizer.template=chatml")


@fault("wrong_template", "warning")
def chat_model_of_a_foreign_template(patient, checkpoint):
    folder = patient.base(checkpoint)
    (folder / "prompt.json").unlink()
    (folder / "chat_template.jinja").write_text("{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>{% endfor %}")
    folder.rename(patient.folder / "Llama-3-8B-Instruct")
    patient.change(*(f"{key}={patient.folder / 'Llama-3-8B-Instruct'}" for key in ("pretrain.base", "tokenizer.path")))


@fault("broken_tokenizer", "error")
def eos_missing(patient, checkpoint):
    edit(patient.base(checkpoint) / "tokenizer_config.json", eos_token=None, tokenizer_class="PreTrainedTokenizerFast")


@fault("eos_token", "error")
def eos_is_unk(patient, checkpoint):
    edit(patient.base(checkpoint) / "tokenizer_config.json", eos_token="<unk>")


@fault("eos_token", "warning")
def eos_is_not_where_generation_stops(patient, checkpoint):
    patient.base(checkpoint, eos_token_id=7)


@fault("eos_learnt", "error")
def eos_stands_inside_of_answers(patient, checkpoint):
    """A piece of ordinary text is named as EOS."""
    edit(patient.base(checkpoint) / "tokenizer_config.json", eos_token="。")


@fault("pad_is_eos", "warning")
def pad_is_eos(patient, checkpoint):
    edit(patient.base(checkpoint) / "tokenizer_config.json", pad_token="</s>")


@fault("vocabulary", "error")
def more_pieces_than_embeddings(patient, checkpoint):
    from transformers import AutoTokenizer

    folder = patient.base(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["甲状腺功能亢进症", "四君子汤加减"])
    tokenizer.save_pretrained(folder)


@fault("vocabulary", "error")
def configuration_and_weights_at_odds(patient, checkpoint):
    patient.base(checkpoint, vocab_size=64000)


@fault("tokenizer_of_base", "error")
def new_tokenizer_for_a_base(patient, checkpoint):
    patient.base(checkpoint)
    patient.change("tokenizer.path=")


@fault("tokenizer_of_base", "error")
def tokenizer_of_another_model(patient, checkpoint):
    from medchatzh import tokenizer

    patient.base(checkpoint)
    config = tokenizer.Config(vocab_size=400)
    tokenizer.save(tokenizer.train([answer for _, answer in exchanges()] * 3, config), config, patient.folder / "other")
    patient.change(f"tokenizer.path={patient.folder / 'other'}")


# ---- checkpoint folders


@fault("checkpoint_missing", "error")
def name_of_a_hub(patient, checkpoint):
    patient.change("pretrain.base=baichuan-inc/Baichuan-7B")


@fault("checkpoint_missing", "error")
def adapter_as_base(patient, checkpoint):
    folder = patient.base(checkpoint)
    (folder / "config.json").rename(folder / "adapter_config.json")


@fault("damaged_weights", "error")
def lfs_pointer(patient, checkpoint):
    (patient.base(checkpoint) / "model.safetensors").write_text(POINTER)


@fault("damaged_weights", "error")
def cut_weights(patient, checkpoint):
    file = patient.base(checkpoint) / "model.safetensors"
    os.truncate(file, file.stat().st_size // 2)


@fault("damaged_weights", "error")
def missing_shard(patient, checkpoint):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (patient.base(checkpoint) / "model.safetensors.index.json").write_text(json.dumps(index))


@fault("remote_code", "error")
def baichuan(patient, checkpoint):
    code = {"AutoModelForCausalLM": "modeling_baichuan.BaiChuanForCausalLM"}
    patient.base(checkpoint, model_type="baichuan", architectures=["BaiChuanForCausalLM"], auto_map=code)


@fault("model_kind", "error")
def reward_model_as_base(patient, checkpoint):
    patient.base(checkpoint, architectures=["LlamaForSequenceClassification"])


# ---- settings


@fault("recipe", "error")
def misspelt_key(patient, checkpoint):
    patient.change("sft.learning_rat=1e-4")


@fault("high_learning_rate", "warning")
def seven_billion_at_3e3(patient, checkpoint):
    seven_billion(patient, checkpoint)
    patient.change("sft.learning_rate=3e-3")


@fault("low_learning_rate", "warning")
def one_million_at_2e5(patient, checkpoint):
    patient.change("sft.learning_rate=2e-5")


@fault("low_learning_rate", "warning")
def one_million_from_scratch_at_2e5(patient, checkpoint):
    patient.change("pretrain.learning_rate=2e-5")


@fault("fp16_learning_rate", "warning")
def fp16_with_a_high_rate(patient, checkpoint):
    gpus(patient)
    seven_billion(patient, checkpoint)
    patient.change("sft.precision=fp16", "sft.learning_rate=2e-4")


@fault("fp16_of_bf16_base", "warning")
def fp16_of_a_bf16_base(patient, checkpoint):
    gpus(patient)
    patient.base(checkpoint, torch_dtype="bfloat16", dtype="bfloat16")
    patient.change("sft.precision=fp16")


@fault("fp16_on_cpu", "error")
def fp16_on_a_cpu(patient, checkpoint):
    patient.change("sft.precision=fp16")


@fault("slow_bf16", "warning")
def bf16_on_an_old_gpu(patient, checkpoint):
    patient.have(gpus=(Gpu("Tesla V100", 32_000_000_000, False),), backends=("gloo", "nccl"))
    patient.change("sft.precision=bf16")


@fault("missing_cuda", "error")
def flash_without_cuda(patient, checkpoint):
    patient.change("sft.attention=flash")


@fault("missing_cuda", "error")
def four_bits_without_cuda(patient, checkpoint):
    patient.base(checkpoint)
    patient.change("sft.lora.rank=8", "sft.lora.quantized=true")


@fault("missing_cuda", "warning")
def eight_devices_without_cuda(patient, checkpoint):
    patient.change("sft.devices=8", "sft.sharding=zero2")


@fault("missing_extras", "error")
def zero2_without_deepspeed(patient, checkpoint):
    patient.without("deepspeed")
    patient.change("sft.sharding=zero2")


@fault("missing_extras", "error")
def lora_without_peft(patient, checkpoint):
    patient.without("peft")
    patient.base(checkpoint)
    patient.change("sft.lora.rank=8")


@fault("contradictions", "error")
def lora_from_scratch(patient, checkpoint):
    patient.change("pretrain.lora.rank=8")


@fault("contradictions", "error")
def fp16_under_fsdp2(patient, checkpoint):
    patient.change("sft.precision=fp16", "sft.sharding=fsdp2")


@fault("processes", "warning")
def more_processes_than_micro_batches(patient, checkpoint):
    patient.have(num_processes=8)


@fault("processes", "warning")
def sharding_alone(patient, checkpoint):
    patient.change("sft.sharding=fsdp2")


@fault("processes", "error")
def no_nccl(patient, checkpoint):
    gpus(patient, 8)
    patient.have(backends=("gloo",))
    patient.change("sft.devices=8")


@fault("long_warmup", "warning")
def warmup_of_most_of_the_run(patient, checkpoint):
    patient.change("sft.warmup=0.9")


@fault("few_steps", "warning")
def too_few_steps(patient, checkpoint):
    patient.change("sft.rows=64", "sft.accumulation=16")


@fault("many_epochs", "warning")
def twenty_epochs(patient, checkpoint):
    patient.change("sft.epochs=20")


@fault("rare_states", "warning")
def hours_between_states(patient, checkpoint):
    patient.have(memory_bytes=1 << 40)
    seven_billion(patient, checkpoint)
    patient.change("sft.save_steps=10000", "sft.epochs=12")


@fault("out_of_memory", "error")
def seven_billion_on_16_gb(patient, checkpoint):
    seven_billion(patient, checkpoint)


@fault("out_of_memory", "warning")
def activations_beyond_the_device(patient, checkpoint):
    gpus(patient)
    patient.change("pretrain.rows=100000")


@fault("full_disk", "error")
def no_room_for_states(patient, checkpoint):
    seven_billion(patient, checkpoint)
    patient.change("sft.keep_states=1000")


@fault("positions", "warning")
def rows_beyond_the_positions(patient, checkpoint):
    patient.base(checkpoint)
    patient.change("sft.row_tokens=2048")


@fault("nothing_held_out", "warning")
def no_validation(patient, checkpoint):
    patient.change("mix.validation_share=0")


@fault("locked_run", "error")
def run_folder_in_use(patient, checkpoint):
    (patient.runs / "recipe").mkdir(parents=True)
    patient.lock = (patient.runs / "recipe" / ".lock").open("a")
    fcntl.flock(patient.lock, fcntl.LOCK_EX)


# ---- data


@fault("sources", "error")
def source_without_files(patient, checkpoint):
    (patient.data / "general.jsonl").unlink()


@fault("sources", "error")
def columns_that_nobody_knows(patient, checkpoint):
    write_lines(patient.data / "medical.jsonl", [{"foo": question, "bar": answer} for question, answer in exchanges()])


@fault("sources", "error")
def no_data_folder(patient, checkpoint):
    patient.change("data.root=nowhere")


@fault("kinds", "error")
def no_rankings(patient, checkpoint):
    write_lines(patient.data / "rankings.jsonl", alpaca(exchanges()))


@fault("pools", "error")
def pool_without_a_source(patient, checkpoint):
    patient.recipe.write_text(patient.recipe.read_text("utf-8").replace('pool = "general"', ""), "utf-8")


@fault("garbled", "warning")
def utf8_read_as_gbk(patient, checkpoint):
    rows = [(text.encode().decode("gbk", "replace"), answer.encode().decode("gbk", "replace")) for text, answer in exchanges()]
    write_lines(patient.data / "medical.jsonl", alpaca(rows))


@fault("garbled", "warning")
def replaced_characters(patient, checkpoint):
    write_lines(patient.data / "medical.jsonl", alpaca([(question, f"锟斤拷{answer}") for question, answer in exchanges()]))


@fault("leaking_validation", "error")
def validation_is_training(patient, checkpoint):
    patient.mixed(exchanges(), exchanges())


@fault("leaking_validation", "error")
def same_questions_on_both_sides(patient, checkpoint):
    patient.mixed(exchanges(), exchanges()[:5])


@fault("benchmark_leak", "error")
def benchmark_in_the_mix(patient, checkpoint):
    patient.mixed([*exchanges(), *((f"小儿{question}", answer) for question, answer in exchanges()[:3])], [])


@fault("benchmark_leak", "warning")
def exam_as_training_data(patient, checkpoint):
    (patient.data / "medical.jsonl").rename(patient.data / "cmexam_test.jsonl")
    patient.recipe.write_text(patient.recipe.read_text("utf-8").replace("medical.jsonl", "cmexam_test.jsonl"), "utf-8")


@fault("duplicates", "warning")
def duplicates_that_stay(patient, checkpoint):
    write_lines(patient.data / "medical.jsonl", alpaca(exchanges()[:50] * 2))
    patient.change("curate.duplicates.exact=false")


@fault("masked_labels", "error")
def no_answer_in_the_mix(patient, checkpoint):
    folder = patient.mixed(exchanges(), [])
    line = json.dumps({"id": "a:1", "turns": [{"role": "user", "content": "头痛怎么办？"}]}, ensure_ascii=False)
    (folder / "train.jsonl").write_text(f"{line}\n" * 20, "utf-8")


@fault("masked_labels", "warning")
def empty_answers_in_the_mix(patient, checkpoint):
    patient.mixed([(question, "") for question, _ in exchanges()], [])


@fault("too_long", "error")
def nothing_fits_a_row(patient, checkpoint):
    patient.change("sft.row_tokens=8")


@fault("too_long", "warning")
def much_does_not_fit_a_row(patient, checkpoint):
    patient.change("sft.row_tokens=40")


@fault("rankings_too_long", "error")
def no_ranking_fits_a_row(patient, checkpoint):
    patient.change("reward.row_tokens=8")


@fault("cut_answers", "warning")
def answers_cut_at_30_characters(patient, checkpoint):
    rows = [(question, (answer + "".join(reversed(answer)) * 3)[:30] + "然后") for question, answer in exchanges()]
    write_lines(patient.data / "medical.jsonl", alpaca(rows))


@fault("short_generation", "warning")
def answers_longer_than_generation(patient, checkpoint):
    patient.change("generate.decoding.max_new_tokens=8")


@fault("preference_pairs", "error")
def ties_alone(patient, checkpoint):
    path = patient.data / "rankings.jsonl"
    path.write_text(path.read_text("utf-8").replace('"rank": 2', '"rank": 1'), "utf-8")


@fault("preference_groups", "warning")
def one_case_in_several_groups(patient, checkpoint):
    path = patient.data / "rankings.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()[:50]]
    write_lines(path, [row | {"id": f"{number}-{again}"} for number, row in enumerate(rows) for again in "ab"])


# ---- machine


@fault("packages", "error")
def old_transformers(patient, checkpoint):
    patient.have(
        versions=patient.machine.versions | {"transformers": "4.30.2"},
        requirements={"medchatzh": ('transformers>=5.0; extra == "train"',)},
    )


@fault("packages", "error")
def no_protobuf(patient, checkpoint):
    patient.without("protobuf")
    patient.have(requirements={"medchatzh": ('protobuf>=5; extra == "train"', 'ray>=2; extra == "ray"')})


@fault("package_conflicts", "warning")
def peft_for_another_transformers(patient, checkpoint):
    patient.have(requirements={"transformers": ("tokenizers<0.1,>=0.0.1",)})


@fault("broken_torch", "error")
def torch_that_cannot_be_imported(patient, checkpoint):
    patient.have(torch_error="OSError: libcudart.so.12: cannot open shared object file")


@fault("cuda_driver", "warning")
def driver_too_old(patient, checkpoint):
    patient.have(driver_cuda="11.4", torch_cuda="12.8")


@fault("cores", "warning")
def container_of_two_cores(patient, checkpoint):
    patient.have(cores=64, usable_cores=2.0)


@fault("little_memory", "warning")
def no_memory_free(patient, checkpoint):
    patient.have(free_memory_bytes=200_000_000)


@fault("shared_memory", "warning")
def shared_memory_of_docker(patient, checkpoint):
    gpus(patient, 2)
    patient.have(shared_memory_bytes=64 << 20)


@fault("locale_encoding", "warning")
def gbk_locale(patient, checkpoint):
    patient.have(encoding="gbk")


@fault("run_folder", "error")
def folder_that_cannot_be_written(patient, checkpoint):
    patient.runs = Path("/proc/runs")


@fault("operating_system", "error")
def native_windows(patient, checkpoint):
    patient.have(platform="win32")


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_named(name, patient, checkpoint):
    check, severity, seed = FAULTS[name]
    seed(patient, checkpoint)
    told = {(one.check, one.severity): one for one in patient.findings()}
    assert (check, severity) in told, sorted(told)
    found = told[check, severity]
    assert found.where and found.what and found.remedy and "could not check" not in found.what


def test_every_check_has_a_seeded_fault_or_a_test_of_its_own():
    tested = {check for check, _, _ in FAULTS.values()} | {"eos_in_text", "forgetting"}
    assert {one.name for one in finding.checks()} == tested


def test_medical_instructions_alone_are_noted(patient, checkpoint):
    patient.base(checkpoint)
    patient.change('sft.pools=["medical"]')
    assert "forgetting" in patient.found("note")


def test_a_tokenizer_that_reads_eos_in_text(patient, checkpoint):
    """Slow tokenizers of a checkpoint's own code are such; here one that splits nothing."""
    from medchatzh.doctor.checkpoint import eos_in_text

    class Reads:
        eos_token, eos_token_id = "</s>", 2

        def __call__(self, text, *, add_special_tokens, split_special_tokens):
            return {"input_ids": [2 if part == "</s>" else 9 for part in text.replace("</s>", " </s> ").split()]}

    class Subject:
        tokenizer = Reads()
        template = prompt.TEMPLATES["medchatzh"]

    ((severity, _, what, _),) = eos_in_text(Subject())
    assert severity == "warning" and "</s>" in what


def test_weights_that_are_no_safetensors(patient, checkpoint):
    from medchatzh.doctor.folder import damage

    for name, content in {
        "a.safetensors": b"<html>403</html>",
        "b.safetensors": b"",
        "c.safetensors": struct.pack("<Q", 1 << 40) + b"{}" * 40,
        "d.bin": b"PK\x03\x04" + bytes(100),
    }.items():
        (patient.folder / name).write_bytes(content)
        assert damage(patient.folder / name), name
    assert not damage(checkpoint / "model.safetensors")
