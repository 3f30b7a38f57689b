"""Oumi's cloud ``modal``, where each job is a sandbox of its own, named by its launch key.

Oumi's client (oumi 0.9, launcher/clients/modal_client.py) gives sandboxes no names and lists each
under its id (`launch`, `get_status`), so no launch can be found again. It reports any error as an
unknown sandbox (`get_call`), and ignores errors of a cancel and of a list (`cancel`,
`find_sandboxes_for_cluster`). Only its translation of job configs into sandboxes is used.
"""

import importlib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from flows.core.errors import CloudUnavailable, JobNotFound
from flows.core.models import JobHandle
from flows.core.private_files import write_private
from flows.core.settings import Settings
from flows.core.states import TerminationReason
from flows.launcher.oumi.backend import OumiBackend, why_it_ended
from flows.launcher.port import LauncherState, Observation

if TYPE_CHECKING:
    from oumi.core.configs import JobConfig

_IDS: Final = "sb-"
_SECONDS_UP, _TERMINATED = 124, 137
"""Exit codes of sandboxes that Modal ended at the time limit, and on request (modal 1.6.4,
`_result_returncode` in modal/sandbox/_common.py); scripts may end with them too."""


class ModalBackend(OumiBackend):
    """Modal.

    Only one running sandbox can have a name, so one of several concurrent launches wins. Modal
    lists no sandbox that has ended, so this class also records on disk which sandboxes were
    launched and which were cancelled.

    Args:
        cloud: Its name in Oumi's registry.
        settings: Where the records are kept.
    """

    def __init__(self, cloud: str, settings: Settings) -> None:
        super().__init__(cloud, settings)
        self._launched = settings.home / "modal" / "launched"
        self._cancelled = settings.home / "modal" / "cancelled"

    def find(self, cluster_name: str, key: str) -> JobHandle | None:
        """The job launched as `key`, whatever its state; None if there is none."""
        sandbox_id, record = self._sandbox_id(key), self._launched / key
        if sandbox_id is None and record.exists():
            sandbox_id = record.read_text()
        return None if sandbox_id is None else self._handle(cluster_name, sandbox_id)

    def observe(self, cluster_name: str) -> dict[str, Observation]:
        """The jobs of a cluster that run; `observe_job` knows those that have ended."""
        return {
            sandbox.object_id: self._observation(sandbox)
            for sandbox in self._running({_oumi("_CLUSTER_TAG"): cluster_name})
        }

    def observe_job(self, handle: JobHandle) -> Observation | None:
        """One job; None if Modal does not know it."""
        sandbox = _sandbox(handle.launcher_job_id)
        return None if sandbox is None else self._observation(sandbox)

    def cancel(self, handle: JobHandle, *, force: bool) -> None:
        """Ask for the end of a job; Modal has no grace to skip."""
        sandbox = _sandbox(handle.launcher_job_id)
        if sandbox is None:
            raise JobNotFound(
                f"Modal knows no sandbox {handle.launcher_job_id}", "Look at Modal's dashboard"
            )
        if sandbox.poll() is None:
            # Written first: Modal reports a sandbox that was ended like one that was killed.
            write_private(self._cancelled / handle.launcher_job_id, "")
            sandbox.terminate()

    def cluster_names(self) -> list[str]:
        """The cluster names of running sandboxes; none where Modal is not installed."""
        try:
            tags: list[dict[str, str]] = [sandbox.get_tags() for sandbox in self._running({})]
        except CloudUnavailable:
            return []
        tag = _oumi("_CLUSTER_TAG")
        return sorted({names[tag] for names in tags if tag in names})

    def _name_of(self, key: str) -> str:
        return key

    def _up(self, job: "JobConfig", cluster_name: str) -> JobHandle:
        from oumi.launcher.clients.modal_client import ModalClient

        modal, key = _modal(), str(job.name)
        client = ModalClient()
        vars(client)["_modal"] = _Naming(modal, key)
        try:
            sandbox_id: str | None = client.launch(job, cluster_name).id
        except modal.exception.AlreadyExistsError:
            sandbox_id = self._sandbox_id(key)
            if sandbox_id is None:  # it ended in the meantime
                raise
        write_private(self._launched / key, sandbox_id)
        return self._handle(cluster_name, sandbox_id)

    def _sandbox_id(self, key: str) -> str | None:
        """Find the id of a key's sandbox, or of the last one that ended, if Modal can."""
        modal, app = _modal(), _oumi("_LAUNCHER_APP_NAME")
        options: tuple[dict[str, Any], ...] = ({}, {"include_terminated": True})
        for option in options:
            try:
                return modal.Sandbox.from_name(app, key, **option).object_id
            except modal.exception.NotFoundError:
                continue
            except TypeError:  # before modal 1.6 there is no such option
                if not option:
                    raise
        return None

    def _running(self, tags: dict[str, str]) -> Iterator[Any]:
        modal = _modal()
        try:
            app = modal.App.lookup(_oumi("_LAUNCHER_APP_NAME"))
        except modal.exception.NotFoundError:
            return iter(())
        return iter(modal.Sandbox.list(app_id=app.app_id, tags=tags))

    def _observation(self, sandbox: Any) -> Observation:
        code: int | None = sandbox.poll()
        state, reason = _end(
            code, was_cancelled=(self._cancelled / str(sandbox.object_id)).exists()
        )
        message = "" if reason is None else why_it_ended(reason, exit_code=code)
        if reason is TerminationReason.KILLED:
            message = (
                f"The job exited with code {code}: it was killed, maybe for lack of memory, or its "
                "sandbox was ended. Modal does not report which."
            )
        return Observation(
            state=state,
            observed_at=datetime.now(UTC),
            reason=reason,
            message=message or state.value,
        )


def _end(
    code: int | None, *, was_cancelled: bool
) -> tuple[LauncherState, TerminationReason | None]:
    match code:
        case None:
            return LauncherState.RUNNING, None
        case 0:
            return LauncherState.SUCCEEDED, TerminationReason.COMPLETED
        case _ if code == _TERMINATED and was_cancelled:
            return LauncherState.CANCELLED, None
        case _ if code == _TERMINATED:
            return LauncherState.FAILED, TerminationReason.KILLED
        case _ if code == _SECONDS_UP:
            return LauncherState.FAILED, TerminationReason.TIMED_OUT
        case _:
            return LauncherState.FAILED, TerminationReason.NONZERO_EXIT


def _sandbox(sandbox_id: str) -> Any | None:
    if not sandbox_id.startswith(_IDS):
        return None
    modal = _modal()
    try:
        return modal.Sandbox.from_id(sandbox_id)
    except modal.exception.NotFoundError:
        return None


class _Naming:
    """Modal, with a name for each sandbox, given in the call that creates it."""

    def __init__(self, modal: Any, name: str) -> None:
        self._modal = modal
        self.Sandbox = SimpleNamespace(create=partial(modal.Sandbox.create, name=name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._modal, name)


def _modal() -> Any:
    try:
        return importlib.import_module("modal")
    except ModuleNotFoundError as error:
        raise CloudUnavailable(
            "the package modal is not installed where the worker runs", "Install oumi[modal] there"
        ) from error


def _oumi(constant: str) -> str:
    """Read a private constant of Oumi's client (oumi 0.9)."""
    from oumi.launcher.clients import modal_client

    return vars(modal_client)[constant]
