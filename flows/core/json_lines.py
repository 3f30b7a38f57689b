"""Read rows of JSONL files as Oumi's readers do."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import orjson

from flows.core.regular_files import open_regular_file

_BOM: Final = "\ufeff"


class BadLine(ValueError):
    """A line that the reader refuses; the message completes "the line is"."""


def parse_row(line: str, *, is_strict: bool) -> dict[str, Any]:
    """Read one line.

    Args:
        line: The line, read with ``surrogateescape``.
        is_strict: Whether its reader is jsonlines, as in Oumi 0.9's classes for JSONL files: it
            ignores a byte order mark and parses with orjson. Other readers take NaN.

    Raises:
        BadLine: The reader refuses it.
    """
    if not line.strip():
        raise BadLine("empty")
    if line.startswith(_BOM):
        if not is_strict:
            raise BadLine("not JSON (it begins with a byte order mark)")
        line = line.removeprefix(_BOM)
    try:
        row: object = orjson.loads(line.encode())
    except UnicodeEncodeError as error:
        raise BadLine("not UTF-8 text") from error
    except ValueError as error:
        row = _parse_leniently(line, error, is_strict=is_strict)
    if not isinstance(row, dict):
        raise BadLine("not a JSON object")
    return cast("dict[str, Any]", row)


def read_lines(path: Path, *, longest: int) -> Iterator[tuple[str, int]]:
    """Read the lines of a file, each with its number, up to one that is longer than `longest`.

    Raises:
        OSError: It is not a regular file, or cannot be read.
    """
    with io.TextIOWrapper(
        open_regular_file(path), encoding="utf-8", errors="surrogateescape"
    ) as file:
        number = 0
        while line := file.readline(longest):
            if len(line) >= longest:
                return
            number += 1
            yield line, number


def _parse_leniently(line: str, refusal: ValueError, *, is_strict: bool) -> object:
    if not is_strict:
        try:
            return cast("object", json.loads(line, strict=False))
        except (ValueError, RecursionError):
            pass
    elif _has_no_number(line):
        raise BadLine("not JSON (it has NaN or Infinity, which JSON lacks)") from refusal
    raise BadLine("not JSON") from refusal


def _has_no_number(line: str) -> bool:
    """Whether a line is JSON but for NaN and Infinity."""
    found: list[str] = []
    try:
        json.loads(line, parse_constant=found.append)
    except (ValueError, RecursionError):
        return False
    return bool(found)
