"""Cut the first rows of a data file into a small file, and count the rest."""

import json
from pathlib import Path
from typing import Final, NamedTuple, cast

import pydantic_core

from flows.core.errors import InvalidConfig
from flows.core.json_lines import BadLine, parse_row
from flows.core.regular_files import TooLarge, open_regular_file, read_regular_file

_LONGEST_LINE: Final = 8_000_000


class BadRow(InvalidConfig):
    """A row of a data file cannot be read, by any reader."""


class Sample(NamedTuple):
    """The first rows of a data set.

    Attributes:
        path: A file or folder with these rows alone.
        rows: How many there are.
        total: How many rows the whole has; None: not known.
        is_exact: Whether `total` was counted.
    """

    path: Path
    rows: int
    total: int | None
    is_exact: bool = True


def cut_jsonl(
    path: Path, into: Path, *, most_rows: int, most_bytes: int, is_strict: bool, key: str
) -> Sample:
    """Copy the first lines of a JSONL file.

    Args:
        path: The file.
        into: The folder of the copy.
        most_rows: Rows to copy at most.
        most_bytes: Bytes to read at most; one row is always read.
        is_strict: Whether the reader refuses empty lines (oumi 0.9's own JSONL classes do).
        key: The config's key of the path, for errors.

    Raises:
        BadRow: A line is not a JSON object.
        OSError: The file cannot be read.
    """
    rows = read = 0
    target = into / f"sample{path.suffix}"
    size = path.stat().st_size
    with open_regular_file(path) as file, target.open("wb") as copy:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
            if rows and (rows >= most_rows or read + len(line) > most_bytes):
                break
            read += len(line)
            if not line.strip() and not is_strict:
                continue
            _check_line(line, f"{key} is {path}, whose line {number}", is_strict=is_strict)
            copy.write(line)
            rows += 1
        else:
            return Sample(target, rows, rows)
    return Sample(target, rows, round(size / max(1, read) * rows), is_exact=False)


def _check_line(line: bytes, where: str, *, is_strict: bool) -> None:
    if len(line) >= _LONGEST_LINE:
        raise BadRow(f"{where} is longer than {_LONGEST_LINE:,} bytes", "Split the row")
    try:
        parse_row(line.decode(errors="surrogateescape"), is_strict=is_strict)
    except BadLine as error:
        raise BadRow(f"{where} is {error}", "Correct that line") from error


def cut_json(path: Path, into: Path, *, most_rows: int, most_bytes: int, key: str) -> Sample:
    """Copy the first rows of a JSON file, which has to be read as a whole.

    Raises:
        InvalidConfig: It is no list, or is too large.
        OSError: The file cannot be read.
    """
    found = _read_list(path, limit=4 * most_bytes, key=key)
    target = into / "sample.json"
    target.write_text(json.dumps(found[:most_rows]), encoding="utf-8")
    return Sample(target, min(len(found), most_rows), len(found))


def _read_list(path: Path, *, limit: int, key: str) -> list[object]:
    try:
        rows: object = pydantic_core.from_json(read_regular_file(path, limit=limit))
    except TooLarge as error:
        raise InvalidConfig(
            f"{key} is {path}, which has {path.stat().st_size:,} bytes and cannot be read in part",
            "Write it as JSONL, one row a line",
        ) from error
    except ValueError as error:
        reason = " ".join(str(error).split())[:120]
        raise InvalidConfig(
            f"{key} is {path}, which is not JSON ({reason})", "Correct it"
        ) from error
    if not isinstance(rows, list):
        raise InvalidConfig(f"{key} is {path}, which is not a JSON list of rows", "Correct it")
    return cast("list[object]", rows)
