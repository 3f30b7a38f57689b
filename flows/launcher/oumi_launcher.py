"""The launcher port over `oumi.launcher`: blocking calls in bounded threads, errors translated.

Importing `oumi.launcher` costs 10 CPU seconds and 1.1 GB (oumi 0.9), so it is imported in a
thread, once, by the first call.
"""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flows.configs.yaml_text import escape_references
from flows.errors import (
    CloudUnavailable,
    ClusterNotFound,
    ClusterUnreachable,
    InvalidConfig,
    LaunchFailed,
    OumiFlowsError,
)
from flows.ports import JobHandle, LauncherState, Observation
from flows.settings import Settings
from flows.states import TerminationReason

if TYPE_CHECKING:
    from oumi.core.launcher import BaseCluster, JobStatus

T = TypeVar("T")

_STATE_OF_OUMI = {
    "pending": LauncherState.PENDING,
    "running": LauncherState.RUNNING,
    "succeeded": LauncherState.SUCCEEDED,
    "failed": LauncherState.FAILED,
    "cancelled": LauncherState.CANCELLED,
}
"""Oumi's `JobState` values (oumi 0.9) and ours; a test walks every member."""

_CALL_THREADS = 8
_LAUNCH_THREADS = 8


class OumiLauncher:
    """Every cloud in Oumi's registry, through `oumi.launcher`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._calls = ThreadPoolExecutor(_CALL_THREADS, thread_name_prefix="launcher-call")
        self._launches = ThreadPoolExecutor(_LAUNCH_THREADS, thread_name_prefix="launcher-up")

    async def warm_up(self) -> None:
        """Import Oumi's launcher and put the durable local cloud in its registry."""
        await self._run(
            self._launches, _import_launcher, timeout=self._settings.launch_timeout_seconds
        )

    async def launch(
        self, job_config: str, *, cloud: str, cluster_name: str, key: str
    ) -> JobHandle:
        """Start the job described by an Oumi job config (YAML), named `key` on the launcher."""

        def up() -> JobHandle:
            try:
                launcher = _import_launcher()
                _check_cloud(launcher, cloud)
                _, status = launcher.up(_job(launcher, job_config), cluster_name)
            except OumiFlowsError:
                raise
            except Exception as error:
                raise LaunchFailed(
                    f"{cloud} could not start the job: {_first_line(error)}",
                    "Mend the cause and retry the job",
                ) from error
            return JobHandle(cloud=cloud, cluster_name=status.cluster, launcher_job_id=status.id)

        limit = self._settings.launch_timeout_seconds
        try:
            return await self._run(self._launches, up, timeout=limit)
        except TimeoutError as error:
            raise LaunchFailed(
                f"{cloud} did not start the job within {limit:g} s",
                "Retry the job; if it comes up meanwhile, the retry attaches to it",
            ) from error

    async def find(self, *, cloud: str, cluster_name: str, key: str) -> JobHandle | None:
        """The job launched as `key`, whatever its state; None if there is none."""

        def find() -> JobHandle | None:
            cluster = _cluster(cloud, cluster_name)
            if cluster is None:
                return None
            status = cast("JobStatus | None", cluster.get_job(key))
            if status is None:
                status = next((job for job in cluster.get_jobs() if job.name == key), None)
            if status is None:
                return None
            return JobHandle(cloud=cloud, cluster_name=cluster_name, launcher_job_id=status.id)

        return await self._call(cloud, cluster_name, find)

    async def observe(self, cloud: str, cluster_name: str) -> dict[str, Observation]:
        """All jobs of a cluster by launcher job id, in one call to it."""

        def observe() -> dict[str, Observation]:
            cluster = _cluster(cloud, cluster_name)
            jobs = cluster.get_jobs() if cluster is not None else []
            return {job.id: _observation(job) for job in jobs}

        return await self._call(cloud, cluster_name, observe)

    async def observe_job(self, handle: JobHandle) -> Observation | None:
        """One job, by the launcher's most exact means; None if it does not know it."""

        def observe() -> Observation | None:
            cluster = _cluster(handle.cloud, handle.cluster_name)
            if cluster is None:
                return None
            status = cast("JobStatus | None", cluster.get_job(handle.launcher_job_id))
            return _observation(status) if status is not None else None

        return await self._call(handle.cloud, handle.cluster_name, observe)

    async def cancel(self, handle: JobHandle, *, force: bool) -> None:
        """Ask for the end of a job; `force` skips the grace where the cloud has one."""

        def cancel() -> None:
            cluster = _cluster(handle.cloud, handle.cluster_name)
            if cluster is None:
                raise ClusterNotFound(
                    f"cluster {handle.cluster_name} on {handle.cloud} is gone",
                    "See list_clusters for what there is",
                )
            from flows.launcher.local_cloud import LocalCluster

            if force and isinstance(cluster, LocalCluster):
                cluster.cancel_job(handle.launcher_job_id, grace_seconds=0.0)
            else:
                cluster.cancel_job(handle.launcher_job_id)

        await self._call(handle.cloud, handle.cluster_name, cancel)

    async def _call(self, cloud: str, cluster_name: str, function: Callable[[], T]) -> T:
        try:
            return await self._run(
                self._calls, function, timeout=self._settings.launcher_timeout_seconds
            )
        except OumiFlowsError:
            raise
        except TimeoutError as error:
            raise ClusterUnreachable(
                f"{cloud}/{cluster_name} did not answer within "
                f"{self._settings.launcher_timeout_seconds:g} s",
                "It is asked again by itself",
            ) from error
        except Exception as error:
            raise ClusterUnreachable(
                f"{cloud}/{cluster_name} could not be asked: {_first_line(error)}",
                "It is asked again by itself",
            ) from error

    async def _run(
        self, pool: ThreadPoolExecutor, function: Callable[[], T], *, timeout: float
    ) -> T:
        async with asyncio.timeout(timeout):
            return await asyncio.get_running_loop().run_in_executor(pool, function)


def _import_launcher() -> Any:
    from oumi import launcher

    from flows.launcher import local_cloud

    local_cloud.register()
    return launcher


def _job(launcher: Any, job_config: str) -> Any:
    try:
        return launcher.JobConfig.from_str(escape_references(job_config))
    except Exception as error:  # of Oumi, OmegaConf or YAML (oumi 0.9)
        raise InvalidConfig(
            f"Oumi cannot read the job config: {_first_line(error)}", "Correct the config"
        ) from error


def _check_cloud(launcher: Any, cloud: str) -> None:
    known = launcher.which_clouds()
    if cloud not in known:
        raise CloudUnavailable(
            f"Oumi knows no cloud named {cloud}", f"Use one of: {', '.join(sorted(known))}"
        )


def _cluster(cloud: str, cluster_name: str) -> "BaseCluster | None":
    launcher = _import_launcher()
    _check_cloud(launcher, cloud)
    return launcher.get_cloud(cloud).get_cluster(cluster_name)


def _observation(status: "JobStatus") -> Observation:
    facts = _metadata(status.metadata)
    state = _STATE_OF_OUMI[status.state.value]
    reason = facts.get("reason") if state.is_terminal else None
    return Observation(
        state=state,
        observed_at=datetime.now(UTC),
        reason=TerminationReason(reason) if reason else None,
        message=_why(facts) if reason else status.status,
        log_path=facts.get("log_path"),
    )


def _why(facts: dict[str, Any]) -> str:
    """How a job ended, for people."""
    code, signal = facts.get("exit_code"), facts.get("signal")
    how = f"was ended by signal {signal}" if signal else f"exited with code {code}"
    match TerminationReason(facts["reason"]):
        case TerminationReason.COMPLETED:
            return "The job finished."
        case TerminationReason.SETUP_FAILED:
            return f"The setup script {how}."
        case TerminationReason.OUT_OF_MEMORY:
            return "The job was killed by signal 9, as the kernel does when memory runs out."
        case TerminationReason.LOST:
            return "Every process of the job was gone, and none had recorded how it ended."
        case _:
            return f"The job {how}."


def _metadata(text: str) -> dict[str, Any]:
    """The facts a cloud of ours puts in `JobStatus.metadata` as JSON; nothing for others."""
    if not text.startswith("{"):
        return {}
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
