"""What tools cost a model to read, in bytes: the listing of each, and a typical result.

python -m benchmarks.tokens rewrites the table of docs/for-models.md; with --no-engine without the
results of tools that need an engine.
"""

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from mcp import Client

from benchmarks.support import REPOSITORY, Bench, done, mcp_client, submit, warm_engine
from benchmarks.tool_calls import HUB_CONFIG, calls
from flows.core.errors import EngineUnavailable
from flows.core.settings import Settings
from mcp_server.server import Options, build_server, make_parts

PAGE = REPOSITORY / "docs" / "for-models.md"
BEGIN, END = "<!-- tokens -->\n", "<!-- /tokens -->"
HEAD = "| tool | name, description, arguments | result's schema | a result |\n|---|---|---|---|\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokens", description=__doc__)
    parser.add_argument("--no-engine", action="store_true", help="start none")
    if parser.parse_args().no_engine:
        with tempfile.TemporaryDirectory() as folder:
            results = asyncio.run(results_without_engine(Path(folder)))
    else:
        with warm_engine() as made:
            results = asyncio.run(results_of(made))
    listed = asyncio.run(listing(Path("unused")))
    rows = [
        f"| `{tool}` | {read:,} | {schema:,} | {results.get(tool, '')} |"
        for tool, (read, schema) in listed.items()
    ]
    read, schema = (sum(column) for column in zip(*listed.values(), strict=True))
    table = HEAD + "\n".join([*rows, f"| all | {read:,} | {schema:,} | |"])
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + table + "\n\n" + END + rest.partition(END)[2])
    print(table)


async def listing(home: Path) -> dict[str, tuple[int, int]]:
    """Of each tool, the bytes of name, description and input schema, and of the output schema."""
    async with Client(server(home)) as client:
        tools = (await client.list_tools()).tools
    return {
        tool.name: (
            size([tool.name, tool.description, tool.input_schema]),
            size(tool.output_schema),
        )
        for tool in tools
    }


async def results_of(made: Bench) -> dict[str, str]:
    """The bytes of one result of each tool."""
    async with mcp_client(made) as client:
        job_id = (await submit(client, made.job("quick", "echo hello")))["job_id"]
        await done(client, job_id)
        return await results(client, made.folder, job_id)


async def results_without_engine(folder: Path) -> dict[str, str]:
    """The bytes of one result of each tool that needs no engine."""
    (folder / "quick.yaml").write_text("name: quick\nresources: {cloud: local}\nrun: echo hello\n")
    async with Client(server(folder / "home")) as client:
        return await results(client, folder, "00000000")


async def results(client: Client, folder: Path, job_id: str) -> dict[str, str]:
    (folder / "hub.yaml").write_text(HUB_CONFIG)
    offered = {tool.name for tool in (await client.list_tools()).tools}
    found: dict[str, str] = {}
    for tool, arguments in calls(folder, job_id).items():
        if tool not in offered:
            continue
        result = await client.call_tool(tool, arguments)
        text = getattr(result.content[0], "text", "")
        if tool == "get_docs" and text.startswith("TIMEOUT"):
            await asyncio.sleep(5)
            result = await client.call_tool(tool, arguments)
            text = getattr(result.content[0], "text", "")
        if not result.is_error:
            found[tool] = f"{len(text.encode()):,}"
    return found


def server(home: Path) -> Any:
    """A server without an engine."""

    def no_engine(**_: object) -> Any:
        raise EngineUnavailable("There is no engine here", "Start none")

    return build_server(make_parts(Settings(home=home), no_engine), Options())


def size(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


if __name__ == "__main__":
    main()
