"""The names that Oumi's registry knows: data sets, reward functions and others."""

from enum import StrEnum
from importlib import import_module
from typing import Any, Final

from flows.launcher.loading import load_oumi


class Registered(StrEnum):
    """The kinds of registered names; the values are those of Oumi's `RegistryType` (oumi 0.9)."""

    DATASET = "DATASET"
    MODEL = "MODEL"
    REWARD_FUNCTION = "REWARD_FUNCTION"
    METRICS_FUNCTION = "METRICS_FUNCTION"
    EVALUATION_FUNCTION = "EVALUATION_FUNCTION"


_REGISTERED_BY: Final = {
    Registered.REWARD_FUNCTION: "oumi.datasets.grpo.rewards",
    Registered.EVALUATION_FUNCTION: "oumi.evaluation.registry",
}


class OumiRegistry:
    """Oumi's registry in the worker; a job may register more names."""

    def names(self, kind: Registered) -> set[str]:
        """The registered names, in lower case: Oumi ignores case."""
        load_oumi()
        from oumi.core.registry import REGISTRY, RegistryType

        if kind in _REGISTERED_BY:
            # Oumi imports them only where it looks the names up (oumi 0.9).
            import_module(_REGISTERED_BY[kind])

        registry: Any = REGISTRY
        return set(registry.get_all(RegistryType[kind]))

    def has_dataset(self, name: str, subset: str | None) -> bool:
        """Whether Oumi has a class of its own for a data set."""
        load_oumi()
        from oumi.core.registry import REGISTRY

        registry: Any = REGISTRY
        return registry.get_dataset(name, subset=subset) is not None
