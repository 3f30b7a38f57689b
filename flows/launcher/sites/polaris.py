"""Oumi's cloud ``polaris``, whose jobs PBS runs.

Oumi's client reports every finished job as a success and one that is about to finish as a failure.
Its list cuts names at 15 characters, so no job can be found by its key (oumi 0.9, `_get_job_state`
and `list_jobs` in launcher/clients/polaris_client.py). This backend asks PBS for both.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from flows.core.errors import ClusterUnreachable
from flows.core.foreign_errors import first_line
from flows.core.models import JobHandle
from flows.core.settings import Settings
from flows.core.states import TerminationReason
from flows.launcher.oumi.backend import why_it_ended
from flows.launcher.port import ASKS_AGAIN, LauncherState, Observation
from flows.launcher.signals import signal_from_outside
from flows.launcher.sites.site import SiteBackend

if TYPE_CHECKING:
    from oumi.core.launcher import BaseCluster, JobStatus

PENDING, RUNNING = LauncherState.PENDING, LauncherState.RUNNING

STATE_OF_PBS: Final[dict[str, LauncherState | None]] = {
    "B": RUNNING,
    "E": RUNNING,
    "F": None,
    "H": PENDING,
    "M": None,
    "Q": PENDING,
    "R": RUNNING,
    "S": RUNNING,
    "T": PENDING,
    "U": RUNNING,
    "W": PENDING,
    "X": None,
}
"""PBS's job states (openpbs 20, src/include/job.h). Those without one of ours have ended on this
server, and do not show how."""

_TERMINATED: Final = "91"
"""Substate of a finished job that was deleted (openpbs 20, src/include/job.h)."""
_OF_PBS: Final = {
    -26: TerminationReason.OUT_OF_MEMORY,
    -27: TerminationReason.OUT_OF_MEMORY,
    -28: TerminationReason.TIMED_OUT,
    -29: TerminationReason.TIMED_OUT,
}
"""Exit statuses of jobs that PBS ended; any other below 0: PBS could not run it (same file)."""
_SIGNALLED: Final = 256
_SIGTERM: Final = 15
_FIELD: Final = re.compile(r"^ +([\w.]+) = (.*)$", re.MULTILINE)


class PolarisBackend(SiteBackend):
    """Polaris.

    Args:
        cloud: Its name in Oumi's registry.
        settings: The settings of this process.
    """

    def __init__(self, cloud: str, settings: Settings) -> None:
        super().__init__(cloud, settings)
        self._ended: dict[str, Observation] = {}

    def find(self, cluster_name: str, key: str) -> JobHandle | None:
        """The job launched as `key`, whatever its state; None if there is none."""
        cluster = self._cluster(cluster_name)
        if cluster is None:
            return None
        user, name = self._user(cluster_name), self._name_of(key)
        ids = self._ask(cluster, f"qselect -x -u {user} -N {name}").split()
        first = min((short_id(job_id) for job_id in ids), key=int, default=None)
        return None if first is None else self._handle(cluster_name, first)

    def _cluster(self, name: str) -> "BaseCluster | None":
        from oumi.launcher.clients.polaris_client import PolarisClient

        user = self._user(name)
        if user not in PolarisClient.get_active_users():
            # Oumi's client would ask for a password here, and the worker has no terminal.
            raise ClusterUnreachable(
                f"no ssh connection of {user} to Polaris is open on the worker's machine",
                "Open it: ssh -M -N -f -o ControlPersist=8h -S ~/.ssh/control-%h-%p-%r "
                f"{user}@polaris.alcf.anl.gov",
            )
        return super()._cluster(name)

    def _observations(
        self, cluster: "BaseCluster", jobs: "list[JobStatus]"
    ) -> dict[str, Observation]:
        over = [job.id for job in jobs if STATE_OF_PBS.get(job.status, PENDING) is None]
        unknown = [job_id for job_id in over if job_id not in self._ended]
        if unknown:
            self._ended |= ends(self._ask(cluster, f"qstat -x -f {' '.join(unknown)}"))
        live = {
            job.id: _observation(state, message=f"PBS says {job.status}.")
            for job in jobs
            if (state := STATE_OF_PBS.get(job.status, PENDING)) is not None
        }
        # The state of an ended job that PBS no longer knows is unknown.
        return live | {job_id: self._ended[job_id] for job_id in over if job_id in self._ended}

    def _ask(self, cluster: "BaseCluster", command: str) -> str:
        client: Any = vars(cluster)["_client"]
        response = client.run_commands([command])
        if response.exit_code and "Unknown Job Id" not in response.stderr:
            raise ClusterUnreachable(
                f"{self._cloud} did not answer {command.split(maxsplit=1)[0]}: "
                f"{first_line(RuntimeError(response.stderr))}",
                ASKS_AGAIN,
            )
        return response.stdout


def ends(text: str) -> dict[str, Observation]:
    """Read how jobs ended, by their ids, from the output of ``qstat -x -f``."""
    # Long values continue in the next line, after a tab.
    _, *jobs = re.split(r"^Job Id: ", text.replace("\n\t", ""), flags=re.MULTILINE)
    seen: dict[str, Observation] = {}
    for job in jobs:
        job_id, _, rest = job.partition("\n")
        fields = dict(_FIELD.findall(rest))
        if fields.get("job_state") in ("F", "X"):
            seen[short_id(job_id)] = _end(fields)
    return seen


def short_id(job_id: str) -> str:
    """Shorten a job's id to its number, as Oumi does."""
    return job_id.strip().partition(".")[0]


def _end(fields: Mapping[str, str]) -> Observation:
    comment = fields.get("comment", "")
    if fields.get("substate") == _TERMINATED:
        return _observation(LauncherState.CANCELLED, message=comment)
    try:
        status = int(fields["Exit_status"])
    except (KeyError, ValueError):
        text = "PBS reports that the job ended, but not how"
        text = f"{text}: {comment}" if comment else f"{text}."
        return _observation(LauncherState.FAILED, reason=TerminationReason.LOST, message=text)
    if status == 0:
        return _observation(LauncherState.SUCCEEDED, reason=TerminationReason.COMPLETED)
    if status < 0:
        reason = _OF_PBS.get(status, TerminationReason.LAUNCH_FAILED)
        text = f"PBS ended the job with status {status}"
        text = f"{text}: {comment}" if comment else f"{text}."
        return _observation(LauncherState.FAILED, reason=reason, message=text)
    return _failure(status, fields)


def _failure(status: int, fields: Mapping[str, str]) -> Observation:
    signal = status - _SIGNALLED if status > _SIGNALLED else None
    if signal == _SIGTERM and _used_its_time(fields):
        limit = fields["Resource_List.walltime"]
        text = f"PBS ended the job, because it ran longer than its limit of {limit}."
        return _observation(LauncherState.FAILED, reason=TerminationReason.TIMED_OUT, message=text)
    was_killed = signal_from_outside(status, signal) is not None
    reason = TerminationReason.KILLED if was_killed else TerminationReason.NONZERO_EXIT
    text = why_it_ended(reason, exit_code=status, signal=signal)
    return _observation(LauncherState.FAILED, reason=reason, message=text)


def _used_its_time(fields: Mapping[str, str]) -> bool:
    used, limit = (
        _seconds(fields.get(f"{kind}.walltime", "")) for kind in ("resources_used", "Resource_List")
    )
    return used is not None and limit is not None and used >= limit


def _seconds(text: str) -> int | None:
    parts = text.split(":")
    if not all(part.isdecimal() for part in parts):
        return None
    return sum(int(part) * 60**power for power, part in enumerate(reversed(parts)))


def _observation(
    state: LauncherState, *, reason: TerminationReason | None = None, message: str = ""
) -> Observation:
    text = message or ("The job finished." if reason is TerminationReason.COMPLETED else "")
    return Observation(state=state, observed_at=datetime.now(UTC), reason=reason, message=text)
