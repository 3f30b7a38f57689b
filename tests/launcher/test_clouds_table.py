"""The table of docs/clouds.md of what each cloud supports is what the code does."""

from pathlib import Path

import pytest

from flows.core.configs.clouds import cloud_kinds
from flows.core.settings import Settings
from flows.launcher.cloud_backend import CloudBackend, make_backend
from flows.launcher.lasting_clusters import LastingClusters
from flows.launcher.local.backend import LocalBackend
from flows.launcher.oumi.backend import OumiBackend
from flows.launcher.sites.modal import ModalBackend
from flows.launcher.sites.polaris import PolarisBackend
from flows.launcher.sites.site import SlurmSiteBackend
from flows.launcher.sky.backend import SkyBackend
from flows.launcher.sky.server import SkyServer
from flows.launcher.slurm.backend import SlurmBackend

PAGE = Path(__file__).parents[2] / "docs" / "clouds.md"
DRIVEN_BY: dict[type[CloudBackend], str] = {
    LocalBackend: "this project",
    SlurmBackend: "this project, over ssh",
    SkyBackend: "SkyPilot's API server",
    ModalBackend: "Oumi's own client",
    SlurmSiteBackend: "Oumi's own client",
    PolarisBackend: "Oumi's own client",
    OumiBackend: "Oumi's own client",
}


def row(cloud: str, backend: CloudBackend) -> str:
    kind = type(backend)
    is_kept = isinstance(backend, LastingClusters) and kind.stop is LastingClusters.stop
    stops = can_stop(cloud) if kind is SkyBackend else not is_kept
    cells = [
        f"`{cloud}`",
        DRIVEN_BY[kind],
        yes(kind.read_log is not OumiBackend.read_log),
        yes(stops),
        yes(not is_kept),
        yes(kind is SkyBackend and stops),
    ]
    return f"| {' | '.join(cells)} |"


def can_stop(cloud: str) -> bool:
    from oumi.core.configs import JobConfig, JobResources

    return SkyServer().can_stop(JobConfig(resources=JobResources(cloud=cloud), run="x"))


def yes(it_is: bool) -> str:
    return "yes" if it_is else "no"


def test_the_page_has_what_each_cloud_supports(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    table = "\n".join(row(cloud, make_backend(cloud, settings)) for cloud in sorted(cloud_kinds()))
    assert table in PAGE.read_text(), f"docs/clouds.md should have:\n{table}"


def test_the_clouds_of_the_table_are_those_of_oumis_registry() -> None:
    from oumi import launcher

    assert set(cloud_kinds()) == set(launcher.which_clouds())


@pytest.mark.parametrize("cloud", ["lambda", "runpod"])
def test_a_cloud_whose_clusters_cannot_stop_is_known_as_such(cloud: str) -> None:
    assert not can_stop(cloud)
