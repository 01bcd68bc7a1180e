"""The two rules of a reader of ranges: what it keeps, and how far it reads ahead."""

from hypothesis import given
from hypothesis import strategies as st

from shoal.node.fetching.read_ahead import ReadAhead, SegmentCache


def windows(reads: list[tuple[int, int]], most: int = 100) -> list[int]:
    ahead = ReadAhead()
    return [ahead.note(first, last, most) for first, last in reads]


def test_reading_ahead_doubles_in_sequence_and_ends_with_a_seek() -> None:
    assert windows([(at, at) for at in range(7)]) == [0, 1, 2, 4, 8, 16, 32]
    assert windows([(0, 0), (0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]) == [0, 0, 1, 1, 2, 2], "a segment in many reads"
    assert windows([(0, 0), (1, 1), (2, 2), (50, 50), (51, 51), (0, 0)]) == [0, 1, 2, 0, 1, 0]
    assert windows([(0, 9), (10, 19), (20, 29)], most=3) == [0, 1, 2]
    assert windows([(at, at) for at in range(6)], most=3) == [0, 1, 2, 3, 3, 3]


def test_threads_that_read_side_by_side_are_in_sequence_and_a_reader_that_goes_backwards_is_not() -> None:
    assert windows([(0, 0), (2, 2), (1, 1), (3, 3), (2, 2), (4, 4)])[-1] > 0
    assert max(windows([(at, at) for at in range(20, 0, -1)])) == 0


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9))), st.integers(0, 40))
def test_the_cache_holds_no_more_than_it_may_and_never_a_wrong_byte(puts: list[tuple[int, int]], capacity: int) -> None:
    cache, put = SegmentCache(capacity), {}
    for index, size in puts:
        put[index] = bytes([index]) * size
        cache.put(index, put[index])
        assert cache.get(index) == put[index], "the latest is there, whatever its size"
        held = {each: found for each in range(31) if (found := cache.get(each)) is not None}
        assert all(put[each] == found and each in cache for each, found in held.items())
        assert cache.held_bytes == sum(map(len, held.values()))
        assert cache.held_bytes <= max(capacity, size)


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = SegmentCache(30)
    for index in range(3):
        cache.put(index, bytes(10))
    cache.get(0)
    cache.put(3, bytes(10))
    assert [index in cache for index in range(4)] == [True, False, True, True]
