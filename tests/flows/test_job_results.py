"""What a job that succeeded leaves behind."""

import json
from pathlib import Path

import pytest

from flows.core import names
from flows.core.states import JobState, TerminationReason
from flows.job.results import link_latest
from tests.flows.bench import Bench


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_latest_means_the_last_folder_however_its_jobs_end(tmp_path: Path) -> None:
    first, second, third = (make(tmp_path / f"2026112{day}T010000Z-01a2") for day in (1, 2, 3))
    for folder, meant in ((first, first), (third, third), (second, third)):
        link_latest(folder)
        assert (tmp_path / "latest").resolve() == meant.resolve()
    assert {path.name for path in tmp_path.iterdir()} == {
        *(folder.name for folder in (first, second, third)),
        "latest",
    }


def test_what_somebody_else_calls_latest_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "latest").write_text("mine")
    link_latest(make(tmp_path / "20261121T010000Z-01a2"))
    assert (tmp_path / "latest").read_text() == "mine"


def test_latest_is_never_a_folder_that_is_not_there(tmp_path: Path) -> None:
    link_latest(tmp_path / "20261121T010000Z-01a2")
    assert not (tmp_path / "latest").is_symlink()


@pytest.mark.engine
async def test_the_metrics_of_a_job_are_kept_on_its_run(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        job.log_path = bench.folder / "log.txt"
        job.log_path.write_text('{"exact_match": 0.75}\n')
        job.succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    kept = (await bench.run(job_id)).labels["oumi.metrics"]
    assert json.loads(str(kept)) == {"exact_match": 0.75}


@pytest.mark.engine
async def test_a_run_of_a_schedule_has_its_folder_on_it_and_latest_leads_there(
    bench: Bench,
) -> None:
    config = bench.folder / "train.yaml"
    config.write_text("model: {model_name: tiny}\ntraining: {output_dir: out}\n")
    async with bench.worker():
        job_id = await bench.submit_config(config, own_output=True, skip_preflight=True)
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        run = await bench.run(job_id)
        folder = bench.folder / "out" / names.firing(job_id, run.expected_start_time)
        assert run.labels["oumi.output_dir"] == str(folder)
        assert f"out/{folder.name}" in job.config["run"]
        (make(folder) / "metrics_rank0000.jsonl").write_text('{"step": 5, "loss": 0.5}\n')
        job.succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    assert (bench.folder / "out" / "latest").resolve() == folder.resolve()
    kept = (await bench.run(job_id)).labels["oumi.metrics"]
    assert json.loads(str(kept)) == {"loss": 0.5, "step": 5.0}


def log_metrics(folder: Path, **event: float) -> None:
    with (folder / "metrics_rank0000.jsonl").open("a") as file:
        file.write(f"{json.dumps(event)}\n")


@pytest.mark.engine
async def test_only_what_the_last_attempt_wrote_counts_after_restarts_too(bench: Bench) -> None:
    folder = make(bench.folder / "out")
    log_metrics(folder, eval_loss=0.1, step=9)  # an earlier job's
    config = bench.folder / "train.yaml"
    config.write_text("model: {model_name: tiny}\ntraining: {output_dir: out}\n")
    job_id = await bench.submit_config(config, skip_preflight=True)
    await bench.client.update_flow_run_labels(job_id, {"oumi.output_dir": str(folder)})
    async with bench.worker():
        first = await bench.launched(job_id)
        log_metrics(folder, loss=3.0, grad_norm=1.0, step=1)
        await bench.reaches(job_id, JobState.RUNNING)
    async with bench.worker():
        first.fail(TerminationReason.NONZERO_EXIT, "It failed.")
        await bench.ending(job_id)
        log_metrics(folder, mfu=0.4, step=50)  # another job's
        await bench.retry(job_id)
        second = await bench.launched(job_id, 2)  # without a checkpoint it starts over
        log_metrics(folder, loss=2.0, step=1)
    async with bench.worker():
        second.succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    kept = (await bench.run(job_id)).labels["oumi.metrics"]
    assert json.loads(str(kept)) == {"loss": 2.0, "step": 1.0}


@pytest.mark.engine
async def test_a_script_that_was_retried_keeps_what_its_attempts_left(bench: Bench) -> None:
    folder = make(bench.folder / "out")
    log_metrics(folder, eval_loss=0.1, step=9)
    job_id = await bench.submit("hold")
    await bench.client.update_flow_run_labels(job_id, {"oumi.output_dir": str(folder)})
    async with bench.worker():
        first = await bench.launched(job_id)
        log_metrics(folder, grad_norm=1.0, step=1)
        await bench.reaches(job_id, JobState.RUNNING)
        first.fail(TerminationReason.NONZERO_EXIT, "It failed.")
        await bench.ending(job_id)
        log_metrics(folder, mfu=0.4, step=50)  # another job's
        await bench.retry(job_id)
        second = await bench.launched(job_id, 2)
        log_metrics(folder, loss=2.0, step=2)
        second.succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    kept = (await bench.run(job_id)).labels["oumi.metrics"]
    assert json.loads(str(kept)) == {"grad_norm": 1.0, "loss": 2.0, "step": 2.0}
