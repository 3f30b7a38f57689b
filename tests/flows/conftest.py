"""A work pool and a deployment of each test's own on the session's Prefect server."""

from collections.abc import AsyncGenerator
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_WORKER_QUERY_SECONDS,
    temporary_settings,
)

from flows.core import names
from flows.core.settings import Settings
from tests.flows.bench import Bench, Outage, Writes
from tests.support.fake_launcher import FakeLauncher
from tests.support.stack import Stack


@pytest.fixture
async def bench(
    cold_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Bench]:
    settings = Settings(
        home=tmp_path / "home",
        local_slots=4,
        poll_min_seconds=0.05,
        poll_max_seconds=0.2,
        progress_interval_seconds=0.1,
        worker_poll_seconds=0.4,
    )
    connection = cold_stack.connection
    with temporary_settings(
        {
            PREFECT_API_URL: connection.api_url,
            PREFECT_API_AUTH_STRING: connection.auth_string,
            PREFECT_CLIENT_MAX_RETRIES: 0,
            PREFECT_WORKER_QUERY_SECONDS: 0.3,
        }
    ):
        async with get_client() as client:
            pool = f"bench-{uuid4().hex[:8]}"
            await client.create_work_pool(WorkPoolCreate(name=pool, type=names.WORKER_TYPE))
            deployment_id = await client.create_deployment(
                flow_id=await client.create_flow_from_name(names.FLOW_NAME),
                name=pool,
                work_pool_name=pool,
                entrypoint="flows.job.job_flow.run_job",
            )
            yield Bench(
                client, pool, deployment_id, settings, FakeLauncher(), tmp_path, Writes(monkeypatch)
            )
            await client.delete_deployment(deployment_id)
            await client.delete_work_pool(pool)


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    return Outage(monkeypatch)
