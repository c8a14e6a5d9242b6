"""Dialogues off their JSON lines without a Python object: a parser for exactly the form in which `records.write` writes them.

It is strict: whatever it does not know, another order of keys, white space, an unusual escape, it leaves to the general decoder. What it
reads it reads as that one does (a test compares the two).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from medchatzh.curate.kernels import mixed

_MIN_TURN_BYTES = len('{"role":"user","content":""}')


def _literal(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


_ID, _SOURCE, _ORIGIN, _CATEGORY = map(_literal, ('{"id":"', ',"source":"', ',"origin":"', ',"category":"'))
_TURNS, _ROLE, _CONTENT, _TURN_END = map(_literal, (',"turns":[', '{"role":"', '","content":"', "}"))
_SYSTEM, _USER, _ASSISTANT = map(_literal, ("system", "user", "assistant"))
_ESCAPES, _ESCAPED = _literal('"\\/bfnrt'), _literal('"\\/\b\f\n\r\t')
_POOL, _EDITS, _END = map(_literal, (',"pool":"general"', ',"edits":["', "}\n"))


class Parsed(NamedTuple):
    """See `batch.Batch`; sources [R] are hashes."""

    codes: NDArray[np.uint32]
    starts: NDArray[np.int64]
    roles: NDArray[np.uint8]
    lines: NDArray[np.int64]
    first_turn: NDArray[np.int64]
    sources: NDArray[np.uint64]
    is_general: NDArray[np.bool_]
    has_edits: NDArray[np.bool_]


def parse(data: bytes) -> Parsed | None:
    """The dialogues of some lines; None where one of them is not in the strict form."""
    array = np.frombuffer(data, np.uint8)
    lines = np.append(0, np.flatnonzero(array == ord("\n")) + 1)
    if lines[-1] != len(array):
        return None
    num = len(lines) - 1
    most_turns = len(array) // _MIN_TURN_BYTES + 1
    made = Parsed(
        codes=np.empty(len(array), np.uint32),
        starts=np.zeros(most_turns + 1, np.int64),
        roles=np.empty(most_turns, np.uint8),
        lines=lines,
        first_turn=np.zeros(num + 1, np.int64),
        sources=np.zeros(num, np.uint64),
        is_general=np.zeros(num, np.bool_),
        has_edits=np.zeros(num, np.bool_),
    )
    num_turns = _parse(array, *made)
    if num_turns < 0:
        return None
    starts = made.starts[: num_turns + 1]  # memory beyond was never touched, so it costs nothing
    return made._replace(codes=made.codes[: starts[-1]], starts=starts, roles=made.roles[:num_turns])


@njit(cache=True, nogil=True, inline="always")
def _stands(data, place, literal):
    if place + literal.size > data.size:
        return False
    for offset in range(literal.size):  # noqa: SIM110 (numba knows no `all`)
        if data[place + offset] != literal[offset]:
            return False
    return True


@njit(cache=True, nogil=True)
def _escaped(data, place):
    """What the escape at a backslash stands for, and where the text goes on; -1 where it is none or half of a surrogate pair."""
    if place + 1 >= data.size:
        return -1, place
    kind = data[place + 1]
    for number in range(_ESCAPES.size):
        if kind == _ESCAPES[number]:
            return np.int64(_ESCAPED[number]), place + 2
    if kind != 0x75 or place + 6 > data.size:
        return -1, place
    code = 0
    for offset in range(2, 6):
        digit = data[place + offset]
        if 0x30 <= digit <= 0x39:
            code = code * 16 + digit - 0x30
        elif 0x61 <= digit <= 0x66 or 0x41 <= digit <= 0x46:
            code = code * 16 + (digit | 0x20) - 0x57
        else:
            return -1, place
    return (-1 if 0xD800 <= code < 0xE000 else code), place + 6


@njit(cache=True, nogil=True)
def _text(data, place, codes, filled):
    """Decode a string from `place` on into `codes[filled:]`: (place after its closing quote, or -1; where `codes` is filled to)."""
    while place < data.size:
        byte = data[place]
        if byte == 0x22:
            return place + 1, filled
        if byte < 0x20:
            return -1, filled
        if byte == 0x5C:
            code, place = _escaped(data, place)
            if code < 0:
                return -1, filled
            codes[filled] = code
        elif byte < 0x80:
            codes[filled] = byte
            place += 1
        else:
            more = 1 if 0xC2 <= byte < 0xE0 else 2 if 0xE0 <= byte < 0xF0 else 3 if 0xF0 <= byte < 0xF5 else 0
            if not more or place + more >= data.size:
                return -1, filled
            wide = np.int64(byte & (0x3F >> more))
            for offset in range(1, more + 1):
                following = data[place + offset]
                if following & 0xC0 != 0x80:
                    return -1, filled
                wide = wide * 64 + (following & 0x3F)
            if (more == 2 and wide < 0x800) or (more == 3 and not 0x10000 <= wide < 0x110000) or 0xD800 <= wide < 0xE000:
                return -1, filled
            codes[filled] = wide
            place += more + 1
        filled += 1
    return -1, filled


@njit(cache=True, nogil=True)
def _parse(data, codes, starts, roles, lines, first_turn, sources, is_general, has_edits):
    """Fill the arrays; returns the number of turns, or -1 where a line is not in the strict form."""
    turn = filled = 0
    for row in range(lines.size - 1):
        place = lines[row]
        if not _stands(data, place, _ID):
            return -1
        place, _ = _text(data, place + _ID.size, codes, filled)
        if place < 0:
            return -1
        if _stands(data, place, _SOURCE):
            begin = place + _SOURCE.size
            place, _ = _text(data, begin, codes, filled)
            if place < 0:
                return -1
            value = np.uint64(place - begin)
            for at in range(begin, place):
                value = mixed(value + np.uint64(data[at]))
            sources[row] = value
        for key in (_ORIGIN, _CATEGORY):
            if _stands(data, place, key):
                place, _ = _text(data, place + key.size, codes, filled)
                if place < 0:
                    return -1
        if not _stands(data, place, _TURNS):
            return -1
        place += _TURNS.size
        while _stands(data, place, _ROLE):
            place += _ROLE.size
            if _stands(data, place, _USER):
                roles[turn] = 1
                place += _USER.size
            elif _stands(data, place, _ASSISTANT):
                roles[turn] = 2
                place += _ASSISTANT.size
            elif _stands(data, place, _SYSTEM):
                roles[turn] = 0
                place += _SYSTEM.size
            else:
                return -1
            if not _stands(data, place, _CONTENT):
                return -1
            place, filled = _text(data, place + _CONTENT.size, codes, filled)
            if place < 0 or not _stands(data, place, _TURN_END):
                return -1
            place += _TURN_END.size
            turn += 1
            starts[turn] = filled
            if place < data.size and data[place] == 0x2C:
                place += 1
                if not _stands(data, place, _ROLE):
                    return -1
        if place >= data.size or data[place] != 0x5D:
            return -1
        place += 1
        first_turn[row + 1] = turn
        if _stands(data, place, _POOL):
            is_general[row] = True
            place += _POOL.size
        if _stands(data, place, _EDITS):
            has_edits[row] = True
            place, _ = _text(data, place + _EDITS.size, codes, filled)
            while 0 <= place < data.size - 1 and data[place] == 0x2C and data[place + 1] == 0x22:
                place, _ = _text(data, place + 2, codes, filled)
            if place < 0 or place >= data.size or data[place] != 0x5D:
                return -1
            place += 1
        if not _stands(data, place, _END) or place + _END.size != lines[row + 1]:
            return -1
    return turn
