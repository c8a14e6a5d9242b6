"""The strict parser reads what the general decoder reads, or leaves it alone."""

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medchatzh.curate.batch import Batch
from medchatzh.curate.lines import parse
from medchatzh.records import Dialogue, Turn

encode = msgspec.json.Encoder().encode_lines
decode = msgspec.json.Decoder(Dialogue).decode_lines

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
dialogues = st.builds(
    Dialogue,
    id=texts,
    source=texts,
    origin=texts,
    category=texts,
    turns=st.lists(st.builds(Turn, st.sampled_from(["system", "user", "assistant"]), texts), max_size=4).map(tuple),
    pool=st.sampled_from(["general", "medical"]),
    edits=st.lists(texts, max_size=3).map(tuple),
)
FULL = Dialogue(
    id='a:"1"',
    source="甲\\乙",
    origin="f\n:1",
    category="内\t科",
    turns=(Turn("system", ""), Turn("user", '\x00\x1f\x7f\\"/\b\f'), Turn("assistant", "é的😀\ud7ff\ue000\U0010ffff")),
    pool="general",
    edits=('x"', "]", ","),
)


@given(st.lists(dialogues, max_size=6))
@example([FULL, FULL])
@example([])
def test_what_is_written_is_read_without_the_decoder(records: list[Dialogue]) -> None:
    lines = encode(records)
    batch, plain = Batch.of_lines(lines), Batch(records)
    assert batch.data is not None or not records
    assert [batch.record(row) for row in range(len(batch))] == records
    for name in ("codes", "starts", "roles", "first_turn", "has_edits", "owner"):
        assert np.array_equal(getattr(batch, name), getattr(plain, name)), name
    assert [batch.groups[group] for group in batch.group] == [(record.pool, record.source) for record in records]
    assert np.array_equal(batch.normal.codes, plain.normal.codes)


LINES = encode([FULL, FULL])


@given(st.lists(st.tuples(st.integers(0, len(LINES) - 1), st.integers(0, 255)), min_size=1, max_size=3), st.booleans())
def test_damage_is_left_to_the_decoder_or_read_as_it_reads(changes: list[tuple[int, int]], cut: bool) -> None:
    data = bytearray(LINES)
    for place, byte in changes:
        data[place] = byte
    if cut:
        del data[changes[0][0] :]
    if parse(bytes(data)) is None:
        return
    batch = Batch.of_lines(bytes(data))
    found = decode(bytes(data))
    assert [batch.record(row) for row in range(len(batch))] == found
    assert np.array_equal(batch.codes, Batch(found).codes) and np.array_equal(batch.starts, Batch(found).starts)


@pytest.mark.parametrize(
    "line",
    [
        b'{"source":"a","id":"1","turns":[]}\n',
        b'{"id": "1","turns":[]}\n',
        b'{"id":"1","turns":[],"pool":"medical"}\n',
        b'{"id":"1","turns":[{"role":"user","content":"\\ud83d\\ude00"}]}\n',
        b'\n{"id":"1","turns":[]}\n',
        b'{"id":"1","turns":[]}',
    ],
)
def test_another_form_goes_through_the_decoder(line: bytes) -> None:
    assert parse(line) is None
    assert len(Batch.of_lines(line)) == 1 and Batch.of_lines(line).record(0).id == "1"


def test_what_is_no_dialogue_raises() -> None:
    with pytest.raises(msgspec.DecodeError):
        Batch.of_lines(b'{"id":"1","turns":[{"role":"doctor","content":""}]}\n')
