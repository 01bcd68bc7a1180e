"""Counting shares so that each has a host of its own. Pure.

A host that keeps two shares of a file is one loss that takes two, and a host that claims all of them is still one host.
"""

from collections.abc import Iterable, Mapping


def match_hosts(places: Iterable[tuple[int, bytes]]) -> dict[int, bytes]:
    """The largest assignment of shares to hosts in which every host is used once (augmenting paths; Kuhn 1955)."""
    hosts_of: dict[int, list[bytes]] = {}
    for share, host in places:
        hosts_of.setdefault(share, []).append(host)
    owner: dict[bytes, int] = {}
    for share in sorted(hosts_of):
        _augment(share, hosts_of, owner, set())
    return {share: host for host, share in owner.items()}


def _augment(share: int, hosts_of: Mapping[int, list[bytes]], owner: dict[bytes, int], tried: set[bytes]) -> bool:
    """Find a host for `share`, moving others if need be. As deep as there are shares: 256 at most."""
    for host in hosts_of[share]:
        if host in tried:
            continue
        tried.add(host)
        if host not in owner or _augment(owner[host], hosts_of, owner, tried):
            owner[host] = share
            return True
    return False
