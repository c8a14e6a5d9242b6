"""The compiled loops of curation: one pass over the code points of a shard for each purpose (numba; compiled once, then cached on disk).

Legend: C code points of all texts of a shard, in one array; T texts (turns), text t is `codes[starts[t]:starts[t + 1]]`; R records; H hash
functions; B bands. Tables are indexed by code point and have `PLANES` entries: what lies above is treated as the last entry.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

PLANES = 0x20000
"""Code points with table entries: the basic plane and the first supplementary one (emoji)."""
EXTENSION_B = 0x2A6DF
"""Hanzi from `PLANES` up to here are letters that stand for themselves; what comes after is rare and for Python."""
DROPPED, EXPANDED, COMPLEX = 0, 0x80000000, 0xFFFFFFFF
"""Entries of the normalisation table: the character goes; several come for it (bits 24 to 30: how many, below: where they stand); only
Python's `normalize` knows what becomes of it."""
SHINGLE_CHARS = 5
NUM_BANDS, ROWS = 12, 5
"""MinHash bands × rows. A pair of Jaccard similarity J is found with probability 1 - (1 - J^5)^12: .992 at J = .8, .999 at .85, and every
pair found is verified, so that the many found below .8 (.32 at .5) cost time only. 64 hash functions take half the time of 128."""
NUM_HASHES = 64
"""Four more than the bands use: whole vector registers, a quarter faster than 60."""

MAX_KEPT_IN_GROUP = 64
"""Kept records of one band key that a newcomer is compared with. More share one only where a template makes them, each too different."""

_MIX1, _MIX2, _BASE = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB), np.uint64(0x9E3779B97F4A7C15)


def code_points(texts: list[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """(codes [C], starts [T + 1]) of some texts. Lone surrogates pass."""
    joined = "".join(texts)
    units = np.frombuffer(joined.encode("utf-16-le", "surrogatepass"), np.uint16)
    if len(units) == len(joined) and not ((units & 0xF800) == 0xD800).any():  # twice as fast as UTF-32, and nearly always enough
        codes = units.astype(np.uint32)
    else:
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    if len(texts) == 1:  # a look at one text is mostly overhead
        return codes, np.array((0, len(texts[0])), np.int64)
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=starts[1:])
    return codes, starts


@njit(cache=True, nogil=True)
def mixed(value: np.uint64) -> np.uint64:
    """Finaliser of splitmix64: every bit of the input moves every bit of the output."""
    value = (value ^ (value >> np.uint64(30))) * _MIX1
    value = (value ^ (value >> np.uint64(27))) * _MIX2
    return value ^ (value >> np.uint64(31))


@njit(cache=True, nogil=True)
def scan(codes, starts, classes, marks, fold, first, following, sign_codes, sign_starts, sign_bits, bits, counts, trimmed):
    """Fill bits [T] (uint64: which groups of signs stand in the text) and counts [T, 4] (characters of each class of `classes`; the last
    is white space) and trimmed [T] (characters without white space at the ends).

    Single characters are found by `marks`; longer signs, folded, by a table of their first two characters (`first`, `following`: chains).
    """
    mask = np.uint32(first.size - 1)
    for text in range(starts.size - 1):
        seen = np.uint64(0)
        previous = np.uint32(0)
        end = starts[text + 1]
        first_seen, last_seen = end, end - 1
        for place in range(starts[text], end):
            code = min(codes[place], np.uint32(PLANES - 1))
            kinds = classes[code]
            seen |= marks[code]
            if kinds:
                for kind in range(4):
                    counts[text, kind] += (kinds >> kind) & 1
            if not kinds & 8:
                first_seen = min(first_seen, place)
                last_seen = place
            folded = fold[code]
            sign = first[(previous * np.uint32(0x9E35) ^ folded * np.uint32(0x85EB)) & mask]
            while sign >= 0:
                begin = sign_starts[sign]
                length = sign_starts[sign + 1] - begin
                if place - 1 + length <= end and seen & sign_bits[sign] != sign_bits[sign]:
                    matches = sign_codes[begin] == previous and sign_codes[begin + 1] == folded
                    for offset in range(2, length):
                        if not matches:
                            break
                        matches = fold[min(codes[place - 1 + offset], np.uint32(PLANES - 1))] == sign_codes[begin + offset]
                    if matches:
                        seen |= sign_bits[sign]
                sign = following[sign]
            previous = folded
        bits[text] = seen
        trimmed[text] = last_seen - first_seen + 1


@njit(cache=True, nogil=True)
def normalized(codes, starts, wanted, table, expanded, out, out_starts, is_complex):
    """Write the normalised code points of the wanted texts [T] into `out`; out_starts [T + 1]; is_complex [T]: texts for Python to do.

    `out` has room for all of `codes` and some more; what expands beyond that is for Python too.
    """
    filled = 0
    out_starts[0] = 0
    for text in range(starts.size - 1):
        for place in range(starts[text], starts[text + 1] if wanted[text] else starts[text]):
            code = codes[place]
            to = table[code] if code < PLANES else code if code <= EXTENSION_B else COMPLEX
            if to < EXPANDED:
                out[filled] = to
                filled += to != DROPPED  # no branch: punctuation comes too irregularly to be foreseen
            elif to == COMPLEX:
                is_complex[text] = True
            else:
                first, length = to & 0xFFFFFF, (to >> 24) & 0x7F
                if filled + length + codes.size - place > out.size:
                    is_complex[text] = True
                    continue
                for offset in range(length):
                    out[filled] = expanded[first + offset]
                    filled += 1
        out_starts[text + 1] = filled


@njit(cache=True, nogil=True)
def shingle(codes, place, length):
    """64-bit hash of `codes[place:place + length]`."""
    value = np.uint64(length)
    for offset in range(length):
        value = value * _BASE + np.uint64(codes[place + offset])
    return mixed(value)


@njit(cache=True, nogil=True)
def digests(codes, begins, ends, out):
    """Fill out [2, T] with 128 bits of hash of each text `codes[begins[t]:ends[t]]`.

    Two different texts among 10 million have the same by a chance of 10^-25.
    """
    for text in range(begins.size):
        one, other = np.uint64(ends[text] - begins[text]), np.uint64(1)
        for place in range(begins[text], ends[text]):
            code = np.uint64(codes[place])
            one = (one ^ code) * _MIX1
            one ^= one >> np.uint64(29)
            other = (other + code) * _MIX2
            other ^= other >> np.uint64(32)
        out[0, text], out[1, text] = mixed(one), mixed(other)


@njit(cache=True, nogil=True)
def shingles(codes):
    """Sorted distinct hashes of the shingles of one normalised text; a shorter text is one shingle, an empty one none."""
    length = min(SHINGLE_CHARS, codes.size)
    if not length:
        return np.empty(0, np.uint64)
    found = np.empty(codes.size - length + 1, np.uint64)
    for place in range(found.size):
        found[place] = shingle(codes, place, length)
    found.sort()
    kept = 1
    for place in range(1, found.size):
        if found[place] != found[kept - 1]:
            found[kept] = found[place]
            kept += 1
    return found[:kept]


@njit(cache=True, nogil=True)
def jaccard(one, other):
    """Exact Jaccard similarity of two sorted sets of hashes."""
    a = b = common = 0
    while a < one.size and b < other.size:
        if one[a] == other[b]:
            common += 1
            a += 1
            b += 1
        elif one[a] < other[b]:
            a += 1
        else:
            b += 1
    union = one.size + other.size - common
    return common / union if union else 1.0


@njit(cache=True, nogil=True)
def min_hashes(codes, begins, ends, xors, factors, bands):
    """Fill bands [B, R] with the band keys of R normalised texts `codes[begins[r]:ends[r]]`; xors, factors [H]: H hash functions of one."""
    num_hashes = xors.size
    least = np.empty(num_hashes, np.uint32)
    for text in range(begins.size):
        begin, end = begins[text], ends[text]
        length = min(SHINGLE_CHARS, end - begin)
        least[:] = np.uint32(0xFFFFFFFF)
        for place in range(begin, end - length + 1):
            value = np.uint32(shingle(codes, place, length) >> np.uint64(32))
            for number in range(num_hashes):
                other = np.uint32(np.uint32(value ^ xors[number]) * factors[number])
                least[number] = min(least[number], other)
        for band in range(NUM_BANDS):
            key = np.uint64(band + 1)
            for row in range(ROWS):
                key = mixed(key * _BASE + np.uint64(least[band * ROWS + row]))
            bands[band, text] = key


@njit(cache=True, nogil=True)
def grams(codes, width):
    """Hashes of all n-grams of a normalised text, in order, with repeats."""
    found = np.empty(max(0, codes.size - width + 1), np.uint64)
    for place in range(found.size):
        found[place] = shingle(codes, place, width)
    return found


@njit(cache=True, nogil=True)
def fill(bitmap, hashes):
    """Set a bit for each hash; the bitmap's size in bits is a power of two."""
    mask = np.uint64(bitmap.size * 64 - 1)
    for value in hashes:
        bit = value & mask
        bitmap[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))


@njit(cache=True, nogil=True)
def hash_table(hashes):
    """Open addressing: place [size] → position in `hashes` (distinct), or -1; the size is a power of two, at most half filled."""
    size = 64
    while size < 2 * hashes.size:
        size *= 2
    table = np.full(size, -1, np.int32)
    mask = np.uint64(size - 1)
    for number in range(hashes.size):
        place = hashes[number] & mask
        while table[place] >= 0:
            place = (place + np.uint64(1)) & mask
        table[place] = number
    return table


@njit(cache=True, nogil=True, inline="always")
def _position(value, hashes, table):
    mask = np.uint64(table.size - 1)
    place = value & mask
    while table[place] >= 0:
        if hashes[table[place]] == value:
            return table[place]
        place = (place + np.uint64(1)) & mask
    return np.int32(-1)


@njit(cache=True, nogil=True)
def overlaps(
    codes,
    begins,
    ends,
    width,
    min_grams,
    min_containment,
    near_share,
    short_chars,
    min_similarity,
    bitmap,
    gram_index,
    shingle_index,
    num_grams,
    texts,
    found,
):
    """Mark texts [T] that share enough with one text of an index (see `benchmark.py` for why this is enough).

    gram_index and shingle_index are (hashes, table, owner_starts, owners); num_grams [texts of the index]; texts is the (hashes, starts)
    of their shingles. Long texts: n-grams shared with one owner, as a share of the shorter's. Short ones: exact similarity with the
    owners of the rarest shingles, so many that a similar text must share one.
    """
    hashes, table, owner_starts, owners = gram_index
    short_hashes, short_table, short_starts, short_owners = shingle_index
    flat, flat_starts = texts
    shared = np.zeros(num_grams.size, np.int32)
    touched = np.empty(num_grams.size, np.int32)
    mask = np.uint64(bitmap.size * 64 - 1)
    for text in range(begins.size):
        begin, end = begins[text], ends[text]
        num_touched = 0
        for place in range(begin, end - width + 1):
            value = shingle(codes, place, width)
            bit = value & mask
            if not (bitmap[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1):
                continue
            position = _position(value, hashes, table)
            if position < 0:
                continue
            for entry in range(owner_starts[position], owner_starts[position + 1]):
                owner = owners[entry]
                if not shared[owner]:
                    touched[num_touched] = owner
                    num_touched += 1
                shared[owner] += 1
        own = end - begin - width + 1
        for number in range(num_touched):
            owner = touched[number]
            shorter, longer = min(own, num_grams[owner]), max(own, num_grams[owner])
            # a text that repeats itself has fewer different n-grams than n-grams, hence the tenth less
            is_near = shared[owner] >= near_share * shorter and shorter >= 0.75 * longer
            if shorter >= min_grams and (is_near or shared[owner] >= 0.9 * min_containment * shorter):
                found[text] = True
            shared[owner] = 0
        if found[text] or not begin < end <= begin + short_chars:
            continue
        mine = shingles(codes[begin:end])
        commons = np.empty(mine.size, np.int64)
        for number in range(mine.size):
            position = _position(mine[number], short_hashes, short_table)
            commons[number] = short_starts[position + 1] - short_starts[position] if position >= 0 else 0
        order = np.argsort(commons)
        # a text that shares at least this many of its shingles shares one of any so many
        for number in range(mine.size - int(np.ceil(min_similarity * mine.size - 1e-9)) + 1):
            position = _position(mine[order[number]], short_hashes, short_table)
            if position < 0 or found[text]:
                continue
            for entry in range(short_starts[position], short_starts[position + 1]):
                owner = short_owners[entry]
                if jaccard(mine, flat[flat_starts[owner] : flat_starts[owner + 1]]) >= min_similarity:
                    found[text] = True
                    break


@njit(cache=True, nogil=True)
def line_hits(codes, begins, ends, table, expanded, bitmap, found):
    """Mark raw texts [T] one of whose lines is, normalised, in the bitmap of `line_hash`es, or is for Python to normalise."""
    mask = np.uint64(bitmap.size * 64 - 1)
    for text in range(begins.size):
        value, length, is_complex = np.uint64(0), 0, False
        end = ends[text]
        for place in range(begins[text], end + 1):
            code = np.uint32(10) if place == end else codes[place]
            if code == 10:
                if length:
                    bit = mixed(value + np.uint64(length)) & mask
                    if is_complex or (bitmap[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1):
                        found[text] = True
                        break
                value, length, is_complex = np.uint64(0), 0, False
                continue
            to = table[code] if code < PLANES else code if code <= EXTENSION_B else COMPLEX
            if to == COMPLEX:
                is_complex = True
                length += 1
            elif to >= EXPANDED:
                first = to & 0xFFFFFF
                for offset in range((to >> 24) & 0x7F):
                    value = value * _BASE + np.uint64(expanded[first + offset])
                    length += 1
            elif to != DROPPED:
                value = value * _BASE + np.uint64(to)
                length += 1


@njit(cache=True, nogil=True)
def line_hash(codes):
    """The hash by which `line_hits` knows a normalised line."""
    value = np.uint64(0)
    for code in codes:
        value = value * _BASE + np.uint64(code)
    return mixed(value + np.uint64(codes.size))


@njit(cache=True, nogil=True)
def keep_first(first, last, group_starts, groups, sizes_at, flat, min_similarity, head, link, length, checked, keeper, similarity):
    """Go through candidates `first` … `last` in order: each is dropped for the earliest kept one that is as similar, or kept.

    Candidate c is in `groups[group_starts[c]:group_starts[c + 1]]` and has the shingles `flat[sizes_at[c]:sizes_at[c + 1]]`. head, length
    [groups] and link [entries] are chains of kept candidates, checked [candidates] remembers who was compared. keeper [candidates] is -1
    for the kept.
    """
    for one in range(first, last):
        size = sizes_at[one + 1] - sizes_at[one]
        best, best_similarity = -1, 0.0
        for entry in range(group_starts[one], group_starts[one + 1]):
            at = head[groups[entry]]
            while at >= 0:
                other = link[at, 0]
                at = link[at, 1]
                if checked[other] == one or (best >= 0 and other > best):
                    continue
                checked[other] = one
                other_size = sizes_at[other + 1] - sizes_at[other]
                if min(size, other_size) < min_similarity * max(size, other_size):
                    continue
                found = jaccard(flat[sizes_at[one] : sizes_at[one + 1]], flat[sizes_at[other] : sizes_at[other + 1]])
                if found >= min_similarity:
                    best, best_similarity = other, found
        keeper[one], similarity[one] = best, best_similarity
        if best < 0:
            for entry in range(group_starts[one], group_starts[one + 1]):
                group = groups[entry]
                if length[group] < MAX_KEPT_IN_GROUP:
                    link[entry, 0], link[entry, 1] = one, head[group]
                    head[group] = entry
                    length[group] += 1
