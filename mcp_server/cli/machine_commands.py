"""The commands for the machines that run jobs."""

from collections.abc import Callable
from typing import Annotated

import typer
from rich.text import Text

from mcp_server.cli import views
from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson
from mcp_server.cli.output import Output
from mcp_server.cli.times import say_when
from mcp_server.services.machines import MachineList


class MachineCommands(Commands):
    """The methods are the commands."""

    panel = "The engine"

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {"machines": self.machines, "forget-machine": self.forget_machine}

    def machines(self, *, as_json: AsJson = False) -> Exit:
        """List the machines that run jobs: the workers of Prefect's work pools."""
        listed = self._backend.use(lambda services: services.machines.list())
        return self._write(listed, show_machines, as_json=as_json)

    def forget_machine(
        self,
        name: Annotated[str, typer.Argument(metavar="NAME", help="Its name in `machines`.")],
        *,
        as_json: AsJson = False,
    ) -> Exit:
        """Say that a machine does not come back: its local jobs are lost, or start again."""
        done = self._backend.use(lambda services: services.machines.forget(name))
        return self._write(done, views.show_summary, as_json=as_json)


def show_machines(listed: MachineList, output: Output) -> None:
    """Show a list of machines."""
    if not listed.machines:
        return output.note(listed.summary)
    output.table(
        ["MACHINE", "POOL", "STATE", "LAST SEEN", "RUNNING", "WAITING"],
        [
            [
                Text(machine.name),
                Text(machine.pool),
                Text("online" if machine.online else "offline"),
                Text(say_when(machine.last_seen_at)),
                Text(str(machine.running)),
                Text(str(machine.waiting)),
            ]
            for machine in listed.machines
        ],
    )
    return None
