"""What a port is mapped for."""

from enum import Enum


class Transport(Enum):
    """Both are mapped, on one port. The value is the number of the protocol (IANA)."""

    TCP = 6
    UDP = 17
