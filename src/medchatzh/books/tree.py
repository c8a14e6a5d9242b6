"""The table of contents of each book file, from which a reader can cite: `tree.jsonl`."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Node(msgspec.Struct, omit_defaults=True):
    """A part or a chapter. `id` is that of the chapter's document, '' where the node has no text of its own."""

    title: str
    id: str = ""
    passages: int = 0
    """Number of the chapter's own passages: they are `<id>#1` to `<id>#<passages>`."""
    parts: list[Node] = []


class Tree(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A book file: what it says of itself, its chapters, and why it was set aside, if it was."""

    id: str
    """The chapters' ids begin with it."""
    origin: str
    book: str = ""
    author: str = ""
    dynasty: str = ""
    year: str = ""
    traditional: bool = False
    """The text is in traditional script."""
    set_aside: str = ""
    """Why no chapter of the file was taken: `garbage`, or `no_text`."""
    parts: list[Node] = []


def grow(chapters: Iterable[tuple[tuple[str, ...], str, int]]) -> list[Node]:
    """Nest chapters, each (path, id, number of passages), in their order. Neighbours share the parts with which their paths begin."""
    root = Node("")
    for path, identity, num_passages in chapters:
        node = root
        for title in path[:-1]:
            if not (node.parts and node.parts[-1].title == title):
                node.parts.append(Node(title))
            node = node.parts[-1]
        node.parts.append(Node(path[-1] if path else "", identity, num_passages))
    return root.parts
