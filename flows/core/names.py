"""Names derived from a job."""

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
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
DIAGNOSE_FLOW: Final = "diagnose-job"
PREVIEW_FLOW: Final = "preview-data"
LAST_CHECKPOINT_FLOW: Final = "last-checkpoint"
JOB_RESULTS_FLOW: Final = "job-results"
COLLECT_FLOW: Final = "collect-results"
HEALTH_EVENT: Final = "oumi-flows.job.health"
"""Prefect event of a job whose health changed; docs/diagnosis.md describes it."""
BUDGET_FLOW: Final = "budget"
BUDGET_EVENT: Final = "oumi-flows.budget"
"""Prefect event of a job, or a work pool, that nears its limit or has reached it."""
BUDGET_DIGEST_EVENT: Final = "oumi-flows.budget.digest"
"""Prefect event of a work pool with what it spent, once a day; docs/budgets.md describes them."""
BUDGET_ARTIFACT: Final = "oumi-flows-budget"
WORK_POOL: Final = "oumi"
WORKER_TYPE: Final = "oumi"

TAG: Final = "oumi"
"""Tag of every flow run that is a job."""

COMMAND_TAG: Final = "command:"
CLUSTER_TAG: Final = "cluster:"
LAUNCHER_TAG: Final = "launcher_job:"
"""Prefixes of the tags that identify a job's handle: Prefect finds runs by tags, not by the values
of labels (prefect 3.9)."""

JOB_COMMAND: Final = "job"
"""Used as the command of a job config, whose scripts can run any command."""

PIPELINE_COMMAND: Final = "pipeline"
SWEEP_COMMAND: Final = "sweep"
"""Used as the command of runs that consist of jobs."""
COLLECT_COMMAND: Final = "collect"
"""Used as the command of runs that copy the results of another job."""
PARENT_FLOWS: Final = frozenset({PIPELINE_FLOW, SWEEP_FLOW})
"""The flows whose runs consist of jobs."""
LASTING_FLOWS: Final = PARENT_FLOWS | {COLLECT_FLOW}
"""The flows that are executed again after an error that says nothing about their work."""
JOB_FLOWS: Final = LASTING_FLOWS | {FLOW_NAME}
"""The flows whose runs are jobs or consist of them."""
LIST_CLUSTERS_FLOW: Final = "list-clusters"
STOP_CLUSTER_FLOW: Final = "stop-cluster"
DOWN_CLUSTER_FLOW: Final = "down-cluster"

PRUNE_FLOW: Final = "prune"

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

SCHEDULE_TAG: Final = "oumi-schedule"
"""Tag of the deployment that a schedule is, and of its runs."""

TRIAL_ENV: Final = "OUMI_FLOWS_TRIAL"
"""Environment variable with the number of a sweep's trial."""
NOTIFY_TAG: Final = "notify-"
"""Prefix of the tags of runs whose end sends a notification."""

PLANNED_TAG: Final = "auto-scheduled"
"""Prefect's tag of the runs that it plans for schedules."""

_OWN_TAGS: Final = frozenset({TAG, PLANNED_TAG})
_OWN_TAG_STARTS: Final = (f"{TAG}-", COMMAND_TAG, CLUSTER_TAG, LAUNCHER_TAG, NOTIFY_TAG, "cloud:")

DEVICES_ENV: Final = "CUDA_VISIBLE_DEVICES"
GPUS_ENV: Final = "OUMI_FLOWS_GPUS"
"""Environment variable of a local job: the whole GPUs that it asked for."""
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


def launch_log(home: Path, cluster_name: str, key: str) -> Path:
    """The worker's file with SkyPilot's log of the launch of a key."""
    return home / "sky" / cluster_name / f"{key}.launch.log"


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


def is_own_tag(tag: str) -> bool:
    """Whether a tag of a run is one that oumi-flows or Prefect sets, not a person's."""
    return tag in _OWN_TAGS or tag.startswith(_OWN_TAG_STARTS)


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
