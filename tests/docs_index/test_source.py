"""Reading an API from source, on a package with every trait that matters."""

import pytest

from mcp_server.docs_index.entries import Api, DocEntry, DocField, DocSection
from mcp_server.docs_index.source import read_api

FILES = {
    "__init__.py": '''"""A library."""
from lib.core import Options
from lib.parts.engine import Engine as Engine
__all__ = ["Options", "Engine", "train"]

def train(options: "Options") -> None:
    """Trains."""
    import lib.train
''',
    "train.py": '''def train(options):
    """Trains for real."""
''',
    "core/__init__.py": """from lib.core.options import Mode, Options
from os.path import join
""",
    "core/options.py": '''"""Options of everything."""
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from omegaconf import MISSING

class Mode(Enum):
    """How."""
    FAST = "fast"
    """Not slow."""

@dataclass
class Base:
    seed: int = 42
    """Where chance begins."""

@dataclass
class Options(Base):
    """What to do.

    Even more.

    Attributes:
        name: Of whom.
    """
    name: str = MISSING
    steps: int | None = None
    """How many.

    Not too many."""
    extra: dict[str, Any] = field(default_factory=dict)
    mode: Mode = field(default=Mode.FAST, metadata={"a": 1})
    _hidden: int = 0
''',
    # No __init__.py: a namespace, which griffe's own loader leaves out.
    "parts/engine.py": '''from lib.registry import register_engine

@register_engine("v8")
@register_engine("v12")
class Engine:
    """Runs.

    Example:
        >>> Engine("x").run()
    """
    def __init__(self, fuel: str, *, tank: int = 3):
        """Fills it.

        Args:
            fuel: What it burns.
        """
        self.fuel = fuel

    def run(self, far: bool = False) -> int:
        """Runs it.

        Args:
            far: Whether to go
                far.

        Returns:
            How far it went.

        Raises:
            ValueError: Empty.
        """

    def _start(self): ...
''',
    "_private.py": "def hidden(): ...\n",
    "cli/main.py": "def command(): ...\n",
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    package = tmp_path_factory.mktemp("source") / "lib"
    for name, text in FILES.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_api(package)


def entry(api: Api, name: str) -> DocEntry:
    return next(entry for entry in api.entries if entry.qualified_name == name)


def test_what_is_public_is_found_under_the_shortest_path_it_can_be_imported_by(api: Api) -> None:
    assert {entry.qualified_name: entry.kind for entry in api.entries} == {
        "lib.train": "function",
        "lib.train.train": "function",
        "lib.Options": "dataclass",
        "lib.Engine": "class",
        "lib.Engine.run": "method",
        "lib.core.Mode": "enum",
        "lib.core.options.Base": "dataclass",
    }
    assert api.other_paths == {
        "lib.core.Options": "lib.Options",
        "lib.core.options.Options": "lib.Options",
        "lib.core.options.Mode": "lib.core.Mode",
        "lib.parts.engine.Engine": "lib.Engine",
        "lib.parts.engine.Engine.run": "lib.Engine.run",
    }


def test_a_dataclass_has_its_fields_and_those_of_its_bases(api: Api) -> None:
    assert entry(api, "lib.Options").fields == [
        DocField(name="seed", type="int", default="42", description="Where chance begins."),
        DocField(name="name", type="str", default=None, description="Of whom."),
        DocField(
            name="steps",
            type="int | None",
            default="None",
            description="How many.\n\nNot too many.",
        ),
        DocField(name="extra", type="dict[str, Any]", default="{}"),
        DocField(name="mode", type="Mode", default="Mode.FAST"),
    ]
    assert entry(api, "lib.Options").sections == [DocSection(name="", content="Even more.")]
    assert entry(api, "lib.core.Mode").fields == [
        DocField(name="FAST", default="'fast'", description="Not slow.")
    ]


def test_a_class_has_its_signature_and_the_names_it_is_registered_by(api: Api) -> None:
    engine = entry(api, "lib.Engine")
    assert engine.signature == "Engine(fuel: str, *, tank: int = 3)"
    assert engine.registered_as == ["v8", "v12"]
    assert engine.source == "lib/parts/engine.py:3"
    assert engine.summary == "Runs."
    assert [(section.name, section.content) for section in engine.sections] == [
        ("Example", '>>> Engine("x").run()'),
        ("", "Fills it."),
        ("Args", "fuel (str): What it burns."),
    ]


def test_a_method_has_the_sections_of_its_docstring(api: Api) -> None:
    run = entry(api, "lib.Engine.run")
    assert run.signature == "run(far: bool = False) -> int"
    assert (run.parent_class, run.module) == ("Engine", "lib")
    assert [(section.name, section.content) for section in run.sections] == [
        ("Args", "far (bool): Whether to go far."),
        ("Returns", "int: How far it went."),
        ("Raises", "ValueError: Empty."),
    ]
