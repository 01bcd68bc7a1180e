"""What both ends of a circuit say to its relay, in the clear, before TLS runs end to end. Pure.

    preamble = magic (8) ‖ role u8 ‖ token (16)        the relay answers one byte each time: ringing, then joined

After "joined" the relay passes bytes on and understands none.
"""

from enum import IntEnum

from shoal.node.channel.errors import Misbehaved
from shoal.node.channel.messages import TOKEN_BYTES
from shoal.node.channel.streams import PREAMBLE_MAGIC

PREAMBLE_BYTES = len(PREAMBLE_MAGIC) + 1 + TOKEN_BYTES
RINGING = b"\x01"  # to the caller alone: the holder hears of it now, so punching may begin
JOINED = b"\x00"


class End(IntEnum):
    """Which end of a circuit speaks."""

    PUNCHING_CALLER = 1  # the holder is told where the caller is
    CALLER = 2
    HOLDER = 3


def pack_preamble(end: End, token: bytes) -> bytes:
    """What an end says first."""
    return PREAMBLE_MAGIC + bytes([end]) + token


def unpack_preamble(data: bytes) -> tuple[End, bytes]:
    """The end and the token of a preamble. Raises Misbehaved."""
    magic, number = data[: len(PREAMBLE_MAGIC)], data[len(PREAMBLE_MAGIC)]
    if magic != PREAMBLE_MAGIC or number not in frozenset(End):
        raise Misbehaved("a plain connection begins with no preamble")
    return End(number), data[-TOKEN_BYTES:]
