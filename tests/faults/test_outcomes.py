"""How jobs end, and what is said of it, from the script to the answer of a tool."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
import yaml

from tests.support.job_driver import JobDriver, job_processes
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

MANY_BYTES = 300_000_000
ANSWER_SECONDS = 2.0


def write_yaml(folder: Path, name: str, content: object) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


async def test_a_script_that_fails_says_its_exit_code_and_its_last_error(jobs: JobDriver) -> None:
    job_id = await jobs.submit("echo 'ValueError: no such luck'\nexit 3")
    status = await jobs.reaching(job_id, "failed")
    assert status["termination_reason"] == "nonzero_exit"
    assert "code 3" in status["message"]
    assert "ValueError: no such luck" in status["message"]
    assert status["error_tail"] == "ValueError: no such luck"


async def test_a_failed_setup_fails_the_job_before_its_script(jobs: JobDriver) -> None:
    ran = jobs.folder / "ran"
    config = write_yaml(
        jobs.folder,
        "setup",
        {"resources": {"cloud": "local"}, "setup": "false", "run": f"touch '{ran}'"},
    )
    status = await jobs.reaching(await jobs.submit_config(config), "failed")
    assert status["termination_reason"] == "setup_failed"
    assert not ran.exists()


@pytest.mark.slow
async def test_a_missing_model_folder_fails_with_oumis_own_words(jobs: JobDriver) -> None:
    data = jobs.folder / "train.jsonl"
    data.write_text('{"messages": [{"role": "user", "content": "hello"}]}\n')
    config = write_yaml(
        jobs.folder,
        "train",
        {
            "model": {"model_name": str(jobs.folder / "no-such-model")},
            "data": {
                "train": {
                    "datasets": [{"dataset_name": "text_sft_jsonl", "dataset_path": str(data)}]
                }
            },
            "training": {"trainer_type": "TRL_SFT", "output_dir": "out", "max_steps": 1},
        },
    )
    job_id = await jobs.submit_config(config, skip_preflight=True)
    status = await jobs.reaching(job_id, "failed", timeout=120)
    assert status["termination_reason"] == "nonzero_exit"
    assert "Error" in status["message"]
    assert "no-such-model" in status["message"]
    assert "no-such-model" in status["error_tail"]


@pytest.mark.parametrize("victim", ["bash", "sleep"])
async def test_a_job_that_a_person_kills_with_signal_9_reads_as_killed(
    jobs: JobDriver, victim: str
) -> None:
    job_id = await jobs.submit("sleep 600\necho not reached")

    def process() -> int:
        found = {process.name(): process.pid for process in job_processes(job_id)}
        return found.get(victim, 0) if "sleep" in found else 0

    os.kill(await eventually(process, timeout=30), signal.SIGKILL)
    status = await jobs.reaching(job_id, "failed")
    assert status["termination_reason"] == "killed"
    assert "killed by signal 9" in status["message"]
    assert job_processes(job_id) == []


async def test_300_mb_without_a_line_break_slow_nothing_down(jobs: JobDriver) -> None:
    go = jobs.folder / "go"
    job_id = await jobs.submit(
        f"head -c {MANY_BYTES} /dev/zero | tr '\\0' x\n"
        f"until [ -e '{go}' ]; do sleep 0.1; done\necho; echo the end"
    )
    await jobs.reaching(job_id, "running")

    async def is_written() -> bool:
        status = await jobs.status(job_id)
        return size(Path(status["log_path"] or "/nowhere")) >= MANY_BYTES

    await eventually(is_written, timeout=60)
    for ended in (False, True):
        before = time.perf_counter()
        logs = await jobs.call("get_job_logs", job_id=job_id)
        await jobs.status(job_id)
        assert time.perf_counter() - before < ANSWER_SECONDS
        assert (len(logs["logs"]) < 12_000, "bytes were cut" in logs["summary"]) == (True, True)
        if not ended:
            go.touch()
            await jobs.reaching(job_id, "succeeded")
    assert logs["logs"].endswith("the end")


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def test_bytes_that_are_no_text_are_shown_as_such(jobs: JobDriver) -> None:
    job_id = await jobs.submit(r"printf 'good\n\xff\xfe\x80 bad \xc3\n\x00\x1b[31mred\x1b[0m\n'")
    await jobs.reaching(job_id, "succeeded")
    logs = await jobs.call("get_job_logs", job_id=job_id)
    good, bad, red = logs["logs"].split("\n")
    assert (good, "red" in red) == ("good", True)
    assert bad.startswith("\ufffd")
    assert " bad " in bad


async def test_folders_with_spaces_and_quotes_work(jobs: JobDriver) -> None:
    folder = jobs.folder / 'it\'s a "folder" $HOME `x` \\ ü'
    folder.mkdir()
    config = write_yaml(folder, "odd 'name'", {"resources": {"cloud": "local"}, "run": "pwd"})
    job_id = await jobs.submit_config(Path(config.name), client_cwd=str(folder))
    await jobs.reaching(job_id, "succeeded")
    assert (await jobs.call("get_job_logs", job_id=job_id))["logs"] == str(folder)


async def test_a_job_can_have_any_name_of_one_line(jobs: JobDriver) -> None:
    names = ["a/b/../c", "..", ".hidden", "two words", "emoji 🚀", "it's $HOME", "x" * 100]
    ids = await asyncio.gather(*(jobs.submit("true", job_name=name) for name in names))
    for name, job_id in zip(names, ids, strict=True):
        status = await jobs.reaching(job_id, "succeeded")
        assert status["name"] == name


async def test_a_name_too_long_or_of_several_lines_is_refused(jobs: JobDriver) -> None:
    config = write_yaml(jobs.folder, "job", {"resources": {"cloud": "local"}, "run": "true"})
    for name in ("x" * 300, "two\nlines"):
        arguments = {"config_path": str(config), "client_cwd": str(jobs.folder), "job_name": name}
        error = await jobs.error("run_oumi_job", **arguments, dry_run=False)
        assert error.startswith("INVALID_ARGUMENT: ")
        assert "job_name" in error


async def test_a_name_of_300_characters_in_the_config_is_no_hindrance(jobs: JobDriver) -> None:
    content = {"name": "n" * 300, "resources": {"cloud": "local"}, "run": "true"}
    job_id = await jobs.submit_config(write_yaml(jobs.folder, "long", content))
    await jobs.reaching(job_id, "succeeded")
