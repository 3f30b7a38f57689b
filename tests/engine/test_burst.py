"""A hundred runs at once on the embedded server, over plain REST as many clients would."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from flows.core.names import deployment
from mcp_server.engine import Engine

pytestmark = pytest.mark.engine

RUNS = 100
AT_ONCE = 30

# The freeze that this guards against lasts 60 s. The slowest call of a quiet machine with 2 cores
# takes 2 s, but this one runs other tests.
FREEZE_SECONDS = 20
STATES = [
    ("PENDING", "Pending"),
    ("RUNNING", "Running"),
    ("RUNNING", "Launching"),
    ("COMPLETED", "Completed"),
]


@pytest.mark.slow
def test_no_call_of_a_burst_is_refused_or_slow(team: Engine) -> None:
    connection = team.connection()
    answers: list[tuple[int, float]] = []

    def call(client: httpx2.Client, method: str, path: str, body: Any = None) -> Any:
        before = time.perf_counter()
        answer = client.request(method, f"{connection.api_url}{path}", json=body)
        answers.append((answer.status_code, time.perf_counter() - before))
        return answer.json()

    def run(client: httpx2.Client) -> None:
        # Later than any worker would look, so that only this test moves it.
        body = {
            "parameters": {"request": {"config_path": "/x", "client_cwd": "/"}},
            "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": "2999-01-01"}},
        }
        created = call(client, "POST", f"/deployments/{target}/create_flow_run", body)
        for state, name in STATES:
            body = {"state": {"type": state, "name": name}, "force": True}
            call(client, "POST", f"/flow_runs/{created['id']}/set_state", body)
            call(client, "GET", f"/flow_runs/{created['id']}")

    with httpx2.Client(headers=connection.headers, timeout=120, trust_env=False) as client:
        target = call(client, "GET", f"/deployments/name/{deployment('theirs')}")["id"]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(run, [client] * RUNS))

    assert {status for status, _ in answers} <= {200, 201}
    assert len(answers) == RUNS * (1 + 2 * len(STATES)) + 1
    assert max(seconds for _, seconds in answers) < FREEZE_SECONDS
