"""Check the resources that a job config requests: cloud, GPUs, mounts, scripts."""

import re
from typing import Final

from flows.core.checks.cloud_advice import note_cloud_advice
from flows.core.checks.job import REMOTE_SCHEMES, Job
from flows.core.checks.job_scripts import check_scripts
from flows.core.checks.launch import Launch
from flows.core.checks.lost_failures import lost_failures, sets_pipefail
from flows.core.checks.target import nearest_cloud, nearest_gpu
from flows.core.checks.values import text_of
from flows.core.configs.clouds import ClusterName, cloud_kinds, find_kind
from flows.core.errors import InvalidConfig
from flows.core.file_names import exists
from flows.core.findings import FindingCode

_STORES: Final = {"s3": "s3://", "gcs": "gs://", "r2": "r2://", "nebius": "nebius://",
                  "azure": "https://", "ibm": "cos://", "oci": "oci://"}  # fmt: skip
_COUNTS: Final = ("cpus", "memory", "disk_size")
_SAVES: Final = re.compile(
    r"\b(?:aws s3|gsutil|gcloud storage|rclone|rsync|scp|azcopy|s3cmd|(?:hf|huggingface-cli) upload"
    r"|oumi upload|wandb artifact)\b"
)
_INSTALLS_OUMI: Final = re.compile(r"install\b[^\n;&|]*(?:\boumi\b|\s-e\s|\s\.(?:\[|\s|$))")


def check_resources(launch: Launch, *, cloud: str) -> None:
    """Note problems of the cloud, and of the resources that a job config requests."""
    if cloud and find_kind(cloud) is None:
        launch.notes.error(
            FindingCode.UNKNOWN_CLOUD,
            f"Oumi has no cloud {cloud!r}",
            f"Use one of {', '.join(sorted(cloud_kinds()))}",
            nearest=nearest_cloud(cloud),
        )
    job = launch.job
    if job is None:
        if find_kind(cloud) is not None and not launch.target.is_local:
            note_cloud_advice(launch)
        return
    _check_cloud(job, cloud)
    _check_accelerators(job)
    if not job.target.is_local:
        _check_mounts(job)
        _check_setup(job)
    check_scripts(job)
    _check_pipes(job)
    _check_numbers(job)
    _check_account(job)
    _check_cluster_scripts(job)


def _check_cluster_scripts(job: Job) -> None:
    """Note scripts that the launcher would refuse to send to a cluster's queue."""
    kind = job.target.kind
    if kind is None or kind.check_scripts is None:
        return
    try:
        kind.check_scripts(job.data)
    except InvalidConfig as error:
        key = error.what.partition(" ")[0]
        job.notes.error(FindingCode.SCRIPT_REFUSED, error.what, error.next_step, key=key)


def _check_cloud(job: Job, asked: str) -> None:
    named = job.target.cloud
    if job.target.kind is None and named != asked:
        job.notes.error(
            FindingCode.UNKNOWN_CLOUD,
            f"Oumi has no cloud {named!r}",
            f"Use one of {', '.join(sorted(cloud_kinds()))}",
            key="resources.cloud",
            nearest=nearest_cloud(named),
        )
    if asked and named != asked:
        job.notes.error(
            FindingCode.CLOUD_MISMATCH,
            f"resources.cloud is {named!r} but the call requests cloud {asked!r}",
            f"Request cloud {named!r} or change the config",
            key="resources.cloud",
        )


def _check_accelerators(job: Job) -> None:
    text = text_of(job.resources.get("accelerators"))
    if text and job.target.accelerator is None:
        job.notes.error(
            FindingCode.BAD_ACCELERATOR,
            f"resources.accelerators {text!r} is not a GPU and a count",
            "Write it as A100:8",
            key="resources.accelerators",
        )
    elif job.target.is_sky and job.target.accelerator:
        nearest = nearest_gpu(job.target.accelerator.name)
        if nearest:
            job.notes.warning(
                FindingCode.BAD_ACCELERATOR,
                f"SkyPilot's catalog probably has no GPU named "
                f"{job.target.accelerator.name}; did you mean {nearest}?",
                "`sky show-gpus` lists them",
                key="resources.accelerators",
                nearest=nearest,
            )
    needs_gpu = any(
        word in job.run.text for word in ("oumi train", "oumi distributed", "oumi tune")
    )
    if needs_gpu and job.target.is_rented and not text and not job.target.instance_type:
        job.notes.warning(
            FindingCode.NO_GPU,
            "the config requests no accelerators, so the training runs on CPUs",
            "Set resources.accelerators, such as A100:1",
            key="resources",
        )


def _check_numbers(job: Job) -> None:
    """Note counts and sizes with which no machine can be had."""
    values = {"num_nodes": job.data.get("num_nodes")}
    values |= {f"resources.{name}": job.resources.get(name) for name in _COUNTS}
    for key, value in values.items():
        text = str(value).strip().rstrip("+")
        is_count = value is not None and re.fullmatch(r"-?\d+(?:\.\d+)?", text)
        if is_count and float(text) <= 0:
            job.notes.error(
                FindingCode.BAD_NUMBER,
                f"{key} is {value}, and the job needs at least 1",
                "Correct it, or leave it out",
                key=key,
            )


def _check_mounts(job: Job) -> None:
    for place, source in job.file_mounts.items():
        if not source.startswith(REMOTE_SCHEMES) and not exists(job.local(source)):
            job.notes.error(
                FindingCode.MOUNT_SOURCE_MISSING,
                f"file_mounts copies {source} to {place}, and {job.local(source)} does not exist",
                "Correct the path, or leave the mount out",
                key=f"file_mounts.{place}",
            )
        if place in job.storage_mounts:
            job.notes.error(
                FindingCode.MOUNT_CLASH,
                f"{place} is in file_mounts and in storage_mounts",
                "Mount one of them elsewhere",
                key=f"storage_mounts.{place}",
            )
    for place, mount in job.storage_mounts.items():
        key = f"storage_mounts.{place}"
        store, source = str(mount.get("store", "")).lower(), str(mount.get("source", ""))
        if store and store not in _STORES:
            job.notes.error(
                FindingCode.BAD_STORE,
                f"{key}.store is {mount.get('store')!r}",
                f"Use one of {', '.join(_STORES)}",
                key=f"{key}.store",
            )
        elif store and source and not source.startswith(_STORES[store]):
            job.notes.error(
                FindingCode.BAD_STORE,
                f"{key} is of store {store}, and its source {source} is not a {_STORES[store]} URL",
                f"Begin the source with {_STORES[store]}, or correct the store",
                key=f"{key}.source",
            )
        if not job.target.is_sky:
            job.notes.warning(
                FindingCode.UNUSED_KEY,
                f"storage_mounts do nothing on cloud {job.target.cloud}",
                "Write to a shared file system there",
                key=key,
            )


def _check_setup(job: Job) -> None:
    if job.setup.statements > 1 and not job.setup.stops_at_errors and job.target.is_sky:
        job.notes.warning(
            FindingCode.SETUP_GOES_ON,
            "setup continues after a command fails, and the job then runs without its result",
            "Begin setup with `set -e`",
            key="setup",
        )
    installs = _INSTALLS_OUMI.search(job.setup.text) or _INSTALLS_OUMI.search(job.run.text)
    has_image = text_of(job.resources.get("image_id")) or job.resources.get("image_id_map")
    is_bare = job.target.is_sky and not job.brings_environment
    if job.run.uses_oumi and not installs and not has_image and is_bare:
        job.notes.warning(
            FindingCode.OUMI_NOT_INSTALLED,
            "run calls oumi, but setup does not install it on the new machine",
            "Add `pip install oumi` (`oumi[gpu]` for its GPU packages) to setup",
            key="setup" if job.setup.text else "run",
        )


def _check_pipes(job: Job) -> None:
    """Note commands whose failure a pipeline hides."""
    # On SkyPilot's clouds setup and run are two scripts, elsewhere one.
    holds = not job.target.is_sky and sets_pipefail(job.setup)
    for key, script, pipefail in (("setup", job.setup, False), ("run", job.run, holds)):
        lost = lost_failures(script, pipefail=pipefail)
        if not lost:
            continue
        more = f", and {len(lost) - 1} more such command{'s' * (len(lost) > 2)}" * (len(lost) > 1)
        job.notes.warning(
            FindingCode.PIPE_HIDES_FAILURE,
            f"{key} pipes `{lost[0].command}` into `{lost[0].into}`{more}: a pipeline has the "
            "status of its last command, so the job succeeds even if the first one fails",
            "Begin the script with `set -eo pipefail` (in `bash -c`, the inner one)",
            key=key,
        )


def _check_account(job: Job) -> None:
    kind = job.target.kind
    has_queue = kind is not None and kind.cluster_name is ClusterName.QUEUE
    if has_queue and not job.data.get("user"):
        job.notes.error(
            FindingCode.MISSING_USER,
            f"Oumi's cloud {job.target.cloud} needs user, the account on the cluster",
            "Set user to the account",
            key="user",
        )


def check_outputs(launch: Launch) -> None:
    """Note results that are lost when their machine is deleted."""
    job = launch.job
    if job is None or not launch.target.is_rented:
        return
    if _SAVES.search(job.run.text):
        return
    for recipe in launch.recipes:
        key, output = recipe.output
        if output and not job.is_stored(output):
            recipe.notes.warning(
                FindingCode.EPHEMERAL_OUTPUT,
                f"{key} is {output}, on the cluster's own disk, which is lost when the cluster "
                "is deleted",
                "Write to a path under storage_mounts, or copy the results away at the end of run",
                key=key,
            )
