import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flows.core.configs.clouds import CloudKind, kind_of
from flows.core.configs.prices import hourly_price
from mcp_server.services.jobs.syncing import SyncPreview, preview

needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
RUN = "python train.py --data=data/train.jsonl\noumi train -c conf/train.yaml >log/out.txt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose data is ignored, by git in two folders."""
    folder = tmp_path / "my project"
    files = {
        "train.py": "x" * 100,
        "conf/train.yaml": "model: {model_name: models/tiny}\n",
        "data/train.jsonl": "y" * 1000,
        "models/tiny/weights": "z",
        "notes.txt": "n",
        ".gitignore": "/data\nnotes.txt\n",
        "models/.gitignore": "tiny\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def job(folder: Path, **more: Any) -> dict[str, Any]:
    return {"working_dir": str(folder), "run": RUN, **more}


@needs_rsync
@pytest.mark.parametrize("kind", [kind_of("gcp"), kind_of("slurm")])
def test_ignored_files_are_not_copied_and_reported_if_the_job_uses_them(
    folder: Path, kind: CloudKind
) -> None:
    found = preview(job(folder), kind=kind)
    # train.py, conf/train.yaml and two .gitignore
    assert found == SyncPreview(
        files=4,
        bytes=100 + 33 + 16 + 5,
        left_out_but_used=["data/train.jsonl", "models/tiny"],
    )


@needs_rsync
def test_skypilot_goes_by_its_own_file_where_there_is_one(folder: Path) -> None:
    (folder / ".skyignore").write_text("*.py\n")
    found = preview(job(folder), kind=kind_of("gcp"))
    assert found is not None
    assert (found.files, found.left_out_but_used) == (7, ["train.py"])


@needs_rsync
def test_oumis_rsync_reads_the_ignored_files_of_the_folder_itself_alone(folder: Path) -> None:
    found = preview(job(folder), kind=kind_of("polaris"))
    assert found is not None
    assert found.left_out_but_used == ["data/train.jsonl"]


@needs_rsync
def test_mounted_files_are_counted_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t" * 50)
    mounts = {"~/token": str(tmp_path / "token"), "~/bucket": "s3://bucket"}
    found = preview(job(folder, file_mounts=mounts), kind=kind_of("slurm"))
    assert found is not None
    assert (found.files, found.bytes) == (5, 204)


def test_nothing_is_copied_to_this_machine_and_to_modal(folder: Path) -> None:
    assert preview(job(folder), kind=kind_of("local")) is None
    found = preview(job(folder, resources={"cloud": "modal"}), kind=kind_of("modal"))
    assert found is not None
    assert found.files == 0


def test_what_cannot_be_counted_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    found = preview(job(folder), kind=kind_of("slurm"))
    assert found == SyncPreview(note="Not counted: rsync is not installed here.")

    def slow(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("rsync", 10)

    monkeypatch.setattr(subprocess, "run", slow)
    found = preview(job(folder), kind=kind_of("slurm"))
    assert found == SyncPreview(note="Not counted: it takes longer than 10 s.")


CATALOGUE = """InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region,AvailabilityZone
p4d.24xlarge,A100,8.0,32.77,12.5,us-east-1,us-east-1a
p4d.24xlarge,A100,8.0,30.1,,eu-west-1,eu-west-1a
m6i.large,,,0.096,0.04,us-east-1,us-east-1a
"""


@pytest.mark.parametrize(
    ("resources", "nodes", "price"),
    [
        ({"accelerators": "A100:8"}, 1, 30.1),
        ({"accelerators": "a100:8", "region": "us-east-1"}, 2, 65.54),
        ({"accelerators": "A100:8", "use_spot": True}, 1, 12.5),
        ({"instance_type": "m6i.large"}, 1, 0.096),
        ({"accelerators": "A100:1"}, 1, None),
        ({"accelerators": "A100:8", "zone": "us-east-1b"}, 1, None),
        ({"cpus": "2+"}, 1, None),
        ({"cloud": "gcp", "accelerators": "A100:8"}, 1, None),
        ({"cloud": "azure", "accelerators": "A100:8"}, 1, None),
        ({"cloud": "slurm", "accelerators": "A100:8"}, 1, None),
    ],
)
def test_the_price_is_that_of_the_cheapest_machine_that_fits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    resources: dict[str, Any],
    nodes: int,
    price: float | None,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for cloud in ("aws", "gcp"):
        folder = tmp_path / ".sky" / "catalogs" / "v8" / cloud
        folder.mkdir(parents=True)
        (folder / "vms.csv").write_text(CATALOGUE)
    config = {"resources": {"cloud": "aws", **resources}, "num_nodes": nodes}
    assert hourly_price(config) == price
