"""What every room of a node keeps to: how long a lease may be, how long what peers hand each other is, and how msgpack
is read."""

from collections.abc import Callable
from typing import Any

import msgpack

MIN_LEASE_S = 3_600  # a shorter one would end before the holders have looked after the file once
MAX_LEASE_S = 90 * 86_400  # from now on. A file that nobody renews is gone after this time, whatever its publisher said

UPLOAD_ID_BYTES = 16  # random: nobody guesses another's upload
MAX_STATEMENT_BYTES = 512  # a holder statement has about 260, with three relays 420


def unpack(
    data: bytes | bytearray | memoryview, malformed: Callable[[str], Exception], *, most_items: int, most_pairs: int = 0
) -> Any:
    """The one msgpack value in `data`. Arrays have at most `most_items`, maps `most_pairs`; there are no extensions.

    Raises `malformed(words)` for all other bytes, whatever the parser itself raises. A machine without memory is no
    fault of the bytes: MemoryError passes.
    """
    try:
        return msgpack.unpackb(
            data, raw=False, max_array_len=most_items, max_map_len=most_pairs, max_ext_len=0, strict_map_key=True
        )
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # a stranger's bytes must not reach what the parser raises
        raise malformed(f"no msgpack ({type(error).__name__})") from None
