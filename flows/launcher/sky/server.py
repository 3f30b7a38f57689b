"""SkyPilot's API server, through SkyPilot's own client (skypilot 0.12), in blocking calls."""

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flows.core.errors import CloudUnavailable, ClusterUnreachable
from flows.core.foreign_errors import error_of, first_line
from flows.core.private_files import make_private, open_private
from flows.launcher.bounded import call_within
from flows.launcher.port import ASKS_AGAIN
from flows.launcher.sky.client import SkyClient, sky_cloud, task_of
from flows.launcher.sky.errors import (
    HOW_TO_START,
    NoServer,
    SkyFailed,
    cancelled_launch,
    translate_errors,
    translate_refusals,
)
from flows.launcher.sky.values import SkyCluster, SkyJob, SkyRequest, cluster_of, request_of

if TYPE_CHECKING:
    from oumi.core.configs import JobConfig

_HISTORY_DAYS: Final = 365


class SkyServer:
    """The API server that SkyPilot's own settings point to.

    Args:
        client: SkyPilot's client.
    """

    def __init__(self, client: SkyClient | None = None) -> None:
        self._client = client or SkyClient()

    def check(self, *, within_seconds: float | None = None) -> None:
        """Check that the server is there.

        Args:
            within_seconds: How long to wait for it; None: as long as SkyPilot does, which is three
                times 2.5 s, plus the look-up of its name.

        Raises:
            CloudUnavailable: It gives us no access; `NoServer`: none runs on this machine.
            ClusterUnreachable: The configured server does not answer.
        """
        self._client.import_sky()
        from sky import exceptions
        from sky.server import common

        url = common.get_server_url()
        try:
            # SkyPilot keeps the answer for 5 s, so the next call does not repeat the request.
            state, _ = call_within(common.check_server_healthy, within_seconds=within_seconds)
        except TimeoutError as error:
            raise ClusterUnreachable(
                f"the SkyPilot API server at {url} did not answer within {within_seconds:g} s",
                ASKS_AGAIN,
            ) from error
        except exceptions.ApiServerConnectionError as error:
            if common.is_api_server_local():
                raise NoServer(f"no SkyPilot API server runs at {url}", HOW_TO_START) from error
            raise ClusterUnreachable(
                f"the SkyPilot API server at {url} does not answer", ASKS_AGAIN
            ) from error
        except exceptions.APIVersionMismatchError as error:
            raise CloudUnavailable(
                f"the SkyPilot API server at {url} has another version: {first_line(error)}",
                "Restart it with the SkyPilot that the worker has, or upgrade one of them",
            ) from error
        if state is common.ApiServerStatus.NEEDS_AUTH:
            raise CloudUnavailable(
                f"the SkyPilot API server at {url} asks for a login",
                "Run `sky api login` as the user the worker runs as",
            )

    def clusters(
        self, names: list[str] | None = None, *, refresh: bool = False
    ) -> list[SkyCluster]:
        """List the clusters of these names, or all of them.

        Args:
            names: Which ones; None: all.
            refresh: Ask the clouds themselves, and forget clusters that are gone there.
        """
        sky = self._client.import_sky()
        mode = sky.StatusRefreshMode.FORCE if refresh else sky.StatusRefreshMode.NONE
        with translate_errors("its clusters"):
            records: list[Any] = self._client.get(sky.status(cluster_names=names, refresh=mode))
        return [cluster_of(record) for record in records]

    def cluster(self, name: str, *, refresh: bool = False) -> SkyCluster | None:
        """One cluster; None if SkyPilot does not know it."""
        return next(iter(self.clusters([name], refresh=refresh)), None)

    def costs(self) -> dict[str, float]:
        """What each cluster of the last month has cost so far, in dollars."""
        sky = self._client.import_sky()
        with translate_errors("the costs of its clusters"):
            reports: list[dict[str, Any]] = self._client.get(sky.cost_report())
        return {report["name"]: report["total_cost"] for report in reports if report.get("status")}

    def last_event(self, cluster_name: str) -> str | None:
        """The last event of a cluster, also of a destroyed one; None if SkyPilot never had it."""
        sky = self._client.import_sky()
        with translate_errors(f"the history of {cluster_name}"):
            reports: list[dict[str, Any]] = self._client.get(sky.cost_report(days=_HISTORY_DAYS))
        # The newest cluster of a name is the first.
        events = (item.get("last_event") for item in reports if item["name"] == cluster_name)
        return next((str(event or "") for event in events), None)

    def queue(self, cluster_name: str) -> list[SkyJob] | None:
        """All jobs of a cluster, ended ones too; None if the cluster is not up.

        Raises:
            ClusterNotFound: There is no such cluster.
        """
        sky = self._client.import_sky()
        with translate_errors(f"the jobs of {cluster_name}"):
            try:
                jobs: list[Any] = self._client.get(sky.queue(cluster_name, all_users=True))
            except sky.exceptions.ClusterNotUpError:
                return None
        return [_read_job(job) for job in jobs]

    def requests(self, cluster_name: str) -> list[SkyRequest]:
        """The requests to the server about a cluster, the newest first."""
        listed = self._client.list_requests(
            f"its requests about {cluster_name}", cluster_name=cluster_name
        )
        # A server without this filter sends the requests about all clusters.
        found = [request_of(item) for item in listed if item.get("cluster_name") == cluster_name]
        return sorted(found, key=lambda request: request.created_at, reverse=True)

    def launch(self, job: "JobConfig", cluster_name: str, *, autostop_minutes: int | None) -> str:
        """Request a cluster and the job on it; return the id of the request."""
        sky = self._client.import_sky()
        task = task_of(job)
        with translate_errors(f"{cluster_name} to be launched"), self._client.stdout_is_stderr:
            return sky.launch(
                task, cluster_name=cluster_name, idle_minutes_to_autostop=autostop_minutes
            )

    def exec(self, job: "JobConfig", cluster_name: str) -> str:
        """Request the job's `run` on a cluster that is up; return the id of the request."""
        sky = self._client.import_sky()
        task = task_of(job)
        with translate_errors(f"a job on {cluster_name}"), self._client.stdout_is_stderr:
            return sky.exec(task, cluster_name)

    def wait_for_launch(self, request_id: str, log_path: Path) -> str:
        """Wait for a launch, however long it takes; return the id of its job.

        Args:
            request_id: The launch, or exec.
            log_path: The file for SkyPilot's log of it.

        Raises:
            LaunchCancelled: A user cancelled it.
            ClusterUnreachable: Its result is unknown, among others.
            SkyFailed: It failed; has the cause.
        """
        sky = self._client.import_sky()
        make_private(log_path.parent)
        with (
            translate_errors("a launch"),
            self._client.translate_forgotten(request_id),
            open_private(log_path, "wb") as file,
            io.TextIOWrapper(file, encoding="utf-8", errors="replace", write_through=True) as log,
        ):
            try:
                job_id, _ = sky.stream_and_get(request_id, output_stream=log)
            except sky.exceptions.RequestCancelled as error:
                raise cancelled_launch() from error
        if job_id is None:
            raise SkyFailed("SkyPilot made the cluster and submitted no job")
        return str(job_id)

    def result(self, request_id: str) -> str:
        """The id of the job of a launch that has succeeded."""
        with (
            translate_errors("the result of a launch"),
            self._client.translate_forgotten(request_id),
        ):
            job_id, _ = self._client.get(request_id)
        return str(job_id)

    def cancel(self, cluster_name: str, job_id: str) -> None:
        """Cancel a job; return when the cluster has accepted the request."""
        sky = self._client.import_sky()
        with translate_errors(f"the end of job {job_id} of {cluster_name}"):
            self._client.get(sky.cancel(cluster_name, job_ids=[int(job_id)]))

    def stop(self, cluster_name: str) -> None:
        """Stop a cluster; return when the server reports success, raise if it failed."""
        sky = self._client.import_sky()
        with (
            translate_errors(f"{cluster_name} to stop"),
            translate_refusals(cluster_name, "stopped"),
        ):
            self._client.get(sky.stop(cluster_name))

    def down(self, cluster_name: str) -> None:
        """Destroy a cluster; return when the server reports success, raise if it failed."""
        sky = self._client.import_sky()
        with (
            translate_errors(f"{cluster_name} to be taken down"),
            translate_refusals(cluster_name, "taken down"),
        ):
            self._client.get(sky.down(cluster_name))

    def log(self, cluster_name: str, job_id: str) -> Iterator[str]:
        """Stream a job's output from its beginning, mixed with SkyPilot's own lines.

        Ends when the job has ended, and also when the connection to the cluster does.
        """
        sky = self._client.import_sky()
        with translate_errors(f"the log of job {job_id} of {cluster_name}"):
            chunks = sky.tail_logs(
                cluster_name=cluster_name, job_id=int(job_id), follow=True, preload_content=False
            )
            for chunk in chunks:
                if chunk is not None:
                    yield chunk

    def write_ssh_config(self, cluster_name: str) -> None:
        """Let ssh know the cluster by its name, as `sky status` does for every cluster.

        Raises:
            ClusterUnreachable: The server did not answer.
        """
        self._client.import_sky()
        # No public call of the client does it (skypilot 0.12, sky/client/cli/command.py).
        from sky.client.cli import command

        write = command._get_cluster_records_and_set_ssh_config  # pyright: ignore[reportPrivateUsage]
        with translate_errors(f"how to reach {cluster_name}"), self._client.stdout_is_stderr:
            write([cluster_name])

    def can_stop(self, job: "JobConfig") -> bool:
        """Whether the cluster that the job requests is known to support a stop."""
        sky = self._client.import_sky()
        resources = next(iter(task_of(job).resources))
        feature = sky.clouds.CloudImplementationFeatures.STOP
        # It also fails where only the server has the cloud's package.
        check = partial(resources.cloud.check_features_are_supported, resources, {feature})
        return error_of(check) is None

    def cloud_name(self, cloud: str) -> str:
        """SkyPilot's name of one of Oumi's clouds."""
        self._client.import_sky()
        return str(sky_cloud(cloud))

    def cloud_names(self) -> dict[str, str]:
        """Oumi's name of each cloud, by SkyPilot's."""
        self._client.import_sky()
        from oumi.launcher.clients.sky_client import SkyClient

        names = [cloud.value for cloud in SkyClient.SupportedClouds]
        return {str(sky_cloud(name)): name for name in names}

    def enabled_clouds(self) -> set[str]:
        """SkyPilot's names of the clouds that were usable at its last check."""
        sky = self._client.import_sky()
        with translate_errors("its clouds"):
            names: list[str] = self._client.get(sky.enabled_clouds())
        return set(names)

    def check_cloud(self, name: str) -> bool:
        """Check with the cloud itself whether it is usable now; takes SkyPilot's name of it."""
        sky = self._client.import_sky()
        with translate_errors(f"the credentials of {name}"):
            found: dict[str, dict[str, list[str]]] = self._client.get(
                sky.check((name.lower(),), verbose=False)
            )
        return any("compute" in clouds.get(name, []) for clouds in found.values())


def _read_job(job: Any) -> SkyJob:
    return SkyJob(
        job_id=str(job.job_id),
        name=job.job_name,
        status=job.status.value,
        started=bool(job.start_at),
    )
