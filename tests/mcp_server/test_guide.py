"""What tells a model where to start: instructions, `get_started`, guides, prompts."""

import re
from typing import Any, get_args

import pytest
from mcp.client import Client

from flows.core.errors import EngineUnavailable
from flows.core.settings import Settings
from mcp_server.guidance import GUIDES
from mcp_server.server import Options, Parts, build_server, make_parts
from mcp_server.tools.guide import Topic
from tests.mcp_server.calls import ok

PROMPTS = {"launch_training", "babysit_job", "post_mortem"}


def no_engine(*, report: object, after_down: bool) -> Any:
    raise EngineUnavailable("There is no engine in this test", "Start none")


@pytest.fixture
def parts(settings: Settings) -> Parts:
    return make_parts(settings, no_engine)


def client_of(parts: Parts, *toolsets: str) -> Client:
    return Client(build_server(parts, Options(toolsets=toolsets)))


def named_in(text: str, tools: list[str]) -> set[str]:
    return {tool for tool in tools if re.search(rf"\b{tool}\b", text)}


async def tools_of(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


async def test_get_started_names_every_tool_and_guide_and_is_short(parts: Parts) -> None:
    async with client_of(parts) as client:
        guide = (await ok(client, "get_started"))["guide"]
        tools = await tools_of(client)
    assert len(guide.encode()) <= 3_000
    assert named_in(guide, tools) == set(tools)
    assert all(f"- {name}: " in guide for name in GUIDES)
    steps = re.findall(r"^(\d+)\. ", guide, re.MULTILINE)
    assert steps == [str(number + 1) for number in range(len(steps))]
    assert len(steps) >= 6


@pytest.mark.parametrize("toolsets", [("guide",), ("jobs", "guide"), ("catalog", "docs", "guide")])
async def test_steps_that_need_tools_which_are_not_offered_are_left_out(
    parts: Parts, toolsets: tuple[str, ...]
) -> None:
    async with client_of(parts) as client:
        every = await tools_of(client)
    async with client_of(parts, *toolsets) as client:
        offered = await tools_of(client)
        guide = (await ok(client, "get_started"))["guide"]
        # Such as the descriptions of guides and states, these words are no calls.
        assert named_in(guide, every) == set(offered)
        assert "[" not in guide


async def test_the_instructions_are_short_and_name_tools_that_are_offered(parts: Parts) -> None:
    server = build_server(parts, Options())
    async with Client(server) as client:
        tools = await tools_of(client)
    instructions = server.instructions or ""
    assert len(instructions.encode()) <= 1_000
    assert "\n" not in instructions
    assert {"run_oumi_job", "wait_for_job", "get_job_logs", "get_started"} <= named_in(
        instructions, tools
    )
    named = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", instructions)) - {"dry_run", "job_id"}
    assert named <= set(tools)


async def test_a_guide_is_read_by_tool_or_as_a_resource(parts: Parts) -> None:
    assert set(get_args(Topic)) == {"", *GUIDES}
    async with client_of(parts) as client:
        listed = {str(item.uri): item for item in (await client.list_resources()).resources}
        for name, about in GUIDES.items():
            answer = await ok(client, "get_started", topic=name)
            (content,) = (await client.read_resource(f"guidance://{name}")).contents
            assert answer == {"summary": about, "guide": getattr(content, "text", None)}
            assert listed[f"guidance://{name}"].mime_type == "text/markdown"
            assert listed[f"guidance://{name}"].description == about


async def test_the_prompts_name_tools_and_arguments_that_exist(parts: Parts) -> None:
    async with client_of(parts) as client:
        tools = (await client.list_tools()).tools
        known = {name for tool in tools for name in tool.input_schema["properties"]}
        known |= {name for tool in tools for name in (tool.output_schema or {})["properties"]}
        known |= {tool.name for tool in tools}
        prompts = (await client.list_prompts()).prompts
        assert prompts
        for prompt in prompts:
            arguments = {argument.name: "given" for argument in prompt.arguments or []}
            message = (await client.get_prompt(prompt.name, arguments)).messages[0].content
            text = getattr(message, "text", "")
            named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)(?:=[^`]*)?`", text))
            assert named
            assert named <= known, prompt.name
