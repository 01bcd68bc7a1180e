"""A QR code for a terminal: two rows of modules in each line of text."""

import segno

BORDER = 2  # modules of white around; the standard asks for four, and every telephone does with two
_HALVES = {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}  # dark above, dark below


def qr_text(text: str) -> str:
    """A code of `text`, light on dark, as most terminals are. Cameras read it the other way round as well."""
    rows = [[bool(dark) for dark in row] for row in segno.make(text, micro=False, error="l").matrix_iter(border=BORDER)]
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "\n".join("".join(_HALVES[pair] for pair in zip(upper, lower, strict=True)) for upper, lower in pairs)
