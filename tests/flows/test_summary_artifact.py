"""A job's page in the Prefect UI opens with how it ended and why."""

from uuid import UUID

from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from flows.core.states import JobState, TerminationReason
from tests.flows.bench import Bench
from tests.support.waiting import eventually


async def page_of(bench: Bench, job_id: UUID) -> str:
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[f"summary-{job_id}"]))
    found = await bench.client.read_artifacts(artifact_filter=wanted)
    return str(found[0].data) if found else ""


async def test_it_opens_with_how_the_job_ended_and_says_what_it_is(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        running = await eventually(lambda: page_of(bench, job_id), timeout=30)
        job.fail(TerminationReason.NONZERO_EXIT, "It exited with <b>1</b>.")
        await bench.ending(job_id)
    assert running.startswith(f"# bench-{str(job_id)[:8]}: running\n")
    title, _, why, _, *facts = (await page_of(bench, job_id)).splitlines()
    assert title == f"# bench-{str(job_id)[:8]}: failed"
    assert why.startswith("**nonzero_exit**: It exited with &lt;b>1&lt;/b>")
    assert facts[0].startswith(f"- **config** `{bench.folder}/")
    assert "- **command** `job`" in facts
    assert f"- **launcher id** `{job.id or job.key}`" in facts


async def test_a_job_that_was_never_launched_says_why(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit_config(bench.folder / "missing.yaml")
        await bench.ending(job_id)
    page = await page_of(bench, job_id)
    assert ": failed" in page.splitlines()[0]
    assert page.splitlines()[2].startswith("**invalid_config**: there is no file")
