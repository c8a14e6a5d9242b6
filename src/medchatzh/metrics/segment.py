"""Text → the tokens that metrics count. Not to be confused with a model's tokens."""

from __future__ import annotations


def characters(text: str) -> list[str]:
    """One token a character (Latin letters and digits too), white space dropped, nothing folded.

    Words would need a segmenter whose dictionary then becomes part of the score. Width and case stay as they are (no NFKC):
    an answer that writes `，` where the reference writes `,` differs from it.
    """
    return list("".join(text.split()))
