"""Observations of jobs, from the answers of SkyPilot's API server (skypilot 0.12)."""

from datetime import UTC, datetime
from typing import Final

from flows.core.states import TerminationReason
from flows.launcher.port import LauncherState, Observation
from flows.launcher.sky.server import SkyServer
from flows.launcher.sky.values import SkyJob

_END: Final = {
    "SUCCEEDED": (TerminationReason.COMPLETED, "The job finished."),
    "FAILED": (TerminationReason.NONZERO_EXIT, "The job exited with a code other than 0."),
    "FAILED_SETUP": (TerminationReason.SETUP_FAILED, "The setup script failed."),
    "FAILED_DRIVER": (
        TerminationReason.OUT_OF_MEMORY,
        "SkyPilot's process that runs the job died, most often because memory ran out.",
    ),
    "CANCELLED": (TerminationReason.USER_CANCELLED, "The job was cancelled."),
}

# Events in SkyPilot's history of a cluster (skypilot 0.12, `core.stop` and
# `backend_utils._update_cluster_status`).
_STOPPED_BY_USER: Final = "Cluster was stopped by user."
_TAKEN_AWAY: Final = ("All nodes terminated", "All nodes stopped")


def observation_of(job: SkyJob) -> Observation:
    """Observe a job by its row in the queue of its cluster."""
    reason, message = _END.get(job.status, (None, f"SkyPilot says {job.status}."))
    if job.was_never_submitted:
        reason, message = TerminationReason.LAUNCH_FAILED, "SkyPilot never started the job."
    return _new_observation(job.state, reason, message).model_copy(update={"name": job.name})


def observe_end_with_cluster(
    server: SkyServer, cloud: str, cluster_name: str
) -> Observation | None:
    """Find how a cluster that is gone or stopped ended its jobs; None if it had no launch.

    The server remembers the requests of a day, and none from before its start. Its history of
    clusters lasts.
    """
    requests = server.requests(cluster_name)
    launched = [item for item in requests if item.is_launch and item.has_succeeded]
    last_event = server.last_event(cluster_name)
    if not launched and last_event is None:
        return None
    since = launched[0].created_at if launched else 0.0
    verbs = [item.verb for item in requests if item.created_at > since]
    cluster = server.cluster(cluster_name)
    taken_away = (last_event or "").startswith(_TAKEN_AWAY)
    # A missing cluster that its cloud did not take away was taken down by a forgotten request.
    if "down" in verbs or (cluster is None and not launched and not taken_away):
        return _end_by_user(cluster_name, "taken down")
    if "stop" in verbs or last_event == _STOPPED_BY_USER:
        return _end_by_user(cluster_name, "stopped")
    if cluster is not None and cluster.autostop >= 0:
        return _new_observation(
            LauncherState.FAILED,
            TerminationReason.LOST,
            f"Cluster {cluster_name} stopped itself after {cluster.autostop} idle minutes, before "
            "the end of the job was observed; start the cluster to see it.",
        )
    return _new_observation(
        LauncherState.FAILED,
        TerminationReason.PREEMPTED,
        f"Cluster {cluster_name} was taken away by {cloud}, and the job with it.",
    )


def _end_by_user(cluster_name: str, what: str) -> Observation:
    return _new_observation(
        LauncherState.CANCELLED,
        TerminationReason.CANCELLED_EXTERNALLY,
        f"Cluster {cluster_name} was {what} before the end of the job was observed.",
    )


def _new_observation(
    state: LauncherState, reason: TerminationReason | None, message: str
) -> Observation:
    return Observation(state=state, observed_at=datetime.now(UTC), reason=reason, message=message)
