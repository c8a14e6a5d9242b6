"""Utterances as found → dialogues as the package wants them: [system] (user assistant)+."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from medchatzh.records import Dialogue, Role, Turn

ROLES: dict[str, Role] = {
    "system": "system",
    **dict.fromkeys(("user", "human", "client", "patient", "患者", "病人", "用户", "问"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "chatgpt", "counselor", "doctor", "医生", "医师", "助手", "答"), "assistant"),
}
"""Names of speakers in the formats read here, lower case."""


class Unusable(ValueError):
    """A record that cannot be kept, and why: `reason` in snake_case, `detail` without the record's text."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def called(value: Any) -> str:
    """A JSON value's type in plain words."""
    words = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return words.get(type(value), "null")


def text_of(value: Any, field: str) -> str:
    """A field's text without outer white space; '' for null. OpenAI's lists of text parts are joined."""
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in value):
        return "\n".join(text_of(part.get("text"), field) for part in value)
    raise Unusable("unknown_format", f"{field} is {called(value)}, not text")


def first_text(value: Any, field: str) -> str:
    """The first text of a list of texts, or of lists of them; '' where none has any."""
    if isinstance(value, list) and not any(isinstance(item, dict) for item in value):
        return next(filter(None, (first_text(item, field) for item in value)), "")
    return text_of(value, field)


def utterances(items: Any, field: str, speaker: str = "", content: str = "") -> list[tuple[Role, str]]:
    """A list of {speaker: …, content: …} as (role, text); the keys are from/value or role/content unless given."""
    if not isinstance(items, list):
        raise Unusable("unknown_format", f"{field} is {called(items)}, not a list of turns")
    found: list[tuple[Role, str]] = []
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            raise Unusable("unknown_format", f"{field}[{number}] is {called(item)}, not a turn")
        name_key = speaker or ("from" if "from" in item else "role")
        text_key = content or ("value" if "value" in item else "content")
        name = item.get(name_key)
        role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
        if role is None:
            raise Unusable("unknown_format", f"{field}[{number}].{name_key}: no known speaker")
        found.append((role, text_of(item.get(text_key), f"{field}[{number}].{text_key}")))
    return found


def normalize_turns(found: Iterable[tuple[Role, str]], *, answered: bool = True) -> tuple[tuple[Turn, ...], tuple[str, ...]]:
    """Turns in [system] (user assistant)+ order (without the last answer where not `answered`), and names of the changes made.

    Empty turns go, neighbours of one role are joined by a line break, the assistant's turns before the first question and the user's
    after the last answer go. Raises Unusable, `missing_question` or `missing_answer`, where no exchange is left.
    """
    edits: dict[str, None] = {}
    system: list[str] = []
    body: list[tuple[Role, str]] = []
    for role, text in found:
        if not text:
            if role != "system":
                edits["empty_turn_dropped"] = None
        elif role == "system" and body:
            edits["late_system_turn_dropped"] = None
        elif role == "system":
            system.append(text)
        elif body and body[-1][0] == role:
            body[-1] = (role, f"{body[-1][1]}\n{text}")
            edits["turns_merged"] = None
        else:
            body.append((role, text))
    if body and body[0][0] == "assistant":
        del body[0]
        edits["leading_answer_dropped"] = None
    if not body:
        raise Unusable("missing_question", "no user text")
    if (body[-1][0] == "assistant") != answered:
        del body[-1]
        edits["trailing_question_dropped" if answered else "trailing_answer_dropped"] = None
    if not body:
        raise Unusable("missing_answer", "no answer after the question")
    heads = [Turn("system", "\n".join(system))] if system else []
    return (*heads, *(Turn(role, text) for role, text in body)), tuple(edits)


def dialogue(found: Iterable[tuple[Role, str]], category: str = "") -> Dialogue:
    """The Dialogue of some utterances, its id still to be given. Raises Unusable."""
    turns, edits = normalize_turns(found)
    return Dialogue(id="", turns=turns, edits=edits, category=category)


def exchange(question: str, answer: str, category: str = "", system: str = "") -> Dialogue:
    """A single question and its answer. Raises Unusable, `missing_question` or `missing_answer`."""
    if not question:
        raise Unusable("missing_question", "no user text")
    if not answer:
        raise Unusable("missing_answer", "no answer text")
    turns = (Turn("user", question), Turn("assistant", answer))
    return Dialogue(id="", turns=(Turn("system", system), *turns) if system else turns, category=category)
