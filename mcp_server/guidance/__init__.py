"""Prose for models, as Markdown files."""

from pathlib import Path


def read_guidance(name: str, **values: str) -> str:
    """The text of ``<name>.md`` with each ``{key}`` replaced by its value."""
    path = Path(__file__).parent / f"{name}.md"
    return path.read_text(encoding="utf-8").format(**values)
