"""What every job has in its environment: its launch key and our hooks."""

import hashlib
import os
from pathlib import Path
from typing import Any, Final

from flows.core import names
from flows.core.configs.clouds import is_local
from flows.core.configs.yaml_text import dump_yaml, mapping_of_yaml
from flows.core.errors import InvalidConfig
from flows.core.private_envs import PrivateEnvs
from flows.core.private_files import write_private
from flows.core.regular_files import NotRegular, TooLarge, read_regular_file
from flows.core.settings import Settings

_DEPS_BYTES: Final = 1_000_000
DEPS_ENV: Final = "OUMI_EXTRA_DEPS_FILE"
"""File of module paths that every Oumi command imports at its start (oumi 0.9)."""


def with_job_environment(job_config: str, *, key: str, settings: Settings) -> str:
    """Return the job config with our environment variables added to its own."""
    job = mapping_of_yaml(job_config)
    given: dict[str, Any] = dict(job.get("envs") or {})
    texts = {name: value for name, value in given.items() if isinstance(value, str)}
    others = {name: value for name, value in given.items() if name not in texts}
    envs: dict[str, Any] = others | PrivateEnvs(settings.private_envs_dir).reveal(texts)
    envs[names.JOB_KEY_ENV] = key
    resources: dict[str, Any] = job.get("resources") or {}
    if is_local(str(resources.get("cloud"))):
        existing = envs.get(DEPS_ENV) or os.environ.get(DEPS_ENV)
        deps = _deps_text(existing, working_dir=job.get("working_dir"))
        if deps is not None:
            envs[DEPS_ENV] = str(_write_deps(deps, settings))
    return dump_yaml({**job, "envs": envs})


def _deps_text(existing: str | None, *, working_dir: str | None) -> str | None:
    """Return the modules to import, the user's and ours; None if Oumi will refuse theirs.

    Raises:
        InvalidConfig: Oumi would never finish reading it, or take much too long.
    """
    if not existing:
        return deps_file_text(None)
    path = Path(working_dir or Path.cwd()) / Path(existing).expanduser()
    try:
        return deps_file_text(read_deps_file(path))
    except (OSError, ValueError):
        return None


def read_deps_file(path: Path) -> str:
    """The text of a file that `OUMI_EXTRA_DEPS_FILE` names.

    Raises:
        InvalidConfig: It is no regular file, or too large for a list of modules.
        OSError: It cannot be read.
        ValueError: It is no text.
    """
    try:
        return read_regular_file(path, limit=_DEPS_BYTES).decode()
    except (NotRegular, TooLarge) as error:
        raise InvalidConfig(
            f"{DEPS_ENV} names {path}, which cannot be a list of modules ({error.strerror})",
            "Name a text file with the path of a module on each line",
        ) from error


def _write_deps(text: str, settings: Settings) -> Path:
    path = settings.home / "hooks" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt"
    if not path.exists():
        write_private(path, text)
    return path


HOOKS: Final = tuple(Path(__file__).with_name(f"{name}_hook.py") for name in ("progress", "record"))


def deps_file_text(existing: str | None) -> str:
    """What a file named by ``OUMI_EXTRA_DEPS_FILE`` must hold for our hooks to load.

    Oumi 0.9 imports each path in it, one to a line; blank lines and # comments are skipped.

    Args:
        existing: Text of the user's own such file, which is kept; None: there is none.
    """
    lines = (existing or "").splitlines()
    given = {line.strip() for line in lines}
    lines += [str(hook) for hook in HOOKS if str(hook) not in given]
    return "\n".join(lines) + "\n"
