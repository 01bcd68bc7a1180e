"""What a publisher may choose, and the limits of it."""

from typing import Any

from shoal.erasure import MAX_SHARES, ErasureError, check_code, chosen_code, default_happy, default_width
from shoal.node.cipher import MAX_MEDIA_TYPE_BYTES
from shoal.node.errors import UsageError
from shoal.node.formats import MAX_LEASE_S
from shoal.node.holders.renewal import check_ttl
from shoal.node.names import name_bytes, printable
from shoal.values import dataclass

DEFAULT_TTL_S = MAX_LEASE_S  # the longest lease, so the fewest renewals


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """What a publisher may choose. None means: as network and file allow."""

    name: str | None = None
    needed: int | None = None
    total: int | None = None
    happy: int | None = None
    ttl_s: int = DEFAULT_TTL_S
    public: bool = False
    media_type: str | None = None
    survives_more_than: int = 0  # losses; where hosts agree only to a narrower file, nothing is published

    @property
    def code(self) -> tuple[int, int] | None:
        """(k, n) where the user chose, else None. Where only one of the two is given, the expansion is as always."""
        return chosen_code(self.needed, self.total)

    @property
    def short_lease_s(self) -> int | None:
        """The lease where it is shorter than the longest: a fetch must not extend it."""
        return self.ttl_s if self.ttl_s < MAX_LEASE_S else None

    def check(self) -> None:
        """Raises UsageError for a number, a name or a media type that cannot be."""
        self._check_types()
        code = self.code
        if code is not None:
            try:
                check_code(*code)
            except ErasureError as error:
                raise UsageError(_code_words(*code)) from error
        most = code[1] if code is not None else MAX_SHARES
        if self.happy is not None and not 1 <= self.happy <= most:
            raise UsageError(f"happy={self.happy} is not between 1 and {most}.")
        check_ttl(self.ttl_s)
        media_type = self.media_type or ""
        if not media_type.isascii() or not media_type.isprintable() or len(media_type) > MAX_MEDIA_TYPE_BYTES:
            raise UsageError(f"A media type has at most {MAX_MEDIA_TYPE_BYTES} characters, all plain ASCII.")
        if self.name is not None:
            try:
                name_bytes(self.name)
            except ValueError as error:
                raise UsageError(f"The name {printable(self.name)!r} is {error}.") from error

    def _check_types(self) -> None:
        for word, number in (("needed", self.needed), ("total", self.total), ("happy", self.happy)):
            if number is not None and type(number) is not int:
                raise UsageError(f"{word} is {number!r}, which is no number of hosts.")
        for word, text in (("A name", self.name), ("A media type", self.media_type)):
            if text is not None and not isinstance(text, str):
                raise UsageError(f"{word} is a str, and not of type {type(text).__name__}.")

    def width(self, size: int | None, hosts: int) -> tuple[int, int]:
        """(k, n) for a file of `size` bytes (None: unknown, and large) when so many hosts would take a share.

        Where more hosts are wanted than the usual code has shares, and are there, there is a share for each of them.
        """
        if self.code is not None:
            return self.code
        k, n = default_width(size, hosts)
        if self.happy is not None and n < self.happy <= hosts:
            return chosen_code(None, self.happy) or (k, n)
        return k, n

    def happy_with(self, n: int) -> int:
        """The number of distinct hosts that makes a publish complete, where n shares are possible."""
        return self.happy or default_happy(n)

    def fields(self) -> list[Any]:
        """The choices, for the journal's name: another choice is another command."""
        return [self.name, self.needed, self.total, self.happy, self.ttl_s, self.public, self.media_type]


def _code_words(needed: int, total: int) -> str:
    if 1 <= total < needed <= MAX_SHARES:
        return f"needed={needed} exceeds total={total}."
    return f"needed={needed} and total={total} must both be from 1 to {MAX_SHARES}."
