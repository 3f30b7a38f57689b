"""The packages and repositories that a recipe needs."""

import re
from typing import Final, NamedTuple

from flows.core.checks.paths import is_path
from flows.core.checks.recipe import Recipe
from flows.core.configs.schema import ConfigType
from flows.core.file_names import exists

API_KEYS: Final = {
    "ANTHROPIC": "ANTHROPIC_API_KEY",
    "CEREBRAS": "CEREBRAS_API_KEY",
    "DEEPSEEK": "DEEPSEEK_API_KEY",
    "FIREWORKS": "FIREWORKS_API_KEY",
    "GOOGLE_GEMINI": "GEMINI_API_KEY",
    "HUGGING_FACE_ROUTER": "HF_TOKEN",
    "OPENAI": "OPENAI_API_KEY",
    "OPENROUTER": "OPENROUTER_API_KEY",
    "PARASAIL": "PARASAIL_API_KEY",
    "SAMBANOVA": "SAMBANOVA_API_KEY",
    "TOGETHER": "TOGETHER_API_KEY",
}
"""The variables from which Oumi 0.9's engines read their key; a test compares them."""

_REPO: Final = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?")


class Package(NamedTuple):
    """A Python package that a setting needs."""

    name: str
    """Its name in an import."""
    install: str
    key: str


class Repo(NamedTuple):
    """A repository of the hub that a recipe reads."""

    name: str
    kind: str
    """``model`` or ``dataset``."""
    key: str
    revision: str = "main"


def packages(recipe: Recipe) -> list[Package]:
    """The packages beyond Oumi's own that a recipe's settings need."""
    found: list[Package] = []

    def need(wanted: object, name: str, install: str, key: str) -> None:
        if wanted:
            found.append(Package(name, install, key))

    for block in recipe.model_keys:
        key = f"{block}.attn_implementation"
        need(recipe.text(key) == "flash_attention_2", "flash_attn", "flash-attn", key)
        key = f"{block}.enable_liger_kernel"
        need(recipe.flag(key), "liger_kernel", "oumi[gpu]", key)
    optimizer = recipe.text("training.optimizer")
    need("8bit" in optimizer or "paged" in optimizer, "bitsandbytes", "oumi[gpu]",
         "training.optimizer")  # fmt: skip
    need(
        recipe.uses_lora and recipe.flag("peft.q_lora"), "bitsandbytes", "oumi[gpu]", "peft.q_lora"
    )
    need(recipe.flag("deepspeed.enable_deepspeed"), "deepspeed", "oumi[deepspeed]",
         "deepspeed.enable_deepspeed")  # fmt: skip
    need(recipe.flag("training.grpo.use_vllm"), "vllm", "oumi[gpu]", "training.grpo.use_vllm")
    need(recipe.config_type is ConfigType.TRAINING and recipe.trainer == "VERL_GRPO", "verl",
         "oumi[gpu]", "training.trainer_type")  # fmt: skip
    need(recipe.flag("training.enable_wandb"), "wandb", "wandb", "training.enable_wandb")
    need(recipe.flag("training.enable_mlflow"), "mlflow", "mlflow", "training.enable_mlflow")
    engine_key, engine = recipe.engine
    need(engine == "VLLM", "vllm", "oumi[gpu]", engine_key)
    need(engine == "LLAMACPP", "llama_cpp", "oumi[llama_cpp]", engine_key)
    need(recipe.config_type is ConfigType.TUNING, "optuna", "oumi[tune]", "tuning")
    if recipe.config_type is ConfigType.QUANTIZATION:
        method = recipe.text("method") or "awq_q4_0"
        name = "awq" if method.startswith("awq") else "bitsandbytes"
        need(name, name, "oumi[quantization]", "method")
    return found


def repos(recipe: Recipe) -> list[Repo]:
    """The hub's model repositories that a recipe reads; data sets are checked separately."""
    names: list[Repo] = []
    if recipe.loads_model:
        for block in recipe.model_keys:
            revision = recipe.text(f"{block}.model_revision") or "main"
            for leaf in ("model_name", "adapter_model", "tokenizer_name"):
                key = f"{block}.{leaf}"
                at = revision if leaf == "model_name" else "main"
                names.append(Repo(recipe.text(key), "model", key, at))
    for key in (
        "training.gkd.teacher_model_name_or_path",
        "training.gold.teacher_model_name_or_path",
        "training.gold.teacher_tokenizer_name_or_path",
        "tokenizer_name",
    ):
        names.append(Repo(recipe.text(key), "model", key))
    return [repo for repo in names if is_repo(recipe, repo.name)]


def unclear_names(recipe: Recipe) -> list[tuple[str, str]]:
    """Keys and names of models that are neither paths nor names of the hub."""
    keys = [
        f"{block}.{leaf}"
        for block in recipe.model_keys
        for leaf in ("model_name", "adapter_model", "tokenizer_name")
    ]
    named = [(key, recipe.text(key)) for key in keys]
    return [
        (key, name)
        for key, name in named
        if name
        and not is_path(name)
        and not _REPO.fullmatch(name)
        and not (recipe.base is not None and exists(recipe.base / name))
    ]


def is_repo(recipe: Recipe, name: str) -> bool:
    """Whether a name means a repository of the hub instead of a folder."""
    if not name or is_path(name) or not _REPO.fullmatch(name):
        return False
    return recipe.base is None or not exists(recipe.base / name)
