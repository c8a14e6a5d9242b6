"""Bytes → text for Chinese files: UTF-8, UTF-16 with a mark, GBK and GB18030, or what the recipe declares.

Bytes that do not decode become `BAD` marks, one a byte, so that a reader goes on and sets aside only the rows that hold one.
"""

from __future__ import annotations

import codecs

BAD = "\udcff"
"""Stands for an undecodable byte. A lone surrogate: no valid file can hold it."""

SAMPLE_BYTES = 1 << 18
MAX_BAD_IN_BOOK = 0.001
"""A book with a larger share of undecodable bytes is set aside: it is in another encoding, not damaged (of the non-ASCII bytes,
GBK text read as UTF-8 loses 60 %, UTF-8 text read as GB18030 3 %)."""
MAX_FOREIGN_UTF8 = 0.4
"""Share of undecodable bytes among the non-ASCII ones up to which a file counts as damaged UTF-8. GBK text has about 0.6; a file
of half UTF-8 and half GBK lines 0.3, and is read as UTF-8, because its GBK lines then fail, while UTF-8 lines read as GBK
would pass as gibberish."""

ERRORS = "medchatzh.mark"
"""Name of the codec error handler that writes `BAD`."""

_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return BAD * (error.end - error.start), error.end


codecs.register_error(ERRORS, _mark)


class Unreadable(ValueError):
    """A file that no reader can use; `reason` is `empty_file`, `null_bytes` or `wrong_encoding`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def detect(data: bytes, declared: str = "") -> str:
    """Codec name for a file that begins with `data`.

    Order: byte-order mark, valid UTF-8, `declared`, UTF-8 with damage, GB18030. Valid UTF-8 goes before `declared`, since GBK text
    is never valid UTF-8 by chance; `declared` goes before GB18030, since most Big5 text is valid GB18030.
    Raises Unreadable where the data is empty, or mostly NUL bytes.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            if not data[len(mark) :].strip():
                raise Unreadable("empty_file", "nothing but a byte-order mark")
            return name
    if not data.strip():
        raise Unreadable("empty_file", f"{len(data)} bytes, none of them text")
    if data.count(0) > len(data) // 2:
        raise Unreadable("null_bytes", f"{data.count(0)} of the first {len(data)} bytes are NUL")
    if _is_utf8(data):
        return "utf-8"
    return declared or ("utf-8" if _share_of_bad(data[:SAMPLE_BYTES]) < MAX_FOREIGN_UTF8 else "gb18030")


def _is_utf8(data: bytes) -> bool:
    """Strictly, but for a character cut off at the end."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, False)
    except UnicodeDecodeError:
        return False
    return True


def _share_of_bad(data: bytes) -> float:
    """Errors per non-ASCII byte when read as UTF-8."""
    num_foreign = len(data) - len(data.decode("ascii", "ignore"))
    return data.decode("utf-8", "replace").count("\ufffd") / max(1, num_foreign)


def decode(data: bytes, declared: str = "") -> tuple[str, str, int]:
    """A whole file → (text, codec name, number of undecodable bytes, each written U+FFFD).

    Raises Unreadable, `wrong_encoding` where more than 0.1 % of the bytes do not decode.
    """
    encoding = detect(data, declared)
    text = data.decode(encoding, ERRORS)
    num_bad = text.count(BAD)
    if num_bad > len(data) * MAX_BAD_IN_BOOK:
        raise Unreadable("wrong_encoding", f"{num_bad} of {len(data)} bytes are not {encoding}; declare the source's encoding")
    return text.replace(BAD, "\ufffd"), encoding, num_bad
