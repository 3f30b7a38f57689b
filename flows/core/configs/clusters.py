"""The cluster that a job gets on each cloud if it names none, and its checks."""

import re
from typing import Final, NamedTuple

from flows.core.configs.clouds import CloudKind, ClusterName, kind_of
from flows.core.errors import Conflict, InvalidArgument, InvalidConfig
from flows.core.names import LOCAL_CLUSTER, own_cluster

CONNECTIONS_ENV: Final = "OUMI_SLURM_CONNECTIONS"
"""The Slurm clusters there are, as ``user@host``, separated by commas (oumi 0.9)."""

_CONNECTION: Final = re.compile(r"[\w.-]+@[\w.-]+", re.ASCII)


class JobPlace(NamedTuple):
    """Where on a cloud a job runs.

    Attributes:
        cluster: The cluster's name.
        user: The account that the job runs as, if the cloud needs one.
        is_own: Whether the cluster is created for this job alone.
    """

    cluster: str
    user: str | None
    is_own: bool


def place_of(
    cloud: str, *, cluster: str, user: str | None, job_id: str, connections: str, config_path: str
) -> JobPlace:
    """Find where a job runs.

    Args:
        cloud: The cloud.
        cluster: The requested cluster; empty: none.
        user: The job config's user.
        job_id: The job's id, for the name of its own cluster.
        connections: The value of `CONNECTIONS_ENV`.
        config_path: The config's name in an error.

    Raises:
        CloudUnavailable: Oumi has no such cloud.
        Conflict: Cluster and job config name different users.
        InvalidConfig: The cluster is unknown.
    """
    kind = kind_of(cloud)
    match kind.cluster_name:
        case ClusterName.CONNECTION:
            return _connection(cloud, cluster, user, connections, config_path)
        case ClusterName.QUEUE:
            return _queue(kind, cloud, cluster, user, config_path)
        case ClusterName.ANY:
            is_own = kind.makes_clusters and not cluster
            return JobPlace(cluster or free_cluster(kind, job_id) or "", user, is_own=is_own)


def named_cluster(cloud: str, cluster: str, *, connections: str) -> str:
    """Find the cluster of a job that is already running.

    Raises:
        CloudUnavailable: Oumi has no such cloud.
        InvalidArgument: The cluster is not given and is unknown.
    """
    kind = kind_of(cloud)
    if cluster or kind.is_local:
        return cluster or LOCAL_CLUSTER
    known = _connections(connections) if kind.cluster_name is ClusterName.CONNECTION else []
    if len(known) != 1:
        raise InvalidArgument(
            f"a job on {cloud} is found by its cluster and its id there, but no cluster is given",
            "Give cluster_name too; list_clusters shows the clusters",
        )
    return known[0]


def free_cluster(kind: CloudKind, job_id: str) -> str | None:
    """The cluster of a job that names none, on a cloud where any will do; else None."""
    if kind.is_local:
        return LOCAL_CLUSTER
    return own_cluster(job_id) if kind.makes_clusters else None


def _connection(
    cloud: str, cluster: str, user: str | None, connections: str, config_path: str
) -> JobPlace:
    cluster = cluster or _only_connection(connections, user, config_path)
    if not _CONNECTION.fullmatch(cluster):
        raise InvalidConfig(
            f"cluster {cluster!r} of cloud {cloud!r} is not of the form user@host",
            "Give cluster_name as user@host",
        )
    return JobPlace(
        cluster, _check_user(cluster.partition("@")[0], user, config_path), is_own=False
    )


def _only_connection(connections: str, user: str | None, config_path: str) -> str:
    """The cluster of a job that names none, if only one fits its user."""
    known = _connections(connections)
    fitting = [name for name in known if user in (None, name.partition("@")[0])]
    if len(fitting) != 1:
        found = f"{CONNECTIONS_ENV} has {', '.join(known) or 'none'}"
        raise InvalidConfig(
            f"{config_path} does not name a Slurm cluster, and {found}",
            "Give cluster_name as user@host",
        )
    return fitting[0]


def _connections(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(",")) if name]


def _queue(
    kind: CloudKind, cloud: str, cluster: str, user: str | None, config_path: str
) -> JobPlace:
    if not cluster:
        if not user:
            raise InvalidConfig(
                f"{config_path} has no user, but a job on cloud {cloud!r} needs one",
                "Set user, or give cluster_name as queue.user",
            )
        cluster = f"{kind.default_queue}.{user}"
    if not all(parts := cluster.split(".")) or len(parts) != 2:
        raise InvalidConfig(
            f"cluster {cluster!r} of cloud {cloud!r} is not of the form queue.user",
            "Give cluster_name as queue.user",
        )
    return JobPlace(cluster, _check_user(parts[1], user, config_path), is_own=False)


def _check_user(of_cluster: str, of_config: str | None, config_path: str) -> str:
    if of_config not in (None, of_cluster):
        raise Conflict(
            f"{config_path} names user {of_config!r}, but the cluster is of user {of_cluster!r}",
            "Give that user's cluster_name or change the config",
        )
    return of_cluster
