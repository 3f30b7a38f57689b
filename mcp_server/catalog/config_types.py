"""Recognises the type of a config by its keys."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from flows.core.configs.reader import is_job_config
from flows.core.configs.schema import ConfigType, fields_of, root_spec

# A type that shares all its keys with another comes after it.
_ORDER: Final = (
    ConfigType.TRAINING,
    ConfigType.TUNING,
    ConfigType.ASYNC_EVALUATION,
    ConfigType.SYNTHESIS,
    ConfigType.QUANTIZATION,
    ConfigType.JUDGE,
    ConfigType.ANALYZE,
    ConfigType.INFERENCE,
    ConfigType.EVALUATION,
)


def config_type_of(data: Mapping[str, Any], path: str = "") -> ConfigType | None:
    """Return the type with these keys; None: no type of Oumi has all of them.

    Args:
        data: The config's content.
        path: Decides between types that share all the keys.
    """
    if is_job_config(data):
        return ConfigType.JOB
    possible = [kind for kind in _ORDER if data and data.keys() <= _keys(kind)]
    if ConfigType.EVALUATION in possible and "eval" in path.lower():
        return ConfigType.EVALUATION
    return possible[0] if possible else None


@cache
def _keys(config_type: ConfigType) -> frozenset[str]:
    return frozenset(fields_of(root_spec(config_type)))
