"""The compiled loop of the metrics (numba; compiled once, then cached on disk). What it fills is told in `counts.Counts`.

Legend: n items; m pairs of an item and one of its references; L tokens of a hypothesis; W words of 64 bits that hold a hypothesis.

The n-grams of a hypothesis are the nodes of a trie: a node is found by its parent's number and one more token, two small numbers packed in
one key of an open-addressing table. So keys are exact whatever the number of distinct tokens, orders cost one look each, and
where a reference leaves the hypothesis, nothing longer is looked for: most positions of a reference end after one or two looks.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_FREE = np.int64(-1)


@njit(cache=True, nogil=True, inline="always")
def _slot(key, mask):
    mixed = np.uint64(key) * _SPREAD
    return np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(mask))


@njit(cache=True, nogil=True, inline="always")
def _capacity(num_keys):
    """A power of two, at most half full."""
    capacity = 16
    while capacity < 2 * num_keys:
        capacity *= 2
    return capacity


@njit(cache=True, nogil=True)
def _num_ids(ids):
    largest = np.int32(-1)
    for number in ids:
        largest = max(largest, number)
    return np.int64(largest) + 1


@njit(cache=True, nogil=True)
def _ones(word):
    """Bits set in 64."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True, nogil=True)
def _distinct_pairs(ids, first, last, keys):
    """How many different pairs of neighbours stand in ids[first:last]; `keys` is room for a table."""
    capacity = _capacity(last - first)
    mask = capacity - 1
    keys[:capacity] = _FREE
    found = 0
    for at in range(first, last - 1):
        key = np.int64(ids[at]) << np.int64(32) | np.int64(ids[at + 1])
        slot = _slot(key, mask)
        while keys[slot] != _FREE and keys[slot] != key:
            slot = (slot + 1) & mask
        if keys[slot] == _FREE:
            keys[slot] = key
            found += 1
    return found


@njit(cache=True, nogil=True)
def _room(array, size):
    """The array, or a larger one: masks and rows are the only room that grows with the product of two lengths."""
    return array if array.size >= size else np.zeros(2 * size, np.uint64)


@njit(cache=True, nogil=True, inline="always")
def _advance(rows, base, width, masks, first, ends):
    """One more reference token: row rows[base:base + W] → the row behind it. Bit j of a row is 0 where the common subsequence grows with
    token j of the hypothesis (Hyyrö 2004). The token's places are masks[first:first + W]. Every sentence of the hypothesis (words
    ends[s]:ends[s + 1]) goes for itself."""
    for sentence in range(len(ends) - 1):
        carry = np.uint64(0)
        for word in range(ends[sentence], ends[sentence + 1]):
            old, mask = rows[base + word], masks[first + word]
            moved = old + (old & mask)
            overflow = np.uint64(moved < old)
            moved += carry
            carry = overflow | np.uint64(moved < carry)
            rows[base + width + word] = moved | (old & ~mask)


@njit(cache=True, nogil=True)
def _read_out(rows, width, first, nodes, gaps, num_rows, hypothesis, marks, stamp):
    """How many tokens, not yet marked with `stamp`, stand in the common subsequence that pltrdy's `_recon` reads out of its table.

    From the last cell on: a match goes to the left and up; any other cell up where bit j of its row is 0 (its length then comes from
    above), else to the left. `rows` holds, `width` words each, the row before all and those of the reference tokens that stand in the
    hypothesis (`nodes`); its bits begin at word `first`. Any other token's row is equal to the one above and has no match: of the steps
    in it only those to the left count, and where several follow a row (`gaps`) those of one.
    """
    found = 0
    at = len(hypothesis)
    for number in range(num_rows - 1, -1, -1):
        base, node = (number + 1) * width + first, nodes[number]
        between = gaps[number]
        while at > 0:
            grows = not (rows[base + (at - 1) // 64] >> np.uint64((at - 1) % 64)) & np.uint64(1)
            if between:
                if grows:
                    between = False
                    continue
            elif hypothesis[at - 1] == node:
                if marks[node] != stamp:
                    marks[node] = stamp
                    found += 1
                at -= 1
                break
            elif grows:
                break
            at -= 1
        if at == 0:
            break
    return found


@njit(cache=True, nogil=True)
def fill(
    orders, sets, hyp_ids, hyp_sentences, hyp_starts, ref_ids, ref_sentences, ref_starts, items,
    lengths, distinct, matches, ref_lengths, ref_distinct, pair_matches, common, lcs, lcs_words,
):  # fmt: skip
    """Fill the arrays of `counts.Counts`, zeros so far, from two `counts.Stream`; `orders` and `sets` as in `counts.count`."""
    num_ids = max(_num_ids(hyp_ids), _num_ids(ref_ids))
    longest, longest_ref = 0, 0
    for item in range(len(items) - 1):
        longest = max(longest, hyp_sentences[hyp_starts[item + 1]] - hyp_sentences[hyp_starts[item]])
    for pair in range(items[-1]):
        longest_ref = max(longest_ref, ref_sentences[ref_starts[pair + 1]] - ref_sentences[ref_starts[pair]])
    node_of = np.full(num_ids, -1, np.int32)
    seen = np.full(num_ids, -1, np.int32)
    hypothesis = np.empty(longest, np.int32)
    reference = np.empty(longest_ref, np.int32)
    hyp_counts = np.zeros(orders * longest, np.int32)
    ref_counts = np.zeros(orders * longest, np.int32)
    best_counts = np.zeros(orders * longest, np.int32)
    touched = np.empty(orders * longest, np.int32)
    node_keys = np.empty(orders * longest, np.int64)
    table = np.empty(_capacity(orders * longest), np.int32)
    pair_keys = np.empty(_capacity(max(longest, longest_ref)), np.int64)
    marks = np.full(longest, -1, np.int64)
    masks, rows = np.zeros(0, np.uint64), np.empty(0, np.uint64)
    row_nodes = np.empty(longest_ref, np.int32)
    gaps = np.empty(longest_ref, np.bool_)

    for item in range(len(items) - 1):
        sentence_first, sentence_last = hyp_starts[item], hyp_starts[item + 1]
        first, last = hyp_sentences[sentence_first], hyp_sentences[sentence_last]
        length = last - first
        lengths[item] = length
        # The trie of the hypothesis. Its first nodes are its tokens, numbered as they come.
        num_nodes = 0
        for at in range(length):
            token = hyp_ids[first + at]
            node = node_of[token]
            if node < 0:
                node = np.int32(num_nodes)
                node_of[token] = node
                num_nodes += 1
            hypothesis[at] = node
            hyp_counts[node] += 1
        num_tokens = num_nodes
        distinct[item, 0] = num_tokens
        distinct[item, 1] = 0
        mask = _capacity((orders - 1) * length) - 1
        table[: mask + 1] = -1
        for at in range(length):
            node = hypothesis[at]
            for depth in range(1, min(orders, length - at)):
                key = np.int64(node) << np.int64(32) | np.int64(hypothesis[at + depth])
                slot = _slot(key, mask)
                while table[slot] >= 0 and node_keys[table[slot]] != key:
                    slot = (slot + 1) & mask
                if table[slot] < 0:
                    table[slot] = num_nodes
                    node_keys[num_nodes] = key
                    num_nodes += 1
                    if depth == 1:
                        distinct[item, 1] += 1
                node = table[slot]
                hyp_counts[node] += 1
        # Bits of the hypothesis by token; every sentence begins with a new word.
        ends = np.zeros(sentence_last - sentence_first + 1, np.int64)
        for sentence in range(sentence_first, sentence_last):
            size = hyp_sentences[sentence + 1] - hyp_sentences[sentence]
            ends[sentence - sentence_first + 1] = ends[sentence - sentence_first] + (size + 63) // 64
        width = ends[-1]
        masks = _room(masks, num_tokens * width)
        for sentence in range(sentence_first, sentence_last):
            start = hyp_sentences[sentence] - first
            for at in range(hyp_sentences[sentence + 1] - first - start):
                word = hypothesis[start + at] * width + ends[sentence - sentence_first] + at // 64
                masks[word] |= np.uint64(1) << np.uint64(at % 64)

        for pair in range(items[item], items[item + 1]):
            ref_first, ref_last = ref_sentences[ref_starts[pair]], ref_sentences[ref_starts[pair + 1]]
            ref_length = ref_last - ref_first
            ref_lengths[pair] = ref_length
            different = 0
            for at in range(ref_length):
                token = ref_ids[ref_first + at]
                reference[at] = node_of[token]
                if seen[token] != pair:
                    seen[token] = pair
                    different += 1
            ref_distinct[pair, 0] = different
            if sets:
                ref_distinct[pair, 1] = _distinct_pairs(ref_ids, ref_first, ref_last, pair_keys)
            num_touched = 0
            for at in range(ref_length):
                node = reference[at]
                depth = 0
                while node >= 0:
                    count = ref_counts[node] + 1
                    ref_counts[node] = count
                    if count == 1:
                        touched[num_touched] = node
                        num_touched += 1
                        if depth < 2:
                            common[pair, depth] += 1
                    if count <= hyp_counts[node]:
                        if depth < 4:
                            pair_matches[pair, depth] += 1
                        if count > best_counts[node]:
                            best_counts[node] = count
                            matches[item, depth] += 1
                    depth += 1
                    if depth == orders or at + depth == ref_length or reference[at + depth] < 0:
                        break
                    key = np.int64(node) << np.int64(32) | np.int64(reference[at + depth])
                    slot = _slot(key, mask)
                    while table[slot] >= 0 and node_keys[table[slot]] != key:
                        slot = (slot + 1) & mask
                    node = table[slot]
            for number in range(num_touched):
                ref_counts[touched[number]] = 0

            rows = _room(rows, (ref_length + 1) * width)
            for ref_sentence in range(ref_starts[pair], ref_starts[pair + 1]):
                rows[:width] = ~np.uint64(0)
                num_rows = 0
                for at in range(ref_sentences[ref_sentence] - ref_first, ref_sentences[ref_sentence + 1] - ref_first):
                    if reference[at] >= 0:
                        _advance(rows, num_rows * width, width, masks, reference[at] * width, ends)
                        row_nodes[num_rows] = reference[at]
                        gaps[num_rows] = False
                        num_rows += 1
                    elif num_rows:
                        gaps[num_rows - 1] = True
                for word in range(width):
                    lcs[pair] += _ones(~rows[num_rows * width + word])
                for sentence in range(sentence_first, sentence_last if sets else sentence_first):
                    start, end = hyp_sentences[sentence] - first, hyp_sentences[sentence + 1] - first
                    word = ends[sentence - sentence_first]
                    lcs_words[pair] += _read_out(rows, width, word, row_nodes, gaps, num_rows, hypothesis[start:end], marks, pair)

        for at in range(length):
            node_of[hyp_ids[first + at]] = -1
        hyp_counts[:num_nodes] = 0
        best_counts[:num_nodes] = 0
        masks[: num_tokens * width] = 0
