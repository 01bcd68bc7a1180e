"""The volunteer's half of an open node: share store, holder and the server peers talk to."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import trio

from shoal.dht import Address, Identity, Reach, space_class
from shoal.erasure import manifest_id
from shoal.node.care.caretaker import Caretaker
from shoal.node.care.clocks import ClockComparison, ClockLook
from shoal.node.care.counts import CareStatistics
from shoal.node.care.polls import TOPIC as POLL_TOPIC
from shoal.node.care.problems import Problems
from shoal.node.care.upkeep import Upkeep
from shoal.node.channel import (
    Buffer,
    Caller,
    Commit,
    ConnectionSlots,
    GetStatus,
    PeerServer,
    Put,
    Survey,
    Throttle,
    open_pool,
)
from shoal.node.context import Context
from shoal.node.environment import Environment
from shoal.node.errors import LocalError
from shoal.node.holders.announcing import Announcing
from shoal.node.holders.known import KnownHolders
from shoal.node.home.network import Network
from shoal.node.home.settings import NodeSettings
from shoal.node.nursery import open_nursery
from shoal.node.reach.dial_back import DialBack
from shoal.node.reach.home_ports import HomePorts
from shoal.node.reach.mapping import Mapping, MappingState
from shoal.node.reach.reachability import Reachability, Reaching
from shoal.node.reach.relayed import Callee, Relayed
from shoal.node.reach.relaying import Relay, relay_throttle
from shoal.node.reach.reservations import Reservations
from shoal.node.store import ShareStore, StoreError
from shoal.node.volunteer.administration import Administration, Report
from shoal.node.volunteer.budgets import BudgetedHandlers, CallerBudgets
from shoal.node.volunteer.connectivity import Connectivity
from shoal.node.volunteer.ending import Ending
from shoal.node.volunteer.handlers import Handlers
from shoal.node.volunteer.holder import HolderService
from shoal.node.volunteer.store_calls import StoreCalls
from shoal.node.volunteer.taking import Taking
from shoal.node.volunteer.twin import INSTANCE_BYTES, Myself, TwinWatch

PORT_TRIES = 16  # a free TCP port picked by the system may be taken for UDP; so many times in a row it is not
CARE_BYTES_PER_S = 4 * 10**6  # repairs on a line without caps; a user's transfer beside them hardly notices
CARE_PART = 4  # of the caps where there are any: repairs take a quarter at most
SPACE_AGE_S = 15.0  # how old the free-space class in our replies may be: a host without space is not even asked


class Serving:
    """Store and server of one node. `bind` first, then the DHT on the same addresses, then `start`."""

    def __init__(
        self,
        env: Environment,
        network: Network,
        identity: Identity,
        settings: NodeSettings,
        store: ShareStore,
        throttle: Throttle,
    ) -> None:
        self._env = env
        self.settings = settings
        self.store = store
        self._identity = identity
        self._known_holders: KnownHolders | None = None
        self._announcing: Announcing | None = None
        self._taking: Taking | None = None
        self.started_at = trio.current_time()
        self.known_space = (float("-inf"), 0)
        self.handlers = Handlers()
        self.budgets = CallerBudgets(private=network.parameters.private)
        budgeted = BudgetedHandlers(self.budgets, self.handlers.answer)
        self.server = PeerServer(
            identity,
            network.parameters,
            budgeted.answer,
            entropy=env.entropy,
            throttle=throttle,
            hold_back=self.budgets.hold_back,
        )
        self._throttle = throttle
        self.problems = Problems()
        self.connectivity = Connectivity()
        self.ending = Ending()
        self.caretaker: Caretaker | None = None
        self.clock_look: ClockLook | None = None
        self.upkeep: Upkeep | None = None
        self._ports: HomePorts | None = None
        self.relay = self._make_relay(network.parameters.private) if settings.relay else None
        self.reaching: Reaching | None = None
        self._instance = ""
        self._slots = ConnectionSlots(private=network.parameters.private, admits=self.budgets.admits_connection)

    def _make_relay(self, private: bool) -> Relay:
        reservations = Reservations(private=private, entropy=self._env.entropy, rng=self._env.rng)
        throttle = relay_throttle(self._throttle, self.settings.up_bytes_per_s)
        return Relay(reservations, throttle, private=private)

    async def bind(self, nursery: trio.Nursery, address: Address) -> tuple[Address, trio.CancelScope]:
        """Listen for peers on one address; the real address, and a scope that ends the listening."""
        scope = trio.CancelScope()

        async def serve(*, task_status: trio.TaskStatus[Address]) -> None:
            with scope:
                await self._env.streams.serve(
                    address,
                    self._identity,
                    self.server.serve_connection,
                    slots=self._slots,
                    raw_handler=self.relay.serve_raw if self.relay else None,
                    task_status=task_status,
                )

        try:
            return await nursery.start(serve), scope
        except OSError as error:
            raise LocalError(
                f"Cannot listen on {address}: {error.strerror}. Choose another address with --listen."
            ) from error

    async def start(
        self, nursery: trio.Nursery, context: Context, own_reach: Callable[[], Reach], status: Report
    ) -> None:
        """Answer requests from now on, and look after what is kept here."""
        calls = StoreCalls(context.env, self.problems)
        self._known_holders = known_holders = KnownHolders(context, self._identity, self.store, own_reach)
        self._announcing = announcing = Announcing(context, self._identity.node_id, self.store, known_holders)
        self._taking = Taking(context.env, self.store, known_holders, calls)
        holder = HolderService(context, self.store, known_holders, announcing, calls)
        for part in (self._taking, holder, Administration(status, self.ending)):
            self.handlers.update(part.handlers())
        if self.relay is not None:
            self.handlers.update(self.relay.handlers())
        await nursery.start(holder.run)
        await nursery.start(self._take_care, context, holder)
        nursery.start_soon(self._watch_for_twin, context)
        await self._be_reached(nursery, context)

    async def _be_reached(self, nursery: trio.Nursery, context: Context) -> None:
        """Find out whether strangers can dial this node, and help others to find out."""
        env, dht, network = context.env, context.dht, context.network
        dial_back = DialBack(dht, env.streams, network, context.pool.dials, env.rng, env.entropy)
        self.handlers.update(dial_back.handlers())
        await nursery.start(dial_back.run)
        self.reaching = Reaching(dht, dial_back, private=network.private)
        dht.trust(self.reaching)
        nursery.start_soon(self.reaching.run)
        if self.settings.map and env.routers is not None:
            self._ports = HomePorts(dht, env.datagrams, env.routers, self.reaching)
            nursery.start_soon(self._ports.run)
        nursery.start_soon(self._be_rung(context, self.reaching).run)

    def _be_rung(self, context: Context, reaching: Reaching) -> Relayed:
        """What keeps relays for this node while nobody can dial it."""
        env, dht, dials = context.env, context.dht, context.pool.dials
        assert dials is not None, "the pool of a node counts what it dials"
        callee = Callee(
            streams=env.streams,
            identity=self._identity,
            params=context.network,
            serve=self.server.serve_connection,
            slots=self._slots,
            dials=dials,
            bugs=context.bugs,
            throttle=self._throttle,
            space=self.space,
            listening=lambda ipv6: next((each for each in dht.addresses if each.is_ipv6 == ipv6), None),
            candidates=dht.contacts,
            wanted=lambda: reaching.needs_relays,
            changed=dht.be_relayed,
            rng=env.rng,
        )
        relayed, relay = Relayed(callee), self.relay
        reaching.relays = lambda: relayed.relays
        reaching.relayed_for = lambda: 0 if relay is None else relay.statistics().reservations
        reaching.on_verdict = relayed.look_again
        return relayed

    @property
    def reachability(self) -> Reachability:
        """How others reach this node."""
        found = Reachability() if self.reaching is None else self.reaching.value
        return replace(found, mapping=self.mapping(ipv6=False))

    def instance(self) -> str:
        """What tells this process from another one with the same key: made when it is first asked for."""
        self._instance = self._instance or self._env.entropy(INSTANCE_BYTES).hex()
        return self._instance

    async def _watch_for_twin(self, context: Context) -> None:
        """Until cancelled: see to it that nobody else runs with our key unnoticed."""

        def addresses() -> list[Address]:
            own = (each.address for ipv6 in (False, True) for each in context.dht.candidates(ipv6=ipv6))
            return [*own, *context.dht.addresses]

        myself = Myself(self._identity, context.network, self.instance, addresses)
        watch = TwinWatch(self._env.streams, context.pool.dials, myself, self.problems)
        context.dht.peers.on_own_id = watch.heard
        self.handlers.after(GetStatus, lambda caller, request, payload: watch.asked(caller.remote))
        await watch.run()

    def mapping(self, *, ipv6: bool) -> Mapping:
        """How it stands with the port of the home router."""
        if self._ports is None:
            return Mapping(MappingState.OFF)
        return (self._ports.ipv6 if ipv6 else self._ports.ipv4).current

    def leave(self) -> None:
        """Take no further shares."""
        if self._taking is not None:
            self._taking.is_leaving = True

    async def _take_care(self, context: Context, holder: HolderService, *, task_status: trio.TaskStatus[None]) -> None:
        """The node's own work for the files it keeps: over connections of its own, which prove who it is."""
        throttle = Throttle(
            _part_of(self.settings.up_bytes_per_s), _part_of(self.settings.down_bytes_per_s), within=self._throttle
        )
        identity = (self._identity, context.network)
        async with open_pool(
            self._env.streams, throttle=throttle, identity=identity, bugs=context.bugs, dials=context.pool.dials
        ) as pool:
            own = replace(context, pool=pool, throttle=throttle)
            self.caretaker = Caretaker(
                own, self._identity.node_id, self.store, self.known_holders, self.announcing, holder.delete
            )
            self._tell_care(self.caretaker)
            self.clock_look = ClockLook(own, self.caretaker.clocks)
            own.dht.serve(POLL_TOPIC, self.caretaker.polls.answer, self.budgets.admits_poll)
            own_shares = self.caretaker.own_shares
            self.upkeep = Upkeep(
                own, self.store, self.caretaker.clocks, self.problems, own_shares.note, self.announcing.forget
            )
            async with open_nursery() as nursery:
                nursery.start_soon(self.upkeep.run)
                nursery.start_soon(own_shares.run)
                await nursery.start(self.caretaker.run)
                task_status.started()

    def _tell_care(self, caretaker: Caretaker) -> None:
        """Have the caretaker hear of shares that come, and of others that look after the files kept here."""

        def came(caller: Caller, request: Commit, payload: Buffer) -> None:
            caretaker.on_file(manifest_id(bytes(payload)))

        def was_put(caller: Caller, request: Put, payload: Buffer) -> None:
            caretaker.on_file(manifest_id(bytes(memoryview(payload)[: request.manifest_bytes])))

        def surveyed(caller: Caller, request: Survey, payload: Buffer) -> None:
            caretaker.on_survey(caller.node_id, request.ids)

        self.handlers.after(Commit, came)
        self.handlers.after(Put, was_put)
        self.handlers.after(Survey, surveyed)

    @property
    def known_holders(self) -> KnownHolders:
        """What this node knows of the other holders, once it has been started."""
        assert self._known_holders is not None, "asked for before the node was started"
        return self._known_holders

    @property
    def announcing(self) -> Announcing:
        """What this node announces, once it has been started."""
        assert self._announcing is not None, "asked for before the node was started"
        return self._announcing

    def care_statistics(self) -> CareStatistics:
        """What was done for the files kept here since the start."""
        return CareStatistics() if self.caretaker is None else self.caretaker.statistics()

    @property
    def clocks(self) -> ClockComparison | None:
        """What the peers' clocks say of ours; None before it runs."""
        return None if self.caretaker is None else self.caretaker.clocks

    def space(self) -> int:
        """The class of free space that DHT replies carry: none where the disk fails. Looked up once in a while."""
        now = trio.current_time()
        if now - self.known_space[0] > SPACE_AGE_S:
            self.known_space = (now, space_class(self._available_bytes()))
        return self.known_space[1]

    def _available_bytes(self) -> int:
        try:
            return self.store.available_bytes(self._env.wall())
        except StoreError as error:
            self.problems.failed(error)
            return 0


def _part_of(cap: int | None) -> float:
    return CARE_BYTES_PER_S if cap is None else min(CARE_BYTES_PER_S, cap / CARE_PART)


def open_store(env: Environment, folder: Path, settings: NodeSettings, *, private: bool) -> ShareStore:
    """The share store of a home; blocking. StoreUnusable when it cannot be opened."""
    return ShareStore(
        env.disk,
        folder,
        capacity_bytes=settings.capacity_bytes,
        reserve_bytes=settings.reserve_bytes,
        now=env.wall(),
        private=private,
    )
