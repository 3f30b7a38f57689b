"""Stands in for Modal's package where this folder is on the path; what it knows is in files.

It behaves as modal 1.6.4 does where Oumi's client and our back end can tell: a name is one running
sandbox's at a time, only running ones are listed, and one that was ended has the exit code 137.
Scripts are those of `tests.support.fake_cloud`.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from oumi.core.configs import JobConfig
from oumi.core.launcher import JobState, JobStatus

from modal import exception as exception
from tests.support.fake_cloud import FOLDER_ENV, FakeCluster

_IDS = "sb-"
_TERMINATED = 137


def sandboxes() -> FakeCluster:
    """All there ever were, by ids without the prefix."""
    return FakeCluster(Path(os.environ[FOLDER_ENV]) / "sandboxes.json")


class Sandbox:
    """One script in a container."""

    def __init__(self, number: str) -> None:
        self.object_id = f"{_IDS}{number}"
        self._number = number

    @classmethod
    def create(cls, *command: str, app: "App", name: str | None = None, **_: object) -> Self:
        app.folder.mkdir(parents=True, exist_ok=True)
        with (app.folder / "create.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if name and any(_lives(job) and job.name == name for job in sandboxes().get_jobs()):
                raise exception.AlreadyExistsError(name)
            # A setup comes first, in the same script.
            script = command[-1].removeprefix("set -e\n").splitlines()
            return cls(sandboxes().run_job(JobConfig(name=name, run=script[0])).id)

    @classmethod
    def from_id(cls, sandbox_id: str) -> Self:
        number = sandbox_id.removeprefix(_IDS)
        if sandboxes().get_job(number) is None:
            raise exception.NotFoundError(sandbox_id)
        return cls(number)

    @classmethod
    def from_name(cls, app_name: str, name: str, *, include_terminated: bool = False) -> Self:
        for job in reversed(sandboxes().get_jobs()):
            if job.name == name and (include_terminated or _lives(job)):
                return cls(job.id)
        raise exception.NotFoundError(name)

    @classmethod
    def list(cls, *, app_id: str, tags: dict[str, str] | None = None) -> Iterator[Self]:
        for job in sandboxes().get_jobs():
            sandbox = cls(job.id)
            if _lives(job) and (tags or {}).items() <= sandbox.get_tags().items():
                yield sandbox

    def poll(self) -> int | None:
        job = sandboxes().get_job(self._number)
        if job is None:
            raise exception.NotFoundError(self.object_id)
        if _lives(job):
            return None
        is_cancelled = job.state is JobState.CANCELLED
        return _TERMINATED if is_cancelled else json.loads(job.metadata)["exit_code"]

    def terminate(self) -> None:
        sandboxes().cancel_job(self._number)

    def set_tags(self, tags: dict[str, str]) -> None:
        self._tags.write_text(json.dumps(tags))

    def get_tags(self) -> dict[str, str]:
        return json.loads(self._tags.read_text()) if self._tags.exists() else {}

    @property
    def _tags(self) -> Path:
        return Path(os.environ[FOLDER_ENV]) / f"{self.object_id}.tags"


class App:
    """Whose sandboxes they are."""

    app_id = "ap-fake"

    @property
    def folder(self) -> Path:
        return Path(os.environ[FOLDER_ENV])

    @classmethod
    def lookup(cls, name: str, *, create_if_missing: bool = False) -> Self:
        return cls()


class Image:
    """What a sandbox starts from; nothing is built."""

    @classmethod
    def from_registry(cls, *_: object, **__: object) -> Self:
        return cls()

    def apt_install(self, *_: object) -> Self:
        return self

    def uv_pip_install(self, *_: object) -> Self:
        return self


class Volume:
    """A disk that sandboxes share; nothing is on it."""

    @classmethod
    def from_name(cls, name: str, *, create_if_missing: bool = False) -> Self:
        return cls()


Secret: Any = SimpleNamespace(from_dict=dict)


def _lives(job: JobStatus) -> bool:
    return job.state in (JobState.PENDING, JobState.RUNNING)
