"""Memory that is used again: only when nobody looks at it any more, and only so much of it."""

import gc
from typing import Any

from shoal.erasure._isal_cdef import ffi
from shoal.erasure.memory import UNIT_BYTES, RecycledMemory

MIB = 2**20
SPARE_BYTES = 8 * MIB


def address(buffer: Any) -> int:
    return int(ffi.cast("uintptr_t", ffi.from_buffer(buffer) if isinstance(buffer, memoryview) else buffer))


def test_what_was_freed_is_used_again_and_only_one_size_of_it_is_kept() -> None:
    memory = RecycledMemory(SPARE_BYTES)
    first = memory.take(MIB)
    place = address(first)
    second = memory.take(MIB)
    assert address(second) != place
    del first
    again = memory.take(MIB)
    assert address(again) == place
    held = [memory.take(MIB) for _ in range(20)]
    held.clear()
    assert len(memory.spare.buffers) * MIB == SPARE_BYTES
    memory.take(MIB // 2)
    del second, again  # of a size no longer kept
    assert [memory.spare.size, len(memory.spare.buffers)] == [MIB // 2, 1]
    memory.take(SPARE_BYTES + 1)
    assert not memory.spare.buffers


def test_a_part_of_a_view_keeps_the_whole() -> None:
    memory = RecycledMemory(SPARE_BYTES)
    view = memory.view(MIB)
    view[:] = b"a" * MIB
    part = view[1000:2000]
    del view
    gc.collect()
    others = [memory.view(MIB) for _ in range(3)]
    for other in others:
        other[:] = b"b" * MIB
    assert part == b"a" * 1000


def test_views_have_the_length_asked_for_and_begin_with_a_page() -> None:
    memory = RecycledMemory(SPARE_BYTES)
    views = [memory.view(size) for size in (UNIT_BYTES, UNIT_BYTES + 1, 3 * UNIT_BYTES + 4095)]
    assert [len(view) for view in views] == [UNIT_BYTES, UNIT_BYTES + 1, 3 * UNIT_BYTES + 4095]
    assert not any(view.readonly or address(view) % 4096 for view in views)
