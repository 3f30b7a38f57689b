"""The id of a task says all that a server must know of it."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Self

from mcp_server.services.jobs.service import Until

WAIT_TOOL: Final = "wait_for_job"
TOOLS: Final = (WAIT_TOOL, "run_oumi_job", "run_pipeline", "run_sweep")
"""The tools whose calls may become tasks."""

_ID: Final = re.compile(
    rf"({'|'.join(TOOLS)})\.(done|running)\."
    r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9]{1,17})\.([0-9]{1,17})"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class TaskId(NamedTuple):
    """A call that waits for a job.

    Attributes:
        tool: The tool that was called.
        until: The state it waits for.
        job_id: The whole id of the job.
        created_at: When the task was made.
        since: The engine's time from which on the job's states count.
    """

    tool: str
    until: Until
    job_id: str
    created_at: datetime
    since: datetime

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read an id; None: it is not one of ours."""
        match = _ID.fullmatch(text)
        if match is None:
            return None
        tool, until, job_id, created, since = match.groups()
        try:
            return cls(tool, Until(until), job_id, _instant(created), _instant(since))
        except OverflowError:
            return None

    def __str__(self) -> str:
        times = (str((at - _EPOCH) // _MICROSECOND) for at in (self.created_at, self.since))
        return ".".join([self.tool, self.until, self.job_id, *times])


def _instant(microseconds: str) -> datetime:
    return _EPOCH + timedelta(microseconds=int(microseconds))
