"""Publishing a file again under a wider code. It streams from its holders to new ones and is never on this disk.

The code of a file cannot be changed: n and k are in the manifest, and so in the link. So a wider file is a new file
with a new link. The old one stays as it is until its lease ends or its owner deletes it.
"""

from contextlib import suppress

from shoal.erasure import Link, LinkKind
from shoal.node.context import Context
from shoal.node.errors import Refused
from shoal.node.fetching.fetch import open_file, open_stream
from shoal.node.holders.width import look_for_width
from shoal.node.home.ledger import Ledger
from shoal.node.names import name_bytes
from shoal.node.publishing.journal import NoJournal
from shoal.node.publishing.options import DEFAULT_TTL_S, PublishOptions
from shoal.node.publishing.publish import Publisher
from shoal.node.publishing.stream_source import RepublishedSource
from shoal.node.results import OnProgress, Republished


async def republish_file(
    context: Context, ledger: Ledger, link: Link, ttl_s: int | None, on_progress: OnProgress | None = None
) -> Republished:
    """See `Node.republish`."""
    opened = await open_file(context, link)
    manifest, described = opened.located.manifest, opened.metadata
    width = await look_for_width(context, manifest, described.size)
    if not width.can_grow:
        raise Refused(
            f"This file has {manifest.n} shares and survives {width.survives} losses, and the network allows no more "
            f"now ({width.hosts} hosts were found). Nothing was published."
            if width.hosts
            else f"This file has {manifest.n} shares and survives {width.survives} losses, the most for its size. "
            "Nothing was published."
        )
    options = PublishOptions(
        ttl_s=ttl_s or described.lease_s or DEFAULT_TTL_S,
        public=link.kind is LinkKind.PUBLIC,
        media_type=described.media_type,
        survives_more_than=width.survives,
    )
    async with open_stream(context, opened) as stream:
        source = RepublishedSource(stream, stream.size, _plain_name(stream.name), described.folder)
        published = await Publisher(context, ledger, source, NoJournal(), options, on_progress).run()
    kept = await context.env.call(ledger.replace, link, published.link, context.env.wall(), published.lease_until)
    return Republished(published, link, width, is_kept=kept)


def _plain_name(name: str | None) -> str | None:
    """The name, unless it is none that a file can have: then the new file has none."""
    with suppress(ValueError):
        if name is not None and name_bytes(name):
            return name
    return None
