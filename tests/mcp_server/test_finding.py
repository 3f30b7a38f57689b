"""Which job a person means by a part of an id."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from flows.core import names
from flows.core.errors import AmbiguousId, JobNotFound
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun, RunState
from mcp_server.prefect_api.run_filter import RunFilter
from mcp_server.services.jobs.finding import find_job

FIRST = str(UUID("0123abcd-0000-4000-8000-000000000001"))
SECOND = str(UUID("0123abcd-1000-4000-8000-000000000002"))


class TwoJobs(PrefectGateway):
    """Two jobs whose ids begin alike, which Prefect's own choice makes too rare to wait for."""

    def __init__(self) -> None:
        pass

    async def filter_runs(self, wanted: RunFilter, *, limit: int, **_: object) -> list[FlowRun]:
        runs = map(_run, (FIRST, SECOND))
        return [run for run in runs if wanted.name_like and wanted.name_like in run.name]


def _run(job_id: str) -> FlowRun:
    now = datetime.now(UTC)
    return FlowRun(
        id=job_id,
        name=f"train-{job_id[:8]}",
        created=now,
        expected_start_time=now,
        state=RunState(type="RUNNING", name="Running", timestamp=now),
        tags=[names.TAG],
    )


@pytest.mark.parametrize("prefix", [FIRST[:8], "0123ABCD"])
async def test_a_prefix_of_two_ids_is_ambiguous_and_names_both(prefix: str) -> None:
    with pytest.raises(AmbiguousId) as caught:
        await find_job(TwoJobs(), prefix)
    assert caught.value.code == "AMBIGUOUS_ID"
    assert FIRST in str(caught.value)
    assert SECOND in str(caught.value)


@pytest.mark.parametrize("prefix", [SECOND[:10], SECOND.replace("-", "")[:9], SECOND[:35]])
async def test_a_longer_prefix_means_the_one_it_fits(prefix: str) -> None:
    assert (await find_job(TwoJobs(), prefix)).id == SECOND


async def test_a_prefix_that_fits_no_id_means_none() -> None:
    with pytest.raises(JobNotFound):
        await find_job(TwoJobs(), FIRST[:8] + "-2")
