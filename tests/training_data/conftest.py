"""The tiny tokenizer, without a model's weights."""

import importlib.util
import random
from pathlib import Path

import pytest

from flows.launcher.loading import load_oumi

_MAKE_TINY = Path(__file__).parents[2] / "examples" / "tiny" / "make_tiny.py"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model's config and tokenizer; Oumi is loaded."""
    load_oumi()
    from transformers import LlamaConfig

    spec = importlib.util.spec_from_file_location("make_tiny", _MAKE_TINY)
    assert spec
    assert spec.loader
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    rng = random.Random(0)
    tokenizer = tiny.make_tokenizer([tiny.make_conversation(rng) for _ in range(100)])
    tokenizer.save_pretrained(folder)
    LlamaConfig(vocab_size=len(tokenizer), hidden_size=64).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A client's folder with the model in it."""
    (tmp_path / "model").symlink_to(tiny_model)
    return tmp_path
