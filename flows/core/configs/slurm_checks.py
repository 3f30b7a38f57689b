"""Refuse job configs that Slurm would run wrongly. Reads the config as YAML, without Oumi."""

import re
from collections.abc import Mapping
from typing import Any, Final

from flows.core.errors import InvalidConfig

_ENDS_OF_OUMIS_HEREDOCS: Final = ("EOF", "SCRIPTFILETAG")
"""Oumi sends scripts to Slurm and PBS as a heredoc of the launching shell (oumi 0.9,
`SlurmClient.run_commands` and `put` in launcher/clients/slurm_client.py). A line that ends it
makes the rest run on the launching machine."""
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ARRAY: Final = re.compile(r"#SBATCH\s+(--array|-a)\b")


def check_slurm_job(job: Mapping[str, Any]) -> None:
    """Refuse scripts that would run elsewhere, or not as one job with one outcome.

    Raises:
        InvalidConfig: Says which field, and what to write instead.
    """
    check_heredocs(job)
    for field in ("setup", "run"):
        if any(_ARRAY.match(line) for line in str(job.get(field) or "").splitlines()):
            raise InvalidConfig(
                f"{field} requests a job array, but a job here has one outcome",
                "Remove --array and submit one job for each task",
            )
    names: Mapping[str, Any] = job.get("envs") or {}
    for name in names:
        if not _ENV_NAME.match(str(name)):
            raise InvalidConfig(
                f"envs has a name that a shell cannot set: {name!r}",
                "Use letters, digits and underscores",
            )


def check_heredocs(job: Mapping[str, Any]) -> None:
    """Refuse lines that end the heredocs in which Oumi sends scripts to clusters.

    Raises:
        InvalidConfig: Says which field, and what to write instead.
    """
    envs: Mapping[str, Any] = job.get("envs") or {}
    texts = {"setup": job.get("setup"), "run": job.get("run")}
    texts |= {f"envs.{name}": value for name, value in envs.items()}
    for field, text in texts.items():
        for end in _ENDS_OF_OUMIS_HEREDOCS:
            if end in str(text or "").splitlines():
                raise InvalidConfig(
                    f"{field} has a line that is just {end}, where Oumi's client would end the "
                    "script and run the rest on the launching machine",
                    "Use another delimiter for the heredoc, such as <<END ... END",
                )
