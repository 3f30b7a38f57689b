"""Where checkers write down what they find in one file."""

from flows.core.configs.yaml_lines import Places
from flows.core.findings import Finding, FindingCode, Severity


class Notes:
    """The findings in one file, each with its place in it.

    Args:
        file: The file's path.
        places: Where its keys stand; None for a file that is not YAML.
        is_certain: Whether the file is sure to be read. What is wrong with one that may not be is
            a warning.
    """

    def __init__(self, file: str, places: Places | None, *, is_certain: bool = True) -> None:
        self.findings: list[Finding] = []
        self._file = file
        self._places = places
        self._is_certain = is_certain

    def error(
        self, code: FindingCode, message: str, fix: str = "", *, key: str = "", nearest: str = ""
    ) -> None:
        """Note what would make the job fail."""
        self.add(Severity.ERROR, code, message, fix, key=key, nearest=nearest)

    def warning(
        self, code: FindingCode, message: str, fix: str = "", *, key: str = "", nearest: str = ""
    ) -> None:
        """Note what may be meant, and often is not."""
        self.add(Severity.WARNING, code, message, fix, key=key, nearest=nearest)

    def add(
        self,
        severity: Severity,
        code: FindingCode,
        message: str,
        fix: str = "",
        *,
        key: str = "",
        nearest: str = "",
    ) -> None:
        """Note something whose weight depends on the target."""
        place = self._places.of(key) if self._places else None
        self.findings.append(
            Finding(
                code=code,
                severity=severity if self._is_certain else Severity.WARNING,
                message=message,
                fix=fix,
                file=self._file,
                key=key,
                line=place.line if place else None,
                column=place.column if place else None,
                nearest=nearest,
            )
        )
