"""Two jobs beside each other, through the tool."""

from pathlib import Path

import anyio
from mcp.client import Client

from tests.mcp_server.calls import error, ok
from tests.mcp_server.prefect_stub import PrefectServer


async def test_two_jobs_differ_in_what_they_were_given(client: Client, config: Path) -> None:
    given = {"config_path": config.name, "client_cwd": str(config.parent), "dry_run": False}
    one = await ok(client, "run_oumi_job", **given, overrides={"training.seed": 1})
    path = anyio.Path(config)
    await path.write_text(
        (await path.read_text()).replace("output_dir: out", "output_dir: elsewhere")
    )
    other = await ok(client, "run_oumi_job", **given, max_retries=2)

    found = await ok(client, "compare_jobs", a=one["job_id"], b=other["job_id"])

    differing = {it["what"]: (it["a"], it["b"]) for it in found["inputs"]}
    assert differing == {
        "config.training.output_dir": ("out", "elsewhere"),
        "config.training.seed": ("1", None),
        "request.max_retries": ("0", "2"),
    }
    assert {it["what"] for it in found["results"]} == {"output_dir"}
    assert found["summary"].startswith("3 inputs and 1 result of ")


async def test_two_evaluations_differ_in_their_metrics(
    client: Client, prefect: PrefectServer, config: Path, tmp_path: Path
) -> None:
    given = {"config_path": config.name, "client_cwd": str(config.parent), "dry_run": False}
    kept, labelled = [await ok(client, "run_oumi_job", **given) for _ in range(2)]
    prefect.label(kept["job_id"], metrics='{"em.exact_match": 0.75, "loss": 1.5}')
    log = anyio.Path(tmp_path / "log.txt")
    await log.write_text('{"em.exact_match": 0.5}\n{"loss": 1.5}\n')
    prefect.label(labelled["job_id"], log_path=str(log))

    found = await ok(client, "compare_jobs", a=kept["job_id"], b=labelled["job_id"])

    assert found["results"] == [{"what": "metrics.em.exact_match", "a": "0.75", "b": "0.5"}]


async def test_a_job_does_not_differ_from_itself(client: Client, config: Path) -> None:
    given = {"config_path": config.name, "client_cwd": str(config.parent), "dry_run": False}
    job = await ok(client, "run_oumi_job", **given)
    found = await ok(client, "compare_jobs", a=job["job_id"], b=job["job_id"])
    assert (found["inputs"], found["results"]) == ([], [])


async def test_secrets_are_not_shown(client: Client, tmp_path: Path) -> None:
    config = anyio.Path(tmp_path / "job.yaml")
    ids: list[str] = []
    for token in ("first-token", "second-token"):
        await config.write_text(
            f"name: x\nresources: {{cloud: local}}\nenvs: {{WANDB_TOKEN: {token}}}\nrun: echo\n"
        )
        given = {"config_path": "job.yaml", "client_cwd": str(tmp_path), "dry_run": False}
        ids.append((await ok(client, "run_oumi_job", **given))["job_id"])
    found = await ok(client, "compare_jobs", a=ids[0], b=ids[1])
    assert "-token" not in str(found)


async def test_a_job_that_is_not_there_cannot_be_compared(client: Client) -> None:
    said = await error(client, "compare_jobs", a="0" * 36, b="1" * 36)
    assert said.startswith("JOB_NOT_FOUND: ")
