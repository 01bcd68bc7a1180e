"""Small values of a look at a file, made by hand: holders, statements, observations, findings."""

import random

from shoal.dht import Address, NodeId, Reach
from shoal.erasure import BLOCK_BYTES, FileId, Manifest
from shoal.node.care.findings import Findings, WatchedFile
from shoal.node.care.health import Observation
from shoal.node.holders.outcome import Outcome
from shoal.node.holders.statements import LIFETIME_S, HolderStatement

DAY_S = 86400.0
NOW = 1.8e9
_rng = random.Random(7)
NODES = [NodeId(_rng.randbytes(32)) for _ in range(20)]
ME = NODES[0]


def manifest(k: int, n: int) -> Manifest:
    """Of a file of one segment; its roots are of nothing."""
    roots = tuple(bytes([share]) * 32 for share in range(n))
    return Manifest(k, n, BLOCK_BYTES, BLOCK_BYTES, bytes(32), roots, b"", bytes(32), bytes(32))


FILE = manifest(4, 12).id


def statement(
    share: int,
    holder: NodeId,
    *,
    issued: float = NOW,
    lease_end: float = NOW + 30 * DAY_S,
    host: str = "",
    file_id: FileId = FILE,
) -> HolderStatement:
    """That `holder` keeps a share. Its signature is none."""
    address = Address(host or f"44.0.{NODES.index(holder)}.1", 4000)
    signed = b"signed %d %d" % (share, issued)
    return HolderStatement(
        file_id,
        share,
        holder,
        Reach.of(address),
        int(lease_end),
        int(issued),
        int(issued) + LIFETIME_S,
        signed + holder,
    )


def observation(share: int, holder: NodeId, outcome: Outcome = Outcome.OK, *, lost: bool = False) -> Observation:
    """One holder's share as seen now."""
    return Observation(share, holder, outcome, lost)


def findings(n: int = 12, *, k: int | None = None, outcomes: dict[int, Outcome] | None = None) -> Findings:
    """A file each of whose shares has a holder of its own, share 0 with `ME`; all well but those in `outcomes`."""
    file_k = k if k is not None else max(1, n // 3)
    found = outcomes or {}
    statements = tuple(statement(share, NODES[share]) for share in range(n))
    observations = tuple(observation(share, NODES[share], found.get(share, Outcome.OK)) for share in range(n))
    return Findings(WatchedFile(FILE, manifest(file_k, n), statements), observations)
