"""THE chat template: the one place that turns dialogues into text, ids and labels.

Training, generation, reward, chat and the exported checkpoint all come here, so the ids a model is trained on and the ids
it is served with cannot differ. Each turn is tokenized on its own (a user turn with its headers) and the ids are joined: a
prompt's ids are therefore always a prefix of the training ids, whatever the tokenizer merges.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from medchatzh.records import Turn

IGNORE_INDEX = -100
FILE_NAME = "prompt.json"


class Tokenizer(Protocol):
    """What is needed of a transformers tokenizer."""

    eos_token_id: int

    def __call__(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool): ...


class Template(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A chat template as data. `{}` stands for the turn's content; every answer ends with the tokenizer's EOS."""

    name: str
    user: str
    """Text of a user turn, with the header that makes the model speak next."""
    system: str = "{}\n\n"
    source: str = ""

    def __post_init__(self) -> None:
        for field in ("user", "system"):
            if getattr(self, field).count("{}") != 1:
                raise ValueError(f"template {self.name!r}: {field} must hold '{{}}' once, for the turn's content")


TEMPLATES = {
    template.name: template
    for template in (
        Template("medchatzh", "Human: \n{}\n\nAssistant: \n", source="the paper's repository, run_sf.py and inference.py"),
        Template("bentsao", "### 问题:\n{}\n### 回答:\n", source="SCIR-HI/Huatuo-Llama-Med-Chinese, templates/med_template.json"),
        Template("huatuogpt", "<病人>：{} <HuatuoGPT>：", source="FreedomIntelligence/HuatuoGPT"),
        Template(
            "chatml",
            "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
            system="<|im_start|>system\n{}<|im_end|>\n",
            source="the form that Qwen made common; EOS in place of the last <|im_end|>",
        ),
    )
}


class Encoded(NamedTuple):
    """`input_ids` and `labels` of equal length; `labels` is IGNORE_INDEX but on answers and their EOS."""

    input_ids: list[int]
    labels: list[int]


def template(name: str) -> Template:
    """Look a template up by name; ValueError lists the known ones."""
    if name not in TEMPLATES:
        raise ValueError(f"unknown prompt template {name!r}; known: {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


def save(chosen: Template, folder: Path) -> None:
    """Keep the template beside the tokenizer, so that whoever loads the checkpoint serves what it was trained on."""
    (folder / FILE_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(chosen), indent=2) + b"\n")


def load(folder: Path) -> Template:
    """The template that a checkpoint was made with; the paper's where the folder names none (a checkpoint of others)."""
    path = folder / FILE_NAME
    if not path.exists():
        return TEMPLATES["medchatzh"]
    try:
        return msgspec.json.decode(path.read_bytes(), type=Template)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: not a prompt template: {error}") from None


def check(turns: Sequence[Turn], *, answered: bool) -> None:
    """Raise ValueError unless turns are [system] (user assistant)*, ending with the assistant where `answered`, else with the user."""
    body = turns[1:] if turns and turns[0].role == "system" else turns
    for position, turn in enumerate(body):
        expected = "assistant" if position % 2 else "user"
        if turn.role != expected:
            raise ValueError(
                f"turns[{position + len(turns) - len(body)}] is {turn.role!r}, expected {expected!r}: merge or drop turns first"
            )
    if not body or (body[-1].role == "assistant") != answered:
        wanted = "the assistant's answer" if answered else "the user's question"
        raise ValueError(f"the last turn must be {wanted}")


def pieces(turns: Sequence[Turn], chosen: Template) -> Iterator[tuple[str, str, str, bool]]:
    """(what the template puts before, content, what it puts behind, is_answer) of each turn. After an answer the caller adds EOS."""
    forms = {"system": chosen.system, "user": chosen.user, "assistant": "{}"}
    for turn in turns:
        before, after = forms[turn.role].split("{}")
        yield before, turn.content, after, turn.role == "assistant"


def text(turns: Sequence[Turn], chosen: Template, eos: str = "</s>") -> str:
    """The dialogue as text, each answer followed by `eos`."""
    return "".join("".join(piece) + (eos if is_answer else "") for *piece, is_answer in pieces(turns, chosen))


def encode(turns: Sequence[Turn], tokenizer: Tokenizer, chosen: Template) -> Encoded:
    """Ids and labels of an answered dialogue (training, reward) or of an open one (generation, chat).

    A user's literal `</s>` stays text: special tokens inside content are split; those of the template (ChatML's) are what they are. No BOS,
    as in the paper's code. Nothing is truncated here; the caller splits or drops what is too long, and counts it.
    """
    input_ids: list[int] = []
    labels: list[int] = []
    special, ids_of = _special(tokenizer, chosen)  # type: ignore[arg-type]  # hashed by identity
    for before, content, after, is_answer in pieces(turns, chosen):
        head, tail = (re.split(special, part) if special else [part] for part in (before, after))  # text, special token, text, …
        ids: list[int] = []
        for place, part in enumerate((*head[:-1], head[-1] + content + tail[0], *tail[1:])):
            if place % 2:
                ids.append(ids_of[part])
            else:
                ids += tokenizer(part, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if is_answer:
            ids.append(tokenizer.eos_token_id)
        input_ids += ids
        labels += ids if is_answer else [IGNORE_INDEX] * len(ids)
    return Encoded(input_ids, labels)


@lru_cache(maxsize=8)
def _special(tokenizer: Any, chosen: Template) -> tuple[str, dict[str, int]]:
    """(a pattern, in a group, of the special tokens in a template's own text, their ids); '' where there are none, or they are text
    anyway."""
    own = chosen.system + chosen.user
    found = {
        token.content: number
        for number, token in getattr(tokenizer, "added_tokens_decoder", {}).items()
        if token.special
        and token.content in own
        and tokenizer(token.content, add_special_tokens=False, split_special_tokens=True)["input_ids"] != [number]
    }
    longest_first = sorted(found, key=len, reverse=True)
    return (f"({'|'.join(map(re.escape, longest_first))})" if found else ""), found


def split_to_fit(turns: Sequence[Turn], tokenizer: Tokenizer, chosen: Template, max_tokens: int) -> tuple[list[Encoded], int]:
    """Encode a dialogue into runs of whole exchanges of at most `max_tokens`, never cutting inside one.

    Returns the encodings and the number of exchanges that are too long by themselves and had to be dropped.
    """
    system = [turn for turn in turns[:1] if turn.role == "system"]
    body = list(turns[len(system) :])
    exchanges = [body[start : start + 2] for start in range(0, len(body), 2)]
    whole = encode(turns, tokenizer, chosen)
    if len(whole.input_ids) <= max_tokens:
        return [whole], 0
    kept: list[Encoded] = []
    window: list[Turn] = []
    dropped = 0
    for exchange in exchanges:
        longer = encode([*system, *window, *exchange], tokenizer, chosen)
        if len(longer.input_ids) <= max_tokens:
            window += exchange
            continue
        if window:
            kept.append(encode([*system, *window], tokenizer, chosen))
        alone = len(encode([*system, *exchange], tokenizer, chosen).input_ids) <= max_tokens
        dropped += not alone
        window = list(exchange) if alone else []
    if window:
        kept.append(encode([*system, *window], tokenizer, chosen))
    return kept, dropped


def fit_history(turns: Sequence[Turn], tokenizer: Tokenizer, chosen: Template, max_tokens: int) -> tuple[list[int], int]:
    """Ids of an open dialogue with the oldest exchanges left out until it fits; returns (ids, exchanges left out).

    The ids are empty where the last question alone does not fit: the caller tells the user.
    """
    system = [turn for turn in turns[:1] if turn.role == "system"]
    body = list(turns[len(system) :])
    for start in range(0, len(body), 2):
        ids = encode([*system, *body[start:]], tokenizer, chosen).input_ids
        if len(ids) <= max_tokens:
            return ids, start // 2
    return [], (len(body) + 1) // 2


def jinja(chosen: Template) -> str:
    """The template in the form that transformers and vLLM read from `tokenizer_config.json`."""

    def quote(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"

    branches = []
    for role in ("system", "user"):
        before, after = getattr(chosen, role).split("{}")
        branches.append(f"message['role'] == '{role}' %}}{{{{ {quote(before)} + message['content'] + {quote(after)} }}}}")
    return (
        "{% for message in messages %}{% if "
        + "{% elif ".join(branches)
        + "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
    )
