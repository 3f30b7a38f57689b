"""The `validate-config` flow: the worker's Oumi checks a config."""

import asyncio
from importlib.metadata import version
from pathlib import Path

from prefect import flow

from flows.answers.answering import answering
from flows.core.configs.reader import read_config
from flows.core.configs.schema import ConfigType
from flows.core.findings import OumiVerdict
from flows.core.names import VALIDATE_FLOW


@flow(
    name=VALIDATE_FLOW,
    persist_result=False,
    validate_parameters=True,
    description="Check a config with Oumi's own classes.",
)
@answering
async def validate_config(config_path: str, task_type: ConfigType, client_cwd: str) -> OumiVerdict:
    """List what Oumi refuses in a config, besides unknown keys and wrong types.

    Args:
        config_path: Absolute path of the config.
        task_type: The type as which Oumi would load it.
        client_cwd: Absolute folder that relative paths start from.
    """
    return await asyncio.to_thread(_verdict, Path(config_path), task_type, Path(client_cwd))


def _verdict(path: Path, task_type: ConfigType, folder: Path) -> OumiVerdict:
    # Imported here: deploying or importing the flow must not load Oumi.
    from flows.launcher.oumi.config_classes import oumi_problems
    from flows.launcher.oumi.trainer_checks import trainer_problems

    data = read_config(path).data
    problems = oumi_problems(data, task_type, folder=folder)
    if task_type is ConfigType.TRAINING:
        problems += trainer_problems(data, problems, folder=folder, processes=None)
    return OumiVerdict(
        summary=f"Oumi refuses {len(problems)} things in {path.name}." if problems else "Valid.",
        oumi_version=version("oumi"),
        problems=problems,
    )
