"""The outcome of the jobs of the kill rounds, read from the disk and the database."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil

from flows.core.prefect_states import job_state, read_message
from flows.launcher.local.job_folder import JOB_DIR_ENV
from mcp_server.engine import Connection
from tests.faults.kill_rounds import Job, Script

_PAGE = 200


@dataclass
class Verdict:
    """Everything that went wrong; all empty when nothing did.

    Attributes:
        lost: Jobs whose run is gone, or whose script should have begun and did not.
        doubled: Runs that no test submitted, and jobs whose script began more than once.
        false_ends: Jobs that are not where their script must have taken them.
        left_over: Processes of jobs that have ended.
    """

    jobs: int
    lost: list[str] = field(default_factory=list[str])
    doubled: list[str] = field(default_factory=list[str])
    false_ends: list[str] = field(default_factory=list[str])
    left_over: list[str] = field(default_factory=list[str])

    @property
    def is_clean(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.doubled or self.false_ends or self.left_over)


def judge(jobs: Sequence[Job], *, connection: Connection, local_dir: Path, ledger: Path) -> Verdict:
    """Compare what was submitted with what is recorded."""
    verdict = Verdict(jobs=len(jobs))
    runs = _runs(connection)
    begun = Counter(ledger.read_text().split())
    for job in jobs:
        run = runs.pop(job.job_id, None)
        if run is None or (not begun[job.token] and job.script is not Script.STAYS):
            verdict.lost.append(f"{job.token} {job.job_id}: begun {begun[job.token]} times")
        if begun[job.token] > 1:
            verdict.doubled.append(f"{job.token} {job.job_id}: begun {begun[job.token]} times")
        recorded = _end(run["state"]) if run else None
        if not recorded == job.end == job.script.end:
            message = run["state"]["message"] if run else None
            verdict.false_ends.append(
                f"{job.token} {job.job_id}: reported {job.end}, is {recorded}: {message}"
            )
    verdict.doubled += [f"run {run['name']} {run_id}" for run_id, run in runs.items()]
    folders = {folder.name for folder in (local_dir / "local" / "jobs").iterdir()}
    verdict.doubled += [f"folder {name}" for name in folders if not name.endswith("-1")]
    verdict.left_over = _processes(local_dir)
    return verdict


def _end(state: dict[str, Any]) -> tuple[str, str | None]:
    reason, _ = read_message(state["type"], state["name"], state["message"])
    return str(job_state(state["type"], state["name"])), reason and str(reason)


def _runs(connection: Connection) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    with httpx2.Client(headers=connection.headers, timeout=30, trust_env=False) as client:
        while True:
            body = {"limit": _PAGE, "offset": len(found), "sort": "ID_DESC"}
            answer = client.post(f"{connection.api_url}/flow_runs/filter", json=body)
            page = answer.raise_for_status().json()
            found |= {run["id"]: run for run in page}
            if len(page) < _PAGE:
                return found


def _processes(local_dir: Path) -> list[str]:
    left: list[str] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(JOB_DIR_ENV, "").startswith(str(local_dir)):
                left.append(f"{process.pid} {process.name()}")
        except psutil.Error:
            continue
    return left
