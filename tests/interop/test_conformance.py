"""The protocol's own conformance suite, and the Inspector's lint of our tool schemas."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http_server import Served, served_over_http
from tests.support.node import INTEROP, NODE, NODE_MODULES, needs_node_packages
from tests.support.stack import OUMI_FLOWS, Stack

pytestmark = [pytest.mark.interop, pytest.mark.slow, needs_node_packages]

CONFORMANCE = NODE_MODULES / "@modelcontextprotocol/conformance/dist/index.js"
WITH_TOKEN = INTEROP / "js/with_token.mjs"
INSPECTOR = NODE_MODULES / ".bin/mcp-inspector"

# The scenarios that ask for nothing but the protocol; the others call the suite's own example
# tools, resources and prompts.
ANY_SERVER = {
    "2025-11-25": {
        "dns-rebinding-protection",
        "ping",
        "prompts-list",
        "resources-list",
        "server-initialize",
        "server-session-lifecycle",
        "server-sse-multiple-streams",
        "tools-list",
    },
    "2026-07-28": {
        "caching",
        "dns-rebinding-protection",
        "input-required-result-ignore-extra-params",
        "input-required-result-missing-input-response",
        "input-required-result-unsupported-methods",
        "input-required-result-validate-input",
        "prompts-list",
        "resources-list",
        "sep-2164-resource-not-found",
        "server-sse-multiple-streams",
        "server-stateless",
        "tools-list",
    },
}

# Two checks of server-stateless call an example tool that needs the sampling capability.
NEED_AN_EXAMPLE_TOOL = {
    "sep-2575-server-rejects-undeclared-capability",
    "sep-2575-missing-capability-http-400",
}


@pytest.fixture(scope="module")
def served(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_over_http(stack, tmp_path_factory.mktemp("http") / "server.log") as served:
        yield served


@pytest.mark.parametrize("revision", sorted(ANY_SERVER))
def test_the_any_server_scenarios_of_a_revision_pass(
    revision: str, served: Served, tmp_path: Path
) -> None:
    done = node(
        CONFORMANCE,
        *("server", "--url", served.url, "--requirements", revision, "-o", str(tmp_path)),
        preload=WITH_TOKEN,
        env={**os.environ, "HTTP_TOKEN": served.token},
    )
    failed: dict[str, list[str]] = {}
    for scenario in ANY_SERVER[revision]:
        (report,) = tmp_path.glob(f"**/*server-{scenario}-*/checks.json")
        failed[scenario] = [
            check["id"]
            for check in json.loads(report.read_text())
            if check["status"] == "FAILURE" and check["id"] not in NEED_AN_EXAMPLE_TOOL
        ]
    assert failed == {scenario: [] for scenario in ANY_SERVER[revision]}, done.stdout


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_finds_nothing_unportable_in_our_tools(era: str, stack: Stack) -> None:
    target = [str(OUMI_FLOWS), "mcp"]
    # The Inspector hands the server hardly anything of its own environment.
    given = [
        word
        for name, value in stack.env.items()
        if name.startswith("OUMI_FLOWS_")
        for word in ("-e", f"{name}={value}")
    ]
    options = ["--method", "tools/list", "--strict", "--protocol-era", era, "--format", "json"]
    done = node(INSPECTOR, "--cli", *given, *target, *options, env=dict(stack.env))
    assert done.returncode == 0, done.stderr
    assert "run_oumi_job" in done.stdout


def node(
    script: Path, *args: str, preload: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(NODE), *(["--import", str(preload)] if preload else []), str(script), *args],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
