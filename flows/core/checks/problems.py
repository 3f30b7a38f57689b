"""Note wrong keys and types of a config."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from flows.core.checks.notes import Notes
from flows.core.checks.values import items_of, mapping_of
from flows.core.configs.checks import MISSING, Problem, ProblemKind
from flows.core.configs.reader import ConfigFile
from flows.core.configs.schema import ConfigType
from flows.core.configs.yaml_text import check_oumi_reads
from flows.core.errors import InvalidConfig
from flows.core.findings import FindingCode

_BACKENDS: Final = ("lm_harness", "custom")
"""The evaluation backends of Oumi 0.9; a test compares them."""

_CODES: Final = {
    ProblemKind.UNKNOWN_KEY: FindingCode.UNKNOWN_KEY,
    ProblemKind.MISSING_KEY: FindingCode.MISSING_KEY,
    ProblemKind.WRONG_TYPE: FindingCode.WRONG_TYPE,
}


def note_problems(notes: Notes, problems: list[Problem]) -> None:
    """Note wrong keys and types."""
    for problem in problems:
        notes.error(
            _CODES[problem.kind],
            problem.message,
            "" if problem.nearest else _fix(problem),
            key=problem.key,
            nearest=problem.nearest,
        )


def note_unreadable(notes: Notes, config: ConfigFile, config_type: ConfigType) -> None:
    """Note text that Oumi cannot read, though it is YAML."""
    if config_type in (ConfigType.ANALYZE, ConfigType.JOB):
        return
    try:
        check_oumi_reads(config.text, str(config.path))
    except InvalidConfig as error:
        notes.error(FindingCode.INVALID_YAML, error.what, error.next_step)


def note_odd_values(notes: Notes, data: Mapping[str, Any]) -> None:
    """Note values whose type Oumi takes, and with which the command fails."""
    training = mapping_of(data.get("training"))
    value = training.get("resume_from_checkpoint")
    if isinstance(value, bool | int | float):
        notes.error(
            FindingCode.WRONG_TYPE,
            f"training.resume_from_checkpoint is {str(value).lower()}, which Oumi reads as the "
            "path of a checkpoint",
            "Give a checkpoint's path; for the newest one in output_dir set "
            "training.try_resume_from_last_checkpoint: true instead",
            key="training.resume_from_checkpoint",
        )
    of_checkpoints = mapping_of(data.get("evaluation")).get("tasks")
    for index, task in enumerate(items_of(data.get("tasks")) + items_of(of_checkpoints)):
        backend = mapping_of(task).get("evaluation_backend")
        if isinstance(backend, str) and backend not in (MISSING, "", *_BACKENDS):
            nearest = next(iter(get_close_matches(backend, _BACKENDS, n=1)), "")
            hint = f"; did you mean {nearest}?" if nearest else ""
            key = f"{'evaluation.' * bool(of_checkpoints)}tasks[{index}].evaluation_backend"
            notes.error(
                FindingCode.NOT_REGISTERED,
                f"{key} is {backend!r}, which Oumi does not have{hint}",
                "" if nearest else f"Use one of {', '.join(_BACKENDS)}",
                key=key,
                nearest=nearest,
            )


def _fix(problem: Problem) -> str:
    match problem.kind:
        case ProblemKind.UNKNOWN_KEY:
            return "Remove it; Oumi refuses keys it does not know"
        case ProblemKind.MISSING_KEY:
            return "Set it"
        case ProblemKind.WRONG_TYPE:
            return "Correct its value"
