"""NAT-PMP and PCP to the byte, after RFC 6886 and RFC 6887, and what hostile answers come to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.node.router import OtherVersion, RouterError, RouterRefused, natpmp, pcp
from shoal.node.router.transports import Transport

NONCE = bytes(range(12))
TRANSPORTS = st.sampled_from(list(Transport))
PORTS = st.integers(1, 65_535)


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


PMP_ADDRESS = raw("0080 0000 00000e10 cb007109")  # 203.0.113.9
PMP_PORT = raw("0081 0000 00000e10 128e 4e20 00000e10")  # UDP 4750 at 20000 for an hour
PCP_PORT = raw(
    "02 81 00 00 00000e10 00001c20 000000000000000000000000"
    "000102030405060708090a0b 11 000000 128e 4e20 00000000000000000000ffffcb007109"
)


def test_nat_pmp_to_the_byte() -> None:
    assert natpmp.ask_address() == raw("0000")
    assert natpmp.ask_port(Transport.UDP, 4750, 20_000, 3600) == raw("00 01 0000 128e 4e20 00000e10")
    assert natpmp.ask_port(Transport.TCP, 4750, 20_000, 0) == raw("00 02 0000 128e 0000 00000000")  # its end
    assert natpmp.read_address(PMP_ADDRESS) == "203.0.113.9"
    assert natpmp.read_port(PMP_PORT, Transport.UDP, 4750) == natpmp.MappedPort(4750, 20_000, 3600)


def test_pcp_to_the_byte() -> None:
    assert pcp.ask_port(NONCE, "192.168.1.20", Transport.UDP, 4750, 20_000, 3600) == raw(
        "02 01 0000 00000e10 00000000000000000000ffffc0a80114"
        "000102030405060708090a0b 11 000000 128e 4e20 00000000000000000000ffff00000000"
    )
    assert pcp.read_port(PCP_PORT, NONCE, Transport.UDP, 4750) == pcp.PcpMapping(4750, 20_000, "203.0.113.9", 3600)


@pytest.mark.parametrize(
    "answer",
    [
        raw("0081 0001 00000000"),
        raw("0080 0001 00000e10 00000000"),
        raw("0081 0001 00000e10 128e 4e20 00000e10"),
    ],
)
def test_a_router_that_speaks_another_version_says_so_in_its_own(answer: bytes) -> None:
    with pytest.raises(OtherVersion):
        natpmp.read_port(answer, Transport.UDP, 4750)
    with pytest.raises(OtherVersion):  # one that knows NAT-PMP alone answers a PCP request like this
        pcp.read_port(answer, NONCE, Transport.UDP, 4750)


def test_refusals_are_told_in_words() -> None:
    with pytest.raises(RouterRefused, match="switched off"):
        natpmp.read_port(raw("0081 0002 00000e10 128e 0000 00000000"), Transport.UDP, 4750)
    with pytest.raises(RouterRefused, match="reason 99"):
        natpmp.read_address(raw("0080 0063 00000e10 00000000"))
    with pytest.raises(RouterRefused, match="too many mappings"):
        pcp.read_port(PCP_PORT[:3] + b"\x0a" + PCP_PORT[4:], NONCE, Transport.UDP, 4750)


@pytest.mark.parametrize("bad", [b"", b"\0", PMP_PORT[:-1], PMP_PORT + b"\0", PMP_ADDRESS, b"\0\1" + PMP_PORT[2:]])
def test_what_is_no_answer_of_nat_pmp_is_an_error(bad: bytes) -> None:
    with pytest.raises(RouterError):
        natpmp.read_port(bad, Transport.UDP, 4750)


def test_an_answer_to_something_else_is_none() -> None:
    with pytest.raises(RouterError):
        natpmp.read_port(PMP_PORT, Transport.UDP, 4751)
    with pytest.raises(RouterError):
        natpmp.read_port(PMP_PORT, Transport.TCP, 4750)
    for nonce, transport, inner in (
        (bytes(12), Transport.UDP, 4750),
        (NONCE, Transport.TCP, 4750),
        (NONCE, Transport.UDP, 4751),
    ):
        with pytest.raises(RouterError):
            pcp.read_port(PCP_PORT, nonce, transport, inner)
    with pytest.raises(RouterError):  # a request that comes back
        pcp.read_port(b"\2\1" + PCP_PORT[2:], NONCE, Transport.UDP, 4750)


@given(st.binary(max_size=1200), TRANSPORTS, PORTS)
def test_any_bytes_are_an_answer_or_a_router_error(answer: bytes, transport: Transport, inner: int) -> None:
    for read in (
        lambda: natpmp.read_address(answer),
        lambda: natpmp.read_port(answer, transport, inner),
        lambda: pcp.read_port(answer, NONCE, transport, inner),
    ):
        try:
            read()
        except RouterError:
            continue


@given(st.integers(0, 59), st.integers(0, 255))
def test_a_changed_byte_never_shows_another_of_our_ports(place: int, value: int) -> None:
    answer = bytearray(PCP_PORT)
    answer[place] = value
    try:
        assert pcp.read_port(bytes(answer), NONCE, Transport.UDP, 4750).inner == 4750
    except RouterError:
        return
