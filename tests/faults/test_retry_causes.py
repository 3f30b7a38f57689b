"""The cause of an attempt's end decides on the next attempt: each cause provoked for real.

`lost` is in `test_resume.py`; this machine cannot be taken away, so a launcher in memory reports
`preempted`, in `tests/flows/test_job_attempts.py`.
"""

import asyncio
from pathlib import Path

import pytest

from flows.core.names import WORK_POOL, deployment
from tests.faults.test_outcomes import write_yaml
from tests.support.job_driver import Answer, JobDriver, job_processes
from tests.support.stack import Stack

pytestmark = [pytest.mark.engine, pytest.mark.slow]

IS_SECOND = "[ ${OUMI_FLOWS_JOB_KEY##*-} = 2 ]"
# The first attempt leaves a daemon of its own; the second ends at once.
TOO_LONG = f"{IS_SECOND} && exit 0\n(setsid sleep 600 &)\nsleep 600"
PATIENCE_SECONDS = 60.0
"""A job waits for its turn, and then ten seconds for its next attempt."""


async def retrying(jobs: JobDriver, job_id: str) -> Answer:
    return await jobs.reaching(job_id, "retrying", timeout=PATIENCE_SECONDS)


async def second(jobs: JobDriver, job_id: str) -> None:
    """The next attempt comes by itself, and succeeds."""
    status = await jobs.reaching(job_id, "succeeded", timeout=PATIENCE_SECONDS)
    assert (status["attempt"], status["termination_reason"]) == (2, "completed")


async def fails_for_good(jobs: JobDriver, job_id: str, reason: str) -> None:
    """The first attempt stays the only one."""
    status = await jobs.reaching(job_id, "failed", timeout=PATIENCE_SECONDS)
    assert (status["attempt"], status["termination_reason"]) == (1, reason)
    assert job_processes(job_id) == []
    states = (await jobs.rest.get(f"/flow_run_states/?flow_run_id={job_id}")).json()
    assert "AwaitingRetry" not in [state["name"] for state in states]


async def test_what_took_too_long_is_gone_and_tried_again_when_asked_for(jobs: JobDriver) -> None:
    limited = {"timeout_seconds": 2, "max_retries": 1}
    asked = await jobs.submit(TOO_LONG, name="asked", retry_on=["timed_out"], **limited)
    unasked = await jobs.submit(TOO_LONG, name="unasked", **limited)
    waiting = await retrying(jobs, asked)
    assert "timed_out" in waiting["summary"]
    assert job_processes(asked) == []
    await fails_for_good(jobs, unasked, "timed_out")
    await second(jobs, asked)


async def test_what_cannot_be_launched_is_killed_or_fails_by_itself_is_tried_again(
    jobs: JobDriver, stack: Stack
) -> None:
    in_the_way = Path(stack.env["OUMI_FLOWS_HOME"]) / "local" / "blocked" / "jobs"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("no folder")
    blocked = await jobs.submit("true", name="blocked", cluster_name="blocked", max_retries=1)
    failing = await jobs.submit(IS_SECOND, name="failing", max_retries=1, retry_on=["nonzero_exit"])
    killed = await jobs.submit(f"{IS_SECOND} || kill -KILL $$", name="killed", max_retries=1)
    assert "launch_failed" in (await retrying(jobs, blocked))["summary"]
    in_the_way.unlink()
    assert "nonzero_exit" in (await retrying(jobs, failing))["summary"]
    assert "killed" in (await retrying(jobs, killed))["summary"]
    await asyncio.gather(*(second(jobs, job_id) for job_id in (blocked, failing, killed)))


async def test_what_would_end_the_same_way_again_is_not_tried_again(jobs: JobDriver) -> None:
    content = {"resources": {"cloud": "local"}, "setup": "false", "run": "true"}
    config = write_yaml(jobs.folder, "setup", content)
    unready = await jobs.submit_config(config, max_retries=2)
    gone = await without_config(jobs)
    await asyncio.gather(
        fails_for_good(jobs, unready, "setup_failed"),
        fails_for_good(jobs, gone, "invalid_config"),
    )


async def without_config(jobs: JobDriver) -> str:
    """A run of a config that is not there, which only the Prefect UI would start."""
    target = (await jobs.rest.get(f"/deployments/name/{deployment(WORK_POOL)}")).json()["id"]
    asked = {"config_path": str(jobs.folder / "gone.yaml"), "client_cwd": str(jobs.folder)}
    body = {"parameters": {"request": asked | {"max_retries": 2}}}
    answer = await jobs.rest.post(f"/deployments/{target}/create_flow_run", json=body)
    job_id = answer.json()["id"]
    jobs.adopt(job_id)
    return job_id
