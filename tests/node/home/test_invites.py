"""Invites: one way to write one, and every slip refused with a clear word."""

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import Address, Contact, NetworkParameters, NodeId, labelled_hash
from shoal.node.errors import UsageError
from shoal.node.home.invites import (
    ALPHABET,
    MAX_HOST_CHARS,
    MAX_PEERS,
    MAX_TEXT_CHARS,
    PEERS_CHOSEN,
    SCHEME,
    chosen_peers,
    invite_to,
    is_invite,
    parse_invite,
)
from shoal.node.home.network import MAINLINE_ROUTERS, Network, Peer

FIRST, SECOND = NodeId(bytes(range(32))), NodeId(bytes(range(32, 64)))
REEF = Network(
    NetworkParameters("reef", 8, True, 90.0),
    (Peer("192.168.1.20:4750", FIRST), Peer("[fd00::7]:4751"), Peer("reef.example.org:4750", SECOND)),
)
GOLDEN = (
    "shoal-net:aeeacaabl6iai4tfmvtahbaaaebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d7akqaiuckhan7iaaa"
    "aaaaaaaaaaaaaaaaaaabysr6acaijcemsckjrhfausukzmfuxc6mbrgiztinjwg44dsor3hq6t4pyvojswkzromv4gc3lqnrss43"
    "3sm45dinzvgbpsx66uh4uzq"
)


def changed(body: bytes) -> str:
    """An invite with a right checksum and any body."""
    data = body + labelled_hash("network invite checksum")(body)[:7]
    return SCHEME + base64.b32encode(data).decode().rstrip("=").lower()


def body_of(network: Network) -> bytes:
    part = invite_to(network).removeprefix(SCHEME).upper()
    return base64.b32decode(part + "=" * (-len(part) % 8))[:-7]


def complaint(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_invite(text)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 200
    return message


def test_the_golden_invite() -> None:
    assert invite_to(REEF) == GOLDEN
    assert parse_invite(GOLDEN) == REEF


def test_as_mail_brings_it() -> None:
    wrapped = f' "{GOLDEN[:30]}\r\n  {GOLDEN[30:90]}\n{GOLDEN[90:]}".\n'
    assert parse_invite(wrapped) == REEF
    assert is_invite(f" {GOLDEN}")
    assert not is_invite("network.toml")


hosts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda ip: f"[{ip}]"),
    st.from_regex(r"[a-z][a-z0-9.-]{0,40}", fullmatch=True),
)
peers = st.builds(
    lambda host, port, node_id: (f"{host}:{port}", node_id),
    hosts,
    st.integers(1, 65535),
    st.none() | st.binary(min_size=32, max_size=32).map(NodeId),
)


def usable(peer: tuple[str, NodeId | None]) -> bool:
    text = peer[0]
    return (not text[0].isdigit() and text[0] != "[") or Address.parse(text).is_usable


def as_peer(peer: tuple[str, NodeId | None]) -> Peer:
    """Addresses in their canonical form, as every reader of an invite gets them."""
    text, node_id = peer
    return Peer(text if text[0].isalpha() else str(Address.parse(text)), node_id)


networks = st.builds(
    Network,
    st.builds(
        NetworkParameters,
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=16),
        st.integers(0, 40),
        st.booleans(),
        st.integers(100, 30 * 86_400_000).map(lambda ms: ms / 1000),
    ),
    st.lists(peers.filter(usable).map(as_peer), max_size=MAX_PEERS).map(tuple),
    st.sampled_from([None, MAINLINE_ROUTERS, ("router.example.org:6881", "[fd00::9]:1")]),
)


@given(networks)
def test_what_was_invited_to_is_what_is_joined(network: Network) -> None:
    text = invite_to(network)
    assert len(text) <= MAX_TEXT_CHARS
    assert parse_invite(text) == network
    assert Network.parse(network.to_toml().encode(), "copy") == network


@given(st.data())
def test_one_wrong_character_is_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(len(SCHEME), len(GOLDEN) - 1))
    char = data.draw(st.sampled_from([*sorted(ALPHABET - {GOLDEN[at]}), "A", "0", "1"]))
    complaint(GOLDEN[:at] + char + GOLDEN[at + 1 :])


@given(st.integers(0, len(GOLDEN) - 1))
def test_a_part_of_one_is_refused(length: int) -> None:
    complaint(GOLDEN[:length])


@given(st.binary(max_size=80))
def test_no_bytes_make_the_parser_fail_otherwise(body: bytes) -> None:
    text = changed(b"\x01" + body)
    try:
        network = parse_invite(text)
    except UsageError:
        return
    assert invite_to(network) == text, "there is one way to write an invite"


@given(st.text(max_size=200))
def test_nothing_else_is_one(text: str) -> None:
    assert "not an invite" in complaint(text)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"\x02" + body_of(REEF)[1:], "newer version"),
        (b"\x01\x29" + body_of(REEF)[2:], "proof of work"),
        (b"\x01\x08\x80" + body_of(REEF)[3:], "newer version"),
        (b"\x01\x08\x03" + body_of(REEF)[3:], "ends in the middle"),
        (b"\x01\x08\x03" + body_of(REEF)[3:] + b"\x09", "number of routers"),
        (b"\x01\x08\x03" + body_of(REEF)[3:] + b"\x01\x03abc", "is not an address"),
        (b"\x01\x08\x01\x00\x00\x00\x01" + body_of(REEF)[7:], "epoch"),
        (b"\x01\x08\x01\x00\x01\x5f\x90\x00\x00", "names no network"),
        (b"\x01\x08\x01\x00\x01\x5f\x90\x01\xff\x00", "no text"),
        (b"\x01\x08\x01\x00\x01\x5f\x90\x01n\x09", "number of peers"),
        (b"\x01\x08\x01\x00\x01\x5f\x90\x01n\x01\x05", "kind of peer"),
        (b"\x01\x08\x01\x00\x01\x5f\x90\x01n\x01\x04\xe0\x00\x00\x01\x12\x8e", "nobody can have"),
        (b"\x01\x08\x01\x00\x01\x5f\x90\x01n\x01\x04\x0a", "ends in the middle"),
        (b"\x01\x08\x01\x00\x01\x5f\x90\x01n\x01\x00\x041234", "is not an address"),
        (b"\x01\x08\x01\x00\x01\x5f\x90\x01n\x01\x00\x0810.0.0.1:4750"[:23], "is not an address"),
        (b"\x01\x08\x01\x00\x01\x5f\x90\x01n\x01\x00\x0d10.0.0.1:4750", "another way"),
        (body_of(REEF) + b"\x00", "behind its end"),
    ],
)
def test_every_wrong_field_is_named(body: bytes, word: str) -> None:
    assert word in complaint(changed(body))


def test_the_usual_routers_of_the_mainline_dht_cost_one_byte() -> None:
    meeting = replace(REEF, rendezvous=MAINLINE_ROUTERS)
    assert len(body_of(meeting)) == len(body_of(REEF)) + 1
    assert parse_invite(invite_to(meeting)) == meeting


def test_what_no_invite_can_carry() -> None:
    with pytest.raises(UsageError, match="milliseconds"):
        invite_to(replace(REEF, parameters=NetworkParameters("reef", epoch_s=1.00005)))
    long = Peer("h" * MAX_HOST_CHARS + ":4750")
    assert parse_invite(invite_to(replace(REEF, peers=(long, *REEF.peers)))) == REEF, "it is left out"
    many = replace(REEF, peers=tuple(Peer(f"10.0.0.{n}:4750") for n in range(1, 20)))
    assert len(parse_invite(invite_to(many)).peers) == MAX_PEERS


def contact(host: str, number: int = 1) -> Contact:
    return Contact(NodeId(bytes([number]) * 32), Address(host, 4750))


def test_an_invite_names_distinct_places_and_nothing_that_only_this_machine_can_call() -> None:
    found = [contact("127.0.0.1"), contact("10.0.0.1"), contact("10.0.0.1", 2), contact("10.0.0.9", 3)]
    named = chosen_peers(found, (), private=True)
    assert [peer.address for peer in named] == ["10.0.0.1:4750", "10.0.0.9:4750", "10.0.0.1:4750"]
    listed = (Peer("10.0.0.1:4750"), Peer("127.0.0.1:9"), Peer("reef.example.org:1"))
    assert [peer.address for peer in chosen_peers(found[:2], listed, private=True)] == [
        "10.0.0.1:4750",
        "reef.example.org:1",
    ]
    assert chosen_peers(found[:1], listed[1:2], private=True)[0].address == "127.0.0.1:4750", "better than nobody"
    assert len(chosen_peers(found * 9, (), private=True)) == PEERS_CHOSEN
