"""A volunteer's settings and identity: strict, private, made once."""

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.dht import Address, NetworkParameters, NodeId, has_proof
from shoal.node.errors import AlreadyRunning, LocalError, UsageError
from shoal.node.home.contacts import ContactCache
from shoal.node.home.daemon import read_note
from shoal.node.home.home import Home
from shoal.node.home.joined import remember_network
from shoal.node.home.settings import NodeSettings, init_node, load_identity, load_settings

NETWORK = NetworkParameters("test", pow_bits=4)
SETTINGS = NodeSettings(10**9, 10**8, (Address.of("127.0.0.1", 0),), (Address.of("198.51.100.7", 4750),), 2000, None)

addresses = st.lists(st.builds(Address.of, st.ip_addresses().map(str), st.integers(0, 65535)), max_size=4).map(tuple)
rates = st.none() | st.integers(1, 2**50)


def parse(text: str) -> NodeSettings:
    return NodeSettings.parse(text.encode(), "config.toml")


@given(
    st.builds(
        NodeSettings,
        capacity_bytes=st.integers(0, 2**60),
        reserve_bytes=st.integers(0, 2**60),
        listen=addresses.filter(bool),
        advertise=addresses,
        up_bytes_per_s=rates,
        down_bytes_per_s=rates,
        lan=st.booleans(),
    )
)
def test_what_is_written_is_read(settings: NodeSettings) -> None:
    assert parse(settings.to_toml()) == settings


@pytest.mark.parametrize(
    "changes",
    [{"capacity_bytes": 2**60 + 1}, {"reserve_bytes": -1}, {"up_bytes_per_s": 2**50 + 1}, {"down_bytes_per_s": -1}],
)
def test_what_could_not_be_read_back_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(changes))):
        NodeSettings(**changes)


def test_everything_has_a_default() -> None:
    assert parse("") == NodeSettings()


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('capacity_bytes = "50GB"', "capacity_bytes"),
        ("capacity_bytes = -1", "capacity_bytes"),
        ("capacity_bytes = 1e9", "capacity_bytes"),
        ("reserve_bytes = 2305843009213693952", "reserve_bytes"),
        ("reserve_bytes = true", "reserve_bytes"),
        ('listen = "127.0.0.1:1"', "listen"),
        ("listen = [7]", "listen"),
        ('listen = ["localhost:1"]', "listen"),
        ('listen = ["127.0.0.1:65536"]', "listen"),
        ('advertise = ["nobody"]', "advertise"),
        ("up_bytes_per_s = -5", "up_bytes_per_s"),
        ('down_bytes_per_s = "fast"', "down_bytes_per_s"),
        ("capacity = 5", "'capacity'"),
        (f"capacity_bytes = {'9' * 5_000}", "valid TOML"),
        (f"listen = {['127.0.0.1:1'] * 17}", "listen has 17"),
    ],
)
def test_a_wrong_value_is_named(line: str, key: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(line)
    assert str(caught.value).startswith(("config.toml: ", "config.toml is not", "listen has"))
    assert key in str(caught.value)


@given(st.text(max_size=200))
def test_no_text_crashes_the_parser(text: str) -> None:
    try:
        NodeSettings.parse(text.encode("utf-8", "surrogatepass"), "config.toml")
    except UsageError:
        return


# --- init


def test_init_makes_a_node_that_loads(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    node_id = init_node(home, SETTINGS, NETWORK)
    assert load_settings(home) == SETTINGS
    identity = load_identity(home, NETWORK)
    assert identity.node_id == node_id
    assert has_proof(node_id, 4)
    assert stat.S_IMODE(os.stat(home.data).st_mode) == 0o700
    for path in (home.key_file, home.settings_file):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_second_init_changes_nothing(home: Home) -> None:
    init_node(home, SETTINGS, NETWORK)
    before = (home.key_file.read_bytes(), home.settings_file.read_bytes())
    with pytest.raises(UsageError, match="shoal node run"):
        init_node(home, NodeSettings(), NETWORK)
    assert (home.key_file.read_bytes(), home.settings_file.read_bytes()) == before


def test_what_a_person_wrote_is_never_replaced(home: Home) -> None:
    home.settings_file.write_text("# mine\ncapacity_bytes = 7\n")
    with pytest.raises(UsageError, match="left alone"):
        init_node(home, SETTINGS, NETWORK)
    assert not home.key_file.exists()
    init_node(home, load_settings(home), NETWORK)
    assert home.settings_file.read_text() == "# mine\ncapacity_bytes = 7\n"
    assert load_identity(home, NETWORK)


def test_of_two_inits_at_once_one_makes_the_node(home: Home) -> None:
    """The proof of work gives the slower one time to come in between."""

    def init(_: int) -> NodeId | str:
        try:
            return init_node(home, SETTINGS, NETWORK)
        except (UsageError, AlreadyRunning) as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        made = [each for each in pool.map(init, range(8)) if not isinstance(each, str)]
    assert made == [load_identity(home, NETWORK).node_id]


def test_a_node_belongs_to_the_network_it_was_made_for(home: Home) -> None:
    init_node(home, SETTINGS, NETWORK)
    with pytest.raises(UsageError, match=f"'{NETWORK.name}', not to 'elsewhere'"):
        load_identity(home, NetworkParameters("elsewhere", 4, private=True))
    with pytest.raises(UsageError, match="one of that name with other rules"):
        load_identity(home, NetworkParameters(NETWORK.name, 0, private=NETWORK.private))
    assert load_identity(home, NETWORK)


def test_a_home_of_before_takes_the_network_it_is_started_on(home: Home) -> None:
    init_node(home, SETTINGS, NETWORK)
    home.network_note.unlink()
    remember_network(home, NETWORK)
    remember_network(home, NetworkParameters("elsewhere", 0))
    assert load_identity(home, NETWORK)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_odd_things_in_a_home_hold_nothing_up(home: Home, make: Callable[[Path], None]) -> None:
    """A pipe would keep its reader waiting for ever."""
    init_node(home, SETTINGS, NETWORK)
    contacts = home.contacts_file(NETWORK.network_id)
    for path in (home.daemon_file, contacts, home.network_note, home.settings_file):
        path.unlink(missing_ok=True)
        make(path)
    assert read_note(home) is None
    assert ContactCache(contacts).load() == []
    assert load_identity(home, NETWORK)
    with pytest.raises(UsageError, match="it is not a plain file"):
        load_settings(home)


def test_a_dangling_link_counts_as_a_node(home: Home, tmp_path: Path) -> None:
    home.key_file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError):
        init_node(home, SETTINGS, NETWORK)
    assert not (tmp_path / "elsewhere").exists()


def test_before_init_the_command_to_type_is_told(home: Home) -> None:
    for load in (lambda: load_settings(home), lambda: load_identity(home, NETWORK)):
        with pytest.raises(UsageError, match="shoal node init"):
            load()


def test_settings_that_cannot_be_read_are_named(home: Home) -> None:
    home.settings_file.mkdir()
    with pytest.raises(UsageError, match=r"config\.toml"):
        load_settings(home)


def test_a_key_without_the_networks_proof_is_refused(home: Home) -> None:
    init_node(home, SETTINGS, NetworkParameters("test", pow_bits=0))
    home.network_note.unlink()  # as a home of before, which did not note it
    with pytest.raises(UsageError, match="proof of work"):
        load_identity(home, NetworkParameters("hard", pow_bits=40))


@pytest.mark.parametrize("content", [b"", bytes(39), bytes(41), bytes(10_000)])
def test_a_damaged_key_is_refused(home: Home, content: bytes) -> None:
    home.key_file.write_bytes(content)
    home.key_file.chmod(0o600)
    with pytest.raises(LocalError, match="damaged"):
        load_identity(home, NETWORK)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666, 0o620])
def test_a_key_that_others_may_read_is_refused(home: Home, mode: int) -> None:
    init_node(home, SETTINGS, NETWORK)
    home.key_file.chmod(mode)
    with pytest.raises(LocalError, match="chmod 600"):
        load_identity(home, NETWORK)
