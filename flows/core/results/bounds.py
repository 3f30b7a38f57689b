"""Shorten a list of results to what one answer may hold, and say what was cut."""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from flows.core.results.values import FoundCheckpoint, FoundFile, JobResults

ANSWER_BYTES: Final = 11_000
"""Leaves room for the rest of an answer of 12 kB."""
_MOST: Final = {"checkpoints": 30, "models": 15, "scores": 60, "files": 40}
_NOTES: Final = 12

T = TypeVar("T")


def shorten(results: JobResults, *, max_bytes: int = ANSWER_BYTES) -> JobResults:
    """Return results that fit, with a note on what was cut."""
    counts = {name: len(getattr(results, name)) for name in _MOST}
    limits = {name: min(most, counts[name]) for name, most in _MOST.items()}
    rows = True
    notes = results.notes[:_NOTES]
    while True:
        cuts = _describe_cuts(counts, limits, rows=rows)
        short = _cut(results, limits, rows=rows, notes=[*notes, *cuts])
        if len(short.model_dump_json().encode()) <= max_bytes:
            return _with_cut_in_summary(short, len(notes))
        longest = max(limits, key=lambda name: limits[name])
        if limits["files"] <= 4 and rows:
            rows = False
        elif limits["files"] > 4:
            limits["files"] = limits["files"] * 2 // 3
        elif limits[longest]:
            limits[longest] //= 2
        else:
            return short


def _cut(
    results: JobResults, limits: dict[str, int], *, rows: bool, notes: list[str]
) -> JobResults:
    return results.model_copy(
        update={
            "folders": results.folders[:5],
            "checkpoints": _best_first(results.checkpoints, limits["checkpoints"]),
            "models": results.models[: limits["models"]],
            "scores": results.scores[: limits["scores"]],
            "files": _files(results.files, limits["files"], rows=rows),
            "notes": notes,
        }
    )


def _with_cut_in_summary(short: JobResults, own: int) -> JobResults:
    cut = short.notes[own:]
    if not cut:
        return short
    return short.model_copy(update={"summary": f"{short.summary} Cut: {'; '.join(cut)}."})


def _describe_cuts(counts: dict[str, int], limits: dict[str, int], *, rows: bool) -> list[str]:
    cut = [
        f"{limits[name]} of {counts[name]} {name} are shown"
        for name in counts
        if limits[name] < counts[name]
    ]
    return cut if rows else [*cut, "first rows are left out"]


def _best_first(found: Sequence[FoundCheckpoint], limit: int) -> list[FoundCheckpoint]:
    """The newest checkpoints; the best one is always among them."""
    shown = list(found[:limit])
    best: list[Any] = [one for one in found[limit:] if one.best]
    return [*shown[: max(0, limit - len(best))], *best] if limit else []


def _files(found: Sequence[FoundFile], limit: int, *, rows: bool) -> list[FoundFile]:
    shown = list(found[:limit])
    return shown if rows else [one.model_copy(update={"rows": []}) for one in shown]
