"""The batch script of a job on Slurm, and the command that submits it."""

import shlex
from collections.abc import Mapping
from typing import Any, Final

JOBS_FOLDER: Final = "oumi_launcher"
"""In the user's home on the cluster, as with Oumi; a folder for each launch key."""
LOGS_FOLDER: Final = "oumi_slurm_logs"
"""As with Oumi, so that its command line shows these logs too. Slurm does not create it."""
SCRIPT: Final = "oumi_job.sh"
_SBATCH: Final = "#SBATCH"


def batch_script(*, key: str, setup: str, run: str, envs: Mapping[str, Any]) -> str:
    """Write the script: options first, then environment, setup and run.

    A failed setup fails the job. In the job's folder, the file ``phase`` names the current part
    (``S``, ``R``), and ``exit`` has the exit code of the script.
    """
    lines = [*setup.splitlines(), *run.splitlines()]
    options = [line for line in lines if line.startswith(_SBATCH)]
    folder = f'"$HOME"/{JOBS_FOLDER}/{shlex.quote(key)}'
    return "\n".join(
        [
            "#!/bin/bash",
            *options,
            *(f"export {name}={shlex.quote(str(value))}" for name, value in envs.items()),
            # A full disk must not fail a job that writes no files itself.
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
    """Write the command that submits a script, without the script and its log; it prints the id.

    The key is the job's name, because Slurm can find a job by its name both in its queue and in its
    accounts. The name from the config is the comment.
    """
    flags = {
        "nodes": str(nodes),
        **{flag.replace("_", "-"): value for flag, value in options.items()},
        "job-name": key,
        "comment": name,
        # A requeued job continues its log.
        "open-mode": "append",
    }
    return ["sbatch", "--parsable", *(f"--{flag}={value}" for flag, value in flags.items())]


def _without_options(script: str) -> str:
    return "\n".join(line for line in script.splitlines() if not line.startswith(_SBATCH))
