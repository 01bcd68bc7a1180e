"""Addresses: one canonical form, and what counts as public or as one host."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import Address, AddressError, Contact, NetworkParameters, NodeId, ProtocolError, space_class

hosts = st.ip_addresses().map(str)
ports = st.integers(0, 65535)


@given(hosts, ports)
def test_text_and_bytes_round_trip(host: str, port: int) -> None:
    address = Address.of(host, port)
    assert Address.parse(str(address)) == address
    assert Address.unpack(address.pack()) == address
    assert len(address.pack()) == (18 if address.is_ipv6 else 6)


@given(st.text(max_size=80))
def test_any_text_parses_or_raises_address_error(text: Any) -> None:
    try:
        address = Address.parse(text)
    except AddressError:
        return
    assert Address.parse(str(address)) == address


@given(st.binary(max_size=24))
def test_any_bytes_unpack_or_raise_address_error(data: bytes) -> None:
    try:
        address = Address.unpack(data)
    except AddressError:
        return
    assert address.pack() == data


def test_mapped_ipv4_is_ipv4() -> None:
    assert Address.parse("[::ffff:192.0.2.1]:80") == Address("192.0.2.1", 80)
    with pytest.raises(AddressError):
        Address.unpack(ipaddress.ip_address("::ffff:192.0.2.1").packed + b"\0\x50")


@pytest.mark.parametrize(
    "text",
    ["", "1.2.3.4", "1.2.3.4:", ":80", "1.2.3.4:65536", "1.2.3.4:-1", "::1:80", "[::1]", "[1.2.3.4]:80",
     "[fe80::1%eth0]:80", "example.org:80", "1.2.3.4:8²", "1.2.3:80", "01.2.3.4:80", "1.2.3.4:" + "0" * 99 + "80"],
)  # fmt: skip
def test_bad_text_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "public"),
    [("8.8.8.8:53", True), ("8.8.8.8:0", False), ("10.0.0.1:1", False), ("192.168.1.1:1", False),
     ("127.0.0.1:1", False), ("169.254.1.1:1", False), ("100.64.0.1:1", False), ("224.0.0.1:1", False),
     ("0.0.0.0:1", False), ("255.255.255.255:1", False), ("192.0.2.1:1", False), ("[2a00:1450::1]:1", True),
     ("[::1]:1", False), ("[fe80::1]:1", False), ("[fc00::1]:1", False), ("[ff02::1]:1", False),
     ("[2002:0a00:0001::1]:1", False), ("[64:ff9b::a00:1]:1", False), ("[2001:db8::1]:1", False)],
)  # fmt: skip
def test_public_addresses(text: str, public: bool) -> None:
    address = Address.parse(text)
    assert address.is_public is public
    assert NetworkParameters("x", private=False).allows(address) is public


def test_private_networks_allow_what_can_be_sent_to() -> None:
    private = NetworkParameters("x", private=True)
    assert private.allows(Address("127.0.0.1", 1))
    assert private.allows(Address("::1", 1))
    for text in ("127.0.0.1:0", "0.0.0.0:1", "[::]:1", "224.0.0.1:1", "255.255.255.255:1"):
        assert not private.allows(Address.parse(text))


def test_prefixes_and_hosts() -> None:
    one, near, far = (Address.of(host, 1) for host in ("192.0.2.1", "192.0.2.99", "192.0.9.1"))
    assert one.prefix() == near.prefix() != far.prefix()
    assert one.wide_prefix() == far.wide_prefix()
    assert one.host_key() != near.host_key()
    six, same_host, same_site = (Address.of(h, 1) for h in ("2001:db8:1:2::1", "2001:db8:1:2::9", "2001:db8:1:3::"))
    assert six.host_key() == same_host.host_key() != same_site.host_key()
    assert six.prefix() == same_site.prefix()
    assert six.wide_prefix() == Address.of("2001:db8:ffff::", 1).wide_prefix()


@given(st.binary(min_size=32, max_size=32), hosts, ports)
def test_contacts_round_trip_and_ignore_space(node_id: bytes, host: str, port: int) -> None:
    contact = Contact(NodeId(node_id), Address.of(host, port), space=7)
    assert Contact.unpack(contact.pack()) == contact == Contact(NodeId(node_id), contact.address, space=9)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_contact_or_a_protocol_error(data: bytes) -> None:
    try:
        contact = Contact.unpack(data)
    except ProtocolError:
        return
    assert contact.pack() == data


def test_space_classes() -> None:
    assert [space_class(size) for size in (-5, 0, 1, 2, 3, 4, 1023, 1024, 2**70)] == [0, 0, 0, 1, 1, 2, 9, 10, 63]


@pytest.mark.parametrize(
    ("one", "other", "is_one_publicly", "is_one_privately"),
    [
        ("20.1.1.1", "20.1.1.2", True, False),
        ("10.0.0.1", "10.0.0.1", True, True),
        ("2a00:1:1:1::1", "2a00:1:1:1::2", True, True),
        ("2a00:1:1:1::1", "2a00:1:1:2::1", True, True),  # one customer has 65,536 of these
        ("2a00:1:1:1::1", "2a00:1:2:1::1", False, False),
        ("fd00::1:0:0:0:1", "fd00::2:0:0:0:1", True, False),  # the network's own
        ("fd00::1", "fd00::2", True, True),
        ("fe80::1", "fe80::1:0:0:0:1", True, False),
        ("::1", "::1", True, True),
    ],
)
def test_what_tables_count_as_one_place(one: str, other: str, is_one_publicly: bool, is_one_privately: bool) -> None:
    first, second = Address.of(one, 1), Address.of(other, 2)
    assert (first.place(private=False) == second.place(private=False)) is is_one_publicly
    assert (first.place(private=True) == second.place(private=True)) is is_one_privately
