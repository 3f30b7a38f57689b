"""Settings, read from ``OUMI_FLOWS_*`` environment variables; docs/configuration.md lists them."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from flows.core.names import WORK_POOL


class Settings(BaseSettings):
    """The settings. Every field is the environment variable ``OUMI_FLOWS_<FIELD>``."""

    model_config = SettingsConfigDict(
        env_prefix="OUMI_FLOWS_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    home: Path = Field(
        default=Path("~/.oumi-flows"), description="Folder of all files that oumi-flows keeps."
    )
    work_pool: str = Field(default=WORK_POOL, description="Prefect work pool that jobs run in.")
    local_slots: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Local jobs that run at once. Unset: the number of GPUs, at least 1.",
    )
    cancel_grace_seconds: float = Field(
        default=20.0,
        ge=0,
        le=3600,
        description="Time from SIGTERM to SIGKILL when a local job is cancelled.",
    )
    warm_start: bool = Field(
        default=True,
        description="Keep a process that has imported Oumi, from which local jobs start at once.",
    )
    warm_idle_minutes: float = Field(
        default=30.0, gt=0, description="How long this process waits for a job before it ends."
    )
    warm_free_memory: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Share of the machine's memory that must be free for it to start.",
    )
    keep_days: float = Field(
        default=90.0,
        ge=0,
        description="Days that ended jobs stay, with their logs; 0: for ever. Models and "
        "checkpoints always stay.",
    )
    poll_min_seconds: float = Field(
        default=0.25, gt=0, description="Shortest interval between two checks of a cluster."
    )
    poll_max_seconds: float = Field(
        default=10.0, gt=0, description="Longest interval between two checks of a cluster."
    )
    unreachable_timeout_seconds: float = Field(
        default=86_400.0,
        gt=0,
        description="How long a job that cannot be observed is still reported as running.",
    )
    reach_timeout_seconds: float = Field(
        default=60.0,
        gt=0,
        description="How long a launch tries to reach its cluster before it fails.",
    )
    force_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        description="How long a forced cancel waits for a cluster that does not answer.",
    )
    launcher_timeout_seconds: float = Field(
        default=120.0, gt=0, description="Limit of one launcher call other than a launch."
    )
    launch_timeout_seconds: float = Field(
        default=3600.0, gt=0, description="Limit of one launch, provisioning included."
    )
    progress_interval_seconds: float = Field(
        default=2.0, gt=0, description="Shortest interval between two progress updates of a job."
    )
    start_concurrency: int = Field(
        default=4, ge=1, le=64, description="Runs a worker starts at the same time."
    )
    worker_poll_seconds: float = Field(
        default=0.5,
        gt=0,
        description="Interval at which a worker looks for runs and cancels while Prefect's events "
        "do not come. While they do, it looks at once at news, and else every 8 s.",
    )
    api_timeout_seconds: float = Field(
        default=30.0, gt=0, description="Limit of one call to the Prefect API."
    )
    check_timeout_seconds: float = Field(
        default=25.0,
        gt=0,
        description="How long a check waits for the worker before it answers without it.",
    )
    engine_timeout_seconds: float = Field(
        default=60.0, gt=0, description="How long to wait for the embedded engine to come up."
    )
    engine_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port of the embedded Prefect server. Unset: chosen once and remembered.",
    )
    http_token: str | None = Field(
        default=None,
        repr=False,
        description="Bearer token of the MCP server's HTTP transport, at least 16 characters. "
        "Unset: one is made and kept in the file `http-token`.",
    )
    http_allowed_hosts: str = Field(
        default="",
        description="Further host names, separated by commas, under which clients reach the MCP "
        "server's HTTP transport, such as that of a proxy.",
    )
    configs_dir: Path | None = Field(
        default=None,
        description="Folder of Oumi's configs for the catalogue, instead of fetching them.",
    )
    configs_url: str = Field(
        default="https://github.com/oumi-ai/oumi/archive/refs/tags/v{version}.tar.gz",
        description="Archive of Oumi's repository with the configs of the catalogue; `off`: fetch "
        "nothing.",
    )
    configs_sha256: str | None = Field(
        default=None, description="Required SHA-256 of this archive. Unset: any."
    )
    configs_timeout_seconds: float = Field(
        default=120.0, gt=0, description="Limit of fetching this archive in the background."
    )

    debug: bool = Field(default=False, description="Show the traceback when a command fails.")

    @field_validator("home", "configs_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @property
    def local_dir(self) -> Path:
        """Where the local cloud keeps its clusters and jobs."""
        return self.home / "local"

    @property
    def warm_dir(self) -> Path:
        """Where the files of the warm host are."""
        return self.home / "warm"

    @property
    def jobs_dir(self) -> Path:
        """Where the logs of jobs that run elsewhere are kept, by launch key."""
        return self.home / "jobs"

    @property
    def snapshots_dir(self) -> Path:
        """Where copies of submitted configs are kept, by content hash."""
        return self.home / "configs"

    @property
    def private_envs_dir(self) -> Path:
        """Where the values of jobs' secret environment variables are kept."""
        return self.home / "private-envs"

    @property
    def docs_dir(self) -> Path:
        """Where the indexes of Oumi's API are kept, one per version."""
        return self.home / "docs"

    @property
    def records_dir(self) -> Path:
        """Where provenance records of jobs are kept, by content hash."""
        return self.home / "records"

    @property
    def engine_dir(self) -> Path:
        """Where the embedded engine keeps its database, records and logs."""
        return self.home / "engine"

    @property
    def catalog_dir(self) -> Path:
        """Where Oumi's library of configs is kept once it was fetched."""
        return self.home / "catalog"
