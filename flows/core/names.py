"""Names derived from a job, and the labels of its flow run."""

import hashlib
import re
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

FLOW_NAME: Final = "oumi-job"
PIPELINE_FLOW: Final = "oumi-pipeline"
SWEEP_FLOW: Final = "oumi-sweep"
DEPLOYMENT_NAME: Final = "default"
VALIDATE_FLOW: Final = "validate-config"
EXTERNAL_JOB_FLOW: Final = "external-job"
EXTERNAL_LOG_FLOW: Final = "external-log"
PRE_FLIGHT_FLOW: Final = "pre-flight-check"
JOB_METRICS_FLOW: Final = "job-metrics"
WORK_POOL: Final = "oumi"
WORKER_TYPE: Final = "oumi"

TAG: Final = "oumi"
"""Tag of every flow run that is a job."""

COMMAND_TAG: Final = "command:"
CLUSTER_TAG: Final = "cluster:"
LAUNCHER_TAG: Final = "launcher_job:"
"""Prefixes of the tags that identify a job's handle: Prefect finds runs by tags, not by the values
of labels (prefect 3.8)."""

JOB_COMMAND: Final = "job"
"""Used as the command of a job config, whose scripts can run any command."""

PIPELINE_COMMAND: Final = "pipeline"
SWEEP_COMMAND: Final = "sweep"
"""Used as the command of runs that consist of jobs."""
PARENT_FLOWS: Final = frozenset({PIPELINE_FLOW, SWEEP_FLOW})
"""The flows whose runs consist of jobs."""
JOB_FLOWS: Final = PARENT_FLOWS | {FLOW_NAME}
"""The flows whose runs are jobs or consist of them."""
LIST_CLUSTERS_FLOW: Final = "list-clusters"
STOP_CLUSTER_FLOW: Final = "stop-cluster"
DOWN_CLUSTER_FLOW: Final = "down-cluster"

CALL_TAG: Final = "oumi-call"
"""Tag of every flow run that answers a question; it is no job."""

CALL_QUEUE: Final = "calls"
"""Work queue of runs whose answer a client waits for; has priority over the queues of jobs."""

CLOUD_QUEUE: Final = "clouds"
"""Work queue of cloud jobs, which need no slot of the worker's machine."""

ANSWER_ARTIFACT: Final = "answer"
"""Type of the artifact that holds the answer of such a run."""

PARTS_ARTIFACT: Final = "table"
"""Type of the artifact that shows the parts of a pipeline or a sweep."""

LOCAL_CLOUD: Final = "local"
LOCAL_CLUSTER: Final = "local"

LABEL_ATTEMPT: Final = "oumi.attempt"
LABEL_CLUSTER: Final = "oumi.cluster_name"
LABEL_LAUNCHER_JOB_ID: Final = "oumi.launcher_job_id"
LABEL_LOG_PATH: Final = "oumi.log_path"
LABEL_HELD_BY: Final = "oumi.processes_held_by"
"""What tracks all processes of a local job: a value of `ProcessHolder`."""
LABEL_MODEL: Final = "oumi.model_name"
LABEL_OUTPUT_DIR: Final = "oumi.output_dir"
LABEL_FORCE_CANCEL: Final = "oumi.force_cancel"
LABEL_LAUNCHED_ATTEMPT: Final = "oumi.launched_attempt"
"""The attempt of the cluster and the launcher job id; `LABEL_ATTEMPT` may be ahead."""
LABEL_WORK_POOL: Final = "oumi.work_pool"
"""The work pool of a run: Prefect forgets it when the pool is deleted."""
LABEL_SUBMITTED_ATTEMPT: Final = "oumi.submitted_attempt"
"""The last attempt that may have reached its cluster; written before the launch."""
LABEL_ENDED_ATTEMPT: Final = "oumi.ended_attempt"
"""The last attempt whose end was observed."""
LABEL_ATTEMPTS_TAKEN_BACK: Final = "oumi.attempts_taken_back"
"""How many attempts were recorded as ended while their job still ran, and then continued."""
LABEL_FRESH_ATTEMPT: Final = "oumi.fresh_attempt"
"""The attempt that must start from the beginning instead of the last checkpoint."""
LABEL_FRESH_SINCE: Final = "oumi.fresh_since"
"""When it started, in seconds since the epoch: it does not resume from older checkpoints."""

LABEL_PROVENANCE: Final = "oumi.provenance"
"""Hash of the last attempt's provenance record, kept under OUMI_FLOWS_HOME."""

LABEL_STOPWATCH: Final = "oumi.stopwatch"
"""How long the run's attempts took, without the time between them: a `Stopwatch`."""
LABEL_LIMIT_STOPWATCH: Final = "oumi.limit_stopwatch"
"""How long an attempt with a limit has been running; empty: it waits again."""
LABEL_TIMED_OUT_ATTEMPT: Final = "oumi.timed_out_attempt"
"""The attempt that we ended because it exceeded its time limit."""
LABEL_RESUMED_ATTEMPT: Final = "oumi.resumed_attempt"
LABEL_RESUMED_STEP: Final = "oumi.resumed_from_step"
"""The step of the checkpoint that the attempt in `LABEL_RESUMED_ATTEMPT` resumed from."""
LABEL_SCHEDULE: Final = "oumi.schedule"
"""The name of the schedule that made a run."""
LABEL_OVERLAP: Final = "oumi.overlap"
LABEL_FIRES_AT: Final = "oumi.fires_at"
"""When a schedule of a single run fires."""
LABEL_RUN_NAME: Final = "oumi.run_name"
"""The start of the name of a schedule's run; Prefect makes up a name until the run starts."""
LABEL_PARENT: Final = "oumi.part_of"
"""The run of the pipeline or sweep that a job belongs to."""
LABEL_PART: Final = "oumi.part"
"""Which part of it the job is: a pipeline's step or a sweep's trial."""
LABEL_ORDERED: Final = "oumi.ordered"
"""Set just before a request to stop or delete a cluster; without it nothing was changed."""
LABEL_UNREAD: Final = "oumi.unread"
"""Whether a client stopped waiting for a run's answer and the answer is still unread."""
LABEL_METRICS: Final = "oumi.metrics"
"""The metrics of a part that succeeded, as JSON; kept because its files may be deleted."""
LABEL_RESULT_MARKS: Final = "oumi.result_marks"
"""The content of a job's folder of results before its launch: JSON of `flows.core.result_marks`."""
LABEL_STOPPED: Final = "oumi.stopped_early"
"""Why a sweep cancelled a trial; empty: the trial was retried afterwards."""
LABEL_ONE_PART: Final = "oumi.one_part_attempt"
"""The attempt in which a single part is retried; no other part is retried or started."""

SCHEDULE_TAG: Final = "oumi-schedule"
"""Tag of the deployment that a schedule is, and of its runs."""

TRIAL_ENV: Final = "OUMI_FLOWS_TRIAL"
"""Environment variable with the number of a sweep's trial."""
NOTIFY_TAG: Final = "notify-"
"""Prefix of the tags of runs whose end sends a notification."""

JOB_KEY_ENV: Final = "OUMI_FLOWS_JOB_KEY"
"""Environment variable of every process of a job; its value is the launch key."""

LATEST: Final = "latest"
"""Link, beside the folder of a schedule's last run that succeeded, to that folder."""

_SHORT_ID = 8
_CLUSTER_ID = 12
"""Of 32 digits; some clouds allow at most 35 characters for names that contain this."""


def launch_key(flow_run_id: UUID | str, attempt: int) -> str:
    """The launcher-side name of one attempt of a job: the same for every launch of the attempt."""
    return f"oumi-{UUID(str(flow_run_id)).hex}-{attempt}"


def own_cluster(flow_run_id: str) -> str:
    """The name of a cluster for one job alone: the same for each of its attempts."""
    return f"oumi-{flow_run_id.replace('-', '')[:_CLUSTER_ID]}"


def external_folder(cloud: str, cluster_name: str, launcher_job_id: str) -> str:
    """The folder for our copy of the log of a job that oumi-flows did not launch."""
    place = "\n".join((cloud, cluster_name, launcher_job_id))
    return f"external-{hashlib.sha256(place.encode()).hexdigest()[:16]}"


def run_name(flow_run_id: UUID | str, *, command: str, model: str, job_name: str) -> str:
    """The flow run's name in the Prefect UI: job name (or command and model), then short id."""
    words = job_name or "-".join(filter(None, [command, model.rstrip("/").rsplit("/", 1)[-1]]))
    return f"{words}-{str(flow_run_id)[:_SHORT_ID]}"


def firing(flow_run_id: UUID | str, due: datetime | None) -> str:
    """The suffix that distinguishes the runs of a schedule: their time, then short id.

    Prefect creates many runs at once, and their ids begin alike (prefect 3.8).
    """
    short = str(flow_run_id)[:_SHORT_ID]
    return f"{due.astimezone(UTC):%Y%m%dT%H%M%SZ}-{short}" if due else short


def run_tags(*, command: str, cloud: str) -> list[str]:
    """The tags of a job's flow run; for a job config the command is `JOB_COMMAND`."""
    return [TAG, f"{COMMAND_TAG}{command}", cloud_tag(cloud)]


def cloud_tag(cloud: str) -> str:
    """The tag of every run of a cloud's jobs."""
    return f"cloud:{cloud}"


def cluster_tag(cluster_name: str) -> str:
    """The tag of the runs whose last job is on a cluster."""
    return f"{CLUSTER_TAG}{cluster_name}"


def launcher_tag(launcher_job_id: str) -> str:
    """The tag of the runs whose last job has this launcher job id."""
    return f"{LAUNCHER_TAG}{launcher_job_id}"


def deployment(work_pool: str, *, flow: str = FLOW_NAME) -> str:
    """The deployment that runs of a flow are submitted to, for a work pool.

    A deployment has one pool, so several machines on one Prefect server have one each.
    """
    return f"{flow}/{deployment_name(work_pool)}"


def deployment_name(work_pool: str) -> str:
    """The deployment's own name, without the flow's."""
    return DEPLOYMENT_NAME if work_pool == WORK_POOL else work_pool


def slug(text: str, *, limit: int = 40) -> str:
    """`text` as lower-case letters, digits and single dashes, at most `limit` characters."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-") or "job"
