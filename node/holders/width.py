"""How wide a file is cut, and how wide the network would allow it to be now."""

from bisect import bisect_left

from shoal.erasure import MAX_SHARES, Manifest, default_width, padded_size
from shoal.node.context import Context
from shoal.node.holders.placement import gather, one_per_host
from shoal.node.results import Width


async def look_for_width(context: Context, manifest: Manifest, size: int | None = None) -> Width:
    """The width of a file, and the one that a publish would try for now; asks the DHT, and never fails.

    `size`: of the file, where its key is known; else the smallest that it may have, so that nothing is promised that
    cannot be kept.
    """
    size = smallest_size(manifest) if size is None else size
    k, n = manifest.k, manifest.n
    widest_k, widest_n = default_width(size, MAX_SHARES)
    if n - k >= widest_n - widest_k:
        return Width(k, n, k, n, 0)
    private = context.network.private
    found = one_per_host(await gather(context, widest_n), private=private)
    hosts = sum(contact.space != 0 for contact in found)
    return width_among(k, n, size, hosts)


def width_among(k: int, n: int, size: int, hosts: int) -> Width:
    """The width of a file of `size` bytes, and the one that so many hosts would allow, if that is better."""
    possible_k, possible_n = default_width(size, hosts)
    if hosts < possible_n or possible_n - possible_k <= n - k:
        possible_k, possible_n = k, n
    return Width(k, n, possible_k, possible_n, hosts)


def smallest_size(manifest: Manifest) -> int:
    """The smallest file that is padded to as many bytes as this one."""
    padded = manifest.layout.padded_plain_bytes
    return bisect_left(range(padded), padded, key=padded_size)
