"""What to hide in the output of a job."""

import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from flows.configs.reader import load_snapshot
from flows.errors import OumiFlowsError
from flows.redaction import Redactor, config_secrets, secrets_of
from mcp_server.prefect_models import FlowRun
from mcp_server.services.job_status import job_request

_KEPT = 64


class Redactors:
    """Knows the secrets of jobs by the configs they were submitted with.

    Args:
        snapshots_dir: Where configs are kept as submitted.
    """

    def __init__(self, snapshots_dir: Path) -> None:
        self._snapshots_dir = snapshots_dir
        self._of_config = lru_cache(_KEPT)(self._read)

    def of(self, run: FlowRun) -> Redactor:
        """Hides the secrets of the job's config and of this process's environment."""
        request = job_request(run)
        return self._of_config(request.config_sha256 if request else None)

    def _read(self, sha256: str | None) -> Redactor:
        known = secrets_of(os.environ)
        if sha256:
            # On another machine the log is read from Prefect, where they are hidden already.
            with suppress(OumiFlowsError):
                known += config_secrets(load_snapshot(sha256, self._snapshots_dir).data)
        return Redactor(known)
