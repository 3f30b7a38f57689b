"""A run that a person starts in the Prefect UI looks like one that was submitted."""

from pathlib import Path
from uuid import UUID

from flows.core.states import JobState
from tests.flows.bench import Bench
from tests.support.waiting import eventually


async def test_a_job_config_gives_its_name_and_no_wrong_command(bench: Bench) -> None:
    job_id = await bench.submit("echo hello")
    async with bench.worker():
        await bench.launched(job_id)
        run = await bench.reaches(job_id, JobState.RUNNING, JobState.LAUNCHING)
    assert run.name == f"bench-{str(job_id)[:8]}"
    assert {"command:job", "cloud:local"} <= set(run.tags)
    assert "command:train" not in run.tags


async def test_a_training_config_is_named_for_its_model(bench: Bench, tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text("model: {model_name: org/tiny}\ntraining: {output_dir: out}\n")
    job_id = await bench.submit_config(config)
    async with bench.worker():
        await bench.launched(job_id)
    run = await bench.run(job_id)
    assert run.name == f"train-tiny-{str(job_id)[:8]}"
    assert "command:train" in run.tags


async def test_a_config_that_cannot_be_read_keeps_the_name_and_fails_as_before(
    bench: Bench,
) -> None:
    job_id = await bench.submit_config(bench.folder / "missing.yaml")
    async with bench.worker():
        await eventually(lambda: _has_ended(bench, job_id), timeout=30)
    assert (await bench.run(job_id)).name == f"train-{str(job_id)[:8]}"


async def _has_ended(bench: Bench, job_id: UUID) -> bool:
    run = await bench.run(job_id)
    return run.state is not None and run.state.is_final()
