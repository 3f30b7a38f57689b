"""The first machine of a SkyPilot cluster, over ssh."""

from pathlib import Path
from typing import ClassVar, Final

from flows.launcher.slurm.ssh import LoginNode

ENTER: Final = """\
if [ -n "$SKY_CLUSTER_NAME" ] && [ -r ~/.sky_ssh_rc ]; then . ~/.sky_ssh_rc; fi
cd ~/sky_workdir || exit 0
"""
"""Goes to the folder that SkyPilot (0.12) copies the working folder to and runs jobs in.

A cluster on Slurm has a home of its own. SkyPilot's start-up file goes there, but only interactive
sessions read it.
"""


class SkyNode(LoginNode):
    """A cluster by its name."""

    name: ClassVar[str] = "SkyPilot cluster"
    proof: ClassVar[str] = " true"

    def sharing(self) -> list[str]:
        """Use the configuration that SkyPilot (0.12) writes for the cluster, and share nothing.

        SkyPilot's clusters may all be one address behind a proxy.
        """
        generated = Path.home() / ".sky" / "generated"
        return [
            *("-F", str(generated / "ssh" / self.address)),
            # ssh takes `~` of that file for the home of the account, SkyPilot that of HOME.
            *("-i", str(generated / "ssh-keys" / f"{self.address}.key")),
            *("-o", "ControlMaster=no", "-o", "ControlPath=none"),
        ]
