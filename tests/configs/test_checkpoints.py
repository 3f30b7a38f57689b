import json
from pathlib import Path

import pytest

from flows.core.configs.checkpoints import Checkpoint, whole_checkpoints


def make(folder: Path, step: int, *weights: str, state: str = '{"global_step": 1}') -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(state)
    for name in weights:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"weights")
    return path


def index_of(*shards: str) -> str:
    return json.dumps({"weight_map": {f"layer{i}": shard for i, shard in enumerate(shards)}})


@pytest.mark.parametrize(
    "weights",
    [
        ["model.safetensors"],
        ["adapter_model.safetensors"],
        ["adapter_model.bin"],
        ["pytorch_model.bin"],
        ["pytorch_model_fsdp.bin"],
        ["pytorch_model_fsdp_0/__0_0.distcp"],
        ["global_step9/mp_rank_00_model_states.pt"],
        ["model/__0_0.distcp"],
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
    ],
)
def test_a_checkpoint_with_weights_and_state_is_whole(tmp_path: Path, weights: list[str]) -> None:
    path = make(tmp_path, 9, *weights)
    assert next(whole_checkpoints(tmp_path), None) == Checkpoint(path=path, step=9)


def test_the_highest_step_is_taken_as_a_number(tmp_path: Path) -> None:
    make(tmp_path, 9, "model.safetensors")
    path = make(tmp_path, 100, "model.safetensors")
    make(tmp_path, 20, "model.safetensors")
    assert next(whole_checkpoints(tmp_path), None) == Checkpoint(path=path, step=100)


@pytest.mark.parametrize("state", ["", "{", "[]", "{}", "null", "\x00\x00"])
def test_a_checkpoint_whose_state_was_cut_off_is_skipped(tmp_path: Path, state: str) -> None:
    path = make(tmp_path, 10, "model.safetensors")
    make(tmp_path, 20, "model.safetensors", state=state)
    assert next(whole_checkpoints(tmp_path), None) == Checkpoint(path=path, step=10)


def test_a_checkpoint_without_state_or_weights_is_skipped(tmp_path: Path) -> None:
    path = make(tmp_path, 10, "model.safetensors")
    (make(tmp_path, 20, "model.safetensors") / "trainer_state.json").unlink()
    make(tmp_path, 30)
    make(tmp_path, 40, "optimizer.pt")
    (make(tmp_path, 50, "model.safetensors") / "model.safetensors").write_bytes(b"")
    (tmp_path / "checkpoint-60").write_text("a file")
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / "checkpoint-70.tmp").mkdir()
    assert next(whole_checkpoints(tmp_path), None) == Checkpoint(path=path, step=10)


@pytest.mark.parametrize("index", [index_of("a.safetensors", "b.safetensors"), "{", "{}", "[]"])
def test_a_sharded_checkpoint_needs_every_shard(tmp_path: Path, index: str) -> None:
    path = make(tmp_path, 10, "a.safetensors")
    (path / "model.safetensors.index.json").write_text(index)
    assert next(whole_checkpoints(tmp_path), None) is None
    (path / "model.safetensors.index.json").write_text(index_of("a.safetensors"))
    assert next(whole_checkpoints(tmp_path), None) == Checkpoint(path=path, step=10)


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert next(whole_checkpoints(tmp_path), None) is None
    assert next(whole_checkpoints(tmp_path / "gone"), None) is None
