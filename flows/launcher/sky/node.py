"""The first machine of a SkyPilot cluster, over ssh."""

from typing import ClassVar, Final

from flows.launcher.slurm.ssh import LoginNode

ENTER: Final = "cd ~/sky_workdir || exit 0"
"""Goes to the folder that SkyPilot (0.12) copies the working folder to and runs jobs in."""


class SkyNode(LoginNode):
    """A cluster by its name, which SkyPilot writes into the configuration of ssh."""

    name: ClassVar[str] = "SkyPilot cluster"
    proof: ClassVar[str] = " true"

    def sharing(self) -> list[str]:
        """Share no connection: SkyPilot's clusters may all be one address behind a proxy."""
        return ["-o", "ControlMaster=no", "-o", "ControlPath=none"]
