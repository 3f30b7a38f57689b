"""Names derived from a job, and the keys under which facts are kept on its flow run."""

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
WORK_POOL: Final = "oumi"
WORKER_TYPE: Final = "oumi"

TAG: Final = "oumi"
"""Tag of every flow run that is a job."""

COMMAND_TAG: Final = "command:"
CLUSTER_TAG: Final = "cluster:"
LAUNCHER_TAG: Final = "launcher_job:"
"""What the tags of a job's handle begin with: Prefect finds runs by tags, not by the values of
labels (prefect 3.8)."""

JOB_COMMAND: Final = "job"
"""What a job config counts as where commands are told apart: its scripts run any."""

PIPELINE_COMMAND: Final = "pipeline"
SWEEP_COMMAND: Final = "sweep"
"""What runs that consist of jobs count as where commands are told apart."""
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
"""Work queue of the runs that somebody waits for; goes before the queues of jobs."""

CLOUD_QUEUE: Final = "clouds"
"""Work queue of cloud jobs, which wait for no slot of the worker's machine."""

ANSWER_ARTIFACT: Final = "answer"
"""Type of the artifact that carries the answer of such a run."""

PARTS_ARTIFACT: Final = "table"
"""Type of the artifact that shows the parts of a pipeline or a sweep."""

LOCAL_CLOUD: Final = "local"
LOCAL_CLUSTER: Final = "local"

LABEL_ATTEMPT: Final = "oumi.attempt"
LABEL_CLUSTER: Final = "oumi.cluster_name"
LABEL_LAUNCHER_JOB_ID: Final = "oumi.launcher_job_id"
LABEL_LOG_PATH: Final = "oumi.log_path"
LABEL_HELD_BY: Final = "oumi.processes_held_by"
"""What knows all processes of a local job: a value of `ProcessHolder`."""
LABEL_MODEL: Final = "oumi.model_name"
LABEL_OUTPUT_DIR: Final = "oumi.output_dir"
LABEL_FORCE_CANCEL: Final = "oumi.force_cancel"
LABEL_LAUNCHED_ATTEMPT: Final = "oumi.launched_attempt"
"""The attempt that the cluster and the launcher job id are of; `LABEL_ATTEMPT` may be ahead."""
LABEL_WORK_POOL: Final = "oumi.work_pool"
"""The work pool that a run was submitted to: Prefect forgets it with the pool."""
LABEL_SUBMITTED_ATTEMPT: Final = "oumi.submitted_attempt"
"""The last attempt of which something may have reached its cluster; written before it can."""
LABEL_ENDED_ATTEMPT: Final = "oumi.ended_attempt"
"""The last attempt whose job was seen to have ended."""
LABEL_ATTEMPTS_TAKEN_BACK: Final = "oumi.attempts_taken_back"
"""How many attempts were called over while their job lived, and went on as the same attempt."""
LABEL_FRESH_ATTEMPT: Final = "oumi.fresh_attempt"
"""The attempt that must start from the beginning instead of the last checkpoint."""
LABEL_FRESH_SINCE: Final = "oumi.fresh_since"
"""When it did so, in seconds since the epoch: older checkpoints are not gone on from."""

LABEL_PROVENANCE: Final = "oumi.provenance"
"""Hash of the record, kept under OUMI_FLOWS_HOME, of what the last attempt ran on."""

LABEL_STOPWATCH: Final = "oumi.stopwatch"
"""How long the run's attempts took, without what lies between them: a `Stopwatch`."""
LABEL_LIMIT_STOPWATCH: Final = "oumi.limit_stopwatch"
"""How long an attempt with a limit has been running; empty: it waits once more."""
LABEL_TIMED_OUT_ATTEMPT: Final = "oumi.timed_out_attempt"
"""The attempt that we ended because it ran longer than it may."""
LABEL_RESUMED_ATTEMPT: Final = "oumi.resumed_attempt"
LABEL_RESUMED_STEP: Final = "oumi.resumed_from_step"
"""The step of the checkpoint that the attempt in `LABEL_RESUMED_ATTEMPT` went on from."""
LABEL_SCHEDULE: Final = "oumi.schedule"
"""The name of the schedule that a run was made by."""
LABEL_OVERLAP: Final = "oumi.overlap"
LABEL_FIRES_AT: Final = "oumi.fires_at"
"""When a schedule of one single run fires."""
LABEL_RUN_NAME: Final = "oumi.run_name"
"""What the name of a schedule's run begins with; Prefect makes one up until it is started."""
LABEL_PARENT: Final = "oumi.part_of"
"""The run that a job is a part of."""
LABEL_PART: Final = "oumi.part"
"""Which part of it: a pipeline's step, a sweep's trial."""
LABEL_ORDERED: Final = "oumi.ordered"
"""Set just before a cluster's end is ordered: without it nothing was changed."""
LABEL_UNREAD: Final = "oumi.unread"
"""Whether somebody gave up waiting for a run's answer, and nobody has read it since."""
LABEL_METRICS: Final = "oumi.metrics"
"""What a part that succeeded left, as JSON; kept because its files may go."""
LABEL_RESULT_MARKS: Final = "oumi.result_marks"
"""What was in a job's folder of results before its launch, as JSON of `flows.core.result_marks`."""
LABEL_STOPPED: Final = "oumi.stopped_early"
"""Why a trial was cancelled by its sweep; empty: it was retried all the same."""
LABEL_ONE_PART: Final = "oumi.one_part_attempt"
"""The attempt in which one part was retried alone: no other is, and nothing else is started."""

SCHEDULE_TAG: Final = "oumi-schedule"
"""Tag of the deployment that a schedule is, and of its runs."""

TRIAL_ENV: Final = "OUMI_FLOWS_TRIAL"
"""Environment variable of a trial of a sweep: which one it is."""
NOTIFY_TAG: Final = "notify-"
"""What the tags of runs about whose end somebody is told begin with."""

JOB_KEY_ENV: Final = "OUMI_FLOWS_JOB_KEY"
"""Environment variable of every process of a job; its value is the launch key."""

LATEST: Final = "latest"
"""Link to the folder of a schedule's last run that succeeded, beside it."""

_SHORT_ID = 8
_CLUSTER_ID = 12
"""Of 32 digits; some clouds take no more than 35 characters for names of which this is a part."""


def launch_key(flow_run_id: UUID | str, attempt: int) -> str:
    """The launcher-side name of one attempt of a job: the same on every launch of it."""
    return f"oumi-{UUID(str(flow_run_id)).hex}-{attempt}"


def own_cluster(flow_run_id: str) -> str:
    """The cluster that is made for one job alone: the same for each of its attempts."""
    return f"oumi-{flow_run_id.replace('-', '')[:_CLUSTER_ID]}"


def external_folder(cloud: str, cluster_name: str, launcher_job_id: str) -> str:
    """The folder of our copy of the log of a job that somebody else launched."""
    place = "\n".join((cloud, cluster_name, launcher_job_id))
    return f"external-{hashlib.sha256(place.encode()).hexdigest()[:16]}"


def run_name(flow_run_id: UUID | str, *, command: str, model: str, job_name: str) -> str:
    """The flow run's name in the Prefect UI: job name (or command and model), then short id."""
    words = job_name or "-".join(filter(None, [command, model.rstrip("/").rsplit("/", 1)[-1]]))
    return f"{words}-{str(flow_run_id)[:_SHORT_ID]}"


def firing(flow_run_id: UUID | str, due: datetime | None) -> str:
    """What tells the runs of a schedule apart: their time, then short id.

    Prefect plans runs many at once, and their ids begin alike (prefect 3.8).
    """
    short = str(flow_run_id)[:_SHORT_ID]
    return f"{due.astimezone(UTC):%Y%m%dT%H%M%SZ}-{short}" if due else short


def run_tags(*, command: str, cloud: str) -> list[str]:
    """The tags of a job's flow run; the command of a job config is `JOB_COMMAND`."""
    return [TAG, f"{COMMAND_TAG}{command}", cloud_tag(cloud)]


def cloud_tag(cloud: str) -> str:
    """The tag of every run of a cloud's jobs."""
    return f"cloud:{cloud}"


def cluster_tag(cluster_name: str) -> str:
    """The tag of the runs whose last job is on a cluster."""
    return f"{CLUSTER_TAG}{cluster_name}"


def launcher_tag(launcher_job_id: str) -> str:
    """The tag of the runs whose last job its launcher knows by an id."""
    return f"{LAUNCHER_TAG}{launcher_job_id}"


def deployment(work_pool: str, *, flow: str = FLOW_NAME) -> str:
    """The deployment that runs of a flow for a work pool are submitted to.

    A deployment has one pool, so several machines on one Prefect server have one each.
    """
    return f"{flow}/{deployment_name(work_pool)}"


def deployment_name(work_pool: str) -> str:
    """The deployment's own name, without the flow's."""
    return DEPLOYMENT_NAME if work_pool == WORK_POOL else work_pool


def slug(text: str, *, limit: int = 40) -> str:
    """`text` as lower-case letters, digits and single dashes, at most `limit` characters."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-") or "job"
