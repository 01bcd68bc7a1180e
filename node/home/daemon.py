"""How other processes of the same user find and ask the daemon of a home.

The daemon writes where it listens into its home. A process that can read the daemon's key may ask it for its
status, or to end, over the same port and protocol as any peer: there is no second socket.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from shoal.dht import Address, AddressError, Identity, NetworkParameters, NodeId
from shoal.node.channel import (
    Disconnected,
    GetStatus,
    OtherNetwork,
    PeerConnection,
    PeerError,
    RemoteError,
    Request,
    Role,
    Status,
    Stop,
    open_connection,
)
from shoal.node.channel.messages import R
from shoal.node.environment import Environment, real_environment
from shoal.node.errors import AlreadyRunning, Cause, LocalError
from shoal.node.formats import unpack
from shoal.node.home.home import Home, daemon_lock, overwritten, read_plain, write_private
from shoal.node.home.joined import network_of
from shoal.node.home.network import Network
from shoal.node.home.settings import load_identity, load_settings
from shoal.node.nursery import open_nursery
from shoal.values import dataclass

ANSWER_TIMEOUT_S = 10.0  # of a daemon on the same machine, be it busy
END_TIMEOUT_S = 30.0  # a daemon ends within a second; a disk that is slow to take the last bytes may need this
LOOK_EVERY_S = 0.1  # whether the home is free
MAX_FILE_BYTES = 65536


@dataclass(frozen=True, slots=True)
class DaemonNote:
    """Where the daemon of a home listens, with real port numbers, and who it is."""

    node_id: NodeId
    addresses: tuple[Address, ...]

    def reachable(self) -> list[Address]:
        """The addresses as this machine can call them: wildcards replaced by loopback."""
        return [_loopback(address) if address.is_wildcard else address for address in self.addresses]


def _loopback(address: Address) -> Address:
    return Address("::1" if address.is_ipv6 else "127.0.0.1", address.port)


def write_note(home: Home, note: DaemonNote) -> None:
    """Called by the daemon once it listens.

    A full disk has no room for a new file. The note of a killed daemon is then written over where it is.

    :raises LocalError: there is no room, and no note to write over.
    """
    fields = {"node_id": note.node_id.hex(), "addresses": [str(address) for address in note.addresses]}
    content = json.dumps(fields).encode()
    try:
        write_private(home.daemon_file, content, durable=False)
    except LocalError:
        if not overwritten(home.daemon_file, content):
            raise


def read_note(home: Home) -> DaemonNote | None:
    """The note of the daemon, dead or alive; None without one. A damaged note counts as none."""
    try:
        content = json.loads(read_plain(home.daemon_file, MAX_FILE_BYTES))
        addresses = tuple(Address.parse(text) for text in content["addresses"])
        return DaemonNote(NodeId(bytes.fromhex(content["node_id"])), addresses)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, AddressError):
        return None


def _expected_note(home: Home, node_id: NodeId) -> DaemonNote | None:
    """Where a daemon of this home may be that could not leave a note: at the addresses in its settings."""
    addresses = tuple(address for address in load_settings(home).listen if address.port)
    return DaemonNote(node_id, addresses) if addresses else None


def remove_note(home: Home) -> None:
    """Called by the daemon at its end. A note that a failed disk keeps is as one that was left by a kill."""
    with suppress(OSError):
        home.daemon_file.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Administrator:
    """The owner of a home's key, which alone may ask its daemon for its status, or to end."""

    home: Home
    parameters: NetworkParameters
    identity: Identity
    env: Environment

    async def ask(self, address: Address, request: Request[R]) -> R:
        """One request to the daemon, at one of its addresses. PeerError."""
        async with self._connected(address) as connection:
            return await connection.request(request, timeout_s=ANSWER_TIMEOUT_S)

    @asynccontextmanager
    async def _connected(self, address: Address) -> AsyncIterator[PeerConnection]:
        """A connection whose other end knows who asks. PeerError."""
        async with (
            open_nursery(),
            open_connection(self.env.streams, address, self.identity.node_id, params=self.parameters) as connection,
        ):
            await connection.identify(self.identity, self.parameters, Role.ADMIN, timeout_s=ANSWER_TIMEOUT_S)
            yield connection

    async def ask_to_end(self, note: DaemonNote) -> bool:
        """Whether the daemon will end; False when it cannot be reached now. AlreadyRunning when it will not."""
        for address in note.reachable():
            try:
                async with self._connected(address) as connection:
                    with suppress(Disconnected):  # it had our request, and may go while it answers
                        await connection.request(Stop(), timeout_s=ANSWER_TIMEOUT_S)
                return True
            except RemoteError as error:
                self._check_refusal(error)
            except OtherNetwork as error:
                raise AlreadyRunning(f"The node on {self.home.data} runs on another network: {error}.") from error
            except PeerError:
                continue
        return False

    def _check_refusal(self, error: RemoteError) -> None:
        """Raise for an answer that stays what it is; one that has no room now, say, may be asked again."""
        if error.status == Status.UNSUPPORTED:
            raise AlreadyRunning(
                f"The process that runs on {self.home.data} does not end on request. It is a node of an older version, "
                "another leave, or a program with a node inside."
            ) from error
        if error.status == Status.FORBIDDEN:
            raise AlreadyRunning(f"The node on {self.home.data} runs on another network than this command.") from error


def _administrator(home: Home, network: Network | None, environment: Environment | None) -> _Administrator:
    """UsageError before `node init`."""
    env = environment or real_environment()
    parameters = network_of(home, network).parameters
    return _Administrator(home, parameters, load_identity(home, parameters, env.scheme), env)


async def daemon_status(
    home: Home, *, network: Network | None = None, environment: Environment | None = None
) -> dict[str, Any]:
    """The status of the daemon that runs on `home`, as plain values.

    :raises LocalError: none runs there, or it does not answer.
    :raises UsageError: the home has no node yet.
    """
    admin = _administrator(home, network, environment)
    written = read_note(home)
    note = written or _expected_note(home, admin.identity.node_id)
    is_busy = is_asked = False
    with trio.move_on_after(ANSWER_TIMEOUT_S):
        while is_busy or not is_asked:
            is_asked = True
            for address in note.reachable() if note else ():
                try:
                    return _plain(bytes((await admin.ask(address, GetStatus())).payload))
                except PeerError as error:
                    is_busy = is_busy or error.is_busy
            await trio.sleep(LOOK_EVERY_S)
    if is_busy:
        raise LocalError(
            f"The node on {home.data} runs and answered that it is busy. Try again.", causes={Cause.BUSY: 1}
        )
    if written is None:
        raise LocalError(f"No node runs on {home.data}. Start it with: shoal node run")
    raise LocalError(
        f"The node that ran on {home.data} does not answer at {', '.join(map(str, written.addresses))}. It has "
        "stopped, or it runs on another network. Start it with: shoal node run"
    )


async def stop_daemon(
    home: Home, *, network: Network | None = None, environment: Environment | None = None
) -> tuple[Address, ...]:
    """Have the daemon that runs on `home` end, and wait until the home is free.

    It returns the addresses that the daemon listened on, with real port numbers. They are empty if it had ended before
    it could be asked.

    :raises AlreadyRunning: it cannot be asked, does not end on request, or not in time.
    :raises UsageError: the home has no node yet.
    """
    admin = _administrator(home, network, environment)
    addresses: tuple[Address, ...] = ()
    is_asked = False
    with trio.move_on_after(ANSWER_TIMEOUT_S) as scope:
        while not await admin.env.call(_is_free, home):
            if not is_asked:
                note = read_note(home) or _expected_note(home, admin.identity.node_id)  # it may be starting, or ending
                addresses = addresses if note is None else note.addresses
                is_asked = note is not None and await admin.ask_to_end(note)
                if is_asked:
                    scope.deadline = trio.current_time() + END_TIMEOUT_S
            await trio.sleep(LOOK_EVERY_S)
        return addresses
    raise AlreadyRunning(
        f"The node that runs on {home.data} was asked to end, but did not end within {END_TIMEOUT_S:g} s."
        if is_asked
        else f"The node that runs on {home.data} does not answer the request to end."
    )


def _is_free(home: Home) -> bool:
    try:
        with daemon_lock(home):
            return True
    except AlreadyRunning:
        return False


def _senseless(words: str) -> LocalError:
    return LocalError(f"The node's answer makes no sense ({words}). It may run another version of Shoal.")


def _plain(payload: bytes) -> dict[str, Any]:
    status = unpack(payload, _senseless, most_items=len(payload), most_pairs=len(payload))
    if not isinstance(status, dict):
        raise _senseless("no map")
    return {str(key): value for key, value in status.items()}
