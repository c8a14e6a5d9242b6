"""Which encoding a file has, and what becomes of bytes that do not decode."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.ingest.encoding import BAD, ERRORS, Unreadable, decode, detect

TEXT = "高血压患者能吃党参吗？可以，但要监测血压。" * 20
HANZI = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), min_size=4, max_size=80)


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (TEXT.encode(), "utf-8"),
        (codecs.BOM_UTF8 + TEXT.encode(), "utf-8-sig"),
        (TEXT.encode("utf-16"), "utf-16"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "utf-16"),
        (TEXT.encode("utf-32"), "utf-32"),
        (TEXT.encode("gbk"), "gb18030"),
        ((TEXT + "㐂𠀀").encode("gb18030"), "gb18030"),
        (b"plain ASCII", "utf-8"),
        (TEXT.encode()[:-1], "utf-8"),  # cut inside a character, as a sample may be
    ],
)
def test_detects(data: bytes, encoding: str) -> None:
    assert detect(data) == encoding


@given(HANZI)
def test_text_survives_in_either_encoding(text: str) -> None:
    assert decode(text.encode())[0] == text
    long = text * 20 + TEXT  # GBK is told from UTF-8 by its errors: a few bytes may be valid in both
    assert decode(long.encode("gb18030"))[0] == long


def test_declared_encoding_goes_before_gb18030_but_not_before_valid_utf8() -> None:
    rare = "鱻龘麤靐".encode("big5hkscs", "ignore") * 5
    assert detect(rare) == "gb18030"
    assert detect(rare, "big5") == "big5"
    assert detect(TEXT.encode(), "big5") == "utf-8"


def test_traditional_text_in_big5_is_told_and_in_gbk_stays_gbk() -> None:
    text = "高血壓患者應低鹽飲食，規律服藥。"
    assert decode(text.encode("big5") * 5)[0] == text * 5
    assert decode(text.encode("gbk") * 5)[0] == text * 5


@pytest.mark.parametrize(
    ("text", "codec"),
    [("高血圧の患者さんは塩分を控えた食事を", "shift_jis"), ("고혈압 환자는 저염식을 해야 합니다", "euc_kr"), ("éàèùçâêîôû", "latin-1")],
)
def test_text_in_no_chinese_encoding_is_set_aside(text: str, codec: str) -> None:
    with pytest.raises(Unreadable, match="declare the source's encoding") as caught:
        detect(text.encode(codec) * 50)
    assert caught.value.reason == "wrong_encoding"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [TEXT + "\n", '{"question": "胃痛", "answer": "规律饮食"}\n' * 3, "plain ASCII\n"])
def test_utf16_without_a_mark_is_told_by_its_nul_bytes(codec: str, text: str) -> None:
    assert decode(text.encode(codec)) == (text, codec, 0)


def test_a_stray_nul_byte_does_not_make_a_file_utf16() -> None:
    assert detect(b'{"question": "pla\0in"}\n' * 50) == "utf-8"
    assert detect((TEXT + "\0\n").encode()) == "utf-8"


@pytest.mark.parametrize(
    ("start", "remedy"),
    [(b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"), (bytes.fromhex("d0cf11e0a1b11ae1"), "without a password"),
     (b"%PDF-1.4\n", "PDF"), (b"Rar!\x1a\x07", "zip"), (b"7z\xbc\xaf\x27\x1c", "zip")],
)  # fmt: skip
def test_files_that_are_no_text_say_what_they_are(start: bytes, remedy: str) -> None:
    with pytest.raises(Unreadable, match=remedy) as caught:
        detect(start + bytes(40))
    assert caught.value.reason == "not_text"


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "empty_file"), (b" \r\n\t", "empty_file"), (codecs.BOM_UTF8, "empty_file"), (bytes(4096), "null_bytes")]
)
def test_useless_files_say_why(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        detect(data)
    assert caught.value.reason == reason


def test_a_broken_byte_pair_in_a_book_is_replaced_and_counted() -> None:
    good = (TEXT * 10).encode("gb18030")
    text, encoding, num_bad = decode(good[:1000] + b"\xff" + good[1000:])
    assert encoding == "gb18030"
    assert num_bad == 1
    assert text.replace("\ufffd", "") == TEXT * 10


def test_a_book_with_many_bad_bytes_is_in_another_encoding() -> None:
    with pytest.raises(Unreadable) as caught:
        decode("漢方".encode("gb18030") * 50 + b"\xff\xff" * 20)
    assert caught.value.reason == "wrong_encoding"
    assert "40 of 240 bytes" in caught.value.detail


def test_one_gbk_line_does_not_make_a_utf8_file_gbk() -> None:
    data = (TEXT + "\n").encode() * 3 + "胃痛怎么办\n".encode("gbk")
    assert detect(data) == "utf-8"
    lines = data.decode("utf-8", ERRORS).split("\n")
    assert [BAD in line for line in lines] == [False, False, False, True, False]
