"""The `oumi` Prefect worker: one warm process that runs every job flow as an asyncio task.

Importing Oumi's launcher costs 10 CPU seconds and 1.1 GB (oumi 0.9): a process per run, which is
what Prefect's process worker does, costs that for every job that is merely watched.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

import httpx
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.context import AsyncClientContext
from prefect.events.clients import get_events_subscriber
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from flows.answers.pruning import prune_old_files
from flows.core import names
from flows.core.foreign_errors import note_defects
from flows.core.server_record import guard_server_port
from flows.core.settings import Settings
from flows.families.cancelling import end_and_conclude
from flows.families.settling import settle_parts
from flows.job.intervals import USUAL, Intervals
from flows.job.job_flow import run_job
from flows.job.run_request import identify
from flows.job.runtime import Runtime, set_current_runtime
from flows.launcher.local.gpus import read_gpus
from flows.launcher.oumi_launcher import OumiLauncher
from flows.launcher.port import Launcher
from flows.machine_checks.checks import WorkerChecks
from flows.worker.budget_keeper import BudgetKeeper
from flows.worker.clock_watch import ClockWatch
from flows.worker.deployed_flows import DeployedFlows, FlowNotLoaded
from flows.worker.direct_answers import DirectAnswers
from flows.worker.in_process_engine import run_in_process, run_until_cancelled
from flows.worker.job_limits import Slots, WaitingRuns
from flows.worker.local_jobs import end_given_up
from flows.worker.loops import API_ERRORS, Loops
from flows.worker.other_workers import OtherWorkers
from flows.worker.ownership import Owner
from flows.worker.pool_runs import LATE, PoolRuns
from flows.worker.repeated_errors import (
    RepeatedErrors,
    error_of_execution,
    give_up_if_too_often,
    is_cancelling,
)
from flows.worker.run_news import RunNews, Subscribe
from flows.worker.run_requests import RunRequests
from flows.worker.schedule_overlap import LONGEST_QUEUE
from flows.worker.signed_runs import SignedRuns

_LOST_SWEEPS = 3
"""One of so many looks also searches for runs that have lost their work pool."""
_PRUNE_SECONDS = 86_400.0


class OumiWorkerResult(BaseWorkerResult):
    """The result of one execution of a run; its state has all information."""


class OumiWorker(BaseWorker[BaseJobConfiguration, BaseVariables, OumiWorkerResult]):
    """Runs job flows in its own process, observes their cancels, adopts orphaned ones.

    Args:
        settings: The settings; None: those of the environment.
        launcher: Launches the jobs; None: Oumi's launcher.
        intervals: How long it and its runs wait.
        longest_queue: The most runs of one schedule that wait for each other.
        subscribe: Connects to the server's events.
    """

    type = names.WORKER_TYPE
    job_configuration = BaseJobConfiguration
    _description: ClassVar[str] = "Runs Oumi jobs as flows inside one warm process."

    def __init__(
        self,
        *args: Any,
        settings: Settings | None = None,
        launcher: Launcher | None = None,
        intervals: Intervals = USUAL,
        longest_queue: int = LONGEST_QUEUE,
        subscribe: Subscribe = get_events_subscriber,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._settings = settings or Settings()
        checks = WorkerChecks.of_this_machine() if launcher is None else None
        launcher = launcher or OumiLauncher(self._settings)
        self._runtime = Runtime(
            launcher, self._settings, observes_cancels=True, checks=checks, intervals=intervals
        )
        self._intervals = intervals
        self._longest_queue = longest_queue
        self._owner = Owner.current(self._settings.home, worker=self.name)
        local_limit = self._settings.local_slots or max(1, len(read_gpus().devices))
        self._slots = Slots(limit=self._limit, local_limit=local_limit)
        self._flows = DeployedFlows()
        self._errors = RepeatedErrors(pause_seconds=intervals.sweep)
        self._active: dict[UUID, FlowRun] = {}
        self._signed = SignedRuns()
        self._starting = asyncio.Semaphore(self._settings.start_concurrency)
        self._loops = Loops(self._logger)
        self._sweeps = 0
        often = self._settings.worker_poll_seconds
        # Runs that are due by then are in the answer to a look, and expected.
        seldom = max(often, 0.8 * self._prefetch_seconds)
        self._news = RunNews(
            is_active=self._active.__contains__,
            is_paused=self._runtime.is_paused,
            often=often,
            seldom=seldom,
            retry_seconds=intervals.sweep,
            logger=self._logger,
            subscribe=subscribe,
        )
        self._looking = asyncio.Lock()

    async def start(
        self,
        run_once: bool = False,  # noqa: FBT001, FBT002 - the base class's signature
        with_healthcheck: bool = False,  # noqa: FBT001, FBT002
        printer: Callable[..., None] = print,
    ) -> None:
        """Start the worker; every run shares its one API client and its runtime."""
        guard_server_port(PREFECT_API_URL.value() or "", self._settings.engine_dir)
        set_current_runtime(self._runtime)
        async with AsyncClientContext.get_or_create():
            await super().start(
                run_once=run_once, with_healthcheck=with_healthcheck, printer=printer
            )

    async def setup(self) -> None:
        """Begin to load Oumi, to observe cancels and to look for orphaned runs."""
        await super().setup()
        lost, sweep = self._settings.unreachable_timeout_seconds, self._intervals.sweep
        silent, pool = self._intervals.silent, self._work_pool_name
        self._others = OtherWorkers(
            self.client, pool, self.name, silent_seconds=silent, lost_seconds=lost
        )
        budgets = BudgetKeeper(self.client, self._work_pool_name, self._runtime, self._logger)
        loops, news = self._loops, self._news
        loading = loops.start(self._warm_up(), "warm up")
        answers = DirectAnswers(self._settings, self._work_pool_name, is_ready=loading.done)
        loops.start(answers.serve(), "answers")
        loops.start(news.follow(), "news")
        loops.start(news.due.follow(self.get_and_submit_flow_runs), "due")
        loops.start(news.ends.follow(loops.guard(self._observe_cancels)), "ends")
        loops.repeat(self._observe_cancels, self._settings.worker_poll_seconds, "cancels")
        loops.repeat(self._adopt_orphans, sweep, "orphans")
        loops.repeat(ClockWatch(self._pool_runs.bring_forward).look, sweep, "clock")
        loops.repeat(self._observe_deletions, sweep, "deletions")
        loops.start(budgets.follow(loops.guard), "budgets")
        loops.repeat(partial(prune_old_files, self.client, self._settings), _PRUNE_SECONDS, "prune")
        loops.repeat(self._pool_runs.remove_old_answers, self._intervals.tidy, "tidy")

    async def teardown(self, *exc_info: Any) -> None:
        """Stop; jobs keep running, and the next worker adopts their runs."""
        await self._loops.stop()
        await super().teardown(*exc_info)

    async def run(
        self, flow_run: FlowRun, configuration: BaseJobConfiguration, task_status: Any = None
    ) -> OumiWorkerResult:
        """Run one flow run to the end of this execution of it."""
        if task_status is not None:
            task_status.started(str(self._owner))
        await self._execute(flow_run)
        return OumiWorkerResult(identifier=str(self._owner), status_code=0)

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Do what the base class does, when it is due; its loop calls this very often.

        A server that does not answer must not end the worker.
        """
        async with self._looking:
            if not self._news.due.is_due():
                return []
            try:
                with self._news.due.looking():
                    return await super().get_and_submit_flow_runs()
            except API_ERRORS as error:
                self._logger.warning("Prefect did not answer: %r", error)
                await asyncio.sleep(1)
                return []

    async def sync_with_backend(self) -> None:
        """Do what the base class does; it would end the worker after half an hour of failures."""
        try:
            await super().sync_with_backend()
        except httpx.TransportError as error:
            self._logger.warning("Prefect got no heartbeat: %r", error)
        except httpx.HTTPStatusError as error:
            if error.response.is_client_error:
                raise
            self._logger.warning("Prefect got no heartbeat: %r", error)

    async def _worker_metadata(self) -> None:
        """Return nothing: the base class reads the metadata of all packages, 0.4 CPU s."""

    async def _submit_scheduled_flow_runs(
        self, flow_run_response: list[WorkerFlowRunResponse]
    ) -> list[FlowRun]:
        """Start the due runs that have a slot; show the others as queued.

        The base class (prefect 3.8) makes about eight more API calls per run, for infrastructure
        that runs here do not have.
        """
        return await self._start([entry.flow_run for entry in flow_run_response])

    async def _start(self, due: list[FlowRun]) -> list[FlowRun]:
        now = datetime.now(UTC)
        due = [run for run in due if run.id not in self._active]
        for at in (run.next_scheduled_start_time for run in due):
            if at is not None and at > now:
                self._news.due.expect((at - now).total_seconds())
        due = [run for run in due if (run.next_scheduled_start_time or now) <= now]
        held = await self._waiting.hold_back(due, active=self._active.values())
        started: list[FlowRun] = []
        for run in due:
            if run.id in held:
                continue
            try:
                is_job = await self._flows.of(run, client=self.client) is run_job
            except FlowNotLoaded as error:
                await self._refuse(run, error)
                continue
            if is_job and not self._slots.has_room(run, active=self._active.values()):
                await self._waiting.show(run, "Waiting for a slot.")
                continue
            self._spawn(self._begin, run)
            started.append(run)
        return started

    async def _refuse(self, run: FlowRun, error: FlowNotLoaded) -> None:
        """Fail a run whose flow is not installed; a run of another version of oumi-flows waits.

        `oumi-flows up` replaces this worker by one of that version, which runs it.
        """
        if not error.is_ours:
            await self._propose_failed_state(run, error)
            return
        why = f"This worker is of another version. Run `oumi-flows up` to replace it. {error}"
        if run.state_name != LATE:
            self._logger.error("Flow run %s waits: %s", run.id, why)
        await self._waiting.show(run, why)

    def _spawn(self, execute: Callable[[FlowRun], Awaitable[None]], run: FlowRun) -> None:
        if self._runs_task_group is None:
            raise RuntimeError("The worker is not set up.")
        self._active[run.id] = run
        self._runs_task_group.start_soon(self._run_guarded, execute, run)

    async def _run_guarded(
        self, execute: Callable[[FlowRun], Awaitable[None]], run: FlowRun
    ) -> None:
        """Run `execute` to its end; no error of it may end another run."""
        began_at = asyncio.get_running_loop().time()
        try:
            error = None
            with self._signed.execution(run.id):
                error = await error_of_execution(execute, run, logger=self._logger)
            if error is None:
                self._errors.forget(run.id)
            else:
                lasted_seconds = asyncio.get_running_loop().time() - began_at
                await give_up_if_too_often(
                    run,
                    error,
                    errors=self._errors,
                    lasted_seconds=lasted_seconds,
                    client=self.client,
                    logger=self._logger,
                )
        except (ObjectNotFound, *API_ERRORS) as failure:
            self._logger.info("Flow run %s was not given up: %r", run.id, failure)
        finally:
            self._active.pop(run.id, None)
            self._news.due.tell()  # one that waits for this slot

    async def _begin(self, run: FlowRun) -> None:
        """Execute a run that is due."""
        async with self._starting:
            if not await self._propose_pending_state(run):
                return
            shown = await asyncio.to_thread(identify, run)
            await self.client.update_flow_run(
                run.id, infrastructure_pid=str(self._owner), name=shown.name, tags=shown.tags
            )
            self._signed.sign(run.id)
        await self._execute(run)

    async def _take_up(self, orphan: FlowRun) -> None:
        """Execute an orphaned run, or end its jobs if it is being cancelled."""
        run = await self._pool_runs.claim(orphan)
        if run is None or run.state is None:
            return
        self._signed.sign(run.id)
        if await self._requests.keep_waiting(run):
            return
        self._logger.info("Adopting flow run %s (%s)", run.id, run.state_name)
        if run.state.is_paused():
            run = await self._requests.take_back(run)
        if is_cancelling(run):
            await end_and_conclude(run, client=self.client, runtime=self._runtime)
        else:
            await self._execute(run)

    async def _execute(self, run: FlowRun) -> None:
        flow = await self._flows.of(run, client=self.client)
        if flow is run_job:
            state = await run_in_process(run_job, run)
            must_end = state.is_cancelling()
        else:
            must_end = await run_until_cancelled(flow, run, runtime=self._runtime)
            if flow.name in names.PARENT_FLOWS and not must_end:
                await settle_parts(self.client, pool=self._work_pool_name)
        if must_end:
            run = await self.client.read_flow_run(run.id)
            await end_and_conclude(run, client=self.client, runtime=self._runtime)

    async def _warm_up(self) -> None:
        # The next use of Oumi raises the error again.
        with note_defects(lambda error: self._logger.error("Oumi was not loaded", exc_info=error)):
            await self._runtime.launcher.warm_up()
            self._logger.info("Oumi is loaded.")
        end = partial(end_given_up, self.client, self._runtime.launcher, self._owner, self._logger)
        await self._loops.guard(end)()

    async def _observe_cancels(self) -> None:
        """Pass a cancel, a terminal state or a pause on to the active runs, when it is due."""
        if not self._active or not self._news.ends.is_due():
            return
        with self._news.ends.looking():
            ids = list(self._active)
            asking = await self._pool_runs.find_asking(ids)
        if any(is_cancelling(run) for run in asking):
            # No event says that a cancel is forced now.
            self._news.ends.expect(self._settings.worker_poll_seconds)
        await self._requests.pass_on(ids, asking)

    async def _observe_deletions(self) -> None:
        """Stop the active runs that the server no longer has."""
        if not self._active:
            return
        for job_id in await self._pool_runs.find_deleted(list(self._active)):
            if request := self._runtime.cancels.get(job_id):
                request.ask(force=False, concluded=True)

    async def _adopt_orphans(self) -> None:
        """Adopt the orphaned runs of this pool; settle jobs whose pipeline or sweep has ended."""
        signed = self._signed.ids()
        runs = await self._pool_runs.find_executing()
        let_go = self._signed.let_go_of_taken
        for run in await let_go(runs, signed, self._owner, self._runtime.launcher):
            self._logger.warning("Flow run %s was taken up by another worker", run.id)
        for run in await self._pool_runs.choose_orphans(runs):
            is_due = self._errors.is_due(run.id, is_cancel=is_cancelling(run))
            if run.id not in self._active and is_due:
                self._spawn(self._take_up, run)
        if self._sweeps % _LOST_SWEEPS == 0:
            await self._adopt_lost()
        self._sweeps += 1
        await settle_parts(self.client, pool=self._work_pool_name)

    async def _adopt_lost(self) -> None:
        """Adopt runs whose work pool was deleted and created again, or whose queue was deleted."""
        lost = await self._pool_runs.find_lost()
        due = [run for run in lost if run.state is not None and run.state.is_scheduled()]
        for run in lost:
            if run not in due and run.id not in self._active:
                self._spawn(self._take_up, run)
        await self._start(due)

    @property
    def _waiting(self) -> WaitingRuns:
        return WaitingRuns(self.client, self._logger, longest_queue=self._longest_queue)

    @property
    def _requests(self) -> RunRequests:
        return RunRequests(self.client, self._runtime)

    @property
    def _pool_runs(self) -> PoolRuns:
        return PoolRuns(
            self.client,
            self._work_pool_name,
            self._owner,
            others=self._others,
            launcher=self._runtime.launcher,
            intervals=self._intervals,
        )
