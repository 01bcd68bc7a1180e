"""Hosts that agree, hosts that refuse, and the widest code that enough of them take."""

import random
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from shoal.dht import Address, Contact, NodeId
from shoal.erasure import default_width
from shoal.node.channel import Abort, Disconnected, Done, Offer, Offered, Reply
from shoal.node.errors import NoPeers, Refused
from shoal.node.home.silence import Silence
from shoal.node.publishing.lanes import DropReason
from shoal.node.publishing.options import PublishOptions
from shoal.node.publishing.recruit import Recruiter, recruit_crew, share_bound, too_few

SIZE = 10 * 2**20


def contact(number: int, *, space: int | None = None) -> Contact:
    return Contact(NodeId(bytes([number]) * 32), Address.of(f"198.51.{number}.1", 4750), space)


class Network:
    """Hosts that agree, but for those that are said to be silent. Counts what is asked of them."""

    def __init__(
        self, silent: Callable[[Contact], bool] = lambda host: False, received: int = 0, answer_s: float = 0.0
    ) -> None:
        self.network = SimpleNamespace(private=False)
        self.env = SimpleNamespace(rng=random.Random(1), entropy=random.Random(2).randbytes, wall=lambda: 1e9)
        self.silence = Silence()
        self.offers: list[Contact] = []
        self.aborts: list[Contact] = []
        self._silent = silent
        self._received = received
        self._answer_s = answer_s
        self.hangs = False  # the silent neither answer nor refuse a connection

    def counted(self, contact: Contact) -> Contact:
        return contact

    async def ask(self, host: Contact, request: object, **_: object) -> Reply:
        await trio.lowlevel.checkpoint()
        if isinstance(request, Abort):
            self.aborts.append(host)
            return Done()
        assert isinstance(request, Offer)
        self.offers.append(host)
        if self._silent(host):
            if self.hangs:
                await trio.sleep_forever()
            raise Disconnected("silent")
        await trio.sleep(self._answer_s)
        return Offered(self._received, 0)


def recruit(network: Any, count: int, shares: int, **exclude: Any) -> Any:
    recruiter = Recruiter(network, [contact(number) for number in range(count)], 0, random.Random(1))
    if exclude:
        recruiter.exclude(exclude["hosts"])
        recruiter.exclude_ids(exclude["ids"])
    return trio.run(recruiter.recruit, list(range(shares)), 0, 3600), recruiter


def in_virtual_time(network: Any, hosts: int, options: PublishOptions, size: int = SIZE) -> tuple[Any, float]:
    """A crew, and the time that it took to find it."""

    async def story() -> tuple[Any, float]:
        found = await recruit_crew(network, [contact(number) for number in range(hosts)], options, size)
        return found, trio.current_time()

    clock = MockClock(autojump_threshold=0)
    found, now = trio.run(story, clock=clock)
    return found, now


def crew(network: Any, hosts: int, options: PublishOptions, size: int | None = SIZE, **space: Any) -> Any:
    return trio.run(recruit_crew, network, [contact(number, **space) for number in range(hosts)], options, size)


def test_each_share_gets_a_host_of_its_own() -> None:
    lanes, _ = recruit(Network(), 10, 6)
    assert sorted(lane.share for lane in lanes) == list(range(6))
    assert len({lane.contact.node_id for lane in lanes}) == 6
    assert len({lane.upload_id for lane in lanes}) == 6


def test_others_are_asked_for_hosts_that_are_silent_and_the_surplus_is_told_off() -> None:
    network = Network(silent=lambda host: host.node_id[0] % 2 == 0)
    lanes, recruiter = recruit(network, 40, 6)
    assert sorted(lane.share for lane in lanes) == list(range(6))
    agreed = {host.node_id for host in network.offers if host.node_id[0] % 2}
    assert {host.node_id for host in network.aborts} == agreed - {lane.contact.node_id for lane in lanes}
    assert set(recruiter.refusals) == {"no answer"}


def test_a_host_that_claims_bytes_of_a_new_upload_breaks_the_protocol() -> None:
    lanes, recruiter = recruit(Network(received=3), 4, 2)
    assert lanes == []
    assert recruiter.refusals == Counter({"broke the protocol": 4})


def test_excluded_hosts_are_not_asked() -> None:
    network = Network()
    lanes, _ = recruit(network, 6, 6, hosts=[contact(0)], ids=[contact(1).node_id])
    assert {lane.contact.node_id[0] for lane in lanes} == {2, 3, 4, 5}
    assert not {host.node_id[0] for host in network.offers} & {0, 1}


def test_the_code_is_as_wide_as_the_hosts_that_agree() -> None:
    all_agree = crew(Network(), 30, PublishOptions())
    assert (all_agree.k, all_agree.n) == default_width(SIZE, 30)
    assert len(all_agree.lanes) == all_agree.n
    network = Network(silent=lambda host: host.node_id[0] >= 12)
    some = crew(network, 30, PublishOptions())
    assert (some.k, some.n) == default_width(SIZE, 12)
    assert len(some.lanes) >= some.k
    assert len(network.aborts) >= 12 - len(some.lanes)  # those of the wider code were told that it will not be


@pytest.mark.parametrize("silent_hosts", [3, 6])
def test_all_shares_find_a_host_where_enough_agree(silent_hosts: int) -> None:
    for seed in range(40):
        hosts = list(range(12 + silent_hosts))
        silent = set(random.Random(seed).sample(hosts, silent_hosts))
        network = Network(silent=lambda host: host.node_id[0] in silent, answer_s=0.1)  # noqa: B023
        network.env.rng, network.hangs = random.Random(1000 + seed), True
        found, took_s = in_virtual_time(network, len(hosts), PublishOptions())
        assert (found.n, len(found.lanes), found.possible_n) == (12, 12, 12)
        assert sorted(lane.share for lane in found.lanes) == list(range(12))
        assert took_s <= 10.0


@pytest.mark.parametrize("silent_hosts", [4, 8])
def test_a_repair_finds_a_host_for_every_share_where_enough_agree(silent_hosts: int) -> None:
    for seed in range(40):
        hosts = list(range(2 + silent_hosts))
        silent = set(random.Random(seed).sample(hosts, silent_hosts))
        network = Network(silent=lambda host: host.node_id[0] in silent)  # noqa: B023
        recruiter = Recruiter(cast(Any, network), [contact(number) for number in hosts], 0, random.Random(1000 + seed))
        lanes = trio.run(recruiter.recruit, [3, 7], 0, 3600)
        assert sorted(lane.share for lane in lanes) == [3, 7]
        assert {host.node_id[0] for host in network.aborts} <= silent  # none that agreed is told off


def test_who_is_asked_once_is_not_asked_again() -> None:
    network = Network(silent=lambda host: True)
    recruiter = Recruiter(cast(Any, network), [contact(number) for number in range(5)], 0, random.Random(1), once=True)
    assert trio.run(recruiter.recruit, [0, 1], 0, 3600) == []
    assert len(network.offers) == 5


def test_silence_is_remembered_for_the_whole_command() -> None:
    network = Network(silent=lambda host: host.node_id[0] >= 9, answer_s=0.1)
    network.hangs = True
    found, took_s = in_virtual_time(network, 30, PublishOptions())
    assert (found.n, found.possible_n, found.refusals) == (6, 24, {DropReason.NO_ANSWER: 21})
    asked = Counter(host.node_id[0] for host in network.offers if host.node_id[0] >= 9)
    assert set(asked.values()) == {2}  # once, and once more before the code became narrower
    assert took_s <= 20.0
    network.offers.clear()
    again, _ = in_virtual_time(network, 30, PublishOptions(), 1000)
    assert {host.node_id[0] for host in network.offers[:12]} > set(range(9))  # those that answered are asked first
    assert again.n == 6


def test_hosts_that_are_slow_together_are_waited_for() -> None:
    network = Network(answer_s=25.0)
    found, took_s = in_virtual_time(network, 4, PublishOptions())
    assert (found.n, len(found.lanes)) == (3, 3)
    assert took_s <= 30.0


def test_a_host_that_was_busy_is_asked_once_more_before_a_publish_gives_up() -> None:
    tries: Counter[Contact] = Counter()

    def busy(host: Contact) -> bool:
        tries[host] += 1
        return tries[host] == 1

    found, _ = in_virtual_time(Network(silent=busy), 4, PublishOptions())
    assert len(found.lanes) == 3


def test_where_more_hosts_are_wanted_than_usual_there_is_a_share_for_each() -> None:
    found = crew(Network(), 25, PublishOptions(happy=20), size=1000)
    assert (found.k, found.n, len(found.lanes)) == (6, 20, 20)
    found = crew(Network(), 16, PublishOptions(happy=20), size=1000)
    assert (found.k, found.n) == default_width(1000, 16)


def test_a_chosen_code_stays_while_k_hosts_agree() -> None:
    found = crew(Network(), 5, PublishOptions(needed=4, total=12))
    assert (found.k, found.n, len(found.lanes)) == (4, 12, 5)
    with pytest.raises(Refused, match="3 of the 4"):
        crew(Network(silent=lambda host: host.node_id[0] >= 3), 5, PublishOptions(needed=4, total=12))


def test_when_all_are_silent_nobody_has_refused() -> None:
    with pytest.raises(NoPeers, match="None of the 5 known hosts answered"):
        crew(Network(silent=lambda host: True), 5, PublishOptions())


def test_hosts_that_say_they_are_full_are_counted_and_not_asked() -> None:
    network = Network()
    with pytest.raises(Refused, match="5 were full"):
        crew(network, 5, PublishOptions(), space=0)
    assert network.offers == []


def test_the_size_of_a_share_is_unknown_with_the_size_of_the_file() -> None:
    assert share_bound(4, 12, None) == 0
    assert share_bound(4, 12, SIZE) * 4 >= SIZE


def test_the_error_says_what_can_be_done() -> None:
    assert "ask for fewer shares" in str(too_few(1, 4, Counter({DropReason.REFUSED: 3})))
    assert "fewer" not in str(too_few(0, 1, Counter({DropReason.REFUSED: 3})))
    assert isinstance(too_few(2, 4, Counter({DropReason.NO_ANSWER: 3})), Refused)
