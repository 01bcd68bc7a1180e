"""Opening a node: everything is put together here, in order, and taken apart in the reverse order.

home, settings, identity -> store -> server sockets -> DHT on the same ports -> holder -> bootstrap
A client has no store and no server, and does not import what belongs to them.
"""

import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from shoal.dht import Address, AddressError, Contact, DhtService, Identity, ListenError, Reach
from shoal.node.channel import BugCount, Dials, Throttle, open_pool
from shoal.node.context import Context
from shoal.node.environment import Environment, real_environment
from shoal.node.errors import LocalError
from shoal.node.home.contacts import ContactCache
from shoal.node.home.daemon import DaemonNote, read_note, remove_note, write_note
from shoal.node.home.home import Home, daemon_lock, folder_lock
from shoal.node.home.joined import network_of, remember_network
from shoal.node.home.ledger import Ledger
from shoal.node.home.network import Network, Peer, split_host_port
from shoal.node.home.settings import NodeSettings, load_identity, load_settings
from shoal.node.home.silence import Silence
from shoal.node.inviting import Inviting
from shoal.node.joining import Joining
from shoal.node.node import Node
from shoal.node.nursery import open_nursery
from shoal.node.reach.lan import PATIENCE_S, Lan, looks_around
from shoal.node.store import Disk
from shoal.node.translate import translated
from shoal.values import dataclass

if TYPE_CHECKING:
    from shoal.node.volunteer.serving import Serving

FIRST_SAVE_S = 15.0  # a daemon that lives only seconds leaves a cache of contacts all the same
SAVE_EVERY_S = 6 * 3600.0  # whom it met that long ago is still a way in; nothing is written where nothing is new


@dataclass(frozen=True)
class _Plan:
    """What was asked for, with defaults filled in."""

    home: Home
    network: Network
    bootstrap: tuple[str, ...]
    settings: NodeSettings
    env: Environment


@asynccontextmanager
async def open_node(
    home: Home | Path | str | None = None,
    *,
    network: Network | Path | str | None = None,
    bootstrap: Sequence[str | Address] = (),
    serve: bool = False,
    settings: NodeSettings | None = None,
    environment: Environment | None = None,
) -> AsyncIterator[Node]:
    """A node for the length of a block: `async with open_node(...) as node: await node.publish(path)`.

    Leaving the block ends every task, socket and temporary file. Opening a node asks nobody: its methods find out
    whether peers answer.

    :param home: a folder; by default the user's own.
    :param network: a network file, or an invite; by default the network that the home has joined, else Shoal's own.
    :param bootstrap: further peers to start from, as "host:port".
    :param serve: be a volunteer, with the identity that `init_node` made; else a client that nobody can call.
    :param settings: of a volunteer; by default those in the home.
    :raises UsageError: an address, the network file or the settings are wrong, or there is no identity.
    :raises LocalError: the home, a disk or a port cannot be used.
    :raises AlreadyRunning: a node serves on this home already.
    """
    plan = _plan(home, network, bootstrap, serve, settings, environment)
    with translated():
        async with AsyncExitStack() as stack:
            await plan.env.call(plan.home.create)
            has_run = plan.home.lock_file.exists()
            if serve:
                stack.enter_context(daemon_lock(plan.home))
            after_tasks = stack.enter_context(ExitStack())  # what is to be closed once no task can be using it
            nursery = await stack.enter_async_context(open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            opener = _Opener(plan, nursery, stack, after_tasks)
            yield await (opener.serving_node(has_run) if serve else opener.client_node())


def _plan(
    home: Home | Path | str | None,
    network: Network | Path | str | None,
    bootstrap: Sequence[str | Address],
    serve: bool,
    settings: NodeSettings | None,
    environment: Environment | None,
) -> _Plan:
    located = home if isinstance(home, Home) else Home.locate(None if home is None else Path(home))
    network = network_of(located, network)
    if settings is None:
        settings = load_settings(located) if serve or located.settings_file.exists() else NodeSettings()
    doors = tuple(str(each) for each in bootstrap)
    for door in doors:
        split_host_port(door)
    return _Plan(located, network, doors, settings, environment or real_environment())


class _Opener:
    """Puts the parts of one node together."""

    def __init__(self, plan: _Plan, nursery: trio.Nursery, stack: AsyncExitStack, after_tasks: ExitStack) -> None:
        self._plan = plan
        self._env = plan.env
        self._nursery = nursery
        self._stack = stack
        self._after_tasks = after_tasks
        self._throttle = Throttle(plan.settings.up_bytes_per_s, plan.settings.down_bytes_per_s)

    async def client_node(self) -> Node:
        """A node that nobody can call, under an identity that is thrown away."""
        identity = Identity.create(0, self._env.entropy, self._env.scheme)
        dht = self._dht(identity)
        await self._nursery.start(dht.run)
        context = await self._context(dht)
        return await self._node(context, None)

    async def serving_node(self, has_run: bool) -> Node:
        """A volunteer. `has_run`: not for the first time."""
        from shoal.node.care.problems import bare_store, strange_files
        from shoal.node.volunteer.serving import Serving, open_store
        from shoal.node.volunteer.status import node_status

        plan, parameters = self._plan, self._plan.network.parameters
        identity = load_identity(plan.home, parameters, self._env.scheme)
        with suppress(LocalError):  # a full disk; the next start tries again
            await self._env.call(remember_network, plan.home, parameters)
        is_bare = has_run and await self._env.call(_is_bare, self._env.disk, plan.home.store_folder)
        if plan.home.store_folder.is_dir():  # it may be a link, and another home may link to the same folder
            self._after_tasks.enter_context(folder_lock(plan.home.store_folder))
        store = await self._env.call(
            lambda: open_store(self._env, plan.home.store_folder, plan.settings, private=parameters.private)
        )
        self._after_tasks.callback(store.close)
        serving = Serving(self._env, plan.network, identity, plan.settings, store, self._throttle)
        if is_bare:
            serving.problems.notices.append(bare_store(plan.home.store_folder))
        if store.reconciled.unreadable:
            serving.problems.notices.append(strange_files(plan.home.store_folder, store.reconciled.unreadable))
        dht = await self._listen(identity, serving)
        context = await self._context(dht)
        await serving.start(self._nursery, context, _OwnReach(dht), lambda: node_status(context, serving))
        with suppress(LocalError):  # a full disk: others then look at the addresses of the settings
            write_note(plan.home, DaemonNote(identity.node_id, dht.addresses))
        self._stack.callback(remove_note, plan.home)
        return await self._node(context, serving)

    async def _listen(self, identity: Identity, serving: "Serving") -> DhtService:
        """TCP and UDP on the same numbers. A port left to the system may be free for one only: try on."""
        from shoal.node.volunteer.serving import PORT_TRIES

        for tries_left in reversed(range(PORT_TRIES)):
            bound: list[Address] = []
            scopes: list[trio.CancelScope] = []
            for address in self._plan.settings.listen:
                try:
                    real, scope = await serving.bind(self._nursery, address)
                except LocalError as error:
                    if _is_missing_ipv6(error, address) and len(self._plan.settings.listen) > 1:
                        continue
                    raise
                bound.append(real)
                scopes.append(scope)
            dht = self._dht(identity, bound, serving)
            try:
                await self._nursery.start(dht.run)
            except ListenError:
                for scope in scopes:
                    scope.cancel()
                if not tries_left or all(address.port for address in self._plan.settings.listen):
                    raise
            else:
                return dht
        raise LocalError("No port could be found that is free for both TCP and UDP.")

    def _dht(self, identity: Identity, listen: Sequence[Address] = (), serving: "Serving | None" = None) -> DhtService:
        return DhtService(
            self._plan.network.parameters,
            identity,
            self._env.datagrams,
            listen=listen,
            advertise=self._plan.settings.advertise if serving else (),
            space=serving.space if serving else lambda: 0,
            rng=self._env.rng,
            entropy=self._env.entropy,
            wall=self._env.wall,
        )

    async def _context(self, dht: DhtService) -> Context:
        bugs = BugCount()
        parameters = self._plan.network.parameters
        dials = Dials(private=parameters.private, is_met=dht.has_met)
        pool = await self._stack.enter_async_context(
            open_pool(
                self._env.streams,
                params=self._plan.network.parameters,
                throttle=self._throttle,
                bugs=bugs,
                dials=dials,
            )
        )
        own_reach = _OwnReach(dht) if dht.serving else None
        silence = Silence(self._plan.home.silence_file(parameters.network_id))
        await self._env.call(silence.load)
        self._stack.callback(silence.save)
        return Context(
            self._env,
            parameters,
            dht,
            pool,
            self._env.codec,
            self._throttle,
            lambda: own_reach().contact(dht.identity.node_id) if own_reach else None,
            bugs,
            silence,
        )

    def _look_in_lan(self, dht: DhtService, joining: Joining) -> None:
        """Look for others in the local network, where that is wanted."""
        plan, network = self._plan, self._env.lan
        doors = [] if dht.serving else joining.doors
        if network is not None and plan.settings.lan and looks_around(plan.network.parameters, doors):
            lan = Lan(network, dht, plan.network.parameters, self._env.rng)
            self._nursery.start_soon(lan.run)
            if lan.links():
                joining.look_in("the local network", PATIENCE_S)

    def _meet_in_mainline(self, dht: DhtService, joining: Joining) -> None:
        """Look for others through the Mainline DHT, where the network file says so."""
        plan = self._plan
        if plan.network.rendezvous is None:
            return
        from shoal.node.reach.rendezvous.mainline import PATIENCE_S, MainlineRendezvous

        meeting = MainlineRendezvous(
            self._env.datagrams, dht, plan.network, self._env.rng, has_doors=bool(joining.doors)
        )
        self._nursery.start_soon(meeting.run)
        joining.look_in("the Mainline DHT", PATIENCE_S)

    async def _node(self, context: Context, serving: "Serving | None") -> Node:
        """Start to join in the background, keep the contact cache, and hand the node out."""
        plan, dht = self._plan, context.dht
        cache = ContactCache(plan.home.contacts_file(plan.network.parameters.network_id))
        cached = await self._env.call(cache.load)
        contacts, places = _ways_in(plan.network.peers)
        doors = [*plan.bootstrap, *places]
        local = read_note(plan.home) if serving is None else None
        if local is not None:
            doors += [str(address) for address in local.reachable()]
        joining = Joining(dht, doors, cached, contacts)
        self._look_in_lan(dht, joining)
        self._meet_in_mainline(dht, joining)
        self._nursery.start_soon(joining.run)
        if serving is not None:
            self._nursery.start_soon(_keep_cache, self._env, dht, cache)
        self._stack.callback(lambda: cache.save(dht.contacts()))
        ledger = Ledger(plan.home.ledger_file)
        if serving is not None:
            from shoal.node.volunteer.kept import Keeper

            self._nursery.start_soon(Keeper(context, ledger, serving.problems).run)
            serving.ending.is_open = True
        node = Node(context, plan.home, ledger, serving, joining, Inviting(context, plan.network, plan.home, local))
        self._stack.callback(node.close)
        return node


def _ways_in(peers: Sequence[Peer]) -> tuple[list[Contact], list[str]]:
    """The peers of a network file, and an invite: those of whom the id is known, and the doors at which anybody will
    do."""
    contacts, doors = [], []
    for peer in peers:
        try:
            address = None if peer.node_id is None else Address.parse(peer.address)
        except AddressError:
            address = None
        if address is not None and peer.node_id is not None:
            contacts.append(Contact(peer.node_id, address))
        else:
            doors.append(peer.address)
    return contacts, doors


def _is_bare(disk: Disk, folder: Path) -> bool:
    """Whether there is nothing in a folder; what cannot be listed is the store's to report."""
    try:
        return not disk.list_directory(folder)
    except OSError:
        return False


def _is_missing_ipv6(error: LocalError, address: Address) -> bool:
    """Whether a default address failed because this machine has no IPv6."""
    cause = error.__cause__
    return (
        address == Address("::", address.port)
        and isinstance(cause, OSError)
        and cause.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
    )


class _OwnReach:
    """The ways to put into statements; the loopback address while nobody has told us a better one.

    The last ones are remembered: the last requests are answered while the DHT, which knows them, is closed already.
    """

    def __init__(self, dht: DhtService) -> None:
        bound = dht.addresses[0]
        self._dht = dht
        self._last = Reach.of(Address("::1" if bound.is_ipv6 else "127.0.0.1", bound.port))

    def __call__(self) -> Reach:
        self._last = self._dht.own_reach() or self._last
        return self._last


async def _keep_cache(env: Environment, dht: DhtService, cache: ContactCache) -> None:
    """Save the contacts now and then, so that kill -9 does not cost the network."""
    await trio.sleep(FIRST_SAVE_S)
    while True:
        await env.call(cache.save, dht.contacts())
        await trio.sleep(SAVE_EVERY_S)


__all__ = ["open_node"]
