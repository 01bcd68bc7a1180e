"""A volunteer's settings (`config.toml`) and the first step of a node's life, `init_node`."""

import os
from collections.abc import Callable

from shoal.dht import (
    Address,
    AddressError,
    Ed25519,
    Identity,
    NetworkParameters,
    NodeId,
    SignatureScheme,
    has_proof,
)
from shoal.node.errors import UsageError
from shoal.node.home.home import Home, folder_lock, read_plain, read_secret, write_private
from shoal.node.home.joined import check_network, join_network, remember_network
from shoal.node.home.network import MAX_FILE_BYTES, Network, TableReader, parse_toml
from shoal.values import dataclass

SECRET_BYTES = 32
NONCE_BYTES = 8
DEFAULT_PORT = 4750  # unassigned, below the ephemeral ranges of common systems
DEFAULT_CAPACITY_BYTES = 10 * 10**9
DEFAULT_RESERVE_BYTES = 10**9  # free disk that is never touched
MAX_CAPACITY_BYTES = 2**60
MAX_RATE_BYTES_PER_S = 2**50
MAX_ADDRESSES = 16  # to listen on, and to advertise: more than any machine needs

_MOST = {
    "capacity_bytes": MAX_CAPACITY_BYTES,
    "reserve_bytes": MAX_CAPACITY_BYTES,
    "up_bytes_per_s": MAX_RATE_BYTES_PER_S,
    "down_bytes_per_s": MAX_RATE_BYTES_PER_S,
}


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What a volunteer decides.

    :ivar capacity_bytes: the most that the node keeps in all.
    :ivar reserve_bytes: free disk that it leaves alone.
    :ivar listen: local addresses. One port number serves UDP and TCP.
    :ivar advertise: addresses that others should use, where they differ.
    :ivar map: whether to have the home router open a port.
    :ivar relay: whether to be a relay for nodes that nobody can dial.
    :ivar up_bytes_per_s: the most that it sends, over all transfers; None for no limit.
    :ivar down_bytes_per_s: the most that it receives; None for no limit.
    :ivar lan: look for nodes of a private network in the local network, and answer them. Clients of the home do, too.
    """

    capacity_bytes: int = DEFAULT_CAPACITY_BYTES
    reserve_bytes: int = DEFAULT_RESERVE_BYTES
    listen: tuple[Address, ...] = (Address("0.0.0.0", DEFAULT_PORT), Address("::", DEFAULT_PORT))
    advertise: tuple[Address, ...] = ()
    up_bytes_per_s: int | None = None
    down_bytes_per_s: int | None = None
    map: bool = True
    relay: bool = True
    lan: bool = True

    def __post_init__(self) -> None:
        """UsageError for what no reader of `config.toml` would take."""
        for name, most in _MOST.items():
            value = getattr(self, name)
            if value is not None and not 0 <= value <= most:
                raise UsageError(f"{name} is {value}, but must be from 0 to {most}.")
        for name in ("listen", "advertise"):
            count = len(getattr(self, name))
            if count > MAX_ADDRESSES:
                raise UsageError(f"{name} has {count} addresses, but {MAX_ADDRESSES} is the most.")

    def to_toml(self) -> str:
        """The settings as the text of `config.toml`."""
        lines = [
            "# Written by: shoal node init. Restart the node after a change.",
            f"capacity_bytes = {self.capacity_bytes}",
            f"reserve_bytes = {self.reserve_bytes}",
            f"listen = [{_quoted(self.listen)}]",
            f"advertise = [{_quoted(self.advertise)}]",
            f"map = {str(self.map).lower()}",
            f"relay = {str(self.relay).lower()}",
        ]
        if self.up_bytes_per_s is not None:
            lines.append(f"up_bytes_per_s = {self.up_bytes_per_s}")
        if self.down_bytes_per_s is not None:
            lines.append(f"down_bytes_per_s = {self.down_bytes_per_s}")
        if not self.lan:
            lines.append("lan = false")
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, content: bytes, where: str) -> "NodeSettings":
        """Settings from the bytes of `config.toml`; `UsageError` names the key that is wrong or unknown."""
        reader = TableReader(parse_toml(content, where), where)
        defaults = cls()
        settings = cls(
            capacity_bytes=reader.integer("capacity_bytes", defaults.capacity_bytes, 0, MAX_CAPACITY_BYTES),
            reserve_bytes=reader.integer("reserve_bytes", defaults.reserve_bytes, 0, MAX_CAPACITY_BYTES),
            listen=_addresses(reader.texts("listen"), "listen", where) or defaults.listen,
            advertise=_addresses(reader.texts("advertise"), "advertise", where),
            up_bytes_per_s=reader.integer("up_bytes_per_s", 0, 0, MAX_RATE_BYTES_PER_S) or None,
            down_bytes_per_s=reader.integer("down_bytes_per_s", 0, 0, MAX_RATE_BYTES_PER_S) or None,
            map=reader.flag("map", defaults.map),
            relay=reader.flag("relay", defaults.relay),
            lan=reader.flag("lan", defaults.lan),
        )
        reader.finish()
        return settings


def _quoted(addresses: tuple[Address, ...]) -> str:
    return ", ".join(f'"{address}"' for address in addresses)


def _addresses(texts: tuple[str, ...], key: str, where: str) -> tuple[Address, ...]:
    try:
        return tuple(Address.parse(text) for text in texts)
    except AddressError as error:
        raise UsageError(f"{where}: {key}: {error}") from error


def load_settings(home: Home) -> NodeSettings:
    """The settings that `node init`, or a person, wrote.

    :raises UsageError: there are none, or one of them is wrong.
    """
    settings = written_settings(home)
    if settings is None:
        raise UsageError(f"No node is set up in {home.config}. Set one up with: shoal node init --capacity 50GB")
    return settings


def written_settings(home: Home) -> NodeSettings | None:
    """The settings in `config.toml`; None where there is no such file.

    :raises UsageError: it cannot be read, or a setting is wrong.
    """
    try:
        content = read_plain(home.settings_file, MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"Cannot read {home.settings_file}: {error.strerror}.") from error
    return NodeSettings.parse(content, str(home.settings_file))


def init_node(
    home: Home,
    settings: NodeSettings,
    network: Network | NetworkParameters,
    *,
    scheme: SignatureScheme | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
) -> NodeId:
    """Make a volunteer's identity and settings. It blocks: the proof of work takes seconds on a public network.

    A `config.toml` that stands there already is kept, if it says the same. The home remembers the network: with its
    peers where a `Network` is given, so that commands in this home need not name it.

    :raises UsageError: the home has a node already, or a `config.toml` with other settings, or it has joined another
        network. Nothing is changed then.
    :raises AlreadyRunning: another process sets the home up, or runs on it.
    :raises LocalError: the home cannot be written.
    """
    parameters = network.parameters if isinstance(network, Network) else network
    _check_fresh(home)
    home.create()
    with folder_lock(home.data):
        _check_fresh(home)  # another process may have been faster
        written = written_settings(home)
        if written not in (None, settings):
            raise UsageError(
                f"{home.settings_file} exists already, with other settings, and is left alone. Change it there, and "
                "leave the options out."
            )
        check_network(home, parameters)
        identity = Identity.create(parameters.pow_bits, entropy, scheme or Ed25519())
        if isinstance(network, Network):
            join_network(home, network)
        if written is None:
            write_private(home.settings_file, settings.to_toml().encode(), replace=False)
        remember_network(home, parameters)
        # Last: with it there is a node.
        write_private(home.key_file, identity.secret + identity.id_nonce, replace=False)
    return identity.node_id


def _check_fresh(home: Home) -> None:
    if os.path.lexists(home.key_file):
        raise UsageError(f"A node is set up already: {home.key_file} exists. Start it with: shoal node run")


def load_identity(home: Home, parameters: NetworkParameters, scheme: SignatureScheme | None = None) -> Identity:
    """The daemon's identity.

    :raises UsageError: `init` was not done, or the node belongs to another network.
    :raises LocalError: the key file is damaged, or others may read it.
    """
    try:
        content = read_secret(home.key_file, SECRET_BYTES + NONCE_BYTES)
    except FileNotFoundError:
        raise UsageError(f"No node is set up in {home.data}. Set one up with: shoal node init") from None
    check_network(home, parameters)
    identity = Identity.restore(content[:SECRET_BYTES], content[SECRET_BYTES:], scheme or Ed25519())
    if not has_proof(identity.node_id, parameters.pow_bits):
        raise UsageError(
            f"The key in {home.key_file} has no proof of work for the network {parameters.name!r} "
            f"({parameters.pow_bits} bits). Use another --home for this network."
        )
    return identity
