"""The field GF(2^8) of docs/format.md, "Blocks", and the matrices that compute shares from other shares.

Every share is the value of one polynomial at its own point, so one formula (Lagrange's) gives the coefficients of
any share from any k others: parity from data, data from parity, parity from parity. No matrix is ever inverted.
"""

from collections.abc import Sequence

POLYNOMIAL = 0x11D  # x^8 + x^4 + x^3 + x^2 + 1; 2 generates all 255 non-zero elements


def _powers_of_two() -> list[int]:
    powers = [1]
    for _ in range(254):
        doubled = powers[-1] << 1
        powers.append(doubled ^ POLYNOMIAL if doubled > 255 else doubled)
    return powers


EXP = _powers_of_two()
LOG = [0] * 256  # the entry of 0, which has no logarithm, is never used
for _exponent, _power in enumerate(EXP):
    LOG[_power] = _exponent

POINTS = [0, *EXP]
"""POINTS[s] is where share s stands on the polynomial."""


def interpolation(have: Sequence[int], want: Sequence[int]) -> bytes:
    """The matrix that turns shares `have` into shares `want`: a row of len(have) coefficients for each wanted one.

    All numbers are distinct and at most 255. The coefficient of share j in share s is the product, over the other
    shares i in `have`, of (x_s - x_i) / (x_j - x_i); minus is exclusive or, and products are sums of logarithms.
    """
    points = [POINTS[share] for share in have]
    divisors = [sum(LOG[mine ^ other] for other in points if other != mine) for mine in points]
    matrix = bytearray()
    for share in want:
        gaps = [LOG[POINTS[share] ^ point] for point in points]
        product = sum(gaps)
        matrix += bytes(EXP[(product - gap - divisor) % 255] for gap, divisor in zip(gaps, divisors, strict=True))
    return bytes(matrix)
