"""One seed replays a run: the scheduler, and a whole DHT on the virtual network, also in another process."""

import hashlib
import os
import subprocess
import sys
from random import Random

import pytest
import trio

from shoal.dht import Address, DhtService, Identity, NetworkParameters
from shoal.simulation.datagrams import VirtualDatagrams, Weather
from shoal.simulation.scheduler import run_seeded, seeded_scheduler
from shoal.simulation.signatures import FastSignatures

NODES = 8


async def order_of_tasks() -> tuple[int, ...]:
    order: list[int] = []

    async def task(number: int) -> None:
        for _ in range(20):
            order.append(number)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(task, number)
    return tuple(order)


def test_order_of_tasks_depends_on_the_seed_alone() -> None:
    runs = [run_seeded(seed, order_of_tasks) for seed in (1, 2, 1, 2)]
    assert runs[0] == runs[2] != runs[1] == runs[3]


async def test_works_inside_a_running_loop() -> None:
    orders = []
    for seed in (1, 2, 1):
        with seeded_scheduler(seed):
            orders.append(await order_of_tasks())
    assert orders[0] == orders[2] != orders[1]


def test_the_scheduler_is_left_as_it_was() -> None:
    run = trio._core._run
    before = (run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate())
    with pytest.raises(KeyError), seeded_scheduler(5):
        raise KeyError
    assert (run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate()) == before


def test_virtual_time_jumps() -> None:
    async def sleep() -> float:
        await trio.sleep(3600.0)
        return trio.current_time()

    assert run_seeded(1, sleep) == 3600.0


class Recorder(VirtualDatagrams):
    """Hashes every datagram sent, with its time and its ends."""

    def __init__(self, rng: Random, weather: Weather) -> None:
        super().__init__(rng, weather)
        self.seen = hashlib.sha256()

    def carry(self, data: bytes, source: Address, destination: Address) -> None:
        self.seen.update(f"{trio.current_time()} {source} {destination} {data.hex()}\n".encode())
        super().carry(data, source, destination)


async def whole_network(seed: int) -> str:
    """Some nodes find each other under bad weather, for a virtual hour. Returns a hash of all they sent."""
    rng = Random(seed)
    world = Recorder(Random(rng.random()), Weather(loss=0.1, duplication=0.05, late=0.05))
    params = NetworkParameters("replay", pow_bits=0, private=True)
    scheme = FastSignatures()
    async with trio.open_nursery() as nursery:
        services = []
        for number in range(1, NODES + 1):
            service = DhtService(
                params,
                Identity.create(0, rng.randbytes, scheme),
                world.at(f"10.0.0.{number}"),
                rng=Random(rng.random()),
                entropy=rng.randbytes,
                wall=lambda: 1.8e9 + trio.current_time(),
                listen=[Address("0.0.0.0", 4000)],
            )
            await nursery.start(service.run)
            services.append(service)
        for service in services[1:]:
            nursery.start_soon(service.bootstrap, [Address("10.0.0.1", 4000)], [])
        await trio.sleep(3600.0)
        assert all(len(service.contacts()) == NODES - 1 for service in services)
        nursery.cancel_scope.cancel()
    return world.seen.hexdigest()


def test_a_network_replays_bit_for_bit() -> None:
    first = run_seeded(3, whole_network, 3)
    assert run_seeded(3, whole_network, 3) == first
    assert run_seeded(4, whole_network, 4) != first


def test_a_network_replays_in_other_processes() -> None:
    """Other processes hash strings differently, so this finds an order taken from a set."""
    hashes = {
        subprocess.run(
            [sys.executable, __file__], env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True, check=True
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert hashes == {run_seeded(3, whole_network, 3).encode() + b"\n"}


if __name__ == "__main__":
    print(run_seeded(3, whole_network, 3))
