"""What a volunteer is told of the own node: the status in words, and news of what is wrong while it runs."""

from collections.abc import Iterable, Mapping
from typing import Any

from shoal.cli.tables import day, fields
from shoal.cli.units import format_duration, format_rate, format_size, plural

# Told in words of their own, or (the last line) of interest to developers only.
_WORDED = frozenset(
    {
        *("node_id", "version", "network", "address", "address_source", "addresses", "peers", "codec"),
        *("peers_answered", "last_answer_s", "line"),
        *("observed_address", "observed_ipv6", "own_ipv6", "clock_ahead_s"),
        *("reachable", "external_address", "relays", "relayed_for"),
        *("problems", "uptime_s"),
        *("shares", "files", "used_bytes", "capacity_bytes", "available_bytes", "free_disk_bytes", "reserve_bytes"),
        *("damaged_shares", "lost_shares", "soonest_lease_end", "audits_passed", "audits_failed", "repairs"),
        *("rebuilt_shares", "repair_bytes", "sent_bytes", "received_bytes", "bugs"),
        *("uploads", "turns", "surveys", "audit_bytes", "records", "connections", "requests", "instance"),
    }
)


JUST_NOW_S = 60.0  # older answers are asked for again before a status is told


def table(found: Mapping[str, Any], *, everything: bool = False) -> str:
    """A status for people. Fields that this version does not know are added as they are, with `everything` all."""
    rows = [*_who(found), *_kept(found), *_done(found)]
    rows += [("problem", text) for text in found.get("problems", ())]
    rest = [name for name in found if everything or name not in _WORDED]
    return fields([*rows, *(_plain(name, found[name]) for name in rest if not isinstance(found[name], dict | list))])


# What `address_source` says, in words.
_SOURCES = {
    "advertised": "as told with --advertise",
    "bound": "bound to it",
    "interface": "this machine's own",
    "mapped": "a port that the router opened",
    "observed": "as most peers see it",
    "unknown": "not known to be reachable",
}


def _who(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    address, source = found.get("address"), str(found.get("address_source", ""))
    listens = found.get("addresses") or []
    words = f" ({_SOURCES.get(source, source)})" if address and source else ""
    return [
        ("node id", str(found.get("node_id", ""))),
        ("version", str(found.get("version", ""))),
        ("network", str(found.get("network", ""))),
        ("address", f"{address or ''}{words}"),
        ("reached", _reached(found)),
        ("relays for", plural(found["relayed_for"], "node") if found.get("relayed_for") else ""),
        ("listens", "" if listens == [address] else ", ".join(listens)),
        ("router", _router(found)),
        ("peers", _peers(found)),
        ("codec", str(found.get("codec", ""))),
    ]


def _router(found: Mapping[str, Any]) -> str:
    """What the home router did for this node; nothing where it is not needed. `shoal doctor` says more."""
    mapping = found.get("mapping") or {}
    reason = mapping.get("reason") or "no router answers"
    match mapping.get("state"):
        case "mapped":
            return f"opened {mapping.get('external')} ({mapping.get('protocol')})"
        case "no_router" | "refused":
            return f"opened no port: {reason}"
    return ""


# What `reachable` says, in words.
_WAYS = {
    "direct": "directly",
    "mapped": "through a port that the router has opened",
    "punched-or-relayed": "through relays",
    "no": "by nobody: no call comes through, and no relay rings this node",
    "unknown": "not known yet: no peer has tried",
}


def _reached(found: Mapping[str, Any]) -> str:
    """In which way others call the node."""
    way = str(found.get("reachable", ""))
    relays = ", ".join(found.get("relays") or ())
    return f"{_WAYS.get(way, way)}{f': {relays}' if relays else ''}"


def _peers(found: Mapping[str, Any]) -> str:
    """How many are known, how many of these answered lately, and when one last did."""
    if "peers" not in found:
        return ""
    known = plural(found["peers"], "verified contact")
    if "peers_answered" not in found:
        return known
    last_s = found.get("last_answer_s")
    if last_s is None:
        return f"{known}, none has ever answered"
    last = "just now" if last_s < JUST_NOW_S else f"{format_duration(last_s)} ago"
    return f"{known}, {found['peers_answered']} answered within 15 minutes, the last {last}"


def _kept(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Shares, bytes and leases."""
    if found.get("shares") is None:  # the disk does not tell, or a client has none
        return [("shares", "unknown")] if "shares" in found else []
    room = found.get("available_bytes") or 0
    end = found.get("soonest_lease_end")
    reserve = format_size(found["reserve_bytes"]) if found.get("reserve_bytes") else ""
    return [
        ("shares", f"{found['shares']} of {plural(found.get('files', 0), 'file')}"),
        ("used", f"{format_size(found.get('used_bytes', 0))} of {format_size(found.get('capacity_bytes', 0))}"),
        ("room", f"{format_size(room)} for new shares" if room else "none: this node takes nothing new"),
        (
            "free disk",
            f"{format_size(found.get('free_disk_bytes', 0))}{f', {reserve} of it reserved' if reserve else ''}",
        ),
        ("leases", f"the first ends {day(end)}" if end else ""),
        ("damaged", plural(found["damaged_shares"], "share") if found.get("damaged_shares") else ""),
        ("lost", plural(found["lost_shares"], "share") if found.get("lost_shares") else ""),
    ]


def _done(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was done since the start."""
    rows = []
    if "uptime_s" in found:
        rows.append(("runs for", f"{format_duration(found['uptime_s'])}; in this time:"))
    if "audits_passed" in found:
        passed, failed = found["audits_passed"], found.get("audits_failed", 0)
        proofs = f"{plural(passed + failed, 'block')} of other hosts checked: {passed} good, {failed} bad"
        rows.append(("audits", proofs if passed + failed else "none due yet"))
    if "repairs" in found:
        made, moved = found.get("rebuilt_shares", 0), format_size(found.get("repair_bytes", 0))
        work = f"{found['repairs']}: rebuilt {plural(made, 'share')}, moved {moved}"
        rows.append(("repairs", work if found["repairs"] else "none needed"))
    if "sent_bytes" in found:
        rows.append(
            ("traffic", f"{format_size(found['sent_bytes'])} sent, {format_size(found['received_bytes'])} received")
        )
    if found.get("bugs"):
        rows.append(("bugs", f"{plural(found['bugs'], 'request')} failed because of a bug in Shoal: please report it"))
    return rows


def _plain(name: str, value: Any) -> tuple[str, str]:
    """A field without words of its own: its unit is in its name."""
    if value is None:
        return name.replace("_", " "), ""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    for ending, words in (("_bytes_per_s", format_rate), ("_bytes", format_size), ("_s", format_duration)):
        if is_number and name.endswith(ending):
            return name.removesuffix(ending).replace("_", " "), words(value)
    return name.replace("_", " "), str(value)


class News:
    """Tells each problem once, and again when it has changed or come back."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def of(self, problems: Iterable[str]) -> list[str]:
        """What is to be said now."""
        now = list(problems)
        fresh = [text for text in now if text not in self._told]
        self._told = set(now)
        return fresh

    @property
    def is_good(self) -> bool:
        """Whether there was nothing wrong the last time."""
        return not self._told
