"""What stands before the expensive checks: cookies that prove an address, and buckets that bound the work.

The checks of a datagram come in this order:

1. Size, version and network.
2. A reply must belong to a pending request. A request with a valid cookie draws on its prefix's bucket for proven
   addresses (in a private network its place's). Any other request draws on its prefix's bucket for unproven
   addresses, and then on one bucket for all of these. When that one runs low, the places that took least from it
   lately are served first.
3. The signature.
4. The fields.

So a flood from forged addresses costs at most the last bucket's rate in signatures. Nodes that hold a cookie or wait
for a reply do not notice it. Newcomers notice it only when the flood comes from hundreds of prefixes.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping

from shoal.dht.address import Address
from shoal.dht.hashing import keyed_mac
from shoal.dht.identity import Entropy, NodeId
from shoal.dht.messages import COOKIE_BYTES
from shoal.values import dataclass

COOKIE_ROTATION_S = 300.0  # a cookie is good for 5 to 10 minutes (BEP 5 uses the same rhythm)
_SECRET_BYTES = 32

MAX_TRACKED_PREFIXES = 4_096  # beyond it the longest unused is forgotten; the bucket for all still holds


@dataclass(frozen=True, slots=True)
class Rate:
    """per_second: lasting rate.    burst: how many at once after a pause."""

    per_second: float
    burst: float


# A signature costs about 0.1 ms to check and 0.05 ms to give: 1,000 requests a second are 15 % of one core at
# most.
UNPROVEN_TOTAL = Rate(1_000.0, 2_000.0)
UNPROVEN_PER_PREFIX = Rate(50.0, 200.0)  # first contacts from one /24: joins and lookups of a few dozen hosts
PROVEN_PER_PLACE = Rate(500.0, 2_000.0)  # of a prefix, or of a host in a private network: 20 % of one core

# Records that a place may store: a busy node's whole list after a start, and then more than it ever renews. A private
# network may have many nodes on one host. A record costs about 0.1 ms to check.
STORES_PER_PREFIX = Rate(100.0, 2_000.0)
STORES_PER_HOST = Rate(200.0, 4_000.0)

# What a place took from the total lately: requests of the last seconds, fading with this time constant.
USE_S = 10.0
LIGHT_USE = 20.0  # a newcomer with all its repetitions: it may take the last token
HEAVY_USE = 200.0  # from here on the whole reserve is out of reach
RESERVE = 0.5  # of the total's burst, kept from the heavy
WIDE_WEIGHT = 0.25  # of a /16 or /32 beside its prefixes: so many may be light


class CookieMint:
    """Makes and checks cookies: a MAC over (IP, port, id) under a secret that changes every 5 minutes.

    The previous secret stays good until the next change. Nothing is kept per peer.
    """

    def __init__(self, entropy: Entropy, now: float) -> None:
        self._entropy = entropy
        self._current = entropy(_SECRET_BYTES)
        self._previous = entropy(_SECRET_BYTES)
        self._changed = now

    def mint(self, address: Address, node_id: NodeId, now: float) -> bytes:
        """The cookie `node_id` may use from `address`: 16 bytes."""
        self._rotate(now)
        return _cookie(self._current, address, node_id)

    def accepts(self, cookie: bytes, address: Address, node_id: NodeId, now: float) -> bool:
        """Whether we gave this cookie to `node_id` at `address` within the last two periods."""
        if len(cookie) != COOKIE_BYTES:
            return False
        self._rotate(now)
        secrets = (self._current, self._previous)
        # Comparing byte strings leaks timing, but a guess is good for one datagram of unverified bytes at
        # most, and its answer still goes to the address it was computed for.
        return any(cookie == _cookie(secret, address, node_id) for secret in secrets)

    def _rotate(self, now: float) -> None:
        periods = (now - self._changed) // COOKIE_ROTATION_S
        if periods < 1:
            return
        self._previous = self._current if periods == 1 else self._entropy(_SECRET_BYTES)
        self._current = self._entropy(_SECRET_BYTES)
        self._changed += periods * COOKIE_ROTATION_S


class TokenBucket:
    """`rate.burst` tokens at first, `rate.per_second` more each second."""

    __slots__ = ("_rate", "_tokens", "_updated")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = rate.burst
        self._updated = now

    def take(self, now: float, *, reserve: float = 0.0) -> bool:
        """Take one token; False when there is none, or no more than `reserve` of them."""
        earned = max(now - self._updated, 0.0) * self._rate.per_second
        self._tokens = min(self._tokens + earned, self._rate.burst)
        self._updated = max(now, self._updated)
        if self._tokens < 1.0 + reserve:
            return False
        self._tokens -= 1.0
        return True


class PrefixBuckets:
    """One bucket per address prefix, for a bounded number of prefixes."""

    def __init__(self, rate: Rate, capacity: int = MAX_TRACKED_PREFIXES) -> None:
        self._rate = rate
        self._capacity = capacity
        self._buckets: OrderedDict[bytes, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, prefix: bytes, now: float) -> bool:
        """Take one token from the bucket of `prefix`."""
        bucket = self._buckets.get(prefix)
        if bucket is None:
            bucket = self._buckets[prefix] = TokenBucket(self._rate, now)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(prefix)
        return bucket.take(now)


class FairBucket:
    """One bucket for many places. The more a place took lately, the more it has to leave to others.

    A place that took `LIGHT_USE` or less may take the last token. One that took `HEAVY_USE` leaves `RESERVE` of the
    burst alone. So no place, and no few, can drain the bucket.
    """

    def __init__(self, rate: Rate, now: float, capacity: int = 2 * MAX_TRACKED_PREFIXES) -> None:
        self._bucket = TokenBucket(rate, now)
        self._reserve = RESERVE * rate.burst
        self._capacity = capacity
        self._uses: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # and when that was

    def take(self, places: Mapping[bytes, float], now: float) -> bool:
        """Take one token for someone in all of these places, each with the weight of what is taken there."""
        use = max(weight * self._use(place, now) for place, weight in places.items())
        heaviness = min(max(use - LIGHT_USE, 0.0) / (HEAVY_USE - LIGHT_USE), 1.0)
        if not self._bucket.take(now, reserve=heaviness * self._reserve):
            return False
        for place in places:
            self._uses[place] = self._use(place, now) + 1.0, now
            self._uses.move_to_end(place)
        while len(self._uses) > self._capacity:
            self._uses.popitem(last=False)
        return True

    def _use(self, place: bytes, now: float) -> float:
        use, at = self._uses.get(place, (0.0, now))
        return use * math.exp(min(at - now, 0.0) / USE_S)


class RequestGuard:
    """Decides which requests are worth a signature check.

    Requests are counted by place (`Address.place`). In a private network unproven requests are bounded in all alone.
    That total is shared fairly between places.
    """

    def __init__(self, mint: CookieMint, now: float, *, private: bool) -> None:
        self._mint = mint
        self._private = private
        self._proven = PrefixBuckets(PROVEN_PER_PLACE)
        self._unproven = PrefixBuckets(UNPROVEN_PER_PREFIX)
        self._unproven_total = FairBucket(UNPROVEN_TOTAL, now)
        self._stores = PrefixBuckets(STORES_PER_HOST if private else STORES_PER_PREFIX)

    def is_proven(self, cookie: bytes, source: Address, node_id: NodeId, now: float) -> bool:
        """Whether the cookie proves that `node_id` receives what is sent to `source`."""
        return bool(cookie) and self._mint.accepts(cookie, source, node_id, now)

    def admits(self, source: Address, now: float, *, proven: bool) -> bool:
        """Whether a request from `source` is within the rates."""
        if proven:
            return self._proven.take(source.place(private=self._private), now)
        if self._private:
            return self._unproven_total.take({source.place(private=True): 1.0}, now)
        prefix = source.prefix()
        if not self._unproven.take(prefix, now):
            return False
        return self._unproven_total.take({prefix: 1.0, source.wide_prefix(): WIDE_WEIGHT}, now)

    def admits_store(self, source: Address, now: float) -> bool:
        """Whether a record from `source` is within the rate of its place."""
        return self._stores.take(source.place(private=self._private), now)


def _cookie(secret: bytes, address: Address, node_id: NodeId) -> bytes:
    return keyed_mac(secret, address.pack() + node_id, COOKIE_BYTES)
