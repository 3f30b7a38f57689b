"""What is particular to Modal: Oumi's real client over a package in the place of Modal's."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.core.errors import CloudUnavailable, ClusterUnreachable
from flows.core.models import JobHandle
from flows.core.settings import Settings
from flows.core.states import TerminationReason
from flows.launcher.oumi_launcher import OumiLauncher
from flows.launcher.port import LauncherState
from flows.launcher.sites.modal import ModalBackend
from tests.launcher.contract.subjects import new_key

CLUSTER = "cluster"


class Modal:
    """The cloud in one test, and a launcher for it in each worker there is."""

    def __init__(self, package: Any) -> None:
        self.package = package
        self.sandboxes = package.sandboxes()
        self.launcher = OumiLauncher(Settings())

    async def launch(self, key: str, run: str = "hold", setup: str = "") -> JobHandle:
        config = {"resources": {"cloud": "modal"}, "run": run, "setup": setup}
        return await self.launcher.launch(
            yaml.safe_dump(config), cloud="modal", cluster_name=CLUSTER, key=key
        )

    async def find(self, key: str) -> JobHandle | None:
        return await self.launcher.find(cloud="modal", cluster_name=CLUSTER, key=key)

    async def end(self, handle: JobHandle) -> tuple[LauncherState, TerminationReason | None]:
        seen = await self.launcher.observe_job(handle)
        assert seen is not None
        return seen.state, seen.reason


@pytest.fixture
def modal(fake_modal: Any, oumi_launcher: OumiLauncher) -> Modal:
    return Modal(fake_modal)


def forget_records() -> None:
    """As a worker that was killed before it could write anything, or one on another machine."""
    for record in (Settings().home / "modal" / "launched").iterdir():
        record.unlink()


async def test_oumis_own_list_has_no_job_by_its_name(modal: Modal) -> None:
    # Why its names are not used (oumi 0.9, `ModalClient.get_status`).
    from oumi.launcher.clients.modal_client import ModalClient

    handle = await modal.launch(new_key())
    assert ModalClient().get_status(handle.launcher_job_id).name == handle.launcher_job_id


async def test_a_worker_killed_after_the_sandbox_was_made_finds_it_again(modal: Modal) -> None:
    key = new_key()
    handle = await modal.launch(key)
    forget_records()
    assert await modal.find(key) == handle
    assert await modal.launch(key) == handle
    assert modal.sandboxes.job_names() == [key]


async def test_a_sandbox_that_has_ended_is_found_where_modal_still_tells_and_where_it_does_not(
    modal: Modal, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key()
    handle = await modal.launch(key, "exit 0")
    forget_records()
    assert await modal.find(key) == handle
    assert await modal.launch(key) == handle

    def without_terminated(app_name: str, name: str) -> None:
        raise modal.package.exception.NotFoundError(name)

    # As before modal 1.6.
    monkeypatch.setattr(modal.package.Sandbox, "from_name", without_terminated)
    assert await modal.find(key) is None
    other = new_key()
    again = await modal.launch(other, "exit 0")
    assert await modal.find(other) == again


async def test_of_two_workers_that_launch_at_once_both_have_the_one_sandbox(
    modal: Modal, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key()
    first = await modal.launch(key)
    looks: list[str] = []
    named = vars(ModalBackend)["_sandbox_id"]

    def blind_at_first(self: ModalBackend, name: str) -> str | None:
        looks.append(name)
        return None if len(looks) == 1 else named(self, name)

    forget_records()
    monkeypatch.setattr(ModalBackend, "_sandbox_id", blind_at_first)
    assert await modal.launch(key) == first
    assert modal.sandboxes.job_names() == [key]


async def test_a_cancel_that_modal_refuses_is_tried_again(
    modal: Modal, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Oumi logs a warning and goes on (oumi 0.9, `ModalClient.cancel`).
    handle = await modal.launch(new_key())

    def terminate(_: object) -> None:
        raise ConnectionError("gateway time-out")

    with monkeypatch.context() as patch:
        patch.setattr(modal.package.Sandbox, "terminate", terminate)
        with pytest.raises(ClusterUnreachable, match="gateway time-out"):
            await modal.launcher.cancel(handle, force=False)
    assert await modal.end(handle) == (LauncherState.RUNNING, None)
    await modal.launcher.cancel(handle, force=False)
    assert await modal.end(handle) == (LauncherState.CANCELLED, None)


@pytest.mark.parametrize(
    ("code", "state", "reason"),
    [
        (0, "succeeded", "completed"),
        (3, "failed", "nonzero_exit"),
        (124, "failed", "timed_out"),
        (137, "failed", "killed"),
    ],
)
async def test_the_exit_code_of_a_sandbox_says_how_the_job_ended(
    modal: Modal, code: int, state: str, reason: str
) -> None:
    handle = await modal.launch(new_key(), f"exit {code}")
    assert await modal.end(handle) == (state, reason)


async def test_an_error_of_modals_is_no_unknown_sandbox(
    modal: Modal, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Oumi takes it for one, and the job would be lost (oumi 0.9, `ModalClient.get_call`).
    handle = await modal.launch(new_key())

    def from_id(_: str) -> None:
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(modal.package.Sandbox, "from_id", from_id)
    with pytest.raises(ClusterUnreachable, match="reset by peer"):
        await modal.launcher.observe_job(handle)


async def test_the_names_under_which_sandboxes_run_are_its_clusters(modal: Modal) -> None:
    handle = await modal.launch(new_key())
    (cluster,) = (await modal.launcher.clusters("modal")).clusters
    assert (cluster.cluster_name, cluster.live_jobs) == (CLUSTER, [handle.launcher_job_id])


async def test_without_modals_package_a_launch_says_so_and_there_are_no_clusters(
    oumi_launcher: OumiLauncher, tmp_path: Path
) -> None:
    launcher = OumiLauncher(Settings())
    config = json.dumps({"resources": {"cloud": "modal"}, "run": "true"})
    with pytest.raises(CloudUnavailable, match=r"oumi\[modal\]"):
        await launcher.launch(config, cloud="modal", cluster_name=CLUSTER, key=new_key())
    assert (await launcher.clusters("modal")).clusters == []
