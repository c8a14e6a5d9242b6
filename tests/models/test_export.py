"""What is handed to others gives the same logits, the same ids and the same prompt as what was trained, and says what it is."""

import json
import random
import re
import subprocess
import sys
from contextlib import suppress

import jinja2
import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from medchatzh import models, prompt, tokenizer
from medchatzh.convert import convert
from medchatzh.models.decoding.engine import Decoding, Engine
from medchatzh.models.export import export
from medchatzh.models.published import pieces
from medchatzh.models.published.weights import Weights
from medchatzh.records import Turn
from medchatzh.run import Manifest
from tests.conftest import TEXTS
from tests.models import baichuan_reference, published
from tests.models.test_baichuan import processor, train_sentencepiece

LITERALS = ("</s>", "<s>", "<pad>", "<unk>")


@pytest.fixture(scope="module")
def stage(tmp_path_factory, checkpoint):
    """The folder of a finished SFT stage, with those that it came from beside it."""
    runs = tmp_path_factory.mktemp("runs")

    def made(name, inputs, config=None, **more):
        folder = runs / f"{name}-0123456789ab"
        folder.mkdir()
        named = {each: f"{each}-0123456789ab" for each in inputs}
        fields = {"files": {}, "versions": {}, "num_in": 1200, "num_out": 1000, "dropped": {}, "facts": {}, "outputs": {}, "seconds": 1.0}
        manifest = Manifest(stage=name, fingerprint="0123456789ab", config=config or {}, seed=0, inputs=named, **fields | more)
        (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
        return folder

    made("ingest", [], {"sources": [{"name": "样例来源", "pool": "medical", "licence": "CC0-1.0"}]})
    with_pieces = made("tokenizer", ["ingest"])
    settings = tokenizer.Config(vocab_size=400)
    tokenizer.save(tokenizer.train(TEXTS * 20, settings), settings, with_pieces)
    made("pretrain", ["tokenizer"], {"base": "/home/someone/baichuan-llama", "learning_rate": 2e-5})
    made("mix", ["ingest"])
    folder = made("sft", ["pretrain", "mix"], {"learning_rate": 2e-4, "epochs": 3.0}, facts={"num_steps": 77, "held_out_loss": 1.234})
    (folder / "checkpoint").mkdir()
    for file in checkpoint.iterdir():
        if file.name != "tokenizer.model":  # a stage that trains need not keep it
            (folder / "checkpoint" / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture(scope="module")
def exported(stage, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "medchatzh-tiny"
    export(stage, out, "fp32")
    return out


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Exports of checkpoints whose tokenizers put a space in front of every text: Baichuan's kind, and LLaMA's."""
    folder = tmp_path_factory.mktemp("foreign")
    model = train_sentencepiece(normalization_rule_name="nmt_nfkc")
    convert(baichuan_reference.checkpoint(folder / "original", model, processor(model).get_piece_size()), folder / "baichuan")
    sources = {"baichuan": folder / "baichuan", "llama": published.llama(folder / "llama")}
    for name, source in sources.items():
        export(source, folder / f"{name}-exported", "fp32")
    return {name: (source, folder / f"{name}-exported") for name, source in sources.items()}


def logits(folder, dtype=torch.float32):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    with torch.inference_mode():
        return model(torch.arange(5, 69)[None]).logits.float()


def test_weights_are_those_of_the_checkpoint(stage, exported, tmp_path):
    assert torch.equal(logits(stage / "checkpoint"), logits(exported))
    for dtype, name, tolerance in (("bf16", torch.bfloat16, 0.1), ("fp16", torch.float16, 0.02)):
        out = tmp_path / dtype
        assert export(stage / "checkpoint", out, dtype) == models.num_parameters(models.load_causal(stage / "checkpoint"))
        assert {Weights(out).read(each).dtype for each in Weights(out).names} == {name}
        assert AutoModelForCausalLM.from_pretrained(out, dtype="auto").dtype == name
        assert (logits(out) - logits(exported)).abs().max() < tolerance * logits(exported).abs().max()


def sampled(samples):
    """Dialogues of the package's own samples, without the rows that are broken on purpose."""
    for line in (samples / "medical" / "dialogues.jsonl").read_text("utf-8").splitlines():
        with suppress(json.JSONDecodeError, KeyError):
            turns = json.loads(line)["conversations"]
            if [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2):
                yield alternating([turn["value"] for turn in turns])
    for row in json.loads((samples / "general" / "alpaca_zh.json").read_text("utf-8")):
        if row.get("instruction") and row.get("output"):
            yield alternating([row["instruction"], row["output"]])


def generated(count):
    """Several turns of anything: spaces, line breaks, digits, rare hanzi, joined emoji, quotes, braces; with and without a system turn."""
    draw = random.Random(0)
    parts = [
        *TEXTS,
        "1. ",
        "２",
        "，",
        "\n",
        "\n\n",
        "\t",
        " ",
        "  ",
        "　",
        "\r\n",
        "𠮷𪚥",
        "👩‍⚕️",
        "é",
        "e\u0301",
        "①；",
        "'\"\\",
        "{{ x }}",
        "{% raw %}",
    ]
    for _ in range(count):
        contents = ["".join(draw.choices(parts, k=draw.randint(1, 6))) for _ in range(2 * draw.randint(1, 4))]
        system = draw.choice([None, None, "", "你是医生。"])
        yield alternating(contents, system)


def alternating(contents, system=None):
    turns = tuple(Turn("assistant" if number % 2 else "user", content) for number, content in enumerate(contents))
    return turns if system is None else (Turn("system", system), *turns)


def messages(turns):
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def rendered(loaded, turns, **options):
    return loaded.apply_chat_template(messages(turns), tokenize=True, return_dict=True, **options)["input_ids"]


def certified(source, out, dialogues):
    """Ids and labels of training, of the prompt of every answer, of chat, and of the exported template, compared dialogue by dialogue."""
    trained, template = models.load_tokenizer(source)
    given, same_template = models.load_tokenizer(out)
    others = AutoTokenizer.from_pretrained(out)
    engine = Engine(out, threads=1)
    assert same_template == template
    for turns in dialogues:
        prompt.check(turns, answered=True)
        whole = prompt.encode(turns, trained, template)
        assert prompt.encode(turns, given, template) == whole
        assert rendered(others, turns) == whole.input_ids
        labels = [prompt.IGNORE_INDEX] * len(whole.labels)
        for stop, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            start = prompt.encode(turns[:stop], trained, template).input_ids
            end = len(prompt.encode(turns[: stop + 1], trained, template).input_ids)
            assert whole.input_ids[: len(start)] == start == rendered(others, turns[:stop], add_generation_prompt=True)
            assert whole.input_ids[end - 1] == trained.eos_token_id
            labels[len(start) : end] = whole.input_ids[len(start) : end]
            if len(start) + 8 <= engine.max_positions:
                assert engine.prompt(turns[:stop], Decoding(max_new_tokens=8)) == (start, 0)
        assert whole.labels == labels


def test_certificate(stage, exported, samples):
    dialogues = [*sampled(samples), *generated(400)]
    assert len(dialogues) >= 500
    certified(stage / "checkpoint", exported, dialogues)


@pytest.mark.parametrize("name", ["baichuan", "llama"])
def test_certificate_of_tokenizers_that_put_a_space_in_front(foreign, samples, name):
    source, out = foreign[name]
    # LLaMA's class in transformers puts no space before a text that begins with one, so that such a turn has other ids behind another.
    dialogues = [turns for turns in generated(150) if name == "baichuan" or not any(turn.content.startswith(" ") for turn in turns)]
    certified(source, out, [*list(sampled(samples))[:60], *dialogues])


def test_certificate_of_a_template_with_special_tokens(checkpoint, tmp_path):
    """As in Qwen's checkpoints, whose markers of a turn are tokens of their own."""
    loaded = AutoTokenizer.from_pretrained(checkpoint)
    loaded.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    model = models.load_causal(checkpoint)
    model.resize_token_embeddings(len(loaded))
    models.save(model, loaded, prompt.template("chatml"), tmp_path / "source")
    export(tmp_path / "source", tmp_path / "out", "fp32")
    certified(tmp_path / "source", tmp_path / "out", list(generated(50)))
    ids = AutoTokenizer.from_pretrained(tmp_path / "out")("<|im_start|>\n")["input_ids"]
    assert ids == [loaded.convert_tokens_to_ids("<|im_start|>"), loaded.convert_tokens_to_ids("\n")]


@pytest.mark.parametrize("literal", LITERALS)
def test_a_literal_special_token_is_text_for_us_and_real_for_others(exported, literal):
    """The known difference: templates of others are text, in which a user's `</s>` looks like the one that ends an answer."""
    loaded, template = models.load_tokenizer(exported)
    number = loaded.convert_tokens_to_ids(literal)
    turns = alternating([f"前{literal}后", "答"])
    assert number not in prompt.encode(turns[:1], loaded, template).input_ids
    assert rendered(loaded, turns[:1]).count(number) == 1
    split = rendered(loaded, turns[:1], tokenizer_kwargs={"split_special_tokens": True})
    assert split == prompt.encode(turns[:1], loaded, template).input_ids
    assert "A literal `</s>` in a user's text is text in training" in (exported / "README.md").read_text("utf-8")


def test_configuration_is_read_by_both_versions_of_transformers(exported, foreign):
    table = models.describe(exported)
    assert table["dtype"] == table["torch_dtype"] == "float32"
    assert table["rope_theta"] == table["rope_parameters"]["rope_theta"]
    for out in (exported, *(out for _, out in foreign.values())):
        written = json.loads((out / "tokenizer_config.json").read_text())
        assert written["tokenizer_class"] == "PreTrainedTokenizerFast" and "extra_special_tokens" not in written
        assert (written["add_bos_token"], written["add_eos_token"]) == (False, False)
        assert written["chat_template"] == (out / "chat_template.jinja").read_text()
        assert AutoTokenizer.from_pretrained(out)("中")["input_ids"][0] != 1
        generation = GenerationConfig.from_pretrained(out)
        assert (generation.bos_token_id, generation.eos_token_id, generation.do_sample) == (1, 2, False)
        assert (generation.repetition_penalty, generation.max_new_tokens, generation.min_new_tokens) == (1.2, 512, 5)
        generation.save_pretrained(out.parent / "saved")  # strict: refused where settings are at odds


def test_llama_cpps_converter_finds_the_vocabulary(exported, foreign):
    """What convert_hf_to_gguf.py reads: the pieces by sentencepiece, special tokens and template by `gguf`."""
    gguf = pytest.importorskip("gguf", reason="the reader gguf is not installed")
    for out in (exported, *(out for _, out in foreign.values())):
        loaded = AutoTokenizer.from_pretrained(out)
        read = processor((out / "tokenizer.model").read_bytes())
        assert [read.id_to_piece(n) for n in range(read.get_piece_size())] == loaded.convert_ids_to_tokens(range(len(loaded)))
        special = gguf.SpecialVocab(out, n_vocab=read.get_piece_size())
        assert special.special_token_ids["bos"] == 1 and special.special_token_ids["eos"] == 2
        assert special.add_special_token == {"bos": False, "eos": False}
        assert special.chat_template == loaded.chat_template


def test_ids_as_llama_cpp_makes_them(exported):
    """It cuts a text at user-defined symbols, longest first, and merges the rest as sentencepiece does."""
    read = processor((exported / "tokenizer.model").read_bytes())
    assert not pieces.differs_in_llama_cpp(exported / "tokenizer.model")
    loaded, template = models.load_tokenizer(exported)
    for turns in generated(200):
        text = prompt.text(turns[:-1], template)
        parts = [part for part in re.split("(</s>|\n)", text) if part]
        ids = [i for part in parts for i in ([read.piece_to_id(part)] if part in ("</s>", "\n") else read.encode(part))]
        assert ids == prompt.encode(turns[:-1], loaded, template).input_ids


def ollama(modelfile, turns):
    """The prompt of a Modelfile, its template written in Jinja, which has the same parts."""
    body = re.search(r'TEMPLATE """(.*)"""\nPARAMETER', modelfile, re.DOTALL)[1]
    for go, jinja in (
        (r'\{\{ "\{\{" \}\}', "{{ '{{' }}"),
        (r'\{\{ \$lead := "" \}\}', "{% set now = namespace(lead='') %}"),
        (r'\{\{ \$lead = "(.?)" \}\}', r"{% set now.lead = '\1' %}"),
        (r"\{\{ \$lead \}\}", "{{ now.lead }}"),
        (r"\{\{ range \.Messages \}\}", "{% for each in messages %}"),
        (r'\{\{ (if|else if) eq \.Role ("\w+") \}\}', lambda m: f"{{% {'if' if m[1] == 'if' else 'elif'} each.role == {m[2]} %}}"),
        (r"\{\{ \.Content \}\}", "{{ each.content }}"),
        (r"\{\{ else \}\}", "{% else %}"),
    ):
        body = re.sub(go, jinja, body)
    body = body[: body.rindex("{{ end }}")].replace("{{ end }}", "{% endif %}") + "{% endfor %}"
    return jinja2.Environment(keep_trailing_newline=True).from_string(body).render(messages=messages(turns))


@pytest.mark.parametrize("name", prompt.TEMPLATES)
def test_ollamas_template_is_our_prompt(checkpoint, tmp_path, name):
    loaded, _ = models.load_tokenizer(checkpoint)
    models.save(models.load_causal(checkpoint), loaded, prompt.template(name), tmp_path / "source")
    export(tmp_path / "source", tmp_path / "out")
    modelfile = (tmp_path / "out" / "Modelfile").read_text("utf-8")
    for turns in [*generated(20), alternating(["甲", "乙", "丙"], "系统")]:
        assert ollama(modelfile, turns) == prompt.text(turns, prompt.template(name))
    assert modelfile.startswith("FROM .\n") and 'PARAMETER stop "</s>"\nPARAMETER temperature 0\n' in modelfile


def test_ollamas_template_puts_the_space_that_llama_cpp_does_not(foreign):
    source, out = foreign["llama"]
    loaded, template = models.load_tokenizer(source)
    text = ollama((out / "Modelfile").read_text("utf-8"), turns := alternating(["甲", "乙", "丙", "丁"], "系统"))
    read = processor((out / "tokenizer.model").read_bytes())
    ids = [i for part in text.split("</s>") if part for i in [*read.encode(part), 2]]  # the model puts one in front of each part
    assert ids == prompt.encode(turns, loaded, template).input_ids


def test_the_card_tells_where_it_comes_from(exported, foreign):
    card = (exported / "README.md").read_text("utf-8")
    front, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert {"language:", "- zh", "license: other", "library_name: transformers"} <= set(front.splitlines())
    for told in (
        "样例来源 | medical | CC0-1.0",
        "| learning_rate | 0.0002 |",
        "| held_out_loss | 1.234 |",
        "### sft",
        "base `baichuan-llama`",
    ):
        assert told in body
    for told in ("不能代替医生的诊断与治疗", "They replace no physician's", "of 7 dialogues 7 get exactly", "vllm serve medchatzh-tiny"):
        assert told in body
    assert "/home/" not in card, "paths of this machine"
    assert "ollama create medchatzh-tiny -f medchatzh-tiny/Modelfile" in body
    assert "some texts get other ids there" not in card
    bare = (foreign["baichuan"][1] / "README.md").read_text("utf-8")
    assert "of 7 dialogues 7 get exactly" in bare and "of 7 dialogues 6 get exactly" in (foreign["llama"][1] / "README.md").read_text(
        "utf-8"
    )
    assert "No record of the training" in bare and "some texts get other ids there" in bare


def test_without_its_pieces_the_card_does_not_promise_a_gguf(checkpoint, tmp_path):
    loaded, template = models.load_tokenizer(checkpoint)
    models.save(models.load_causal(checkpoint), loaded, template, tmp_path / "source")
    (tmp_path / "source" / "tokenizer.model").unlink(missing_ok=True)
    export(tmp_path / "source", tmp_path / "out")
    assert "ollama create" not in (tmp_path / "out" / "README.md").read_text("utf-8")


def test_an_exported_folder_is_a_checkpoint_of_ours(exported, tmp_path):
    loaded, template = models.load_tokenizer(exported)
    assert template == prompt.template("medchatzh") and len(loaded) == models.load_causal(exported).get_input_embeddings().num_embeddings
    export(exported, tmp_path / "again", "fp32")
    assert torch.equal(logits(tmp_path / "again"), logits(exported))


def test_what_cannot_be_exported_is_told(stage, checkpoint, tmp_path):
    def refused(source, match, dtype="bf16"):
        with pytest.raises(ValueError, match=match):
            export(source, tmp_path / "out", dtype)
        assert not list(tmp_path.glob("out*"))

    refused(tmp_path / "nowhere", "no checkpoint there")
    unfinished = tmp_path / "sft-1.partial" / "checkpoint"
    unfinished.mkdir(parents=True)
    refused(unfinished, "not finished; run its stage to the end")
    reward = models.load_reward(checkpoint)
    loaded, template = models.load_tokenizer(checkpoint)
    models.save(reward, loaded, template, tmp_path / "reward")
    refused(tmp_path / "reward", "gives no text; export the checkpoint of pretrain, sft or dpo")
    large = models.load_causal(checkpoint)
    large.model.layers[0].mlp.up_proj.weight.data[0, 0] = 1e6
    models.save(large, loaded, template, tmp_path / "large")
    refused(tmp_path / "large", "up_proj.weight are too large for fp16; take --dtype bf16", "fp16")
    large.model.layers[0].mlp.up_proj.weight.data[0, 0] = float("nan")
    models.save(large, loaded, template, tmp_path / "diverged")
    refused(tmp_path / "diverged", "up_proj.weight are no numbers .* the training diverged")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ValueError, match="taken: exists already"):
        export(stage, tmp_path / "taken")


@pytest.mark.slow
def test_nothing_heavy_is_loaded_for_the_command_line():
    program = "import sys, medchatzh.models.export, medchatzh.convert; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_weights_can_be_read_by_whoever_may_read_the_rest(checkpoint, tmp_path):
    export(checkpoint, tmp_path / "out", "bf16")
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "out").iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]
