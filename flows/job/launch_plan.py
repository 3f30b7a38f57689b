"""What an attempt of a job launches, and where. Blocking: it reads files."""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from flows.core import names
from flows.core.checks.launch import Launch, read_launch
from flows.core.configs.checkpoints import Checkpoint
from flows.core.configs.clouds import free_cluster, kind_of
from flows.core.configs.overrides import apply_overrides
from flows.core.configs.plan import (
    RESUME_KEY,
    TRY_RESUME_KEY,
    JobPlan,
    lookup,
    make_plan,
    with_own_output,
)
from flows.core.configs.reader import ConfigFile, ConfigKind, submitted_config
from flows.core.configs.schema import ConfigType
from flows.core.errors import OumiFlowsError
from flows.core.models import Command, JobRequest
from flows.core.provenance import Provenance, Source, keep, provenance
from flows.core.redaction import Redactor, config_secrets, own_secrets
from flows.core.result_marks import ResultMarks, marks_of
from flows.core.settings import Settings
from flows.job.own_checkpoints import OwnCheckpoints, Owner
from flows.job.run_record import LabelValue, RunRecord
from flows.job.shared_output import Sharing
from flows.launcher.job_environment import with_job_environment
from flows.launcher.progress_hook import SIGN


class LaunchPlan:
    """The config of a job as it was submitted, and what follows from it.

    Args:
        request: What to run.
        record: The flow run.
        settings: Where copies of configs are kept.
        logger: The run's log.
    """

    def __init__(
        self,
        request: JobRequest,
        record: RunRecord,
        settings: Settings,
        logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]",
    ) -> None:
        self.labels: dict[str, LabelValue] = {}
        """The labels to write on the run before the last job config is launched."""
        self.sharing = Sharing()
        """The other jobs that wrote to the job's folder since it began."""
        self._request = request
        self._record = record
        self._settings = settings
        self._logger = logger

    def job_config(self, attempt: int) -> str:
        """The exact job config to launch.

        Raises:
            ConfigNotFound: Neither the config nor its copy is on this machine.
            InvalidConfig: It cannot be run.
        """
        key = names.launch_key(self._record.run.id, attempt)
        plan = self._plan(attempt)
        return with_job_environment(plan.job_config, key=key, settings=self._settings)

    def cluster_name(self) -> str:
        """The cluster to run on."""
        request = self._request
        free = free_cluster(kind_of(request.cloud), str(self._record.run.id))
        known = request.cluster_name or free or self._record.labels.get(names.LABEL_CLUSTER)
        return str(known) if known else make_plan(request, self._config()).cluster_name

    def launch(self) -> Launch:
        """The launch that pre-flight checks examine."""
        config = self._config()
        request = self._effective_request(config)
        return read_launch(
            config,
            client_cwd=request.client_cwd,
            cloud=request.cloud,
            command=request.command,
            overrides=request.overrides,
            envs=request.envs,
        )

    def keep_provenance(self) -> dict[str, LabelValue]:
        """Keep a record of what this attempt runs on; return the label that names it."""
        folder = Path(self._request.client_cwd)
        try:
            config = self._config()
            launch = self.launch()
        except OumiFlowsError as error:
            self._logger.warning("There is no record of what the job runs on: %s", error.what)
            return {}
        sources = [Source(config.data, folder)] if config.kind is ConfigKind.JOB else []
        sources += [
            Source(
                recipe.data,
                folder if recipe.base is None else recipe.base,
                "" if config.kind is ConfigKind.COMMAND else recipe.path,
            )
            for recipe in launch.recipes
        ]
        seeds = [
            lookup(recipe.data, Command.TRAIN, "training.seed")
            for recipe in launch.recipes
            if recipe.config_type is ConfigType.TRAINING
        ]
        seed = next((seed for seed in seeds if isinstance(seed, int)), None)
        record = provenance(sources, client_cwd=self._request.client_cwd, seed=seed)
        redactor = Redactor([*own_secrets(), *self.secrets()])
        record = Provenance.model_validate(redactor.config(record.model_dump(mode="json")))
        try:
            return {names.LABEL_PROVENANCE: keep(record, self._settings.records_dir)}
        except OSError as error:
            self._logger.warning("The record of what the job runs on was not kept: %s", error)
            return {}

    def result_marks(self, attempt: int) -> dict[str, LabelValue]:
        """The label that records the contents of the folder of results before a launch."""
        labels = {**self._record.labels, **self.labels}
        folder = str(labels.get(names.LABEL_OUTPUT_DIR) or "")
        marks = marks_of(labels.get(names.LABEL_RESULT_MARKS), folder)
        marks = marks or ResultMarks(folder=folder)
        if not folder or marks.has(attempt):
            return {}  # the worker that began the launch wrote them: the job may write by now
        goes_on = labels.get(names.LABEL_FRESH_ATTEMPT) != attempt
        if (
            self._config().kind is not ConfigKind.JOB
        ):  # the script of a job config decides where to resume
            goes_on &= labels.get(names.LABEL_RESUMED_ATTEMPT) == attempt
        return _label(marks.next(attempt, goes_on=goes_on))

    def final_marks(self, attempt: int) -> dict[str, LabelValue]:
        """The same label after the end of an attempt: later lines of the file are not its own."""
        labels = self._record.labels
        folder = str(labels.get(names.LABEL_OUTPUT_DIR) or "")
        marks = marks_of(labels.get(names.LABEL_RESULT_MARKS), folder)
        return _label(marks.with_end(attempt)) if marks else {}

    def secrets(self) -> list[str]:
        """The secrets that the config gives the job."""
        if self._request.launcher_job_id is None:
            with suppress(OumiFlowsError):  # the launch reports a config that cannot be read
                return config_secrets(self._config().data)
        return []

    def _plan(self, attempt: int) -> JobPlan:
        config = self._config()
        request = self._effective_request(config)
        job_id = str(self._record.run.id)
        plan = make_plan(request, config, job_id=job_id)
        if self._request.own_output and plan.output_dir:
            self.labels[names.LABEL_OUTPUT_DIR] = plan.output_dir
        fresh = self._record.labels.get(names.LABEL_FRESH_ATTEMPT) == attempt
        if request.command is not Command.TRAIN or not plan.argv or not (attempt > 1 or fresh):
            return plan
        data = apply_overrides(config.data, request.overrides, request.command)
        tries = lookup(data, request.command, TRY_RESUME_KEY) not in (None, False)
        if fresh:
            self.labels[names.LABEL_FRESH_SINCE] = time.time()
        elif checkpoint := self._checkpoint(plan, data, tries=tries):
            self.labels[names.LABEL_RESUMED_ATTEMPT] = attempt
            self.labels[names.LABEL_RESUMED_STEP] = checkpoint.step
            self._logger.info("Resuming from step %s: %s", checkpoint.step, checkpoint.path)
            return make_plan(request, config, job_id=job_id, resume_from=checkpoint.path)
        # Oumi 0.9 takes the highest checkpoint, even a half-written one; verl finds its own.
        verl = "VERL" in str(lookup(data, request.command, "training.trainer_type"))
        if tries and (fresh or not verl):
            overrides = request.overrides | {TRY_RESUME_KEY: False}
            request = request.model_copy(update={"overrides": overrides})
            return make_plan(request, config, job_id=job_id)
        return plan

    def _effective_request(self, config: ConfigFile) -> JobRequest:
        """The request, with the output folder of this run if each run has its own."""
        run = self._record.run
        if not self._request.own_output:
            return self._request
        return with_own_output(self._request, config, names.firing(run.id, run.expected_start_time))

    def _config(self) -> ConfigFile:
        """The config as submitted, even if its file has changed or moved since."""
        path = Path(self._request.config_path)
        return submitted_config(path, self._request.config_sha256, self._settings.snapshots_dir)

    def _checkpoint(
        self, plan: JobPlan, data: Mapping[str, Any], *, tries: bool
    ) -> Checkpoint | None:
        """The last whole checkpoint of this job, or of the folder that its config resumes from."""
        if plan.output_dir is None:
            return None
        run, labels = self._record.run, self._record.labels
        fresh_since = labels.get(names.LABEL_FRESH_SINCE)
        fresh_attempt = labels.get(names.LABEL_FRESH_ATTEMPT)
        owner = Owner(
            job_id=run.id,
            began_at=run.start_time.timestamp() if run.start_time else 0.0,
            first_attempt=fresh_attempt if isinstance(fresh_attempt, int) else 1,
            fresh_since=fresh_since if isinstance(fresh_since, int | float) else None,
            inherits=tries and not lookup(data, Command.TRAIN, RESUME_KEY),
            marks=self._marks_checkpoints(),
            sharing=self.sharing.jobs,
        )
        own = OwnCheckpoints(Path(plan.output_dir), owner, say=self._logger.info)
        checkpoint = own.last()
        if checkpoint is not None and self.sharing.is_live:
            checkpoint = own.set_aside(checkpoint)
        if checkpoint is None:
            self._logger.info("No whole checkpoint of this job in %s", plan.output_dir)
        return checkpoint

    def _marks_checkpoints(self) -> bool:
        """Whether an attempt on this machine reported that its training marks checkpoints."""
        log_path = self._record.labels.get(names.LABEL_LOG_PATH)
        if not log_path:
            return False
        jobs = Path(str(log_path)).parent.parent
        return any(True for _ in jobs.glob(f"oumi-{self._record.run.id.hex}-*/{SIGN}"))


def _label(marks: ResultMarks) -> dict[str, LabelValue]:
    return {names.LABEL_RESULT_MARKS: marks.model_dump_json(exclude_defaults=True)}
