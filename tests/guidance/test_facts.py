"""Every command, option, key and name that the guides mention is there, in what is installed."""

import ast
import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import typer
import yaml
from mcp.client import Client
from mcp_types import Tool

from flows.core.pipelines.written import read_pipeline
from flows.core.settings import Settings
from flows.core.sweeps.written import read_sweep
from flows.launcher.sky.backend import DEFAULT_AUTOSTOP_MINUTES
from mcp_server.cli.output import Output
from mcp_server.cli.terminal import build_app
from mcp_server.guidance import GUIDES
from mcp_server.server import Options, build_server, make_parts
from tests.guidance.facts import Facts
from tests.guidance.markdown import Guide
from tests.support.stack import REPOSITORY

pytestmark = pytest.mark.slow

ALL = [Guide(name) for name in GUIDES]
PACKAGES = ("oumi", "sky", "trl", "peft", "transformers", "huggingface_hub")


@pytest.fixture(scope="module")
def installed() -> dict[str, Any]:
    """What the installed packages have, from a process that imports them."""
    asked = {
        "configs": [config for guide in ALL for config in guide.configs],
        "defaults": [row[0] for row in Guide("mle-train").rows("key", "Oumi's default")],
        "imports": [name for guide in ALL for name in imports(guide)],
        "conversations": [json.loads(block.text) for block in samples()],
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.guidance.installed"],
        cwd=REPOSITORY,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.rpartition("\n{")[2].join(["{", ""]))


@pytest.fixture(scope="module")
def sources() -> Callable[[str], bool]:
    """Whether a text occurs in the source of what is installed, or in ours."""
    site = Path(pytest.__file__).parents[1]
    roots = [*(site / name for name in PACKAGES), REPOSITORY / "flows"]
    paths = [path for root in roots for path in root.rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths)
    return lambda wanted: wanted in text


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[set[str], set[str]]]:
    """The names of what each tool takes and answers with."""
    settings = Settings(home=tmp_path_factory.mktemp("home"))

    def no_engine(**_: object) -> Any:
        raise NotImplementedError

    async def listed() -> list[Tool]:
        async with Client(build_server(make_parts(settings, no_engine), Options())) as client:
            return (await client.list_tools()).tools

    return {
        tool.name: (set(tool.input_schema["properties"]), set(names(tool.output_schema)))
        for tool in asyncio.run(listed())
    }


@pytest.fixture(scope="module")
def facts(
    installed: dict[str, Any],
    tools: dict[str, tuple[set[str], set[str]]],
    sources: Callable[[str], bool],
) -> Facts:
    from tests.guidance.commands import commands

    app = build_app(cast(Any, None), Output(), Settings())
    return Facts(installed, tools, commands(typer.main.get_command(app)), sources)


def test_everything_that_the_guides_mention_is_there(
    facts: Facts, installed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    problems = [problem for guide in ALL for problem in facts.problems(guide)]
    assert not problems, "\n".join(problems)
    facts.count["behaviours"] = len(installed["behaviour"])
    facts.count["defaults"] = len(installed["defaults"])
    with capsys.disabled():
        kinds = ", ".join(f"{count} {kind}" for kind, count in facts.count.most_common())
        print(f"\nguidance: {facts.count.total()} facts checked ({kinds})")


def test_oumi_itself_loads_every_config_that_the_guides_show(installed: dict[str, Any]) -> None:
    assert installed["config_errors"] == []
    assert {kind for guide in ALL for kind, _ in guide.configs} >= {"training", "job", "inference"}


def test_what_the_installed_packages_do_is_what_the_guides_say(installed: dict[str, Any]) -> None:
    assert {claim for claim, holds in installed["behaviour"].items() if not holds} == set()


def test_defaults_clouds_methods_and_versions_are_as_stated(installed: dict[str, Any]) -> None:
    stated = {row[0]: row[1] for row in Guide("mle-train").rows("key", "Oumi's default")}
    assert {key: value.lower() for key, value in installed["defaults"].items()} == {
        key: str(float(value)) if "e-" in value else value.lower() for key, value in stated.items()
    }
    cloud = Guide("cloud-launch").text
    (cannot_stop,) = re.findall(r"^- (.+) cannot stop:", cloud, re.MULTILINE)
    assert set(re.split(r", | and ", cannot_stop.replace("`", ""))) == set(installed["cannot_stop"])
    assert f"after {DEFAULT_AUTOSTOP_MINUTES} idle minutes" in cloud
    post = Guide("post-training").text
    for method in installed["quantize_methods"]:
        assert f"`{method}`" in post
    for guide in ALL:
        for name, stated_version in re.findall(
            r"(Oumi|SkyPilot|TRL|PEFT|harness) (\d+\.\d+)", guide.text
        ):
            package = {"SkyPilot": "skypilot", "harness": "lm_eval"}.get(name, name.lower())
            assert installed["versions"][package].startswith(stated_version), (guide.name, name)


def test_the_samples_of_conversations_are_what_oumi_writes(installed: dict[str, Any]) -> None:
    assert installed["conversation"] == [json.loads(block.text) for block in samples()]
    (output,) = [json.loads(block.text) for block in samples() if block.kind == "output"]
    assert output["messages"][-1]["role"] == "assistant"


def test_python_in_the_guides_imports_what_there_is(
    installed: dict[str, Any], sources: Callable[[str], bool]
) -> None:
    assert installed["missing_imports"] == []
    for guide in ALL:
        for block in guide.blocks:
            if block.language == "python":
                tree = ast.parse(block.text)
                called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
                assert called
                assert all(sources(f"def {name}") for name in called), called


@pytest.mark.parametrize("guide", ALL, ids=lambda guide: guide.name)
def test_a_guide_is_short(guide: Guide) -> None:
    assert len(guide.text.encode()) <= 8_000
    assert guide.text.startswith("# ")
    assert "—" not in guide.text


def samples() -> list[Any]:
    return [b for b in Guide("mle-infer").blocks if b.language == "json"]


def imports(guide: Guide) -> list[tuple[str, str]]:
    return [
        (node.module or "", alias.name)
        for block in guide.blocks
        if block.language == "python"
        for node in ast.walk(ast.parse(block.text))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]


def names(schema: Any) -> list[str]:
    """The names of all properties of a JSON schema, at any depth."""
    found: list[str] = []
    if isinstance(schema, dict):
        found += list(schema.get("properties", {}))
        for value in schema.values():
            found += names(value)
    elif isinstance(schema, list):
        for value in schema:
            found += names(value)
    return found


def test_the_pipelines_and_sweeps_that_the_guides_show_are_read() -> None:
    readers: dict[str, Callable[..., object]] = {"pipeline": read_pipeline, "sweep": read_sweep}
    shown = [family for guide in ALL for family in guide.families]
    assert {kind for kind, _ in shown} == readers.keys()
    for kind, text in shown:
        assert readers[kind](yaml.safe_load(text), name="shown")
