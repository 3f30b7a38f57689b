"""Check the first lines of a data file for the format that its reader needs."""

import io
from enum import Enum
from pathlib import Path
from typing import Any, Final, cast

import pydantic_core

from flows.core.checks.recipe import Dataset
from flows.core.file_names import is_file, is_folder
from flows.core.regular_files import open_regular_file

_LOOKED_AT: Final = 20
_MAX_LINE: Final = 1_000_000
_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})
_ALPACA: Final = ("instruction", "input", "output")
_PREFERENCE: Final = ("prompt", "chosen", "rejected")


class Rows(Enum):
    """The format of a file's rows that its class of Oumi 0.9 needs."""

    ANY = "a JSON object"
    CONVERSATIONS = "a conversation: messages, each with role and content"
    NESTED = "an object whose conversation has messages, each with role and content"
    ALPACA = "an Alpaca turn: instruction, input and output"
    SFT = "messages, a conversation, or an Alpaca turn: instruction, input and output"
    """One of these three; the first row decides which."""
    TEXT_PREFERENCES = "a preference: the texts prompt, chosen and rejected"
    PREFERENCES = "a preference: prompt, chosen and rejected"


ROWS_OF: Final = {
    "text_sft": Rows.SFT,
    "text_sft_jsonl": Rows.SFT,
    "text_dpo_jsonl": Rows.TEXT_PREFERENCES,
    "vl_sft": Rows.CONVERSATIONS,
    "vision_language_jsonl": Rows.CONVERSATIONS,
    "vision_dpo_jsonl": Rows.PREFERENCES,
}
"""By the name under which a data set is registered."""


def rows_of(dataset: Dataset) -> Rows:
    """The format that the rows of a data set's file need."""
    rows = ROWS_OF.get(dataset.name.lower(), Rows.ANY)
    if rows is Rows.SFT:
        chosen = {"oumi": Rows.CONVERSATIONS, "alpaca": Rows.ALPACA}
        return chosen.get(str(dataset.kwargs.get("format")), rows)
    if rows is Rows.PREFERENCES and any(key.endswith("_key") for key in dataset.kwargs):
        return Rows.ANY
    return rows


def wrong_content(path: Path, rows: Rows) -> str:
    """Describe the problem of the first lines of a JSONL file; empty for any other file."""
    try:
        if not is_file(path):
            return "" if is_folder(path) else "which is neither a file nor a folder"
        if path.suffix in (".jsonl", ".json") and path.stat().st_size == 0:
            return "which is empty"
        return _bad_line(path, rows) if path.suffix == ".jsonl" else ""
    except UnicodeDecodeError:
        return "which is not UTF-8 text"
    except OSError as error:
        return f"which cannot be read ({error.strerror})"


def _bad_line(path: Path, rows: Rows) -> str:
    with io.TextIOWrapper(open_regular_file(path), encoding="utf-8") as file:
        for number in range(1, _LOOKED_AT + 1):
            line = file.readline(_MAX_LINE)
            if not line or len(line) == _MAX_LINE:
                break
            if not line.strip():
                continue
            try:
                row: object = pydantic_core.from_json(line)
            except ValueError:
                return f"whose line {number} is not JSON"
            if not isinstance(row, dict):
                return f"whose line {number} is not a JSON object"
            values = cast("dict[str, Any]", row)
            if rows is Rows.SFT:
                rows = _format_by(values)
            if not _fits(values, rows):
                return f"whose line {number} is not {rows.value}{_has(values)}"
    return ""


def _format_by(row: dict[str, Any]) -> Rows:
    """The format of all rows by the first row, checked in the same order as Oumi 0.9."""
    if "messages" in row:
        return Rows.CONVERSATIONS
    if "conversation" in row:
        return Rows.NESTED
    return Rows.ALPACA if all(key in row for key in _ALPACA) else Rows.SFT


def _fits(row: dict[str, Any], rows: Rows) -> bool:
    match rows:
        case Rows.CONVERSATIONS:
            return _is_conversation(row)
        case Rows.NESTED:
            return _is_conversation(row.get("conversation"))
        case Rows.TEXT_PREFERENCES:
            return all(isinstance(row.get(key), str) for key in _PREFERENCE)
        case Rows.ALPACA | Rows.PREFERENCES:
            return all(key in row for key in (_ALPACA if rows is Rows.ALPACA else _PREFERENCE))
        case Rows.ANY | Rows.SFT:
            return rows is Rows.ANY


def _is_conversation(value: object) -> bool:
    messages = cast("dict[str, Any]", value).get("messages") if isinstance(value, dict) else None
    return isinstance(messages, list) and all(map(_is_message, cast("list[object]", messages)))


def _is_message(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    message = cast("dict[str, Any]", value)
    return message.get("role") in _ROLES and ("content" in message or "tool_calls" in message)


def _has(row: dict[str, Any]) -> str:
    """Name a row's columns, without their values, which may be private."""
    names = ", ".join(str(name) for name in list(row)[:6])
    return f" (it has {names})" if names else ""
