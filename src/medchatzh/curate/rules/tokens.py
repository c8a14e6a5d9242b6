"""How many tokens an answer has, by a tokenizer that the recipe names."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

_NAMES = ("tokenizer.json", "tokenizer.model")


@lru_cache(maxsize=4)
def counter(name: str) -> Callable[[str], int]:
    """Text → number of its tokens, without begin and end markers.

    `name` is a sentencepiece model, a `tokenizer.json`, or a folder with a file `tokenizer.json` or `tokenizer.model`. Raises ValueError
    where it is none of these, or damaged.
    """
    path = tokenizer_file(name)
    try:
        return _json(path) if path.suffix == ".json" else _sentencepiece(path)
    except ImportError as error:
        raise ValueError(f"tokenizer {name}: needs {error.name}: pip install 'medchatzh[train]'") from None
    except Exception as error:  # both libraries raise bare Exception and RuntimeError for a damaged file
        raise ValueError(f"tokenizer {name}: cannot be read: {error}") from None


def tokenizer_file(name: str) -> Path:
    """The file that `name` means. ValueError where there is none."""
    path = Path(name).expanduser()
    if path.is_dir():
        path = next((path / known for known in _NAMES if (path / known).is_file()), path / _NAMES[0])
    if not path.is_file():
        raise ValueError(f"tokenizer {name}: no such file; name a sentencepiece model, a tokenizer.json, or a folder with one of them")
    return path


def _json(path: Path) -> Callable[[str], int]:
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(path))
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)


def _sentencepiece(path: Path) -> Callable[[str], int]:
    from sentencepiece import SentencePieceProcessor

    loaded = SentencePieceProcessor(model_file=str(path))
    return lambda text: len(loaded.encode(text))
