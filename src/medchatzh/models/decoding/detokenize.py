"""Ids → text as they come, without half characters, up to a text that ends the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_UNFINISHED = "\ufffd"
"""What a tokenizer decodes the first bytes of a character to."""


class TextStream:
    """The text of ids given one by one; special tokens are left out.

    `text` only ever grows, and by whole characters. A few ids are decoded again with each new one, because a piece's text may depend on
    the one before it (in sentencepiece, a space in front).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_texts: Sequence[str] = ()) -> None:
        self.text = ""
        self.stopped = False
        """Whether one of `stop_texts` has come. `text` ends before it."""
        self._tokenizer = tokenizer
        self._stop_texts = stop_texts
        self._held = ""
        """Text that may turn out to be the beginning of a stop text."""
        self._ids: list[int] = []
        self._num_shown = 0
        """Of `_ids`, how many have their text in `text` or `_held`."""

    def push(self, token: int) -> None:
        self._ids.append(token)
        added = self._decoded()
        if not added or added.endswith(_UNFINISHED):
            return
        self._ids, self._num_shown = self._ids[self._num_shown :], len(self._ids) - self._num_shown
        self._held += added
        starts = [self._held.find(stop) for stop in self._stop_texts if stop in self._held]
        if starts:
            self.stopped = True
            self.text += self._held[: min(starts)]
            self._held = ""
            return
        keep = max((_overlap(self._held, stop) for stop in self._stop_texts), default=0)
        self.text += self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]

    def finish(self) -> None:
        """No more ids will come: what was held back is text. Bytes that make no character are not."""
        self.text += self._held + self._decoded().rstrip(_UNFINISHED)
        self._held, self._num_shown = "", len(self._ids)

    def _decoded(self) -> str:
        """Text of the ids that have not been shown, behind those before them."""
        before = str(self._tokenizer.decode(self._ids[: self._num_shown], skip_special_tokens=True))
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=True))[len(before) :]


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of text that are the beginning of stop."""
    return max((length for length in range(1, min(len(text) + 1, len(stop))) if text.endswith(stop[:length])), default=0)
