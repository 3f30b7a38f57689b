"""A retry, from any client, is another attempt of the same job."""

from collections.abc import Awaitable, Callable

import pytest

from tests.support.job_driver import JobDriver
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

# Says which attempt it is; the first one fails, the second succeeds.
SCRIPT = 'echo "this is ${OUMI_FLOWS_JOB_KEY##*-}"\n[ ${OUMI_FLOWS_JOB_KEY##*-} = 2 ]'


async def by_tool(jobs: JobDriver, job_id: str) -> None:
    answer = await jobs.call("retry_job", job_id=job_id)
    assert (answer["job_id"], answer["attempt"]) == (job_id, 2)
    assert not answer["is_done"]


async def by_ui(jobs: JobDriver, job_id: str) -> None:
    # The request behind the button (prefect 3.8.8).
    await jobs.propose(job_id, "SCHEDULED", "AwaitingRetry", force=False)


async def by_cli(jobs: JobDriver, job_id: str) -> None:
    await jobs.prefect("flow-run", "retry", job_id)


@pytest.mark.parametrize("retry", [by_tool, by_ui, by_cli])
async def test_a_retry_is_the_next_attempt_of_the_same_job_with_a_log_of_its_own(
    jobs: JobDriver, retry: Callable[[JobDriver, str], Awaitable[None]]
) -> None:
    job_id = await jobs.submit(SCRIPT)
    first = await jobs.reaching(job_id, "failed")
    read = await jobs.call("get_job_logs", job_id=job_id)
    assert (read["logs"], read["at_end"]) == ("this is 1", True)

    await retry(jobs, job_id)
    await eventually(lambda: is_second(jobs, job_id), timeout=20)
    second = await jobs.reaching(job_id, "succeeded")
    assert second["launcher_job_id"] == f"{first['launcher_job_id'].removesuffix('1')}2"
    assert second["log_path"] != first["log_path"]
    assert second["created_at"] == first["created_at"]

    went_on = await jobs.call("get_job_logs", job_id=job_id, cursor=read["next_cursor"])
    assert (went_on["logs"], went_on["at_end"]) == ("this is 2", True)
    assert (await jobs.call("get_job_logs", job_id=job_id))["logs"] == "this is 2"


async def is_second(jobs: JobDriver, job_id: str) -> bool:
    """Whether the second attempt has begun, which the UI's request does not say."""
    status = await jobs.status(job_id)
    return status["attempt"] == 2 and status["state"] not in ("failed", "retrying")


async def test_a_cancelled_attempt_can_be_retried_and_cancelled_again(jobs: JobDriver) -> None:
    job_id = await jobs.submit("sleep 600")
    await jobs.reaching(job_id, "running")
    await jobs.call("cancel_job", job_id=job_id, force=True)
    await jobs.reaching(job_id, "cancelled")
    answer = await jobs.call("retry_job", job_id=job_id)
    assert answer["attempt"] == 2
    await jobs.reaching(job_id, "running")
    await jobs.call("cancel_job", job_id=job_id)
    status = await jobs.reaching(job_id, "cancelled")
    assert (status["attempt"], status["termination_reason"]) == (2, "user_cancelled")


async def test_only_a_job_that_ended_without_success_can_be_retried(jobs: JobDriver) -> None:
    live = await jobs.submit("sleep 600")
    assert (await jobs.error("retry_job", job_id=live)).startswith("CONFLICT: ")
    done = await jobs.submit("true")
    await jobs.reaching(done, "succeeded")
    assert (await jobs.error("retry_job", job_id=done)).startswith("CONFLICT: ")
