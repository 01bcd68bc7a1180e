"""Holder statements: "I, this node, reached like this, keep share i of file F until then", signed by the holder itself.

Only a holder can make one, so nobody can claim a share in another's name; a union of valid statements is the list of a
file's holders. Format: docs/format.md, "Holder statements".
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable

import msgpack

from shoal.dht import (
    Address,
    Contact,
    Identity,
    NetworkParameters,
    NodeId,
    ProtocolError,
    Reach,
    SignatureScheme,
    has_proof,
    node_id_of,
)
from shoal.erasure import FileId
from shoal.node.formats import MAX_STATEMENT_BYTES, unpack
from shoal.values import dataclass

VERSION = 2
LABEL = b"shoal/1 holder statement"
LIFETIME_S = 7 * 86400  # a holder that is gone is forgotten within a week; holders renew theirs well before
MAX_SKEW_S = 2 * 3600  # how far ahead of our clock a peer's may be
MAX_STATEMENTS = 1024  # 256 shares, 4 statements each
MAX_REMEMBERED = 4096  # a signature costs 0.1 ms to check, and each statement is met some ten times


class MalformedStatement(Exception):
    """Not a holder statement, or not a valid one here and now."""


class NotNow(MalformedStatement):
    """A statement that is out of its time, or of another version. An honest peer may hand it on; no other that is not
    valid, since it checks what it keeps.
    """


@dataclass(frozen=True, slots=True)
class HolderStatement:
    """A valid statement. Times are whole seconds since the epoch; `signed` is its bytes on the wire."""

    file_id: FileId
    share: int
    node_id: NodeId
    reach: Reach
    lease_end: int
    issued: int
    expires: int
    signed: bytes

    @property
    def contact(self) -> Contact:
        """The holder as somebody to call."""
        return self.reach.contact(self.node_id)

    @property
    def address(self) -> Address:
        """The place that the holder counts for: its address, or that of its first relay."""
        return self.reach.where


def make_statement(
    identity: Identity,
    network_id: bytes,
    file_id: FileId,
    share: int,
    reach: Reach,
    lease_end: int,
    now: float,
) -> HolderStatement:
    """A fresh statement of our own."""
    issued = int(now)
    fields = [
        VERSION,
        file_id,
        share,
        identity.public_key,
        identity.id_nonce,
        reach.pack(),
        lease_end,
        issued,
        issued + LIFETIME_S,
    ]
    body = msgpack.packb(fields, use_bin_type=True)
    signed = msgpack.packb([body, identity.sign(_message(network_id, body))], use_bin_type=True)
    return HolderStatement(file_id, share, identity.node_id, reach, lease_end, issued, issued + LIFETIME_S, signed)


def check_statement(signed: bytes, network: NetworkParameters, scheme: SignatureScheme, now: float) -> HolderStatement:
    """`read_statement`, and whether its signer can be a holder of this network: its ways, its proof of work.

    The signature comes last, because it costs most. Raises MalformedStatement.
    """
    body, signature = _envelope(signed)
    statement, public_key = _fields(body, signed)
    if not _is_timely(statement, now):
        raise NotNow("outside its time")
    if not statement.reach.allowed_in(network):
        raise MalformedStatement("no holder of this network can be reached like that")
    if not has_proof(statement.node_id, network.pow_bits):
        raise MalformedStatement("its signer has no proof of work")
    if not scheme.verify(public_key, _message(network.network_id, body), signature):
        raise MalformedStatement("its signature is wrong")
    return statement


def check_batch(
    signed: Iterable[bytes], file_id: FileId, check: Callable[[bytes], HolderStatement]
) -> list[HolderStatement]:
    """Those of a peer's statements on one file that are valid now, as `check` finds them. Blocking.

    Raises MalformedStatement at the first that no honest peer hands on: so a batch of junk costs one signature.
    """
    valid = []
    for item in signed:
        try:
            if unchecked_statement(item).file_id != file_id:
                raise MalformedStatement("it is about another file")
            valid.append(check(item))
        except NotNow:
            continue
    return valid


class StatementChecker:
    """`check_statement` that remembers: holders tell each other the same statements again and again.

    Thread-safe, and bounded to `MAX_REMEMBERED` statements of some hundred bytes.
    """

    def __init__(self, network: NetworkParameters, scheme: SignatureScheme) -> None:
        self._network = network
        self._scheme = scheme
        self._good: OrderedDict[bytes, HolderStatement] = OrderedDict()  # a plain dict is slow to give up its oldest
        self._lock = threading.Lock()

    def check(self, signed: bytes, now: float) -> HolderStatement:
        """As `check_statement`. Only its times are looked at when it was good before. MalformedStatement."""
        known = self._good.get(signed)
        if known is not None:
            if not _is_timely(known, now):
                raise NotNow("outside its time")
            return known
        statement = check_statement(signed, self._network, self._scheme, now)
        with self._lock:
            self._good[signed] = statement
            while len(self._good) > MAX_REMEMBERED:
                self._good.popitem(last=False)
        return statement


def read_statement(signed: bytes, network_id: bytes, scheme: SignatureScheme, now: float) -> HolderStatement:
    """What a statement proves by itself: form, signature, times. `MalformedStatement` says what is wrong with it."""
    body, signature = _envelope(signed)
    statement, public_key = _fields(body, signed)
    if not _is_timely(statement, now):
        raise NotNow("outside its time")
    if not scheme.verify(public_key, _message(network_id, body), signature):
        raise MalformedStatement("its signature is wrong")
    return statement


def unchecked_statement(signed: bytes) -> HolderStatement:
    """What a statement says; for those alone that were checked when they came. `MalformedStatement`."""
    body, _ = _envelope(signed)
    statement, _ = _fields(body, signed)
    return statement


def newest_by_share(statements: Iterable[HolderStatement]) -> dict[tuple[int, NodeId], HolderStatement]:
    """The latest statement of each holder on each share."""
    newest: dict[tuple[int, NodeId], HolderStatement] = {}
    for statement in statements:
        key = (statement.share, statement.node_id)
        if key not in newest or newest[key].issued < statement.issued:
            newest[key] = statement
    return newest


def pack_statements(statements: Iterable[bytes]) -> bytes:
    """Many statements as one payload."""
    packed: bytes = msgpack.packb(list(statements)[:MAX_STATEMENTS], use_bin_type=True)
    return packed


def unpack_statements(payload: bytes) -> list[bytes]:
    """The statements of a payload, still unchecked; `MalformedStatement` where it is not a list of byte strings."""
    items = _unpack(payload, MAX_STATEMENTS)
    if not all(isinstance(item, bytes) for item in items):
        raise MalformedStatement("a list of statements holds something else")
    return [item for item in items if isinstance(item, bytes)]


def _is_timely(statement: HolderStatement, now: float) -> bool:
    return statement.issued - MAX_SKEW_S <= now < statement.expires


def _message(network_id: bytes, body: bytes) -> bytes:
    return LABEL + network_id + body


def _unpack(data: bytes, longest: int) -> list[object]:
    value = unpack(data, MalformedStatement, most_items=longest)
    if not isinstance(value, list):
        raise MalformedStatement("not an array")
    return value


def _envelope(signed: bytes) -> tuple[bytes, bytes]:
    if len(signed) > MAX_STATEMENT_BYTES:
        raise MalformedStatement("too long")
    match _unpack(signed, 2):
        case [bytes(body), bytes(signature)] if len(signature) == 64:
            return body, signature
    raise MalformedStatement("not a body and a signature")


def _fields(body: bytes, signed: bytes) -> tuple[HolderStatement, bytes]:
    match _unpack(body, 16):
        case [
            2,
            bytes(file_id),
            int(share),
            bytes(key),
            bytes(nonce),
            bytes(packed),
            int(lease),
            int(issued),
            int(ends),
            *_,
        ]:
            pass
        case [int(version), *_] if version != VERSION:
            raise NotNow("of another version")
        case _:
            raise MalformedStatement("not the fields of a statement")
    if not (
        len(file_id) == 32
        and 0 <= share < 256
        and type(share) is int
        and len(key) == 32
        and len(nonce) == 8
        and 0 <= issued < ends <= issued + LIFETIME_S
        and 0 <= lease < 2**53
    ):
        raise MalformedStatement("a field is out of range")
    try:
        reach = Reach.unpack(packed)
    except ProtocolError as error:
        raise MalformedStatement("no way to its signer") from error
    return HolderStatement(FileId(file_id), share, node_id_of(key, nonce), reach, lease, issued, ends, signed), key
