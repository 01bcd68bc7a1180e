"""Network files: read strictly, and every message names the file and the key that is wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import NetworkParameters, NodeId
from shoal.node.errors import UsageError
from shoal.node.home.network import MAINLINE_ROUTERS, MAX_FILE_BYTES, Network, Peer, split_host_port

WHOLE = """
network = "reef"
pow_bits = 8
private = true
epoch = "90s"

[[peer]]
address = "198.51.100.7:4750"

[[peer]]
address = "[2001:db8::7]:4750"
id = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"

[[peer]]
address = "reef.example.org:4750"
"""


def parse(text: str | bytes) -> Network:
    return Network.parse(text.encode() if isinstance(text, str) else text, "reef.toml")


def complaint(text: str | bytes) -> str:
    with pytest.raises(UsageError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith("reef.toml")
    assert message.isprintable()
    assert len(message) < 400
    return message


def test_a_whole_file() -> None:
    node_id = NodeId(bytes.fromhex("00112233445566778899aabbccddeeff") * 2)
    assert parse(WHOLE) == Network(
        NetworkParameters("reef", 8, True, 90.0),
        (Peer("198.51.100.7:4750"), Peer("[2001:db8::7]:4750", node_id), Peer("reef.example.org:4750")),
    )


def test_all_but_the_name_has_a_default() -> None:
    assert parse('network = "n"') == Network(NetworkParameters("n", 20, False, 86400.0))


def test_a_rendezvous_is_off_unless_the_file_says_so() -> None:
    assert parse('network = "n"').rendezvous is None
    assert parse('network = "n"\nrendezvous = "mainline"').rendezvous == MAINLINE_ROUTERS
    own = 'network = "n"\nprivate = true\nrendezvous = "mainline"\nrendezvous_routers = ["a.example:1", "[fd00::1]:2"]'
    assert parse(own).rendezvous == ("a.example:1", "[fd00::1]:2")
    assert Network.load().rendezvous is None


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ('rendezvous = "tracker"', 'must be "mainline"'),
        ("rendezvous = true", "rendezvous"),
        ('rendezvous_routers = ["a:1"]', "needs rendezvous"),
        ('rendezvous = "mainline"\nrendezvous_routers = ["a"]', "is not an address"),
        (f'rendezvous = "mainline"\nrendezvous_routers = ["{"a" * 99}:1"]', "more than 100 bytes"),
        (f'rendezvous = "mainline"\nrendezvous_routers = {["a:1"] * 9}', "8 is the most"),
    ],
)
def test_a_wrong_rendezvous_is_named(lines: str, word: str) -> None:
    assert word in complaint(f'network = "n"\n{lines}')


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("0.5s", 0.5), ("90m", 5400), ("12h", 43200), ("2w", 1209600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse(f'network = "n"\nepoch = "{text}"').parameters.epoch_s == seconds


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("network = 7", "network"),
        ('network = ""', "network"),
        (f'network = "{"n" * 65}"', "network"),
        (f'network = "{"é" * 33}"', "network"),
        ("pow_bits = -1", "pow_bits"),
        ("pow_bits = 41", "pow_bits"),
        ("pow_bits = true", "pow_bits"),
        ("pow_bits = 20.0", "pow_bits"),
        ('pow_bits = "20"', "pow_bits"),
        ("private = 1", "private"),
        ('private = "yes"', "private"),
        ("epoch = 24", "epoch"),
        ('epoch = "24"', "epoch"),
        ('epoch = "h"', "epoch"),
        ('epoch = "0s"', "epoch"),
        ('epoch = "0.000001s"', "epoch"),
        ('epoch = "5w"', "epoch"),
        (f"pow_bits = {'9' * 5_000}", "valid TOML"),
        ('epoch = "-1h"', "epoch"),
        ('epoch = "nanh"', "epoch"),
        ('epoch = "infs"', "epoch"),
        ('epoch = "1y"', "epoch"),
        (f'epoch = "{"9" * 100_000}"', "epoch"),
        ("peer = 7", "peer"),
        ("peer = [7]", "peer"),
        ("peers = []", "'peers'"),
        ('"\\u001b[31m" = 1', "x1b"),
        (f"{'k' * 100_000} = 1", "unknown key"),
    ],
)
def test_a_wrong_value_is_named(line: str, key: str) -> None:
    name = "" if line.startswith("network") else 'network = "n"\n'
    assert key in complaint(name + line)


def test_an_unknown_key_comes_with_the_known_ones() -> None:
    message = complaint('network = "n"\nbootstrap = []')
    assert "'bootstrap'" in message
    assert "network, pow_bits, private, epoch, peer" in message


def test_the_name_is_required() -> None:
    assert "network" in complaint("pow_bits = 3")


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("", "address"),
        ("address = 7", "address"),
        ('address = "nowhere"', "address"),
        ('address = "1.2.3.4:0"', "address"),
        (f'address = "{"h" * 301}:1"', "address"),
        ('address = "h:1"\nid = "00"', "id"),
        ('address = "h:1"\nid = "zz"', "id"),
        (f'address = "h:1"\nid = "{"0" * 65}"', "id"),
        ('address = "h:1"\nport = 7', "'port'"),
    ],
)
def test_a_wrong_peer_is_named(lines: str, key: str) -> None:
    message = complaint(f'network = "n"\n[[peer]]\n{lines}')
    assert "[[peer]]" in message
    assert key in message


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"network", b'network = "n"\nnetwork = "m"', b"a = " + b"[" * 50_000, b" " * (MAX_FILE_BYTES + 1)],
)
def test_what_is_not_toml_is_one_error(content: bytes) -> None:
    complaint(content)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_no_bytes_crash_the_parser(content: str | bytes) -> None:
    try:
        parse(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    except UsageError:
        return


# --- files


def test_the_shipped_file_is_valid() -> None:
    shipped = Network.load()
    assert (shipped.parameters.pow_bits, shipped.parameters.private) == (20, False)


def test_load_reads_a_file(tmp_path: Path) -> None:
    (tmp_path / "net.toml").write_text(WHOLE)
    assert Network.load(tmp_path / "net.toml") == parse(WHOLE)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path, tmp_path / "missing" / "net.toml"):
        with pytest.raises(UsageError, match=path.name):
            Network.load(path)


# --- addresses


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1.2.3.4:80", ("1.2.3.4", 80)),
        ("[::1]:80", ("::1", 80)),
        ("host.example:65535", ("host.example", 65535)),
    ],
)
def test_host_and_port(text: str, parts: tuple[str, int]) -> None:
    assert split_host_port(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "host",
        "host:",
        ":80",
        "host:0",
        "host:65536",
        "host:-1",
        "host:8O",
        "host:٨",
        "::1:80",
        "[]:80",
        "h:" + "9" * 5000,
    ],
)
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        split_host_port(text)
