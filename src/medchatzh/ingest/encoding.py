"""Bytes → text for Chinese files: UTF-8, UTF-16, GBK, GB18030 and Big5, or what the recipe declares.

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

MIN_COMMON = 0.05
"""Least share of `COMMON` among the non-ASCII characters of text read rightly. Measured on 640 books: 0.26 (a list of herbs' by-names)
or more; the same read as Big5 at most 0.011; their Big5 or UTF-8 read as GB18030 at most 0.014."""
MIN_JUDGED_CHARS = 200
"""With fewer non-ASCII characters a file without common ones is not set aside."""
_SIMPLIFIED = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么"
    "去法学如都同现当没动面起看定天分还进好小部其些主样理心本前开但因只从想实日者与无或此曰若故则水三二十气血热寒阴阳病症治疗药服医院"
    "疼痛患脾胃肾肝肺汤，。、？！：；（）“”　"
)
_TRADITIONAL = str.maketrans(
    "这个们来为国说时会对过发后里种经么学现当没动开从实与无则气热阴阳疗药医肾汤",
    "這個們來為國說時會對過發後裡種經麼學現當沒動開從實與無則氣熱陰陽療藥醫腎湯",
)
COMMON = frozenset(_SIMPLIFIED + _SIMPLIFIED.translate(_TRADITIONAL))
"""The commonest characters of modern, medical and classical text in both scripts, with their punctuation."""

_FOREIGN = {
    b"version https://git-lfs": "a Git LFS pointer, not the data: run git lfs pull",
    b"\xd0\xcf\x11\xe0": "an old or encrypted Office file: save it as .xlsx without a password",
    b"%PDF": "a PDF file, not text",
    b"Rar!": "a RAR archive: unpack it, or pack it as zip",
    b"7z\xbc\xaf": "a 7z archive: unpack it, or pack it as zip",
}
"""First bytes of files that are no text → what they are, with the remedy."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return BAD * (error.end - error.start), error.end


codecs.register_error(ERRORS, _mark)


class Unreadable(ValueError):
    """A file that no reader can use; `reason` is `empty_file`, `null_bytes`, `not_text` or `wrong_encoding`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def detect(data: bytes, declared: str = "") -> str:
    """Codec name for a file that begins with `data`.

    Order: byte-order mark, UTF-16 by its NUL bytes, valid UTF-8, `declared`, UTF-8 with damage, Big5 where it is clear, GB18030. Valid
    UTF-8 goes before `declared`, since GBK text is never valid UTF-8 by chance; `declared` goes before GB18030, since most Big5 text is
    valid GB18030.
    Raises Unreadable where the data is empty, mostly NUL bytes, another kind of file, or text in none of these encodings.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            if not data[len(mark) :].strip():
                raise Unreadable("empty_file", "nothing but a byte-order mark")
            return name
    for magic, what in _FOREIGN.items():
        if data.startswith(magic):
            raise Unreadable("not_text", what)
    if not data.strip():
        raise Unreadable("empty_file", f"{len(data)} bytes, none of them text")
    if b"\0" in data and (wide := _utf16(data)):
        return wide
    if data.count(0) > len(data) // 2:
        raise Unreadable("null_bytes", f"{data.count(0)} of the first {len(data)} bytes are NUL")
    if _is_utf8(data):
        return "utf-8"
    if declared:
        return declared
    sample = data[:SAMPLE_BYTES]
    if _share_of_bad(sample) < MAX_FOREIGN_UTF8:
        return "utf-8"
    texts = {codec: sample.decode(codec, "replace") for codec in ("gb18030", "big5hkscs")}
    shares = {codec: _share_of_common(text) for codec, text in texts.items()}
    best = "big5hkscs" if shares["big5hkscs"] > 2 * max(shares["gb18030"], MIN_COMMON) else "gb18030"
    if shares[best] < MIN_COMMON and len(texts[best]) - _num_ascii(texts[best]) >= MIN_JUDGED_CHARS:
        raise Unreadable(
            "wrong_encoding", "neither UTF-8 nor GB18030 nor Big5 gives common Chinese characters; declare the source's encoding"
        )
    return best


def _utf16(data: bytes) -> str:
    """The UTF-16 codec that the NUL bytes (the high halves of ASCII) and the characters show, or ''."""
    even, odd = data[::2].count(0), data[1::2].count(0)
    codec = "utf-16-be" if even > odd else "utf-16-le"
    if min(even, odd) > max(even, odd) // 100:
        return ""
    text = data[: len(data) // 2 * 2].decode(codec, "replace")
    is_text = _num_ascii(text) > 0.9 * len(text) or _share_of_common(text) > 2 * MIN_COMMON
    return codec if is_text and "\0" not in text else ""


def _share_of_common(text: str) -> float:
    """Of the characters that are not ASCII."""
    num_foreign = len(text) - _num_ascii(text)
    return sum(char in COMMON for char in text) / max(1, num_foreign)


def _num_ascii(text: str) -> int:
    return len(text.encode("ascii", "ignore"))


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
