"""Holder statements: only the holder makes them, only here, only for a while; other bytes are one error."""

import random
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import Address, Contact, Ed25519, Identity, NetworkParameters, NodeId, Reach, node_id_of
from shoal.erasure import FileId
from shoal.node.formats import MAX_STATEMENT_BYTES
from shoal.node.holders.statements import (
    LABEL,
    LIFETIME_S,
    MAX_SKEW_S,
    MAX_STATEMENTS,
    HolderStatement,
    MalformedStatement,
    StatementChecker,
    check_batch,
    check_statement,
    make_statement,
    newest_by_share,
    pack_statements,
    read_statement,
    unpack_statements,
)

SCHEME = Ed25519()
NETWORK_ID = b"\1\2\3\4\5\6\7\x08"
FILE_ID = FileId(bytes(range(32)))
NOW = 1_800_000_000.0
LEASE_END = int(NOW) + 90 * 86400
ADDRESS = Address.of("198.51.100.7", 4750)
HOLDER = Identity.restore(bytes(range(32)), bytes(8))
OTHER = Identity.restore(bytes(range(1, 33)), bytes(8))


def make(
    identity: Identity = HOLDER, *, share: int = 3, address: Address = ADDRESS, now: float = NOW
) -> HolderStatement:
    return make_statement(identity, NETWORK_ID, FILE_ID, share, Reach.of(address), LEASE_END, now)


def read(signed: bytes, *, network_id: bytes = NETWORK_ID, now: float = NOW) -> HolderStatement:
    return read_statement(signed, network_id, SCHEME, now)


def fields(**changes: Any) -> list[Any]:
    """The fields of a valid statement by name, some of them changed."""
    base = {
        "version": 2,
        "file_id": FILE_ID,
        "share": 3,
        "key": HOLDER.public_key,
        "nonce": HOLDER.id_nonce,
        "reach": Reach.of(ADDRESS).pack(),
        "lease": LEASE_END,
        "issued": int(NOW),
        "expires": int(NOW) + LIFETIME_S,
    }
    return list((base | changes).values())


def sign(
    values: Any,
    identity: Identity = HOLDER,
) -> bytes:
    body = msgpack.packb(values)
    packed: bytes = msgpack.packb([body, identity.sign(LABEL + NETWORK_ID + body)])
    return packed


addresses = st.builds(Address.of, st.ip_addresses().map(str), st.integers(1, 65535))


@given(st.integers(0, 255), addresses, st.integers(0, 2**40))
def test_what_was_made_is_read(share: int, address: Address, now: int) -> None:
    made = make(share=share, address=address, now=now)
    assert read(made.signed, now=now) == made
    assert len(made.signed) <= MAX_STATEMENT_BYTES
    assert made.node_id == HOLDER.node_id


def test_longest_statement_fits() -> None:
    address = Address.of("2001:db8::1", 65535)
    relays = tuple(Contact(NodeId(bytes([number]) * 32), address) for number in range(3))
    made = make_statement(HOLDER, NETWORK_ID, FILE_ID, 255, Reach((address,), relays), 2**53 - 1, 2**50)
    assert len(made.signed) < MAX_STATEMENT_BYTES
    assert read(made.signed, now=2.0**50) == made


def test_another_network_is_refused() -> None:
    with pytest.raises(MalformedStatement, match="signature"):
        read(make().signed, network_id=bytes(8))


@pytest.mark.parametrize("late_s", [-MAX_SKEW_S, 0, 86400, LIFETIME_S - 1])
def test_good_within_its_time(late_s: int) -> None:
    assert read(make().signed, now=NOW + late_s).issued == NOW


@pytest.mark.parametrize("late_s", [-MAX_SKEW_S - 1, LIFETIME_S, 10 * LIFETIME_S, -NOW])
def test_refused_outside_its_time(late_s: float) -> None:
    with pytest.raises(MalformedStatement, match="time"):
        read(make().signed, now=NOW + late_s)


def test_longer_than_a_week_is_refused_even_when_signed() -> None:
    read(sign(fields(expires=int(NOW) + LIFETIME_S)))
    with pytest.raises(MalformedStatement, match="range"):
        read(sign(fields(expires=int(NOW) + LIFETIME_S + 1)))


def test_nobody_speaks_for_another() -> None:
    with pytest.raises(MalformedStatement, match="signature"):
        read(sign(fields(), identity=OTHER))
    stolen = read(sign(fields(nonce=b"another!")))
    assert stolen.node_id == node_id_of(HOLDER.public_key, b"another!")
    assert stolen.node_id != HOLDER.node_id


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 1},
        {"version": 3},
        {"version": None},
        {"version": b"1"},
        {"file_id": bytes(31)},
        {"file_id": "text"},
        {"share": -1},
        {"share": 256},
        {"share": True},
        {"share": 1.0},
        {"key": bytes(31)},
        {"nonce": bytes(9)},
        {"reach": b""},
        {"reach": ADDRESS.pack()},
        {"reach": bytes([1, 1, 18]) + bytes(10) + b"\xff\xff" + bytes(6)},
        {"lease": -1},
        {"lease": 2**53},
        {"issued": -1},
        {"issued": int(NOW) + LIFETIME_S},
        {"expires": 0},
        {"expires": None},
    ],
)
def test_signed_nonsense_is_refused(changes: dict[str, str | bytes | float | None]) -> None:
    with pytest.raises(MalformedStatement):
        read(sign(fields(**changes)))


def test_later_versions_may_add_fields() -> None:
    assert read(sign([*fields(), "later", 7])).share == 3


@given(st.data())
def test_mutated_bytes_never_crash_and_never_pass(data: st.DataObject) -> None:
    signed = bytearray(make().signed)
    for _ in range(data.draw(st.integers(1, 4))):
        signed[data.draw(st.integers(0, len(signed) - 1))] = data.draw(st.integers(0, 255))
    mutated = bytes(signed[: data.draw(st.integers(0, len(signed)))])
    try:
        statement = read(mutated)
    except MalformedStatement:
        return
    assert replace(statement, signed=b"") == replace(make(), signed=b""), "only the envelope may be written otherwise"


@given(st.binary(max_size=MAX_STATEMENT_BYTES + 10))
def test_garbage_is_one_error(data: bytes) -> None:
    with pytest.raises(MalformedStatement):
        read(data)


@given(st.recursive(st.none() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text(), st.lists, max_leaves=12))
def test_signed_garbage_is_one_error(
    value: list[bytes | list[int | str | list[bytes | None] | None] | None] | None,
) -> None:
    with pytest.raises(MalformedStatement):
        read(sign(value))


def test_over_long_is_refused_before_parsing() -> None:
    with pytest.raises(MalformedStatement, match="too long"):
        read(sign([*fields(), bytes(MAX_STATEMENT_BYTES)]))


# --- lists


def test_lists_round_trip() -> None:
    signed = [make(share=share).signed for share in range(5)]
    assert unpack_statements(pack_statements(signed)) == signed
    assert unpack_statements(pack_statements([])) == []


def test_lists_are_cut_at_the_limit() -> None:
    packed = pack_statements([b"x"] * (MAX_STATEMENTS + 5))
    assert len(unpack_statements(packed)) == MAX_STATEMENTS


@pytest.mark.parametrize("value", [None, 7, {}, "text", [1], [b"a", "b"], [[]], [b""] * (MAX_STATEMENTS + 1)])
def test_lists_of_something_else_are_refused(
    value: int | str | dict[Any, Any] | list[int | str | bytes | list[Any]] | None,
) -> None:
    with pytest.raises(MalformedStatement):
        unpack_statements(msgpack.packb(value))


@given(st.binary(max_size=100))
def test_garbage_lists_are_one_error(data: bytes) -> None:
    try:
        items = unpack_statements(data)
    except MalformedStatement:
        return
    assert all(isinstance(item, bytes) for item in items)


@given(st.permutations([(0, 5), (0, 9), (0, 7), (1, 1)]))
def test_the_newest_statement_of_each_holder_counts(order: list[tuple[int, int]]) -> None:
    made = [make(share=share, now=NOW + later) for share, later in order]
    made.append(make(OTHER, share=0))
    newest = newest_by_share(made)
    assert {key: each.issued - NOW for key, each in newest.items()} == {
        (0, HOLDER.node_id): 9,
        (1, HOLDER.node_id): 1,
        (0, OTHER.node_id): 0,
    }
    assert all(isinstance(each, HolderStatement) for each in newest.values())


PUBLIC = NetworkParameters("shoal", pow_bits=8)


@pytest.mark.parametrize("text", ["127.0.0.1:4750", "10.1.2.3:4750", "[fe80::1]:4750", "198.51.100.7:4750"])
def test_in_a_public_network_nobody_holds_at_a_private_address(text: str) -> None:
    identity = Identity.create(PUBLIC.pow_bits, random.Random(1).randbytes)
    address = Address.parse(text)
    signed = make_statement(identity, PUBLIC.network_id, FILE_ID, 3, Reach.of(address), LEASE_END, NOW).signed
    with pytest.raises(MalformedStatement, match="reached"):
        check_statement(signed, PUBLIC, SCHEME, NOW)
    home = NetworkParameters("shoal", pow_bits=8, private=True)
    signed = make_statement(identity, home.network_id, FILE_ID, 3, Reach.of(address), LEASE_END, NOW).signed
    assert check_statement(signed, home, SCHEME, NOW).address == address


def test_a_throw_away_identity_holds_nothing() -> None:
    address = Address.parse("8.8.8.8:4750")
    worker = Identity.create(PUBLIC.pow_bits, random.Random(1).randbytes)
    signed = make_statement(worker, PUBLIC.network_id, FILE_ID, 3, Reach.of(address), LEASE_END, NOW).signed
    assert check_statement(signed, PUBLIC, SCHEME, NOW).node_id == worker.node_id
    signed = make_statement(HOLDER, PUBLIC.network_id, FILE_ID, 3, Reach.of(address), LEASE_END, NOW).signed
    with pytest.raises(MalformedStatement, match="proof of work"):
        check_statement(signed, PUBLIC, SCHEME, NOW)


def test_a_checker_checks_a_signature_once_and_the_times_always() -> None:
    class Counting(Ed25519):
        checks = 0

        def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
            self.checks += 1
            return super().verify(public_key, message, signature)

    network = NetworkParameters("remembered", pow_bits=0, private=True)
    signed = make_statement(HOLDER, network.network_id, FILE_ID, 3, Reach.of(ADDRESS), LEASE_END, NOW).signed
    scheme = Counting()
    checker = StatementChecker(network, scheme)
    assert (
        checker.check(signed, NOW) == checker.check(signed, NOW + 60) == check_statement(signed, network, SCHEME, NOW)
    )
    assert scheme.checks == 1
    for outside in (NOW - MAX_SKEW_S - 60, NOW + LIFETIME_S):
        with pytest.raises(MalformedStatement, match="time"):
            checker.check(signed, outside)
    with pytest.raises(MalformedStatement):
        checker.check(signed[:-1] + bytes([signed[-1] ^ 1]), NOW)


class CountingScheme(Ed25519):
    """Counts the signatures that are checked: they are what costs."""

    def __init__(self) -> None:
        self.checked = 0

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        self.checked += 1
        return super().verify(public_key, message, signature)


def checked(batch: list[bytes], scheme: CountingScheme, *, pow_bits: int = 0) -> list[HolderStatement]:
    network = NetworkParameters("batches", pow_bits, True)
    return check_batch(batch, FILE_ID, lambda item: check_statement(item, network, scheme, NOW))


def of_batch(share: int, *, file_id: FileId = FILE_ID, now: float = NOW) -> bytes:
    network = NetworkParameters("batches", 0, True)
    return make_statement(HOLDER, network.network_id, file_id, share, Reach.of(ADDRESS), LEASE_END, now).signed


def forged_of_batch(share: int) -> bytes:
    body, signature = msgpack.unpackb(of_batch(share))
    packed: bytes = msgpack.packb([body, signature[:40] + bytes([signature[40] ^ 1]) + signature[41:]])
    return packed


def test_a_batch_of_junk_costs_one_signature() -> None:
    scheme = CountingScheme()
    with pytest.raises(MalformedStatement, match="signature"):
        checked([forged_of_batch(share) for share in range(256)] * 4, scheme)
    assert scheme.checked == 1


@pytest.mark.parametrize(
    "junk", [b"", bytes(200), of_batch(1, file_id=FileId(bytes(32)))], ids=["empty", "noise", "another file"]
)
def test_what_no_honest_peer_hands_on_ends_a_batch_before_any_signature(junk: bytes) -> None:
    scheme = CountingScheme()
    with pytest.raises(MalformedStatement):
        checked([junk] * 1024, scheme)
    assert scheme.checked == 0


def test_a_signer_without_proof_of_work_costs_no_signature() -> None:
    scheme = CountingScheme()
    with pytest.raises(MalformedStatement, match="proof"):
        checked([of_batch(share) for share in range(256)], scheme, pow_bits=64)
    assert scheme.checked == 0


def test_old_and_later_statements_do_not_end_a_batch() -> None:
    """Honest peers hand them on: their clocks differ, and so do their versions."""
    scheme = CountingScheme()
    body, signature = msgpack.unpackb(of_batch(4))
    later = msgpack.packb([msgpack.packb([3, *msgpack.unpackb(body)[1:]]), signature])
    fields_of_1 = [1, *msgpack.unpackb(body)[1:5], ADDRESS.pack(), *msgpack.unpackb(body)[6:]]
    earlier = msgpack.packb([msgpack.packb(fields_of_1), signature])  # as an old store may have it
    batch = [of_batch(1), of_batch(2, now=NOW - 2 * LIFETIME_S), of_batch(3, now=NOW + 86400), later, earlier]
    batch.append(of_batch(5))
    assert [each.share for each in checked(batch, scheme)] == [1, 5]
    assert scheme.checked == 2
