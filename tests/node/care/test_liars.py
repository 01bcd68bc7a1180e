"""Holders that lie to those who look after their files: nothing honest is dropped, and the file comes back.

An epoch is an hour here.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from kit.lying import handlers, poll_says
from kit.worlds import chunks, holders, identity_of, node_id, prepare
from shoal.dht import Address, Identity, NodeId, Reach
from shoal.erasure import FileId
from shoal.node import Published
from shoal.node.care.epochs import MAX_RANK, epoch_of, offset_of, rank_of
from shoal.node.channel import (
    Blocks,
    Buffer,
    Caller,
    Read,
    Reply,
    RequestError,
    Status,
    Survey,
    Surveyed,
    TellHolders,
)
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.statements import LIFETIME_S, make_statement, pack_statements
from shoal.node.holders.surveys import SurveyRow, pack_survey
from shoal.node.repairing.repair import Repairer
from shoal.simulation.world import EPOCH_START, Machine, World, run_world

EPOCH_S = 3600.0
DAY_S = 86400.0
K, N = 4, 12
Handler = Callable[[Caller, Any, Buffer], Awaitable[Reply]]


def caretaker(machine: Machine) -> Any:
    return machine.serving.caretaker


def kept(world: World, published: Published, *, without: Sequence[Machine] = ()) -> dict[int, set[str]]:
    """Share -> the machines that run and really keep it."""
    found: dict[int, set[str]] = {}
    for machine in world.running():
        for each in machine.serving.store.held(published.link.id):
            if machine not in without:
                found.setdefault(each.share_number, set()).add(machine.name)
    return found


async def epochs(count: float) -> None:
    await trio.sleep(count * EPOCH_S)


async def until(holds: Callable[[], bool], most_epochs: int) -> int:
    """Wait until something holds; how many epochs that took."""
    for epoch in range(most_epochs + 1):
        if holds():
            return epoch
        await epochs(1)
    raise AssertionError(f"not within {most_epochs} epochs")


# --- claims


async def says_not_found(honest: Handler, caller: Caller, request: Any) -> Reply:
    raise RequestError(Status.NOT_FOUND)


async def flips_a_bit(honest: Handler, caller: Caller, request: Any) -> Reply:
    reply: Any = await honest(caller, request, b"")
    return Blocks(reply.share_proof, reply.data_leaves, reply.data_proof, bytes([reply.payload[0] ^ 1]))


async def always_junk(honest: Handler, caller: Caller, request: Any) -> Reply:
    return Blocks(b"", b"", b"", b"junk")


async def never_answers(honest: Handler, caller: Caller, request: Any) -> Reply:
    await trio.sleep(200)
    raise RequestError(Status.BUSY)


def bend(machine: Machine, request: type, lie: Callable[[Handler, Caller, Any], Awaitable[Reply]]) -> None:
    honest = handlers(machine)[request]

    async def liar(caller: Caller, asked: Any, payload: Buffer) -> Reply:
        return await lie(honest, caller, asked)

    handlers(machine)[request] = liar


def bend_for(machine: Machine, file_id: bytes, lie: Callable[[Handler, Caller, Any], Awaitable[Reply]]) -> None:
    """Lie about one file alone."""

    async def chosen(honest: Handler, caller: Caller, asked: Any) -> Reply:
        return await (lie(honest, caller, asked) if asked.file_id == file_id else honest(caller, asked, b""))

    bend(machine, Read, chosen)


def test_shares_that_are_claimed_and_cannot_be_shown_are_made_again_within_about_a_week(tmp_path: Path) -> None:
    """They answer every survey; only audits can tell. Nothing that an honest holder keeps is dropped meanwhile.

    Four of twelve lie; three of them found out at once are enough for a repair.
    """
    lies = {says_not_found: 10, flips_a_bit: 10, never_answers: 21}  # in epochs; who stalls has its grace besides

    async def story(world: World) -> None:
        files = [(await prepare(world, 17)).published]
        async with world.client("publisher") as client:
            files += [await client.publish(chunks(bytes(60_000)), needed=K, total=N) for _ in range(2)]
        liars = [holders(world, published)[:4] for published in files]
        for published, who, lie in zip(files, liars, lies, strict=True):
            for machine in who:
                bend_for(machine, published.link.id, lie)
        before = [kept(world, published) for published in files]
        waited = 0
        for published, who, most_epochs in zip(files, liars, lies.values(), strict=True):
            waited += await until(
                lambda published=published, who=who: len(kept(world, published, without=who)) >= N - 1,  # type: ignore[misc]
                most_epochs - waited,
            )
        for published, shares in zip(files, before, strict=True):
            now = kept(world, published)
            assert all(names <= now[share] for share, names in shares.items())

    run_world(1, tmp_path, story, epoch_s=EPOCH_S)


def claim_everything(world: World, liar: Machine) -> None:
    """Say in every survey that all shares of every file are kept here, and get what is asked from whoever has it."""
    honest = handlers(liar)[Read]

    async def survey(caller: Caller, request: Any, payload: Buffer) -> Reply:
        rows = tuple(SurveyRow(share, int(EPOCH_START + 80 * DAY_S)) for share in range(N))
        return Surveyed(int(liar.clock.read()), pack_survey([rows] * (len(request.file_ids) // 32)))

    async def read(caller: Caller, request: Any, payload: Buffer) -> Reply:
        for machine in world.running():
            held = machine.serving.store.held(request.file_id)
            if machine is not liar and any(each.share_number == request.share_number for each in held):
                return await handlers(machine)[Read](caller, request, payload)
        return await honest(caller, request, payload)

    handlers(liar)[Survey] = survey
    handlers(liar)[Read] = read
    poll_says(liar, range(N))


def test_who_claims_every_share_and_shows_blocks_of_others_is_one_host_for_one_share(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        published, data, _ = await prepare(world, 17)
        first = holders(world, published)
        claim_everything(world, first[0])
        pretend(first[0])
        async with world.client("checker") as client:
            checked = await client.check(published.link)
            assert (checked.good_shares, checked.hosts) == (N, N)
        for machine in first[1:4]:
            await world.crash(machine.name)
        async with world.client("checker") as client:
            checked = await client.check(published.link)
            assert (checked.good_shares, checked.hosts, checked.survives) == (N - 3, N - 3, N - 3 - K)
        assert await until(lambda: len(kept(world, published)) == N, 8) >= 2
        async with world.client("reader") as client, client.open_fetch(published.link) as file:
            assert b"".join([chunk async for chunk in file]) == data

    run_world(2, tmp_path, story, epoch_s=EPOCH_S)


# --- a Sybil: names that keep nothing


async def tell_all(world: World, published: Published, signed: Sequence[bytes]) -> None:
    """As anybody can who knows the file's id."""
    request = TellHolders(published.link.id)
    for machine in world.running():
        if machine.serving.store.held(published.link.id):
            await handlers(machine)[TellHolders](Caller(machine.address), request, pack_statements(signed))


def statement(
    world: World,
    published: Published,
    share: int,
    machine: Machine | None,
    *,
    at: Address | None = None,
    lease_s: float = 80 * DAY_S,
    lasts_s: float,
) -> bytes:
    """A machine's word that it keeps a share; without one, somebody's word whom nobody has seen, `at` any address."""
    now = EPOCH_START + trio.current_time()
    scheme, rng = world.running()[0].environment.scheme, world.rng
    identity: Any = identity_of(machine) if machine is not None else Identity.create(0, rng.randbytes, scheme)
    if at is None:
        nowhere = Address(f"10.200.{rng.randrange(256)}.{rng.randrange(256)}", 1)
        at = machine.address if machine is not None else nowhere
    made = make_statement(
        identity,
        world.network.parameters.network_id,
        FileId(published.link.id),
        share,
        Reach.of(at),
        int(now + lease_s),
        now - LIFETIME_S + lasts_s,
    )
    return made.signed


def test_a_sybil_that_shows_blocks_of_an_honest_holder_goes_with_it(tmp_path: Path) -> None:
    """It adds a name to a share and no share; when the real holder is gone it can show nothing, and is found out."""

    async def story(world: World) -> None:
        published, data, _ = await prepare(world, 20)
        first = holders(world, published)
        sybils = [machine for machine in world.running() if machine not in first][:4]
        signed = [statement(world, published, at, each, lasts_s=LIFETIME_S) for at, each in enumerate(sybils)]
        await tell_all(world, published, signed)
        for sybil in sybils:
            claim_everything(world, sybil)
        await epochs(8)
        assert kept(world, published) == {share: {machine.name} for share, machine in enumerate(first)}
        async with world.client("checker") as client:
            assert (await client.check(published.link)).good_shares == N
        for machine in first[:4]:
            await world.crash(machine.name)
        await until(lambda: len(kept(world, published)) == N, 12)
        async with world.client("reader") as client, client.open_fetch(published.link) as file:
            assert b"".join([chunk async for chunk in file]) == data

    run_world(3, tmp_path, story, epoch_s=EPOCH_S)


@pytest.mark.parametrize("private", [False, True])
def test_many_names_on_one_disk_are_one_host_where_addresses_cost_something(tmp_path: Path, private: bool) -> None:
    """They really have the shares. In a public network their address is one host; in a private one each id is."""

    async def story(world: World) -> None:
        published, _, _ = await prepare(world, 17)
        first, file_id = holders(world, published), published.link.id
        sybils = [await start_at(world, f"sybil-{at}", "44.9.9.9", 4800 + at) for at in range(4)]
        for share, sybil in enumerate(sybils):
            disk = await handlers(first[share])[Read](Caller(sybil.address), Read(file_id, share, 0, 1, True), b"")
            answer_always(sybil, share, disk)
        signed = [statement(world, published, at, each, lasts_s=LIFETIME_S) for at, each in enumerate(sybils)]
        await tell_all(world, published, signed)
        for machine in first[:4]:
            await world.crash(machine.name)
        async with world.client("checker") as client:
            checked = await client.check(published.link)
            assert checked.good_shares == checked.hosts == (12 if private else 9)
        await epochs(10)
        assert len(kept(world, published)) == (8 if private else 11)

    run_world(7, tmp_path, story, epoch_s=EPOCH_S, private=private)


async def start_at(world: World, name: str, host: str, port: int) -> Machine:
    """A machine that shares its address with others."""
    machine = world.machine(name)
    machine.host, machine.port = host, port
    machine.settings = replace(machine.settings, listen=(machine.address,))
    machine.environment = replace(
        machine.environment, datagrams=world.datagrams.at(host), streams=world.streams.at(host)
    )
    return await world.start(name)


def answer_always(machine: Machine, share: int, blocks: Reply) -> None:
    """Claim a share in every survey, and show these blocks of it."""

    async def survey(caller: Caller, request: Any, payload: Buffer) -> Reply:
        row = SurveyRow(share, int(EPOCH_START + 80 * DAY_S))
        return Surveyed(int(machine.clock.read()), pack_survey([(row,)] * (len(request.file_ids) // 32)))

    async def read(caller: Caller, request: Any, payload: Buffer) -> Reply:
        return blocks

    handlers(machine)[Survey] = survey
    handlers(machine)[Read] = read
    poll_says(machine, (share,))


@pytest.mark.parametrize("with_claims", [False, True])
def test_names_that_somebody_makes_up_do_not_keep_lost_shares_counted(tmp_path: Path, with_claims: bool) -> None:
    """New ones come before the grace of the old ones has ended, and all promise what nobody can. One real peer may
    claim everything besides, and show nothing."""

    async def story(world: World) -> None:
        published, _, _ = await prepare(world, 17)
        first = holders(world, published)
        liar = next(machine for machine in world.machines.values() if machine not in first)
        if with_claims:
            only_claim(liar)
        for machine in first[:4]:
            await world.crash(machine.name)

        async def invent() -> None:
            while True:
                await tell_all(
                    world,
                    published,
                    [
                        statement(world, published, share, None, lease_s=2**40, lasts_s=1.9 * EPOCH_S)
                        for share in range(N)
                    ]
                    + [statement(world, published, 0, liar, lasts_s=1.9 * EPOCH_S)] * with_claims,
                )
                await epochs(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(invent)
            await until(lambda: len(kept(world, published, without=[liar] * with_claims)) == N, 14)
            nursery.cancel_scope.cancel()

    run_world(4, tmp_path, story, epoch_s=EPOCH_S)


def only_claim(machine: Machine) -> None:
    """Claim every share of every file, and show nothing."""

    async def survey(caller: Caller, request: Any, payload: Buffer) -> Reply:
        rows = tuple(SurveyRow(share, int(EPOCH_START + 80 * DAY_S)) for share in range(N))
        return Surveyed(int(machine.clock.read()), pack_survey([rows] * (len(request.file_ids) // 32)))

    handlers(machine)[Survey] = survey
    poll_says(machine, range(N))
    bend(machine, Read, says_not_found)


async def name_hosts_without_shares(world: World, published: Published, liar: Machine | None = None) -> None:
    """Tell the holders that there are shares at the address of everybody who keeps none: the word of names of which
    nobody has heard, or of one holder that keeps a share elsewhere."""
    idle = [machine for machine in world.running() if not machine.serving.store.held(published.link.id)]
    signed = [
        statement(world, published, N - 1 - number, liar, at=machine.address, lasts_s=LIFETIME_S)
        for number, machine in enumerate(idle)
    ]
    await tell_all(world, published, signed)


@pytest.mark.parametrize("by_hand", [False, True])
def test_hosts_that_somebody_names_for_shares_they_do_not_keep_can_be_asked_to_keep_some(
    tmp_path: Path, by_hand: bool
) -> None:
    """All names at one address are one host in a public network, but only those that have answered there."""

    async def story(world: World) -> None:
        published, _, _ = await prepare(world, 17)
        for machine in holders(world, published)[:4]:
            await world.crash(machine.name)
        await name_hosts_without_shares(world, published)
        if by_hand:
            async with world.client("repairer") as client:
                assert (await client.repair(published.link)).complete
        else:
            await until(lambda: len(kept(world, published)) == N, 8)

    run_world(8, tmp_path, story, epoch_s=EPOCH_S, private=False)


def test_a_holder_that_shows_wrong_blocks_keeps_nobody_from_the_addresses_it_names(tmp_path: Path) -> None:
    """It answers at its own address, and has answered at no other."""

    async def story(world: World) -> None:
        published, _, _ = await prepare(world, 15)
        liar, *others = holders(world, published)
        await name_hosts_without_shares(world, published, liar)
        poll_says(liar, (0, N - 3, N - 2, N - 1))
        bend(liar, Read, always_junk)
        for machine in others[:2]:
            await world.crash(machine.name)
        await until(lambda: len(kept(world, published, without=[liar])) == N, 12)

    run_world(9, tmp_path, story, epoch_s=EPOCH_S, private=False)


def test_who_leaves_hands_over_to_a_host_that_somebody_names_for_a_share_it_does_not_keep(tmp_path: Path) -> None:
    """Hosts that nobody names come first; of the others, those where no holder shows its share."""

    async def story(world: World) -> None:
        published, _, _ = await prepare(world, 14)
        await name_hosts_without_shares(world, published)
        leaver = holders(world, published)[0]
        assert leaver.node is not None
        left = await leaver.node.leave()
        assert (left.handed_over, left.remaining) == (1, 0)

    run_world(10, tmp_path, story, epoch_s=EPOCH_S, private=False)


def test_who_leaves_gives_no_second_share_to_the_host_of_another_holder(tmp_path: Path) -> None:
    """Under another name of that host either: two shares there are lost as one."""

    async def story(world: World) -> None:
        published, _, _ = await prepare(world, N)
        leaver, neighbour = holders(world, published)[:2]
        await start_at(world, "second name", neighbour.host, 4800)
        await trio.sleep(60)
        assert leaver.node is not None
        left = await leaver.node.leave()
        assert (left.handed_over, left.remaining) == (0, 1)

    run_world(13, tmp_path, story, epoch_s=EPOCH_S, private=False)


# --- who is slow on purpose


def test_who_does_not_answer_costs_a_look_one_time_out(tmp_path: Path) -> None:
    """However many shares it claims, and however many others are as silent: each is asked for one block."""

    async def story(world: World) -> None:
        published, _, _ = await prepare(world, 13)
        sybils = [await start_at(world, f"sybil-{at}", "44.9.9.9", 4800 + at) for at in range(2)]
        asked: list[int] = []

        async def stalls(honest: Handler, caller: Caller, request: Any) -> Reply:
            asked.append(request.share_number)
            return await never_answers(honest, caller, request)

        for sybil in sybils:
            only_claim(sybil)
            bend(sybil, Read, stalls)
        signed = [statement(world, published, share, each, lasts_s=LIFETIME_S) for each in sybils for share in range(N)]
        await tell_all(world, published, signed)
        care = caretaker(holders(world, published)[0])
        round_ = care.looks.begin_round()
        (findings,) = await round_.survey(await care.read_all([published.link.id]))
        begun = trio.current_time()
        findings = await round_.prove(findings)
        assert 29.9 <= trio.current_time() - begun < 45
        assert len(asked) == len(sybils)
        of_sybils = [each for each in findings.observations if each.holder in map(node_id, sybils)]
        assert len(of_sybils) == 2 * N
        assert not any(each.outcome is Outcome.OK for each in of_sybils)

    for seed in (9, 4009):  # with the second, 30 s once came out as a little less, and cost 30 more
        run_world(seed, tmp_path / str(seed), story, epoch_s=EPOCH_S, private=False)


def test_a_repair_that_trickles_holds_up_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder of the only other shares of a file may give them as slowly as it likes."""
    slow: list[FileId] = []
    held_up: list[Any] = []
    honest = Repairer.run

    async def run(repairer: Any) -> Any:
        if repairer.manifest.id in slow:
            held_up.append(repairer.context)
            await trio.sleep_forever()
        return await honest(repairer)

    monkeypatch.setattr(Repairer, "run", run)

    async def story(world: World) -> None:
        published, _, _ = await prepare(world, 17)
        async with world.client("another") as client:
            other = await client.publish(chunks(world.rng.randbytes(60_000)), needed=K, total=N)
        slow.append(other.link.id)
        both = [each for each in holders(world, published) if each in holders(world, other)]
        for machine in both[:4]:
            await world.crash(machine.name)
        await until(lambda: len(kept(world, published)) == N and bool(held_up), 8)
        assert len(kept(world, other)) < N
        menders = [each for each in map(caretaker, world.running()) if each.context in held_up]
        turns = [each.statistics().turns for each in menders]
        await epochs(3)
        assert menders
        assert all(each.statistics().turns > before for each, before in zip(menders, turns, strict=True))
        slow.clear()
        await until(lambda: len(kept(world, other)) == N, 8)

    run_world(10, tmp_path, story, epoch_s=EPOCH_S)


# --- holders in league


def pretend(machine: Machine) -> None:
    """Survey every file shortly before each of its epochs, as a fast clock might, if it can be our turn in it at all;
    do nothing for it."""
    care = caretaker(machine)

    async def look_after(files: list[FileId]) -> None:
        for file in await care.read_all(files):
            epoch = epoch_of(file.file_id, machine.clock.read() + EPOCH_S / 4, EPOCH_S)
            if rank_of(file.file_id, epoch, node_id(machine), care.files.holders(file.file_id)) < MAX_RANK:
                await care.looks.begin_round().survey([file])
            when = offset_of(file.file_id, EPOCH_S) + (epoch + 7 / 8) * EPOCH_S
            care.turns.put(file.file_id, when)

    def whatever_others_say(caller: NodeId | None, file_ids: Iterable[FileId]) -> None:
        return

    care.look_after, care.on_survey = look_after, whatever_others_say


def refuse_to_act(machine: Machine) -> None:
    """Never look after anything."""

    async def look_after(files: list[FileId]) -> None:
        return

    care = caretaker(machine)
    care.look_after = look_after


@pytest.mark.parametrize(("seed", "collude", "most_epochs"), [(5, pretend, 20), (6, refuse_to_act, 10)])
def test_a_majority_of_holders_that_pretends_to_care_only_delays_repair(
    tmp_path: Path, seed: int, collude: Callable[[Machine], None], most_epochs: int
) -> None:
    """Seven of twelve are in league, three die, two are left: they come first in every fifth epoch or so."""

    async def story(world: World) -> None:
        published, data, _ = await prepare(world, 17)
        first = holders(world, published)
        for machine in first[:7]:
            collude(machine)
        await epochs(4)
        for machine in first[7:10]:
            await world.crash(machine.name)
        await until(lambda: len(kept(world, published)) == N, most_epochs)
        async with world.client("reader") as client, client.open_fetch(published.link) as file:
            assert b"".join([chunk async for chunk in file]) == data

    run_world(seed, tmp_path, story, epoch_s=EPOCH_S)


@pytest.mark.parametrize(("repair_bytes_per_s", "is_blamed"), [(0, True), (200_000, False)])
def test_a_silence_while_our_repairs_fill_the_line_says_nothing(
    tmp_path: Path, repair_bytes_per_s: int, is_blamed: bool
) -> None:
    async def story(world: World) -> None:
        published, _, _ = await prepare(world, 13)
        looker, silent, *_ = holders(world, published)
        bend(silent, Read, never_answers)
        care = caretaker(looker)
        round_ = care.looks.begin_round()
        (findings,) = await round_.survey(await care.read_all([published.link.id]))

        async def repair() -> None:
            while True:
                await trio.sleep(1)
                care.context.throttle.received_bytes += repair_bytes_per_s

        async with trio.open_nursery() as nursery:
            nursery.start_soon(repair)
            proven = await round_.prove(findings)
            nursery.cancel_scope.cancel()
        assert (node_id(silent) in care.doubts) is is_blamed
        (outcome,) = [each.outcome for each in proven.observations if each.holder == node_id(silent)]
        assert outcome is (Outcome.STALLED if is_blamed else Outcome.OK)

    run_world(11, tmp_path, story, epoch_s=EPOCH_S)
