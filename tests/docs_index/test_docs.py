"""`get_docs` and `list_modules` on the installed Oumi."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from flows.core.configs.schema import JUDGE_OPTIONS, load_schema
from flows.core.errors import EngineUnavailable, InternalError, OperationTimeout
from flows.core.settings import Settings
from mcp_server.docs_index.keeper import DocsKeeper, Package, find_oumi
from mcp_server.docs_index.store import FORMAT, DocsStore
from mcp_server.server import Options, build_server, make_parts
from mcp_server.services.docs import DocsService, FoundDoc
from tests.mcp_server.calls import error, ok

MAX_BYTES = 12_000


async def find(docs: DocsService, *query: str, **filters: Any) -> list[FoundDoc]:
    given = {"module": "", "kind": "", "limit": 10, "summarize": False} | filters
    answer = await docs.search(query, **given)
    assert len(answer.model_dump_json().encode()) <= MAX_BYTES
    return answer.results


async def first(docs: DocsService, *query: str, **filters: Any) -> str:
    return (await find(docs, *query, **filters))[0].qualified_name


def test_every_config_class_has_the_fields_that_the_imported_one_has(folder: Path) -> None:
    (path,) = folder.glob("*.sqlite3")
    store = DocsStore(path)
    for name, fields in load_schema()["classes"].items():
        found = [hit.entry for hit in store.find_named(name) if hit.entry.name == name]
        # What flows.core.configs adds to the exported schema is not a field of the class.
        expected = set(fields) - {"instance_id"}
        if name == "JudgeConfig":
            expected -= JUDGE_OPTIONS.keys()
        assert any({field.name for field in entry.fields} == expected for entry in found), name
        for entry in found:
            for field in entry.fields:
                if fields.get(field.name, {}).get("required"):
                    assert field.default is None, (name, field)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("TrainingParams", "oumi.core.configs.TrainingParams"),
        ("trainingparams", "oumi.core.configs.TrainingParams"),
        ("oumi.core.configs.TrainingParams", "oumi.core.configs.TrainingParams"),
        (
            "oumi.core.configs.params.training_params.TrainingParams",
            "oumi.core.configs.TrainingParams",
        ),
        ("learning_rate", "oumi.core.configs.TrainingParams"),
        ("learning rate", "oumi.core.configs.TrainingParams"),
        ("TRL_GRPO", "oumi.core.configs.TrainerType"),
        ("text_sft_jsonl", "oumi.datasets.TextSftJsonLinesDataset"),
        ("infer", "oumi.infer"),
        ("Conversation.last_message", "oumi.core.types.Conversation.last_message"),
        ("lora quantization", "oumi.core.configs.PeftParams"),
        ("how do I train with LoRA adapters and quantization?", "oumi.core.configs.PeftParams"),
    ],
)
async def test_what_is_asked_for_comes_first(docs: DocsService, query: str, expected: str) -> None:
    assert await first(docs, query) == expected


async def test_a_field_asked_for_by_name_is_shown_in_full_and_alone(docs: DocsService) -> None:
    found, *_ = await find(docs, "TrainingParams.optimizer")
    (field,) = found.fields
    assert (field.name, field.type, field.default) == ("optimizer", "str", "'adamw_torch'")
    assert found.fields_left_out > 50


async def test_the_largest_class_has_all_its_fields_with_types_and_defaults(
    docs: DocsService,
) -> None:
    found, *_ = await find(docs, "TrainingParams")
    assert {field.name for field in found.fields} == set(load_schema()["classes"]["TrainingParams"])
    assert found.fields_left_out == 0


@pytest.mark.parametrize("query", ["dataset", "config", "model", "a", "engine", "the"])
async def test_an_answer_stays_within_its_bound_and_says_what_it_left_out(
    docs: DocsService, query: str
) -> None:
    answer = await docs.search([query], module="", kind="", limit=50, summarize=False)
    assert len(answer.model_dump_json().encode()) <= MAX_BYTES
    if len(answer.results) < answer.total_matches:
        assert f"the first {len(answer.results)} are shown" in answer.summary


async def test_filters_and_summaries(docs: DocsService) -> None:
    methods = await find(docs, "infer", kind="method")
    assert {entry.kind for entry in methods} == {"method"}
    classes = await find(docs, "dataset", kind="class")
    assert {"class", "dataclass", "enum"} >= {entry.kind for entry in classes}
    inside = await find(docs, "cluster", module="oumi.launcher")
    assert all(entry.module.startswith("oumi.launcher") for entry in inside)
    brief = await find(docs, "TrainingConfig", "DataParams", summarize=True)
    assert [entry.name for entry in brief[:2]] == ["TrainingConfig", "DataParams"]
    assert all(entry.fields == [] == entry.sections for entry in brief)


async def test_a_name_that_is_not_there_gets_the_nearest_ones(docs: DocsService) -> None:
    answer = await docs.search(["TrainingParms"], module="", kind="", limit=1, summarize=False)
    assert answer.results == []
    assert "The nearest names are TrainingParams" in answer.summary


async def test_the_modules_are_listed_within_the_bound(docs: DocsService) -> None:
    answer = await docs.modules()
    assert len(answer.model_dump_json().encode()) <= MAX_BYTES
    configs = next(module for module in answer.modules if module.module == "oumi.core.configs")
    assert configs.class_count > 50
    assert configs.description
    assert "oumi.utils.io_utils" in answer.more
    assert not any({"mcp", "cli"} & set(module.split(".")) for module in answer.more)


async def test_a_client_asks_with_one_name_or_several(tmp_path: Path, folder: Path) -> None:
    settings = Settings(home=tmp_path)
    settings.docs_dir.symlink_to(folder)
    async with Client(build_server(make_parts(settings, no_engine), Options())) as client:
        one = await ok(client, "get_docs", query="TrainingParams", limit=1)
        several = await ok(client, "get_docs", query=["TrainingParams", "DataParams"], limit=2)
        assert [entry["name"] for entry in one["results"]] == ["TrainingParams"]
        assert [e["name"] for e in several["results"]] == ["TrainingParams", "DataParams"]
        assert (await ok(client, "list_modules"))["total_entries"] > 1000
        text = await error(client, "get_docs", query=" ")
        assert text.startswith("INVALID_ARGUMENT: query is empty")
        text = await error(client, "get_docs", query="x", kind="module")
        assert text.startswith("INVALID_ARGUMENT: get_docs: kind")


async def test_without_oumi_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="Oumi is not installed in this server's Python"):
        await DocsKeeper(tmp_path, find=lambda: None).store()


async def test_a_caller_waits_only_so_long_and_the_build_goes_on(tmp_path: Path) -> None:
    package = find_oumi()
    assert package is not None
    keeper = DocsKeeper(tmp_path, wait_seconds=0)
    with pytest.raises(OperationTimeout, match=rf"oumi {package.version} is being indexed"):
        await keeper.store()
    async with asyncio.timeout(60):
        while True:
            try:
                store = await keeper.store()
            except OperationTimeout:
                await asyncio.sleep(0.05)
            else:
                break
    assert store.count() > 1000
    keeper.close()


async def test_a_broken_index_is_built_again_and_a_broken_package_is_reported(
    tmp_path: Path,
) -> None:
    source = tmp_path / "lib"
    source.mkdir()
    (source / "__init__.py").write_text("def f() -> None: ...\n")
    package = Package(source, "1")
    index = tmp_path / f"oumi-1-{FORMAT}.sqlite3"
    index.write_bytes(b"SQLite format 3\0 and then nothing")
    keeper = DocsKeeper(tmp_path, find=lambda: package, wait_seconds=60)
    assert (await keeper.store()).count() == 1
    (source / "__init__.py").write_text("def f(:\n")
    index.unlink()
    with pytest.raises(InternalError, match=r"oumi 1 could not be indexed \(SyntaxError"):
        await keeper.store()


async def test_two_servers_build_one_index(tmp_path: Path) -> None:
    source = tmp_path / "lib"
    source.mkdir()
    (source / "__init__.py").write_text("def f() -> None: ...\n")
    package = Package(source, "1")
    keepers = [DocsKeeper(tmp_path, find=lambda: package, wait_seconds=60) for _ in range(2)]
    stores = await asyncio.gather(*(keeper.store() for keeper in keepers))
    assert [store.count() for store in stores] == [1, 1]
    names = {f"oumi-1-{FORMAT}.lock", f"oumi-1-{FORMAT}.sqlite3", "lib"}
    assert set(os.listdir(tmp_path)) == names  # noqa: PTH208 - not in a coroutine's way


def test_the_server_looks_things_up_without_importing_oumi_or_griffe(folder: Path) -> None:
    script = f"""
import asyncio, sys
from pathlib import Path
from mcp_server.docs_index.keeper import DocsKeeper
from mcp_server.services.docs import DocsService
docs = DocsService(DocsKeeper(Path({str(folder)!r})))
found = asyncio.run(docs.search(["TrainingParams"], module="", kind="", limit=1, summarize=True))
assert found.results
print([name for name in ("oumi", "griffe", "torch") if name in sys.modules])
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def no_engine(*, report: object, after_down: bool) -> Any:
    raise EngineUnavailable("There is no engine in this test", "Start none")
