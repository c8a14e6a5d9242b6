"""Passages: what can be cited. A passage is a line of a chapter's text (a paragraph, a verse, a list of drugs)."""

from __future__ import annotations

from collections.abc import Iterator

from medchatzh.records import Document


def passages(document: Document) -> Iterator[tuple[str, str]]:
    """(id, text) of each passage; the id is `<chapter's id>#<line>`, lines counted from 1.

    A passage that was taken out leaves its line empty, so the others keep their ids.
    """
    for number, line in enumerate(document.text.split("\n"), 1):
        if line:
            yield f"{document.id}#{number}", line
