"""A kind of file that only a later version knows is refused before a byte of it is fetched."""

from pathlib import Path

import pytest

from kit.later import seal_as
from kit.worlds import prepare
from shoal.erasure import Link
from shoal.node import NeedsNewerShoal
from shoal.simulation.world import World, run_world


def test_an_unknown_kind_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "target"
    folder.mkdir()

    async def story(world: World) -> None:
        with monkeypatch.context() as patch:
            seal_as(patch, kind=2)
            shared = await prepare(world, 6, needed=2, total=4, name="of another kind")
        link = shared.published.link
        async with world.client("reader") as client:
            for target in (folder, folder / "copy"):
                with pytest.raises(NeedsNewerShoal, match="newer Shoal: this version does not know a file of kind 2"):
                    await client.fetch(link, target)
            with pytest.raises(NeedsNewerShoal):
                async with client.open_fetch(link):
                    pass
            with pytest.raises(NeedsNewerShoal):
                await client.info(link)
            assert (await client.info(Link(link.id, link.kind))).name is None
            assert (await client.check(link)).good_shares == 4

    run_world(1, tmp_path / "world", story)
    assert not list(folder.iterdir())
