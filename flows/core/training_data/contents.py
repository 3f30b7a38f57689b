"""Read prompt, answer and roles from a row, whatever its format."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from flows.core.checks.values import items_of, mapping_of
from flows.core.training_data.facts import Content

_CHATS: Final = ("messages", "conversations", "conversation")
_PROMPTS: Final = ("prompt", "question", "instruction", "query")
_ANSWERS: Final = ("completion", "response", "answer", "output")
_NAMES: Final = {"human": "user", "gpt": "assistant"}


class Turn(NamedTuple):
    """One message of a conversation."""

    role: str
    text: str
    has_more: bool = False
    """Whether it has tool calls or images besides the text."""


def content_of_turns(turns: Sequence[Turn]) -> Content:
    """The content of a conversation; its last answer counts as the answer."""
    answers = [turn for turn in turns if turn.role == "assistant"]
    last = turns[-1] if turns and turns[-1].role == "assistant" else None
    before = turns[:-1] if last else turns
    return Content(
        prompt="\n".join(f"{turn.role}: {turn.text}" for turn in before),
        answer=last.text if last else "",
        roles=tuple(turn.role for turn in turns),
        has_empty_answer=any(_is_empty(turn) for turn in answers),
    )


def content_of_row(row: Mapping[str, Any]) -> Content:
    """The content of a row: a chat, a preference, a prompt with its answer, or a text."""
    if "chosen" in row and "rejected" in row:
        return _preference(row)
    for key in _CHATS:
        if key in row:
            return content_of_turns(turns_of(row[key]))
    prompt = next((key for key in _PROMPTS if key in row), None)
    answer = next((key for key in _ANSWERS if key in row), None)
    if answer is not None:
        text = text_of_chat(row[answer])
        # The same answer with another judgement is another row.
        more = [row[key] for key in ("input", "label") if row.get(key) not in (None, "")]
        return Content(
            "\n".join([text_of_chat(row[prompt]) if prompt else "", *map(str, more)]),
            text,
            has_empty_answer=not text.strip(),
        )
    text = str(row[prompt]) if prompt else str(row.get("text", dict(row)))
    return Content("", text, has_empty_answer=not text.strip())


def turns_of(value: object) -> list[Turn]:
    """The turns of a list of messages; also of the older format with `from` and `value`."""
    if isinstance(value, Mapping):
        value = cast("Mapping[str, Any]", value).get("messages")
    turns: list[Turn] = []
    for item in _items(value):
        message = mapping_of(item)
        role = str(message.get("role") or message.get("from") or "")
        content = message.get("content", message.get("value"))
        turns.append(Turn(_NAMES.get(role, role), _text(content), bool(message.get("tool_calls"))))
    return turns


def text_of_chat(value: object) -> str:
    """A text, or the texts of a list of messages, one a line."""
    if isinstance(value, str) or value is None:
        return value or ""
    if isinstance(value, Mapping):
        return _text(cast("Mapping[str, Any]", value).get("content"))
    return "\n".join(turn.text for turn in turns_of(value)) if _items(value) else str(value)


def _preference(row: Mapping[str, Any]) -> Content:
    chosen, rejected = text_of_chat(row["chosen"]), text_of_chat(row["rejected"])
    prompt = next((key for key in (*_PROMPTS, *_CHATS) if key in row), None)
    return Content(
        prompt=text_of_chat(row[prompt]) if prompt else "",
        answer=f"{chosen}\0{rejected}",
        has_empty_answer=not (chosen.strip() and rejected.strip()),
        has_equal_pair=chosen.strip() == rejected.strip(),
    )


def _is_empty(turn: Turn) -> bool:
    return not turn.text.strip() and not turn.has_more


def _text(content: object) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    parts = (mapping_of(part) for part in items_of(content))
    return " ".join(str(part.get("text") or part.get("content") or "") for part in parts)


def _items(value: object) -> list[Any]:
    # A column of a table holds lists as arrays.
    to_list = getattr(value, "tolist", None)
    return items_of(to_list() if to_list is not None else value)
