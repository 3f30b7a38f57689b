"""The firings of a schedule, accounted for one by one."""

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from flows.core import names
from flows.core.prefect_states import job_state, read_message
from tests.support.jobs import job_config

LEDGER_LINE = f'echo "${names.JOB_KEY_ENV}" >> ledger'


def noting_job(folder: Path, name: str, then: str = "") -> Path:
    """A job that adds its launch key to the ledger of `folder`, then does something."""
    return job_config(folder, name, f"cd '{folder}'\n{LEDGER_LINE}\n{then}".rstrip())


@dataclass(frozen=True)
class Firing:
    """A firing whose time has come."""

    at: datetime
    job_id: str
    end: str
    """Its termination reason; while it has not ended, its state."""
    began: int
    """How often its script began."""


def firings(rest: httpx2.Client, schedule_id: str, folder: Path, *, by: datetime) -> list[Firing]:
    """The firings of a schedule up to `by`, in the order of their times."""
    ledger = folder / "ledger"
    keys = ledger.read_text().split() if ledger.exists() else []
    found: list[Firing] = []
    wanted = {
        "deployment_id": {"any_": [schedule_id]},
        "expected_start_time": {"before_": by.isoformat()},
    }
    while True:
        body = {
            "flow_runs": wanted,
            "sort": "EXPECTED_START_TIME_ASC",
            "limit": 200,
            "offset": len(found),
        }
        page = rest.post("/flow_runs/filter", json=body).raise_for_status().json()
        found += [_firing(run, keys) for run in page]
        if len(page) < 200:
            return found


def _firing(run: dict[str, Any], keys: list[str]) -> Firing:
    state = run["state"]
    reason, _ = read_message(state["type"], state["name"], state["message"])
    return Firing(
        at=datetime.fromisoformat(run["expected_start_time"]),
        job_id=run["id"],
        end=(reason or job_state(state["type"], state["name"])).value,
        began=sum(key.startswith(names.launch_key(run["id"], 1)[:-1]) for key in keys),
    )


def assert_accounted_for(found: list[Firing], *, interval: timedelta, may_be_skipped: bool) -> None:
    """Each time of the schedule has its one run; what ran did so once and well."""
    gaps = [later.at - sooner.at for sooner, later in itertools.pairwise(found)]
    assert set(gaps) <= {interval}, gaps
    right = {("completed", 1), ("skipped", 0)} if may_be_skipped else {("completed", 1)}
    wrong = [firing for firing in found if (firing.end, firing.began) not in right]
    assert not wrong, wrong
