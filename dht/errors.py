"""The errors of the DHT layer: one small family, so that a caller can map them in one place."""


class DhtError(Exception):
    """Root of all errors raised on purpose by `shoal.dht`."""


class ProtocolError(DhtError):
    """Bytes from somebody else that are not a valid message, record or contact."""


class AddressError(ProtocolError):
    """Text or bytes that do not name an IP address and a port we can use."""


class NobodyAnsweredError(DhtError):
    """No peer answered in the time the caller was ready to wait."""


class QueryError(DhtError):
    """One query to one peer brought no usable answer. Root of the three ways in which that happens."""


class NoReplyError(QueryError):
    """The peer stayed silent through all attempts, or its address cannot be reached."""


class UnsupportedError(QueryError):
    """The peer answered that it does not know this kind of request."""


class MisbehaviourError(QueryError):
    """The peer's answer was signed by it and still breaks the protocol."""


class RecordTooLargeError(DhtError):
    """A payload of ours is longer than a record may carry."""


class ListenError(DhtError):
    """A listen address could not be bound; the message names the address and the system's reason."""
