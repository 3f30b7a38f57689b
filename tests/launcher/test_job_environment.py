from pathlib import Path

import yaml

from flows.core.settings import Settings
from flows.launcher.job_environment import HOOKS, with_job_environment

OURS = "".join(f"{hook}\n" for hook in HOOKS)


def envs_of(tmp_path: Path, envs: dict[str, str], cloud: str = "local") -> dict[str, str]:
    job = {"working_dir": str(tmp_path), "resources": {"cloud": cloud}, "envs": envs, "run": "x"}
    settings = Settings(home=tmp_path / "home")
    return yaml.safe_load(with_job_environment(yaml.safe_dump(job), key="k", settings=settings))[
        "envs"
    ]


def test_a_local_job_carries_its_key_and_the_progress_hook(tmp_path: Path) -> None:
    envs = envs_of(tmp_path, {"A": "1"})
    assert (envs["A"], envs["OUMI_FLOWS_JOB_KEY"]) == ("1", "k")
    assert Path(envs["OUMI_EXTRA_DEPS_FILE"]).read_text() == OURS


def test_a_cloud_job_carries_its_key_alone(tmp_path: Path) -> None:
    assert envs_of(tmp_path, {}, cloud="gcp") == {"OUMI_FLOWS_JOB_KEY": "k"}


def test_the_users_own_modules_stay_and_their_file_starts_from_the_jobs_folder(
    tmp_path: Path,
) -> None:
    (tmp_path / "deps.txt").write_text("mine.py\n")
    envs = envs_of(tmp_path, {"OUMI_EXTRA_DEPS_FILE": "deps.txt"})
    assert Path(envs["OUMI_EXTRA_DEPS_FILE"]).read_text() == f"mine.py\n{OURS}"


def test_a_file_of_modules_that_cannot_be_read_is_left_for_oumi_to_refuse(tmp_path: Path) -> None:
    envs = envs_of(tmp_path, {"OUMI_EXTRA_DEPS_FILE": "gone.txt"})
    assert envs["OUMI_EXTRA_DEPS_FILE"] == "gone.txt"
