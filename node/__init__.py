"""What one machine does on a Shoal network: publish, fetch, keep others' shares. The public library.

    async with open_node(bootstrap=["198.51.100.7:4750"]) as node:
        published = await node.publish("holiday.mkv")
        await node.fetch(published.link, "copy.mkv")

From the file to the wire: `sources` -> `sealing` (`cipher`) -> `lanes` -> `channel`; from the wire to the file:
`search` -> `reading` -> `fetch` -> `targets`; the volunteer's side: `holder` on `store`. ARCHITECTURE.md walks through.
"""

from shoal import __version__
from shoal.dht import Address, NetworkParameters, NodeId
from shoal.erasure import FileId, Link, LinkKind
from shoal.node.doctor import Diagnosis, Level, Symptom, diagnose
from shoal.node.environment import Environment, real_environment
from shoal.node.errors import (
    AlreadyRunning,
    BadData,
    Cause,
    LocalError,
    NeedsNewerShoal,
    NoPeers,
    NotFound,
    Refused,
    ShoalError,
    TooFewShares,
    UsageError,
    WrongKey,
    causes_in_words,
)
from shoal.node.fetching.fetch import FetchStream
from shoal.node.fetching.folder import RemoteFolder
from shoal.node.fetching.remote import RemoteFile
from shoal.node.folders.entries import Entry, EntryKind
from shoal.node.folders.tree import Skipped, Tree
from shoal.node.folders.walk import Symlinks, WalkChoices
from shoal.node.home.daemon import daemon_status, stop_daemon
from shoal.node.home.home import Home
from shoal.node.home.invites import invite_to, parse_invite
from shoal.node.home.joined import is_shipped, join_network, network_of
from shoal.node.home.network import Network, Peer
from shoal.node.home.receipts import Receipt, parse_receipt
from shoal.node.home.settings import NodeSettings, init_node, load_settings, written_settings
from shoal.node.inviting import Invitation
from shoal.node.node import Node
from shoal.node.opening import open_node
from shoal.node.reach.reachability import Reachability, Reachable
from shoal.node.results import (
    Checked,
    Deleted,
    Fetched,
    FileInfo,
    Holder,
    KeptFile,
    Left,
    OnProgress,
    Phase,
    Progress,
    Published,
    PublishedFile,
    Renewed,
    Repaired,
    Republished,
    Width,
)
from shoal.node.translate import parse_link

VERSION = __version__

__all__ = [
    "VERSION",
    "Address",
    "AlreadyRunning",
    "BadData",
    "Cause",
    "Checked",
    "Deleted",
    "Diagnosis",
    "Entry",
    "EntryKind",
    "Environment",
    "FetchStream",
    "Fetched",
    "FileId",
    "FileInfo",
    "Holder",
    "Home",
    "Invitation",
    "KeptFile",
    "Left",
    "Level",
    "Link",
    "LinkKind",
    "LocalError",
    "NeedsNewerShoal",
    "Network",
    "NetworkParameters",
    "NoPeers",
    "Node",
    "NodeId",
    "NodeSettings",
    "NotFound",
    "OnProgress",
    "Peer",
    "Phase",
    "Progress",
    "Published",
    "PublishedFile",
    "Reachability",
    "Reachable",
    "Receipt",
    "Refused",
    "RemoteFile",
    "RemoteFolder",
    "Renewed",
    "Repaired",
    "Republished",
    "ShoalError",
    "Skipped",
    "Symlinks",
    "Symptom",
    "TooFewShares",
    "Tree",
    "UsageError",
    "WalkChoices",
    "Width",
    "WrongKey",
    "__version__",
    "causes_in_words",
    "daemon_status",
    "diagnose",
    "init_node",
    "invite_to",
    "is_shipped",
    "join_network",
    "load_settings",
    "network_of",
    "open_node",
    "parse_invite",
    "parse_link",
    "parse_receipt",
    "real_environment",
    "stop_daemon",
    "written_settings",
]
