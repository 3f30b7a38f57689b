"""Opaque cursors; those of a list of jobs stay valid while newer jobs are added."""

import base64
import json
from datetime import datetime
from typing import Any, NamedTuple

from flows.core.errors import InvalidArgument
from mcp_server.prefect_api.models import FlowRun


class ListPlace(NamedTuple):
    """Where a page ended."""

    before: datetime
    """When the last job of the page was expected to start; the next page has no later one."""
    seen: tuple[str, ...]
    """The ids of jobs expected at that instant that earlier pages had."""


def place_after(page: list[FlowRun], place: ListPlace | None) -> ListPlace:
    """Return the place after `page`, which began at `place`."""
    before = page[-1].expected_start_time
    seen = [run.id for run in page if run.expected_start_time == before]
    if place and place.before == before:
        seen += place.seen
    return ListPlace(before, tuple(seen))


def encode(parts: object) -> str:
    """Encode a cursor from values of JSON."""
    text = json.dumps(parts, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str) -> Any:
    """Decode the values of a cursor.

    Raises:
        ValueError: It is none.
    """
    padded = cursor + "=" * (-len(cursor) % 4)
    return json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))


def encode_list(place: ListPlace, kept: str) -> str:
    """Encode the cursor of a list.

    Args:
        place: Where the page ended.
        kept: What the next call needs besides, such as the filter of the list.
    """
    return encode([place.before.isoformat(), place.seen, kept])


def decode_list(cursor: str | None) -> tuple[ListPlace | None, str | None]:
    """Decode a cursor, and what was kept in it; None for the beginning.

    Raises:
        InvalidArgument: It is not a cursor of a list of jobs.
    """
    if not cursor:
        return None, None
    try:
        before, seen, kept = decode(cursor)
        place = ListPlace(datetime.fromisoformat(before), tuple(str(item) for item in seen))
        return place, str(kept)
    except (ValueError, TypeError) as error:
        raise InvalidArgument(
            "cursor is not one that list_jobs gave",
            "Give next_cursor of an earlier answer, or leave it out to start again",
        ) from error


def encode_offset(offset: int) -> str:
    """Encode the cursor of a list after its first `offset` entries."""
    return str(offset)


def decode_offset(cursor: str | None) -> int:
    """Decode how many entries of a list earlier pages had.

    Raises:
        InvalidArgument: It is not a cursor of such a list.
    """
    if not cursor:
        return 0
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 10):
        raise InvalidArgument(
            "cursor is not one that this list gave",
            "Give next_cursor of an earlier answer, or leave it out to start again",
        )
    return int(cursor)
