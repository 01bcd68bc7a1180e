"""What can go wrong between two peers, told apart by what the caller does next. Mapped to `ShoalError` higher
up."""

from shoal.node.errors import Cause


class PeerError(Exception):
    """Root of the channel's errors. Each is about one peer, never about the network as a whole.

    :ivar cause: what it says of the peer, for counts by cause.
    """

    cause: Cause = Cause.SILENT

    @property
    def is_busy(self) -> bool:
        """Whether the peer said that it is busy, so that it may do later what it was asked."""
        return self.cause is Cause.BUSY

    @property
    def wait_s(self) -> float:
        """After how long the peer says that it makes sense to ask again; 0 where it says nothing of it."""
        return 0.0


class Unreachable(PeerError):
    """No connection could be made to the address. Try another peer, or this one later."""


class Occupied(Unreachable):
    """The node answered that it has no connection free for this caller."""

    cause = Cause.BUSY


class Disconnected(Unreachable):
    """The connection broke or was closed while it was in use. What was under way may or may not have
    happened."""


class LeftAlone(Unreachable):
    """We made no connection, since too many to that host or prefix brought no peer lately."""


class OtherNode(Unreachable):
    """Another node answers at the address. It is honest: the one that was meant has moved or is gone."""


class OtherNetwork(Unreachable):
    """The peer belongs to another network. It is honest, and the message has both names."""

    cause = Cause.FOREIGN


class TimedOut(PeerError):
    """The peer did not answer within the time the caller gave it."""


class Misbehaved(PeerError):
    """The peer broke the protocol. The connection is closed."""

    cause = Cause.LIED


class MalformedMessage(Misbehaved):
    """Bytes that are no valid message. The only error that decoding raises.

    `request` is the type and id of the request the bytes belong to, where that much could be read: a server
    can then answer it.
    """

    def __init__(self, message: str, *, request: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.request = request


class ConversationFailed(PeerError):
    """Our own code, or a library's parser, failed on what the peer sent. The connection is closed."""


class RemoteError(PeerError):
    """The peer answered with a failure. `messages.Status` and `messages.Reason` say what the two numbers mean.

    `text` is for a person. A caller decides by the numbers alone.
    """

    def __init__(self, status: int, reason: int, text: str = "", price: int = 0, cause: Cause = Cause.REFUSED) -> None:
        super().__init__(status, reason, text, price, cause)
        self.status = status
        self.reason = reason
        self.text = text
        self.price = price
        self.cause = cause

    @property
    def wait_s(self) -> float:
        """See `PeerError`. The price of an answer from a busy peer is in seconds."""
        return float(self.price) if self.is_busy else 0.0

    def __str__(self) -> str:
        return f"the peer answered with status {self.status:d}, reason {self.reason:d}: {self.text or 'no text'}"
