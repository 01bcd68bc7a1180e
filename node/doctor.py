"""What is wrong with a node, what that means, and what to do: read out of its status, by rules alone.

Nobody is asked here. `Node.status` has just asked; so a program, a web page and `shoal doctor` say the same.
"""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeAlias

from shoal.values import dataclass

Facts: TypeAlias = Mapping[str, Any]

WANTED_RELAYS = 3  # that a node which cannot be dialled looks for
CLOCK_NOTE_S = 60.0  # a clock that is wrong by less is not worth a word
_SHARED = ipaddress.IPv4Network("100.64.0.0/10")  # between a provider and its customers (RFC 6598)


class Level(Enum):
    """How it stands with one thing."""

    OK = "ok"
    NOTE = "note"  # nothing is wrong, and it is worth knowing
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Symptom:
    """What was found about one thing.

    :ivar subject: a short name that stays the same: "reachable", "router", "address", "relays", "line", "datagrams",
        "connections", "ipv6", "clock", "disk", "version", "node".
    :ivar says: what is so.
    :ivar means: what follows from it; may be empty where all is well.
    :ivar advice: what to do; empty where there is nothing to do.
    """

    subject: str
    level: Level
    says: str
    means: str = ""
    advice: str = ""

    def as_plain(self) -> dict[str, str]:
        """For programs."""
        return {
            "subject": self.subject,
            "level": self.level.value,
            "says": self.says,
            "means": self.means,
            "advice": self.advice,
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings of one moment."""

    findings: tuple[Symptom, ...]

    @property
    def is_well(self) -> bool:
        """Whether there is no problem."""
        return all(each.level is not Level.PROBLEM for each in self.findings)


def diagnose(status: Facts, *, version: str | None = None) -> Diagnosis:
    """What the status of a serving node comes to. `version`: of the program that asks, where it is another process."""
    rules: tuple[Callable[[Facts], Symptom | None], ...] = (
        _reachable,
        _router,
        _address,
        _relays,
        _line,
        _datagrams,
        _connections,
        _ipv6,
        _clock,
        _disk,
    )
    found = [finding for rule in rules if (finding := rule(status)) is not None]
    found.append(_version(str(status.get("version", "")), version))
    found += [Symptom("node", Level.PROBLEM, sentence) for sentence in _sentences(status, "node")]
    return Diagnosis(tuple(found))


# -- whether others can call it ------------------------------------------------------------------------

_BY_HAND = (
    "Switch on UPnP or NAT-PMP in the router, or forward the port by hand: UDP and TCP, as docs/volunteer.md shows."
)
_FIREWALL = (
    "The router has opened a port. So look whether a firewall on this machine drops UDP or TCP to the node's port."
)


def _reachable(status: Facts) -> Symptom:
    state, external = str(status.get("reachable", "unknown")), status.get("external_address")
    match state:
        case "direct" | "mapped":
            through = " through a port that the router opened" if state == "mapped" else ""
            return Symptom("reachable", Level.OK, f"Others call this node at {external}{through}.")
        case "punched-or-relayed":
            return Symptom(
                "reachable",
                Level.NOTE,
                "Others cannot call this node. Relays ring it, and it calls back.",
                "It serves all the same. Where no direct way can be made, a relay passes bytes on, which is slower.",
                _BY_HAND,
            )
        case "no":
            outside = _host((status.get("mapping") or {}).get("external"))
            is_mapped = outside is not None and outside == _host(_observed(status))
            return Symptom(
                "reachable",
                Level.PROBLEM,
                "Others cannot call this node, and no relay rings it.",
                "It can publish and fetch. It gets no shares to keep, and cannot serve those that it has.",
                _FIREWALL if is_mapped else f"{_BY_HAND} Or wait: the node looks for relays.",
            )
    return Symptom(
        "reachable",
        Level.NOTE,
        "Nobody outside has tried yet whether this node can be called.",
        "It asks other nodes to call back as soon as it knows some.",
    )


def _router(status: Facts) -> Symptom | None:
    mapping = status.get("mapping") or {}
    reason, protocol = str(mapping.get("reason", "")), str(mapping.get("protocol", ""))
    where = f"The router at {mapping.get('router')}"
    match str(mapping.get("state", "")):
        case "mapped":
            lease_s = mapping.get("lease_s") or 0
            until = f"for {lease_s / 60:.0f} minutes at a time" if lease_s else "until the node closes it"
            says = f"{where} opened port {mapping.get('external')} by {protocol}, {until}."
            if _port(mapping.get("external")) not in map(_port, status.get("addresses") or ()):
                means = "Some peers see this node at its own port only, and cannot call it there."
                return Symptom(
                    "router", Level.NOTE, says, means, "Give each node of this home another port to listen on."
                )
            return Symptom("router", Level.OK, says)
        case "not_needed":
            return Symptom("router", Level.OK, "No router has to open a port for this node.")
        case "looking":
            return Symptom("router", Level.NOTE, "The node is just asking the router to open a port.")
        case "no_router":
            says = f"{where} opened no port: {reason}." if reason else "No router answers the request to open a port."
            return Symptom("router", _if_needed(status), says, *_unless_reached(status))
        case "refused":
            says = f"{where} refused to open a port by {protocol}: {reason}."
            return Symptom("router", _if_needed(status), says, *_unless_reached(status))
        case "off":
            says = "The node does not ask the router to open a port: map = false, or --no-map."
            return Symptom("router", _if_needed(status), says, *_unless_reached(status))
    return None


def _if_needed(status: Facts) -> Level:
    return Level.PROBLEM if status.get("reachable") == "no" else Level.NOTE


def _unless_reached(status: Facts) -> tuple[str, str]:
    """What it means that no port was opened, and what to do."""
    if status.get("reachable") in ("direct", "mapped"):
        return "Others reach this node all the same.", ""
    return "Others can call this node only if its port is open some other way.", _BY_HAND


def _address(status: Facts) -> Symptom:
    """Where the router says it is, against where peers see us."""
    outside, seen = (_host(address) for address in ((status.get("mapping") or {}).get("external"), _observed(status)))
    if seen is None:
        known = status.get("external_address")
        if known:
            return Symptom("address", Level.OK, f"The address of this node is {known}.")
        return Symptom("address", Level.NOTE, "No peer has said yet at which address it sees this node.")
    if outside is None or outside == seen:
        same = " That is the router's own address." if outside else ""
        return Symptom("address", Level.OK, f"Peers see this node at {seen}.{same}")
    says = f"Peers see this node at {seen}, but the router's own address is {outside}."
    wants_none = status.get("reachable") in ("direct", "mapped")
    advice = "" if wants_none else "Ask the provider for a public IPv4 address, or for IPv6."
    level = _if_needed(status)
    if ipaddress.ip_address(outside) in _SHARED:
        means = (
            "The provider has several homes share one address (carrier-grade NAT): no router at home can open a port."
        )
        return Symptom("address", level, says, means, advice)
    if not ipaddress.ip_address(outside).is_global:
        means = "A second router stands between yours and the internet. It has to open the port, too."
        advice = advice and "Open the port in the second router, or have it pass everything on (bridge mode)."
        return Symptom("address", level, says, means, advice)
    means = "The router is mistaken, or the home has a second line. What it opened is not where peers look."
    return Symptom("address", level, says, means, advice and "Set --advertise to the address that strangers reach.")


def _observed(status: Facts) -> object:
    return status.get("observed_address")


def _host(address: object) -> str | None:
    """The host of an IPv4 address with a port; None for what is none."""
    host = str(address or "").rpartition(":")[0]
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        return None


def _port(address: object) -> str:
    return str(address or "").rpartition(":")[2]


def _relays(status: Facts) -> Symptom | None:
    relays, serves = list(status.get("relays") or ()), int(status.get("relayed_for") or 0)
    helps = f" It rings {serves} other {'node' if serves == 1 else 'nodes'}." if serves else ""
    if status.get("reachable") == "punched-or-relayed":
        says = f"{len(relays)} of {WANTED_RELAYS} relays ring this node: {', '.join(map(str, relays))}.{helps}"
        if len(relays) < WANTED_RELAYS:
            return Symptom("relays", Level.NOTE, says, "If these go away, others lose sight of this node for a while.")
        return Symptom("relays", Level.OK, says)
    if status.get("reachable") == "no":
        return Symptom(
            "relays", Level.NOTE, "No relay rings this node yet. It looks for some among the nodes it knows."
        )
    return Symptom("relays", Level.OK, f"This node needs no relay.{helps}")


# -- its line ------------------------------------------------------------------------------------------


def _line(status: Facts) -> Symptom:
    line, peers = str(status.get("line", "")), int(status.get("peers") or 0)
    told = _sentences(status, "line")
    if line in ("no_address", "they_are_gone", "silence") and told:
        return Symptom("line", Level.PROBLEM, " ".join(told))
    if line == "alone" or not peers:
        return Symptom(
            "line",
            Level.NOTE,
            "This node knows no peer.",
            "That is so for the first node of a network. Any other one is not connected.",
            "Give it a peer: shoal join INVITE, or --bootstrap HOST:PORT.",
        )
    last_s = status.get("last_answer_s")
    ago = "" if last_s is None else f"; the last answered {_duration(float(last_s))} ago"
    return Symptom("line", Level.OK, f"This node knows {_count(peers, 'peer')}{ago}.")


def _datagrams(status: Facts) -> Symptom:
    match str(status.get("line", "")):
        case "good" | "no_connections":
            return Symptom("datagrams", Level.OK, "Peers answer datagrams (UDP).")
        case "no_datagrams":
            return Symptom("datagrams", Level.PROBLEM, " ".join(_sentences(status, "line")))
    return Symptom("datagrams", Level.NOTE, "Whether datagrams (UDP) pass is not known: no peer answers.")


def _connections(status: Facts) -> Symptom:
    match str(status.get("line", "")):
        case "good" | "no_datagrams":
            return Symptom("connections", Level.OK, "Connections (TCP) to peers work.")
        case "no_connections":
            return Symptom("connections", Level.PROBLEM, " ".join(_sentences(status, "line")))
    return Symptom("connections", Level.NOTE, "Whether connections (TCP) work is not known: no peer answers.")


def _ipv6(status: Facts) -> Symptom:
    own, seen = status.get("own_ipv6"), status.get("observed_ipv6")
    if not own:
        return Symptom("ipv6", Level.NOTE, "This machine has no IPv6 to the internet.", "IPv4 alone is enough.")
    if not any(str(each).startswith("[") for each in status.get("addresses") or ()):
        return Symptom(
            "ipv6",
            Level.NOTE,
            f"This machine has the IPv6 address {own}, and the node does not listen on it.",
            "Homes that share an IPv4 address can often be called by IPv6.",
            "Add an address such as [::]:4750 to listen.",
        )
    is_open = (status.get("mapping_ipv6") or {}).get("state") == "mapped"
    lets_in = " The router lets calls in." if is_open else ""
    if not seen:
        return Symptom("ipv6", Level.NOTE, f"The node listens on IPv6 ({own}). No peer has seen it there yet.{lets_in}")
    return Symptom("ipv6", Level.OK, f"Peers see this node by IPv6 at {seen}.{lets_in}")


# -- its machine ---------------------------------------------------------------------------------------


def _clock(status: Facts) -> Symptom:
    told = _sentences(status, "clock")
    if told:
        return Symptom("clock", Level.PROBLEM, " ".join(told))
    ahead_s = status.get("clock_ahead_s")
    if ahead_s is None:
        return Symptom("clock", Level.NOTE, "Too few peers have told their clocks to compare.")
    apart_s = abs(float(ahead_s))
    if apart_s < CLOCK_NOTE_S:
        return Symptom("clock", Level.OK, "The clock agrees with those of the peers.")
    which = "behind" if float(ahead_s) > 0 else "ahead of"
    return Symptom(
        "clock",
        Level.NOTE,
        f"The clock is {_duration(apart_s)} {which} those of the peers.",
        "That is no problem yet. Where it grows, the node stops repairing files.",
        "Set up time synchronisation.",
    )


def _disk(status: Facts) -> Symptom:
    told = _sentences(status, "disk")
    if told:
        return Symptom("disk", Level.PROBLEM, " ".join(told))
    used, capacity = status.get("used_bytes"), status.get("capacity_bytes")
    if used is None or capacity is None:
        return Symptom("disk", Level.NOTE, "The disk has not been looked at.")
    free = _size(status.get("free_disk_bytes") or 0)
    says = f"{_size(used)} of {_size(capacity)} are in use, and the disk has {free} free."
    if not status.get("available_bytes"):
        return Symptom("disk", Level.NOTE, says, "The node takes no new shares.", "Raise capacity_bytes, or make room.")
    return Symptom("disk", Level.OK, says)


def _version(running: str, asking: str | None) -> Symptom:
    if asking is None or running == asking:
        return Symptom("version", Level.OK, f"The node runs Shoal {running}.")
    return Symptom(
        "version",
        Level.PROBLEM,
        f"The node runs Shoal {running}, and the program that is installed is {asking}.",
        "Shoal was changed while the node ran.",
        "Restart the node.",
    )


def _sentences(status: Facts, about: str) -> Sequence[str]:
    """What the node itself says is wrong."""
    return [str(each) for each in (status.get("problems_of") or {}).get(about, ())]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _duration(seconds: float) -> str:
    for unit, size in (("day", 86_400.0), ("hour", 3_600.0), ("minute", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}s"
    return _count(round(seconds), "second")


def _size(count: int) -> str:
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1000:.1f} kB"
