"""Whole conversations of hostile peers with a running service, made up by hypothesis.

Requests in any order, right and wrong, whole and torn, said again by others and late: the service has no bug, keeps
nothing of it, and answers the next honest peer.
"""

from collections.abc import Sequence
from random import Random

import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kit.virtual_dht import CheapSignatures, Lab, VirtualNetwork
from shoal.dht import Address, Identity, NetworkParameters, RecordKind
from shoal.dht.identity import UNKNOWN_ID
from shoal.dht.messages import FindNode, GetRecords, KnownRequest, Ping, Query, Store, encode_request
from shoal.dht.wire import MAX_DATAGRAM_BYTES, seal

ACTS = ("whole", "flipped", "cut", "longer", "said again", "by another", "unaddressed", "stale cookie")
Step = tuple[int, str, float, int]
"""Which request, what is wrong with it, the pause after it, and a seed."""

steps = st.tuples(
    st.integers(0, 6), st.sampled_from(ACTS), st.sampled_from([0.0, 0.0, 0.2, 5.0, 700.0]), st.integers(0, 2**16)
)
PARAMETERS = NetworkParameters("test", pow_bits=0, private=True)
EXAMPLES = 60


@settings(max_examples=EXAMPLES)
@given(st.lists(steps, min_size=1, max_size=40))
@example([(number % 7, act, 0.0, number) for act in ACTS for number in range(7)])
def test_a_service_outlives_any_conversation(script: Sequence[Step]) -> None:
    async def story() -> None:
        async with trio.open_nursery() as nursery:
            network = VirtualNetwork(Random(3))
            nursery.start_soon(network.run)
            lab = Lab(nursery, network, PARAMETERS, Random(4), CheapSignatures())
            node = await lab.node()
            honest = await lab.node()
            await honest.bootstrap([node.addresses[0]])
            await _talk(lab, node.addresses[0], node.identity, script)
            assert await honest.bootstrap([node.addresses[0]])
            done = node.statistics()
            assert done.dropped.get("bug", 0) == 0
            assert done.records == 0
            assert done.contacts <= 4
            nursery.cancel_scope.cancel()

    trio.run(story, clock=trio.testing.MockClock(autojump_threshold=0))


async def _talk(lab: Lab, address: Address, receiver: Identity, script: Sequence[Step]) -> None:
    sock = await lab.network.host("10.66.0.1").bind(Address("0.0.0.0", 666))
    other = await lab.network.host("10.67.0.1").bind(Address("0.0.0.0", 667))
    liar = lab.identity()
    last = b""
    for number, act, pause_s, seed in script:
        rng = Random(seed)
        cookie = rng.randbytes(16) if act == "stale cookie" else b""
        addressed = act != "unaddressed"
        body = encode_request(_request(number, liar, rng), rng.randbytes(16), cookie, serving=True, addressed=addressed)
        datagram = seal(body, receiver.node_id if addressed else UNKNOWN_ID, PARAMETERS.network_id, liar)
        if act == "flipped":
            at = rng.randrange(len(datagram))
            datagram = datagram[:at] + bytes([datagram[at] ^ (1 << rng.randrange(8))]) + datagram[at + 1 :]
        elif act == "cut":
            datagram = datagram[: rng.randrange(len(datagram))]
        elif act == "longer":
            datagram = (datagram + rng.randbytes(2000))[: MAX_DATAGRAM_BYTES + rng.randrange(2)]
        elif act == "said again":
            datagram = last or datagram
        await (other if act == "by another" else sock).send(datagram, address)
        last = datagram
        await trio.sleep(pause_s)
    await trio.sleep(1)


def _request(number: int, liar: Identity, rng: Random) -> KnownRequest:
    match number:
        case 0:
            return Ping()
        case 1:
            return FindNode(rng.randbytes(32))
        case 2:
            return GetRecords(RecordKind.PROVIDER, rng.randbytes(32), (rng.randbytes(8),), True)
        case 3:
            return Query(rng.randrange(5), rng.randbytes(rng.randrange(200)))
        case 4:
            return Store((rng.randbytes(rng.randrange(300)),))
        case _:
            return Store((rng.randbytes(200), b""))
