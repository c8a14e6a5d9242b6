"""The forms that trainers read: alpaca and ShareGPT with LLaMA-Factory's `dataset_info.json`, and Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from medchatzh.records import Dialogue

SPLITS = ("train", "validation")
_SPEAKERS = {"user": "human", "assistant": "gpt"}


def check(forms: Sequence[str]) -> None:
    """ValueError where a form needs what is not installed: better now than after hours."""
    if "parquet" in forms:
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise ValueError("mix.exports: 'parquet' needs pyarrow: pip install pyarrow, or leave it out of mix.exports") from None


def _parted(dialogue: Dialogue) -> tuple[str, list[tuple[str, str]]]:
    """(system, exchanges)."""
    system = dialogue.turns[0].content if dialogue.turns[0].role == "system" else ""
    body = [turn.content for turn in dialogue.turns if turn.role != "system"]
    return system, list(zip(body[::2], body[1::2], strict=True))


def alpaca(dialogue: Dialogue) -> dict[str, Any]:
    """The last exchange, with those before it as `history`. `input` stays empty: a question is one text here."""
    system, exchanges = _parted(dialogue)
    (instruction, output), history = exchanges[-1], exchanges[:-1]
    return {"instruction": instruction, "input": "", "output": output, "system": system, "history": history}


def sharegpt(dialogue: Dialogue) -> dict[str, Any]:
    system, _ = _parted(dialogue)
    turns = [{"from": _SPEAKERS[turn.role], "value": turn.content} for turn in dialogue.turns if turn.role != "system"]
    return {"conversations": turns, "system": system}


FORMS = {"alpaca": alpaca, "sharegpt": sharegpt}

# data/README.md of LLaMA-Factory. Where `columns` or `tags` are given, those not named there are none: so all that are used are named.
_DESCRIPTIONS: dict[str, dict[str, Any]] = {
    "alpaca": {
        "formatting": "alpaca",
        "columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"},
    },
    "sharegpt": {
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system"},
        "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
    },
}


def merged_files(form: str) -> list[str]:
    """The files of a form that are one file a split."""
    return [f"{form}_{split}.json" for split in SPLITS] if form in FORMS else []


def write_dataset_info(out: Path, forms: Sequence[str]) -> None:
    """`dataset_info.json`: the datasets `med_mix_<form>_<split>`, for a LLaMA-Factory whose `dataset_dir` is this folder."""
    info = {
        f"med_mix_{form}_{split}": {"file_name": f"{form}_{split}.json", **_DESCRIPTIONS[form]}
        for form in FORMS
        if form in forms
        for split in SPLITS
    }
    if info:
        (out / "dataset_info.json").write_bytes(msgspec.json.format(msgspec.json.encode(info), indent=2) + b"\n")


def write_array(path: Path, form: str, dialogues: Sequence[Dialogue], *, first: bool, last: bool) -> None:
    """A piece of a JSON array, an item a line; the pieces in order make the file."""
    items = [msgspec.json.encode(FORMS[form](dialogue)) for dialogue in dialogues]
    path.write_bytes((b"[\n" if first else b"") + b",\n".join(items) + (b"\n]\n" if last else b",\n"))


def parquet_name(split: str, number: int, num_parts: int) -> str:
    """As the hub names them."""
    return f"{split}-{number:05d}-of-{num_parts:05d}.parquet"


def write_parquet(path: Path, dialogues: Iterable[Dialogue]) -> None:
    """The fields of our records as columns; `turns` is a list of {role, content}."""
    import pyarrow as pa
    from pyarrow import parquet

    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    text = [(name, pa.string()) for name in ("id", "source", "origin", "category", "pool")]
    schema = pa.schema([*text, ("edits", pa.list_(pa.string())), ("turns", pa.list_(turn))])
    rows = [
        {**{name: getattr(dialogue, name) for name in schema.names}, "turns": msgspec.to_builtins(dialogue.turns)} for dialogue in dialogues
    ]
    parquet.write_table(pa.Table.from_pylist(rows, schema), path, compression="zstd")
