"""The `oumi-pipeline` flow: jobs that wait for each other and use what others left."""

from collections.abc import Mapping
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import FlowRun, State

from flows.core import names
from flows.core.divergence import divergence, has_diverged, last_loss
from flows.core.errors import OumiFlowsError
from flows.core.pipelines.references import references_in
from flows.core.pipelines.results import PartResult
from flows.core.pipelines.spec import Part, Pipeline
from flows.core.prefect_states import read_message
from flows.core.result_metrics import pick
from flows.core.run_labels import RunLabels
from flows.core.states import JobState, TerminationReason
from flows.families.parent import Parent, Row, current_parent
from flows.families.pipeline_progress import HELD, PartProgress, PartState, advance
from flows.job.outcome import Outcome
from flows.job.prefect_calls import state_of


@flow(
    name=names.PIPELINE_FLOW,
    persist_result=False,
    description="Run Oumi jobs that wait for each other.",
)
async def run_pipeline(pipeline: Pipeline) -> "State[Any]":
    """Start each part when those before it have ended, and end when all have.

    Its state is read from its jobs, so a worker may adopt the run any number of times and starts no
    job twice. `flows.families.cancelling` cancels it.

    Args:
        pipeline: What to run.

    Returns:
        The Prefect state the pipeline ends in.
    """
    async with current_parent() as parent:
        return await parent.conclude(await _Run(pipeline, parent).outcome())


class _Run:
    def __init__(self, pipeline: Pipeline, parent: Parent) -> None:
        self._pipeline = pipeline
        self._parent = parent
        self._asked = _metrics_asked(pipeline)
        self._refused: dict[str, str] = {}
        """Why the job of a part could not be started."""

    async def outcome(self) -> Outcome:
        """Run the pipeline to its end."""
        parent = self._parent
        await parent.retry_failed(await parent.children.all())
        while True:
            runs = await parent.children.all()
            results, held = await self._results(runs), self._find_held(runs)
            progress = self._advance(results, held)
            if ready := [one for one in progress if one.state is PartState.READY]:
                for part_progress in ready:
                    runs = await self._start(part_progress, runs)
                results = await self._results(runs)
                progress = self._advance(results, held)
            over = sum(one.state.is_over for one in progress)
            rows = [
                _row(part_progress, results.get(part_progress.part.name), self._asked)
                for part_progress in progress
            ]
            about = f"Pipeline **{self._pipeline.name}**: {over} of {len(progress)} jobs are over"
            await parent.show(rows, over=over, total=len(rows), about=about)
            if over == len(progress):
                diverged = [name for name, one in results.items() if has_diverged(one.metrics)]
                return _outcome(progress, runs, diverged=diverged)
            await parent.rest()

    def _find_held(self, runs: Mapping[str, FlowRun]) -> set[str]:
        """The parts that must not start: all but those after a part that was retried alone."""
        if self._parent.one_part_since is None:
            return set()
        going = {name for name, run in runs.items() if self._parent.moves(run)}
        for part in self._pipeline.parts:
            if not going.isdisjoint(part.after):
                going.add(part.name)
        return {part.name for part in self._pipeline.parts} - going

    def _advance(self, results: Mapping[str, PartResult], held: set[str]) -> list[PartProgress]:
        return advance(self._pipeline, results, held=held, refused=self._refused)

    async def _results(self, runs: Mapping[str, FlowRun]) -> dict[str, PartResult]:
        parts = [part for part in self._pipeline.parts if part.name in runs]
        return {part.name: await self._result(part, runs[part.name]) for part in parts}

    async def _result(self, part: Part, run: FlowRun) -> PartResult:
        state = state_of(run)
        labels = RunLabels.read(run.labels)
        output_dir = part.output_dir or labels.output_dir or ""
        metrics: Mapping[str, float] = {}
        if state is JobState.SUCCEEDED:
            metrics = await self._parent.metrics(run, output_dir=output_dir)
        return PartResult(
            state=state,
            job_id=str(run.id),
            output_dir=output_dir,
            model_name=labels.model_name or "",
            log_path=labels.log_path or "",
            metrics=metrics,
        )

    async def _start(
        self, part_progress: PartProgress, runs: Mapping[str, FlowRun]
    ) -> dict[str, FlowRun]:
        """Start the job of a part; return the jobs with the new one."""
        part, request = part_progress.part, part_progress.request
        if request is None:
            raise ValueError(f"{part.name} is not ready")
        after = [runs[name] for name in part.after if name in runs]
        try:
            run = await self._parent.children.start(
                part.name, request, after=after, tags=part.tags, output_dir=part.output_dir
            )
        except OumiFlowsError as error:
            self._refused[part.name] = error.sentences
            return dict(runs)
        self._parent.logger.info("Started %s: job %s", part.name, run.id)
        return {**runs, part.name: run}


def _metrics_asked(pipeline: Pipeline) -> dict[str, set[str]]:
    """The metrics of each step that others refer to."""
    asked: dict[str, set[str]] = {}
    for part in pipeline.parts:
        for one in references_in([part.when, part.request.overrides, part.request.envs]):
            if one.metric is not None:
                asked.setdefault(one.head, set()).add(one.metric)
    return asked


def _row(
    part_progress: PartProgress, result: PartResult | None, asked: Mapping[str, set[str]]
) -> Row:
    """The row of a part in the table."""
    part = part_progress.part
    metrics: Mapping[str, float] = result.metrics if result else {}
    shown = [(name, pick(metrics, name)) for name in sorted(asked.get(part.step, ()))]
    return {
        "step": part.name,
        "state": result.state if result else part_progress.state.value,
        "metrics": ", ".join(f"{name} {value:.4g}" for name, value in shown if value is not None),
        "note": part_progress.why or divergence(last_loss(metrics)),
        "job_id": result.job_id if result else "",
    }


def _outcome(
    progress: list[PartProgress], runs: Mapping[str, FlowRun], *, diverged: list[str]
) -> Outcome:
    """How a pipeline ends: as the first part that failed and must not."""
    failed = [one for one in progress if one.state is PartState.FAILED]
    failed = [one for one in failed if not one.part.may_fail]
    succeeded = sum(one.state is PartState.SUCCEEDED for one in progress)
    count = f"{succeeded} of {len(progress)} jobs succeeded"
    skipped = [one.part.name for one in progress if one.state is PartState.SKIPPED]
    if skipped:
        count += f", {len(skipped)} skipped ({', '.join(skipped[:3])})"
    if diverged:
        count += f", {len(diverged)} diverged ({', '.join(diverged[:3])})"
    if held := [one.part.name for one in progress if one.why == HELD]:
        count += (
            f", {len(held)} not started ({', '.join(held[:3])}): retry the pipeline to run them"
        )
    if held and not failed:
        return Outcome(TerminationReason.USER_CANCELLED, f"{count}.")
    if not failed:
        return Outcome(TerminationReason.COMPLETED, f"{count}.")
    # A failure counts before a cancel.
    ended = [
        (part_progress, *_ending(part_progress, runs.get(part_progress.part.name)))
        for part_progress in failed
    ]
    part_progress, reason, why = min(ended, key=lambda one: one[1].job_state is JobState.CANCELLED)
    return Outcome(reason, f"{part_progress.part.name} failed: {why.rstrip('.')}; {count}.")


def _ending(part_progress: PartProgress, run: FlowRun | None) -> tuple[TerminationReason, str]:
    if run is None or run.state is None:
        return TerminationReason.INVALID_CONFIG, part_progress.why
    reason, text = read_message(run.state.type.value, run.state.name or "", run.state.message)
    return reason or TerminationReason.LOST, text
