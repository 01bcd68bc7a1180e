"""Which network to join: the format of `bootstrap_peers.toml`, read strictly, and written."""

import json
import math
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from shoal.dht import NetworkParameters, NodeId
from shoal.node.errors import UsageError
from shoal.values import dataclass

MAX_FILE_BYTES = 2**20  # a list of thousands of peers fits; anything larger is a mistake
MAX_PORT_DIGITS = 5
MAX_SHOWN_CHARS = 100  # of a wrong value in a message
MIN_EPOCH_S = 0.1  # of tests; below it a node would do nothing but look after files
MAX_EPOCH_S = 30 * 86400.0
MAINLINE = "mainline"
MAX_ROUTERS = 8
MAX_ROUTER_BYTES = 100  # of "host:port"
# Well-known ways into the Mainline DHT, of the makers of BitTorrent programs.
MAINLINE_ROUTERS = (
    "router.bittorrent.com:6881",
    "router.utorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "dht.libtorrent.org:25401",
)
MAX_POW_BITS = 40  # minutes of one core are 30 bits; beyond 40 nobody could ever join

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


@dataclass(frozen=True, slots=True)
class Peer:
    """One way into the network: `host:port`, the host a name or an address, and the node id if it is known."""

    address: str
    node_id: NodeId | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """A network's parameters and the peers to start from.

    :ivar rendezvous: the routers of the Mainline DHT through which nodes find each other as well; None: they do not.
    """

    parameters: NetworkParameters
    peers: tuple[Peer, ...] = ()
    rendezvous: tuple[str, ...] | None = None

    @classmethod
    def load(cls, path: Path | None = None) -> "Network":
        """Read a network file, or the one shipped with Shoal.

        :raises UsageError: what is wrong in it, and where.
        """
        if path is None:
            return cls.parse(files("shoal.node").joinpath("bootstrap_peers.toml").read_bytes(), "bootstrap_peers.toml")
        try:
            with open(path, "rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise UsageError(f"Cannot read the network file {path}: {error.strerror}.") from error
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: bytes, where: str) -> "Network":
        """A network from the bytes of its file; `where` is for the error's words."""
        table = parse_toml(content, where)
        reader = TableReader(table, where)
        parameters = NetworkParameters(
            name=reader.text("network", required=True, longest=64),
            pow_bits=reader.integer("pow_bits", 20, 0, MAX_POW_BITS),
            private=reader.flag("private", False),
            epoch_s=reader.duration("epoch", 86400.0, MIN_EPOCH_S, MAX_EPOCH_S),
        )
        peers = tuple(_peer(entry, where) for entry in reader.tables("peer"))
        rendezvous = _rendezvous(reader, where)
        reader.finish()
        return cls(parameters, peers, rendezvous)

    def to_toml(self) -> str:
        """The text of a network file that `parse` reads as this network."""
        parameters = self.parameters
        lines = [
            f"network = {_quoted(parameters.name)}",
            f"pow_bits = {parameters.pow_bits}",
            f"private = {str(parameters.private).lower()}",
            f'epoch = "{parameters.epoch_s!r}s"',
        ]
        if self.rendezvous is not None:
            lines.append(f'rendezvous = "{MAINLINE}"')
            if self.rendezvous != MAINLINE_ROUTERS:
                lines.append(f"rendezvous_routers = [{', '.join(map(_quoted, self.rendezvous))}]")
        for peer in self.peers:
            lines += ["", "[[peer]]", f"address = {_quoted(peer.address)}"]
            if peer.node_id is not None:
                lines.append(f'id = "{peer.node_id.hex()}"')
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A basic string of TOML. JSON has the same escapes, but leaves one control character as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _rendezvous(reader: "TableReader", where: str) -> tuple[str, ...] | None:
    """The routers of the Mainline DHT, where the network uses it."""
    chosen, routers = reader.text("rendezvous"), reader.texts("rendezvous_routers")
    if chosen not in ("", MAINLINE):
        raise UsageError(f'{where}: rendezvous must be "{MAINLINE}", not {shown(chosen)}.')
    if routers and not chosen:
        raise UsageError(f'{where}: rendezvous_routers needs rendezvous = "{MAINLINE}".')
    if len(routers) > MAX_ROUTERS:
        raise UsageError(f"{where}: rendezvous_routers has {len(routers)} entries, but {MAX_ROUTERS} is the most.")
    for router in routers:
        if len(router.encode()) > MAX_ROUTER_BYTES:
            raise UsageError(f"{where}: rendezvous_routers: {shown(router)} has more than {MAX_ROUTER_BYTES} bytes.")
        try:
            split_host_port(router)
        except UsageError as error:
            raise UsageError(f"{where}: rendezvous_routers: {error}") from error
    return (routers or MAINLINE_ROUTERS) if chosen else None


def _peer(entry: Mapping[str, object], where: str) -> Peer:
    reader = TableReader(entry, f"{where}, [[peer]]")
    address = reader.text("address", required=True, longest=300)
    try:
        split_host_port(address)
    except UsageError as error:
        raise UsageError(f"{where}, [[peer]]: address: {error}") from error
    identifier = reader.text("id", longest=64)
    reader.finish()
    if not identifier:
        return Peer(address)
    try:
        raw = bytes.fromhex(identifier)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise UsageError(f"{where}, [[peer]]: id must be 64 hexadecimal digits, not {identifier!r}.")
    return Peer(address, NodeId(raw))


def split_host_port(text: str) -> tuple[str, int]:
    """`name:port`, `1.2.3.4:port` or `[::1]:port` as its two parts; `UsageError` for anything else."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    is_number = port.isascii() and port.isdigit() and len(port) <= MAX_PORT_DIGITS
    if not (colon and host and is_number and 0 < int(port) < 65536):
        raise UsageError(
            f"{shown(text)} is not an address; write HOST:PORT, as in 198.51.100.7:4750 or [2001:db8::7]:4750."
        )
    return host, int(port)


def parse_toml(content: bytes, where: str) -> dict[str, object]:
    """TOML with our own error."""
    if len(content) > MAX_FILE_BYTES:
        raise UsageError(f"{where} is larger than {MAX_FILE_BYTES} bytes.")
    try:
        return tomllib.loads(content.decode())
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise UsageError(f"{where} is not valid TOML: {error}.") from error
    except RecursionError as error:
        raise UsageError(f"{where} is not valid TOML: it is nested too deeply.") from error


def shown(value: object) -> str:
    """A wrong value for a message: escaped, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"


class TableReader:
    """Takes typed values out of a TOML table; what is left at `finish` is an unknown key and hence an error."""

    def __init__(self, table: Mapping[str, object], where: str) -> None:
        self._table = dict(table)
        self._known: list[str] = []
        self._where = where

    def _take(self, key: str) -> object:
        self._known.append(key)
        return self._table.pop(key, None)

    def _wrong(self, key: str, expected: str, value: object) -> UsageError:
        return UsageError(f"{self._where}: {key} must be {expected}, not {shown(value)}.")

    def text(self, key: str, *, required: bool = False, longest: int = 1000) -> str:
        """A string of at most `longest` bytes; empty where it is missing and not required."""
        value = self._take(key)
        if value is None and not required:
            return ""
        if not isinstance(value, str) or not value or len(value.encode()) > longest:
            raise self._wrong(key, f"a text of 1 to {longest} bytes", value)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self._take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "a list of texts", value)
        return tuple(value)

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number within bounds."""
        value = self._take(key)
        if value is None:
            return default
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(key, f"a whole number from {low} to {high}", value)
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def duration(self, key: str, default: float, low: float, high: float) -> float:
        """Seconds within bounds, written as a number with one of the units s, m, h, d, w."""
        value = self._take(key)
        if value is None:
            return default
        if isinstance(value, str) and value[-1:] in _UNITS:
            try:
                seconds = float(value[:-1]) * _UNITS[value[-1]]
            except ValueError:
                seconds = math.nan
            if low <= seconds <= high:
                return seconds
        raise self._wrong(key, f'a duration such as "24h" or "30s", from {low:g} to {high:g} seconds', value)

    def tables(self, key: str) -> list[Mapping[str, object]]:
        """An array of tables."""
        value = self._take(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong(key, f"written as [[{key}]] tables", value)
        return value

    def finish(self) -> None:
        """`UsageError` when the table holds a key that nobody asked for."""
        for key in self._table:
            raise UsageError(f"{self._where}: unknown key {shown(key)}; known keys are {', '.join(self._known)}.")
