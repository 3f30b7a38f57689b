"""Finding our job by its launcher's id among many, over Prefect's runs in memory."""

from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import uuid4

import pytest

from flows.core import names
from flows.core.errors import AmbiguousId
from flows.core.models import JobHandle
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun, RunState
from mcp_server.prefect_api.run_filter import RunFilter
from mcp_server.services.jobs.launcher_ids import find_launched

NOW = datetime(2026, 11, 30, tzinfo=UTC)


class Runs:
    """What Prefect has, the newest first; it counts what it is asked."""

    def __init__(self) -> None:
        self.runs: list[FlowRun] = []
        self.read = 0

    def add(
        self, cluster: str, job_id: str, *, tagged: bool = True, state: str = "COMPLETED"
    ) -> str:
        """An older run than those before it."""
        tags = names.run_tags(command="job", cloud="gcp")
        if tagged:
            tags += [names.cluster_tag(cluster), names.launcher_tag(job_id)]
        at = NOW - timedelta(minutes=len(self.runs))
        run = FlowRun.model_validate(
            {
                "id": str(uuid4()),
                "name": f"job-{len(self.runs)}",
                "expected_start_time": at,
                "created": at,
                "state": RunState.model_validate(
                    {"type": state, "name": state.capitalize(), "timestamp": at}
                ),
                "tags": tags,
                "labels": {"oumi.cluster_name": cluster, "oumi.launcher_job_id": job_id},
            }
        )
        self.runs.append(run)
        return run.id

    async def filter_runs(self, wanted: RunFilter, *, limit: int, offset: int = 0) -> list[FlowRun]:
        self.read += 1
        matches = [
            run
            for run in self.runs
            if set(wanted.tags) <= set(run.tags)
            and (wanted.states is None or run.state.job_state in wanted.states)
        ]
        return matches[offset : offset + limit]


async def find(runs: Runs, job_id: str, cluster: str = "") -> FlowRun | None:
    handle = JobHandle(cloud="gcp", cluster_name=cluster, launcher_job_id=job_id)
    return await find_launched(cast("PrefectGateway", runs), handle)


@pytest.fixture
def runs() -> Runs:
    runs = Runs()
    for number in range(3_000):
        runs.add(f"c{number % 40}", str(1000 + number))
    return runs


async def test_a_job_is_found_behind_any_number_of_others_in_few_questions(runs: Runs) -> None:
    old = runs.add("mine", "7")
    found = await find(runs, "7", "mine")
    assert found is not None
    assert (found.id, runs.read) == (old, 1)
    found = await find(runs, "7")
    assert found is not None
    assert found.id == old
    assert runs.read < 10


async def test_an_unknown_id_costs_few_questions(runs: Runs) -> None:
    assert await find(runs, "7") is None
    assert runs.read < 10


async def test_an_id_of_many_clusters_names_some_of_them_and_how_many(runs: Runs) -> None:
    ids = [runs.add(f"own-{number}", "1") for number in range(300)]
    with pytest.raises(AmbiguousId) as raised:
        await find(runs, "1")
    text = str(raised.value)
    assert text.startswith("AMBIGUOUS_ID: '1' is a job on ")
    assert f"own-0 (job {ids[0]}, succeeded)" in text
    assert " more. Give cluster_name too" in text
    assert runs.read == 1
    found = await find(runs, "1", "own-299")
    assert found is not None
    assert found.id == ids[299]


async def test_the_last_job_of_a_cluster_made_again_is_meant(runs: Runs) -> None:
    newer = runs.add("mine", "1")
    runs.add("mine", "1")
    found = await find(runs, "1")
    assert found is not None
    assert found.id == newer


async def test_a_live_job_without_tags_is_seen_beside_a_tagged_one(runs: Runs) -> None:
    runs.add("mine", "1")
    runs.add("older", "1", tagged=False, state="RUNNING")
    with pytest.raises(AmbiguousId, match="2 clusters of gcp"):
        await find(runs, "1")
