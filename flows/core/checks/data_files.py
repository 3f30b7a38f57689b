"""Check the rows of a data file for the format that its reader needs."""

import math
import time
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from flows.core.checks.recipe import Dataset, Recipe
from flows.core.configs.schema import ConfigType
from flows.core.file_names import is_file, is_folder
from flows.core.json_lines import BadLine, parse_row, read_lines
from flows.core.regular_files import read_json

_LISTED: Final = 20
"""Wrong lines that are listed; all are counted."""
_LOOKS_AT_CLOCK: Final = 500
_LONGEST_LINE: Final = 8_000_000
_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})
_ALPACA: Final = ("instruction", "input", "output")
_PREFERENCE: Final = ("prompt", "chosen", "rejected")


_Row = dict[str, Any]


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


class Format(NamedTuple):
    """What the reader of a file needs.

    Attributes:
        is_strict: Whether the reader is jsonlines, which refuses empty lines and NaN.
        endings: The endings of names that it reads; empty: any.
    """

    rows: Rows = Rows.ANY
    is_strict: bool = False
    endings: tuple[str, ...] = ()


INFERENCE: Final = Format(Rows.CONVERSATIONS)
"""The input of ``oumi infer`` 0.9, which skips empty lines."""


class Limits(NamedTuple):
    """How much of a file is read."""

    lines: int
    bytes: int
    until: float = math.inf
    """A time of `time.monotonic`, after which no more is read."""


FIRST_LINES: Final = Limits(lines=20, bytes=1_000_000)


def format_of(dataset: Dataset) -> Format:
    """What the reader of a data set's file needs."""
    name = dataset.name.lower()
    rows = ROWS_OF.get(name, Rows.ANY)
    endings = (".jsonl", ".json") if rows is Rows.SFT else ()
    if rows is Rows.SFT:
        chosen = {"oumi": Rows.CONVERSATIONS, "alpaca": Rows.ALPACA}
        rows = chosen.get(str(dataset.kwargs.get("format")), rows)
    if rows is Rows.PREFERENCES and any(key.endswith("_key") for key in dataset.kwargs):
        rows = Rows.ANY
    return Format(rows, name in ROWS_OF, endings)


def data_inputs(recipe: Recipe) -> dict[str, Format]:
    """The keys of a recipe's data files, and what the reader of each needs."""
    formats = {f"{each.key}.dataset_path": format_of(each) for each in recipe.datasets()}
    if recipe.config_type is ConfigType.INFERENCE:
        formats["input_path"] = INFERENCE
    return formats


def wrong_content(path: Path, wanted: Format, limits: Limits = FIRST_LINES) -> str:
    """Describe the problems of a data file; empty if none is found.

    Args:
        path: The file.
        wanted: What its reader needs.
        limits: How much of a JSONL or JSON file is read; other files are not read.
    """
    ending = path.suffix.lower()
    try:
        if not is_file(path):
            return "" if is_folder(path) else "which is neither a file nor a folder"
        return _wrong_rows(path, ending, wanted, limits)
    except OSError as error:
        return f"which cannot be read ({error.strerror})"


def _wrong_rows(path: Path, ending: str, wanted: Format, limits: Limits) -> str:
    if wanted.endings and ending not in wanted.endings:
        return f"and its data set reads files named *{' and *'.join(wanted.endings)} alone"
    size = path.stat().st_size
    if ending in (".jsonl", ".json") and size == 0:
        return "which is empty"
    if ending == ".jsonl" or (wanted.is_strict and ending != ".json"):
        return _describe(_bad_rows(_lines(path, wanted, limits), wanted), "line")
    is_read = ending == ".json" and wanted.is_strict and size <= limits.bytes
    return _bad_json(path, wanted, limits) if is_read else ""


def _lines(path: Path, wanted: Format, limits: Limits) -> Iterator[tuple[int, str | _Row]]:
    """The rows of a JSONL file, or why a line is none, each with its number."""
    read = 0
    for line, number in read_lines(path, longest=_LONGEST_LINE):
        read += len(line)
        is_late = number % _LOOKS_AT_CLOCK == 0 and time.monotonic() > limits.until
        if number > limits.lines or (read > limits.bytes and number > 1) or is_late:
            return
        if not line.strip() and not wanted.is_strict:
            continue
        try:
            yield number, parse_row(line, is_strict=wanted.is_strict)
        except BadLine as error:
            yield number, str(error)


def _bad_json(path: Path, wanted: Format, limits: Limits) -> str:
    try:
        rows = read_json(path, limit=limits.bytes)
    except ValueError:
        return "which is not JSON"
    if not isinstance(rows, list):
        return "which is not a JSON list of rows"
    found = cast("list[object]", rows)[: limits.lines]
    numbered = (
        (number, cast("_Row", row) if isinstance(row, dict) else "not a JSON object")
        for number, row in enumerate(found, 1)
    )
    return _describe(_bad_rows(numbered, wanted), "row") if found else "which has no rows"


def _bad_rows(
    numbered: Iterable[tuple[int, str | _Row]], wanted: Format
) -> Iterator[tuple[int, str]]:
    """The numbers of rows that the reader refuses, each with the reason."""
    rows = wanted.rows
    for number, row in numbered:
        if isinstance(row, str):
            yield number, row
            continue
        if rows is Rows.SFT:
            rows = _format_by(row)
        if not _fits(row, rows):
            yield number, f"not {rows.value}{_has(row)}"


def _describe(bad: Iterator[tuple[int, str]], noun: str) -> str:
    reasons: dict[str, list[int]] = {}
    count = 0
    for number, reason in bad:
        count += 1
        if count <= _LISTED:
            reasons.setdefault(reason, []).append(number)
    if count == 1:
        return next(f"whose {noun} {at[0]} is {reason}" for reason, at in reasons.items())
    listed = "; ".join(f"{', '.join(map(str, at))} ({reason})" for reason, at in reasons.items())
    more = f"; and {count - _LISTED:,} more" if count > _LISTED else ""
    return f"of which {count:,} {noun}s are wrong: {listed}{more}" if count else ""


def _format_by(row: _Row) -> Rows:
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
    content = message.get("content")
    # Oumi 0.9's Message needs a text, a list of parts, or calls of tools.
    is_said = isinstance(content, str | list) or (content is None and message.get("tool_calls"))
    return message.get("role") in _ROLES and bool(is_said)


def _has(row: _Row) -> str:
    """Name a row's columns, without their values, which may be private."""
    names = ", ".join(str(name) for name in list(row)[:6])
    return f" (it has {names})" if names else ""
