"""How an attempt finds, launches and cancels its job, without an engine."""

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.core import names
from flows.core.models import JobHandle, JobRequest
from flows.core.settings import Settings
from flows.core.states import TerminationReason
from flows.job.attempt import Attempt
from flows.job.job_search import JobSearch
from flows.job.launch_plan import LaunchPlan
from flows.job.outcome import Outcome, cancelled_before_launch
from flows.job.progress_artifact import ProgressArtifact
from flows.job.reporting import Report
from flows.job.run_record import RunRecord
from flows.job.runtime import CancelRequest, Runtime
from flows.job.submissions import Submissions
from tests.support.fake_launcher import FakeJob, FakeLauncher
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

RUN_ID = UUID("01a207af-1111-7222-8333-444455556666")
LOGGER = logging.getLogger("job")


class Client:
    """The calls to Prefect that an attempt makes before its job runs."""

    def __init__(self, run: FlowRun) -> None:
        self.run = run

    async def read_flow_run(self, _: UUID) -> FlowRun:
        return self.run

    async def update_flow_run_labels(self, _: UUID, labels: dict[str, Any]) -> None:
        self.run.labels = {**self.run.labels, **labels}

    async def read_variable_by_name(self, _: str) -> None:
        """Find no budgets."""

    async def read_artifacts(self, **_: object) -> list[object]:
        return []

    async def create_artifact(self, _: object) -> FlowRun:
        return self.run

    async def update_artifact(self, *_: object) -> None:
        pass


class Place:
    """A run of a job that ends only by a forced cancel, and a launcher."""

    def __init__(self, folder: Path) -> None:
        config = folder / "job.yaml"
        config.write_text("name: one\nresources: {cloud: local}\nrun: ignore\n")
        self.request = JobRequest(config_path=str(config), client_cwd=str(folder))
        self.run = FlowRun(id=RUN_ID, flow_id=RUN_ID, run_count=1)
        self.record = RunRecord(self.run, cast("PrefectClient", Client(self.run)))
        self.launcher = FakeLauncher()
        self.settings = Settings(
            home=folder / "home", reach_timeout_seconds=0.01, poll_min_seconds=0.01
        )
        self.runtime = Runtime(self.launcher, self.settings, observes_cancels=True)
        self.cancel = CancelRequest()

    def search(self, number: int, *, is_new: bool) -> JobSearch:
        return JobSearch(
            self.request,
            number=number,
            record=self.record,
            runtime=self.runtime,
            cancel=self.cancel,
            report=Report(ProgressArtifact(self.record), LOGGER, interval_seconds=0),
            submissions=Submissions(self.record, self.request, is_new=is_new),
            plan=LaunchPlan(self.request, self.record, self.settings, LOGGER),
        )

    def attempt(self) -> Attempt:
        return Attempt(
            self.request,
            number=1,
            is_new=True,
            record=self.record,
            runtime=self.runtime,
            cancel=self.cancel,
            logger=LOGGER,
        )


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_an_attempt_becomes_the_one_before_whose_job_is_still_alive(place: Place) -> None:
    search = place.search(2, is_new=False)
    key, cluster = names.launch_key(RUN_ID, 1), await search.cluster()
    place.launcher.jobs[key] = FakeJob(key, cluster, {}, stubborn=False, id=key)
    found = await search.attach(await search.patience())
    assert found == JobHandle(cloud="local", cluster_name=cluster, launcher_job_id=key)
    assert search.number == 1
    assert place.record.labels.attempts_taken_back == 1


async def test_nothing_is_found_where_the_last_job_has_ended(place: Place) -> None:
    search = place.search(2, is_new=False)
    key, cluster = names.launch_key(RUN_ID, 1), await search.cluster()
    job = FakeJob(key, cluster, {}, stubborn=False, id=key)
    place.launcher.jobs[key] = job
    job.succeed()
    assert await search.attach(await search.patience()) is None
    assert search.number == 2


async def test_a_launch_fails_whose_cluster_never_answered(place: Place) -> None:
    search = place.search(1, is_new=True)
    place.launcher.unreachable = "gone"

    async def look(_: object) -> JobHandle | None:
        return await place.launcher.find(cloud="local", cluster_name="local", key="key")

    outcome = await search.repeat_until_reachable(look)
    assert isinstance(outcome, Outcome)
    assert outcome.reason is TerminationReason.LAUNCH_FAILED
    assert "gone; nothing was submitted. Retry the job" in outcome.text


async def test_a_cancel_does_not_wait_for_a_cluster_that_never_had_the_job(place: Place) -> None:
    search = place.search(1, is_new=True)
    place.launcher.unreachable = "gone"
    place.cancel.ask(force=False, concluded=False)

    async def look(_: object) -> JobHandle | None:
        return await place.launcher.find(cloud="local", cluster_name="local", key="key")

    assert await search.repeat_until_reachable(look) == cancelled_before_launch()


async def test_an_attempt_launches_its_job_and_another_execution_attaches_to_it(
    place: Place,
) -> None:
    launched = await place.attempt().attach_or_launch()
    key = names.launch_key(RUN_ID, 1)
    assert isinstance(launched, JobHandle)
    assert (launched.launcher_job_id, place.launcher.launches) == (key, [key])
    search = place.search(1, is_new=False)
    assert await search.repeat_until_reachable(search.attach) == launched
    assert place.launcher.launches == [key]


async def test_each_request_to_cancel_reaches_the_job_that_is_watched(place: Place) -> None:
    attempt = place.attempt()
    launched = await attempt.attach_or_launch()
    assert isinstance(launched, JobHandle)
    job = place.launcher.jobs[launched.launcher_job_id]
    watch = asyncio.create_task(attempt.watch(launched))
    place.cancel.ask(force=False, concluded=False)
    await eventually(lambda: job.cancels == 1)
    assert not job.state.is_terminal
    place.cancel.ask(force=True, concluded=False)
    outcome = await asyncio.wait_for(watch, 20)
    assert (outcome.reason, job.cancels) == (TerminationReason.USER_CANCELLED, 2)
