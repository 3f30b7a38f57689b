"""Bad arguments: refused in one line that says what to correct."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from flows.core.errors import EngineUnavailable, InvalidArgument
from flows.core.settings import Settings
from mcp_server.server import Options, Parts, build_server, make_parts
from tests.mcp_server.calls import error, ok


def no_engine(*, report: object, after_down: bool) -> Any:
    raise EngineUnavailable("There is no engine in this test", "Start none")


@pytest.fixture
def engineless(settings: Settings) -> Parts:
    return make_parts(settings, no_engine)


@pytest.fixture
async def client(engineless: Parts) -> AsyncIterator[Client]:
    async with Client(build_server(engineless, Options())) as connected:
        yield connected


@pytest.mark.parametrize(
    ("tool", "arguments", "text"),
    [
        ("list_jobs", {"limt": 3}, "list_jobs has no argument 'limt'. Did you mean 'limit'?"),
        ("get_started", {"x": 1}, "get_started has no argument 'x'. It takes topic."),
        ("list_modules", {"x": 1}, "list_modules has no argument 'x'. It takes no arguments."),
        ("list_jobs", {"limit": 101}, "list_jobs: limit: Input should be less than or equal"),
        ("list_jobs", {"limit": "many"}, "list_jobs: limit: Input should be a valid integer"),
        ("list_jobs", {"status": "dead"}, "list_jobs: status: Input should be 'all', 'running'"),
        ("get_job_logs", {"job_id": "x" * 8, "lines": 0}, "get_job_logs: lines: Input should be"),
        ("get_job_status", {}, "get_job_status: job_id: Field required"),
        ("get_job_status", {"job_id": None}, "get_job_status: job_id: Input should be a valid str"),
        ("get_job_status", {"job_id": ["a"]}, "get_job_status: job_id: Input should be a valid"),
        ("wait_for_job", {"job_id": "x", "timeout_seconds": 301}, "wait_for_job: timeout_seconds"),
        ("wait_for_job", {"job_id": "x", "until": "gone"}, "wait_for_job: until: Input should be"),
        ("run_job", {}, "There is no tool 'run_job'. Call one of run_oumi_job, "),
    ],
)
async def test_a_wrong_call_is_refused_in_one_line(
    client: Client, tool: str, arguments: dict[str, Any], text: str
) -> None:
    assert (await error(client, tool, **arguments)).startswith(f"INVALID_ARGUMENT: {text}")


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        ({"client_cwd": "relative"}, "INVALID_ARGUMENT: client_cwd 'relative' is not absolute"),
        ({"client_cwd": "/no/such/folder"}, "INVALID_ARGUMENT: client_cwd"),
        ({"client_cwd": ""}, "INVALID_ARGUMENT: client_cwd '' is not a path"),
        ({"config_path": "tinny.yaml"}, "CONFIG_NOT_FOUND: "),
        ({"config_path": "."}, "INVALID_CONFIG: "),
        ({"config_path": "bad.yaml"}, "INVALID_CONFIG: "),
        ({"config_path": "unknown.yaml"}, "INVALID_CONFIG: "),
        ({"command": "trane"}, "INVALID_ARGUMENT: run_oumi_job: command: Input should be"),
        ({"overrides": {"training.max_step": 3}}, "INVALID_ARGUMENT: overrides for oumi train"),
        ({"overrides": {"training.max_steps": "x"}}, "INVALID_ARGUMENT: overrides for oumi"),
        ({"overrides": {"a": {"b": 1}}}, "INVALID_ARGUMENT: run_oumi_job: overrides.a: Input"),
        ({"overrides": "[]"}, "INVALID_ARGUMENT: run_oumi_job: overrides: Input should be"),
        ({"job_name": "x" * 101}, "INVALID_ARGUMENT: run_oumi_job: job_name: String should"),
        ({"job_name": "two\nlines"}, "INVALID_ARGUMENT: job_name contains a line break"),
        ({"max_retries": -1}, "INVALID_ARGUMENT: run_oumi_job: max_retries"),
        ({"cloud": "gcp"}, "INVALID_ARGUMENT: "),
        ({"cloud": "gpc"}, "CLOUD_UNAVAILABLE: Oumi has no cloud named 'gpc'. Use one of aws, "),
        ({"cloud": "gpc", "config_path": "job.yaml"}, "CLOUD_UNAVAILABLE: "),
        ({"cloud": "gcp", "config_path": "aws.yaml"}, "CONFLICT: "),
        ({"config_path": "aws.yaml"}, "CONFLICT: "),
        ({"overrides": {"model.model_kwargs.token": "x"}}, "INVALID_ARGUMENT: override model."),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_job_that_cannot_run_is_refused_before_anything_is_started(
    client: Client, config: Path, arguments: dict[str, Any], start: str, *, dry_run: bool
) -> None:
    (config.parent / "bad.yaml").write_text("a: [1\n")
    (config.parent / "unknown.yaml").write_text("training:\n  max_stepz: 3\n")
    (config.parent / "aws.yaml").write_text("resources: {cloud: aws}\nrun: echo\n")
    (config.parent / "job.yaml").write_text("resources: {}\nrun: echo\n")
    given = {"config_path": "tiny.yaml", "client_cwd": str(config.parent), "dry_run": dry_run}
    assert (await error(client, "run_oumi_job", **(given | arguments))).startswith(start)


async def test_a_training_config_for_a_cloud_names_the_guidance(
    client: Client, config: Path
) -> None:
    text = await error(client, "run_oumi_job", config_path=str(config), client_cwd="/", cloud="gcp")
    assert "guidance://cloud-launch" in text


@pytest.mark.parametrize("name", ["a/b", "a.b", "a b", "emoji 🚀", "x" * 100, "'\"$(x)"])
async def test_a_job_may_have_any_name_of_one_line(client: Client, config: Path, name: str) -> None:
    plan = await ok(client, "run_oumi_job", config_path=str(config), client_cwd="/", job_name=name)
    assert plan["dry_run"] is True


async def test_an_object_sent_as_text_is_read_and_other_text_is_left_alone(
    client: Client, config: Path
) -> None:
    plan = await ok(
        client,
        "run_oumi_job",
        config_path=str(config),
        client_cwd="/",
        job_name="[0]",
        overrides='{"training.max_steps": 9}',
    )
    assert plan["plan"]["argv"][-1] == "--training.max_steps=9"
    assert plan["name"] == "0"


async def test_what_needs_the_engine_says_that_it_is_not_there(
    client: Client, config: Path
) -> None:
    for tool, arguments in (
        ("list_jobs", {}),
        ("cancel_job", {"job_id": "deadbeef"}),
        (
            "run_oumi_job",
            {"config_path": str(config), "client_cwd": "/", "dry_run": False},
        ),
    ):
        text = await error(client, tool, **arguments)
        assert text == "ENGINE_UNAVAILABLE: There is no engine in this test. Start none."


async def test_a_read_only_server_refuses_what_changes_anything(
    engineless: Parts, config: Path
) -> None:
    async with Client(build_server(engineless, Options(read_only=True))) as client:
        run = {"config_path": str(config), "client_cwd": "/"}
        calls = [
            ("cancel_job", {"job_id": "deadbeef"}),
            ("retry_job", {"job_id": "deadbeef"}),
            ("run_oumi_job", {**run, "dry_run": False}),
            ("run_oumi_job", {**run, "dry_run": "false"}),
        ]
        for tool, arguments in calls:
            assert (await error(client, tool, **arguments)).startswith("READ_ONLY: ")
        assert (await ok(client, "run_oumi_job", **run))["dry_run"] is True
        assert (await error(client, "list_jobs")).startswith("ENGINE_UNAVAILABLE: ")


async def test_a_server_offers_only_the_requested_toolsets(engineless: Parts) -> None:
    async with Client(build_server(engineless, Options(toolsets=["guide"]))) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["get_started"]
    with pytest.raises(InvalidArgument, match="There is no toolset 'job'"):
        build_server(engineless, Options(toolsets=["job"]))


async def test_a_defect_is_reported_without_its_inside(
    engineless: Parts, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret=hunter2")

    monkeypatch.setattr(engineless.jobs, "list", broken)
    async with Client(build_server(engineless, Options())) as client:
        text = await error(client, "list_jobs")
    assert text.startswith("INTERNAL: A defect in oumi-flows (ZeroDivisionError). ")
    assert "hunter2" not in text
    assert "hunter2" in caplog.text  # the log, on standard error, has the traceback


async def test_the_plan_of_a_huge_job_is_cut_and_says_so(client: Client, config: Path) -> None:
    folder = config.parent
    script = "\n".join(f"  echo {number}" for number in range(20_000))
    (folder / "huge.yaml").write_text(f"name: huge\nrun: |\n{script}\n")
    overrides = {"model.model_name": "x" * 100_000}
    for arguments in ({"config_path": "huge.yaml"}, {"overrides": overrides}):
        given = {"config_path": "tiny.yaml", "client_cwd": str(folder)} | arguments
        result = await client.call_tool("run_oumi_job", given)
        assert not result.is_error
        (content,) = result.content
        assert content.type == "text"
        assert len(content.text.encode()) <= 12_000
        assert "more characters were cut" in content.text


async def test_a_file_name_that_is_not_utf_8_can_be_sent(client: Client, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.yaml")).write_text("a: 1\n")
    call = {"config_path": "x.yaml", "client_cwd": str(tmp_path)}
    message = await error(client, "run_oumi_job", **call)
    assert "Did you mean \N{REPLACEMENT CHARACTER}.yaml?" in message
    message.encode()
