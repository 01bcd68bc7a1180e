"""A search that liars lead elsewhere."""

from pathlib import Path
from random import Random

import pytest

from kit.worlds import start_nodes
from shoal.dht import Address, Announcement, Contact, NodeId, RecordKey
from shoal.erasure import FileId
from shoal.node import NotFound
from shoal.node.channel.dials import HOST_DIALS
from shoal.node.holders.announcers import CLASSES, Hint, class_key, pack_announcement
from shoal.node.holders.search import Search
from shoal.simulation.streams import VirtualStream, VirtualStreamNetwork
from shoal.simulation.world import World, run_world

VICTIM = "8.8.8.8"


@pytest.mark.parametrize("private", [False, True])
def test_invented_holders_do_not_make_a_fetcher_knock_at_a_victim_over_and_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private: bool
) -> None:
    """Six announcers name 42 invented nodes each, on ever other ports of one outside host."""
    rng = Random(7)
    knocks: list[Address] = []
    connect = VirtualStreamNetwork.connect

    async def note(self: VirtualStreamNetwork, address: Address) -> VirtualStream:
        if address.host == VICTIM:
            knocks.append(address)
        return await connect(self, address)

    async def story(world: World) -> None:
        await start_nodes(world, 8)
        file_id = FileId(rng.randbytes(32))
        for liar in world.running()[:6]:
            assert liar.node is not None
            announcements = []
            for number in range(CLASSES):
                named = [Hint(share, Contact(NodeId(rng.randbytes(32)), invented())) for share in range(14)]
                payload = pack_announcement([], named)
                announcements.append(Announcement(RecordKey(class_key(file_id, number)), payload))
            await liar.node.context.dht.announce(announcements)
        async with world.client("fetcher") as client:
            await client.wait_joined()
            for _ in range(3):
                with pytest.raises(NotFound):
                    await Search(client.context, file_id).run()

    def invented() -> Address:
        return Address(VICTIM, rng.randint(1_024, 65_535))

    monkeypatch.setattr(VirtualStreamNetwork, "connect", note)
    run_world(75, tmp_path, story, private=private)
    assert 1 <= len(knocks) <= 2 * HOST_DIALS.count
