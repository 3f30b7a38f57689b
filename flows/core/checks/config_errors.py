"""Findings about one config: its text, its keys, and the values that Oumi refuses."""

from collections.abc import Sequence
from pathlib import Path

from flows.core.checks.notes import Notes
from flows.core.checks.problems import note_problems
from flows.core.configs.checks import config_problems
from flows.core.configs.reader import ConfigFile, read_config
from flows.core.configs.schema import ConfigType
from flows.core.configs.yaml_lines import TextPlace
from flows.core.configs.yaml_text import check_oumi_reads
from flows.core.errors import InvalidConfig
from flows.core.findings import Finding, FindingCode, OumiProblem, Severity


def read_or_find(path: Path) -> ConfigFile | Finding:
    """Read the config, or return the finding that says why it cannot be read.

    Raises:
        ConfigNotFound: The file is missing or cannot be read.
    """
    try:
        return read_config(path)
    except InvalidConfig as error:
        mark = getattr(error.__cause__, "problem_mark", None)
        place = TextPlace(mark.line + 1, mark.column + 1) if mark else TextPlace(1, 1)
        return Finding(
            code=FindingCode.INVALID_YAML,
            severity=Severity.ERROR,
            message=error.what,
            fix=error.next_step,
            file=str(path),
            line=place.line,
            column=place.column,
        )


def note_content(notes: Notes, config: ConfigFile, config_type: ConfigType) -> None:
    """Note every unknown or missing key, every wrong type and text that Oumi cannot read."""
    note_problems(notes, config_problems(config.data, config_type))
    if config_type in (ConfigType.ANALYZE, ConfigType.JOB):
        return
    try:
        check_oumi_reads(config.text, str(config.path))
    except InvalidConfig as error:
        notes.error(FindingCode.INVALID_YAML, error.what, error.next_step)


def note_oumi_problems(notes: Notes, problems: Sequence[OumiProblem], *, is_local: bool) -> None:
    """Note what Oumi refuses; for a cloud, a value that another machine may accept is a warning."""
    for problem in problems:
        of_host = problem.is_of_host and not is_local
        notes.add(
            Severity.WARNING if of_host else Severity.ERROR,
            FindingCode.REFUSED_BY_OUMI,
            f"{problem.key}: {problem.message}" if problem.key else problem.message,
            "This depends on the machine; make sure that the target has it" if of_host else "",
            key=problem.key,
        )
