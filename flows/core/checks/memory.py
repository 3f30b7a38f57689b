"""Check that a model fits the target's GPU memory and disk, by lower bounds of its size."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from flows.core.checks.launch import Launch
from flows.core.checks.recipe import Recipe
from flows.core.checks.target import SKY_DISK_GB
from flows.core.checks.values import mapping_of
from flows.core.configs.schema import ConfigType
from flows.core.findings import FindingCode, Gpu, Severity
from flows.core.regular_files import read_json

_COUNT: Final = re.compile(r"(?<![A-Za-z0-9.])(?:(\d+)x)?(\d+(?:[._]\d+)?)([bBmM])(?![A-Za-z0-9])")
_BYTES: Final = {"float32": 4.0, "fp32": 4.0, "float": 4.0}
_LEAST: Final = 0.2
"""Bytes of a parameter in an unknown quantization."""

_QUANTIZED: Final = (
    (r"(?i)(?<!\d)[123](?:\.\d+)?[-_]?bit|aqlm|exl[23]|bitnet|gguf|(?<![a-z0-9])i?q[123]_", _LEAST),
    (r"(?i)4[-_]?bit|int4|[^a-z0-9]w4|gpt-?oss|(?:mx|nv)?fp4|nf4|awq|gptq|q4_|hqq|autoround", 0.55),
    (r"(?i)8[-_]?bit|int8|fp8|w8a(?:8|16)|q[568]_", 1.05),
    (r"(?i)quanti[sz]ed|[-_]quant\b", _LEAST),
)
"""Patterns in the names of quantized models, and the least bytes of a parameter."""

_GB: Final = 1e9
_LEAST_GB: Final = 1.0
"""What any process takes of a GPU that it uses: CUDA's context and some rows."""
_SHARDED: Final = ("FULL_SHARD", "HYBRID_SHARD")


@dataclass(frozen=True)
class GpuRoom:
    """The GPU memory of a target: memory of one GPU, and the number of GPUs on all nodes."""

    memory_gb: float
    count: int
    name: str
    capability: float | None = None

    @property
    def total_gb(self) -> float:
        """The memory of all GPUs."""
        return self.memory_gb * self.count


def room_of(launch: Launch, gpus: list[Gpu] | None, *, granted: int = 1) -> GpuRoom | None:
    """The GPU memory of the target; None if it is unknown or the target has none.

    Args:
        launch: The launch.
        gpus: The GPUs of the worker's machine, if it is the target and they are known.
        granted: How many of them the job gets.
    """
    target = launch.target
    if target.is_local:
        sizes = [gpu.memory_gb for gpu in gpus or [] if gpu.memory_gb is not None]
        if not gpus or len(sizes) < len(gpus):
            return None
        capability = gpus[0].compute_capability
        return GpuRoom(
            min(sizes),
            min(granted, len(gpus)),
            gpus[0].name,
            float(capability) if capability else None,
        )
    model = target.accelerator.model if target.accelerator else None
    if model is None or target.accelerator is None:
        return None
    count = max(1, int(target.accelerator.number * target.num_nodes))
    return GpuRoom(model.memory_gb, count, target.accelerator.name, model.capability)


def check_memory(recipe: Recipe, room: GpuRoom) -> None:
    """Note a model that does not fit the target's GPUs, and GPUs that lack a capability."""
    _check_capability(recipe, room)
    params = parameters(recipe)
    if params is None or recipe.config_type in (ConfigType.ANALYZE, ConfigType.JUDGE):
        return
    engine = recipe.engine[1]
    if engine not in ("", "NATIVE", "VLLM"):
        return
    weights = params * weight_bytes(recipe) / _GB
    key = f"{recipe.model_keys[0]}.model_name" if recipe.model_keys else ""
    what = f"{recipe.model_name} has about {_billions(params)} parameters"
    gpus = f"{room.count} x {room.name} with {room.memory_gb:g} GB each"
    if weights > room.total_gb and not _offloads(recipe):
        must = recipe.trains or engine == "VLLM"
        recipe.notes.add(
            Severity.ERROR if must else Severity.WARNING,
            FindingCode.MODEL_TOO_LARGE if must else FindingCode.MEMORY_TIGHT,
            f"{what}: its weights alone take {weights:.0f} GB, and the target has {gpus}",
            "Use a smaller model, QLoRA, or more GPU memory",
            key=key,
        )
        return
    state = params * _training_bytes(recipe) / _GB if recipe.trains else weights
    available = room.total_gb if _is_spread(recipe) else room.memory_gb
    if state > available and not _offloads(recipe):
        recipe.notes.warning(
            FindingCode.MEMORY_TIGHT,
            f"{what}: weights, gradients and optimizer take about {state:.0f} GB, and "
            f"the target has {available:g} GB of GPU memory for them ({gpus})",
            "Train adapters (training.use_peft), shard with fsdp, or ask for more GPUs",
            key=key,
        )


def needed_gb(recipe: Recipe) -> float | None:
    """The GPU memory in GB that a recipe takes at least; None if it is unknown or it takes none."""
    params = parameters(recipe)
    if params is None or not recipe.loads_model or recipe.config_type is ConfigType.ANALYZE:
        return None
    return params * (_training_bytes(recipe) if recipe.trains else weight_bytes(recipe)) / _GB


def check_free(recipe: Recipe, gpus: list[Gpu], *, granted: int) -> None:
    """Note GPUs of this machine that would do, but whose memory others use.

    Args:
        recipe: The config.
        gpus: The GPUs.
        granted: How many of them the job gets.
    """
    params = parameters(recipe)
    need = _LEAST_GB
    if params is not None:
        of_one = _training_bytes(recipe) if recipe.trains else weight_bytes(recipe)
        spread = granted if _is_spread(recipe) else 1
        need = max(need, params * of_one / _GB / spread)
    would_do = [gpu for gpu in gpus if gpu.memory_gb is None or gpu.memory_gb >= need]
    taken = [
        gpu for gpu in would_do if gpu.free_memory_gb is not None and gpu.free_memory_gb < need
    ]
    if len(would_do) < granted or len(would_do) - len(taken) >= granted:
        return
    free = ", ".join(f"{gpu.free_memory_gb:g} of {gpu.memory_gb:g} GB" for gpu in taken[:4])
    recipe.notes.warning(
        FindingCode.GPU_IN_USE,
        f"others use the memory of {len(taken)} of {len(gpus)} x {taken[0].name}: free are {free}, "
        f"and {'it takes' if params is not None else 'a model takes'} at least {need:.0f} GB of "
        f"{'each of ' + str(granted) if granted > 1 else 'one'}",
        "End what uses them (nvidia-smi shows it); for jobs of this engine the job waits",
        key=f"{recipe.model_keys[0]}.model_name" if recipe.model_keys else "",
    )


def check_disk(launch: Launch, recipe: Recipe, *, free_gb: float | None) -> None:
    """Note a disk that cannot hold the model or its checkpoints.

    Args:
        launch: The launch.
        recipe: The config.
        free_gb: Free space where the worker would write; None: unknown.
    """
    params = parameters(recipe)
    if params is None:
        return
    checkpoint = params * _checkpoint_bytes(recipe) / _GB if recipe.trains else 0.0
    key, output = recipe.output
    if launch.target.is_local:
        room, where, download = free_gb, f"where {output} is", 0.0
    elif launch.target.is_sky:
        room, where = float(launch.target.disk_gb or SKY_DISK_GB), "on the cluster's disk"
        name = recipe.text("model.model_name")
        download = 0.0 if name.startswith("/") else params * (_of_text(name) or 2) / _GB
        if launch.job is not None and launch.job.is_stored(output):
            checkpoint = 0.0
    else:
        return
    if room is None:
        return
    kept = _checkpoints_kept(recipe)
    if download + checkpoint > room:
        recipe.notes.error(
            FindingCode.DISK_FULL,
            f"{room:.1f} GB {where}, and {_parts(download, checkpoint)}",
            "Free space, or set resources.disk_size or another output folder",
            key=key,
        )
    elif kept and download + checkpoint * kept > room:
        recipe.notes.warning(
            FindingCode.DISK_TIGHT,
            f"{room:.1f} GB {where}, and {kept} checkpoints of about {checkpoint:.1f} GB are kept",
            "Set training.trainer_kwargs.save_total_limit, or free space",
            key=key,
        )


def parameters(recipe: Recipe) -> float | None:
    """The number of parameters of the recipe's model, from its files or its name."""
    name = recipe.model_name
    if not name:
        return None
    if recipe.base is not None:
        counted = _of_files(recipe.base / name)
        if counted is not None:
            return counted
    return of_name(name)


def of_name(name: str) -> float | None:
    """The least number of parameters that a model's name may mean, such as Llama-3.1-8B."""
    found: list[float] = []
    for matched in _COUNT.finditer(name.rstrip("/").rsplit("/", 1)[-1]):
        size = float(matched[2].replace("_", ".")) * (1e9 if matched[3] in "bB" else 1e6)
        # Experts share the attention layers: Mixtral-8x7B has 47 billion.
        found.append(size * (int(matched[1]) * 0.82 if matched[1] else 1))
    # Next to a size, 1M is the length of a context.
    sizes = [size for size in found if size > 10e6] or found
    return min(sizes) if sizes else None


def weight_bytes(recipe: Recipe) -> float:
    """The least bytes that a loaded parameter takes."""
    if recipe.uses_lora and recipe.flag("peft.q_lora"):
        return 0.55 if recipe.get("peft.q_lora_bits", 4) == 4 else 1.05
    key = recipe.model_keys[0] if recipe.model_keys else "model"
    sizes = [_of_text(recipe.model_name), *_of_kwargs(recipe, f"{key}.model_kwargs")]
    if recipe.text("peft.bnb_4bit_quant_storage"):
        sizes.append(0.55)
    plain = _BYTES.get(recipe.text(f"{key}.torch_dtype_str"), 2.0)
    return min([size for size in sizes if size is not None], default=plain)


def _of_kwargs(recipe: Recipe, key: str) -> Iterator[float | None]:
    """The bytes of a parameter by the quantization in a model's keyword arguments."""
    for name, value in mapping_of(recipe.get(key)).items():
        if name in ("load_in_4bit", "load_in_8bit"):
            if recipe.flag(f"{key}.{name}"):
                yield 0.55 if "4" in name else 1.05
        elif name.startswith("quantization") and value:
            text = "bnb-4bit" if value == "bitsandbytes" else json.dumps(value, default=str)
            yield _of_text(text) or _LEAST


def _of_text(text: str) -> float | None:
    """The bytes of a parameter by the quantization in a name; None if it has none."""
    return next((size for pattern, size in _QUANTIZED if re.search(pattern, text)), None)


def _training_bytes(recipe: Recipe) -> float:
    """Bytes a parameter takes in training: weight, and gradient and optimizer state if trained."""
    weight = weight_bytes(recipe)
    if recipe.uses_lora:
        return weight * 1.02
    optimizer = recipe.text("training.optimizer") or "adamw_torch"
    if "8bit" in optimizer:
        state = 2.0
    elif optimizer.startswith(("adafactor", "sgd")):
        state = 0.0
    else:
        state = 2 * weight
    return weight * 2 + state


def _checkpoint_bytes(recipe: Recipe) -> float:
    if recipe.uses_lora:
        return 0.01
    return weight_bytes(recipe) + max(_training_bytes(recipe) - 2 * weight_bytes(recipe), 0)


def _checkpoints_kept(recipe: Recipe) -> int:
    limit = recipe.get("training.trainer_kwargs.save_total_limit")
    if isinstance(limit, int) and limit > 0:
        return limit
    steps = recipe.get("training.max_steps")
    every = recipe.get("training.save_steps", 500)
    if isinstance(steps, int) and isinstance(every, int) and steps > 0 and every > 0:
        return max(1, steps // every)
    return 1


def _is_spread(recipe: Recipe) -> bool:
    """Whether the model's state is split across the GPUs."""
    if recipe.flag("fsdp.enable_fsdp"):
        strategy = recipe.text("fsdp.sharding_strategy").removeprefix("ShardingStrategy.")
        return not strategy or strategy.startswith(_SHARDED)
    if recipe.flag("deepspeed.enable_deepspeed"):
        stage = recipe.text("deepspeed.zero_stage").removeprefix("ZeRORuntimeStage.")
        return stage in ("", "ZERO_3")
    # A single process loads the model with device_map auto, which spreads its layers.
    return recipe.processes == 1


def _offloads(recipe: Recipe) -> bool:
    return bool(
        recipe.flag("fsdp.cpu_offload")
        or recipe.get("deepspeed.offload_param")
        or recipe.get("deepspeed.offload_optimizer")
    )


def _check_capability(recipe: Recipe, room: GpuRoom) -> None:
    if room.capability is None or room.capability >= 8.0:
        return
    for block in recipe.model_keys:
        if recipe.text(f"{block}.attn_implementation") == "flash_attention_2":
            recipe.notes.error(
                FindingCode.GPU_TOO_OLD,
                f"flash_attention_2 needs compute capability 8.0, and {room.name} has "
                f"{room.capability}",
                "Use attn_implementation: sdpa, or a newer GPU",
                key=f"{block}.attn_implementation",
                nearest="sdpa",
            )
        if recipe.text(f"{block}.torch_dtype_str") in ("bfloat16", "bf16"):
            recipe.notes.warning(
                FindingCode.GPU_TOO_OLD,
                f"bfloat16 needs compute capability 8.0, and {room.name} has {room.capability}, "
                "which emulates it slowly",
                "Use torch_dtype_str: float16, or a newer GPU",
                key=f"{block}.torch_dtype_str",
                nearest="float16",
            )
    if recipe.text("training.mixed_precision_dtype").endswith("BF16"):
        recipe.notes.error(
            FindingCode.GPU_TOO_OLD,
            f"mixed_precision_dtype BF16 needs compute capability 8.0, and {room.name} has "
            f"{room.capability}",
            "Use FP16, or a newer GPU",
            key="training.mixed_precision_dtype",
            nearest="FP16",
        )


def _of_files(folder: Path) -> float | None:
    """Parameters of a model's files: from their size, and the type in config.json."""
    try:
        sizes = [file.stat().st_size for file in folder.glob("*.safetensors")]
        sizes = sizes or [file.stat().st_size for file in folder.glob("pytorch_model*.bin")]
        if not sizes:
            return None
        config = cast("dict[str, Any]", read_json(folder / "config.json"))
        dtype = str(config.get("torch_dtype") or config.get("dtype") or "")
    except (OSError, ValueError, AttributeError):
        return None
    return sum(sizes) / _BYTES.get(dtype, 2.0)


def _billions(params: float) -> str:
    return f"{params / 1e9:.3g} billion" if params >= 1e9 else f"{params / 1e6:.3g} million"


def _parts(download: float, checkpoint: float) -> str:
    parts = [
        f"{text} {size:.1f} GB"
        for text, size in (("the model takes", download), ("one checkpoint takes", checkpoint))
        if size
    ]
    return " and ".join(parts)
