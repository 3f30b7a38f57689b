"""What the tests say to a Prefect server in place of a worker."""

import base64
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from tests.support.waiting import eventually_sync


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class PrefectServer:
    """A Prefect server, as the engine hands it out."""

    port: int
    auth_string: str
    embedded: bool = True
    is_served: bool = True

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def ui_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Basic {base64.b64encode(self.auth_string.encode()).decode()}"}

    def is_healthy(self) -> bool:
        try:
            return self._send("GET", "/health").status_code == 200
        except httpx2.TransportError:
            return False

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = eventually_sync(lambda: self._unless_busy(method, path, body), timeout=20)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def create_deployment(self) -> None:
        self.call("POST", "/work_pools/", {"name": "oumi", "type": "process"})
        for name in ("oumi-job", "oumi-pipeline", "oumi-sweep"):
            flow = self.call("POST", "/flows/", {"name": name})
            body = {"name": "default", "flow_id": flow["id"], "work_pool_name": "oumi"}
            self.call("POST", "/deployments/", body)

    def set_states(self, run_id: str | None, *states: str, message: str | None = None) -> None:
        """Put a run through states written ``TYPE`` or ``TYPE/Name``; the last has the message."""
        for index, state in enumerate(states):
            kind, _, name = state.partition("/")
            body = {"type": kind, "name": name or None}
            if index == len(states) - 1:
                body["message"] = message
            self.call("POST", f"/flow_runs/{run_id}/set_state", {"state": body, "force": True})

    def label(self, run_id: str | None, **labels: str | int | bool) -> None:
        """Set labels, whose ``oumi.`` is left out."""
        body = {f"oumi.{key}": value for key, value in labels.items()}
        self.call("PATCH", f"/flow_runs/{run_id}/labels", body)

    def read_run(self, run_id: str | None) -> dict[str, Any]:
        return self.call("GET", f"/flow_runs/{run_id}")

    def schedules(self) -> list[dict[str, Any]]:
        wanted = {"deployments": {"tags": {"all_": ["oumi-schedule"]}}}
        return self.call("POST", "/deployments/filter", wanted)

    def runs_of(self, deployment_id: str | None) -> list[dict[str, Any]]:
        """The runs of a deployment, in the order of their times."""
        wanted = {"deployment_id": {"any_": [deployment_id]}}
        body = {"flow_runs": wanted, "sort": "EXPECTED_START_TIME_ASC"}
        return self.call("POST", "/flow_runs/filter", body)

    def create_run(self, deployment_id: str | None, *, seconds_ago: float) -> str:
        """A run of a deployment that was due a while ago, as if it had been planned earlier."""
        due = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due}}
        path = f"/deployments/{deployment_id}/create_flow_run"
        return self.call("POST", path, {"state": state})["id"]

    def show_progress(self, run_id: str | None, percent: float, **facts: str) -> None:
        body = {
            "key": f"job-{run_id}",
            "type": "progress",
            "data": percent,
            "metadata_": facts,
            "flow_run_id": run_id,
        }
        self.call("POST", "/artifacts/", body)

    def log(self, run_id: str | None, *messages: str, at: datetime | None = None) -> None:
        """Log as a worker does, a microsecond a line; with `at` all at that very time."""
        now = datetime.now(UTC)
        rows = [
            {
                "name": "prefect.flow_runs",
                "level": 20,
                "message": message,
                "timestamp": (at or now + timedelta(microseconds=index)).isoformat(),
                "flow_run_id": run_id,
            }
            for index, message in enumerate(messages)
        ]
        self.call("POST", "/logs/", rows)

    def _unless_busy(self, method: str, path: str, body: Any) -> httpx2.Response | None:
        answer = self._send(method, path, body)
        return None if answer.status_code == 503 else answer

    def _send(self, method: str, path: str, body: Any = None) -> httpx2.Response:
        return httpx2.request(
            method, self.api_url + path, json=body, headers=self.headers, timeout=20
        )
