"""What to try against failures, the smallest change first, in the keys of Oumi's configs."""

from collections.abc import Sequence
from typing import Final

from flows.core.diagnosis.evidence import ConfigFacts, Evidence
from flows.core.diagnosis.findings import FindingKind

_SIMPLE: Final[dict[FindingKind, Sequence[str]]] = {
    FindingKind.DISK_FULL: (
        "Free space on the disk that the error names; `df -h` and `du -sh` show what is full.",
        "Save less often: raise training.save_steps, or set training.save_epoch.",
        "Set training.trainer_kwargs.save_total_limit to 2.",
        "Write to another disk: set training.output_dir.",
    ),
    FindingKind.NETWORK: (
        "Start the job again: many failures of a network pass. max_retries does so by itself.",
        "Look for an earlier error of another process: a lost peer is often the consequence.",
        "Check that the machine reaches the address: name, port, proxy, firewall.",
        "Raise training.nccl_default_timeout_minutes, if a process was only late.",
    ),
    FindingKind.HUB_ACCESS: (
        "Check the name or the path for misspellings.",
        "Ask for access on the model's page, if it is gated, and set HF_TOKEN in the job's envs.",
        "Download it before the job, if the job runs with HF_HUB_OFFLINE=1.",
    ),
    FindingKind.DATA_ERROR: (
        "Look at the row or the file that the error names, and correct or remove it.",
        "Check the names of the columns, and the type of each value.",
        "Run oumi-flows preview: it reads the data as the training does.",
    ),
    FindingKind.DEPENDENCY: (
        "Install the package that the error names, in the environment of the job.",
        "Use its version that fits torch and CUDA; `python -m torch.utils.collect_env` lists them.",
        "Do without it: set model.attn_implementation to sdpa instead of flash attention, or turn "
        "off the option that needs the package.",
    ),
    FindingKind.KILLED: (
        "Look who ended it: the scheduler's log, a time limit, or another user of the machine.",
        "Watch the memory of the machine: the kernel kills without a word in the job's log.",
        "Go on from the last checkpoint: training.try_resume_from_last_checkpoint.",
    ),
    FindingKind.STALLED: (
        "Set training.dataloader_num_workers to 0, to see the error of the data itself.",
        "Check that the disk or the server that holds the data answers.",
    ),
    FindingKind.CRASH: (
        "Read the error and the traceback above it in the log.",
        "Try the config with training.max_steps=2 on a small model, to see it sooner.",
    ),
}
_SEGFAULT: Final = (
    "Set PYTHONFAULTHANDLER=1 in the job's envs: the log then shows where it happened.",
    "Check that torch, CUDA and compiled packages fit each other; reinstall the last one changed.",
    "Set training.dataloader_num_workers to 0, if it happened in a worker of the data loader.",
)
_HOST_MEMORY: Final = (
    "Set training.dataloader_num_workers to 0 or 1: each worker has a copy of the data.",
    "Stream the data, or split its files, if it is loaded at once.",
    "Ask for more memory: resources.memory of the job's config.",
)
_SHARED_MEMORY: Final = (
    "Set training.dataloader_num_workers to 0: workers pass batches through /dev/shm.",
    "Raise the limit of shared memory: in Docker --shm-size=8g.",
)


def advise(kind: FindingKind, text: str, evidence: Evidence) -> list[str]:
    """List what to try.

    Args:
        kind: The kind of the failure.
        text: The error.
        evidence: What is known of the training.
    """
    if kind is FindingKind.OUT_OF_MEMORY:
        if "shared memory" in text or "Bus error" in text:
            return list(_SHARED_MEMORY)
        return save_gpu_memory(evidence.config) if is_of_gpu(text) else list(_HOST_MEMORY)
    if kind is FindingKind.CRASH and ("SIG" in text or "egmentation" in text or "Fatal" in text):
        return list(_SEGFAULT)
    return list(_SIMPLE[kind])


def is_of_gpu(text: str) -> bool:
    """Whether an error speaks of a GPU's memory."""
    return any(word in text for word in ("CUDA", "CUBLAS", "CUDNN", "GPU", "HIP", "KV cache"))


def save_gpu_memory(config: ConfigFacts) -> list[str]:
    """List what saves a GPU's memory; the effective batch stays the same."""
    steps = _halve_batch(config)
    if not config.gradient_checkpointing:
        steps.append("Set training.enable_gradient_checkpointing=true.")
    length = config.model_max_length
    steps += [
        "Set model.torch_dtype_str to bfloat16.",
        f"Lower model.model_max_length{f' from {length} to {length // 2}' if length else ''}, "
        "if the rows allow it.",
        "Set training.use_peft=true (LoRA), with peft.q_lora=true as the next step.",
        "Set training.optimizer to paged_adamw_8bit.",
        "Share the model among GPUs: fsdp.enable_fsdp=true.",
    ]
    return steps


def _halve_batch(config: ConfigFacts) -> list[str]:
    batch = config.per_device_batch
    if batch is None:
        return [
            "Halve training.per_device_train_batch_size and double "
            "training.gradient_accumulation_steps: the effective batch stays the same."
        ]
    if batch <= 1:
        return []
    half, factor = batch // 2, -(-batch // (batch // 2))
    more = (config.accumulation or 1) * factor
    keeps = "stays the same" if half * factor == batch else "stays about the same"
    return [
        f"Set training.per_device_train_batch_size={half} and "
        f"training.gradient_accumulation_steps={more}: the effective batch {keeps}."
    ]
