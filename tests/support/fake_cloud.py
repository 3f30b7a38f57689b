"""A scripted cloud in Oumi's registry, kept in files: any process may die without losing a job.

What a job does is the first word of its `run`: ``hold`` runs until it is released, ``ignore`` does
too and takes no cancel, ``sleep N`` runs so many seconds, ``exit N`` ends with that code. A `setup`
of ``exit N`` fails before. The cloud's files are in the folder that FAKE_CLOUD names. It takes the
place of one of Oumi's clouds: in a process whose OUMI_EXTRA_DEPS_FILE lists this module, of the one
that FAKE_CLOUD_NAME names.
"""

import fcntl
import io
import json
import os
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from oumi.core.configs import JobConfig
from oumi.core.launcher import BaseCloud, BaseCluster, JobState, JobStatus
from oumi.core.registry import REGISTRY, RegistryType
from oumi.core.registry.registry import RegistryKey
from oumi.launcher.launcher import LAUNCHER

FOLDER_ENV = "FAKE_CLOUD"
NAME_ENV = "FAKE_CLOUD_NAME"


class FakeCluster(BaseCluster):
    """One cluster: a file of jobs, counted calls, and what a test wants of it."""

    def __init__(self, path: Path, *, slots: int = 100) -> None:
        self._path = path
        self._slots = slots

    def name(self) -> str:
        return self._path.stem

    def exists(self) -> bool:
        return self._path.exists()

    def get_job(self, job_id: str) -> JobStatus | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        with self._asked("get_job") as state:
            job = state["jobs"].get(job_id)
            return None if job is None else self._status(job)

    def get_jobs(self) -> list[JobStatus]:
        with self._asked("get_jobs") as state:
            return [self._status(job) for job in state["jobs"].values()]

    def run_job(self, job: JobConfig) -> JobStatus:
        with self._asked("run_job") as state:
            job_id = str(len(state["jobs"]) + 1)
            entry: dict[str, Any] = {
                "id": job_id,
                "name": job.name,
                "setup": job.setup or "",
                "run": job.run,
                "state": JobState.PENDING.value,
                "facts": {},
            }
            state["jobs"][job_id] = entry
            self._advance(state)
            return self._status(entry)

    def cancel_job(self, job_id: str) -> JobStatus:
        with self._asked("cancel_job") as state:
            job = state["jobs"].get(job_id)
            if job is None:
                raise KeyError(f"no job {job_id}")
            waits = job["state"] == JobState.PENDING.value
            if waits or not job["run"].startswith("ignore"):
                _end(job, JobState.CANCELLED, "user_cancelled")
            return self._status(job)

    def stop(self) -> None:
        raise NotImplementedError

    def down(self) -> None:
        raise NotImplementedError

    def get_logs_stream(self, cluster_name: str, job_id: str | None = None) -> io.TextIOBase:
        raise NotImplementedError

    # What a test does with it.

    def release(self, job_id: str) -> None:
        """Have a job end well."""
        with self._changed() as state:
            _end(state["jobs"][job_id], JobState.SUCCEEDED, "completed")

    def forget(self, job_id: str) -> None:
        """Lose a job."""
        with self._changed() as state:
            del state["jobs"][job_id]

    def answers(self, *, error: str | None) -> None:
        """Fail every call from now on, or no more."""
        with self._changed() as state:
            state["error"] = error

    def job_names(self) -> list[str]:
        """The name of every job there is."""
        with self._changed() as state:
            return [job["name"] for job in state["jobs"].values()]

    def calls(self) -> dict[str, int]:
        """How often each method was called."""
        with self._changed() as state:
            return dict(state["calls"])

    @contextmanager
    def _asked(self, method: str) -> "Generator[dict[str, Any]]":
        with self._changed() as state:
            state["calls"][method] = state["calls"].get(method, 0) + 1
            error = state["error"]
            if error is None:
                self._advance(state)
                yield state
        if error is not None:
            raise ConnectionError(error)

    @contextmanager
    def _changed(self) -> "Generator[dict[str, Any]]":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            empty = '{"jobs": {}, "calls": {}, "error": null}'
            state = json.loads(self._path.read_text() if self._path.exists() else empty)
            yield state
            draft = self._path.with_suffix(".new")
            draft.write_text(json.dumps(state))
            draft.replace(self._path)

    def _advance(self, state: dict[str, Any]) -> None:
        """One step of every job: running ones follow their script, pending ones take a slot."""
        jobs = state["jobs"].values()
        for job in jobs:
            if job["state"] == JobState.RUNNING.value:
                _follow_script(job)
        running = sum(job["state"] == JobState.RUNNING.value for job in jobs)
        for job in jobs:
            if job["state"] == JobState.PENDING.value and running < self._slots:
                job["state"] = JobState.RUNNING.value
                job["started"] = time.monotonic()
                running += 1

    def _status(self, job: dict[str, Any]) -> JobStatus:
        state = JobState(job["state"])
        return JobStatus(
            name=job["name"],
            id=job["id"],
            status=state.name,
            cluster=self.name(),
            metadata=json.dumps(job["facts"]),
            done=bool(job["facts"]),
            state=state,
        )


class FakeCloud(BaseCloud):
    """The clusters of one folder; a cluster is there once a job was launched on it."""

    def __init__(self, folder: Path, *, slots: int = 100) -> None:
        self._folder = folder
        self._slots = slots

    def cluster(self, name: str) -> FakeCluster:
        return FakeCluster(self._folder / f"{name}.json", slots=self._slots)

    def up_cluster(self, job: JobConfig, name: str | None, **kwargs: Any) -> JobStatus:
        assert name
        return self.cluster(name).run_job(job)

    def get_cluster(self, name: str) -> FakeCluster | None:
        cluster = self.cluster(name)
        return cluster if cluster.exists() else None

    def list_clusters(self) -> list[BaseCluster]:
        return [self.cluster(path.stem) for path in sorted(self._folder.glob("*.json"))]


def build_fake_cloud() -> FakeCloud:
    """The cloud that the environment describes."""
    return FakeCloud(
        Path(os.environ[FOLDER_ENV]), slots=int(os.environ.get("FAKE_CLOUD_SLOTS", "100"))
    )


@contextmanager
def registered(name: str) -> "Generator[None]":
    """While it is open, the cloud has the place of one of Oumi's."""
    # No public way to do that, nor to have the launcher forget what it has built (oumi 0.9).
    entries: dict[RegistryKey, Any] = vars(REGISTRY)["_registry"]
    built: dict[str, BaseCloud] = vars(LAUNCHER)["_clouds"]
    key = RegistryKey(name, RegistryType.CLOUD)
    REGISTRY.contains(name, RegistryType.CLOUD)  # registers Oumi's own clouds first
    before = entries[key]
    entries[key] = build_fake_cloud
    built.pop(name, None)
    try:
        yield
    finally:
        entries[key] = before
        built.pop(name, None)


_for_good = ExitStack()
if NAME_ENV in os.environ:
    _for_good.enter_context(registered(os.environ[NAME_ENV]))


def _follow_script(job: dict[str, Any]) -> None:
    word, *rest = job["run"].split()
    if job["setup"].startswith("exit") and job["setup"] != "exit 0":
        _end(job, JobState.FAILED, "setup_failed", int(job["setup"].split()[1]))
    elif word == "exit" and rest == ["0"]:
        _end(job, JobState.SUCCEEDED, "completed")
    elif word == "exit":
        _end(job, JobState.FAILED, "nonzero_exit", int(rest[0]))
    elif word == "sleep" and time.monotonic() - job["started"] > float(rest[0]):
        _end(job, JobState.SUCCEEDED, "completed")


def _end(job: dict[str, Any], state: JobState, reason: str, exit_code: int = 0) -> None:
    if not job["facts"]:
        job["state"], job["facts"] = state.value, {"reason": reason, "exit_code": exit_code}
