"""The catalogue's entry of one config, read from its file only."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple, cast

from flows.core.checks.values import items_of, mapping_of, text_of
from flows.core.configs.schema import ConfigType
from flows.core.configs.yaml_text import parse_yaml
from flows.core.errors import InvalidConfig
from mcp_server.catalog.config_types import config_type_of
from mcp_server.catalog.model_names import family_of

_MAX_DESCRIPTION: Final = 160
_TASK_OF_TRAINER: Final = {
    "TRL_DPO": "dpo",
    "TRL_KTO": "kto",
    "TRL_GRPO": "grpo",
    "VERL_GRPO": "grpo",
    "TRL_GKD": "distillation",
    "TRL_GOLD": "distillation",
}
_TASK_OF_TYPE: Final = {
    ConfigType.EVALUATION: "evaluation",
    ConfigType.ASYNC_EVALUATION: "evaluation",
    ConfigType.INFERENCE: "inference",
    ConfigType.TUNING: "tuning",
    ConfigType.SYNTHESIS: "synthesis",
    ConfigType.QUANTIZATION: "quantization",
    ConfigType.ANALYZE: "analysis",
    ConfigType.JUDGE: "judge",
}
_TASK_OF_COMMAND: Final = {
    "train": "training",
    "evaluate": "evaluation",
    "eval": "evaluation",
    "infer": "inference",
    "tune": "tuning",
    "synth": "synthesis",
    "quantize": "quantization",
    "analyze": "analysis",
    "judge": "judge",
}
_COMMAND: Final = re.compile(rf"\boumi\s+(?:\S+\s+)?({'|'.join(_TASK_OF_COMMAND)})\b")
_CONFIG_OPTION: Final = re.compile(r"(?:-c|--config)[ =]+[\"']?([^\s\"']+\.ya?ml)")
_NOT_A_DESCRIPTION: Final = re.compile(r"(requires?|requirements|usage|see also|needs)\b.*:", re.I)
_OWN_DATA: Final = re.compile(r"^\s*#.*\bdataset_name: (\w+_jsonl)\b", re.MULTILINE)
_NEEDS: Final = re.compile(r"^#\s*Needs:\s*(.+?)\s*$", re.MULTILINE)


class Entry(NamedTuple):
    """Facts from a config's file; a fact that it does not give is empty.

    Attributes:
        path: Its path in the catalogue.
        description: The first sentence of the comment it begins with.
        config_type: The type of config, as `validate_config` names it.
        task: Its task: ``sft dpo kto grpo distillation pretraining evaluation inference
            tuning synthesis quantization analysis judge``, or ``training`` for a job whose
            training config is unknown.
        technique: ``full lora qlora`` of a training, else the engine, backend or method.
        model_name: The model it works on.
        model_family: The model's family with its version, as in ``llama3.1``.
        datasets: The data sets it reads.
        gpu: The GPUs it needs, by its keys, its comment or the job config that runs it.
        cloud: The cloud of a job config.
        runs: Paths of the configs a job config runs, as written there.
        uses: Other names in it: trainer, sharding, rewards, teacher.
        own_data: The data set classes for own data that its comments name.
    """

    path: str
    description: str = ""
    config_type: str = ""
    task: str = ""
    technique: str = ""
    model_name: str = ""
    model_family: str = ""
    datasets: tuple[str, ...] = ()
    gpu: str = ""
    cloud: str = ""
    runs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    own_data: tuple[str, ...] = ()


def read_entry(path: str, text: str) -> Entry:
    """Read an entry from a config's text; a text that is no config gives only its path."""
    try:
        data = parse_yaml(text, path)
    except InvalidConfig:
        return Entry(path)
    if not isinstance(data, dict):
        return Entry(path)
    config = cast("Mapping[str, Any]", data)
    config_type = config_type_of(config, path)
    needs = _NEEDS.search(text)
    entry = Entry(
        path,
        description=_description(text),
        config_type=config_type or "",
        gpu=needs[1] if needs else "",
        datasets=tuple(dict.fromkeys(_datasets(config))),
        own_data=tuple(dict.fromkeys(_OWN_DATA.findall(text))),
    )
    if config_type is ConfigType.JOB:
        return _job(entry, config)
    return _with_model(entry, config, config_type)


def _with_model(entry: Entry, config: Mapping[str, Any], config_type: ConfigType | None) -> Entry:
    """Add task, technique and model of a config that is no job."""
    model_name = _model_name(config, config_type)
    task = _TASK_OF_TYPE.get(config_type, "") if config_type else ""
    if config_type is ConfigType.TRAINING:
        task = _training_task(config, entry.path)
    return entry._replace(
        task=task,
        technique=_technique(config, config_type),
        model_name=model_name,
        model_family=family_of(model_name),
        uses=tuple(dict.fromkeys(_uses(config))),
    )


def with_jobs(entries: Iterable[Entry]) -> list[Entry]:
    """Link each job config with the configs that it runs.

    The job config gets task, technique and model of what it runs; the config gets the GPUs of the
    smallest job that runs it.
    """
    found = {entry.path: entry for entry in entries}
    for job in sorted(found.values(), key=_gpu_count):
        for path in targets_of(job):
            config = found.get(path)
            if config is None or config.config_type == ConfigType.JOB:
                continue
            found[job.path] = _like_target(found[job.path], config)
            if job.gpu and not config.gpu:
                found[config.path] = config._replace(gpu=job.gpu)
    return list(found.values())


def _like_target(job: Entry, config: Entry) -> Entry:
    return job._replace(
        task=config.task or job.task,
        technique=config.technique,
        model_name=config.model_name,
        model_family=config.model_family,
        datasets=config.datasets,
        uses=config.uses,
        own_data=config.own_data,
    )


def targets_of(job: Entry) -> list[str]:
    """Find the catalogue's paths of the configs that a job config runs."""
    return [_same_catalogue(job.path, name) for name in job.runs]


def _gpu_count(entry: Entry) -> int:
    count = entry.gpu.rpartition(":")[2]
    return int(count) if count.isdecimal() else 0


def _description(text: str) -> str:
    """Return the first sentence of the first paragraph of the comment at the top."""
    words: list[str] = []
    for line in text.splitlines():
        comment = line.strip().removeprefix("#").strip()
        if not line.startswith("#") or (words and not comment):
            break
        if not comment or set(comment) <= set("-=#"):
            continue
        if _NOT_A_DESCRIPTION.match(comment):
            break
        words += comment.split()
    sentence = re.split(r"(?<=\.)\s", " ".join(words), maxsplit=1)[0]
    if len(sentence) <= _MAX_DESCRIPTION:
        return sentence
    return sentence[: _MAX_DESCRIPTION - 3].rsplit(" ", 1)[0] + "..."


def _job(entry: Entry, config: Mapping[str, Any]) -> Entry:
    resources = mapping_of(config.get("resources"))
    run = text_of(config.get("run"))
    command = _COMMAND.search(run)
    accelerators = text_of(resources.get("accelerators"))
    if accelerators and ":" not in accelerators:
        accelerators += ":1"
    nodes = config.get("num_nodes")
    if accelerators and isinstance(nodes, int) and nodes > 1:
        accelerators = f"{nodes} nodes of {accelerators}"
    return entry._replace(
        task=_TASK_OF_COMMAND[command[1]] if command else "",
        gpu=accelerators or entry.gpu,
        cloud=text_of(resources.get("cloud")),
        runs=tuple(dict.fromkeys(_CONFIG_OPTION.findall(run))),
    )


def _same_catalogue(job_path: str, name: str) -> str:
    """Find the catalogue's path of a config that a job's script names.

    Oumi's scripts run from the folder above ``configs``, ours from the recipe's own folder.
    """
    name = name.removeprefix("oumi://").removeprefix("./")
    if name.startswith("configs/"):
        return name.removeprefix("configs/")
    return str(PurePosixPath(job_path).parent / name)


def _model_name(config: Mapping[str, Any], config_type: ConfigType | None) -> str:
    holder = config
    if config_type in (ConfigType.SYNTHESIS, ConfigType.JUDGE):
        holder = mapping_of(config.get("inference_config"))
    elif config_type is ConfigType.ASYNC_EVALUATION:
        holder = mapping_of(config.get("evaluation"))
    return text_of(mapping_of(holder.get("model")).get("model_name"))


def _training_task(config: Mapping[str, Any], path: str) -> str:
    training = mapping_of(config.get("training"))
    trainer = text_of(training.get("trainer_type")).upper().removeprefix("TRAINERTYPE.")
    task = _TASK_OF_TRAINER.get(trainer, "sft")
    from_scratch = mapping_of(config.get("model")).get("load_pretrained_weights") is False
    if task == "sft" and (from_scratch or "pretrain" in path.lower()):
        return "pretraining"
    return task


def _technique(config: Mapping[str, Any], config_type: ConfigType | None) -> str:
    """Return the technique; the possible ones depend on the type."""
    technique = ""
    match config_type:
        case ConfigType.TRAINING:
            if mapping_of(config.get("training")).get("use_peft") is not True:
                technique = "full"
            else:
                q_lora = mapping_of(config.get("peft")).get("q_lora") is True
                technique = "qlora" if q_lora else "lora"
        case ConfigType.INFERENCE:
            technique = text_of(config.get("engine")).lower()
        case ConfigType.SYNTHESIS:
            technique = text_of(mapping_of(config.get("inference_config")).get("engine")).lower()
        case ConfigType.JUDGE:
            kinds = ("rule", "rubric")
            technique = next((kind for kind in kinds if config.get(f"{kind}_judge_params")), "llm")
        case ConfigType.EVALUATION:
            tasks = _mappings(config.get("tasks"))
            backends = dict.fromkeys(text_of(task.get("evaluation_backend")) for task in tasks)
            technique = " ".join(name for name in backends if name)
        case ConfigType.QUANTIZATION:
            technique = text_of(config.get("method"))
        case ConfigType.TUNING:
            technique = text_of(mapping_of(config.get("tuning")).get("tuner_type")).lower()
        case _:
            pass
    return technique


def _datasets(config: Mapping[str, Any]) -> Iterator[str]:
    data = mapping_of(config.get("data"))
    for split in ("train", "validation", "test"):
        for dataset in _mappings(mapping_of(data.get(split)).get("datasets")):
            yield from _texts(dataset.get("dataset_name"))
    yield from _texts(config.get("dataset_name"))
    tasks = config.get("tasks") or mapping_of(config.get("evaluation")).get("tasks")
    for task in _mappings(tasks):
        yield from _texts(task.get("task_name"))
    strategy = mapping_of(config.get("strategy_params"))
    for source in _mappings(strategy.get("input_data")):
        yield from _texts(source.get("path"))


def _uses(config: Mapping[str, Any]) -> Iterator[str]:
    training = mapping_of(config.get("training"))
    yield from _texts(training.get("trainer_type"))
    for name in ("fsdp", "deepspeed"):
        if mapping_of(config.get(name)).get(f"enable_{name}") is True:
            yield name
    rewards = training.get("reward_functions")
    for reward in items_of(rewards):
        yield from _texts(reward)
    for name in ("gkd", "gold"):
        yield from _texts(mapping_of(training.get(name)).get("teacher_model_name_or_path"))
    for name in ("grpo", "gold"):
        if mapping_of(training.get(name)).get("use_vllm") is True:
            yield "vllm"


def _mappings(value: object) -> Iterator[Mapping[str, Any]]:
    return map(mapping_of, items_of(value))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str) and value:
        yield value
