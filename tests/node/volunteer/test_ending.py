"""A node whose administrator wants it to end: who may ask, who obeys, and what is said when nobody does."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from shoal.dht import Address, Identity
from shoal.node import AlreadyRunning, Home, Network, Node, NodeSettings, UsageError, init_node, open_node, stop_daemon
from shoal.node.channel import RemoteError, Role, Status, Stop, messages, open_connection
from shoal.node.environment import Environment
from shoal.node.home import daemon as daemon_module
from shoal.node.home.home import daemon_lock

NETWORK = Network.parse(b'network = "ending"\npow_bits = 0\nprivate = true\n', "here")
OTHER = Network.parse(b'network = "other"\npow_bits = 0\nprivate = true\n', "here")


@pytest.fixture
def volunteer(tmp_path: Path) -> Home:
    home = Home.at(tmp_path)
    init_node(home, NodeSettings(listen=(Address("127.0.0.1", 0),)), NETWORK.parameters)
    return home


@asynccontextmanager
async def serving(home: Home, life: Callable[[Node], Awaitable[None]]) -> AsyncIterator[tuple[Address, ...]]:
    """A node that serves for as long as `life` takes; where it listens."""

    async def live(*, task_status: trio.TaskStatus[tuple[Address, ...]]) -> None:
        async with open_node(home, network=NETWORK, serve=True) as node:
            task_status.started(node.addresses)
            await life(node)

    async with trio.open_nursery() as nursery:
        yield await nursery.start(live)
        nursery.cancel_scope.cancel()


async def obey(node: Node) -> None:
    await node.end_wanted().wait()


async def ignore(node: Node) -> None:
    node.end_wanted()
    await trio.sleep_forever()


async def live_on(node: Node) -> None:
    await trio.sleep_forever()


async def test_a_node_ends_on_request_and_its_home_is_free(volunteer: Home) -> None:
    async with serving(volunteer, obey) as addresses:
        assert await stop_daemon(volunteer, network=NETWORK) == addresses
        with daemon_lock(volunteer):
            assert not volunteer.daemon_file.exists()
    assert await stop_daemon(volunteer, network=NETWORK) == (), "nothing runs, nothing to do"


@pytest.mark.parametrize("is_known", [True, False], ids=["nobody listens", "older version"])
async def test_a_node_that_does_not_end_on_request(
    volunteer: Home, is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_known:
        monkeypatch.delitem(messages.REQUESTS, Stop.TYPE)
    async with serving(volunteer, live_on if is_known else obey):
        with pytest.raises(AlreadyRunning, match="does not end on request"):
            await stop_daemon(volunteer, network=NETWORK)
        with pytest.raises(AlreadyRunning), daemon_lock(volunteer):
            pass


async def test_a_node_that_does_not_end_in_time(volunteer: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "END_TIMEOUT_S", 0.3)
    async with serving(volunteer, ignore):
        with pytest.raises(AlreadyRunning, match=r"was asked to end, but did not end within 0\.3 s"):
            await stop_daemon(volunteer, network=NETWORK)


async def test_a_node_that_does_not_answer(volunteer: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "ANSWER_TIMEOUT_S", 0.3)
    with daemon_lock(volunteer), pytest.raises(AlreadyRunning, match="does not answer"):
        await stop_daemon(volunteer, network=NETWORK)


async def test_a_node_that_cannot_be_called_yet_is_waited_for(volunteer: Home) -> None:
    """While it starts it holds its home and has not said where it listens."""
    note, elsewhere = volunteer.daemon_file, volunteer.data / "elsewhere"
    async with serving(volunteer, obey) as addresses:
        note.rename(elsewhere)
        async with trio.open_nursery() as nursery:
            stopped: list[tuple[Address, ...]] = []

            async def stop() -> None:
                stopped.append(await stop_daemon(volunteer, network=NETWORK))

            nursery.start_soon(stop)
            await trio.sleep(0.3)
            assert not stopped
            elsewhere.rename(note)
        assert stopped == [addresses]


async def test_a_node_of_another_network_is_left_alone(volunteer: Home) -> None:
    async with serving(volunteer, obey):
        with pytest.raises(UsageError, match="belongs to the network 'ending', not to 'other'"):
            await stop_daemon(volunteer, network=OTHER)
        volunteer.network_note.unlink()
        with pytest.raises(AlreadyRunning, match="another network"):
            await stop_daemon(volunteer, network=OTHER)


async def ask_as_a_stranger(env: Environment, address: Address, role: Role | None) -> int:
    """Under an identity of its own, in a role or without any; the status it is answered with."""
    try:
        async with open_connection(env.streams, address) as connection:
            if role is not None:
                stranger = Identity.create(0, env.entropy)
                await connection.identify(stranger, NETWORK.parameters, role, timeout_s=5)
            await connection.request(Stop(), timeout_s=5)
    except RemoteError as refused:
        return refused.status
    return Status.OK


async def test_a_stranger_may_not_end_a_node(volunteer: Home, env: Environment) -> None:
    async with serving(volunteer, obey) as (address,):
        for role in (None, Role.PEER, Role.ADMIN):
            assert await ask_as_a_stranger(env, address, role) == Status.FORBIDDEN
        with pytest.raises(AlreadyRunning), daemon_lock(volunteer):
            pass


async def test_a_client_cannot_be_asked_to_end(tmp_path: Path) -> None:
    async with open_node(tmp_path, network=NETWORK) as node:
        with pytest.raises(UsageError):
            node.end_wanted()
