"""Which due runs a worker may start."""

from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.worker.job_limits import Slots, cloud_of


def job(cloud: str | None = None) -> FlowRun:
    request = {"config_path": "/c.yaml"} | ({"cloud": cloud} if cloud else {})
    return FlowRun(flow_id=uuid4(), parameters={"request": request})


def pipeline() -> FlowRun:
    return FlowRun(flow_id=uuid4(), parameters={"pipeline": {}})


def test_a_job_without_a_cloud_is_local_and_a_pipeline_is_no_job() -> None:
    assert [cloud_of(run) for run in (job(), job("gcp"), pipeline())] == ["local", "gcp", None]


@pytest.mark.parametrize(
    ("active", "local", "cloud"),
    [
        ([], True, True),
        ([job()], False, True),
        ([job("gcp")], True, True),
        ([job("gcp"), job("aws"), job("gcp")], False, False),
        ([pipeline(), pipeline(), pipeline()], True, True),
    ],
)
def test_local_jobs_have_slots_of_their_own_and_all_jobs_a_limit(
    active: list[FlowRun], *, local: bool, cloud: bool
) -> None:
    slots = Slots(limit=3, local_limit=1)
    assert [slots.has_room(run, active=active) for run in (job(), job("gcp"))] == [local, cloud]


def test_without_a_limit_any_number_of_cloud_jobs_run() -> None:
    assert Slots(limit=None, local_limit=1).has_room(job("gcp"), active=[job("gcp")] * 1000)
