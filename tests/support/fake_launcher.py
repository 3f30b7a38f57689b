"""A launcher in memory, scripted by the jobs it is given and by the test."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from flows.core.configs.clouds import cloud_kinds, is_local
from flows.core.errors import (
    CloudUnavailable,
    ClusterNotFound,
    ClusterUnreachable,
    JobNotFound,
    OumiFlowsError,
)
from flows.core.models import ClusterState, ClusterStatus, JobHandle
from flows.core.states import TerminationReason
from flows.launcher.port import Clusters, LauncherState, Observation, UsageSample
from flows.launcher.remote_files import RemoteFiles

KNOWN_CLOUDS = tuple(cloud_kinds())


@dataclass
class FakeJob:
    """One job; it runs until its script or the test ends it.

    Attributes:
        stubborn: Whether only a forced cancel ends it.
        log_path: Its log, where that is a file here.
        output: Its log, where that is elsewhere.
        id: What its cluster calls it; empty: by its key.
        gone: Whether its cluster was taken away and knows it no more.
        clock_ahead: How far the wall clock was set forward.
        is_paused: Whether it is frozen; None: it cannot be.
        pauses: What was asked of it, in order.
        usage: What its cluster's accounting says it used.
    """

    key: str
    cluster: str
    config: dict[str, Any]
    state: LauncherState = LauncherState.PENDING
    reason: TerminationReason | None = None
    message: str = ""
    stubborn: bool = False
    cancels: int = 0
    log_path: Path | None = None
    output: bytes = b""
    id: str = ""
    gone: bool = False
    clock_ahead: timedelta = timedelta()
    is_paused: bool | None = None
    pauses: list[bool] = field(default_factory=list[bool])
    usage: UsageSample | None = None

    def end(
        self, state: LauncherState, reason: TerminationReason | None = None, message: str = ""
    ) -> None:
        """End the job, once and for all."""
        if not self.state.is_terminal:
            self.state, self.reason, self.message = state, reason, message

    def succeed(self) -> None:
        self.end(LauncherState.SUCCEEDED, TerminationReason.COMPLETED, "The job finished.")

    def fail(self, reason: TerminationReason, message: str) -> None:
        self.end(LauncherState.FAILED, reason, message)

    @property
    def observation(self) -> Observation:
        return Observation(
            state=self.state,
            observed_at=datetime.now(UTC) + self.clock_ahead,
            reason=self.reason,
            message=self.message,
            log_path=str(self.log_path) if self.log_path else None,
            name=self.key,
            is_paused=None if self.state.is_terminal else self.is_paused,
        )


class FakeLauncher:
    """Jobs of one machine. What a job does is the first word of its `run`:

    ``hold`` runs until the test ends it, ``ignore`` also ignores a cancel that is not forced,
    ``exit N`` ends with that code. A `setup` of ``exit N`` fails before.

    Args:
        slots: Jobs that run at once; further ones are pending.
    """

    def __init__(self, *, slots: int = 100) -> None:
        self.jobs: dict[str, FakeJob] = {}
        self.calls: Counter[str] = Counter()
        self.autostops: list[int | None] = []
        """The idle minutes that each launch asked for."""
        self.hourly_cost: float | None = None
        """What each cluster costs an hour; None: its price is not known."""
        self.stopped: set[str] = set()
        self.downed: set[str] = set()
        self.cluster_errors: list[OumiFlowsError] = []
        """What the next attempts to stop or destroy a cluster fail with."""
        self.launches: list[str] = []
        """The key of every launch that was asked for."""
        self.unreachable: str | None = None
        """Why no call but a launch is answered; None: they are."""
        self.closed: OumiFlowsError | None = None
        """What keeps launches from reaching the cluster."""
        self.reach_gate = asyncio.Event()
        """While it is not set, launches wait for their cluster to answer."""
        self.reach_gate.set()
        self.refusal: OumiFlowsError | None = None
        """What every launch raises."""
        self.launching = asyncio.Event()
        """Set while a launch waits for `gate`, or after it."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.log_gate = asyncio.Event()
        """While it is not set, looks at logs stall."""
        self.log_gate.set()
        self.look_gate = asyncio.Event()
        """While it is not set, looks at a cluster stall."""
        self.look_gate.set()
        self.end_gate = asyncio.Event()
        """While it is not set, no cluster comes to the end that was ordered."""
        self.end_gate.set()
        self.slots = slots
        self.counts_ids = False
        """Whether each cluster counts its jobs from 1 on, as SkyPilot's do."""

    def remake(self, cluster: str) -> None:
        """A cluster was taken away with its jobs and created again: its job ids start over."""
        for job in self.jobs.values():
            job.gone |= job.cluster == cluster

    async def warm_up(self) -> None:
        self.calls["warm_up"] += 1

    async def reach(self, cloud: str, cluster_name: str) -> None:
        self.calls["reach"] += 1
        await self.reach_gate.wait()
        if self.closed is not None:
            raise self.closed

    async def launch(
        self,
        job_config: str,
        *,
        cloud: str,
        cluster_name: str,
        key: str,
        autostop_minutes: int | None = None,
    ) -> JobHandle:
        self.calls["launch"] += 1
        self.autostops.append(autostop_minutes)
        # As in a thread: it goes on when no caller waits for it any more.
        launch = asyncio.ensure_future(self._launch(job_config, cloud, cluster_name, key))
        return await asyncio.shield(launch)

    async def _launch(self, job_config: str, cloud: str, cluster: str, key: str) -> JobHandle:
        self.launches.append(key)
        self.launching.set()
        await self.gate.wait()
        _check_cloud(cloud)
        if self.refusal is not None:
            raise self.refusal
        if key not in self.jobs:
            config = yaml.safe_load(job_config)
            stubborn = config["run"].split()[0] == "ignore"
            job_id = str(len(self._on(cluster)) + 1) if self.counts_ids else key
            self.jobs[key] = FakeJob(
                key,
                cluster,
                config,
                stubborn=stubborn,
                id=job_id,
                is_paused=False if is_local(cloud) else None,
            )
            self._advance()
        job_id = self.jobs[key].id
        return JobHandle(cloud=cloud, cluster_name=cluster, launcher_job_id=job_id)

    async def find(self, *, cloud: str, cluster_name: str, key: str) -> JobHandle | None:
        self._answer("find", cloud)
        job = next((job for job in self._on(cluster_name).values() if job.key == key), None)
        if job is None:
            return None
        job_id = job.id or key
        return JobHandle(cloud=cloud, cluster_name=cluster_name, launcher_job_id=job_id)

    async def observe(self, cloud: str, cluster_name: str) -> dict[str, Observation]:
        self._answer("observe", cloud)
        self._advance()
        return {job_id: job.observation for job_id, job in self._on(cluster_name).items()}

    async def observe_job(self, handle: JobHandle) -> Observation | None:
        self._answer("observe_job", handle.cloud)
        job = self._on(handle.cluster_name).get(handle.launcher_job_id)
        return None if job is None else job.observation

    async def cancel(self, handle: JobHandle, *, force: bool) -> None:
        self._answer("cancel", handle.cloud)
        job = self._on(handle.cluster_name).get(handle.launcher_job_id)
        if job is None:
            raise JobNotFound(f"no job {handle.launcher_job_id}", "List the jobs")
        job.cancels += 1
        if force or not job.stubborn or job.state is LauncherState.PENDING:
            job.end(LauncherState.CANCELLED, TerminationReason.USER_CANCELLED)

    async def set_paused(self, handle: JobHandle, *, paused: bool) -> bool:
        self._answer("set_paused", handle.cloud)
        job = self._on(handle.cluster_name)[handle.launcher_job_id]
        job.pauses.append(paused)
        job.is_paused = paused
        return True

    async def read_log(self, handle: JobHandle, *, offset: int, limit: int) -> bytes:
        self._answer("read_log", handle.cloud)
        await self.log_gate.wait()
        job = self._on(handle.cluster_name)[handle.launcher_job_id]
        output = job.log_path.read_bytes() if job.log_path else job.output
        return output[offset : offset + limit]

    async def read_usage(self, handle: JobHandle) -> UsageSample | None:
        self._answer("read_usage", handle.cloud)
        return self._on(handle.cluster_name)[handle.launcher_job_id].usage

    async def files(self, handle: JobHandle, *, key: str) -> RemoteFiles:
        self._answer("files", handle.cloud)
        raise CloudUnavailable(
            f"the files of jobs on {handle.cloud} cannot be read from here", "Copy them there"
        )

    async def clusters(self, cloud: str) -> Clusters:
        self._answer("clusters", cloud or "local")
        names = {job.cluster for job in self.jobs.values()} - self.downed
        found = [
            ClusterStatus(
                cloud="local",
                cluster_name=name,
                hourly_cost=self.hourly_cost,
                state=ClusterState.STOPPED if name in self.stopped else ClusterState.UP,
                live_jobs=[
                    job.key
                    for job in self.jobs.values()
                    if job.cluster == name and not job.state.is_terminal
                ],
            )
            for name in sorted(names)
        ]
        return Clusters(clusters=found, unavailable={"SkyPilot": "none"} if not cloud else {})

    async def look_at_cluster(self, cloud: str, cluster_name: str) -> None:
        self._answer("look_at_cluster", cloud)
        await self.look_gate.wait()
        await self._known_cluster(cloud, cluster_name)

    async def stop_cluster(self, cloud: str, cluster_name: str) -> None:
        await self._end_cluster("stop_cluster", cloud, cluster_name)
        self.stopped.add(cluster_name)

    async def down_cluster(self, cloud: str, cluster_name: str) -> None:
        await self._end_cluster("down_cluster", cloud, cluster_name)
        self.downed.add(cluster_name)

    async def _end_cluster(self, call: str, cloud: str, cluster_name: str) -> None:
        self._answer(call, cloud)
        await self._known_cluster(cloud, cluster_name)
        if self.cluster_errors:
            raise self.cluster_errors.pop(0)
        await self.end_gate.wait()
        for job in self.jobs.values():
            if job.cluster == cluster_name:
                job.end(LauncherState.CANCELLED)

    def _on(self, cluster: str) -> dict[str, FakeJob]:
        """The jobs that a cluster knows, by its own ids."""
        jobs = (job for job in self.jobs.values() if job.cluster == cluster and not job.gone)
        return {job.id or job.key: job for job in jobs}

    async def _known_cluster(self, cloud: str, cluster_name: str) -> None:
        listed = await self.clusters(cloud)
        if cluster_name not in [cluster.cluster_name for cluster in listed.clusters]:
            raise ClusterNotFound(f"there is no cluster {cluster_name}", "List the clusters")

    def _answer(self, call: str, cloud: str) -> None:
        self.calls[call] += 1
        if self.unreachable is not None:
            raise ClusterUnreachable(self.unreachable, "It is asked again by itself")
        _check_cloud(cloud)

    def _advance(self) -> None:
        """One step of every job: running ones follow their script, pending ones take a slot."""
        for job in self.jobs.values():
            if job.state is LauncherState.RUNNING:
                _follow_script(job)
        running = sum(job.state is LauncherState.RUNNING for job in self.jobs.values())
        for job in self.jobs.values():
            if job.state is LauncherState.PENDING and running < self.slots:
                job.state = LauncherState.RUNNING
                running += 1


def _check_cloud(cloud: str) -> None:
    if cloud not in KNOWN_CLOUDS:
        raise CloudUnavailable(f"there is no cloud named {cloud}", "Use one of: local")


def _follow_script(job: FakeJob) -> None:
    setup, run = job.config.get("setup", ""), job.config["run"].split()
    if setup.startswith("exit") and setup.split()[1] != "0":
        job.fail(TerminationReason.SETUP_FAILED, f"The setup script exited with code {setup[5:]}.")
    elif run[0] == "exit" and run[1] == "0":
        job.succeed()
    elif run[0] == "exit":
        job.fail(TerminationReason.NONZERO_EXIT, f"The job exited with code {run[1]}.")
