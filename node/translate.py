"""The border of the library: errors of the layers below become members of the `ShoalError` family."""

from collections.abc import Iterator
from contextlib import contextmanager

from shoal.dht import DhtError, ListenError, NobodyAnsweredError
from shoal.erasure import ErasureError, Link, MalformedLink
from shoal.erasure import parse_link as parse
from shoal.node.channel import PeerError, Unreachable
from shoal.node.errors import BadData, LocalError, NoPeers, Refused, UsageError
from shoal.node.folders.entries import BadEntry
from shoal.node.store import StoreError


@contextmanager
def translated() -> Iterator[None]:
    """Translate what escapes from an operation. Anything not named here is a bug of ours and passes as it is."""
    try:
        yield
    except MalformedLink as error:
        raise UsageError(f"That is not a valid link: {error}.") from error
    except BadEntry as error:
        raise BadData(f"This folder cannot be read: {error}. Its publisher made it so.") from error
    except ErasureError as error:
        raise BadData(f"This file cannot be read: {error}.") from error
    except NobodyAnsweredError as error:
        raise NoPeers(f"No peer answered: {error}.") from error
    except ListenError as error:
        said = str(error)
        raise LocalError(
            f"{said[:1].upper()}{said[1:]}. Choose another address with --listen, or stop what uses it."
        ) from error
    except DhtError as error:
        raise NoPeers(f"The network could not be asked: {error}.") from error
    except Unreachable as error:
        raise NoPeers(f"Lost a peer that was needed: {error}.", causes={error.cause: 1}) from error
    except PeerError as error:
        raise Refused(f"A peer refused to help: {error}.", causes={error.cause: 1}) from error
    except StoreError as error:
        raise LocalError(f"The share store failed: {error}.") from error


def parse_link(text: str) -> Link:
    """The link in `text`, however it was pasted: with line breaks, quotes or the marks of a sentence around it.

    :raises UsageError: it is none, or mistyped. The message never repeats the text, which is a secret.
    """
    with translated():
        return parse(text)
