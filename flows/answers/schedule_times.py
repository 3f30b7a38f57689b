"""The next times of a schedule, computed by Prefect: ``flows.answers.schedule_times JSON N``.

It is a process of its own: importing Prefect takes a second, which the MCP server avoids.
"""

import asyncio
import json
import sys
from datetime import UTC
from typing import Final

from prefect._vendor.croniter import CroniterError
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule
from pydantic import ValidationError

REFUSED: Final = 2
"""Exit code when Prefect does not take the schedule; standard error says why."""


def main() -> None:
    """Write the times as a JSON list of ISO 8601 texts."""
    text, count = sys.argv[1], int(sys.argv[2])
    kind = CronSchedule if "cron" in json.loads(text) else IntervalSchedule
    try:
        schedule = kind.model_validate_json(text)
        times = asyncio.run(schedule.get_dates(n=count))
    except ValidationError as error:
        sys.exit(_refuse(error.errors()[0]["msg"].removeprefix("Value error, ")))
    except CroniterError:
        # The cron expression is well formed but matches no day, such as 30 February.
        sys.exit(_refuse("It never fires"))
    except (ArithmeticError, LookupError, ValueError) as error:
        # The time zone does not exist, or a time is beyond the calendar.
        sys.exit(_refuse(f"Its times cannot be computed: {error}"))
    sys.stdout.write(json.dumps([time.astimezone(UTC).isoformat() for time in times]))


def _refuse(why: str) -> int:
    sys.stderr.write(why)
    return REFUSED


if __name__ == "__main__":
    main()
