"""Folders that several jobs write to: what is said before one of them is started."""

import io
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mcp.client import Client

from flows.core import names
from flows.core.models import Command
from flows.launcher.progress_hook import ProgressReports
from mcp_server.services.families.pipelines import NewPipeline, checked_pipeline
from mcp_server.services.jobs.new_job import NewJob
from mcp_server.services.jobs.submitting import check_job
from tests.mcp_server.calls import error, ok
from tests.mcp_server.prefect_stub import PrefectServer

Run = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def given(config: Path) -> dict[str, Any]:
    return {"config_path": config.name, "client_cwd": str(config.parent)}


@pytest.fixture
async def run(client: Client, given: dict[str, Any], prefect: PrefectServer) -> AsyncIterator[Run]:
    started: list[str] = []

    async def run(**arguments: Any) -> dict[str, Any]:
        job = await ok(client, "run_oumi_job", **{**given, "dry_run": False, **arguments})
        started.extend(filter(None, [job["job_id"]]))
        return job

    yield run
    for job_id in started:  # other tests share the server
        prefect.set_states(job_id, "CANCELLED")


def leave_model(folder: Path, job_id: str | None, *, adapter: bool = False) -> None:
    """What a training of a job leaves: a marked checkpoint and the model."""
    checkpoint = folder / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    name = "adapter_model.safetensors" if adapter else "model.safetensors"
    for file in (checkpoint / name, checkpoint / "trainer_state.json", folder / name):
        file.write_text('{"global_step": 5}')
    with pytest.MonkeyPatch.context() as patch:
        if job_id is not None:
            patch.setenv(names.JOB_KEY_ENV, names.launch_key(job_id, 1))
        else:
            patch.delenv(names.JOB_KEY_ENV, raising=False)
        hook = ProgressReports(stream=io.StringIO())
        state = SimpleNamespace(global_step=5, max_steps=5, is_world_process_zero=True)
        args = SimpleNamespace(output_dir=str(folder))
        hook.on_save(args, state, None)
        hook.on_train_end(args, state, None)


@pytest.mark.engine
async def test_a_training_into_the_folder_of_one_that_runs_is_refused(
    client: Client, run: Run, given: dict[str, Any], config: Path, prefect: PrefectServer
) -> None:
    first = await run(
        job_name=f"first-{uuid.uuid4().hex[:6]}", idempotency_key=(key := uuid.uuid4().hex)
    )
    assert first["warnings"] == []
    prefect.set_states(first["job_id"], "PENDING", "RUNNING")
    (config.parent / "link").symlink_to(config.parent, target_is_directory=True)
    for path in ("out", "out/", "./x/../out", str(config.parent / "out"), "link/out"):
        overrides = {"training.output_dir": path}
        line = await error(client, "run_oumi_job", **given, dry_run=False, overrides=overrides)
        assert line.startswith("PREFLIGHT_BLOCKED: "), path
        assert first["name"] in line
        assert first["job_id"] in line
        plan = await run(overrides=overrides, dry_run=True)
        assert first["job_id"] in plan["warnings"][0]
    again = await run(job_name=first["name"], idempotency_key=key)
    assert again["job_id"] == first["job_id"]
    for path in ("out2", "out/below", ".."):
        assert (await run(overrides={"training.output_dir": path}))["warnings"] == []
    assert first["job_id"] in (await run(skip_preflight=True))["warnings"][0]
    own = await run(own_output=True)
    assert own["warnings"] == []
    assert own["output_dir"].startswith(f"{config.parent}/out/2")
    assert own["output_dir"].endswith(own["job_id"][:8])


@pytest.mark.engine
async def test_a_training_into_the_folder_of_one_that_waits_is_warned(run: Run) -> None:
    first = await run()
    second = await run()
    assert first["job_id"] in second["warnings"][0]


@pytest.mark.engine
async def test_jobs_that_read_the_folder_of_a_live_training_or_write_beside_it_are_let_through(
    run: Run, config: Path, prefect: PrefectServer
) -> None:
    first = await run()
    prefect.set_states(first["job_id"], "PENDING", "RUNNING")
    (config.parent / "eval.yaml").write_text("model: {model_name: out}\noutput_dir: evaluation\n")
    for name in ("a", "b"):
        (config.parent / f"{name}.yaml").write_text(
            f"model: {{model_name: out}}\ninput_path: in.jsonl\noutput_path: out/{name}.jsonl\n"
        )
    other = {"skip_preflight": True}
    evaluation = await run(config_path="eval.yaml", command=Command.EVALUATE, **other)
    assert evaluation["warnings"] == []
    one = await run(config_path="a.yaml", command=Command.INFER, **other)
    assert one["warnings"] == []
    assert (await run(config_path="b.yaml", command=Command.INFER, **other))["warnings"] == []
    again = await run(config_path="a.yaml", command=Command.INFER, **other)
    assert one["job_id"] in again["warnings"][0]


@pytest.mark.engine
async def test_a_step_into_the_folder_of_a_running_training_is_refused_and_a_later_one_warned(
    client: Client, run: Run, given: dict[str, Any], prefect: PrefectServer
) -> None:
    first = await run()
    prefect.set_states(first["job_id"], "PENDING", "RUNNING")
    steps = [
        {"name": "one", "config_path": given["config_path"]},
        {"name": "two", "config_path": given["config_path"], "needs": ["one"]},
    ]
    cwd = given["client_cwd"]
    line = await error(client, "run_pipeline", steps=steps, client_cwd=cwd, dry_run=False)
    assert line.startswith("PREFLIGHT_BLOCKED: Step one: ")
    assert first["job_id"] in line
    steps[0]["overrides"] = {"training.output_dir": "elsewhere"}  # type: ignore[assignment]
    plan = await ok(client, "run_pipeline", steps=steps, client_cwd=cwd)
    found = [warning.partition(":")[0] for warning in plan["warnings"]]
    assert found == ["two", "Not checked yet"]


@pytest.mark.engine
async def test_a_training_into_the_folder_of_a_finished_model_is_warned_with_its_jobs_name(
    client: Client, run: Run, given: dict[str, Any], config: Path, prefect: PrefectServer
) -> None:
    first = await run()
    prefect.set_states(first["job_id"], "PENDING", "RUNNING", "COMPLETED")
    leave_model(config.parent / "out", first["job_id"])
    lora = {"training.use_peft": True}
    for dry_run in (True, False):
        warning = (await run(dry_run=dry_run, overrides=lora))["warnings"][0]
        assert "model.safetensors and 1 checkpoint" in warning
        assert f"{first['name']} ({first['job_id']})" in warning
        assert "model.safetensors would stay beside this job's own" in warning
        assert "own_output" in warning
    going_on = {"training.try_resume_from_last_checkpoint": True}
    plan = await run(dry_run=True, overrides=going_on)
    assert not any("holds" in warning for warning in plan["warnings"])
    at = await ok(client, "schedule_job", **given, at="2126-01-01T00:00")
    assert any(first["job_id"] in warning for warning in at["warnings"])


@pytest.mark.engine
async def test_a_model_without_a_mark_is_said_to_be_of_the_last_job_there(
    run: Run, config: Path, prefect: PrefectServer
) -> None:
    first = await run()
    prefect.set_states(first["job_id"], "PENDING", "RUNNING", "COMPLETED")
    leave_model(config.parent / "out", None, adapter=True)
    warning, _unchecked = (await run(dry_run=True))["warnings"]
    assert f"({first['job_id']})" in warning
    assert "adapter_model.safetensors would stay beside this job's own" in warning


def test_paths_are_written_out_at_the_submission_whatever_the_worker_knows(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "/data/runs")
    new = NewJob(
        config_path=config.name,
        client_cwd=str(config.parent),
        overrides={"training.output_dir": "${oc.env:WHERE}/x"},
        skip_preflight=True,
    )
    checked = check_job(new)
    assert checked.request.overrides == {"training.output_dir": "/data/runs/x"}
    assert checked.plan.output_dir == "/data/runs/x"
    text = config.read_text()
    config.write_text(text.replace("output_dir: out", "output_dir: ~/x"))
    assert "~" not in str(check_job(new.model_copy(update={"overrides": {}})).request.overrides)


def test_the_paths_of_a_pipelines_steps_are_written_out_but_for_what_refers_to_others(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    steps: list[dict[str, Any]] = [
        {
            "name": "one",
            "config_path": config.name,
            "skip_preflight": True,
            "overrides": {"training.output_dir": "~/x", "training.run_name": "$${kept}"},
        },
        {
            "name": "two",
            "config_path": config.name,
            "skip_preflight": True,
            "overrides": {"training.output_dir": "~/x/${one.job_id}"},
        },
    ]
    parts = checked_pipeline(NewPipeline(steps=steps, client_cwd=str(config.parent))).parts
    assert [part.part.request.overrides for part in parts] == [
        {"training.output_dir": "/home/me/x", "training.run_name": "$${kept}"},
        {"training.output_dir": "~/x/${one.job_id}"},
    ]
