"""Hides secrets in the output of jobs."""

from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from flows.core import secret_marks
from flows.core.configs.reader import load_snapshot
from flows.core.errors import OumiFlowsError
from flows.core.models import JobRequest
from flows.core.redaction import Redactor, config_secrets, own_secrets
from flows.core.secret_marks import SecretMarks
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.jobs.status import job_request

_KEPT: Final = 64


class Redactors:
    """Knows the secrets of jobs: of their configs, of this process and of workers.

    Args:
        snapshots_dir: Where configs are kept as submitted.
        home: Where workers leave marks of their secrets; None: nowhere.
    """

    def __init__(self, snapshots_dir: Path, home: Path | None = None) -> None:
        self._snapshots_dir = snapshots_dir
        self._home = home
        self._of_config = lru_cache(_KEPT)(self._read)
        self._marks: tuple[object, SecretMarks | None] = (None, None)

    def of(self, run: FlowRun) -> Redactor:
        """Make what hides the secrets of a job. Blocking: it reads files."""
        return self.of_requests([job_request(run)])

    def of_requests(self, requests: Iterable[JobRequest | None]) -> Redactor:
        """Make what hides the secrets of several jobs. Blocking: it reads files."""
        known = own_secrets()
        for request in requests:
            if request is not None and request.config_sha256:
                known += self._of_config(request.config_sha256)
        return Redactor(known, marks=self._read_marks())

    def _read(self, sha256: str) -> tuple[str, ...]:
        # Logs of another machine come from Prefect, which has them without secrets.
        with suppress(OumiFlowsError):
            return tuple(config_secrets(load_snapshot(sha256, self._snapshots_dir).data))
        return ()

    def _read_marks(self) -> SecretMarks | None:
        """Read the marks that workers left, again if there are new ones."""
        if self._home is None:
            return None
        try:
            at = (self._home / secret_marks.FILE).stat()
        except OSError:
            return None
        version = (at.st_mtime_ns, at.st_ino)
        if self._marks[0] != version:
            self._marks = (version, secret_marks.read_marks(self._home))
        return self._marks[1]
