"""A new job from the frozen config of another one, through the tools."""

import json
from pathlib import Path

import anyio
import pytest
from mcp.client import Client

from flows.core.models import JobRequest
from tests.mcp_server.calls import Submit, error, ok
from tests.mcp_server.prefect_stub import PrefectServer


def request_of(prefect: PrefectServer, job_id: str | None) -> JobRequest:
    return JobRequest.model_validate(prefect.read_run(job_id)["parameters"]["request"])


async def test_a_job_runs_again_from_the_config_as_it_was_submitted(
    submit: Submit, client: Client, prefect: PrefectServer, config: Path
) -> None:
    overrides = {"training.max_steps": 7, "training.seed": 1}
    source = await submit(overrides=overrides, max_retries=2, job_name="base")
    await anyio.Path(config).write_text("no: config any more\n")

    job = await ok(
        client,
        "run_oumi_job",
        from_job=source["job_id"],
        overrides={"training.seed": 2},
        dry_run=False,
    )

    first, second = request_of(prefect, source["job_id"]), request_of(prefect, job["job_id"])
    assert second == first.model_copy(
        update={"overrides": {"training.max_steps": 7, "training.seed": 2}, "own_output": True}
    )
    assert Path(job["output_dir"]).parent == config.parent / "out"
    assert job["config_path"] == str(config)
    status = await ok(client, "get_job_status", job_id=job["job_id"])
    assert status["from_job"] == source["job_id"]


@pytest.mark.parametrize(
    "states",
    [[], ["RUNNING/Running"], ["RUNNING", "FAILED"], ["RUNNING", "COMPLETED"], ["CANCELLED"],
     ["RUNNING", "FAILED", "SCHEDULED/AwaitingRetry"]],
)  # fmt: skip
async def test_a_job_in_any_state_runs_again(
    submit: Submit, client: Client, prefect: PrefectServer, states: list[str]
) -> None:
    source = await submit()
    prefect.set_states(source["job_id"], *states)
    plan = await ok(client, "run_oumi_job", from_job=source["job_id"])
    assert plan["dry_run"] is True
    assert plan["plan"]["argv"][:2] == ["oumi", "train"]


async def test_a_rerun_runs_again(submit: Submit, client: Client, prefect: PrefectServer) -> None:
    source = await submit()
    ids = [source["job_id"]]
    for steps in (1, 2):
        overrides = {"training.max_steps": steps}
        given = {"from_job": ids[-1], "overrides": overrides, "dry_run": False}
        ids.append((await ok(client, "run_oumi_job", **given))["job_id"])
    assert request_of(prefect, ids[-1]).overrides == {"training.max_steps": 2}
    folders = [prefect.read_run(one)["parameters"]["request"]["own_output"] for one in ids]
    assert folders == [False, True, True]


async def test_results_go_where_the_overrides_say(
    submit: Submit, client: Client, config: Path
) -> None:
    source = await submit()
    overrides = {"training.output_dir": "elsewhere"}
    plan = await ok(client, "run_oumi_job", from_job=source["job_id"], overrides=overrides)
    assert plan["output_dir"] == str(config.parent / "elsewhere")


async def test_it_runs_in_the_folder_of_its_source(
    submit: Submit, client: Client, config: Path, tmp_path: Path
) -> None:
    source = await submit()
    plan = await ok(client, "run_oumi_job", from_job=source["job_id"], client_cwd=str(tmp_path))
    assert plan["plan"]["working_dir"] == str(config.parent)
    assert str(tmp_path) in plan["summary"]


async def test_a_job_config_runs_again(
    submit: Submit, client: Client, prefect: PrefectServer, config: Path
) -> None:
    path = anyio.Path(config.parent / "job.yaml")
    await path.write_text("name: hello\nresources: {cloud: local}\nrun: echo one\n")
    source = await submit(config_path="job.yaml")
    await path.unlink()
    again = await ok(client, "run_oumi_job", from_job=source["job_id"], dry_run=False)
    assert request_of(prefect, again["job_id"]) == request_of(prefect, source["job_id"])
    assert any("writes where" in one for one in again["warnings"])
    text = await error(
        client, "run_oumi_job", from_job=source["job_id"], overrides={"training.max_steps": "+2"}
    )
    assert text.startswith("INVALID_ARGUMENT: ")


async def test_what_is_no_job_with_a_config_does_not_run_again(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    source = await submit()
    for arguments, start in (
        ({"from_job": "0" * 36}, "JOB_NOT_FOUND: "),
        ({"from_job": source["job_id"], "config_path": "/other.yaml"}, "INVALID_ARGUMENT: "),
        ({}, "INVALID_ARGUMENT: no config was given. Give config_path or from_job"),
    ):
        assert (await error(client, "run_oumi_job", **arguments)).startswith(start)


def checkpoint(folder: Path, step: int, job_id: str | None) -> Path:
    """Write a whole checkpoint without a mark, as a training without our hook does."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return path


async def test_a_training_continues_from_its_last_whole_checkpoint(
    submit: Submit, client: Client, prefect: PrefectServer, config: Path
) -> None:
    source = await submit()
    prefect.set_states(source["job_id"], "RUNNING")
    last = checkpoint(config.parent / "out", 40, source["job_id"])
    (checkpoint(config.parent / "out", 50, source["job_id"]) / "trainer_state.json").unlink()
    more = {"from_job": source["job_id"], "overrides": {"training.max_steps": "+200"}}
    assert (await error(client, "run_oumi_job", **more)).startswith("CONFLICT: ")
    prefect.set_states(source["job_id"], "COMPLETED")

    job = await ok(client, "run_oumi_job", **more, dry_run=False)

    assert request_of(prefect, job["job_id"]).overrides == {
        "training.max_steps": 240,
        "training.resume_from_checkpoint": str(last),
    }
    assert "from step 40 to step 240" in job["summary"]
    assert job["output_dir"] != source["output_dir"]
    status = await ok(client, "get_job_status", job_id=job["job_id"])
    assert status["resumed_from_step"] == 40


async def test_a_training_without_a_whole_checkpoint_does_not_continue(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    source = await submit()
    prefect.set_states(source["job_id"], "RUNNING", "FAILED")
    more = {"from_job": source["job_id"], "overrides": {"training.max_steps": "+200"}}
    text = await error(client, "run_oumi_job", **more)
    assert text.startswith("CONFLICT: ")
    assert "no whole checkpoint" in text


async def test_more_steps_need_a_job_to_continue(client: Client, config: Path) -> None:
    given = {"config_path": config.name, "client_cwd": str(config.parent)}
    for value, start in (("+5", "continues another job"), ("+x", "no number of steps")):
        text = await error(client, "run_oumi_job", **given, overrides={"training.max_steps": value})
        assert start in text


async def test_a_schedule_runs_a_job_again(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    source = await submit(overrides={"training.seed": 1})
    made = await ok(
        client, "schedule_job", from_job=source["job_id"], at="2100-01-01T00:00:00Z", dry_run=True
    )
    assert made["command"] == "train"
