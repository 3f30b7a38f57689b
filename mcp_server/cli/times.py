"""Times as people say them."""

from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = ((86_400, "days"), (3600, "h"), (60, "min"), (1, "s"))
_JUST_NOW: Final = 5.0
"""Seconds, in which clocks of two machines may differ."""


def say_when(instant: datetime | None, *, now: datetime | None = None) -> str:
    """How long ago an instant was, or how far ahead it is, such as ``3 min ago``.

    Args:
        instant: The instant; None: there is none.
        now: The time from which it is seen; None: the current one.
    """
    if instant is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - instant).total_seconds()
    if abs(seconds) < _JUST_NOW:
        return "just now"
    size, unit = next(it for it in _UNITS if abs(seconds) >= it[0])
    count = int(abs(seconds) // size)
    words = f"{count} {'day' if unit == 'days' and count == 1 else unit}"
    return f"{words} ago" if seconds > 0 else f"in {words}"


def write_instant(instant: datetime | None) -> str:
    """An instant as date and time of this machine's time zone."""
    return f"{instant.astimezone():%Y-%m-%d %H:%M:%S}" if instant else ""


def write_duration(seconds: float | None) -> str:
    """A duration, such as ``0:05:10``."""
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))
