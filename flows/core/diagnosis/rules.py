"""The diagnosis of a training, by rules. Pure: it reads no files and asks no server.

A false alarm costs more than a miss, so every rule asks for more than one sign.
"""

from collections.abc import Iterable

import numpy as np

from flows.core.diagnosis.curves import Curves, pick_curves
from flows.core.diagnosis.evidence import Evidence
from flows.core.diagnosis.failures import find_failure
from flows.core.diagnosis.findings import Diagnosis, Finding
from flows.core.diagnosis.loss_rules import (
    find_collapsed,
    find_diverging,
    find_not_finite,
    find_overfitting,
    find_spiky,
)
from flows.core.diagnosis.pace_rules import find_idle_gpu, find_slow, find_stalled
from flows.core.diagnosis.progress_rules import find_no_progress
from flows.core.findings import Severity
from flows.core.states import Health


def diagnose(evidence: Evidence) -> Diagnosis:
    """Find what is wrong with a training."""
    curves = pick_curves(evidence.series)
    with np.errstate(all="ignore"):  # values of any size
        measured = [*_find_in_curves(evidence, curves), *_find_in_pace(evidence)]
    found = [find_failure(evidence), *measured]
    findings = [finding for finding in found if finding is not None]
    findings.sort(key=lambda finding: finding.severity is not Severity.ERROR)
    health = _health(evidence, findings)
    return Diagnosis(summary=_summarise(health, findings), health=health, findings=findings)


def _find_in_curves(evidence: Evidence, curves: Curves) -> Iterable[Finding | None]:
    """Rules over curves; the first of the causes hides its consequences."""
    broken = find_not_finite(evidence, curves)
    if broken and broken.severity is Severity.ERROR:
        return [broken]
    causes = find_no_progress(evidence, curves) or find_collapsed(curves) or find_diverging(curves)
    if causes:
        return [broken, causes]
    return [broken, find_overfitting(curves), find_spiky(curves)]


def _find_in_pace(evidence: Evidence) -> Iterable[Finding | None]:
    stalled = find_stalled(evidence)
    return [stalled] if stalled else [find_slow(evidence), find_idle_gpu(evidence)]


def _health(evidence: Evidence, findings: list[Finding]) -> Health:
    if any(finding.severity is Severity.ERROR for finding in findings):
        return Health.BAD
    if findings:
        return Health.WARNING
    if evidence.ended is not None and evidence.ended.is_failure:
        return Health.BAD
    return Health.OK if any(len(one.steps) for one in evidence.series.values()) else Health.UNKNOWN


def _summarise(health: Health, findings: list[Finding]) -> str:
    if findings:
        kinds = ", ".join(finding.kind for finding in findings)
        return f"{health.capitalize()}: {kinds}. {findings[0].evidence}"
    if health is Health.OK:
        return "OK: no rule found anything wrong."
    if health is Health.BAD:
        return "Bad: the job failed, and its record does not say why."
    return "Unknown: the training has recorded nothing yet."
