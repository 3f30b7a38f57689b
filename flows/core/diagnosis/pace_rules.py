"""Rules over the time that steps take, and over what the machine does meanwhile."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from flows.core.diagnosis.curves import middle
from flows.core.diagnosis.evidence import TRAINING_PHASES, Evidence
from flows.core.diagnosis.findings import Finding, FindingKind
from flows.core.findings import Severity
from flows.core.states import TerminationReason
from flows.core.training.series import EMPTY, Floats, Integers, Series

_TOKENS: Final = ("num_tokens", "total_tokens", "train/num_tokens", "num_input_tokens_seen")
"""Names of how many tokens were trained so far."""
_LENGTHS: Final = ("completions/mean_length", "completion_length")
"""Names of how long the answers of a policy are."""
_EVALUATIONS: Final = ("eval_", "eval/", "validation/")
_SILENT_SECONDS: Final = 300.0
_SILENT_UNSURE_SECONDS: Final = 1800.0
"""Silence where no phases are recorded: an evaluation or a long save may be under way."""
_GAPS: Final = 10.0
_LONGEST_GAPS: Final = 3.0
_IDLE_SECONDS: Final = 600.0
_IDLE_WINDOW: Final = 1800.0
_IDLE_SAMPLES: Final = 30
"""The last samples of the GPU's use count: those of so many seconds, but at least so many."""
_IDLE_PERCENT: Final = 5.0
_LITTLE_GPU_BYTES: Final = 600 * 2**20
"""Memory of a GPU that holds no model, only a CUDA context."""


class _Pace(NamedTuple):
    """Seconds per step by step, without the intervals in which more than steps ran."""

    steps: Integers
    seconds: Floats
    gaps: Floats
    """Seconds between two logged rows, of the same intervals."""


def find_slow(evidence: Evidence) -> Finding | None:
    """Find steps that take much longer than they did."""
    pace = _pace(evidence)
    slowdown = _find_slowdown(evidence, pace) if len(pace.seconds) >= 30 else None
    if slowdown is None:
        return None
    first, usual, now = slowdown
    return Finding(
        kind=FindingKind.SLOW,
        severity=Severity.WARNING,
        evidence=f"A step takes {now:.3g} s since about step {pace.steps[first]}, against "
        f"{usual:.3g} s before: {now / usual:.1f} times as long.",
        try_=[
            "Look at what else runs on the machine, and at its memory: swapping slows everything.",
            "Check the GPU's clock and temperature with nvidia-smi -q -d PERFORMANCE.",
            "Raise training.dataloader_num_workers, if the GPU waits for data.",
            "Check the disk or the server that holds the data.",
        ],
    )


def _find_slowdown(evidence: Evidence, pace: _Pace) -> tuple[int, float, float] | None:
    """Find the row from which on steps are slow; the seconds per step before it, and now."""
    count = len(pace.seconds)
    tail = max(8, count // 8)
    usual = middle(pace.seconds[count // 20 : count // 20 + max(10, count // 2)])
    recent = pace.seconds[-tail:]
    now = middle(recent)
    if now < 1.8 * usual or now - usual < 0.02 or np.mean(recent > 1.4 * usual) < 0.85:
        return None
    if now / usual < 1.5 * _growth_of_work(evidence, pace, tail):
        return None
    slow = pace.seconds > (usual * now) ** 0.5
    first = count - 1
    while first > 0 and np.mean(slow[first - 1 :]) > 0.85:
        first -= 1
    return first, usual, now


def find_stalled(evidence: Evidence) -> Finding | None:
    """Find a training that runs, but has made no step for much longer than one takes."""
    pace, main = _pace(evidence), _main(evidence)
    if not _should_step(evidence) or len(pace.gaps) < 2 or _is_over(evidence, int(main.steps[-1])):
        return None
    last = max([float(main.times[-1]), *_last_signs(evidence)])
    silent, usual = evidence.now - last, middle(pace.gaps)
    longest = float(np.max(np.diff(main.times)))
    if silent < max(_GAPS * usual, _LONGEST_GAPS * longest, _least_silence(evidence)):
        return None
    return Finding(
        kind=FindingKind.STALLED,
        severity=Severity.ERROR,
        evidence=f"No step for {silent:.0f} s since step {main.steps[-1]}; one is logged every "
        f"{usual:.3g} s.{_work_meanwhile(evidence, last)}",
        try_=_find_hang(),
    )


def _should_step(evidence: Evidence) -> bool:
    """Whether the training makes steps now, or did until its time was up."""
    timed_out = evidence.ended is not None and evidence.ended.reason is TerminationReason.TIMED_OUT
    phase = evidence.phase or _last_phase(evidence.events)
    return (evidence.is_running or timed_out) and phase in TRAINING_PHASES


def _least_silence(evidence: Evidence) -> float:
    knows_phases = any(event.get("kind") == "phase" for event in evidence.events)
    return _SILENT_SECONDS if knows_phases else _SILENT_UNSURE_SECONDS


def _find_hang() -> list[str]:
    return [
        "Read the last lines of the log: they may name a lost process or a slow download.",
        "See where it hangs: py-spy dump --pid PID, on the machine.",
        "Cancel it and go on from the last checkpoint (training.try_resume_from_last_checkpoint).",
        "Set training.dataloader_num_workers to 0, if it hangs in the data loader.",
        "With several GPUs: check that all processes live; set NCCL_DEBUG=INFO in its envs.",
    ]


def find_idle_gpu(evidence: Evidence) -> Finding | None:
    """Find a GPU that does next to nothing while the training makes steps."""
    recent = _recent_use(evidence)
    if len(recent.times) < 20 or recent.times[-1] - recent.times[0] < _IDLE_SECONDS:
        return None
    mean = float(np.mean(recent.values))
    if mean > 2 * _IDLE_PERCENT or float(np.quantile(recent.values, 0.75)) > _IDLE_PERCENT:
        return None
    memory = evidence.usage.get("gpu0_memory_bytes", EMPTY).finite()
    is_unused = len(memory.values) > 0 and float(np.max(memory.values)) < _LITTLE_GPU_BYTES
    minutes = (recent.times[-1] - recent.times[0]) / 60
    text = f"The GPU was busy {mean:.1f} % of the last {minutes:.0f} minutes of training"
    return Finding(
        kind=FindingKind.GPU_IDLE,
        severity=Severity.WARNING,
        evidence=text
        + (", and holds no model: the training runs on the CPU." if is_unused else "."),
        try_=_use_gpu() if is_unused else _feed_gpu(),
    )


def _recent_use(evidence: Evidence) -> Series:
    """The last samples of the first GPU's use while the training made steps."""
    busy, main = evidence.usage.get("gpu0_utilization_percent", EMPTY).finite(), _main(evidence)
    if len(main.times) < 5:
        return EMPTY
    part = busy.part((busy.times >= main.times[2]) & (busy.times <= main.times[-1]))
    part = part.part(_in_training(part.times, evidence))
    count = len(part.times)
    if not count:
        return EMPTY
    window = int(np.count_nonzero(part.times >= part.times[-1] - _IDLE_WINDOW))
    return part.part(slice(max(0, count - max(window, _IDLE_SAMPLES)), None))


def _use_gpu() -> list[str]:
    return [
        "Check that torch sees the GPU: torch.cuda.is_available() in the job's environment.",
        "Set model.device_map to auto or cuda, and remove training.trainer_kwargs.use_cpu.",
        "Install a build of torch for the CUDA of the driver.",
    ]


def _feed_gpu() -> list[str]:
    return [
        "Raise training.dataloader_num_workers: the GPU waits for data.",
        "Tokenize the data once before the training instead of in each step.",
        "Raise training.per_device_train_batch_size, if memory allows it.",
        "Copy the data to a local disk.",
    ]


def _main(evidence: Evidence) -> Series:
    """The series of training steps with the most rows."""
    found = [
        one
        for name, one in evidence.series.items()
        if not name.startswith(_EVALUATIONS) and name != "train_loss"
    ]
    return max(found, key=lambda one: len(one.steps), default=EMPTY)


def _pace(evidence: Evidence) -> _Pace:
    main = _main(evidence)
    begins = [_at(event) for event in evidence.events if event.get("kind") == "begin"]
    if begins:
        main = main.part(main.times >= begins[-1])
    if len(main.steps) < 2:
        return _Pace(EMPTY.steps, EMPTY.times, EMPTY.values)
    steps, gaps = np.diff(main.steps), np.diff(main.times)
    breaks = np.sort(np.array(_break_times(evidence), dtype=np.float64))
    inside = np.searchsorted(breaks, main.times[1:]) - np.searchsorted(breaks, main.times[:-1])
    kept = (steps > 0) & (gaps >= 0) & (inside == 0)
    return _Pace(main.steps[1:][kept], gaps[kept] / steps[kept], gaps[kept])


def _break_times(evidence: Evidence) -> list[float]:
    """When something else than a step happened."""
    times = [_at(event) for event in evidence.events]
    for name, series in evidence.series.items():
        if name.startswith(_EVALUATIONS):
            times += [float(at) for at in series.times]
    return times


def _growth_of_work(evidence: Evidence, pace: _Pace, tail: int) -> float:
    """How many times as much work the last steps were; 1 if nothing says so."""
    tokens = next((evidence.series[name] for name in _TOKENS if name in evidence.series), EMPTY)
    if len(tokens.steps) > 10:
        each = np.diff(tokens.values) / np.maximum(1, np.diff(tokens.steps))
        return _ratio(each, tokens.steps[1:], pace, tail)
    lengths = next((evidence.series[name] for name in _LENGTHS if name in evidence.series), EMPTY)
    return _ratio(lengths.values, lengths.steps, pace, tail) if len(lengths.steps) > 10 else 1.0


def _ratio(values: Floats, steps: Integers, pace: _Pace, tail: int) -> float:
    is_late = steps >= pace.steps[-tail]
    late, early = middle(values[is_late]), middle(values[~is_late][: max(5, len(values) // 2)])
    return max(1.0, late / early) if early > 0 and np.isfinite(late) else 1.0


def _is_over(evidence: Evidence, step: int) -> bool:
    """Whether all steps are done; saving the model may take long."""
    for event in reversed(evidence.events):
        if event.get("kind") == "end":
            return True
        if event.get("kind") == "begin":
            most = event.get("max_steps")
            return isinstance(most, int) and 0 < most <= step
    most = evidence.config.max_steps
    return most is not None and 0 < most <= step


def _last_phase(events: Sequence[Mapping[str, Any]]) -> str:
    """The phase that the last event about one says."""
    for event in reversed(events):
        if event.get("kind") == "phase":
            return str(event.get("phase", ""))
        if event.get("kind") == "begin":
            return ""
    return ""


def _last_signs(evidence: Evidence) -> list[float]:
    """When the training last showed that it lives, other than by a step."""
    signs = [_at(event) for event in evidence.events[-1:]]
    return signs + [float(one.times[-1]) for one in evidence.series.values() if len(one.times)]


def _work_meanwhile(evidence: Evidence, since: float) -> str:
    busy = evidence.usage.get("gpu0_utilization_percent", EMPTY)
    busy = busy.part(busy.times > since)
    if not len(busy.times):
        return ""
    return f" Meanwhile the GPU is busy {float(np.mean(busy.values)):.0f} %."


def _in_training(times: Floats, evidence: Evidence) -> np.ndarray:
    """Which times fall in a phase of training."""
    changes = [
        (_at(event), str(event.get("phase", "")) in TRAINING_PHASES)
        for event in evidence.events
        if event.get("kind") in {"phase", "begin"}
    ]
    if not changes:
        return np.ones(len(times), dtype=bool)
    at = np.array([change[0] for change in changes])
    is_training = np.array([True, *(change[1] for change in changes)])
    return is_training[np.searchsorted(at, times, side="right")]


def _at(event: Mapping[str, Any]) -> float:
    at = event.get("at")
    return float(at) if isinstance(at, int | float) else float("nan")
