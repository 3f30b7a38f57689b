"""Findings of config checks: values that checkers, flows, tools and the terminal share."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from pydantic import Field

from flows.core.errors import sentence
from flows.core.models import Answer, Value

SHOWN: Final = 20
"""Most findings of one severity in an answer; its summary counts all."""

_LONGEST: Final = 300
_LISTED: Final = 5


class FindingCode(StrEnum):
    """What kind of thing is wrong."""

    INVALID_YAML = "invalid_yaml"
    UNKNOWN_KEY = "unknown_key"
    MISSING_KEY = "missing_key"
    WRONG_TYPE = "wrong_type"
    REFUSED_BY_OUMI = "refused_by_oumi"
    OUMI_NOT_ASKED = "oumi_not_asked"
    WORKER_NOT_ASKED = "worker_not_asked"

    PEFT_NOT_USED = "peft_not_used"
    TRAINER_MISMATCH = "trainer_mismatch"
    NEVER_SAVES = "never_saves"
    UNKNOWN_METRIC = "unknown_metric"
    NO_INPUT_PATH = "no_input_path"
    NO_DATASET_PATH = "no_dataset_path"

    PATH_NOT_FOUND = "path_not_found"
    PATH_NOT_WRITABLE = "path_not_writable"
    PATH_NOT_PLAIN = "path_not_plain"
    OUTPUT_IN_USE = "output_in_use"
    OUTPUT_HOLDS_RESULTS = "output_holds_results"
    LOCAL_PATH_ON_CLOUD = "local_path_on_cloud"
    BAD_DATA_FILE = "bad_data_file"
    BAD_DATA_ROW = "bad_data_row"
    NO_LABEL_LEFT = "no_label_left"
    MUCH_TRUNCATED = "much_truncated"
    EMPTY_ANSWERS = "empty_answers"
    EQUAL_PAIRS = "equal_pairs"
    ROLE_ORDER = "role_order"
    DATA_DUPLICATES = "data_duplicates"
    DATA_OVERLAP = "data_overlap"
    NOT_SYNCED = "not_synced"
    BIG_WORKING_DIR = "big_working_dir"
    DISK_FULL = "disk_full"
    DISK_TIGHT = "disk_tight"

    UNKNOWN_CLOUD = "unknown_cloud"
    CLOUD_MISMATCH = "cloud_mismatch"
    CLOUD_NOT_READY = "cloud_not_ready"
    NEEDS_JOB_CONFIG = "needs_job_config"
    MISSING_USER = "missing_user"
    UNUSED_KEY = "unused_key"
    BAD_ACCELERATOR = "bad_accelerator"
    NO_GPU = "no_gpu"
    NEEDS_GPUS = "needs_gpus"
    TOO_MANY_GPUS = "too_many_gpus"
    GPU_IN_USE = "gpu_in_use"
    MOUNT_SOURCE_MISSING = "mount_source_missing"
    MOUNT_CLASH = "mount_clash"
    BAD_STORE = "bad_store"
    EPHEMERAL_OUTPUT = "ephemeral_output"
    SETUP_GOES_ON = "setup_goes_on"
    PIPE_HIDES_FAILURE = "pipe_hides_failure"
    OUMI_NOT_INSTALLED = "oumi_not_installed"
    BAD_OPTION = "bad_option"
    BAD_NUMBER = "bad_number"
    BROKEN_SCRIPT = "broken_script"
    UNKNOWN_COMMAND = "unknown_command"
    CONFIG_NOT_READ = "config_not_read"
    SCRIPT_REFUSED = "script_refused"
    SECRET_IN_FILE = "secret_in_file"  # noqa: S105 - the name of a finding
    CREDENTIAL_MISSING = "credential_missing"

    MODEL_TOO_LARGE = "model_too_large"
    MEMORY_TIGHT = "memory_tight"
    GPU_TOO_OLD = "gpu_too_old"
    PACKAGE_MISSING = "package_missing"

    REPO_NOT_FOUND = "repo_not_found"
    REPO_GATED = "repo_gated"
    REPO_UNREACHABLE = "repo_unreachable"
    HUB_OFFLINE = "hub_offline"
    DATASET_NOT_FOUND = "dataset_not_found"
    NOT_REGISTERED = "not_registered"


class Severity(StrEnum):
    """How bad a finding is; an error that a check finds blocks the launch."""

    ERROR = "error"
    WARNING = "warning"


class Finding(Value):
    """One problem, where it is, and how to fix it."""

    code: FindingCode
    severity: Severity
    message: str
    fix: str = ""
    file: str = ""
    key: str = ""
    line: int | None = None
    column: int | None = None
    nearest: str = Field(default="", description="The nearest valid name.")

    @property
    def text(self) -> str:
        """The finding on one line."""
        said = not self.line or f"line {self.line}" in self.message
        where = "" if said else f" (line {self.line})"
        return " ".join(f"{sentence(self.message + where)} {sentence(self.fix)}".split())


class OumiProblem(Value):
    """A value that a class of Oumi refuses."""

    key: str
    message: str
    is_of_host: bool = Field(description="Whether another machine may accept it.")


class OumiVerdict(Answer):
    """The problems that the worker's Oumi finds in a config."""

    oumi_version: str
    problems: list[OumiProblem]


class ConfigValidation(Value):
    """The problems of a config."""

    summary: str = Field(description="One line a person can read.")
    valid: bool
    config_path: str
    task_type: str
    errors: list[Finding]
    warnings: list[Finding]


class Gpu(Value):
    """A GPU of the machine that would run the job."""

    name: str
    memory_gb: float | None = Field(description="Null: none of its own, or not reported.")
    free_memory_gb: float | None = None
    compute_capability: str | None = None


class Hardware(Value):
    """The machine a job would run on, as far as known."""

    where: str = Field(description="worker: the worker's own machine; else the cloud.")
    accelerator_type: str = Field(description="cuda, mps, other, none or unknown.")
    accelerator_count: int | None = None
    gpus: list[Gpu] = Field(default_factory=list[Gpu])
    driver_version: str | None = None
    memory_gb: float | None = None
    packages: dict[str, str] = Field(
        default_factory=dict[str, str], description="Installed there; absent means not installed."
    )


class CloudReadiness(Value):
    """Whether SkyPilot can use the target."""

    target_cloud: str = ""
    target_cloud_ready: bool | None = Field(default=None, description="Null: unknown.")
    enabled_clouds: list[str] = Field(default_factory=list[str])
    reason: str = ""
    next_step: str = ""


class WorkerFindings(Answer):
    """The findings of the worker's machine about a launch."""

    findings: list[Finding]
    hf_authenticated: bool | None = None
    repo_access: dict[str, str] = Field(default_factory=dict[str, str])
    dataset_checks: dict[str, str] = Field(default_factory=dict[str, str])
    training_data: str = ""
    hardware: Hardware | None = None
    cloud_readiness: CloudReadiness | None = None


class PreFlight(Value):
    """The results of all checks before a launch."""

    summary: str = Field(description="One line a person can read.")
    blocking: bool
    errors: list[Finding]
    warnings: list[Finding]
    hf_authenticated: bool | None = Field(default=None, description="Null: unknown.")
    repo_access: dict[str, str] = Field(default_factory=dict[str, str])
    hardware: Hardware | None = None
    cloud_readiness: CloudReadiness | None = None
    paths: dict[str, str] = Field(default_factory=dict[str, str])
    dataset_checks: dict[str, str] = Field(default_factory=dict[str, str])
    training_data: str = Field(
        default="", description="Which rows were looked at, or why none; see preview_data."
    )
    suggested_configs: list[str] = Field(default_factory=list[str])
    followed_configs: list[str] = Field(
        default_factory=list[str], description="Configs that the job config runs, checked too."
    )


def errors_of(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that block a launch."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]


def warnings_of(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that do not block a launch."""
    return [finding for finding in findings if finding.severity is Severity.WARNING]


def first_findings(findings: Sequence[Finding], *, limit_bytes: int = 3500) -> list[Finding]:
    """The first findings that fit in an answer, each shortened."""
    shown: list[Finding] = []
    for finding in findings[:SHOWN]:
        short = finding.model_copy(
            update={
                name: _shorten(getattr(finding, name))
                for name in ("message", "fix", "file", "key", "nearest")
            }
        )
        limit_bytes -= len(short.model_dump_json())
        if limit_bytes < 0 and shown:
            break
        shown.append(short)
    return shown


def count_findings(errors: Sequence[Finding], warnings: Sequence[Finding]) -> str:
    """Count findings as `2 errors and 1 warning`, and say how many are shown if not all are."""
    parts: list[str] = []
    for group, name in ((errors, "error"), (warnings, "warning")):
        if group:
            shown = len(first_findings(group))
            cut = f" (the first {shown} are shown)" if shown < len(group) else ""
            parts.append(f"{len(group)} {name}{'s' * (len(group) != 1)}{cut}")
    return " and ".join(parts) or "nothing"


def list_errors(errors: Sequence[Finding]) -> str:
    """List the first errors on one line, each with its code, and count the others."""
    lines = [f"{finding.code}: {_shorten(finding.text)}" for finding in errors[:_LISTED]]
    more = len(errors) - _LISTED
    return " ".join(lines) + (f" And {more} more." if more > 0 else "")


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
