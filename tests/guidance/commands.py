"""The commands and options of a command line."""

from typing import Any

import click


def commands(root: click.Command) -> dict[str, dict[str, Any]]:
    """Each command by its words: its options, and whether it takes any others."""
    found: dict[str, dict[str, Any]] = {}

    def walk(command: click.Command, words: list[str]) -> None:
        options = [
            name
            for parameter in command.params
            if isinstance(parameter, click.Option)
            for name in (*parameter.opts, *parameter.secondary_opts)
        ]
        takes_any = bool(command.context_settings.get("ignore_unknown_options"))
        found[" ".join(words)] = {"options": options, "takes_any": takes_any}
        if isinstance(command, click.Group):
            for name, child in command.commands.items():
                walk(child, [*words, name])

    walk(root, [])
    return found
