"""Prose for models, as Markdown files."""

from pathlib import Path


def read_guidance(name: str) -> str:
    """The text of ``<name>.md``."""
    return (Path(__file__).parent / f"{name}.md").read_text(encoding="utf-8")
