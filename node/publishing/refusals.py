"""Why hosts took no share, or lost one: reasons that can be counted, told in the words of a sentence about hosts."""

from collections.abc import Mapping

_WORDS = {  # for one host, for several
    "full": ("was full", "were full"),
    "refused": ("refused", "refused"),
    "no answer": ("did not answer", "did not answer"),
    "stalled": ("was too slow", "were too slow"),
    "lost what it had": ("lost what had been sent", "lost what had been sent"),
    "broke the protocol": ("did not keep to the protocol", "did not keep to the protocol"),
}


def in_words(refusals: Mapping[str, int]) -> str:
    """`5 were full, 1 did not answer`, the commonest first; empty when nobody dropped out."""
    by_count = sorted(refusals.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {_words(reason, count)}" for reason, count in by_count if count > 0)


def _words(reason: str, count: int) -> str:
    one, several = _WORDS.get(reason, (reason, reason))
    return one if count == 1 else several
