"""A job's page in the Prefect UI opens with how it ended and why."""

from uuid import UUID, uuid4

from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun

from flows.core.models import JobRequest
from flows.core.run_labels import RunLabels
from flows.core.states import JobState, TerminationReason
from flows.core.stopwatch import Stopwatch
from flows.job.outcome import Outcome
from flows.job.run_record import RunRecord
from flows.job.summary_artifact import describe_gpus, summarize, summarize_parts
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


async def test_it_names_the_gpus_and_what_they_cost(bench: Bench) -> None:
    stopped = Stopwatch(1, 1800.0, None)
    labels = RunLabels(hourly_price=4.0, stopwatch=stopped, part_of="1-2").as_labels()
    run = FlowRun(id=uuid4(), flow_id=uuid4(), name="train-1", labels=dict(labels))
    config = bench.folder / "job.yaml"
    config.write_text("resources: {cloud: gcp, accelerators: 'A100:8'}\nnum_nodes: 2\nrun: a\n")
    request = JobRequest(config_path=str(config), client_cwd=str(bench.folder), cloud="gcp")
    record = RunRecord(run, bench.client)
    gpus = describe_gpus(request, bench.folder)
    page = summarize(record, request, None, gpus=gpus).splitlines()
    assert "- **GPUs** `A100:8 on each of 2 nodes`" in page
    assert "- **cost** `2.00 US dollars so far, 4.00 US dollars an hour`" in page
    assert "- **part of** [1-2](/runs/flow-run/1-2)" in page
    assert describe_gpus(request.model_copy(update={"gpus": 4}), bench.folder) == "4 of the machine"


async def test_the_page_of_a_pipeline_or_sweep_links_to_its_jobs(bench: Bench) -> None:
    record = RunRecord(FlowRun(id=uuid4(), flow_id=uuid4(), name="nightly-1"), bench.client)
    rows = [
        {"step": "train", "state": "succeeded", "job_id": "1-2", "note": ""},
        {"step": "evaluate[0]", "state": "waiting", "job_id": "", "note": "it waits"},
    ]
    ended = Outcome(TerminationReason.NONZERO_EXIT, "evaluate failed")
    assert summarize_parts(record, rows, ended).splitlines() == [
        "# nightly-1: failed",
        "",
        "**nonzero_exit**: evaluate failed",
        "",
        "- [train](/runs/flow-run/1-2) succeeded",
        "- evaluate\\[0\\] waiting: it waits",
    ]
