"""Settings of the books stage."""

from __future__ import annotations

from medchatzh.recipe import Settings


class Config(Settings, frozen=True):
    """How books become chapters to train on and passages to cite."""

    min_chars: int = 20
    """Chapters with fewer characters are dropped: a heading without text, a lone prescription name."""
    max_lost_share: float = 0.3
    """A file with a larger share of lost, private-use and control characters is no book (one of 642 real files is all NULs)."""
    split_unmarked_chars: int = 5_000
    """A file without chapter markers is split at its headings where it is longer than this; a shorter one, a leaflet, stays whole."""
    rejoin_lines: bool = True
    """Rejoin hard-wrapped lines (501 of 640 real books have them inside sentences)."""
    duplicates: bool = True
    """Drop chapters whose text (but for punctuation and space) stands in an earlier chapter too."""
    near_duplicate: float = 0.8
    """Jaccard similarity of 5-character shingles from which a chapter counts as near-repeated."""
    drop_near_duplicates: bool = False
    """Drop near-repeated chapters; else they are only listed, for a commentary repeats its classic by design."""
    min_repeat_chars: int = 30
    """Passages with fewer characters (but for punctuation) are not looked up in other books: lists of drugs agree by chance."""
    drop_repeated_passages: bool = False
    """Take passages that stand in an earlier book out of the text; else they are only listed, for quotation is how the classics work."""

    def __post_init__(self) -> None:
        if min(self.min_chars, self.split_unmarked_chars, self.min_repeat_chars) < 1:
            raise ValueError("books: min_chars, split_unmarked_chars and min_repeat_chars must be at least 1")
        for name in ("max_lost_share", "near_duplicate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"books.{name} is {getattr(self, name)}; write a share in (0, 1]")
