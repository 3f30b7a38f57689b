"""The first machine of a SkyPilot cluster, over ssh."""

from pathlib import Path
from typing import ClassVar, Final

from flows.launcher.slurm.ssh import LoginNode

ENTER: Final = "cd ~/sky_workdir || exit 0"
"""Goes to the folder that SkyPilot (0.12) copies the working folder to and runs jobs in."""


class SkyNode(LoginNode):
    """A cluster by its name."""

    name: ClassVar[str] = "SkyPilot cluster"
    proof: ClassVar[str] = " true"

    def sharing(self) -> list[str]:
        """Use the configuration that SkyPilot (0.12) writes for the cluster, and share nothing.

        SkyPilot's clusters may all be one address behind a proxy.
        """
        config = Path.home() / ".sky" / "generated" / "ssh" / self.address
        return ["-F", str(config), "-o", "ControlMaster=no", "-o", "ControlPath=none"]
