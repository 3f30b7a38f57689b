"""The part of the worker's environment that a local job gets.

The job's supervisor inherits it from the worker, and the job from its supervisor. It is written
nowhere: ``spec.json`` has only what the job config sets. A supervisor that replaces one that died
passes on the environment of the worker that starts it.

Standard library only.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flows.core.names import JOB_KEY_ENV
from flows.core.private_files import JOB_UMASK_ENV
from flows.launcher.local.job_folder import JOB_DIR_ENV

_DEFAULT: Final = {"PYTHONUNBUFFERED": "1", "COLUMNS": "400"}
_NOT_FOR_JOBS: Final = frozenset(
    {
        "PREFECT_API_AUTH_STRING",
        "PREFECT_API_KEY",
        "PREFECT_SERVER_API_AUTH_STRING",
        "OUMI_FLOWS_HTTP_TOKEN",
        JOB_KEY_ENV,
        JOB_DIR_ENV,
        JOB_UMASK_ENV,
    }
)
_PREFECT_RUN: Final = "PREFECT__"
"""Prefix of what Prefect gives a process about the run it executes (prefect 3.8)."""


def inherited_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Remove what is only for this process, and put the folder of its `oumi` first in PATH."""
    kept = {
        name: value
        for name, value in environment.items()
        if name not in _NOT_FOR_JOBS and not name.startswith(_PREFECT_RUN)
    }
    path = [str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]
    return {**kept, **_DEFAULT, "PATH": os.pathsep.join(path)}
