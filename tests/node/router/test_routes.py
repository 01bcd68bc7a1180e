"""The default gateway out of what Linux tells."""

from hypothesis import given
from hypothesis import strategies as st

from shoal.node.router.routes import default_gateways, default_ipv6_gateways

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def line(to: str, gateway: str, flags: str, metric: int, mask: str) -> str:
    return f"eth0\t{to}\t{gateway}\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n"


def test_gateways_are_sorted_by_metric_and_other_routes_are_no_gateways() -> None:
    text = (
        HEAD
        + line("00000000", "0101A8C0", "0003", 600, "00000000")
        + line("00000000", "FE0AA8C0", "0003", 100, "00000000")
        + line("00000000", "FE0AA8C0", "0003", 700, "00000000")  # told once
        + line("00000000", "00000000", "0001", 0, "00000000")  # a route without a gateway
        + line("00000000", "030AA8C0", "0002", 0, "00000000")  # one that is down
        + line("0000000A", "020AA8C0", "0003", 0, "000000FF")  # to one network only
        + line("00000000", "020AA8C0", "0003", 0, "00000080")  # to half of the internet: a VPN
    )
    assert default_gateways(text) == ["192.168.10.254", "192.168.1.1"]
    assert default_gateways("") == []


def line6(to: str, bits: str, gateway: str, metric: str, flags: str, interface: str) -> str:
    return f"{to} {bits} {'0' * 32} 00 {gateway} {metric} 00000001 00000000 {flags} {interface:>8}\n"


def test_gateways_by_ipv6_come_with_their_interface() -> None:
    nowhere, near, far = "0" * 32, "fe80" + "0" * 26 + "ab", "2a05" + "0" * 27 + "1"
    text = (
        line6(nowhere, "00", near, "00000400", "00000003", "wlan0")
        + line6(nowhere, "00", far, "00000064", "00000003", "eth0")
        + line6(nowhere, "00", nowhere, "ffffffff", "00200200", "lo")  # no way
        + line6("2a05" + "0" * 28, "20", near, "00000001", "00000003", "eth0")  # to one network only
    )
    assert default_ipv6_gateways(text) == ["2a05::1", "fe80::ab%wlan0"]
    assert default_ipv6_gateways("") == []


@given(st.text(alphabet="0123456789ABCDEFeth\t\n x", max_size=300))
def test_whatever_it_says_gives_a_list(text: str) -> None:
    default_gateways(HEAD + text)
    default_ipv6_gateways(text)
