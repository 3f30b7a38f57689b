"""Launching and awaiting local jobs in tests."""

import dataclasses
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.core.states import JobState
from flows.launcher.local.job import LocalJob, LocalJobRequest
from flows.launcher.local.job_folder import JobFolder
from flows.launcher.local.store import LocalStore
from flows.launcher.local.supervisor_start import SupervisorStart, start_bare
from tests.support.waiting import eventually_sync

CLUSTER = "local"


def broken_bash(folder: Path) -> Path:
    """A bash that no system can start, alone in a folder below `folder`."""
    bash = folder / "bin" / "bash"
    bash.parent.mkdir()
    bash.write_text("#!/no/such/interpreter\n")
    bash.chmod(0o755)
    return bash


@dataclass
class Jobs:
    """Jobs of one store; `reopened()` is what a restarted process would see."""

    root: Path
    working_dir: Path
    env: dict[str, str]
    slots: int = 4
    grace_seconds: float = 20.0
    start: SupervisorStart = start_bare
    store: LocalStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = self.reopened()

    def reopened(self) -> LocalStore:
        return LocalStore(
            self.root,
            slots=self.slots,
            cancel_grace_seconds=self.grace_seconds,
            start=self.start,
        )

    def changed(self, **fields: Any) -> "Jobs":
        """Jobs in the same folders, with other fields."""
        return dataclasses.replace(self, **fields)

    def request(self, run: str, *, setup: str = "", **fields: object) -> LocalJobRequest:
        given = {"name": "a job", "env": self.env, "working_dir": str(self.working_dir), **fields}
        return LocalJobRequest(run=run, setup=setup, **given)  # type: ignore[arg-type]

    def launch(self, run: str, *, setup: str = "", **fields: object) -> LocalJob:
        return self.store.launch(CLUSTER, self.request(run, setup=setup, **fields))

    def now(self, job: LocalJob) -> LocalJob:
        found = self.store.get(CLUSTER, job.job_id)
        assert found is not None
        return found

    def ended(self, job: LocalJob, *, timeout: float = 15.0) -> LocalJob:
        return self.reaching(job, lambda now: now.state.is_terminal, timeout=timeout)

    def running(self, job: LocalJob) -> LocalJob:
        return self.reaching(job, lambda now: now.state is JobState.RUNNING)

    def reaching(
        self, job: LocalJob, check: Callable[[LocalJob], bool], *, timeout: float = 15.0
    ) -> LocalJob:
        eventually_sync(lambda: check(self.now(job)), timeout=timeout, interval=0.01)
        return self.now(job)

    def pid_in(self, name: str) -> int:
        """The pid that a job has written to the file `name` in its working directory."""
        path = self.working_dir / name
        text = eventually_sync(
            lambda: path.exists() and path.read_text().endswith("\n") and path.read_text(),
            interval=0.01,
        )
        return int(str(text))

    def kill_supervisor(self, job: LocalJob) -> None:
        folder = JobFolder(job.job_dir)
        pid = folder.supervisor_pid()
        assert pid
        os.kill(pid, signal.SIGKILL)
        eventually_sync(lambda: folder.supervisor_pid() is None, interval=0.01)

    def end_all(self) -> None:
        store = self.reopened()
        for job in store.live_jobs():
            store.cancel(job.cluster, job.job_id, grace_seconds=0.0, wait_seconds=0.0)
        eventually_sync(lambda: not store.live_jobs())
