"""The limit: what a publish and a fetch would take if nothing cost anything but the parts that nobody can leave out.

Per GiB of file, with publisher (or fetcher) and all nodes on this machine, so that all of it is work of the same cores:

    publish   read the file, encrypt, encode; and n/k times: hash the blocks, send, receive, hash again, write
    fetch     read the shares, send, receive, hash, decrypt, write; decode where data shares are gone

The CPU-seconds of a step are added up and spread over all cores, as if no core ever waited; the disk must take all that
is written meanwhile. Python between the parts, the DHT, proofs and databases count nothing, so no program gets there.
"""

from dataclasses import dataclass

from .results import GIB, MIB, Costs


@dataclass(frozen=True, slots=True)
class Limit:
    """What one GiB takes at least. `steps` are CPU-seconds by what they are for."""

    steps: dict[str, float]
    disk_s: float
    cores: int

    @property
    def cpu_s(self) -> float:
        """CPU-seconds in all."""
        return sum(self.steps.values())

    @property
    def wall_s(self) -> float:
        """Seconds: all cores busy, or waiting for the disk."""
        return max(self.cpu_s / self.cores, self.disk_s)

    @property
    def mib_s(self) -> float:
        """File bytes per second."""
        return GIB / MIB / self.wall_s


def publish_limit(costs: Costs, codec: str, k: int, n: int) -> Limit:
    """For a codec by its name."""
    width = n / k
    steps = {
        "read file": costs.read,
        "encrypt": costs.cipher_seal,
        "encode": costs.encode[f"{codec} {k}/{n}"],
        "hash at publisher": width * costs.block_hash,
        "send": width * costs.send,
        "receive": width * costs.receive,
        "hash at nodes": width * costs.block_hash,
        "write shares": width * costs.write,
    }
    return Limit(steps, width * costs.sync_s, costs.cores)


def fetch_limit(costs: Costs, codec: str, k: int, n: int, *, is_lost: bool) -> Limit:
    """`is_lost`: as many data shares are gone as can be, so that everything must be decoded."""
    steps = {
        "read shares": costs.read,
        "send": costs.send,
        "receive": costs.receive,
        "hash": costs.block_hash,
        "decode": costs.decode[f"{codec} {k}/{n}"] if is_lost else 0.0,
        "decrypt": costs.cipher_open,
        "write file": costs.write,
    }
    return Limit(steps, costs.sync_s, costs.cores)
