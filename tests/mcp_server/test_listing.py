"""What a client learns of the server before its first call."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import Tool

from benchmarks.tokens import size
from flows.core.settings import Settings
from flows.core.states import JobState
from mcp_server.guidance import GUIDES
from mcp_server.server import Options, build_server, make_parts
from tests.mcp_server.calls import ok
from tests.mcp_server.test_arguments import no_engine

TOOLS = [
    "run_oumi_job",
    "get_job_status",
    "wait_for_job",
    "get_job_logs",
    "cancel_job",
    "cancel_jobs",
    "adopt_job",
    "list_jobs",
    "annotate_job",
    "compare_jobs",
    "retry_job",
    "get_budget",
    "get_job_metrics",
    "diagnose_job",
    "preview_data",
    "get_job_results",
    "collect_results",
    "list_clusters",
    "list_machines",
    "stop_cluster",
    "down_cluster",
    "run_pipeline",
    "run_sweep",
    "validate_config",
    "pre_flight_check",
    "get_docs",
    "list_modules",
    "search_configs",
    "get_config",
    "list_categories",
    "schedule_job",
    "list_schedules",
    "update_schedule",
    "get_started",
]


@pytest.fixture(params=["auto", "legacy"])
async def client(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[Client]:
    """A client of each protocol era."""
    server = build_server(make_parts(settings, no_engine), Options())
    async with Client(server, mode=request.param) as connected:
        yield connected


async def tools_of(client: Client) -> list[Tool]:
    return (await client.list_tools()).tools


async def test_the_tools_are_those_of_the_contract(client: Client) -> None:
    assert [tool.name for tool in await tools_of(client)] == TOOLS


async def test_the_list_of_tools_is_small(client: Client) -> None:
    tools = await tools_of(client)
    sent = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
    read = sum(size([tool.name, tool.description, tool.input_schema]) for tool in tools)
    assert read <= 24_000
    assert size(sent) <= 75_000


async def test_every_tool_is_annotated_described_and_strict(client: Client) -> None:
    for tool in await tools_of(client):
        assert tool.title
        assert tool.description
        hints = tool.annotations
        assert hints is not None
        assert None not in (
            hints.read_only_hint,
            hints.destructive_hint,
            hints.idempotent_hint,
            hints.open_world_hint,
        )
        assert tool.input_schema["additionalProperties"] is False
        for name, schema in tool.input_schema.get("properties", {}).items():
            assert schema.get("description"), f"{tool.name}.{name}"
            assert is_bounded(schema), f"{tool.name}.{name}"
        assert tool.output_schema is not None
        assert next(iter(tool.output_schema["properties"])) == "summary"
        assert "additionalProperties" in tool.output_schema


def is_bounded(schema: dict[str, Any]) -> bool:
    """Whether a schema bounds texts, numbers and mappings."""
    match schema.get("type"):
        case "string":
            return "maxLength" in schema or "enum" in schema
        case "integer" | "number":
            return {"minimum", "maximum"} <= set(schema)
        case "object":
            return "maxProperties" in schema
        case [*kinds]:
            return all(is_bounded({**schema, "type": kind}) for kind in kinds)
        case _:
            return all(is_bounded(member) for member in schema.get("anyOf", []))


async def test_the_tools_that_only_read_say_so(client: Client) -> None:
    reading = {
        tool.name
        for tool in await tools_of(client)
        if tool.annotations and tool.annotations.read_only_hint
    }
    changing = {
        *("run_oumi_job", "run_pipeline", "run_sweep", "cancel_job", "adopt_job", "retry_job"),
        *("annotate_job", "cancel_jobs", "collect_results", "schedule_job", "update_schedule"),
        *("stop_cluster", "down_cluster", "get_budget"),
    }
    assert reading == set(TOOLS) - changing


async def test_a_list_can_be_asked_for_every_state(client: Client) -> None:
    (list_jobs,) = [tool for tool in await tools_of(client) if tool.name == "list_jobs"]
    words = set(list_jobs.input_schema["properties"]["status"]["enum"])
    assert words == {"all", "running", "completed", *JobState}


async def test_get_started_is_short_and_names_every_tool(client: Client) -> None:
    guide = await ok(client, "get_started")
    assert len(json.dumps(guide)) < 3000
    assert all(name in guide["guide"] for name in TOOLS)


async def test_the_prompts_are_filled_in(client: Client) -> None:
    names = [prompt.name for prompt in (await client.list_prompts()).prompts]
    assert names == ["launch_training", "babysit_job", "post_mortem"]
    for name in ("babysit_job", "post_mortem"):
        prompt = await client.get_prompt(name, {"job_id": "1a2b3c4d"})
        (message,) = prompt.messages
        assert message.content.type == "text"
        assert "`1a2b3c4d`" in message.content.text
    prompt = await client.get_prompt(
        "launch_training", {"config_path": "a {client_cwd}.yaml", "client_cwd": "/w"}
    )
    (message,) = prompt.messages
    assert message.content.type == "text"
    assert "`a {client_cwd}.yaml`" in message.content.text
    assert "`/w`" in message.content.text


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("nope", {}, "There is no prompt 'nope'. Use one of launch_training, babysit_job, "),
        ("babysit_job", {}, "Prompt babysit_job takes job_id and was given nothing."),
        ("babysit_job", {"id": "1"}, "Prompt babysit_job takes job_id and was given id."),
    ],
)
async def test_a_prompt_that_cannot_be_filled_in_is_refused(
    client: Client, name: str, arguments: dict[str, str], text: str
) -> None:
    with pytest.raises(MCPError) as caught:
        await client.get_prompt(name, arguments)
    assert caught.value.error.code == -32602
    assert caught.value.error.message.startswith(f"INVALID_ARGUMENT: {text}")


async def test_the_resources_are_listed(client: Client) -> None:
    fixed = [resource.uri for resource in (await client.list_resources()).resources]
    templates = await client.list_resource_templates()
    assert fixed == [*map("guidance://{}".format, GUIDES), "jobs://running", "jobs://completed"]
    assert [template.uri_template for template in templates.resource_templates] == [
        "jobs://{job_id}",
        "jobs://{job_id}/logs",
    ]


async def test_the_server_says_what_it_is_for(client: Client) -> None:
    assert client.server_info is not None
    assert client.server_info.name == "oumi-flows"
    assert client.server_info.version
    assert client.instructions is not None
    assert len(client.instructions) < 1000


def test_importing_the_server_loads_nothing_heavy() -> None:
    code = (
        "import sys, mcp_server.server, mcp_server.transports.http\n"
        "heavy = {'prefect', 'oumi', 'torch', 'sky', 'transformers', 'sqlalchemy', 'fastapi',\n"
        "         'optuna', 're2'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
