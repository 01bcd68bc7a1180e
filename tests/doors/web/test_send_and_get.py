"""From a drop to a link, and from the link to the bytes: the API on whole nodes, in simulation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from kit.web import Opened, opened_door
from kit.worlds import start_nodes
from shoal.simulation.world import World, run_world

NODES = 14


@asynccontextmanager
async def doors(world: World, *names: str) -> AsyncIterator[list[Opened]]:
    async with trio.open_nursery() as nursery:
        found = []
        for name in names:
            opened: trio.Event = trio.Event()

            async def hold(name: str = name, opened: trio.Event = opened) -> None:
                async with world.client(name) as node, opened_door(world, node) as door:
                    found.append(door)
                    opened.set()
                    await trio.sleep_forever()

            nursery.start_soon(hold)
            await opened.wait()
        yield found
        nursery.cancel_scope.cancel()


def test_a_file_goes_from_a_drop_to_a_link_to_another_home(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await start_nodes(world, NODES)
        data = world.rng.randbytes(3_000_000)
        async with doors(world, "sender", "reader") as (sender, reader):
            entries = [{"path": "film.mp4", "size": len(data), "modified_ms": 1_700_000_000_000}]
            send = await sender.page.good("POST", "sends", {"name": "film.mp4", "entries": entries})
            assert (send["phase"], send["received"]) == ("receiving", [0])
            path = f"/api/v1/sends/{send['id']}/files/0"
            first = await sender.page.ask("PUT", f"{path}?offset=0", data[:1_000_000])
            assert first.json() == {"received": 1_000_000}
            again = await sender.page.ask("PUT", f"{path}?offset=0", data)
            assert (again.status, again.json()["received"]) == (409, 1_000_000)
            rest = await sender.page.ask("PUT", f"{path}?offset=1000000", data[1_000_000:])
            assert rest.json() == {"received": len(data)}
            await sender.page.good("POST", f"sends/{send['id']}/start", {"lease_days": 30})
            done = await sender.page.until(f"sends/{send['id']}", "done", "failed")
            assert (done["phase"], done["complete"], done["survives"]) == ("done", True, 8)
            assert not list((tmp_path / "sender").rglob("content"))

            info = await reader.page.good("POST", "info", {"link": done["link"]})
            assert (info["name"], info["size"], info["media_type"]) == ("film.mp4", len(data), "video/mp4")
            folder = tmp_path / "downloads"
            folder.mkdir()
            get = await reader.page.good("POST", "gets", {"link": f" <{done['link']}>. ", "into": str(folder)})
            got = await reader.page.until(f"gets/{get['id']}", "done", "failed")
            assert got["path"] == str(folder / "film.mp4")
            assert (folder / "film.mp4").read_bytes() == data

            url = (await reader.page.good("POST", "tickets", {"link": done["link"]}))["url"]
            target = url.removeprefix("http://127.0.0.1:4781")
            whole = await reader.files.ask("GET", target)
            part = await reader.files.ask("GET", target, headers={"range": "bytes=1000000-1000099"})
            assert whole.body == data
            assert (part.status, part.body) == (206, data[1_000_000:1_000_100])
            assert part.headers["content-range"] == f"bytes 1000000-1000099/{len(data)}"

    run_world(1, tmp_path, story)
