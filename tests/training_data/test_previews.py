"""Previews in a thread and in a process of their own."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flows.core.checks.launch import Launch, read_launch
from flows.core.configs.reader import read_config
from flows.core.errors import InvalidConfig, OperationTimeout
from flows.core.names import PREVIEW_FLOW
from flows.core.training_data.preview import DataFacts, DataPreview, DataQuestion
from flows.launcher.oumi.data_previews import DataPreviews, needs_process
from flows.machine_checks.training_data import TrainingDataCheck
from mcp_server.services.data_preview import DataPreviewService
from tests.support.waiting import eventually, is_gone
from tests.training_data.data_sets import Case, config, write

ANSWER = DataPreview(
    summary="s", split="train", kind="sft", legend="l", rows=[], facts=DataFacts(rows_checked=0)
)


def question(folder: Path, **given: Any) -> DataQuestion:
    content = config(**given)
    content["model"]["model_name"] = "org/elsewhere"
    return DataQuestion(content=content, folder=str(folder), seconds=0.5)


def previews(code: str) -> DataPreviews:
    return DataPreviews({"PATH": "/usr/bin"}, command=[sys.executable, "-c", code])


async def test_a_process_answers_in_the_clients_folder_with_the_jobs_variables(
    tmp_path: Path,
) -> None:
    code = (
        "import os, pathlib, sys\n"
        "pathlib.Path('seen').write_text(os.environ['MINE'] + os.environ['CUDA_VISIBLE_DEVICES'])\n"
        f"pathlib.Path(sys.argv[2]).write_text({ANSWER.model_dump_json()!r})\n"
    )
    answer = await previews(code).preview(question(tmp_path), envs={"MINE": "yes"})
    assert answer == ANSWER
    assert (tmp_path / "seen").read_text() == "yes"


async def test_a_reader_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 600 & echo $! > child; wait; sleep 600"
    hanging = DataPreviews(
        {"PATH": "/usr/bin:/bin"}, command=["/bin/sh", "-c", script], loading_seconds=3
    )
    with pytest.raises(OperationTimeout, match="was not read within"):
        await hanging.preview(question(tmp_path))
    child = int((tmp_path / "child").read_text())
    # The kernel ends a killed process when it next runs.
    await eventually(lambda: is_gone(child))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise KeyError('label')", r"crashed \(status 1\): KeyError: 'label'"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"crashed \(signal 11\)"),
        ("raise MemoryError", "took more memory"),
        ("import pathlib, sys; pathlib.Path(sys.argv[2]).write_text("
         "'INVALID_CONFIG: it is wrong. Correct it.'); sys.exit(1)", "it is wrong"),
    ],
)  # fmt: skip
async def test_a_reader_that_crashes_is_an_error_that_says_how(
    tmp_path: Path, code: str, said: str
) -> None:
    with pytest.raises(InvalidConfig, match=said):
        await previews(code).preview(question(tmp_path))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, ""),
        ({"name": "org/of-the-hub", "path": ""}, "org/of-the-hub is not a file on this machine"),
        ({"name": "mine"}, "Oumi has no class for mine"),
        ({"name": "vl_sft"}, "vl_sft runs code of oumi.datasets.vision_language.vision_jsonlines"),
        ({"split": {"collator_name": "vision_language_sft"}}, "images are decoded"),
    ],
)
def test_only_what_oumis_own_classes_read_from_files_is_read_in_the_worker(
    folder: Path, given: dict[str, Any], reason: str
) -> None:
    (folder / "train.jsonl").touch()
    asked = DataQuestion(content=config(**given), folder=str(folder))
    assert needs_process(asked) == reason
    asked.content["model"]["trust_remote_code"] = True
    assert needs_process(asked)


class SlowPreviews(DataPreviews):
    """Takes longer than a launch may."""

    asked = 0

    async def at_once(self, question: DataQuestion, *, within_seconds: float) -> None:
        self.asked += 1
        await asyncio.sleep(0)


class KnownPreviews(SlowPreviews):
    """Knows the answer."""

    async def at_once(self, question: DataQuestion, *, within_seconds: float) -> DataPreview:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.asked += 1
        return ANSWER


def launch(folder: Path, **given: Any) -> Launch:
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    case = Case("", config(**given), {"train.jsonl": [chat]})
    return read_launch(read_config(write(case, folder)), client_cwd=str(folder))


async def test_a_launch_does_not_wait_for_slow_remote_or_unknown_data(folder: Path) -> None:
    slow = SlowPreviews({})
    check = TrainingDataCheck(slow)
    assert await check.check(launch(folder)) == "Not looked at: it takes longer than 2 s."
    far = launch(folder, name="org/far", path="")
    said = "Not looked at: org/far is not a file on this machine; preview_data shows the rows."
    assert await check.check(far) == said
    assert (slow.asked, far.findings) == (1, [])


async def test_a_launch_with_the_same_data_is_not_delayed_again(folder: Path) -> None:
    known = KnownPreviews({})
    check = TrainingDataCheck(known)
    first = launch(folder)
    await check.check(first)
    await check.check(read_launch(read_config(folder / "train.yaml"), client_cwd=str(folder)))
    assert known.asked == 1
    (folder / "train.jsonl").write_text("{}\n")
    await check.check(first)
    assert known.asked == 2


class Calls:
    """Answers in place of the worker."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, Any], str]] = []

    async def call_again(
        self, flow: str, parameters: Mapping[str, Any], *_: object, name: str, **__: object
    ) -> DataPreview:
        self.asked.append((flow, parameters, name))
        return ANSWER


async def test_the_service_asks_the_worker_with_absolute_paths(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").touch()
    calls = Calls()
    service = DataPreviewService(calls)  # pyright: ignore[reportArgumentType]
    answer = await service.preview("train.yaml", client_cwd=str(tmp_path), rows=2)
    assert answer == ANSWER
    asked = {
        "config_path": str(tmp_path / "train.yaml"),
        "client_cwd": str(tmp_path),
        "split": "train",
        "rows": 2,
    }
    assert calls.asked == [(PREVIEW_FLOW, asked, f"{PREVIEW_FLOW} train.yaml")]
