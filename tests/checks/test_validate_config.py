import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from flows.core.configs.schema import ConfigType
from flows.core.errors import EngineUnavailable
from flows.core.settings import Settings
from mcp_server.engine_keeper import EngineKeeper
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.server import Options, build_server, make_parts
from mcp_server.services.checks import CheckService
from mcp_server.services.worker_calls import WorkerCalls
from tests.mcp_server.calls import error as fails
from tests.mcp_server.calls import ok
from tests.support.mcp_client import mcp_session
from tests.support.stack import Stack

BAD = """\
model:
  model_name: some/model
data:
  train:
    datasets:
      - dataset_name: text_sft_jsonl
        dataset_path: data.jsonl
training:
  max_stepz: 60
  learning_rate: fast
  trainer_type: trl_sft
  gradient_accumulation_steps: 0
"""


def no_engine(*, report: object, after_down: bool) -> Any:
    raise EngineUnavailable("There is no engine in this test", "Start none")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    parts = make_parts(Settings(home=tmp_path / "home", engine_timeout_seconds=5), no_engine)
    async with Client(build_server(parts, Options(toolsets=["checks"]))) as connected:
        yield connected


async def validate(client: Client, folder: Path, **arguments: Any) -> dict[str, Any]:
    given = {"config": "c.yaml", "task_type": "training", "client_cwd": str(folder)} | arguments
    return await ok(client, "validate_config", **given)


async def test_every_problem_has_its_place_and_the_nearest_valid_name(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text(BAD)
    answer = await validate(client, tmp_path)
    assert answer["valid"] is False
    assert [(e["key"], e["line"], e["column"], e["nearest"]) for e in answer["errors"]] == [
        ("training.max_stepz", 9, 3, "training.max_steps"),
        ("training.learning_rate", 10, 3, ""),
        ("training.trainer_type", 11, 3, "TRL_SFT"),
    ]
    assert "did you mean training.max_steps?" in answer["errors"][0]["message"]
    assert answer["summary"].startswith(
        "c.yaml is not a valid training config: 3 errors and 1 warn"
    )


async def test_without_a_worker_it_tells_what_it_can_and_that_oumi_was_not_asked(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text("model: {model_name: m}\n")
    answer = await validate(client, tmp_path)
    assert answer["errors"] == []
    assert [warning["code"] for warning in answer["warnings"]] == ["oumi_not_asked"]
    assert answer["summary"].endswith("Oumi did not check it")


async def test_while_the_engine_starts_it_tells_at_once_what_it_can(tmp_path: Path) -> None:
    over = threading.Event()

    def start(**_: object) -> Any:
        over.wait(60)
        raise EngineUnavailable("The test is over", "Start none")

    (tmp_path / "c.yaml").write_text(BAD)
    keeper = EngineKeeper(start, timeout_seconds=60)
    gateway = PrefectGateway(keeper, timeout_seconds=5)
    checks = CheckService(WorkerCalls(gateway), timeout_seconds=60, start_seconds=0.05)
    try:
        found = await checks.validate("c.yaml", task_type="training", client_cwd=str(tmp_path))
        (warning,) = [one for one in found.warnings if one.code == "oumi_not_asked"]
        assert "the engine is still starting" in warning.message
        assert warning.fix == "Ask again in half a minute; the start continues"
        assert [one.code for one in found.errors] != []
        ready = await checks.pre_flight("c.yaml", client_cwd=str(tmp_path))
        assert "worker_not_asked" in [one.code for one in ready.warnings]
    finally:
        over.set()
        keeper.close()
        await gateway.aclose()


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("model: {\n", 2, 1), ("a: 1\na: 2\n", 2, 1), ("[1]", 1, 1), ("", 1, 1)],
)
async def test_a_text_that_is_no_config_is_told_with_its_place(
    client: Client, tmp_path: Path, text: str, line: int, column: int
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    answer = await validate(client, tmp_path)
    (error,) = answer["errors"]
    assert (error["code"], error["line"], error["column"]) == ("invalid_yaml", line, column)


async def test_a_config_with_a_thousand_errors_is_answered_within_bounds(
    client: Client, tmp_path: Path
) -> None:
    keys = "\n".join(f"  wrong_{number}: 1" for number in range(1000))
    (tmp_path / "c.yaml").write_text(f"model: {{model_name: m}}\ntraining:\n{keys}\n")
    result = await client.call_tool(
        "validate_config",
        {"config": "c.yaml", "task_type": "training", "client_cwd": str(tmp_path)},
    )
    assert result.structured_content is not None
    assert "1000 errors (the first" in result.structured_content["summary"]
    (content,) = result.content
    assert content.type == "text"
    assert len(content.text.encode()) <= 12_000


async def test_a_missing_file_and_an_unknown_type_are_refused(
    client: Client, tmp_path: Path
) -> None:
    given = {"client_cwd": str(tmp_path), "task_type": "training", "config": "no.yaml"}
    assert (await fails(client, "validate_config", **given)).startswith("CONFIG_NOT_FOUND: ")
    text = await fails(client, "validate_config", **(given | {"task_type": "train"}))
    assert text.startswith("INVALID_ARGUMENT: ")


@pytest.mark.parametrize("task_type", list(ConfigType))
async def test_every_type_can_be_validated(
    client: Client, tmp_path: Path, task_type: ConfigType
) -> None:
    (tmp_path / "c.yaml").write_text("nonsense: 1\n")
    answer = await validate(client, tmp_path, task_type=task_type.value)
    assert "unknown_key" in [error["code"] for error in answer["errors"]]


@pytest.mark.engine
async def test_the_workers_oumi_adds_what_its_classes_refuse(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(BAD)
    async with mcp_session(stack) as session:
        given = {"config": "c.yaml", "task_type": "training", "client_cwd": str(tmp_path)}
        here = await session.call("validate_config", **given)
        elsewhere = await session.call("validate_config", **given, cloud="gcp")
    refused = [(e["key"], e["line"]) for e in here["errors"] if e["code"] == "refused_by_oumi"]
    assert refused == [
        ("data.train.datasets[0].dataset_path", 7),
        ("training.gradient_accumulation_steps", 12),
    ]
    assert [w["key"] for w in elsewhere["warnings"]] == ["data.train.datasets[0].dataset_path"]
