"""The public face of the library: an open node, and what one can do with it.

What only a volunteer or a rare operation needs is imported there: a command is mostly its own start.
"""

import logging
import math
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from shoal.dht import Address, NobodyAnsweredError, NodeId
from shoal.erasure import FileId, Link, LinkKind
from shoal.node.context import Context
from shoal.node.doctor import Diagnosis, diagnose
from shoal.node.errors import LocalError, NoPeers, UsageError, WrongKey
from shoal.node.fetching.content import CACHE_BYTES, check_cache, open_content
from shoal.node.fetching.fetch import FetchStream, check_has_key, check_is_file, open_file, open_stream, unlock
from shoal.node.fetching.folder import RemoteFolder, inner_path, open_at
from shoal.node.fetching.folder_targets import fetch_to_path
from shoal.node.fetching.remote import RemoteFile
from shoal.node.fetching.targets import check_target
from shoal.node.folders.tree import Tree
from shoal.node.folders.walk import WalkChoices
from shoal.node.formats import MAX_LEASE_S
from shoal.node.holders.deletion import delete_file
from shoal.node.holders.placement import one_per_host
from shoal.node.holders.renewal import check_ttl, renew_file, renew_used
from shoal.node.holders.search import Search
from shoal.node.holders.width import width_among
from shoal.node.home.home import Home
from shoal.node.home.ledger import Ledger
from shoal.node.home.receipts import Receipt
from shoal.node.inviting import Invitation, Inviting
from shoal.node.joining import Joining, NoWayInError
from shoal.node.publishing.journal import journal_for
from shoal.node.publishing.opening import Publishable, open_source
from shoal.node.publishing.options import DEFAULT_TTL_S, PublishOptions
from shoal.node.publishing.publish import Publisher
from shoal.node.publishing.walking import walk
from shoal.node.reach.reachability import Reachability, Reachable
from shoal.node.results import (
    Checked,
    Deleted,
    Fetched,
    FileInfo,
    KeptFile,
    Left,
    OnProgress,
    Published,
    PublishedFile,
    Renewed,
    Repaired,
    Republished,
)
from shoal.node.translate import parse_link, translated

if TYPE_CHECKING:
    from shoal.node.volunteer.serving import Serving

log = logging.getLogger(__name__)

JOIN_TIMEOUT_S = 12.0  # of one command: a bootstrap node across the world answers in one, a dead list never will
INVITE_TIMEOUT_S = 3.0  # an invite can be made without an answer, too

NOBODY = (
    "No peer is known: there is no public network yet. Join a network with shoal join INVITE, "
    "--bootstrap HOST:PORT or --network FILE, or start one: shoal swarm --nodes 16 --dir ./swarm"
)

CLOSED = "This node is closed. Use it inside its block: async with open_node(...) as node: ..."


class Node:
    """An open node, made by `open_node`. It publishes and fetches; it also serves others if it was opened to.

    The class is long because every operation of the library is here, with its documentation. Each hands its work on.

    Operations may run side by side. Cancelling one leaves no task, connection or temporary name behind. To go on with
    an interrupted publish or fetch, call it again with the same arguments.
    """

    def __init__(
        self,
        context: Context,
        home: Home,
        ledger: Ledger,
        serving: "Serving | None",
        joining: Joining,
        inviting: Inviting,
    ) -> None:
        self.context = context
        self.home = home
        self._ledger = ledger
        self.serving = serving
        self._joining = joining
        self._inviting = inviting
        self._is_closed = False

    def close(self) -> None:
        """Take no operation any more: the block of `open_node` has been left, which calls this."""
        self._is_closed = True

    @contextmanager
    def _operation(self) -> Iterator[None]:
        """What every operation runs in: its failures are of our own family.

        :raises UsageError: the node is closed.
        """
        if self._is_closed:
            raise UsageError(CLOSED)
        with translated():
            try:
                yield
            except RuntimeError as error:
                if self._is_closed:  # it was under way when the block was left
                    raise UsageError(CLOSED) from error
                raise

    @property
    def node_id(self) -> NodeId:
        """The id of this node on the network. A client's id is thrown away when the node closes."""
        return self.context.dht.identity.node_id

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where a serving node listens, with real port numbers. Empty for a client."""
        return self.context.dht.addresses

    async def wait_joined(self, timeout_s: float = JOIN_TIMEOUT_S) -> None:
        """Wait until a peer has answered. The first node of a network has nobody to wait for.

        :raises NoPeers: none answered in time, or no address is known to ask.
        """
        if self._is_closed:
            raise UsageError(CLOSED)
        if not self._joining.doors and not self.context.dht.contacts():
            if self._joining.patience_s and await self._is_found(min(timeout_s, self._joining.patience_s)):
                return
            if self.serving is not None:
                return  # the first node of a network has nobody to wait for
            raise NoPeers(_nobody_there(self._joining.looked_in) if self._joining.looked_in else NOBODY)
        try:
            await self._joining.wait_joined(timeout_s, patient=self.serving is not None)
        except NobodyAnsweredError as error:
            raise NoPeers(self._nobody_answered(timeout_s)) from error
        except NoWayInError as error:
            raise NoPeers(
                f"No peer was found: {error}. Check the name of the peer, and this machine's connection."
            ) from error

    async def _is_found(self, timeout_s: float) -> bool:
        """Whether another node and this one find each other without a door."""
        try:
            await self._joining.wait_joined(timeout_s, patient=True)
        except NobodyAnsweredError:
            return False
        return True

    async def invite(self, timeout_s: float = INVITE_TIMEOUT_S) -> Invitation:
        """An invite to this network, through peers that answer. Where none does in time, through those of the network
        file, and it may name nobody.

        :raises UsageError: the network has rules that no invite can carry.
        """
        with self._operation():
            with suppress(NoPeers):
                await self.wait_joined(timeout_s)
            return await self._inviting.invitation()

    def _nobody_answered(self, timeout_s: float) -> str:
        text = f"No peer answered within {timeout_s:g} s ({self._joining.told()}). "
        if self.context.network.private:
            return text + "Check that they run, with the same network file."
        return text + (
            "Check the connection. Peers on a LAN or on this machine need a private network: see docs/volunteer.md"
        )

    async def publish(
        self,
        source: Publishable,
        *,
        name: str | None = None,
        needed: int | None = None,
        total: int | None = None,
        happy: int | None = None,
        ttl_s: int = DEFAULT_TTL_S,
        public: bool = False,
        media_type: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Published:
        """Encrypt a file, spread it over volunteers, and return its link.

        The result says whether it is `complete`. If it is not, the file can be fetched, and is on fewer hosts than it
        should be, or is hard to find.

        :param source: a path of a file or a folder, a tree from `walk`, bytes, a binary file object, or an iterable of
            bytes, async or not. File objects and plain iterables are read in a worker thread. Only the publish of a
            path or a tree can go on after a crash.
        :param name: the name for those who fetch it; by default the file's own.
        :param needed: k, the shares that are enough; by default as many as network and size allow.
        :param total: n, the shares in all, at most 256; by default three for each one needed.
        :param happy: hosts that must take a share to make the result complete; by default three quarters of n.
        :param ttl_s: the lease in seconds, from one hour to 90 days.
        :param public: let everybody read it who has the hash, its holders included.
        :raises UsageError: a number, a name or a media type is out of range, or the source cannot be published.
        :raises LocalError: the source, the journal or the list of this home cannot be read or written.
        :raises NoPeers: no peer answered.
        :raises Refused: peers answered, and too few took a share.
        """
        with self._operation():
            options = PublishOptions(name, needed, total, happy, _seconds(ttl_s), public, media_type)
            options.check()
            async with aclosing(await open_source(source, self.context.env)) as opened:
                await self.wait_joined()
                journal = journal_for(self.home.journal_folder, opened.identity, options.fields())
                return await Publisher(self.context, self._ledger, opened, journal, options, on_progress).run()

    async def walk(
        self,
        paths: Sequence[str | Path],
        choices: WalkChoices | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> Tree:
        """Look what is in a folder, or in a folder of several files and folders, to publish it then.

        Nothing is sent. The publish refuses what changes after this.

        :param choices: what to leave out, what becomes of symbolic links, and whether all must be readable.
        :raises UsageError: two paths have one name, or a pattern means nothing.
        :raises LocalError: something cannot be read or published, or the tree has more than a folder can have.
        """
        with self._operation():
            return await walk(self.context.env, paths, choices or WalkChoices(), on_progress)

    async def republish(
        self, link: Link | str, *, ttl_s: int | None = None, on_progress: OnProgress | None = None
    ) -> Republished:
        """Publish a file again under the widest code that the network allows now. The result has a new link.

        The file streams from its hosts to the new ones and is never on this machine's disk. The old link goes on
        working until its lease ends. An interrupted republish begins anew.

        :param ttl_s: the new lease in seconds, from one hour to 90 days; by default what the old file was given.
        :raises UsageError: the link is malformed or has no key, or `ttl_s` is out of range.
        :raises Refused: the network allows no wider file, or too few hosts took a share.
        :raises NotFound: nobody announces the file.
        :raises TooFewShares: fewer than k shares can be read.
        :raises NoPeers: no peer answered.
        :raises WrongKey: the key is of another file.
        :raises BadData: the publisher made shares that are no file.
        :raises NeedsNewerShoal: this version does not know the kind of file.
        :raises LocalError: the list of this home cannot be read or written.
        """
        with self._operation():
            parsed, lease_s = _parsed(link), None if ttl_s is None else _seconds(ttl_s)
            if lease_s is not None:
                check_ttl(lease_s)
            check_has_key(parsed)
            await self.wait_joined()
            from shoal.node.publishing.republish import republish_file

            return await republish_file(self.context, self._ledger, parsed, lease_s, on_progress)

    async def fetch(
        self,
        link: Link | str,
        target: Path | str | None = None,
        *,
        paths: Sequence[bytes | str] = (),
        force: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Fetched:
        """Fetch a file or a folder to disk. A `.part` grows beside the target, and the next call goes on with that.

        A link with a path brings what is there. Symbolic links that lead out of a folder are left out: see `left_out`
        of the result.

        :param target: what to make, or a directory in which the published name is used; by default the current one.
        :param paths: bring only these parts of a folder, each at its place in it.
        :param force: replace what exists. A folder is replaced with all that is in it.
        :raises UsageError: the link is malformed or has no key, or the file has no name and none is given.
        :raises LocalError: the target exists or cannot be written, there is no room for it, or the disk failed.
        :raises NoPeers: no peer answered.
        :raises NotFound: nobody announces the file, or a folder has nothing at a path.
        :raises TooFewShares: fewer than k shares can be read.
        :raises WrongKey: the key is of another file.
        :raises BadData: the publisher made shares that are no file.
        :raises NeedsNewerShoal: this version does not know the kind of file.
        """
        with self._operation():
            parsed = _parsed(link, takes_path=True)
            path = None if target is None else _path(target)
            inner = [inner_path(each) for each in paths]
            check_target(path, force=force)
            check_has_key(parsed)
            await self.wait_joined()
            done = await fetch_to_path(self.context, parsed, path, paths=inner, force=force, on_progress=on_progress)
        if done.lease_until is not None:
            await self._note(self._ledger.extend, parsed.id, done.lease_until)
        return done

    @asynccontextmanager
    async def open_fetch(
        self, link: Link | str, *, on_progress: OnProgress | None = None
    ) -> AsyncIterator[FetchStream]:
        """Fetch as a stream: `async with node.open_fetch(link) as file: async for chunk in file: …`

        Every chunk is verified before it is handed out, and only a few MiB are fetched ahead. The errors are those of
        `fetch`; each may also come in the middle of the stream.
        """
        with self._operation():
            parsed = _parsed(link)
            check_has_key(parsed)
            await self.wait_joined()
            opened = await open_file(self.context, parsed)
            check_is_file(opened)
            async with open_stream(self.context, opened, on_progress=on_progress) as stream:
                yield stream
            if stream.finished:
                renewed = await renew_used(self.context, opened.located, stream.proven, opened.metadata.lease_s)
                if renewed is not None:
                    await self._note(self._ledger.extend, parsed.id, renewed.lease_until)

    @asynccontextmanager
    async def open_remote(
        self, link: Link | str, *, cache_bytes: int = CACHE_BYTES
    ) -> AsyncIterator[RemoteFile | RemoteFolder]:
        """Open a file or a folder in the network to read any part of it: `async with node.open_remote(link) as file: …`

        A link with a path gives what is there. Leaving the block stops all fetching. The errors are those of `fetch`.
        Reading parts of a file renews no lease.

        :param cache_bytes: of plaintext that is kept in memory, to be read again.
        :raises NotFound: nobody announces the file, or there is nothing at the path of the link.
        :raises UsageError: the link is malformed or has no key, or its path is of a symbolic link.
        """
        with self._operation():
            parsed = _parsed(link, takes_path=True)
            check_has_key(parsed)
            check_cache(cache_bytes)
            await self.wait_joined()
            opened = await open_file(self.context, parsed)
            async with open_content(self.context, opened, cache_bytes) as content:
                yield await open_at(content, parsed.path)

    async def info(self, link: Link | str) -> FileInfo:
        """What the network tells of a file. Name and size of a private file need the key.

        :raises NotFound: nobody announces the file.
        :raises NoPeers: no peer answered.
        """
        with self._operation():
            parsed = _parsed(link)
            await self.wait_joined()
            located = await Search(self.context, parsed.id).run()
            manifest = located.manifest
            locked = parsed.kind is LinkKind.PRIVATE and parsed.key is None
            metadata = None if locked else unlock(manifest, parsed)[1]
            return FileInfo(
                file_id=manifest.id,
                public=parsed.kind is LinkKind.PUBLIC,
                k=manifest.k,
                n=manifest.n,
                ciphertext_bytes=manifest.ciphertext_bytes,
                name=None if metadata is None else metadata.name,
                size=None if metadata is None else metadata.content_bytes,
                media_type=None if metadata is None else metadata.media_type,
                is_folder=None if metadata is None else metadata.folder is not None,
                entries=None if metadata is None or metadata.folder is None else metadata.folder.entries,
                holders=located.holders(),
            )

    async def check(self, link: Link | str, *, verify: bool = False, on_progress: OnProgress | None = None) -> Checked:
        """Prove how many shares are there, and how much loss the file survives. The hash is enough.

        Every holder is asked for one random block of its share with its proof.

        :param verify: ask for every block of every share.
        :raises NotFound: nobody announces the file.
        :raises NoPeers: no peer answered.
        :raises BadData: the shares are good, and do not belong together.
        """
        with self._operation():
            parsed = _parsed(link)
            await self.wait_joined()
            from shoal.node.repairing.check import check_file

            checked = await check_file(self.context, parsed.id, verify=verify, on_progress=on_progress)
        if checked.lease_until is not None:
            await self._note(self._ledger.see, parsed.id, checked.lease_until)
        return checked

    async def repair(self, link: Link | str, *, on_progress: OnProgress | None = None) -> Repaired:
        """Make lost shares again from any k others, and put them on new hosts. The hash is enough.

        A result that is not `complete` has as many shares as hosts would take.

        :raises NotFound: nobody announces the file.
        :raises TooFewShares: fewer than k shares are left.
        :raises NoPeers: no peer answered.
        :raises BadData: the shares are good, and do not belong together.
        :raises UsageError: the lease has ended. Renew it first.
        """
        with self._operation():
            parsed = _parsed(link)
            await self.wait_joined()
            from shoal.node.repairing.repair import repair_file

            return await repair_file(self.context, parsed.id, on_progress)

    async def renew(self, link: Link | str, ttl_s: int = MAX_LEASE_S) -> Renewed:
        """Ask all holders to keep a file for longer. It never shortens a lease, and the hash is enough.

        :param ttl_s: for how long from now, in seconds: one hour to 90 days.
        :raises UsageError: the link is malformed, or `ttl_s` is out of range.
        :raises NotFound: nobody announces the file.
        :raises TooFewShares: holders of fewer than k shares promised to.
        :raises NoPeers: no peer answered.
        """
        with self._operation():
            parsed = _parsed(link)
            lease_s = _seconds(ttl_s)
            check_ttl(lease_s)
            await self.wait_joined()
            renewed = await renew_file(self.context, parsed.id, lease_s)
        await self._note(self._ledger.extend, parsed.id, renewed.lease_until)
        return renewed

    async def keep(self, link: Link | str) -> Renewed:
        """Renew a file now, and have this home's serving node renew it for as long as that runs.

        The hash is enough, and only the hash is written down. The errors are those of `renew`. After an error the file
        is not on the list.
        """
        with self._operation():
            parsed = _parsed(link)
            await self.wait_joined()
            renewed = await renew_file(self.context, parsed.id, look_wider=True)
        await self._note(self._ledger.extend, parsed.id, renewed.lease_until)
        await self.context.env.call(self._ledger.keep, parsed, self.context.env.wall(), renewed.lease_until)
        return renewed

    def unkeep(self, link: Link | str) -> bool:
        """Take a file off the list of what is kept. Return whether it was there. Its lease stays as it is."""
        with self._operation():
            return self._ledger.unkeep(_parsed(link))

    def kept(self) -> list[KeptFile]:
        """The files that this home's serving node keeps alive, the latest last."""
        return self._ledger.kept()

    def receipt(self, link: Link | str) -> Receipt:
        """The right to delete a file that this home has published, for taking it elsewhere.

        :raises UsageError: this home did not publish the file.
        """
        with self._operation():
            parsed = _parsed(link)
        secret = self._ledger.owner_secret(parsed.id)
        if secret is None:
            raise UsageError(
                "This file was not published from this home, so its owner key is not here. Use the home that "
                "published it, or delete it with --receipt FILE and a receipt that was made there with ls --receipt."
            )
        return Receipt(parsed.id, secret, parsed.kind)

    async def delete(self, link: Link | str | None = None, *, receipt: Receipt | None = None) -> Deleted:
        """Have all holders drop a file for ever: one that this home published, or the one that a receipt is for.

        Holders that are away keep their shares until they hear of it, or until the lease ends.

        :raises UsageError: neither a link nor a receipt is given, or this home does not have the owner key.
        :raises WrongKey: the receipt or the owner key is for another file.
        :raises NotFound: nobody announces the file.
        :raises NoPeers: no peer answered.
        """
        if receipt is None:
            if link is None:
                raise UsageError("Name the file to delete, or give its receipt.")
            receipt = self.receipt(link)
        with self._operation():
            if link is not None and _parsed(link).id != receipt.file_id:
                raise WrongKey("The receipt and the link are for different files.")
            await self.wait_joined()
            deleted = await delete_file(self.context, receipt.file_id, receipt.secret)
        if deleted.confirmed:
            await self._note(self._ledger.mark_deleted, receipt.file_id, self.context.env.wall())
        return deleted

    async def _note(self, write: Callable[[FileId, float], None], file_id: FileId, moment: float) -> None:
        """Write down what has come to pass in the network: an error of our own list cannot undo it."""
        try:
            await self.context.env.call(write, file_id, moment)
        except LocalError as error:
            log.error("%s The network did what was asked, but the list of this home does not show it.", error)

    async def leave(self, *, on_progress: OnProgress | None = None) -> Left:
        """Hand all shares kept here over to other hosts, before this node goes for good.

        The node goes on serving meanwhile, and takes no further shares from then on.

        :raises UsageError: this node is a client.
        :raises NoPeers: no peer answered.
        """
        if self.serving is None:
            raise UsageError("Only a serving node has shares to hand over.")
        with self._operation():
            await self.wait_joined()
            self.serving.leave()
            from shoal.node.volunteer.leaving import Leaver

            return await Leaver(self.context, self.serving.store, self.serving.known_holders, on_progress).run()

    def end_wanted(self) -> trio.Event:
        """An event that is set when the administrator wants the node to end, as `shoal node leave` does.

        The program should then leave the node's block. Before the first call such wishes are refused.

        :raises UsageError: this node is a client.
        """
        if self.serving is None:
            raise UsageError("Only a serving node can be asked to end.")
        return self.serving.ending.listen()

    def published(self) -> list[PublishedFile]:
        """The files that this home has published, the latest last. Nobody is asked: the width of each is judged by the
        hosts that this home has met lately."""
        private = self.context.network.private
        hosts = len(one_per_host([*self.context.dht.contacts(), *self._joining.met], private=private))
        return [
            file if file.deleted_at is not None else replace(file, width=width_among(file.k, file.n, file.size, hosts))
            for file in self._ledger.files()
        ]

    async def doctor(self) -> Diagnosis:
        """What is wrong with this node, what that means, and what to do.

        :raises UsageError: this node is a client.
        """
        if self.serving is None:
            raise UsageError("Only a serving node can be examined: a client has no port that others could call.")
        return diagnose(await self.status())

    @property
    def reachability(self) -> Reachability:
        """How others reach this node. Nobody reaches a client."""
        return Reachability(Reachable.NO) if self.serving is None else self.serving.reachability

    async def status(self) -> dict[str, Any]:
        """How this node is doing, as plain values. A serving node has the fields of `shoal node status`."""
        with self._operation():
            from shoal.node.volunteer.status import node_status

            return await node_status(self.context, self.serving)


def _nobody_there(places: Sequence[str]) -> str:
    """What to say where nobody was found at these places."""
    return (
        f"No peer is known, and none was found in {' or '.join(places)}. Start a node of this network: shoal node run. "
        "Or name a peer with --bootstrap HOST:PORT."
    )


def _parsed(link: object, *, takes_path: bool = False) -> Link:
    """The link that was given. A path in it is refused by what would do its work on the whole folder all the same."""
    if not isinstance(link, str | Link):
        raise UsageError(f"A link is a str or a Link, and not of type {type(link).__name__}.")
    parsed = link if isinstance(link, Link) else parse_link(link)
    if parsed.path and not takes_path:
        raise UsageError("This link has a path, but this works on whole files and folders. Leave the path out.")
    return parsed


def _path(target: object) -> Path:
    if not isinstance(target, str | os.PathLike):
        raise UsageError(f"A target is a str or a Path, and not of type {type(target).__name__}.")
    path = os.fspath(target)
    return Path(path if isinstance(path, str) else os.fsdecode(path))


def _seconds(ttl_s: object) -> int:
    if not isinstance(ttl_s, int | float) or not math.isfinite(ttl_s):
        raise UsageError(f"A lease is a number of seconds, and not {ttl_s!r}.")
    return int(ttl_s)
