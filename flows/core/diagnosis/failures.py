"""The root cause of a failed job, from its log and from how it ended."""

import signal
from collections.abc import Sequence
from typing import Final

from flows.core.diagnosis.advice import advise
from flows.core.diagnosis.evidence import Ending, Evidence
from flows.core.diagnosis.failure_kinds import (
    classify_error,
    classify_lines,
    classify_links,
    find_assertion,
)
from flows.core.diagnosis.findings import Finding, FindingKind
from flows.core.findings import Severity
from flows.core.logs.error_cause import CAUSE_LINES, Cause, find_cause
from flows.core.logs.tracebacks import strip_prefix
from flows.core.states import TerminationReason

_NEAR_LINES: Final = 30
_DETAILS: Final = 4
_EVIDENCE: Final = 900
_SHELL_SIGNAL: Final = 128
"""A shell reports a signal as this exit code plus its number."""
_FAULTS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}
)
_KIND_OF_REASON: Final = {
    TerminationReason.OUT_OF_MEMORY: FindingKind.OUT_OF_MEMORY,
    TerminationReason.KILLED: FindingKind.KILLED,
    TerminationReason.PREEMPTED: FindingKind.KILLED,
    TerminationReason.LOST: FindingKind.KILLED,
}
_STOPPED: Final = frozenset({TerminationReason.TIMED_OUT, TerminationReason.PREEMPTED})
"""Reasons of jobs that were stopped: the last lines of their logs explain nothing."""


def find_failure(evidence: Evidence) -> Finding | None:
    """Find why a job failed; None if it did not, or was stopped for a limit of its own."""
    ended = evidence.ended
    if ended is None or not ended.is_failure or ended.reason is TerminationReason.TIMED_OUT:
        return None
    kind, text = _find_kind(evidence, ended)
    return Finding(
        kind=kind,
        severity=Severity.ERROR,
        evidence=text[:_EVIDENCE],
        try_=advise(kind, text, evidence),
    )


def _find_kind(evidence: Evidence, ended: Ending) -> tuple[FindingKind, str]:
    lines = list(evidence.log)[-CAUSE_LINES:]
    known = _KIND_OF_REASON.get(ended.reason)
    cause = None if ended.reason in _STOPPED else find_cause(lines, output_dir=evidence.output_dir)
    near = [strip_prefix(line)[1] for line in lines[-_NEAR_LINES:]]
    kind, text = _kind_of(cause, near) if cause else (None, "")
    if kind and kind is not FindingKind.CRASH:
        return known if known is FindingKind.OUT_OF_MEMORY else kind, text
    ending = _describe(ended)
    if known:
        return known, f"{ending} {text or _last_line(lines)}".strip()
    number = _signal_of(ended)
    shown = None if kind else classify_lines(near, is_signal=number is not None)
    if shown:
        return shown[0], f"{shown[1].strip()} ({ending.rstrip('.')})"
    if kind is None and number is not None:
        return FindingKind.CRASH if number in _FAULTS else FindingKind.KILLED, ending
    return FindingKind.CRASH, text or f"{ending} {_last_line(lines)}".strip()


def _kind_of(cause: Cause, lines: Sequence[str]) -> tuple[FindingKind | None, str]:
    """The kind of a cause, and what shows it; no kind if it says only that a process failed."""
    if not cause.links:
        return classify_error(cause.text) or FindingKind.CRASH, cause.text
    if all("ChildFailedError" in link.error for link in cause.links):
        return None, cause.text
    details = dict.fromkeys(
        line for link in (cause.links[0], cause.links[-1]) for line in link.details[:_DETAILS]
    )
    text = " ".join([cause.text, *details])
    assertion = find_assertion(lines) if "device-side assert" in text else None
    if assertion:
        return classify_error(assertion) or FindingKind.CRASH, f"{assertion.strip()} {text}"
    return classify_links(cause.links) or FindingKind.CRASH, text


def _signal_of(ended: Ending) -> int | None:
    if ended.signal:
        return ended.signal
    code = ended.exit_code
    if code is not None and code > _SHELL_SIGNAL:
        return code - _SHELL_SIGNAL if code - _SHELL_SIGNAL < signal.NSIG else None
    return None


def _describe(ended: Ending) -> str:
    number = _signal_of(ended)
    if number is not None:
        try:
            return f"The job was ended by {signal.Signals(number).name}."
        except ValueError:
            return f"The job was ended by signal {number}."
    if ended.exit_code is not None:
        return f"The job ended with exit code {ended.exit_code}."
    return f"The job ended: {ended.reason}."


def _last_line(lines: Sequence[str]) -> str:
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"The last line of its log: {last}" if last else "Its log is empty."
