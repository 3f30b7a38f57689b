"""Prefect's flow runs in memory, as the gateway reads and cancels them."""

from datetime import UTC, datetime
from typing import Any, Final

import anyio.lowlevel

from flows.core.errors import EngineUnavailable
from flows.core.prefect_states import PrefectState
from mcp_server.prefect_api.models import FlowRun, RunState
from mcp_server.prefect_api.run_filter import RunFilter

NOON: Final = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


class Runs:
    """A gateway that has runs in memory, and refuses to cancel some of them."""

    def __init__(
        self, *runs: FlowRun, refuses: frozenset[str] = frozenset(), after: str = "CANCELLED"
    ) -> None:
        self.runs = {run.id: run for run in runs}
        self.refuses = refuses
        self.after = after
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0

    async def filter_runs(self, wanted: RunFilter, *, limit: int, **_: object) -> list[FlowRun]:
        if wanted.ids is not None:
            return [self.runs[run_id] for run_id in wanted.ids]
        return [
            run
            for run in self.runs.values()
            if run.state.job_state in (wanted.states or ())
            and set(wanted.tags) <= set(run.tags)
            and (not wanted.parent_ids or run.labels.part_of in wanted.parent_ids)
        ][:limit]

    async def set_state(self, run_id: str, state: PrefectState, **_: object) -> RunState:
        self.asked.append(run_id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await anyio.lowlevel.checkpoint()
        self.at_once -= 1
        if run_id in self.refuses:
            raise EngineUnavailable("The Prefect server is away", "Try again")
        after = state_of(self.after)
        self.runs[run_id] = self.runs[run_id].model_copy(update={"state": after})
        return after

    def end(self, *run_ids: str) -> None:
        """Have runs end as cancelled ones do."""
        for run_id in run_ids:
            update = {"state": state_of("CANCELLED")}
            self.runs[run_id] = self.runs[run_id].model_copy(update=update)


def state_of(kind: str) -> RunState:
    return RunState(type=kind, name=kind.capitalize(), timestamp=NOON)


def run_of(run_id: str, state: str = "RUNNING", **facts: Any) -> FlowRun:
    request = {"config_path": "/a.yaml", "client_cwd": "/", "cloud": facts.pop("cloud", "local")}
    given: dict[str, Any] = {
        "tags": ["oumi", f"cloud:{request['cloud']}"],
        "parameters": {"request": request},
    }
    return FlowRun(
        id=run_id,
        name=f"job-{run_id}",
        created=NOON,
        expected_start_time=NOON,
        state=state_of(state),
        **(given | facts),
    )
