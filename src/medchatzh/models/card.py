"""The model card and Ollama's Modelfile of an exported checkpoint. All their numbers come from manifests and from the checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from medchatzh import prompt
from medchatzh.models.decoding.sampling import Decoding
from medchatzh.prompt import Template
from medchatzh.records import Turn
from medchatzh.run import Manifest

_SHOWN = ("learning_rate", "schedule", "epochs", "row_tokens", "rows", "accumulation", "devices", "precision", "weight_decay")
_TRAINING = ("pretrain", "sft", "dpo")
_NOTICE = """\
> **不是医生。** 本模型仅供研究，回答可能有误、过时或编造，不能代替医生的诊断与治疗，也不得用于急症；急症请拨打 120。
>
> **No doctor.** For research only. Answers may be wrong, outdated or invented. They replace no physician's diagnosis or treatment, and are
> not for emergencies: call your emergency number."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the card tells."""

    name: str
    template: Template
    eos: str
    num_parameters: int
    dtype: str
    max_positions: int
    agreement: tuple[int, int]
    """Dialogues to which the exported chat template gives the ids of training, of how many."""
    puts_space: bool
    """Whether the tokenizer puts a space in front of every text, and so in training of every turn."""
    is_gguf_ready: bool
    """Whether llama.cpp's converter finds all that it needs."""
    differs_in_gguf: bool
    """Whether llama.cpp gives other ids to some texts, see `pieces.differs_in_llama_cpp`."""
    decoding: Decoding
    manifests: tuple[Manifest, ...]
    """Of the stages that the checkpoint came from, as far as they were found, the last one first."""


def readme(facts: Facts) -> str:
    """The card, in Chinese and English, with the front matter that the hub reads."""
    parts = [
        "\n".join(_front_matter(facts)),
        f"# {facts.name}",
        f"中文医疗对话模型，{facts.num_parameters:,} 个参数，由 MedChatZH 工具链训练。  \n"
        f"A Chinese medical dialogue model of {facts.num_parameters:,} parameters, made with the MedChatZH toolchain.",
        _NOTICE,
        _prompt(facts),
        _loading(facts),
        _making(facts),
        _limits(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: Facts) -> list[str]:
    return [
        "---",
        "language:",
        "- zh",
        "license: other",
        "license_name: by-base-and-data",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags:",
        "- medical",
        "- text-generation",
        "---",
    ]


def _prompt(facts: Facts) -> str:
    asked = (Turn("user", "头痛怎么办？"), Turn("assistant", "多休息。"), Turn("user", "要吃药吗？"))
    same, tried = facts.agreement
    return f"""\
## 提示格式 / Prompt

模板 `{facts.template.name}`，每个回答以 `{facts.eos}` 结束，前面没有 BOS。用分词器自带的 `chat_template` 即可，不要自己拼接。  
Template `{facts.template.name}`; every answer ends with `{facts.eos}`, and there is no BOS. Use the tokenizer's `chat_template`.

```text
{prompt.text(asked, facts.template, facts.eos)}
```

导出时核对：{tried} 段对话中 {same} 段的编号与训练时完全相同。  
Checked at export: of {tried} dialogues {same} get exactly the ids of training.

用户文字里若有 `{facts.eos}` 字样：训练和 `medchatzh chat` 当作普通文字；`apply_chat_template`、vLLM 与 Ollama 会把它读成真正的结束符。\
对外服务时请先删去。  
A literal `{facts.eos}` in a user's text is text in training and in `medchatzh chat`, but `apply_chat_template`, vLLM and Ollama read it as
the real end of an answer: strip it from what users send."""


def _loading(facts: Facts) -> str:
    return f"""\
## 使用 / Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{facts.name}")
model = AutoModelForCausalLM.from_pretrained("{facts.name}", dtype="auto", device_map="auto")  # transformers 4: torch_dtype
messages = [{{"role": "user", "content": "失眠多梦怎么办？"}}]
inputs = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True).to(model.device)
print(tokenizer.decode(model.generate(**inputs)[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```

```bash
vllm serve {facts.name}  # greedy, as it was evaluated: "temperature": 0 in the request
{_gguf(facts)}
```"""


def _gguf(facts: Facts) -> str:
    if not facts.is_gguf_ready:
        return "# GGUF: tokenizer.model is not there, and llama.cpp's converter may refuse the folder"
    return f"""\
ollama create {facts.name.lower()} -f {facts.name}/Modelfile && ollama run {facts.name.lower()}
python convert_hf_to_gguf.py {facts.name} --outtype bf16  # llama.cpp"""


def _making(facts: Facts) -> str:
    trained = [manifest for manifest in facts.manifests if manifest.stage.partition("@")[0] in _TRAINING]
    text = ["## 训练 / Training"]
    if not trained:
        text.append("训练记录未随检查点提供。 / No record of the training lay beside the checkpoint.")
    for manifest in trained:
        config = [(key, manifest.config[key]) for key in _SHOWN if key in manifest.config]
        seen = [(key, value) for key, value in manifest.facts.items() if isinstance(value, int | float) and not isinstance(value, bool)]
        base = str(manifest.config.get("base", ""))
        start = f" · base `{Path(base).name}`" if base else ""
        text.append(f"### {manifest.stage}{start}\n\n" + _table(("设置与结果 / setting, result", "值 / value"), [*config, *seen]))
    data = [(each.stage, each.num_in, each.num_out, each.fingerprint) for each in facts.manifests]
    if data:
        heads = ("阶段 / stage", "进 / in", "出 / out", "指纹 / fingerprint")
        text.append("### 来历 / Stages\n\n" + _table(heads, data))
    sources = [source for manifest in facts.manifests if manifest.stage == "ingest" for source in manifest.config.get("sources", ())]
    if sources:
        rows = [(source.get("name", ""), source.get("pool", ""), source.get("licence") or "未注明 / not stated") for source in sources]
        text.append("### 数据 / Data\n\n" + _table(("来源 / source", "池 / pool", "许可 / licence"), rows))
    return "\n\n".join(text)


def _limits(facts: Facts) -> str:
    gguf = """
- 该分词器先规整字符（如 `；` 变 `;`）并在句首加空格，llama.cpp 与 Ollama 不完全照做：部分文字的编号会不同。  
  Its tokenizer maps characters and puts spaces in a way that llama.cpp and Ollama follow only in part: some texts get other ids there."""
    return f"""\
## 局限 / Limits

- 训练数据未经医生逐条审核。 / The training data were not reviewed one by one by physicians.
- 上下文 {facts.max_positions:,} 个 token，权重为 {facts.dtype}。 / {facts.max_positions:,} tokens of context; weights in {facts.dtype}.
- 许可取决于基座模型与训练数据，使用前请核对。 / The licence follows from the base model and the data; check both before use.\
{gguf if facts.differs_in_gguf else ""}"""


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [list(heads), *(list(row) for row in rows)]
    shown = [
        "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    ]
    return "\n".join([shown[0], "|" + " --- |" * len(lines[0]), *shown[1:]])


def modelfile(facts: Facts) -> str:
    """Ollama's: the same prompt as a Go template, the stop, and our decoding (greedy where it has no do_sample: temperature 0)."""
    # llama.cpp puts the tokenizer's space at the start and behind each EOS; before other turns the template must.
    opened, raised, shown, lowered, space = ('{{ $lead := "" }}', '{{ $lead = " " }}', "{{ $lead }}", '{{ $lead = "" }}', " ")
    if not facts.puts_space:
        opened = raised = shown = lowered = space = ""
    system, user = (_around(getattr(facts.template, role)) for role in ("system", "user"))
    body = (
        f'{{{{ if eq .Role "system" }}}}{system}{raised}{{{{ else if eq .Role "user" }}}}{shown}{user}{lowered}'
        f"{{{{ else }}}}{space}{{{{ .Content }}}}{_quoted(facts.eos)}{{{{ end }}}}"
    )
    lines = [
        "FROM .",
        f'TEMPLATE """{opened}{{{{ range .Messages }}}}{body}{{{{ end }}}}"""',
        f'PARAMETER stop "{facts.eos}"',
        f"PARAMETER temperature {facts.decoding.temperature if facts.decoding.do_sample else 0}",
        f"PARAMETER repeat_penalty {facts.decoding.repetition_penalty}",
        "PARAMETER repeat_last_n -1",
        f"PARAMETER num_predict {facts.decoding.max_new_tokens}",
    ]
    if facts.max_positions:
        lines.append(f"PARAMETER num_ctx {facts.max_positions}")
    return "\n".join(lines) + "\n"


def _around(form: str) -> str:
    before, after = form.split("{}")
    return _quoted(before) + "{{ .Content }}" + _quoted(after)


def _quoted(text: str) -> str:
    """Text that Go would read as the start of an action, as one that prints it."""
    return text.replace("{{", '{{ "{{" }}')
