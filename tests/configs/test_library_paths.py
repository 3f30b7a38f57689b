"""``oumi://`` paths and Oumi's aliases, wherever a config is asked for."""

from pathlib import Path

import pytest

from flows.core.configs.checks import parse_command
from flows.core.configs.clouds import known_cloud
from flows.core.configs.library import find_in_library, path_of_alias
from flows.core.configs.reader import resolve_config_path
from flows.core.configs.schema import ConfigType
from flows.core.errors import ConfigNotFound
from flows.core.models import Command
from flows.core.settings import Settings
from mcp_server.catalog.catalog import Catalog
from mcp_server.catalog.library import OumiLibrary
from mcp_server.services.jobs.new_job import NewJob
from mcp_server.services.jobs.submitting import check_job

TRAIN = "model: {model_name: a/b}\ndata: {train: {datasets: [{dataset_name: a/c}]}}\n"
PLACE = "recipes/llama3_1/sft/8b_lora"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    library = tmp_path / "library"
    (library / PLACE).mkdir(parents=True)
    (library / PLACE / "train.yaml").write_text(TRAIN)
    (library / PLACE / "gcp_job.yaml").write_text(
        "resources: {cloud: gcp}\nrun: oumi train -c oumi://configs/x.yaml\n"
    )
    (tmp_path / "secret.yaml").write_text("a: 1\n")
    monkeypatch.setenv("OUMI_FLOWS_CONFIGS_DIR", str(library))
    monkeypatch.setenv("OUMI_FLOWS_HOME", str(tmp_path / "home"))
    return library


@pytest.mark.parametrize(
    "name", [f"oumi://configs/{PLACE}/train.yaml", f"OUMI://configs/{PLACE}/train.yaml",
             f"oumi:///configs/{PLACE}/train.yaml", f"oumi://{PLACE}/train.yaml",
             "llama3.1-8b-lora"]
)  # fmt: skip
def test_a_path_of_the_library_is_one_of_a_config(library: Path, tmp_path: Path, name: str) -> None:
    found = resolve_config_path(name, str(tmp_path), ConfigType.TRAINING)
    assert found == library / PLACE / "train.yaml"
    job = check_job(NewJob(config_path=name, client_cwd=str(tmp_path), command="Train"))
    assert job.request.config_path == str(found)


def test_a_file_comes_before_an_alias_of_its_name(library: Path, tmp_path: Path) -> None:
    (tmp_path / "llama3.1-8b-lora").write_text(TRAIN)
    found = resolve_config_path("llama3.1-8b-lora", str(tmp_path), ConfigType.TRAINING)
    assert found == tmp_path / "llama3.1-8b-lora"


@pytest.mark.parametrize(
    ("name", "words"),
    [(f"oumi://configs/{PLACE}/trian.yaml", f"Did you mean oumi://configs/{PLACE}/train.yaml"),
     ("oumi://../secret.yaml", "has no config"), ("oumi://", "has no config")],
)  # fmt: skip
def test_a_path_that_the_library_lacks_is_said(library: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigNotFound, match=words):
        find_in_library(name)


def test_a_library_that_is_not_here_is_said_with_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigNotFound, match=r"not on this machine\. Fetch it with search_configs"):
        find_in_library("oumi://configs/a.yaml", Settings(home=tmp_path))


def test_an_alias_means_the_config_of_its_command() -> None:
    assert path_of_alias("llama3.1-8b", ConfigType.TRAINING).endswith("sft/8b_full/train.yaml")
    assert "infer" in path_of_alias("llama3.1-8b", ConfigType.INFERENCE)
    assert path_of_alias("llama3.1-8b", ConfigType.SYNTHESIS) == ""
    assert path_of_alias("no-such-model", None) == ""


@pytest.mark.parametrize(
    "name", [f"{PLACE}/train.yaml", "llama3_1/sft/8b_lora", "8b_lora", "8b_lora/train",
             f"oumi://configs/{PLACE}/train.yaml", f"configs/{PLACE}/train", "llama3.1-8b-lora"]
)  # fmt: skip
def test_a_config_is_got_by_any_unique_part_of_its_path(
    library: Path, tmp_path: Path, name: str
) -> None:
    settings = Settings(home=tmp_path / "home", configs_dir=library)
    catalog = Catalog(OumiLibrary(settings), recipes=tmp_path / "none")
    assert catalog.get(name).entry.path == f"{PLACE}/train.yaml"


@pytest.mark.parametrize("text", ["train", "Train", " TRAIN ", "Evaluate", "EVAL", "Synth"])
def test_a_command_is_read_whatever_its_case(text: str) -> None:
    assert parse_command(text) in Command


@pytest.mark.parametrize(
    ("text", "cloud"), [("GCP", "gcp"), ("Local", "local"), ("aws ", "aws"), ("Foo", "Foo")]
)
def test_a_cloud_is_known_whatever_its_case(text: str, cloud: str) -> None:
    assert known_cloud(text) == cloud
