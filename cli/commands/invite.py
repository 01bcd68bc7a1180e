"""`shoal invite`: a line of text with which others join the network of this home."""

from typing import TYPE_CHECKING

import typer

from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import Code, CommandError
from shoal.cli.output import visible
from shoal.cli.units import plural

if TYPE_CHECKING:
    from shoal.node import Invitation


def invite(context: typer.Context) -> Job:
    """Print an invite: a line of text with which others join the network that you are on.

    It has the rules of the network and up to three peers that answer now. Everybody who has it can join.
    """
    settings = globals_of(context)
    return settings.job(lambda: _invite(settings))


async def _invite(settings: Globals) -> int:
    async with settings.open_client() as node:
        made = await node.invite()
    if not made.network.peers and made.network.rendezvous is None:
        raise CommandError(
            f"No peer of the network {visible(made.network.parameters.name)!r} is known, so an invite would lead to "
            f"nobody. Start a node of it first: {settings.command('node', 'run')}",
            Code.NO_PEERS,
        )
    output = settings.output
    output.result(made.text)
    _warn(settings, made)
    if output.interactive:
        output.note(f"On another machine, this makes its home a part of the network:\n  shoal join {made.text}")
    parameters = made.network.parameters
    output.summary(
        invite=made.text,
        network=parameters.name,
        private=parameters.private,
        peers=[
            {"address": peer.address, "node_id": peer.node_id.hex() if peer.node_id else None}
            for peer in made.network.peers
        ],
        answered=made.answered,
    )
    return Code.OK


def _warn(settings: Globals, made: "Invitation") -> None:
    """Say what limits the use of an invite."""
    peers = plural(len(made.network.peers), "peer")
    if made.is_local:
        settings.output.warn("All peers of this network are on this machine: nobody can join from another one.")
    elif not made.network.peers:
        settings.output.warn(
            "No peer answered. The invite names none: it leads to the network through the Mainline DHT."
        )
    elif not made.answered:
        settings.output.warn(f"No peer answered now. The invite names {peers} of the network file, untried.")
