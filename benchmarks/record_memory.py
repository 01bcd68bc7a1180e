"""What a record that a node keeps for others costs in memory, beside its bytes.

    python benchmarks/record_memory.py [--records 20000]

Prints the growth of the resident memory per record, and what the record store counts for it.
"""

import argparse
import gc
import random
from pathlib import Path

from shoal.dht import Address, Reach, Record, RecordKey, StoreLimits
from shoal.dht.records import provider_payload
from shoal.dht.store import RecordStore

ANNOUNCEMENT_BYTES = 100


def resident_bytes() -> int:
    """Resident memory of this process (Linux)."""
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * 4096


def record(number: int, rng: random.Random) -> Record:
    """A record as it comes from the network: decoded, with its id and bytes known."""
    host = f"10.{number % 250}.{number // 250 % 250}.{number // 62_500 + 1}"
    payload = provider_payload(Reach.of(Address.of(host, 4750)), rng.randbytes(ANNOUNCEMENT_BYTES))
    key, public_key, signature = RecordKey(rng.randbytes(32)), rng.randbytes(32), rng.randbytes(64)
    made = Record(1, key, public_key, rng.randbytes(8), number + 1, 10**9, 10**9 + 48 * 3600, payload, signature)
    fresh = Record.decode(made.encoded)
    assert fresh.encoded == made.encoded
    return fresh


def main() -> None:
    """Fill a store and look at the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    count = parser.parse_args().records
    rng = random.Random(1)
    store = RecordStore(StoreLimits(records=count + 1, bytes=2**40))
    gc.collect()
    before = resident_bytes()
    encoded = 0
    for number in range(count):
        each = record(number, rng)
        encoded += len(each.encoded)
        store.put(each, 0.0)
    gc.collect()
    grown = resident_bytes() - before
    print(f"records          {len(store)}, of {encoded // count} bytes each")
    each_bytes = grown / len(store)
    print(f"resident         {each_bytes:.0f} bytes each, {each_bytes - encoded / count:.0f} beside the record")
    print(f"counted          {store.stored_bytes / len(store):.0f} bytes each")


if __name__ == "__main__":
    main()
