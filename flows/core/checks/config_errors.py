"""Findings about one config: its text, its keys, and the values that Oumi refuses."""

from collections.abc import Sequence
from pathlib import Path

from flows.core.checks.notes import Notes
from flows.core.checks.problems import note_odd_values, note_problems, note_unreadable
from flows.core.configs.checks import config_problems, other_type, with_article
from flows.core.configs.reader import ConfigFile, read_config
from flows.core.configs.schema import ConfigType
from flows.core.configs.yaml_lines import TextPlace
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
    other = other_type(config.data, config_type)
    if other is not None:
        notes.error(
            FindingCode.UNKNOWN_KEY,
            f"this is {with_article(other)} config, not {with_article(config_type)} one",
            f'Validate it with task_type="{other}"',
        )
        return
    note_problems(notes, config_problems(config.data, config_type))
    note_unreadable(notes, config, config_type)
    note_odd_values(notes, config.data)


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
