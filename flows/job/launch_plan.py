"""What an attempt of a job launches, and where. Blocking: it reads files."""

import logging
from contextlib import suppress
from pathlib import Path

from flows.core import names
from flows.core.checks.launch import Launch, read_launch_of
from flows.core.configs.clouds import kind_of
from flows.core.configs.clusters import free_cluster
from flows.core.configs.plan import make_plan, with_own_output
from flows.core.configs.processes import ALL
from flows.core.configs.reader import ConfigFile, submitted_config
from flows.core.errors import InvalidConfig, OumiFlowsError
from flows.core.models import JobRequest, Value
from flows.core.private_envs import PrivateEnvs
from flows.core.provenance import Provenance, keep
from flows.core.redaction import Redactor, config_secrets, own_secrets
from flows.core.run_labels import RunLabels
from flows.core.settings import Settings
from flows.job.launch_provenance import read_provenance
from flows.job.resuming import choose_start
from flows.job.run_record import RunRecord
from flows.job.shared_output import Sharing
from flows.launcher.job_environment import with_job_environment
from flows.launcher.local.gpus import read_gpus


class PreparedLaunch(Value):
    """What one attempt launches.

    Attributes:
        job_config: The exact job config, as YAML.
        labels: What the run must say of it before it is launched.
        is_script: Whether a job config's script runs, not one of Oumi's commands.
    """

    job_config: str
    labels: RunLabels
    is_script: bool


class LaunchPlan:
    """The config of a job as it was submitted, read once, and what follows from it.

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
        self._request = request
        self._record = record
        self._settings = settings
        self._logger = logger
        self._config: ConfigFile | None = None
        self._launch: Launch | None = None

    def prepare(self, attempt: int, *, sharing: Sharing | None = None) -> PreparedLaunch:
        """Prepare the launch of an attempt.

        Args:
            attempt: Its number.
            sharing: The other jobs that wrote to the job's folder since it began.

        Raises:
            ConfigNotFound: Neither the config nor its copy is on this machine.
            InvalidConfig: It cannot be run.
        """
        config, run = self._read_config(), self._record.run
        request = self._effective_request(config)
        start = choose_start(
            request,
            config,
            self._record,
            attempt=attempt,
            sharing=sharing or Sharing(),
            say=self._logger.info,
        )
        overrides = request.overrides | start.overrides
        request = request.model_copy(update={"overrides": overrides})
        plan = make_plan(request, config, job_id=str(run.id))
        labels = start.labels
        if request.own_output and plan.output_dir:
            labels = labels.with_changes(RunLabels(output_dir=plan.output_dir))
        key = names.launch_key(run.id, attempt)
        return PreparedLaunch(
            job_config=with_job_environment(plan.job_config, key=key, settings=self._settings),
            labels=labels,
            is_script=not plan.argv,
        )

    def cluster_name(self) -> str:
        """The cluster to run on.

        Raises:
            OumiFlowsError: Only the config names it, and the config cannot be used.
        """
        request = self._request
        free = free_cluster(kind_of(request.cloud), str(self._record.run.id))
        known = request.cluster_name or free or self._record.labels.cluster_name
        return known or make_plan(request, self._read_config()).cluster_name

    def launch(self) -> Launch:
        """The launch that pre-flight checks examine.

        Raises:
            OumiFlowsError: The config cannot be read.
        """
        if self._launch is None:
            config = self._read_config()
            self._launch = read_launch_of(self._effective_request(config), config)
        return self._launch

    def keep_provenance(self) -> RunLabels:
        """Keep a record of what this attempt runs on; return the label that names it."""
        try:
            record = read_provenance(
                self._read_config(), self.launch(), client_cwd=self._request.client_cwd
            )
        except OumiFlowsError as error:
            self._logger.warning("There is no record of what the job runs on: %s", error.what)
            return RunLabels()
        redactor = Redactor([*own_secrets(), *self.secrets()])
        record = Provenance.model_validate(redactor.config(record.model_dump(mode="json")))
        try:
            return RunLabels(provenance=keep(record, self._settings.records_dir))
        except OSError as error:
            self._logger.warning("The record of what the job runs on was not kept: %s", error)
            return RunLabels()

    def secrets(self) -> list[str]:
        """The secrets that the config and the request give the job."""
        private = PrivateEnvs(self._settings.private_envs_dir).values_of(self._request.envs)
        if self._request.launcher_job_id is None:
            with suppress(OumiFlowsError):  # the launch reports a config that cannot be read
                return private + config_secrets(self._read_config().data)
        return private

    def _effective_request(self, config: ConfigFile) -> JobRequest:
        """The request, with its number of GPUs, and the folder of this run if each has its own.

        Raises:
            InvalidConfig: It asks for all GPUs, and the machine has none.
        """
        run, request = self._record.run, self._request
        if request.gpus == ALL:
            count = len(read_gpus().devices)
            if not count:
                raise InvalidConfig(
                    "gpus is all, and the worker's machine has none",
                    "Leave gpus out, or run it on a cloud with GPUs",
                )
            request = request.model_copy(update={"gpus": count})
        if not request.own_output:
            return request
        return with_own_output(request, config, names.firing(run.id, run.expected_start_time))

    def _read_config(self) -> ConfigFile:
        """Read the config as submitted, even if its file has changed or moved since.

        Raises:
            ConfigNotFound: Neither the config nor its copy is on this machine.
            InvalidConfig: It is not the config that was submitted.
        """
        if self._config is None:
            request = self._request
            self._config = submitted_config(
                Path(request.config_path), request.config_sha256, self._settings.snapshots_dir
            )
        return self._config
