"""Collects the findings of checkers in one file."""

from flows.core.configs.yaml_lines import Places
from flows.core.findings import Finding, FindingCode, Severity


class Notes:
    """The findings in one file, each with its place in it.

    Args:
        file: The file's path.
        places: The places of its keys; None for a file that is not YAML.
        is_certain: Whether the job certainly reads the file. If not, its errors become warnings.
    """

    def __init__(self, file: str, places: Places | None, *, is_certain: bool = True) -> None:
        self.findings: list[Finding] = []
        self._file = file
        self._places = places
        self._is_certain = is_certain

    def error(
        self, code: FindingCode, message: str, fix: str = "", *, key: str = "", nearest: str = ""
    ) -> None:
        """Note a problem that would make the job fail."""
        self.add(Severity.ERROR, code, message, fix, key=key, nearest=nearest)

    def warning(
        self, code: FindingCode, message: str, fix: str = "", *, key: str = "", nearest: str = ""
    ) -> None:
        """Note a likely mistake."""
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
        script_line: int | None = None,
    ) -> None:
        """Note a problem whose severity depends on the target.

        Args:
            severity: Whether it would make the job fail.
            code: What kind of problem it is.
            message: What is wrong.
            fix: What to do.
            key: The key that has it.
            nearest: The nearest valid name.
            script_line: The index of its line in the script that is the key's value.
        """
        place = self._places.of(key, line=script_line) if self._places else None
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
