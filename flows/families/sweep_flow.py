"""The `oumi-sweep` flow: one job, run many times with different values."""

import asyncio
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

from prefect import flow
from prefect.client.schemas.objects import FlowRun, State

from flows.core import names
from flows.core.divergence import divergence, has_diverged, last_loss
from flows.core.errors import OumiFlowsError
from flows.core.models import JobRequest
from flows.core.noise import Verdict
from flows.core.numbers import to_json
from flows.core.prefect_states import read_message
from flows.core.result_metrics import Point, pick, read_curve, read_losses
from flows.core.run_labels import RunLabels
from flows.core.states import JobState, TerminationReason
from flows.core.sweeps.search import Tried, values_of
from flows.core.sweeps.spec import Choices, Range, Scalar, Sweep, Values
from flows.families.budget import WholeBudget
from flows.families.early_stopping import reason_to_stop
from flows.families.parent import Parent, Row, current_parent
from flows.families.replicated import Config, Standing, config_of, stand
from flows.job.outcome import Outcome
from flows.job.prefect_calls import state_of
from flows.job.results import result_files

_PART: Final = "trial-{}"
_ENVS: Final = "envs."
_STOPPED: Final = "stopped"


@flow(
    name=names.SWEEP_FLOW,
    persist_result=False,
    description="Run an Oumi job with many values and rank the results.",
)
async def run_sweep(sweep: Sweep) -> "State[Any]":
    """Run the trials, some at once, and rank them; one that fails does not end the others.

    The trials are read from their own runs, so a worker that adopts the sweep continues where it
    was. `flows.families.cancelling` cancels it.

    Args:
        sweep: What to run.

    Returns:
        The Prefect state the sweep ends in; its message names the best trial.
    """
    async with current_parent() as parent:
        folder = f"{sweep.name}-{str(parent.run_id)[:8]}"
        return await parent.conclude(await _Run(sweep, parent, folder).outcome())


class _Trial(NamedTuple):
    """One trial.

    Attributes:
        run: Its job; None: it could not be started.
        state: A job state, or `stopped`.
        value: Its metric, if it succeeded and reported one; it may not be finite.
        reached: The value at which it was stopped.
        note: A remark for people.
        diverged: Whether its metric or its training's loss is not finite: it cannot win.
    """

    name: str
    values: Values
    run: FlowRun | None
    state: str
    value: float | None = None
    reached: float | None = None
    note: str = ""
    diverged: bool = False

    @property
    def can_win(self) -> bool:
        return self.value is not None and not self.diverged

    @property
    def is_over(self) -> bool:
        return self.run is None or self.state == _STOPPED or JobState(self.state).is_terminal

    @property
    def has_failed(self) -> bool:
        has_none = self.value is None and not self.diverged
        return self.is_over and has_none and self.state != _STOPPED


class _Run:
    def __init__(self, sweep: Sweep, parent: Parent, folder: str) -> None:
        self._sweep = sweep
        self._parent = parent
        self._folder = f"{sweep.output_dir}/{folder}"
        self._unstartable: dict[str, _Trial] = {}
        self._budget = WholeBudget(sweep.request)
        self._used_up = ""
        """Why no more trials start; empty: more may."""
        self._curves: dict[str, list[Point]] = {}
        """The curves of trials that are over."""

    async def outcome(self) -> Outcome:
        """Run the sweep to its end."""
        parent = self._parent
        await parent.retry_failed(await parent.children.all())
        while True:
            runs = await parent.children.all()
            trials = [await self._trial(name, run) for name, run in sorted(runs.items())]
            trials += self._unstartable.values()
            await self._stop_hopeless(trials)
            if parent.one_part_since is None:
                trials = await self._start(trials)
                total = len(trials) if self._used_up else self._sweep.trials
            else:  # a trial was retried alone
                total = len(trials)
            over = sum(trial.is_over for trial in trials)
            rows = self._leaderboard(trials)
            about = f"Sweep **{self._sweep.name}**: {over} of {total} trials are over"
            await parent.show(rows, over=over, total=total, about=about)
            if over >= total:
                return self._ending(trials)
            await parent.rest()

    async def _trial(self, name: str, run: FlowRun) -> _Trial:
        state = state_of(run)
        values = self._values(run)
        stopped = RunLabels.read(run.labels).stopped_early
        if state is JobState.CANCELLED and stopped:
            curve = await self._read_curve(name, run)
            reached = curve[-1].value if curve else None
            return _Trial(name, values, run, _STOPPED, reached=reached, note=stopped)
        if state is not JobState.SUCCEEDED:
            return _Trial(name, values, run, state, note=_why(run) if state.is_terminal else "")
        metrics = await self._parent.metrics(run, output_dir=_output_dir(run))
        value = pick(metrics, self._sweep.metric)
        note = _note(metrics, self._sweep.metric, value)
        diverged = has_diverged(metrics) or (value is not None and not math.isfinite(value))
        return _Trial(name, values, run, state, value=value, note=note, diverged=diverged)

    def _values(self, run: FlowRun) -> Values:
        """The values of a trial, read from its own job."""
        request = JobRequest.model_validate(run.parameters["request"])
        given: dict[str, Any] = {
            **request.overrides,
            **{f"{_ENVS}{key}": value for key, value in request.envs.items()},
        }
        values = {key: given.get(key) for key in self._sweep.space}
        # An environment variable is always text: restore the type of the value.
        return {key: _parse_value(value, self._sweep.space[key]) for key, value in values.items()}

    async def _start(self, trials: list[_Trial]) -> list[_Trial]:
        """Start as many trials as may run; return all trials."""
        trials = list(trials)
        sweep = self._sweep
        while len(trials) < sweep.trials:
            live = sum(not trial.is_over for trial in trials)
            if live >= sweep.concurrency:
                break
            runs = [trial.run for trial in trials if trial.run is not None]
            if why := await self._budget.why_full(runs, rate=self._parent.children.rate):
                # A trial that ends may free what it reserved and did not use.
                self._used_up = "" if live else why
                break
            taken = {trial.name for trial in trials}
            number = next(n for n in range(sweep.trials) if _PART.format(n + 1) not in taken)
            tried = [Tried(trial.values, self._worth(trial)) for trial in trials if trial.is_over]
            values = await asyncio.to_thread(values_of, sweep, number, tried)
            trials.append(await self._start_one(_PART.format(number + 1), values))
        return trials

    def _worth(self, trial: _Trial) -> float | None:
        """The value for the search; None: the trial failed."""
        value = trial.reached if trial.value is None else trial.value
        if value is None or (math.isfinite(value) and not trial.diverged):
            return value
        return self._sweep.direction.worst

    async def _start_one(self, name: str, values: Values) -> _Trial:
        request = self._request(name, values)
        try:
            run = await self._parent.children.start(name, request, after=())
        except OumiFlowsError as error:
            trial = _Trial(name, values, None, JobState.FAILED, note=error.sentences)
            self._unstartable[name] = trial
            return trial
        self._parent.logger.info("Started %s: job %s, %s", name, run.id, _describe(values))
        return _Trial(name, self._values(run), run, state_of(run))

    def _request(self, name: str, values: Values) -> JobRequest:
        sweep = self._sweep
        base = sweep.request
        overrides = {key: one for key, one in values.items() if not key.startswith(_ENVS)}
        envs = {
            key.removeprefix(_ENVS): str(one)
            for key, one in values.items()
            if key.startswith(_ENVS)
        }
        if sweep.output_key:
            place = f"{self._folder}/{name}"
            overrides[sweep.output_key] = (
                f"{place}/{sweep.output_name}" if sweep.output_name else place
            )
        return base.model_copy(
            update={
                "overrides": {**base.overrides, **overrides},
                "envs": {**base.envs, **envs, names.TRIAL_ENV: name},
                "job_name": f"{sweep.name}-{name}",
            }
        )

    async def _stop_hopeless(self, trials: list[_Trial]) -> None:
        rule = self._sweep.early_stopping
        if rule is None:
            return
        curves = {
            trial.name: await self._read_curve(trial.name, trial.run)
            for trial in trials
            if trial.run is not None and trial.state in (JobState.RUNNING, JobState.SUCCEEDED)
        }
        for trial in trials:
            if trial.run is None or trial.state != JobState.RUNNING:
                continue
            others = {name: one for name, one in curves.items() if name != trial.name}
            why = RunLabels.read(trial.run.labels).stopped_early
            if why is None:
                why = reason_to_stop(
                    curves[trial.name],
                    others,
                    rule,
                    self._sweep.direction,
                    losses=await self._read_losses(trial.run),
                )
                # Write the label first, so that the trial does not count as failed.
                if why:
                    await self._parent.children.label(trial.run, RunLabels(stopped_early=why))
            if why:
                await self._parent.children.cancel(trial.run, force=False, message=why)
                self._parent.logger.info("Stopped %s early: %s", trial.name, why)

    async def _read_curve(self, name: str, run: FlowRun) -> list[Point]:
        """The metric of a trial by step; of a trial that is over it is read once."""
        if name in self._curves:
            return self._curves[name]
        files = result_files(RunLabels.read(run.labels))
        look = f"the metrics of job {run.id}"
        curve = await self._parent.reading.read(look, read_curve, files, self._sweep.metric) or []
        if state_of(run).is_terminal:
            self._curves[name] = curve
        return curve

    async def _read_losses(self, run: FlowRun) -> list[Point]:
        look = f"the losses of job {run.id}"
        return (
            await self._parent.reading.read(
                look, read_losses, result_files(RunLabels.read(run.labels))
            )
            or []
        )

    def _rank(self, trials: list[_Trial]) -> list[_Trial]:
        """Sort the trials: the best first, then diverged ones, then those without a value."""

        def place(trial: _Trial) -> tuple[bool, bool, float, int]:
            value = trial.value
            order = self._sweep.direction.order(value) if trial.can_win and value is not None else 0
            number = int(trial.name.rpartition("-")[2])
            return not trial.can_win, value is None, order, number

        return sorted(trials, key=place)

    def _standings(self, trials: list[_Trial]) -> dict[Config, Standing]:
        known = [
            (trial.values, trial.value)
            for trial in trials
            if trial.can_win and trial.value is not None
        ]
        return stand(known, self._sweep.direction)

    def _leaderboard(self, trials: list[_Trial]) -> list[Row]:
        standings = self._standings(trials)
        return [
            {
                "rank": rank if trial.can_win else None,
                "trial": trial.name,
                "state": str(trial.state),
                self._sweep.metric: None if trial.value is None else to_json(trial.value),
                **trial.values,
                "note": trial.note or _note_of_seeds(trial, standings),
                "job_id": str(trial.run.id) if trial.run else "",
            }
            for rank, trial in enumerate(self._rank(trials), start=1)
        ]

    def _describe_noise(self, trials: list[_Trial]) -> str:
        """Say which config is best over its seeds; empty if there are no replicates."""
        standings = self._standings(trials)
        if not standings:
            return ""
        best, standing = next(one for one in standings.items() if one[1].verdict is None)
        same = [one for one in standings.values() if one.verdict is Verdict.NOT_DISTINGUISHABLE]
        said = f"over seeds {_describe(dict(best)) or 'the only config'} is best, {standing.words}"
        if same:
            said += f"; {len(same)} other configs are not distinguishable from it"
        return f"{said}; "

    def _ending(self, trials: list[_Trial]) -> Outcome:
        if not trials:
            return Outcome(TerminationReason.OVER_BUDGET, f"No trial was started. {self._used_up}.")
        ranked = self._rank(trials)
        failed = [trial for trial in ranked if trial.has_failed]
        stopped = sum(trial.state == _STOPPED for trial in trials)
        count = f"{len(failed)} of {len(trials)} trials failed, {stopped} were stopped early"
        if diverged := [trial.name for trial in ranked if trial.diverged]:
            count += f", {len(diverged)} diverged ({', '.join(diverged[:3])})"
        left = self._sweep.trials - len(trials)
        if left and self._used_up:
            count += f", {left} were not started. {self._used_up}"
        elif left:
            count += f", {left} were not started: retry the sweep to run them"
        best = ranked[0]
        if best.can_win:
            return Outcome(
                self._reason_with_best(left),
                f"Best is {best.name}: {self._sweep.metric} {best.value:.6g} with "
                f"{_describe(best.values)}; {self._describe_noise(trials)}{count}.",
            )
        if diverged and not failed:
            return Outcome(
                TerminationReason.INVALID_CONFIG,
                f"No trial has a usable {self._sweep.metric}; {best.name}: {best.note}; {count}.",
            )
        # A failure counts before a cancel.
        first = min(failed, key=lambda one: one.state == JobState.CANCELLED, default=best)
        why = first.note.rstrip(".")
        text = f"No trial left the metric {self._sweep.metric}; {first.name}: {why}; {count}."
        return Outcome(_reason(first.run), text)

    def _reason_with_best(self, left: int) -> TerminationReason:
        if self._used_up:
            return TerminationReason.OVER_BUDGET
        return TerminationReason.USER_CANCELLED if left else TerminationReason.COMPLETED


def _note_of_seeds(trial: _Trial, standings: Mapping[Config, Standing]) -> str:
    standing = standings.get(config_of(trial.values)) if trial.can_win else None
    return standing.words if standing else ""


def _parse_value(value: Any, one: Choices | Range) -> Scalar:
    if not isinstance(value, str):
        return cast(Scalar, value)
    if isinstance(one, Range):
        return round(float(value)) if one.is_whole else float(value)
    return next((choice for choice in one if str(choice) == value), value)


def _output_dir(run: FlowRun) -> str:
    return RunLabels.read(run.labels).output_dir or ""


def _note(metrics: Mapping[str, float], metric: str, value: float | None) -> str:
    """The remark on a trial that succeeded."""
    if words := divergence(last_loss(metrics)):
        return words
    if value is None:
        return f"no metric {metric}; it has {', '.join(sorted(metrics)[:10]) or 'none'}"
    return "" if math.isfinite(value) else f"diverged: {metric} is {to_json(value)}"


def _why(run: FlowRun) -> str:
    if run.state is None:
        return ""
    return read_message(run.state.type.value, run.state.name or "", run.state.message)[1]


def _reason(run: FlowRun | None) -> TerminationReason:
    """Why a sweep failed; `run` is its first failed trial."""
    if run is None or run.state is None or state_of(run) is JobState.SUCCEEDED:
        return TerminationReason.INVALID_CONFIG
    reason, _ = read_message(run.state.type.value, run.state.name or "", run.state.message)
    return reason or TerminationReason.NONZERO_EXIT


def _describe(values: Mapping[str, object]) -> str:
    return ", ".join(
        f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in values.items()
    )
