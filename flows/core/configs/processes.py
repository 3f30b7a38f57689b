"""How many GPUs and processes a training gets, and is written for (oumi 0.9)."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast

from flows.core.configs.clouds import is_local
from flows.core.configs.reader import read_config
from flows.core.errors import InvalidArgument, OumiFlowsError
from flows.core.models import Command, GpuCount, JobRequest
from flows.core.names import DEVICES_ENV, GPUS_ENV

ALL: Final = "all"
SHARDED: Final = ("fsdp.enable_fsdp", "deepspeed.enable_deepspeed")
"""Keys that spread a training over processes, one for each GPU."""
STARTS_ITS_OWN: Final = "VERL_GRPO"
"""The trainer whose one process starts the others, through Ray."""
BATCH: Final = {
    "training.per_device_train_batch_size": 8,
    "training.gradient_accumulation_steps": 1,
}
"""The keys whose product is the batch of one process, and Oumi's defaults; a test compares them."""
_MOST: Final = 4096
_IN_COMMENT: Final = (
    r"--nproc[-_]per[-_]node[= ]*(\d+)",
    r"\b(\d+)(?:-\d+)? ?x ?(?:NVIDIA )?[ABHLV]\d+",
    r"\b(\d+) (?:\w+ )?GPUs\b",
)

Processes = int | Literal["all"]


def count_processes(command: Command, trainer: str, gpus: GpuCount | None) -> Processes:
    """The processes of a command that gets `gpus`; all: as many as there are GPUs."""
    if command is not Command.TRAIN or STARTS_ITS_OWN in trainer:
        return 1
    return gpus or 1


def in_processes(argv: Sequence[str], processes: Processes) -> list[str]:
    """Write the command that runs `argv` in so many processes of this machine.

    `oumi distributed torchrun` 0.9 counts the GPUs by itself, with the nodes of a Slurm allocation,
    and has one fixed port; of an option given twice torchrun takes the second.
    """
    if processes == 1:
        return list(argv)
    count = "gpu" if processes == ALL else processes
    options = ["--standalone", "--nnodes=1", f"--nproc-per-node={count}"]
    return ["oumi", "distributed", "torchrun", *options, "-m", *argv]


def check_gpus(request: JobRequest) -> None:
    """Refuse GPUs that the request cannot have.

    Raises:
        InvalidArgument: It runs on a cloud, or chooses its GPUs itself.
    """
    if request.gpus is None:
        return
    if not is_local(request.cloud):
        raise InvalidArgument(
            f"gpus is for jobs on this machine, and the job runs on {request.cloud}",
            "Leave gpus out, and set resources.accelerators in the job config",
        )
    if DEVICES_ENV in request.envs:
        raise InvalidArgument(
            f"envs sets {DEVICES_ENV}, and gpus is {request.gpus}",
            "Leave one of them out: with gpus, free GPUs are chosen for the job",
        )


def gpu_envs(request: JobRequest) -> dict[str, str]:
    """The variables of the job that say how many GPUs it asks for."""
    return {} if request.gpus is None else {GPUS_ENV: str(request.gpus)}


def effective_batch(values: Mapping[str, object], processes: Processes) -> int | None:
    """Rows of one step of the optimizer, by the values of the keys in `BATCH`; None: unknown."""
    sizes = [values.get(key) for key in BATCH]
    given = [BATCH[key] if size is None else size for key, size in zip(BATCH, sizes, strict=True)]
    if not all(type(size) is int for size in (*given, processes)):
        return None
    return math.prod(cast("list[int]", [*given, processes]))


def gpus_written_for(text: str) -> int | None:
    """The GPUs that a config's comments name; None: they name none."""
    comments = "\n".join(line for line in text.splitlines() if line.lstrip().startswith("#"))
    for pattern in _IN_COMMENT:
        found = [int(number) for number in re.findall(pattern, comments)]
        if found:
            return min(max(found), _MOST) or None
    return None


def gpus_of_job_beside(config: Path) -> int | None:
    """The GPUs of the smallest job config in the same folder that runs the config."""
    found: list[int] = []
    for path in sorted(config.parent.glob("*job.y*ml"))[:20]:
        try:
            data = read_config(path).data
        except OumiFlowsError:
            continue
        gpus = gpus_requested(data)
        if gpus and f"{config.parent.name}/{config.name}" in str(data.get("run")):
            found.append(gpus)
    return min(found, default=None)


def gpus_requested(job: Mapping[str, Any]) -> int | None:
    """The GPUs that a job config requests, on all nodes; None: none, or not a whole number."""
    resources: object = job.get("resources")
    if not isinstance(resources, Mapping):
        return None
    asked = cast("Mapping[str, object]", resources).get("accelerators")
    nodes: object = job.get("num_nodes")
    count = str(asked or "").partition(":")[2].strip() or "1"
    if not asked or not count.isdecimal():
        return None
    return int(count) * (nodes if isinstance(nodes, int) and nodes > 0 else 1)
