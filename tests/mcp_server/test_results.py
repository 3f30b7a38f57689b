"""Results of jobs, as a client asks for them and copies them."""

from pathlib import Path

import pytest
from mcp.client import Client

from flows.core.results.manifest import write_manifest
from tests.mcp_server.calls import Submit, error, ok
from tests.mcp_server.prefect_stub import PrefectServer


class Job:
    """A job on this machine that wrote results."""

    def __init__(self, job_id: str, output: Path) -> None:
        self.id = job_id
        self.output = output

    def write(self, name: str, text: str = "x") -> Path:
        """Write a file of its results."""
        path = self.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


@pytest.fixture
async def job(submit: Submit, prefect: PrefectServer, config: Path, tmp_path: Path) -> Job:
    submitted = await submit()
    log_path = tmp_path / "job" / "log.txt"
    log_path.parent.mkdir()
    prefect.label(submitted["job_id"], log_path=str(log_path))
    return Job(submitted["job_id"], config.parent / "out")


@pytest.fixture
def can_collect(prefect: PrefectServer) -> None:
    """A deployment of copies, which no worker takes up."""
    flow = prefect.call("POST", "/flows/", {"name": "collect-results"})
    body = {"name": "default", "flow_id": flow["id"], "work_pool_name": "oumi"}
    prefect.call("POST", "/deployments/", body)


async def test_results_are_listed_with_absolute_paths_and_no_secrets(
    client: Client, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "tok-9d8f7a6b5c4d3e2f1a0b")
    job.write("model.safetensors")
    rows = job.write("rows.jsonl", '{"key": "tok-9d8f7a6b5c4d3e2f1a0b"}\n')
    found = await ok(client, "get_job_results", job_id=job.id[:8])
    assert [(one["path"], one["kind"]) for one in found["models"]] == [(str(job.output), "full")]
    assert found["folders"] == [str(job.output)]
    assert rows.name in str(found)
    assert "tok-9d8f7a6b5c4d3e2f1a0b" not in str(found)


async def test_an_answer_about_many_files_stays_small(client: Client, job: Job) -> None:
    for number in range(500):
        job.write(f"{number:04d}-{'é' * 80}.jsonl", "é" * 2000)
    result = await client.call_tool("get_job_results", {"job_id": job.id})
    (text,) = result.content
    assert text.type == "text"
    assert len(text.text.encode()) <= 12_000
    assert "of 500 files are shown" in text.text


async def test_jobs_and_folders_that_cannot_be_are_refused(
    client: Client, job: Job, tmp_path: Path
) -> None:
    given = {"job_id": job.id, "into": str(tmp_path / "copy")}
    assert "JOB_NOT_FOUND" in await error(client, "get_job_results", job_id="00000000")
    assert "JOB_NOT_FOUND" in await error(client, "collect_results", **given | {"job_id": "0" * 8})
    assert "no results to copy" in await error(client, "collect_results", **given)
    file = job.write("a.txt")
    for into in ("relative", f"{tmp_path}/a/../b", "", str(file), str(job.output)):
        text = await error(client, "collect_results", **given | {"into": into})
        assert text.startswith("INVALID_ARGUMENT: "), into
    for what in ("../x", "none", "/etc/passwd", "", "x" * 5000):
        text = await error(client, "collect_results", **given, what=[what])
        assert text.startswith("INVALID_ARGUMENT: "), what


@pytest.mark.parametrize("theirs", ["y", "longer"])
async def test_a_file_that_differs_is_named_at_once(
    client: Client, job: Job, tmp_path: Path, theirs: str
) -> None:
    job.write("a.txt", "x")
    path = tmp_path / "copy" / "a.txt"
    path.parent.mkdir()
    path.write_text(theirs)
    text = await error(client, "collect_results", job_id=job.id, into=str(path.parent))
    assert text.startswith(f"CONFLICT: {path} exists and differs")
    assert path.read_text() == theirs


async def test_a_link_out_of_the_target_is_refused_at_once(
    client: Client, job: Job, tmp_path: Path
) -> None:
    job.write("sub/a.txt")
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "sub").symlink_to(tmp_path)
    text = await error(client, "collect_results", job_id=job.id, into=str(copy))
    assert text.startswith("INVALID_ARGUMENT: ")
    assert "leads out of" in text


@pytest.mark.usefixtures("can_collect")
async def test_a_copy_is_a_job_and_the_same_call_joins_it(
    client: Client, job: Job, prefect: PrefectServer, tmp_path: Path
) -> None:
    job.write("a.txt")
    given = {"job_id": job.id, "into": str(tmp_path / "copy"), "what": ["files"]}
    copy = await ok(client, "collect_results", **given)
    assert (copy["state"], copy["into"]) == ("scheduled", given["into"])
    assert (await ok(client, "collect_results", **given))["job_id"] == copy["job_id"]
    others: list[dict[str, object]] = [{"what": []}, {"into": str(tmp_path / "other")}]
    for other in others:
        assert (await ok(client, "collect_results", **given | other))["job_id"] != copy["job_id"]
    listed = await ok(client, "list_jobs")
    assert {row["command"] for row in listed["jobs"]} >= {"collect", "train"}
    status = await ok(client, "get_job_status", job_id=copy["job_id"])
    assert (status["command"], status["name"]) == ("collect", copy["name"])
    text = await error(client, "collect_results", **given | {"job_id": copy["job_id"]})
    assert "is itself a copy of results" in text
    # Once it has ended, the next call goes on in a run of its own.
    prefect.set_states(copy["job_id"], "PENDING", "RUNNING", "FAILED")
    assert (await ok(client, "collect_results", **given))["job_id"] != copy["job_id"]
    write_manifest(tmp_path / "copy", job.id, {"a.txt": "0" * 64})
    found = await ok(client, "get_job_results", job_id=copy["job_id"])
    assert found["files"][0]["rows"] == [f"sha256 {'0' * 64}"]
