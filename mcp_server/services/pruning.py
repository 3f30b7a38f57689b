"""Removes ended jobs and their files; the terminal calls this."""

from datetime import UTC, datetime, timedelta
from typing import Final

from flows.core import names
from flows.core.errors import InvalidArgument
from flows.core.models import Pruned
from mcp_server.services.jobs.job_filter import read_since
from mcp_server.services.worker_calls import WorkerCalls

_LONGEST_SECONDS: Final = 3600.0
"""50,000 runs take minutes."""


class PruneService:
    """Removes ended jobs from Prefect, and their files from the worker's machine.

    Args:
        calls: How to ask the worker.
        keep_days: How long the engine keeps ended jobs; 0: for ever.
    """

    def __init__(self, calls: WorkerCalls, *, keep_days: float) -> None:
        self._calls = calls
        self._keep_days = keep_days

    async def prune(
        self, older_than: str = "", *, dry_run: bool, now: datetime | None = None
    ) -> Pruned:
        """Remove the jobs that ended before a time, or count them.

        Args:
            older_than: ISO time, or a length such as "30d"; empty: as the setting `keep_days`.
            dry_run: Whether only to count.
            now: This moment; None: now.

        Raises:
            InvalidArgument: The time cannot be read, lies ahead, or is needed.
        """
        now = now or datetime.now(UTC)
        if not older_than and not self._keep_days:
            raise InvalidArgument(
                "keep_days is 0, which keeps ended jobs for ever",
                "Say which ones to remove, such as those older than 30d",
            )
        ended_before = read_since(older_than, now, name="older_than") or now - timedelta(
            days=self._keep_days
        )
        if ended_before > now:
            raise InvalidArgument(f"{older_than!r} lies ahead", "Give a time in the past, or 30d")
        return await self._calls.call(
            names.PRUNE_FLOW,
            {"ended_before": ended_before.isoformat(), "dry_run": dry_run},
            Pruned,
            timeout_seconds=_LONGEST_SECONDS,
        )
