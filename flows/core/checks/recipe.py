"""The config of a command, as a job would run it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from flows.core.checks.notes import Notes
from flows.core.checks.script import MadeFiles
from flows.core.checks.values import items_of, mapping_of, text_of
from flows.core.configs.checks import MISSING
from flows.core.configs.schema import ConfigType, fields_of, root_spec

_TRUE: Final = frozenset({"true", "yes", "y", "on", "1"})
_TRAINED: Final = (ConfigType.TRAINING, ConfigType.TUNING)
_OUTPUTS: Final = {
    ConfigType.TRAINING: "training.output_dir",
    ConfigType.TUNING: "tuning.output_dir",
    ConfigType.EVALUATION: "output_dir",
    ConfigType.INFERENCE: "output_path",
    ConfigType.SYNTHESIS: "output_path",
    ConfigType.ANALYZE: "output_path",
    ConfigType.QUANTIZATION: "output_path",
    ConfigType.ASYNC_EVALUATION: "evaluation.output_dir",
}
_GUESS_ORDER: Final = (
    ConfigType.TRAINING,
    ConfigType.INFERENCE,
    ConfigType.EVALUATION,
    ConfigType.TUNING,
    ConfigType.SYNTHESIS,
    ConfigType.QUANTIZATION,
    ConfigType.ANALYZE,
    ConfigType.JUDGE,
    ConfigType.ASYNC_EVALUATION,
)


class Dataset(NamedTuple):
    """A data set that a recipe names."""

    key: str
    name: str
    path: str
    split: str
    kwargs: Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """The config of one command, with its overrides.

    Attributes:
        base: The folder on this machine that its relative paths start from; None: they start from
            a folder of the target.
        made_files: Files that the job's scripts may make before it is read, as paths here.
        envs: Environment variables from the job config.
        by_shell: Keys whose values the shell expands when the script runs.
        processes: Processes that it runs in; None: as many as there are GPUs.
        written_for: GPUs that its comments name.
        is_fetched: Whether the job fetches it from Oumi's library, wherever it runs.
    """

    path: str
    data: Mapping[str, Any]
    config_type: ConfigType
    base: Path | None
    notes: Notes
    processes: int | None = None
    made_files: MadeFiles = field(default_factory=MadeFiles)
    envs: Mapping[str, str] = field(default_factory=dict[str, str])
    by_shell: frozenset[str] = frozenset()
    written_for: int | None = None
    is_fetched: bool = False

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a dotted key; `default` if it is not set."""
        value: object = self.data
        for part in key.split("."):
            if not isinstance(value, Mapping):
                return default
            value = cast("Mapping[str, object]", value).get(part)
        return default if value in (None, MISSING) else value

    def text(self, key: str) -> str:
        """The text of a dotted key; empty if it is not set."""
        value = self.get(key)
        return value if isinstance(value, str) else ""

    def flag(self, key: str) -> bool:
        """Whether Oumi reads the value of a dotted key as true."""
        value = self.get(key)
        return value.lower() in _TRUE if isinstance(value, str) else value in (True, 1)

    @property
    def trains(self) -> bool:
        """Whether it updates a model's weights."""
        return self.config_type in _TRAINED

    @property
    def model_keys(self) -> list[str]:
        """The keys of the blocks that name a model."""
        match self.config_type:
            case ConfigType.SYNTHESIS | ConfigType.JUDGE:
                keys = ["inference_config.model"]
            case ConfigType.ASYNC_EVALUATION:
                keys = ["evaluation.model"]
            case ConfigType.ANALYZE | ConfigType.JOB:
                keys = []
            case _:
                keys = ["model"]
        return [key for key in keys if isinstance(self.get(key), Mapping)]

    @property
    def model_name(self) -> str:
        """The model it works on."""
        return next((self.text(f"{key}.model_name") for key in self.model_keys), "")

    @property
    def engine(self) -> tuple[str, str]:
        """The key and the name of its inference engine; empty if it has none."""
        match self.config_type:
            case ConfigType.INFERENCE:
                key = "engine"
            case ConfigType.EVALUATION:
                key = "inference_engine"
            case ConfigType.SYNTHESIS | ConfigType.JUDGE:
                key = "inference_config.engine"
            case ConfigType.ASYNC_EVALUATION:
                key = "evaluation.inference_engine"
            case _:
                return "", ""
        return key, self.text(key).removeprefix("InferenceEngineType.") or "NATIVE"

    @property
    def loads_model(self) -> bool:
        """Whether it loads its model itself; a remote engine does not."""
        return self.engine[1] in ("", "NATIVE", "VLLM", "SGLANG", "LLAMACPP")

    @property
    def trainer(self) -> str:
        """The type of its trainer; Oumi 0.9's default is HF."""
        return self.text("training.trainer_type").removeprefix("TrainerType.") or "HF"

    @property
    def output(self) -> tuple[str, str]:
        """The key and path of its output; Oumi's default if it is not set."""
        key = _OUTPUTS.get(self.config_type, "")
        return (key, self.text(key) or _default(self.config_type, key)) if key else ("", "")

    @property
    def uses_lora(self) -> bool:
        """Whether it trains adapters instead of the whole model."""
        return self.flag("training.use_peft")

    def datasets(self) -> Iterator[Dataset]:
        """The data sets it reads."""
        for split in ("train", "validation", "test"):
            items = items_of(self.get(f"data.{split}.datasets"))
            for index, item in enumerate(items):
                values = mapping_of(item)
                yield Dataset(
                    key=f"data.{split}.datasets[{index}]",
                    name=text_of(values.get("dataset_name")),
                    path=text_of(values.get("dataset_path")),
                    split=split,
                    kwargs=mapping_of(values.get("dataset_kwargs")),
                )

    def inputs(self) -> Iterator[tuple[str, str]]:
        """Key and path of every file or folder it reads, including data sets and models."""
        for dataset in self.datasets():
            if dataset.path:
                yield f"{dataset.key}.dataset_path", dataset.path
        plain = {
            ConfigType.TRAINING: ["training.resume_from_checkpoint"],
            ConfigType.INFERENCE: ["input_path"],
            ConfigType.SYNTHESIS: ["environment_config_path"],
            ConfigType.ANALYZE: ["dataset_path"],
        }
        for key in [*plain.get(self.config_type, []), "deepspeed.deepspeed_config_path"]:
            if self.text(key):
                yield key, self.text(key)
        for name in ("input_data", "input_documents"):
            key = f"strategy_params.{name}"
            items = items_of(self.get(key))
            for index, item in enumerate(items):
                path = text_of(mapping_of(item).get("path"))
                if path and not path.startswith(("hf:", "oumi:")):
                    yield f"{key}[{index}].path", path


def guess_type(data: Mapping[str, Any]) -> ConfigType:
    """Guess the type of a config from its keys."""

    def strangers(config_type: ConfigType) -> int:
        return len(data.keys() - fields_of(root_spec(config_type)).keys())

    return min(_GUESS_ORDER, key=strangers)


def _default(config_type: ConfigType, key: str) -> str:
    spec = root_spec(config_type)
    for part in key.split("."):
        spec = fields_of(spec)[part]
    return spec.get("default", "")
