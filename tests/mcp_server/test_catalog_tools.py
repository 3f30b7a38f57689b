"""The catalogue's tools, without an engine."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from flows.core.errors import EngineUnavailable
from flows.core.settings import Settings
from mcp_server.catalog.catalog import RECIPES_DIR
from mcp_server.server import Options, build_server, make_parts
from mcp_server.services.catalog import CatalogService
from tests.catalog.archive_server import CONFIG, archive_server, held, tar_gz
from tests.support.waiting import eventually

MAX_RESULT_BYTES = 12_000


def no_engine(**_: object) -> Any:
    raise EngineUnavailable("there is none", "Do without")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "configs"
    (folder / "apis/acme").mkdir(parents=True)
    for number in range(60):
        config = f"# Fine-tune number {number}.\nmodel:\n  model_name: acme/Thing-{number}B\n"
        (folder / f"{number:02}.yaml").write_text(config + "training:\n  use_peft: true\n")
    (folder / "apis/acme/infer.yaml").write_text("model:\n  model_name: x\nengine: OPENAI\n")
    (folder / "long.yaml").write_text("# Long.\ntraining:\n  run_name: a\n" + "# much\n" * 5000)
    return folder


@pytest.fixture
async def client(tmp_path: Path, library: Path) -> AsyncIterator[Client]:
    settings = Settings(home=tmp_path / "home", configs_dir=library)
    async with Client(build_server(make_parts(settings, no_engine), Options())) as connected:
        yield connected


async def call(client: Client, tool: str, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def refused(client: Client, tool: str, **arguments: object) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return getattr(result.content[0], "text", "")


async def test_a_search_gives_what_the_files_say_and_paths_to_get(client: Client) -> None:
    answer = await call(client, "search_configs", query=["llama 3.2", "lora", "1b"], limit=3)
    assert next(iter(answer)) == "summary"
    first = answer["configs"][0]
    assert first == {
        "path": "starter/llama3.2/1b_sft_lora.yaml",
        "description": "Fine-tune Llama 3.2 1B Instruct with LoRA.",
        "config_type": "training",
        "task": "sft",
        "technique": "lora",
        "model_name": "meta-llama/Llama-3.2-1B-Instruct",
        "datasets": ["tatsu-lab/alpaca"],
        "gpu": "1 GPU with 12 GB",
        "cloud": "",
    }


async def test_a_config_comes_with_its_text_its_file_and_what_to_do_next(client: Client) -> None:
    path = "starter/llama3.2/1b_sft_lora.yaml"
    answer = await call(client, "get_config", path=path)
    file = RECIPES_DIR / "llama3.2/1b_sft_lora.yaml"
    assert answer["content"] == file.read_text()
    assert answer["file_path"] == str(file)
    assert 'validate_config(task_type="training")' in answer["next_step"]


async def test_a_long_config_is_cut_and_says_where_all_of_it_is(
    client: Client, library: Path
) -> None:
    answer = await call(client, "get_config", path="long.yaml")
    assert "all of it is at file_path" in answer["summary"]
    assert answer["file_path"] == str(library / "long.yaml")
    assert len(str(answer)) <= MAX_RESULT_BYTES


async def test_the_categories_are_counted(client: Client) -> None:
    answer = await call(client, "list_categories")
    assert answer["categories"] == ["apis", "starter"]
    assert answer["api_providers"] == ["acme"]
    assert {"llama3.1", "qwen3"} <= set(answer["model_families"])
    assert answer["tasks"]["dpo"] >= 3
    assert answer["clouds"]["slurm"] == 2
    assert answer["total_configs"] >= 62 + 40
    assert answer["oumi_version"]
    assert answer["version_warning"]
    assert len(str(answer)) <= MAX_RESULT_BYTES


async def test_results_stay_within_the_bound_and_say_how_many_there_are(client: Client) -> None:
    answer = await call(client, "search_configs")
    assert len(answer["configs"]) == 20
    assert answer["total"] >= 100
    assert "the first 20 follow" in answer["summary"]
    assert len(str(answer)) <= MAX_RESULT_BYTES
    assert len((await call(client, "search_configs", limit=100))["configs"]) == 100


async def test_nothing_found_says_which_term_nothing_has(client: Client) -> None:
    answer = await call(client, "search_configs", query=["llama", "unheardof"])
    assert any("llama" in row["path"] for row in answer["configs"])
    assert "none matches all words; these match most; nothing has unheardof" in answer["summary"]
    answer = await call(client, "search_configs", query=["nebius", "qlora 8b"])
    assert "without nebius there are" in answer["summary"]
    answer = await call(client, "search_configs", content_match=["in no file at all"])
    assert "use fewer terms" in answer["summary"]


async def test_a_server_fetches_oumis_library_by_itself_and_answers_meanwhile(
    tmp_path: Path,
) -> None:
    with archive_server(tar_gz({"configs/recipes/acme/train.yaml": CONFIG})) as source:
        source.answers = [held]
        settings = Settings(home=tmp_path / "home", configs_url=source.url)
        parts = make_parts(settings, no_engine)
        catalog = CatalogService(parts.catalog.catalog, fetch_after_seconds=0)
        server = build_server(replace(parts, catalog=catalog), Options())
        async with Client(server) as client:
            await eventually(source.waiting.is_set)
            answer = await call(client, "search_configs", query=["acme"])
            assert "are being fetched" in answer["summary"]
            source.held.set()

            async def found() -> bool:
                answer = await call(client, "search_configs", query=["acme"])
                return [row["path"] for row in answer["configs"]] == ["recipes/acme/train.yaml"]

            await eventually(found)
    assert source.ranges == [None]


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("get_config", {"path": "starter/llama3.2/1b_sft_lor.yaml"}, "Did you mean starter/"),
        ("get_config", {"path": "../../../etc/passwd"}, "CONFIG_NOT_FOUND"),
        ("get_config", {"path": ""}, "INVALID_ARGUMENT"),
        ("search_configs", {"limit": 0}, "INVALID_ARGUMENT"),
        ("search_configs", {"limit": 101}, "INVALID_ARGUMENT"),
        ("search_configs", {"query": ["x" * 201]}, "INVALID_ARGUMENT"),
        ("search_configs", {"limits": 3}, "Did you mean"),
    ],
)
async def test_what_cannot_be_answered_is_refused_on_one_line(
    client: Client, tool: str, arguments: dict[str, object], expected: str
) -> None:
    text = await refused(client, tool, **arguments)
    assert expected in text
    assert "\n" not in text


@pytest.mark.parametrize("word", ["pipeline", "sweep", "Pipelines"])
async def test_a_search_for_pipelines_or_sweeps_names_the_guide(client: Client, word: str) -> None:
    found = await call(client, "search_configs", query=[word])
    assert "topic pipelines-and-sweeps" in found["summary"]
    guide = await call(client, "get_started", topic="pipelines-and-sweeps")
    assert "pipeline_path" in guide["guide"]
    assert "sweep_path" in guide["guide"]
