"""The translation of Slurm's reports about jobs."""

from datetime import UTC, datetime
from typing import Final

from flows.core.states import TerminationReason
from flows.launcher.oumi.backend import why_it_ended
from flows.launcher.port import LauncherState, Observation
from flows.launcher.signals import signal_from_outside

PENDING, RUNNING = LauncherState.PENDING, LauncherState.RUNNING
FAILED = LauncherState.FAILED

STATE_OF_SLURM: Final[dict[str, tuple[LauncherState, TerminationReason | None]]] = {
    "BOOT_FAIL": (FAILED, TerminationReason.LAUNCH_FAILED),
    "CANCELLED": (LauncherState.CANCELLED, None),
    "COMPLETED": (LauncherState.SUCCEEDED, TerminationReason.COMPLETED),
    "COMPLETING": (RUNNING, None),
    "CONFIGURING": (PENDING, None),
    "DEADLINE": (FAILED, TerminationReason.TIMED_OUT),
    "FAILED": (FAILED, TerminationReason.NONZERO_EXIT),
    "LAUNCH_FAILED": (FAILED, TerminationReason.LAUNCH_FAILED),
    "NODE_FAIL": (FAILED, TerminationReason.PREEMPTED),
    "OUT_OF_MEMORY": (FAILED, TerminationReason.OUT_OF_MEMORY),
    "PENDING": (PENDING, None),
    "POWER_UP_NODE": (PENDING, None),
    "PREEMPTED": (FAILED, TerminationReason.PREEMPTED),
    "RECONFIG_FAIL": (FAILED, TerminationReason.LAUNCH_FAILED),
    "REQUEUED": (PENDING, None),
    "REQUEUE_FED": (PENDING, None),
    "REQUEUE_HOLD": (PENDING, None),
    "RESIZING": (RUNNING, None),
    "RESV_DEL_HOLD": (PENDING, None),
    "REVOKED": (FAILED, TerminationReason.LOST),
    "RUNNING": (RUNNING, None),
    "SIGNALING": (RUNNING, None),
    "SPECIAL_EXIT": (PENDING, None),
    "STAGE_OUT": (RUNNING, None),
    "STOPPED": (RUNNING, None),
    "SUSPENDED": (RUNNING, None),
    "TIMEOUT": (FAILED, TerminationReason.TIMED_OUT),
    "UPDATE_DB": (RUNNING, None),
}
"""Slurm's job states. Oumi calls SUSPENDED and STOPPED failed, which they are not, and a job its
list shows as ``CANCELLED by 1001`` pending (oumi 0.9, `_get_job_state` in slurm_client.py)."""

_REFUSED: Final = frozenset({"BadConstraints", "JobHeldAdmin", "InvalidAccount", "InvalidQOS"})


def slurm_observation(
    state: str, *, exit_code: int | None, signal: int, why: str, phase: str
) -> Observation:
    """Make one observation of a job.

    Args:
        state: Slurm's word, and any text after it. An unknown word does not end a job.
        exit_code: Of the script; None: Slurm does not report it.
        signal: The signal that ended the script; 0: none did.
        why: Slurm's reason: what a pending job waits for, or why an ended one ended.
        phase: The part that the script reached: ``S``, ``R``, or nothing.
    """
    word = state.split(maxsplit=1)[0].rstrip("+") if state.strip() else ""
    ours, reason = STATE_OF_SLURM.get(word, (PENDING, None))
    if word == "FAILED":
        reason = _why_it_failed(exit_code=exit_code, signal=signal, why=why, phase=phase)
    return Observation(
        state=ours,
        observed_at=datetime.now(UTC),
        reason=reason,
        message=_message(word, ours, reason, exit_code=exit_code, signal=signal, why=why),
    )


def _why_it_failed(
    *, exit_code: int | None, signal: int, why: str, phase: str
) -> TerminationReason:
    if signal_from_outside(exit_code, signal):  # for lack of memory the word is OUT_OF_MEMORY
        return TerminationReason.KILLED
    if why in _REFUSED:
        return TerminationReason.LAUNCH_FAILED
    return TerminationReason.SETUP_FAILED if phase == "S" else TerminationReason.NONZERO_EXIT


def _message(
    word: str,
    state: LauncherState,
    reason: TerminationReason | None,
    *,
    exit_code: int | None,
    signal: int,
    why: str,
) -> str:
    is_described = word == "COMPLETED" or (word == "FAILED" and exit_code is not None)
    if is_described and reason not in (None, TerminationReason.LAUNCH_FAILED):
        return why_it_ended(reason, exit_code=exit_code, signal=signal or None)
    text = f"{word} ({why})" if why and why != "None" else word
    return f"Slurm says {text}." if state.is_terminal else text
