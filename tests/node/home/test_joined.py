"""A home is on one network, and remembers which."""

from pathlib import Path

import pytest

from shoal.dht import NetworkParameters, NodeId
from shoal.node import Home, Network, NodeSettings, Peer, UsageError, init_node, invite_to, join_network, network_of
from shoal.node.home.joined import MAX_JOINED_PEERS
from shoal.node.home.settings import load_identity

REEF = Network(NetworkParameters("reef", 0, True, 90.0), (Peer("10.0.0.1:4750", NodeId(bytes(32))),))
OTHER = Network(NetworkParameters("other", 0, True))


def test_the_network_named_comes_first_then_the_one_joined_then_our_own(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    assert network_of(home) == Network.load()
    join_network(home, REEF)
    assert network_of(home) == REEF
    assert home.network_file.stat().st_mode & 0o777 == 0o600
    (tmp_path / "other.toml").write_text(OTHER.to_toml())
    assert network_of(home, tmp_path / "other.toml") == OTHER
    assert network_of(home, invite_to(OTHER)) == OTHER
    assert network_of(home, Path(invite_to(OTHER))) == OTHER, "as the command line hands it on"
    assert network_of(home, OTHER) is OTHER


def test_a_home_is_on_one_network(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    join_network(home, REEF)
    with pytest.raises(UsageError, match="has joined the network 'reef', not 'other'"):
        join_network(home, OTHER)
    stricter = Network(NetworkParameters("reef", 8, True))
    with pytest.raises(UsageError, match="'reef', not one of that name with other rules"):
        join_network(home, stricter)
    with pytest.raises(UsageError, match="has joined the network 'reef', not 'other'"):
        init_node(home, NodeSettings(), OTHER)
    assert not home.key_file.exists()
    assert network_of(home) == REEF


def test_another_invite_to_the_same_network_brings_new_peers(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    join_network(home, REEF)
    newer = (Peer("10.0.0.2:4750"), Peer("10.0.0.1:4750"))
    join_network(home, Network(REEF.parameters, newer))
    assert network_of(home).peers == newer, "what is newer replaces the same address"
    many = tuple(Peer(f"10.0.1.{n}:4750") for n in range(100))
    join_network(home, Network(REEF.parameters, many))
    assert network_of(home).peers == many[:MAX_JOINED_PEERS]


def test_a_node_is_made_for_one_network_and_its_home_remembers_it(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    node_id = init_node(home, NodeSettings(), REEF)
    assert network_of(home) == REEF
    assert load_identity(home, network_of(home).parameters).node_id == node_id
    with pytest.raises(UsageError, match="belongs to the network 'reef', not to 'other'"):
        load_identity(home, OTHER.parameters)
    with pytest.raises(UsageError, match="belongs to the network 'reef', not to 'other'"):
        join_network(home, OTHER)


def test_our_own_network_leaves_no_file(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    join_network(home, Network.load())
    assert not home.network_file.exists()


def test_a_node_tells_which_network_its_home_is_on_whatever_the_file_says(tmp_path: Path) -> None:
    """A person put another network's file there. The peers of that one do not come along."""
    home = Home.at(tmp_path)
    init_node(home, NodeSettings(), REEF)
    home.network_file.write_text(Network(OTHER.parameters, (Peer("10.9.9.9:1"),)).to_toml())
    with pytest.raises(UsageError, match="belongs to the network 'reef', not to 'other'"):
        load_identity(home, network_of(home).parameters)
    join_network(home, REEF)
    assert network_of(home) == REEF


def test_a_file_that_a_person_spoilt_is_named(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    home.network_file.write_text("network = 7")
    with pytest.raises(UsageError, match=r"network\.toml: network must be"):
        network_of(home)
