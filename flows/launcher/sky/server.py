"""SkyPilot's API server, through SkyPilot's own client (skypilot 0.12), in blocking calls.

The client starts an API server of its own wherever it finds none, and writes to standard output.
Here it does neither. Importing it takes seconds, so the first call does.
"""

import contextlib
import functools
import io
import logging
import os
import re
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Never, cast

from flows.core.errors import (
    CloudUnavailable,
    ClusterNotFound,
    ClusterUnreachable,
    InvalidArgument,
    LaunchCancelled,
)
from flows.core.private_files import make_private, open_private
from flows.launcher.bounded import call_within
from flows.launcher.sky.values import SkyCluster, SkyJob, SkyRequest, cluster_of, request_of

if TYPE_CHECKING:
    from oumi.core.configs import JobConfig

HOW_TO_START: Final = (
    "Start one with `sky api start` on the worker's machine, or set SKYPILOT_API_SERVER_ENDPOINT "
    "for the worker"
)
_ENDPOINT_ENV: Final = "SKYPILOT_API_SERVER_ENDPOINT"
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_AGAIN: Final = "It is asked again by itself"
_POST_SECONDS: Final = 30.0
_HEALTH_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 90.0
"""How long the server may send nothing: on a stream it does every 30 s (skypilot 0.12,
sky/server/stream_utils.py). The client itself would wait for ever, also on a dead connection."""
_HISTORY_DAYS: Final = 365


class SkyServer:
    """The API server that SkyPilot's own settings point to."""

    def __init__(self) -> None:
        self._stdout_is_stderr = _StdoutIsStderr()

    def load(self) -> None:
        """Import the client."""
        self._sky()
        from oumi.launcher.clients import sky_client  # noqa: F401 # pyright: ignore[reportUnusedImport]

    def check(self, *, within_seconds: float | None = None) -> None:
        """Ask whether the server is there.

        Args:
            within_seconds: How long to wait for it; None: as long as SkyPilot does, which is three
                times 2.5 s and any time to look up its name.

        Raises:
            CloudUnavailable: None runs, or it does not let us in.
            ClusterUnreachable: The one that was configured does not answer.
        """
        self._sky()
        from sky import exceptions
        from sky.server import common

        url = common.get_server_url()
        try:
            # SkyPilot keeps the answer for 5 s, so that it is not asked for again at once.
            state, _ = call_within(common.check_server_healthy, within_seconds=within_seconds)
        except TimeoutError as error:
            raise ClusterUnreachable(
                f"the SkyPilot API server at {url} did not answer within {within_seconds:g} s",
                _AGAIN,
            ) from error
        except exceptions.ApiServerConnectionError as error:
            if common.is_api_server_local():
                raise CloudUnavailable(
                    f"no SkyPilot API server runs at {url}", HOW_TO_START
                ) from error
            raise ClusterUnreachable(
                f"the SkyPilot API server at {url} does not answer", _AGAIN
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
        """The clusters of that name, or all of them.

        Args:
            names: Which ones; None: all.
            refresh: Ask the clouds themselves, and forget what is gone there.
        """
        sky = self._sky()
        mode = sky.StatusRefreshMode.FORCE if refresh else sky.StatusRefreshMode.NONE
        with translate_errors("its clusters"):
            records: list[Any] = self._get(sky.status(cluster_names=names, refresh=mode))
        return [cluster_of(record) for record in records]

    def cluster(self, name: str, *, refresh: bool = False) -> SkyCluster | None:
        """One cluster; None if SkyPilot does not know it."""
        return next(iter(self.clusters([name], refresh=refresh)), None)

    def costs(self) -> dict[str, float]:
        """What each cluster of the last month has cost so far, in dollars."""
        sky = self._sky()
        with translate_errors("the costs of its clusters"):
            reports: list[dict[str, Any]] = self._get(sky.cost_report())
        return {report["name"]: report["total_cost"] for report in reports if report.get("status")}

    def last_event(self, cluster_name: str) -> str | None:
        """What last happened to a cluster, gone ones too; None if SkyPilot never had it."""
        sky = self._sky()
        with translate_errors(f"the history of {cluster_name}"):
            reports: list[dict[str, Any]] = self._get(sky.cost_report(days=_HISTORY_DAYS))
        # The newest cluster of a name is the first.
        events = (item.get("last_event") for item in reports if item["name"] == cluster_name)
        return next((str(event or "") for event in events), None)

    def queue(self, cluster_name: str) -> list[SkyJob] | None:
        """All jobs of a cluster, ended ones too; None if the cluster is not up.

        Raises:
            ClusterNotFound: There is no such cluster.
        """
        sky = self._sky()
        try:
            with translate_errors(f"the jobs of {cluster_name}"):
                jobs: list[Any] = self._get(sky.queue(cluster_name, all_users=True))
        except sky.exceptions.ClusterNotUpError:
            return None
        return [
            SkyJob(
                job_id=str(job.job_id),
                name=job.job_name,
                status=job.status.value,
                started=bool(job.start_at),
            )
            for job in jobs
        ]

    def requests(self, cluster_name: str) -> list[SkyRequest]:
        """What was asked of the server about a cluster, the newest first."""
        listed = self._list_requests(
            f"its requests about {cluster_name}", cluster_name=cluster_name
        )
        # A server that does not know the filter sends the requests about all clusters.
        found = [request_of(item) for item in listed if item.get("cluster_name") == cluster_name]
        return sorted(found, key=lambda request: request.created_at, reverse=True)

    def launch(self, job: "JobConfig", cluster_name: str, *, autostop_minutes: int | None) -> str:
        """Ask for a cluster and the job on it; the id of the request."""
        sky = self._sky()
        task = _task(job)
        with translate_errors(f"{cluster_name} to be launched"), self._stdout_is_stderr:
            return sky.launch(
                task, cluster_name=cluster_name, idle_minutes_to_autostop=autostop_minutes
            )

    def exec(self, job: "JobConfig", cluster_name: str) -> str:
        """Ask for the job's `run` on a cluster that is up; the id of the request."""
        sky = self._sky()
        task = _task(job)
        with translate_errors(f"a job on {cluster_name}"), self._stdout_is_stderr:
            return sky.exec(task, cluster_name)

    def wait_for_launch(self, request_id: str, log_path: Path) -> str:
        """Wait for a launch, however long it takes; the id of its job.

        Args:
            request_id: The launch, or exec.
            log_path: Where SkyPilot's account of it goes.

        Raises:
            LaunchCancelled: Somebody ended it.
            ClusterUnreachable: What became of it could not be learned, among others.
            Exception: Of SkyPilot, why it failed.
        """
        sky = self._sky()
        make_private(log_path.parent)
        with (
            translate_errors("a launch"),
            self._translate_forgotten(request_id),
            open_private(log_path, "wb") as file,
            io.TextIOWrapper(file, encoding="utf-8", errors="replace", write_through=True) as log,
        ):
            try:
                job_id, _ = sky.stream_and_get(request_id, output_stream=log)
            except sky.exceptions.RequestCancelled as error:
                raise cancelled_launch() from error
        if job_id is None:
            raise RuntimeError("SkyPilot made the cluster and submitted no job")
        return str(job_id)

    def result(self, request_id: str) -> str:
        """The id of the job of a launch that has succeeded."""
        with translate_errors("the result of a launch"), self._translate_forgotten(request_id):
            job_id, _ = self._get(request_id)
        return str(job_id)

    def cancel(self, cluster_name: str, job_id: str) -> None:
        """End a job; returns when the cluster has taken the order."""
        sky = self._sky()
        with translate_errors(f"the end of job {job_id} of {cluster_name}"):
            self._get(sky.cancel(cluster_name, job_ids=[int(job_id)]))

    def stop(self, cluster_name: str) -> None:
        """Stop a cluster; returns when the server says it has, and raises if it could not."""
        sky = self._sky()
        with (
            translate_errors(f"{cluster_name} to stop"),
            translate_refusals(cluster_name, "stopped"),
        ):
            self._get(sky.stop(cluster_name))

    def down(self, cluster_name: str) -> None:
        """Destroy a cluster; returns when the server says it has, and raises if it could not."""
        sky = self._sky()
        with (
            translate_errors(f"{cluster_name} to be taken down"),
            translate_refusals(cluster_name, "taken down"),
        ):
            self._get(sky.down(cluster_name))

    def log(self, cluster_name: str, job_id: str) -> Iterator[str]:
        """A job's output from its beginning, with what SkyPilot says of it between the lines.

        Ends when the job has ended, and also when the connection to the cluster does.
        """
        sky = self._sky()
        with translate_errors(f"the log of job {job_id} of {cluster_name}"):
            chunks = sky.tail_logs(
                cluster_name=cluster_name, job_id=int(job_id), follow=True, preload_content=False
            )
            for chunk in chunks:
                if chunk is not None:
                    yield chunk

    def can_stop(self, job: "JobConfig") -> bool:
        """Whether the cluster that the job asks for is known to be one that can be stopped."""
        sky = self._sky()
        resources = next(iter(_task(job).resources))
        feature = sky.clouds.CloudImplementationFeatures.STOP
        try:
            resources.cloud.check_features_are_supported(resources, {feature})
        except Exception:  # noqa: BLE001 - or its package is installed at the server alone
            return False
        return True

    def cloud_name(self, cloud: str) -> str:
        """SkyPilot's name of one of Oumi's clouds."""
        self._sky()
        return str(_sky_cloud(cloud))

    def cloud_names(self) -> dict[str, str]:
        """Oumi's name of each cloud, by SkyPilot's."""
        self._sky()
        from oumi.launcher.clients.sky_client import SkyClient

        names = [cloud.value for cloud in SkyClient.SupportedClouds]
        return {str(_sky_cloud(name)): name for name in names}

    def enabled_clouds(self) -> set[str]:
        """SkyPilot's names of the clouds that it last found usable."""
        sky = self._sky()
        with translate_errors("its clouds"):
            names: list[str] = self._get(sky.enabled_clouds())
        return set(names)

    def check_cloud(self, name: str) -> bool:
        """Whether a cloud, by SkyPilot's name, is usable now; asks the cloud itself."""
        sky = self._sky()
        with translate_errors(f"the credentials of {name}"):
            found: dict[str, dict[str, list[str]]] = self._get(
                sky.check((name.lower(),), verbose=False)
            )
        return any("compute" in clouds.get(name, []) for clouds in found.values())

    def _get(self, request_id: Any) -> Any:
        """The result of a request, for however long that takes while the server answers."""
        import requests

        sky = self._sky()
        from sky.server import common as untyped

        common: Any = untyped
        while True:
            try:
                return sky.get(request_id)
            except requests.exceptions.ReadTimeout:
                # It is at it still, or the connection is dead. The result can be asked for again.
                common.make_authenticated_request(
                    "GET", "/api/health", retry=False, timeout=_HEALTH_SECONDS
                )

    def _list_requests(self, what: str, **which: Any) -> list[dict[str, Any]]:
        """The server's accounts of requests, ended ones too."""
        self._sky()
        from sky.server import common as untyped
        from sky.server.requests import payloads

        common: Any = untyped

        # `sky.api_status` answers [] without asking where the server is local by its address but
        # not one of this machine's processes (skypilot 0.12, sky/client/sdk.py).
        body = payloads.RequestStatusBody(all_status=True, **which)
        with translate_errors(what):
            response = common.make_authenticated_request(
                "GET",
                "/api/status",
                params=common.request_body_to_params(body),
                timeout=_POST_SECONDS,
            )
            common.handle_request_error(response)
            return response.json()

    @contextlib.contextmanager
    def _translate_forgotten(self, request_id: str) -> Generator[None]:
        """Tells a request that failed from one that the server has forgotten.

        It forgets all of them when it starts, also those that its processes are still at
        (skypilot 0.12, sky/server/server.py).
        """
        from sky import exceptions

        try:
            yield
        except _cannot_be_asked():
            raise
        except (exceptions.ClientError, RuntimeError) as error:
            if self._list_requests(f"its request {request_id}", request_ids=[request_id]):
                raise
            raise ClusterUnreachable(
                "the SkyPilot API server was started anew during the launch and knows nothing of "
                "it",
                _AGAIN,
            ) from error

    def _sky(self) -> Any:
        """The client, kept from starting servers and from standard output."""
        with self._stdout_is_stderr:
            import sky
        from sky.server import common

        # Whatever is called asks for nothing else before it starts a server (skypilot 0.12,
        # sky/server/common.py, check_server_healthy_or_start_fn).
        common._start_api_server = _start_nothing  # pyright: ignore[reportPrivateUsage]
        _bound_reads()
        handlers: list[Any] = logging.getLogger("sky").handlers
        for handler in handlers:
            if getattr(handler, "stream", None) is sys.stdout:
                handler.setStream(sys.stderr)
        return sky


def load_if_used() -> None:
    """Import the client, where this machine is told of a server or has had one.

    It takes 2 s, which the first look at a cluster would have to wait for.
    """
    if not (os.environ.get(_ENDPOINT_ENV) or (Path.home() / ".sky").exists()):
        return
    with contextlib.suppress(ImportError):
        SkyServer().load()


def first_line(error: BaseException) -> str:
    """What an error says, without colours and further lines."""
    lines = _COLOUR.sub("", str(error)).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def _one_line(error: BaseException) -> str:
    """All that an error says."""
    return " ".join(_COLOUR.sub("", str(error)).split()) or type(error).__name__


def _start_nothing(*_args: object, **_kwargs: object) -> Never:
    from sky import exceptions
    from sky.server import common

    raise exceptions.ApiServerConnectionError(common.get_server_url())


def cancelled_launch() -> LaunchCancelled:
    """Why there is no job of a launch that somebody ended."""
    return LaunchCancelled(
        "SkyPilot's launch of the job was cancelled by somebody, such as by taking its cluster "
        "down",
        "Submit the job again if it is still wanted",
    )


@functools.cache
def _bound_reads() -> None:
    """Let no read of the client's last for ever, in all of this process."""
    from requests.adapters import HTTPAdapter
    from sky.server import rest

    class Bounded(HTTPAdapter):
        def send(self, *args: Any, **options: Any) -> Any:
            given = options.get("timeout")
            connect, read = cast("Any", given) if isinstance(given, tuple) else (given, given)
            return super().send(
                *args, **{**options, "timeout": (connect, read or _SILENCE_SECONDS)}
            )

    session: Any = rest._session  # pyright: ignore[reportPrivateUsage]
    for scheme in ("http://", "https://"):
        # As large as the client's own (skypilot 0.12, sky/server/rest.py).
        session.mount(scheme, Bounded(pool_connections=50, pool_maxsize=200, max_retries=0))


@contextlib.contextmanager
def translate_errors(what: str) -> Generator[None]:
    """Tells a server that cannot be asked from one that says no."""
    from sky import exceptions

    try:
        yield
    except exceptions.ClusterDoesNotExist as error:
        raise ClusterNotFound(first_line(error), "See list_clusters for what there is") from error
    except _cannot_be_asked() as error:
        raise ClusterUnreachable(
            f"the SkyPilot API server could not be asked for {what}: {first_line(error)}",
            f"{_AGAIN}; if no server runs: {HOW_TO_START}",
        ) from error


def _cannot_be_asked() -> tuple[type[Exception], ...]:
    import requests
    from sky import exceptions

    return (
        exceptions.ApiServerConnectionError,
        exceptions.ApiServerAuthenticationError,
        exceptions.APIVersionMismatchError,
        exceptions.ServerTemporarilyUnavailableError,
        exceptions.RequestInterruptedError,
        exceptions.ClusterStatusFetchingError,
        requests.exceptions.RequestException,
    )


@contextlib.contextmanager
def translate_refusals(cluster_name: str, what: str) -> Generator[None]:
    """Tells a cluster that cannot be ended at all from one that was not this time."""
    from sky import exceptions

    try:
        yield
    except exceptions.NotSupportedError as error:
        raise InvalidArgument(
            f"cluster {cluster_name} cannot be {what}: {_one_line(error)}",
            "Take it down with down_cluster, or cancel its jobs",
        ) from error
    except (exceptions.ClusterDoesNotExist, exceptions.ApiServerConnectionError):
        raise
    except RuntimeError as error:  # what SkyPilot makes of a cloud's refusal
        raise ClusterUnreachable(
            f"cluster {cluster_name} was not {what}: {_one_line(error)}",
            "Look at it in the cloud's own console; it may still cost money",
        ) from error


class _StdoutIsStderr:
    """Sends what is printed to standard error, for as long as anybody needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._redirect = contextlib.redirect_stdout(sys.stderr)

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._redirect = contextlib.redirect_stdout(sys.stderr)
                self._redirect.__enter__()

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._redirect.__exit__(None, None, None)


def _task(job: "JobConfig") -> Any:
    # Oumi's own translation has no public name (oumi 0.9).
    from oumi.launcher.clients import sky_client

    return sky_client._convert_job_to_task(job)  # pyright: ignore[reportPrivateUsage]


def _sky_cloud(cloud: str) -> Any:
    from oumi.core.configs import JobConfig, JobResources
    from oumi.launcher.clients import sky_client

    job = JobConfig(resources=JobResources(cloud=cloud))
    return sky_client._get_sky_cloud_from_job(job)  # pyright: ignore[reportPrivateUsage]
