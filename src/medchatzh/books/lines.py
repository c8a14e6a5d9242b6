"""Hard-wrapped lines: which of them go on in the next, told by the space that the wrap left at their end."""

from __future__ import annotations

import re

_ENDS = "。！？：…!?:.」』”’》】〉"
_LIST_GAP = re.compile(r"[^ \u3000][ \u3000]+(?=[^ \u3000])")
_PAIRS = (("（(", "）)"), ("《", "》"))
_PARENTHESES = re.compile(r"[（(][^（）()]*[）)]")
_MIN_WRAPPED_LINES = 5
_MAX_REMNANT_CHARS = 6
_MIN_WIDTH = 25
"""Narrower lines with a space behind them are verse, lists or chance: 11 of 639 real books, none wrapped; real wraps have 25 to 58."""
_MIN_PROSE_WIDTH = 30
_BEGINS = re.compile("[【（(〔《○●◎]|[一二三四五六七八九十]{1,3}、|[^，。]{2,12}[：∶]$")


def rejoin(text: str, width: int) -> str:
    """Undo hard wraps: a line that ends in a space and in mid-sentence goes on in the next. Paragraphs, verse and lists keep their lines.

    The lines of the result are the passages to cite, with no blank ones between. `width` is the length of a full line (see `wrap_width`),
    0 where the file has no wraps.
    """
    joined: list[str] = []
    is_open = is_after_end = False
    for line in text.split("\n"):
        content = line.strip(" \u3000\t")
        continues = is_open and bool(content) and not (is_after_end and _BEGINS.match(content))
        if continues:
            joined[-1] += content
        else:
            joined.append(content)
        # Many books were wrapped twice: a full line, a remnant of a few characters, the rest.
        is_remnant = continues and len(content) <= _MAX_REMNANT_CHARS and content[-1] not in _ENDS + "）)"
        # A full line within a paragraph may end with a sentence by chance: 41,000 in 514 real books, 44 of 50 looked at went on.
        is_after_end = continues and content[-1] == "。" and len(content) >= max(width, _MIN_PROSE_WIDTH)
        is_open = bool(width and content) and line.endswith(" ") and (is_remnant or is_after_end or _goes_on(content, width))
    return "\n".join(filter(None, joined))


def wrap_width(text: str) -> int:
    """The length of the file's full lines: the 80th percentile of lines that end in a space but not in a sentence's end; 0 for none."""
    lengths = sorted(
        len(line.strip()) for line in text.split("\n") if line.endswith(" ") and line.strip() and line.strip()[-1] not in _ENDS
    )
    width = lengths[len(lengths) * 4 // 5] if len(lengths) >= _MIN_WRAPPED_LINES else 0
    return width if width >= _MIN_WIDTH else 0


def _goes_on(line: str, width: int) -> bool:
    """This wrapped line stops in mid-sentence: it is full, or it is prose (clauses, not a list of drugs) without an end."""
    if any(max(map(line.rfind, left)) > max(map(line.rfind, right)) for left, right in _PAIRS):
        return True
    if line[-1] in _ENDS:
        return False
    bare = _PARENTHESES.sub("", line)
    if len(_LIST_GAP.findall(bare)) >= 2 and not re.search("[，。；：]", bare):
        return False
    if len(line) >= 0.8 * width:
        return True
    # A short line that ends with a comma is verse; one that ends with a bare word after clauses was cut.
    last_clause = re.split("[，。；：]", bare)[-1]
    return line[-1] not in "，、；）)" and last_clause != bare and not re.search("[ \u3000]", last_clause)
