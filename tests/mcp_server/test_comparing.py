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


async def seeds(
    client: Client, prefect: PrefectServer, config: Path, rate: float, losses: list[float]
) -> list[str]:
    """Jobs of one config with a seed each, which succeeded with these losses."""
    ids: list[str] = []
    for seed, loss in enumerate(losses):
        overrides = {"training.learning_rate": rate, "training.seed": seed}
        overrides |= {"training.output_dir": f"out-{rate}-{seed}"}
        given = {"config_path": config.name, "client_cwd": str(config.parent), "dry_run": False}
        job = await ok(client, "run_oumi_job", **given, overrides=overrides)
        prefect.set_states(job["job_id"], "RUNNING", "COMPLETED")
        prefect.label(job["job_id"], metrics=f'{{"eval_loss": {loss}}}')
        ids.append(job["job_id"])
    return ids


async def test_replicates_tell_a_difference_from_noise(
    client: Client, prefect: PrefectServer, config: Path
) -> None:
    one = await seeds(client, prefect, config, 0.001, [2.0, 2.02, 1.98])
    close = await seeds(client, prefect, config, 0.002, [2.01, 1.99, 2.03])
    far = await seeds(client, prefect, config, 0.003, [1.5, 1.52, 1.48])

    found = await ok(client, "compare_jobs", a=one[0], b=far[0])
    assert (set(found["replicates_a"]), set(found["replicates_b"])) == (set(one), set(far))
    (verdict,) = found["metrics"]
    assert (verdict["metric"], verdict["verdict"]) == ("eval_loss", "different")
    assert verdict["low"] < -0.5 < verdict["high"] < 0
    assert verdict["a"]["count"] == 3

    found = await ok(client, "compare_jobs", a=one[0], b=close[0])
    assert found["metrics"][0]["verdict"] == "not distinguishable"
    assert "Not distinguishable (3 and 3 replicates): eval_loss." in found["summary"]

    found = await ok(client, "compare_jobs", a=one[0], b=one[1])
    assert found["are_replicates"] is True
    assert found["metrics"] == []


async def test_two_single_jobs_do_not_tell_noise(
    client: Client, prefect: PrefectServer, config: Path
) -> None:
    (one,) = await seeds(client, prefect, config, 0.01, [2.0])
    (other,) = await seeds(client, prefect, config, 0.02, [1.0])
    found = await ok(client, "compare_jobs", a=one, b=other)
    assert found["metrics"][0]["verdict"] == "unknown"
    assert "run both again with other seeds" in found["summary"]


async def test_an_override_that_changed_nothing_is_named(
    client: Client, prefect: PrefectServer, config: Path
) -> None:
    given = {"config_path": config.name, "client_cwd": str(config.parent), "dry_run": False}
    overrides = {
        "training.max_steps": 5,  # as in the config
        "training.learning_rate": 0.01,
        "training.optimizer": "sgd",
        "training.seed": 42,  # as by default
        "training.logging_steps": 3,
    }
    job = await ok(client, "run_oumi_job", **given, overrides=overrides)
    prefect.set_states(job["job_id"], "RUNNING")
    trained = anyio.Path(config.parent / "out" / "telemetry" / "training_config.yaml")
    await trained.parent.mkdir(parents=True)
    await trained.write_text(
        "training: {max_steps: 5, learning_rate: 1.0e-2, optimizer: SGD, seed: 42, "
        "logging_steps: 50}\n"
    )
    prefect.set_states(job["job_id"], "COMPLETED")
    found = await ok(client, "compare_jobs", a=job["job_id"], b=job["job_id"])
    assert {one["key"]: one["effect"] for one in found["overrides"]} == {
        "training.max_steps": "changed nothing",
        "training.learning_rate": "took effect",
        "training.optimizer": "took effect",
        "training.seed": "changed nothing",
        "training.logging_steps": "not applied",
    }
    assert "Overrides changed nothing: training.max_steps, training.seed." in found["summary"]
    assert "Overrides not applied: training.logging_steps." in found["summary"]
