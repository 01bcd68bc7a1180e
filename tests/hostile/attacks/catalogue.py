"""All attacks by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import trio

from hostile.attacks import connections, datagrams, holders, liars, transfers
from hostile.means import Means


class Attack(Protocol):
    """Runs until it is cancelled."""

    async def __call__(self, means: Means, *, task_status: trio.TaskStatus[None]) -> None:
        """Attack; report through `task_status` when in position."""
        ...


ATTACKS: Mapping[str, Attack] = MappingProxyType(
    {
        "certificates": holders.certificates,
        "bent holder": holders.bent_holder,
        "dictators": liars.dictators,
        "pointers": liars.pointers,
        "record flood": datagrams.record_flood,
        "replay": datagrams.replay,
        "junk signatures": datagrams.junk_signatures,
        "garbage": datagrams.garbage,
        "amplification": datagrams.amplification,
        "hellos": connections.hellos,
        "silent": connections.silent,
        "half handshakes": connections.half_handshakes,
        "churn": connections.churn,
        "junk streams": connections.junk_streams,
        "large offers": transfers.large_offers,
        "many offers": transfers.many_offers,
        "one synced byte": transfers.one_synced_byte,
        "aborted uploads": transfers.aborted_uploads,
        "unread reads": transfers.unread_reads,
        "withheld payloads": transfers.withheld_payloads,
        "surveys": transfers.surveys,
        "junk statements": transfers.junk_statements,
    }
)
