"""The plan of the tiny example, run for real."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.core.configs.checkpoints import whole_checkpoints
from flows.core.configs.plan import RESUME_KEY, JobPlan, make_plan
from flows.core.configs.reader import load_snapshot, read_config, save_snapshot
from flows.core.models import JobRequest

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny"
TIMEOUT_SECONDS = 240


def run(arguments: list[str], folder: Path, envs: dict[str, str]) -> str:
    bin_dir = Path(sys.executable).parent
    done = subprocess.run(
        arguments,
        check=False,
        cwd=folder,
        env=os.environ
        | {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        | {"PATH": f"{bin_dir}:{os.environ['PATH']}"}
        | envs,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(2 * TIMEOUT_SECONDS)
def test_a_plans_script_trains_and_resumes_from_the_last_whole_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "it's a folder"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("data", "runs"))
    run([sys.executable, "make_tiny.py", "data"], folder, {})
    config = read_config(folder / "train.yaml")
    snapshots = tmp_path / "configs"
    request = JobRequest(
        config_path=str(config.path),
        client_cwd=str(folder),
        overrides={"training.max_steps": 10, "training.save_steps": 5},
        config_sha256=save_snapshot(config.text, snapshots),
    )
    config.path.unlink()

    def run_plan(plan: JobPlan) -> list[float]:
        job = yaml.safe_load(plan.job_config)
        output = run(["bash", "-ec", job["run"]], Path(job["working_dir"]), job["envs"])
        return [float(loss) for loss in re.findall(r"\{'loss': '([\d.]+)'", output)]

    plan = make_plan(request, load_snapshot(request.config_sha256 or "", snapshots))
    losses = run_plan(plan)
    assert len(losses) == 3
    assert losses[-1] < losses[0]

    output_dir = Path(plan.output_dir or "")
    (output_dir / "checkpoint-10" / "trainer_state.json").unlink()
    checkpoint = next(whole_checkpoints(output_dir), None)
    assert checkpoint is not None
    assert checkpoint.step == 5
    config = load_snapshot(request.config_sha256 or "", snapshots)
    overrides = {**request.overrides, RESUME_KEY: str(checkpoint.path)}
    resuming = request.model_copy(update={"overrides": overrides})
    # Step 10 alone is left to log.
    assert run_plan(make_plan(resuming, config)) == pytest.approx(losses[-1:])
