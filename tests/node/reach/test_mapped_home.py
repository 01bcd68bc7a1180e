"""A whole volunteer at home, behind a real router that speaks UPnP: it becomes mapped, and strangers reach it there."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from kit.fleet import Daemon
from kit.upnp_home import OUTSIDE_HOST, UpnpHome, missing, upnp_home
from shoal.dht import Address
from shoal.node import Network, diagnose, open_node

PORT = 4750
LIMIT_S = 20.0
DATA = bytes(range(256)) * 1000

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"real routers are left out: {missing()}")


class Town:
    """A volunteer at home, and one outside through which it joins."""

    def __init__(self, folder: Path, home: UpnpHome) -> None:
        self.home = home
        file = folder / "network.toml"
        lines = ('network = "town"', "pow_bits = 0", "private = true", "[[peer]]", f'address = "{OUTSIDE_HOST}:{PORT}"')
        file.write_text("\n".join(lines) + "\n")
        self.network = Network.load(file)
        self.outsider = Daemon(0, folder / "outsider", file, Address(OUTSIDE_HOST, PORT))
        self.inhabitant = Daemon(1, folder / "inhabitant", file, Address("0.0.0.0", PORT))

    def start(self) -> float:
        """Start both, and wait until they answer; when the one at home was started."""
        both = ((self.outsider, self.home.outside), (self.inhabitant, self.home.home))
        begun = 0.0
        for daemon, namespace in both:
            with namespace.entered():
                begun = daemon.start()
        for daemon, namespace in both:
            with namespace.entered():
                trio.run(daemon.wait_up, begun)
        return begun

    def wait_mapped(self, external: str, since: float, limit_s: float) -> dict[str, object]:
        """What the inhabitant says of itself, once it names that address to others."""
        while True:
            with self.home.home.entered():
                status = trio.run(self.inhabitant.status)
            if (status["address_source"], status["address"]) == ("mapped", external):
                return status
            assert time.monotonic() - since < limit_s, status
            time.sleep(0.1)

    def publish_from_outside(self, folder: Path) -> None:
        """A stranger sends a share to each, so one to the home."""

        async def publish() -> None:
            async with open_node(folder, network=self.network) as node:
                published = await node.publish(DATA, name="x", needed=1, total=2)
                assert Address(self.home.wan_host, PORT) in published.holders.values()

        with self.home.outside.entered():
            trio.run(publish)


@contextmanager
def town(folder: Path) -> Iterator[Town]:
    with upnp_home(folder) as home:
        made = Town(folder, home)
        try:
            yield made
        finally:
            made.outsider.kill()
            made.inhabitant.kill()


def test_a_volunteer_at_home_is_mapped_within_20_s_and_closes_its_port_at_the_end(tmp_path: Path) -> None:
    with town(tmp_path) as made:
        made.home.start_router(pmp=False)
        begun = made.start()
        status = made.wait_mapped(f"{made.home.wan_host}:{PORT}", begun, LIMIT_S)
        made.publish_from_outside(tmp_path / "client")
        told = {each.subject: each.says for each in diagnose(status).findings}
        assert told["router"].startswith(f"The router at 192.168.77.1 opened port {made.home.wan_host}:{PORT} by UPnP")
        assert told["address"].endswith("That is the router's own address.")
        assert made.home.rules().count("dnat") == 2
        made.inhabitant.stop()
        assert made.inhabitant.wait() == 130
        assert made.home.rules().count("dnat") == 0
