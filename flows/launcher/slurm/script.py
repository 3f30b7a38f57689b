"""The batch script of a job on Slurm, and the command that submits it."""

import shlex
from collections.abc import Mapping
from typing import Any, Final

JOBS_FOLDER: Final = "oumi_launcher"
"""In the user's home on the cluster, as with Oumi; a folder for each launch key."""
LOGS_FOLDER: Final = "oumi_slurm_logs"
"""As with Oumi, so that its command line shows these logs too. Slurm does not make it."""
SCRIPT: Final = "oumi_job.sh"
_SBATCH: Final = "#SBATCH"


def batch_script(*, key: str, setup: str, run: str, envs: Mapping[str, Any]) -> str:
    """The script: options first, then environment, setup and run.

    A setup that fails fails the job. Which part it has come to is in the file ``phase`` of the
    job's folder (``S``, ``R``), and the exit code of the whole in ``exit``.
    """
    lines = [*setup.splitlines(), *run.splitlines()]
    options = [line for line in lines if line.startswith(_SBATCH)]
    folder = f'"$HOME"/{JOBS_FOLDER}/{shlex.quote(key)}'
    return "\n".join(
        [
            "#!/bin/bash",
            *options,
            *(f"export {name}={shlex.quote(str(value))}" for name, value in envs.items()),
            # A full disk must not fail a job that writes nothing itself.
            f"trap 'printf %s $? 2>/dev/null >{folder}/exit || :' EXIT",
            f"printf S 2>/dev/null >{folder}/phase || :",
            "set -e",
            "# --- setup ---",
            _without_options(setup),
            "# --- run ---",
            f"printf R 2>/dev/null >{folder}/phase || :",
            _without_options(run),
            "",
        ]
    )


def sbatch(*, key: str, name: str, nodes: int, options: Mapping[str, str]) -> list[str]:
    """The command that submits a script, less the script and its log; it prints the job's id.

    The key is the job's name: by that alone Slurm finds a job again, in its queue and in its
    accounts. The name people gave is the comment.
    """
    flags = {
        "nodes": str(nodes),
        **{flag.replace("_", "-"): value for flag, value in options.items()},
        "job-name": key,
        "comment": name,
        # A job that is requeued goes on with its log.
        "open-mode": "append",
    }
    return ["sbatch", "--parsable", *(f"--{flag}={value}" for flag, value in flags.items())]


def _without_options(script: str) -> str:
    return "\n".join(line for line in script.splitlines() if not line.startswith(_SBATCH))
