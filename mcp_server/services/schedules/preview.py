"""Computes the next times of a schedule that does not exist yet."""

import json
import subprocess
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

import anyio.to_thread
from pydantic import TypeAdapter

from flows.core.errors import InternalError, InvalidArgument, OperationTimeout
from oumi_flows import python_command

_REFUSED: Final = 2
_TIMES: Final = TypeAdapter(list[datetime])


async def next_times(
    schedule: Mapping[str, Any], *, count: int, timeout_seconds: float
) -> list[datetime]:
    """Compute the next times of a schedule with Prefect; takes about a second.

    Raises:
        InvalidArgument: Prefect refuses it, or it never fires.
        OperationTimeout: The answer took too long.
    """
    command = python_command("flows.answers.schedule_times", json.dumps(schedule), str(count))
    ask = partial(
        subprocess.run,
        command,
        # Prefect reads settings of the folder it is started in (3.8).
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout_seconds,
    )
    try:
        done = await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)
    except subprocess.TimeoutExpired as error:
        raise OperationTimeout(
            f"Computing the times of the schedule took longer than {timeout_seconds:g} s",
            "Try again when the machine is less busy",
        ) from error
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == _REFUSED:
        raise InvalidArgument(
            f"Prefect refuses the schedule ({said})",
            "Correct cron or timezone; five fields are minute, hour, day, month and weekday",
        )
    if done.returncode:
        raise InternalError(
            f"The times of the schedule could not be computed ({said[-300:]})", "Report this"
        )
    return _TIMES.validate_json(done.stdout)
