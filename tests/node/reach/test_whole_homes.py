"""The promise: homes behind routers of four kinds keep a file, for homes behind others. Real nodes, in namespaces."""

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.homes import PORT, Internet, Life, Machine, RouterKind, Say, internet, missing
from shoal.dht import Address, NetworkParameters
from shoal.node import Home, NodeSettings, init_node, open_node
from shoal.node.home.network import Network
from shoal.node.reach.reachability import Reachability, Reachable

LIMIT_S = 120.0
KINDS = (
    *[RouterKind.NONE] * 4,
    *[RouterKind.FULL_CONE] * 2,
    *[RouterKind.RESTRICTED] * 2,
    *[RouterKind.SYMMETRIC] * 2,
    *[RouterKind.CARRIER] * 2,
)
VICTIMS = (1, 2, 4, 6)
NEWCOMERS = (*[RouterKind.NONE] * 2, *[RouterKind.RESTRICTED] * 2)
TRIES = 3
DIALLED = (RouterKind.NONE, RouterKind.FULL_CONE)
NETWORK = Network(NetworkParameters("homes", pow_bits=0))

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"homes behind routers are left out: {missing()}")


@pytest.fixture
def net() -> Iterator[Internet]:
    with internet() as made:
        yield made


def volunteer(folder: Path, kind: RouterKind, door: str) -> Callable[[Say], Awaitable[None]]:
    """A node that says so once it knows how it is reached."""

    async def life(say: Say) -> None:
        home = Home.at(folder)
        listen = (Address("0.0.0.0", PORT),)
        init_node(home, NodeSettings(capacity_bytes=10**8, reserve_bytes=0, listen=listen, map=False), NETWORK)
        async with open_node(home, network=NETWORK, bootstrap=[door], serve=True) as node:
            while not is_settled(node.reachability, kind):  # noqa: ASYNC110 - it has no event for this
                await trio.sleep(0.2)
            say(node.reachability.as_plain())
            await trio.sleep_forever()

    return life


def is_settled(found: Reachability, kind: RouterKind) -> bool:
    """Whether a node has found out what is true."""
    if kind in DIALLED:
        return found.state is Reachable.DIRECT
    return found.state is Reachable.RELAYED and len(found.relays) == 3


async def test_what_homes_keep_other_homes_fetch(
    net: Internet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve nodes, eight behind routers. Four holders are killed, and four newcomers take their shares."""
    monkeypatch.setattr("shoal.node.reach.judgement.NOBODY_S", 2.0)  # so few can be asked that they are all busy
    monkeypatch.setattr("shoal.node.reach.dial_back.ARRIVAL_S", 3.0)  # here every call comes at once, or never
    machines = [net.machine(kind) for kind in (*KINDS, *NEWCOMERS)]
    door = f"{machines[0].outer_host}:{PORT}"
    content = random.Random(8).randbytes(3_000_000)
    (tmp_path / "file").write_bytes(content)

    async def publish() -> list[Any]:
        async with open_node(Home.at(tmp_path / "publisher"), network=NETWORK, bootstrap=[door]) as node:
            published = await node.publish(tmp_path / "file", needed=4, total=10)
            check = await node.check(published.link)
            return [str(published.link), published.hosts, check.hosts, check.good_shares]

    async def fetch() -> None:
        async with open_node(Home.at(tmp_path / "reader"), network=NETWORK, bootstrap=[door]) as node:
            await node.fetch(link, tmp_path / "copy")

    async def repair() -> int:
        async with open_node(Home.at(tmp_path / "repairer"), network=NETWORK, bootstrap=[door]) as node:
            for _ in range(TRIES):  # a punch has 1.5 s, and a slow machine may miss it
                await node.repair(link)
                check = await node.check(link)
                if check.good_shares == 10:
                    break
            return check.good_shares

    async def start(some: Sequence[Machine]) -> None:
        for machine in some:
            lives.append(machine.run(volunteer(tmp_path / f"home{len(lives)}", machine.kind, door)))
            await trio.sleep(0.1)
        for life in lives[-len(some) :]:
            await life.hear()

    lives: list[Life] = []
    try:
        with trio.fail_after(LIMIT_S):
            await start(machines[: len(KINDS)])
            link, hosts, checked, good = await net.machine(RouterKind.RESTRICTED).ask(publish)
            assert (hosts, checked, good) == (10, 10, 10), "those that were punched count at their own addresses"
            for victim in VICTIMS:
                lives[victim].kill()
            await net.machine(RouterKind.SYMMETRIC).ask(fetch)
            await start(machines[len(KINDS) :])
            good = await net.machine(RouterKind.RESTRICTED).ask(repair)
            assert good >= 9, "the holders repair as well, and two may make one share"
    finally:
        for life in lives:
            life.kill()
    assert (tmp_path / "copy").read_bytes() == content
