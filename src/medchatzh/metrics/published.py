"""Table 1 of the MedChatZH paper (webMedQA), as printed. To stand beside our rows, never to be ranked with them."""

from __future__ import annotations

import msgspec

METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "GLEU", "ROUGE-1", "ROUGE-2", "ROUGE-L")

_UNKNOWN = "copied, protocol unknown"


class PublishedRow(msgspec.Struct, frozen=True):
    """One system's printed numbers by metric, on the 0 to 100 scale. `note` says that they have no signature."""

    system: str
    values: dict[str, float]
    origin: str
    note: str = _UNKNOWN


def _row(system: str, origin: str, *values: float) -> PublishedRow:
    return PublishedRow(system, dict(zip(METRICS, values, strict=True)), origin)


_HUATUO = "MedChatZH, table 1, from HuatuoGPT's paper"
_OWN = "MedChatZH, table 1, run by its authors"

TABLE_1 = (
    _row("GPT-3.5-turbo", _HUATUO, 18.06, 6.74, 2.73, 1.09, 4.71, 20.01, 2.81, 12.58),
    _row("HuatuoGPT 13B", _HUATUO, 24.61, 12.84, 7.23, 4.19, 7.73, 27.38, 7.09, 17.66),
    _row("ChatGLM-Med 6B", _OWN, 32.18, 18.37, 8.87, 3.79, 6.09, 26.14, 8.08, 18.87),
    _row("BenTsao 7B", _OWN, 32.02, 17.41, 8.36, 3.92, 6.12, 17.72, 3.21, 14.15),
    _row("MedChatZH 7B", _OWN, 56.31, 32.14, 17.58, 9.17, 10.32, 35.99, 10.31, 21.77),
)
