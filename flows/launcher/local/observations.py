"""Observations of local jobs, for the launcher."""

from datetime import UTC, datetime
from typing import Final

from flows.core.states import JobState
from flows.launcher.local.job import LocalJob
from flows.launcher.oumi.backend import why_it_ended
from flows.launcher.port import LauncherState, Observation

STATE_OF_LOCAL: Final = {
    JobState.SCHEDULED: LauncherState.PENDING,
    JobState.QUEUED: LauncherState.PENDING,
    JobState.PENDING: LauncherState.PENDING,
    JobState.LAUNCHING: LauncherState.PENDING,
    JobState.RUNNING: LauncherState.RUNNING,
    JobState.RETRYING: LauncherState.PENDING,
    JobState.CANCELLING: LauncherState.RUNNING,
    JobState.SUCCEEDED: LauncherState.SUCCEEDED,
    JobState.FAILED: LauncherState.FAILED,
    JobState.CANCELLED: LauncherState.CANCELLED,
    JobState.CRASHED: LauncherState.FAILED,
}
"""The states of local jobs and the launcher's; a test walks every member."""


def observation_of(job: LocalJob) -> Observation:
    """Observe a job of the store."""
    message = job.state.upper()
    if job.reason is not None:
        message = why_it_ended(job.reason, exit_code=job.exit_code, signal=job.signal)
    return Observation(
        state=STATE_OF_LOCAL[job.state],
        observed_at=datetime.now(UTC),
        reason=job.reason,
        message=message,
        log_path=str(job.log_path),
        held_by=job.held_by,
    )
