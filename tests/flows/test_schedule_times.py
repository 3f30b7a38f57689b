"""What docs/schedules.md says of the days on which clocks change, asked of Prefect itself."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from prefect.server.schemas.schedules import CronSchedule


async def fires(cron: str, timezone: str, day: str) -> list[str]:
    """The times of a day of that zone, as `HH:MM` of UTC."""
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(timezone))
    schedule = CronSchedule(cron=cron, timezone=timezone)
    dates = await schedule.get_dates(n=100, start=start, end=start + timedelta(days=1))
    return [f"{date.astimezone(UTC):%H:%M}" for date in dates]


@pytest.mark.parametrize(
    ("timezone", "day", "before", "changed"),
    [
        ("Europe/Zurich", "2027-03-28", "01:30", "01:30"),
        ("America/New_York", "2027-03-14", "07:30", "07:30"),
    ],
)
async def test_a_time_that_the_clock_skips_in_spring_fires_an_hour_later_by_the_new_clock(
    timezone: str, day: str, before: str, changed: str
) -> None:
    eve = f"{datetime.fromisoformat(day) - timedelta(days=1):%Y-%m-%d}"
    assert await fires("30 2 * * *", timezone, eve) == [before]
    # 03:30 there, by the summer's clock.
    assert await fires("30 2 * * *", timezone, day) == [changed]


@pytest.mark.parametrize(
    ("timezone", "day", "silent"),
    [("Europe/Zurich", "2027-10-31", "01:00"), ("America/New_York", "2027-11-07", "06:00")],
)
async def test_the_hour_that_the_clock_repeats_in_autumn_counts_once(
    timezone: str, day: str, silent: str
) -> None:
    hours = await fires("0 * * * *", timezone, day)
    every = await fires("0 * * * *", "UTC", day)
    assert set(every) - set(hours) == {silent}
    assert len(await fires("30 2 * * *", timezone, day)) == 1
