"""What every job of ours carries in its environment: its launch key and the progress hook."""

from pathlib import Path
from typing import Any, Final

import yaml

from flows import names
from flows.configs.yaml_text import dump_yaml
from flows.progress import deps_file_text
from flows.settings import Settings

_DEPS_ENV: Final = "OUMI_EXTRA_DEPS_FILE"
"""File of module paths that every Oumi command imports at its start (oumi 0.9)."""


def with_job_environment(job_config: str, *, key: str, settings: Settings) -> str:
    """The job config with our environment variables; its own variables win."""
    job: dict[str, Any] = yaml.safe_load(job_config)
    envs: dict[str, Any] = dict(job.get("envs") or {})
    envs[names.JOB_KEY_ENV] = key
    if (job.get("resources") or {}).get("cloud") == names.LOCAL_CLOUD:
        envs[_DEPS_ENV] = str(_deps_file(envs.get(_DEPS_ENV), settings))
    return dump_yaml({**job, "envs": envs})


def _deps_file(existing: str | None, settings: Settings) -> Path:
    import hashlib

    text = deps_file_text(Path(existing).read_text(encoding="utf-8") if existing else None)
    path = settings.home / "hooks" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_suffix(f".{key_safe()}")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    return path


def key_safe() -> str:
    """A name no other process uses for its draft."""
    import os

    return f"{os.getpid()}"
