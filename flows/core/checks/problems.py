"""Note wrong keys and types of a config."""

from typing import Final

from flows.core.checks.notes import Notes
from flows.core.configs.checks import Problem, ProblemKind
from flows.core.findings import FindingCode

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


def _fix(problem: Problem) -> str:
    match problem.kind:
        case ProblemKind.UNKNOWN_KEY:
            return "Remove it; Oumi refuses keys it does not know"
        case ProblemKind.MISSING_KEY:
            return "Set it"
        case ProblemKind.WRONG_TYPE:
            return "Correct its value"
