"""The cache of rewards: what was added is found, torn ends are not read, many writers never meet."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medchatzh.models.cache import RewardCache, as_keys, content_key
from medchatzh.records import Turn


def keys(numbers):
    return as_keys(content_key((Turn("user", str(number)), Turn("assistant", "答"))) for number in numbers)


@settings(max_examples=30, deadline=None)
@given(added=st.lists(st.integers(0, 50), unique=True), asked=st.lists(st.integers(0, 50)), torn=st.integers(0, 60))
def test_what_was_written_whole_is_found_and_nothing_else(tmp_path_factory, added, asked, torn):
    folder = tmp_path_factory.mktemp("cache")
    RewardCache(folder).add(keys(added), np.array(added, float))
    [path] = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - torn)])
    left = set(added[: max(0, len(whole) - torn) // 24])
    values, known = RewardCache(folder).find(keys(asked))
    assert known.tolist() == [number in left for number in asked]
    assert values[known].tolist() == [number for number in asked if number in left] and np.isnan(values[~known]).all()


def test_writers_add_apart_and_see_each_other(tmp_path):
    one, two = RewardCache(tmp_path), RewardCache(tmp_path)
    one.add(keys([1]), np.array([0.5]))
    two.add(keys([2]), np.array([np.nan]))
    one.add(keys([3]), np.array([0.7]))
    assert len(list(tmp_path.iterdir())) == 2 and not two.find(keys([1]))[1].any()
    two.load()
    values, known = two.find(keys([1, 2, 3, 4]))
    assert known.tolist() == [True, True, True, False] and values[[0, 2]].tolist() == [0.5, 0.7] and np.isnan(values[1])


def test_keys_that_share_a_half_or_end_in_zeros_are_told_apart(tmp_path):
    cache = RewardCache(tmp_path)
    near = as_keys([b"same half" + end.ljust(7, b"\0") for end in (b"", b"1", b"2", b"\0\0\0\0\0\0\1")])
    cache.add(near, np.arange(4.0))
    cache.load()
    values, known = cache.find(near)
    assert known.all() and values.tolist() == [0, 1, 2, 3]
    assert not cache.find(as_keys([b"same half".ljust(15, b"\0") + b"\2"]))[1].any()


@pytest.mark.parametrize("other", [(Turn("user", "问答"), Turn("assistant", "")), (Turn("assistant", "问"), Turn("user", "答"))])
def test_a_key_is_of_turns_and_not_of_their_text_run_together(other):
    assert content_key((Turn("user", "问"), Turn("assistant", "答"))) != content_key(other)
