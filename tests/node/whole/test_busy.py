"""Hosts that say that they are busy. Every operation tells so with numbers by cause, and asks again in time."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.cases import case
from kit.lying import handlers
from kit.worlds import Prepared, chunks, prepare
from shoal.dht import NetworkParameters
from shoal.node import Cause, Node, NotFound, Refused, ShoalError, TooFewShares
from shoal.node.channel import (
    AnyRequest,
    Buffer,
    Caller,
    ConnectionSlots,
    Delete,
    GetManifest,
    Offer,
    Read,
    Reason,
    Renew,
    Reply,
    RequestError,
    Status,
    Write,
)
from shoal.node.channel.slots import Slot
from shoal.node.volunteer.handlers import Handler
from shoal.simulation.world import Machine, World, run_world

Bend = Callable[[Handler], Handler]

K, N, NODES = 4, 12, 14
MINUTE_S = 60.0


@contextmanager
def answering(
    machines: Iterable[Machine], kind: type[AnyRequest], answer: Callable[[Handler], Handler]
) -> Iterator[None]:
    """These machines answer requests of one type in another way, for the length of a block."""
    with ExitStack() as stack:
        for machine in machines:
            table = handlers(machine)
            honest = table[kind]
            table[kind] = answer(honest)
            stack.callback(table.__setitem__, kind, honest)
        yield


def always(status: Status, reason: Reason = Reason.UNSTATED, wait_s: int = 0) -> Bend:
    def answer(honest: Handler) -> Handler:
        async def refuse(caller: Caller, request: Any, payload: Buffer) -> Reply:
            raise RequestError(status, reason, price=wait_s)

        return refuse

    return answer


def for_a_while(seconds: float, asked: Counter[str]) -> Bend:
    """Busy for some seconds from now, with memory; then as ever."""
    free_at = trio.current_time() + seconds

    def answer(honest: Handler) -> Handler:
        async def answer(caller: Caller, request: Any, payload: Buffer) -> Reply:
            if trio.current_time() < free_at:
                asked["busy"] += 1
                raise RequestError(Status.BUSY, Reason.MEMORY)
            asked["free"] += 1
            return await honest(caller, request, payload)

        return answer

    return answer


BUSY = always(Status.BUSY, Reason.MEMORY)


def operations(file: Prepared) -> dict[str, tuple[type[AnyRequest], Callable[[Node], Awaitable[Any]]]]:
    """Every operation that asks hosts for something, and the request without which it comes to nothing."""
    link = file.published.link

    async def fetch(node: Node) -> bytes:
        async with node.open_fetch(link) as stream:
            return b"".join([chunk async for chunk in stream])

    return {
        "publish": (Offer, lambda node: node.publish(chunks(file.data + bytes(70_000)), needed=K, total=N)),
        "find": (GetManifest, lambda node: node.info(link)),
        "fetch": (Read, fetch),
        "repair": (Read, lambda node: node.repair(link)),
        "renew": (Renew, lambda node: node.renew(link)),
        "keep": (Renew, lambda node: node.keep(link)),
    }


def test_a_failure_says_how_many_hosts_are_busy(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, NODES, needed=K, total=N)
        for name, (kind, run) in operations(file).items():
            with case(name), answering(world.running(), kind, BUSY):
                with trio.fail_after(3 * MINUTE_S), pytest.raises(ShoalError, match="busy") as caught:
                    async with world.client(f"busy {name}") as client:
                        await run(client)
                assert isinstance(caught.value, Refused if name == "publish" else NotFound)
                assert caught.value.causes[Cause.BUSY] >= N - K + 1, caught.value
                assert set(caught.value.causes) == {Cause.BUSY}

    run_world(51, tmp_path, story)


def test_numbers_are_by_cause(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, NODES, needed=K, total=N)
        ways = {Status.BUSY: 4, Status.FORBIDDEN: 2, Status.INTERNAL: 1, Status.NOT_FOUND: 2}
        told = {Cause.BUSY: 4, Cause.REFUSED: 3, Cause.MISSING: 2, Cause.SILENT: 1}
        holders = list(file.holders)
        await world.crash(holders.pop().name)
        with ExitStack() as stack:
            for status, count in ways.items():
                some = [holders.pop() for _ in range(count)]
                stack.enter_context(answering(some, Read, always(status)))
            async with world.client("reader") as client:
                with pytest.raises(TooFewShares, match="4 answered that they are busy") as caught:
                    async with client.open_fetch(file.published.link) as stream:
                        [chunk async for chunk in stream]
                checked = await client.check(file.published.link)
        assert caught.value.causes == told
        assert checked.outcomes["busy"] == 4

    run_world(52, tmp_path, story)


def test_a_host_of_another_network_is_no_liar(tmp_path: Path) -> None:
    """One key may serve two networks, one after the other: the contacts of the first still name it."""

    async def story(world: World) -> None:
        file = await prepare(world, NODES, needed=K, total=N)
        for machine in file.holders[:9]:
            machine.serving.server.params = NetworkParameters("elsewhere", 0, private=True)
        for name in ("fetch", "renew"):
            async with world.client(f"reader {name}") as client:
                with pytest.raises(TooFewShares, match="9 belong to another network") as caught:
                    await operations(file)[name][1](client)
            assert caught.value.causes == {Cause.FOREIGN: 9}

    run_world(58, tmp_path, story)


def test_a_host_that_is_busy_for_seconds_loses_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, NODES, needed=K, total=N)
        for name, (kind, run) in operations(file).items():
            asked: Counter[str] = Counter()
            with case(name), answering(world.running(), kind, for_a_while(2.0, asked)):
                async with world.client(f"patient {name}") as client:
                    await run(client)
                assert asked["busy"]
                assert asked["busy"] <= 5 * NODES  # pauses grow
        asked = Counter()
        async with world.client("writer") as client:
            with answering(world.running(), Write, for_a_while(4.0, asked)):
                published = await client.publish(chunks(file.data + bytes(70_000)), needed=K, total=N)
            assert published.complete
            assert not published.refusals
            assert asked["busy"]

    run_world(53, tmp_path, story)


def test_a_host_that_says_how_long_is_asked_then(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, NODES, needed=K, total=N)
        times: list[float] = []

        def answer(honest: Handler) -> Handler:
            async def answer(caller: Caller, request: Any, payload: Buffer) -> Reply:
                times.append(trio.current_time())
                if len(times) == 1:
                    raise RequestError(Status.BUSY, Reason.MEMORY, price=7)
                return await honest(caller, request, payload)

            return answer

        async with world.client("client") as client:
            with answering(file.holders[:1], Renew, answer):
                renewed = await client.renew(file.published.link)
            assert renewed.causes == {}
            assert times[1:] == [pytest.approx(times[0] + 7, abs=1)]
            begun = trio.current_time()
            with answering(file.holders[:1], Renew, always(Status.BUSY, wait_s=3600)):
                renewed = await client.renew(file.published.link)
            assert renewed.causes == {"busy": 1}
            assert trio.current_time() - begun < 5.0  # there is no point in waiting

    run_world(54, tmp_path, story)


def test_a_deletion_counts_the_busy(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, NODES, needed=K, total=N)
        async with world.client("publisher") as client:
            with answering(file.holders[:6], Delete, BUSY):
                deleted = await client.delete(file.published.link)
            assert deleted.causes == {"busy": 6}
            assert not deleted.complete
            assert (await client.delete(file.published.link)).causes == {}

    run_world(55, tmp_path, story)


def test_a_leave_tells_why_shares_stay(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, NODES, needed=K, total=N)
        leaver = file.holders[0]
        others = [each for each in world.running() if each is not leaver]
        assert leaver.node is not None
        with answering(others, Offer, BUSY):
            left = await leaver.node.leave()
        assert left.remaining == 1
        assert left.refusals == {"busy": 2}  # the others have a share already

    run_world(56, tmp_path, story)


class Taken(ConnectionSlots):
    """All connections are taken, by others that are at work."""

    def settle(self, slot: Slot, now: float) -> bool:
        """There is no room."""
        return False


def test_a_node_without_a_free_connection_is_busy(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        file = await prepare(world, NODES, needed=K, total=N)
        for machine in file.holders:
            world.streams.listeners[machine.address].slots = Taken()
        async with world.client("reader") as client:
            with pytest.raises(NotFound, match=f"{N} answered that they are busy") as caught:
                await client.info(file.published.link)
        assert caught.value.causes == {Cause.BUSY: N}

    run_world(57, tmp_path, story)
