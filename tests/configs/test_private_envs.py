"""Secret variables of jobs: private files have them, and nothing else does."""

import stat
from pathlib import Path

import pytest

from flows.core.configs.yaml_text import mapping_of_yaml
from flows.core.errors import InvalidArgument, InvalidConfig
from flows.core.private_envs import PrivateEnvs
from flows.core.settings import Settings
from flows.launcher.job_environment import with_job_environment
from mcp_server.services.jobs.new_job import NewJob
from mcp_server.services.jobs.private_jobs import check_private_job

TOKEN = "hf_" + "Q7wZ" * 8
JOB = "resources: {cloud: local}\nrun: env\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OUMI_FLOWS_HOME", str(tmp_path / "home"))
    for name in ("HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def envs_of(
    tmp_path: Path, envs: dict[str, str], text: str = JOB, cloud: str = "local"
) -> dict[str, str]:
    (tmp_path / "job.yaml").write_text(text)
    new = NewJob(config_path="job.yaml", client_cwd=str(tmp_path), envs=envs, cloud=cloud)
    checked = check_private_job(new)
    assert TOKEN not in repr(checked.request)
    assert TOKEN not in repr(checked.plan)
    return checked.request.envs


@pytest.mark.parametrize("name", ["HF_TOKEN", "MY_API_KEY", "DB_PASSWORD", "PLAIN_NAME"])
def test_a_secret_is_in_a_private_file_alone_and_reaches_the_job(
    home: Path, tmp_path: Path, name: str
) -> None:
    envs = envs_of(tmp_path, {name: TOKEN, "LEVEL": "3"})
    assert envs["LEVEL"] == "3"
    assert envs[name].startswith("oumi-flows-private:")
    assert envs == envs_of(tmp_path, {name: TOKEN, "LEVEL": "3"}), "the same request again"
    files = list((home / "private-envs").iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    job = f"resources: {{cloud: local}}\nrun: env\nenvs: {{{name}: '{envs[name]}'}}\n"
    launched = with_job_environment(job, key="k", settings=Settings(home=home))
    assert mapping_of_yaml(launched)["envs"][name] == TOKEN


def test_the_clients_tokens_are_carried_to_jobs_on_this_machine(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NOT_CHOSEN", "a")
    envs = envs_of(tmp_path, {})
    assert set(envs) == {"HF_TOKEN"}
    assert PrivateEnvs(home / "private-envs").reveal(envs) == {"HF_TOKEN": TOKEN}
    assert PrivateEnvs(tmp_path / "another-machine").reveal(envs) == {}
    assert envs_of(tmp_path, {}, JOB + "envs: {HF_TOKEN: other}\n") == {}
    assert envs_of(tmp_path, {}, "resources: {cloud: gcp}\nrun: env\n", "gcp") == {}


def test_a_value_that_is_not_here_is_an_error(home: Path, tmp_path: Path) -> None:
    envs = envs_of(tmp_path, {"HF_TOKEN": TOKEN})
    with pytest.raises(InvalidConfig, match="HF_TOKEN is not kept on this machine"):
        PrivateEnvs(tmp_path / "other").reveal(envs)


@pytest.mark.parametrize("name", ["", "A-B", "1A", "A=B", "A B"])
def test_a_name_that_a_shell_cannot_set_is_refused(home: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be set"):
        envs_of(tmp_path, {name: "1"})
