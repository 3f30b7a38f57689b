"""The catalogue over two folders: what it finds, gives, suggests, and notices."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flows.core.errors import ConfigNotFound
from flows.core.settings import Settings
from mcp_server.catalog.catalog import Catalog
from mcp_server.catalog.entry import Entry, read_entry, with_jobs
from mcp_server.catalog.library import OumiLibrary
from mcp_server.services.catalog import CatalogService

TRAIN = """\
# LoRA fine-tune of Llama 3.1 8B.
#
# Requirements:
#   - a token
model:
  model_name: meta-llama/Llama-3.1-8B-Instruct
data:
  train:
    datasets:
      - dataset_name: yahma/alpaca-cleaned
training:
  trainer_type: TRL_SFT
  use_peft: true
  learning_rate: 3.0e-4
"""
JOB = """\
# Runs it.
name: job
resources:
  cloud: gcp
  accelerators: A100:4
run: |
  oumi distributed torchrun -m oumi train -c configs/recipes/llama3_1/8b_lora/train.yaml
"""


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "configs"
    write(folder / "recipes/llama3_1/8b_lora/train.yaml", TRAIN)
    write(folder / "recipes/llama3_1/8b_lora/gcp_job.yaml", JOB)
    write(folder / "recipes/llama3_1/8b_full/train.yaml", TRAIN.replace("use_peft: true", ""))
    write(folder / "recipes/qwen3/dpo.yaml", dpo("Qwen/Qwen3-8B"))
    return folder


@pytest.fixture
def catalog(folder: Path, tmp_path: Path, clock: Clock) -> Catalog:
    settings = Settings(home=tmp_path / "home", configs_dir=folder)
    return Catalog(OumiLibrary(settings), recipes=tmp_path / "none", now=clock)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def dpo(model: str) -> str:
    return f"model:\n  model_name: {model}\ntraining:\n  trainer_type: TRL_DPO\n"


def found(catalog: Catalog, *query: str, content: tuple[str, ...] = ()) -> list[str]:
    return [entry.path for entry in catalog.search(query, content_match=content).entries]


def test_an_entry_is_what_the_file_says() -> None:
    assert read_entry("recipes/8b/train.yaml", TRAIN) == Entry(
        "recipes/8b/train.yaml",
        description="LoRA fine-tune of Llama 3.1 8B.",
        config_type="training",
        task="sft",
        technique="lora",
        model_name="meta-llama/Llama-3.1-8B-Instruct",
        model_family="llama3.1",
        datasets=("yahma/alpaca-cleaned",),
        uses=("TRL_SFT",),
    )


def test_sharding_rewards_and_teachers_are_found_too() -> None:
    text = """\
training:
  trainer_type: TRL_GOLD
  reward_functions: [count_letters]
  gold: {teacher_model_name_or_path: acme/Teacher-9B, use_vllm: true}
fsdp: {enable_fsdp: true}
deepspeed: {enable_deepspeed: false}
"""
    uses = ("TRL_GOLD", "fsdp", "count_letters", "acme/Teacher-9B", "vllm")
    assert read_entry("a.yaml", text).uses == uses


@pytest.mark.parametrize("text", ["", "- a list", "a: b: c", "just text", "${", "\x00"])
def test_a_file_that_is_no_config_is_known_by_its_path_alone(text: str) -> None:
    assert read_entry("odd.yaml", text) == Entry("odd.yaml")


def test_a_job_config_and_what_it_runs_know_each_other(catalog: Catalog) -> None:
    by_path = {entry.path: entry for entry in catalog.oumi}
    job = by_path["recipes/llama3_1/8b_lora/gcp_job.yaml"]
    train = by_path["recipes/llama3_1/8b_lora/train.yaml"]
    assert (job.task, job.technique, job.model_family) == ("sft", "lora", "llama3.1")
    assert train.gpu == job.gpu == "A100:4"
    assert catalog.related_paths(job) == [train.path]
    assert catalog.related_paths(train) == [job.path]


def test_a_config_has_the_gpus_of_the_smallest_job_that_runs_it() -> None:
    jobs = [
        Entry(f"{n}.yaml", config_type="job", gpu=f"A100:{n}", runs=("t.yaml",)) for n in (8, 2)
    ]
    assert with_jobs([*jobs, Entry("t.yaml", config_type="training")])[-1].gpu == "A100:2"


def test_a_search_by_content_is_for_all_texts_whatever_their_case(catalog: Catalog) -> None:
    both = found(catalog, content=("LEARNING_RATE: 3.0E-4", "alpaca"))
    assert sorted(both) == [
        "recipes/llama3_1/8b_full/train.yaml",
        "recipes/llama3_1/8b_lora/train.yaml",
    ]
    assert found(catalog, "lora", content=("learning_rate",))[0].endswith("8b_lora/train.yaml")
    assert found(catalog, content=("learning_rate", "trl_dpo")) == []


def test_more_than_asked_for_is_counted(catalog: Catalog) -> None:
    result = catalog.search(["llama"], limit=1)
    assert (len(result.entries), result.total) == (1, 3)


def test_new_changed_and_deleted_files_are_noticed(
    catalog: Catalog, folder: Path, clock: Clock
) -> None:
    assert found(catalog, "gemma") == []
    write(folder / "gemma.yaml", dpo("google/gemma-3-4b-it"))
    write(folder / "recipes/qwen3/dpo.yaml", dpo("google/gemma-3-1b-it"))
    (folder / "recipes/llama3_1/8b_full/train.yaml").unlink()
    clock.seconds += 1
    assert found(catalog, "gemma") == [], "it looks at the folder at each search"
    clock.seconds += 2
    assert sorted(found(catalog, "gemma")) == ["gemma.yaml", "recipes/qwen3/dpo.yaml"]
    assert "recipes/llama3_1/8b_full/train.yaml" not in found(catalog, "full", "llama")
    with pytest.raises(ConfigNotFound):
        catalog.get("recipes/llama3_1/8b_full/train.yaml")


def test_content_that_changed_is_searched_anew(
    catalog: Catalog, folder: Path, clock: Clock
) -> None:
    assert found(catalog, content=("brand_new",)) == []
    write(folder / "recipes/qwen3/dpo.yaml", dpo("Qwen/Qwen3-8B") + "# brand_new\n")
    clock.seconds += 10
    assert found(catalog, content=("brand_new",)) == ["recipes/qwen3/dpo.yaml"]


@pytest.mark.parametrize(
    "path",
    [
        "recipes/qwen3/dpo.yaml",
        "oumi://configs/recipes/qwen3/dpo.yaml",
        "./configs/recipes/qwen3/dpo.yaml",
        "qwen3/dpo.yaml",
        " dpo.yaml ",
    ],
)
def test_a_config_is_got_by_its_path_as_it_is_written_or_by_its_end(
    catalog: Catalog, folder: Path, path: str
) -> None:
    config = catalog.get(path)
    assert config.file == folder / "recipes/qwen3/dpo.yaml"
    assert config.text == dpo("Qwen/Qwen3-8B")


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("train.yaml", "8b_full/train.yaml or recipes/llama3_1/8b_lora/train.yaml"),
        ("recipes/qwen3/dp0.yaml", "Did you mean recipes/qwen3/dpo.yaml"),
        ("zzz", "search_configs"),
        ("../secret.yaml", "CONFIG_NOT_FOUND"),
        ("/etc/passwd", "CONFIG_NOT_FOUND"),
        ("", "CONFIG_NOT_FOUND"),
    ],
)
def test_a_path_that_is_not_in_the_catalogue_is_refused_with_advice(
    catalog: Catalog, folder: Path, path: str, advice: str
) -> None:
    write(folder.parent / "secret.yaml", "a: secret")
    with pytest.raises(ConfigNotFound) as caught:
        catalog.get(path)
    assert advice in str(caught.value)


def test_files_that_are_no_configs_and_links_out_of_the_folder_are_not_followed(
    catalog: Catalog, folder: Path, tmp_path: Path
) -> None:
    write(tmp_path / "elsewhere/hidden.yaml", TRAIN)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    write(folder / ".git/config.yaml", TRAIN)
    write(folder / "notes.txt", TRAIN)
    write(folder / "huge.yaml", "a: " + "b" * 1_100_000)
    assert len(found(catalog)) == 4


def test_suggestions_are_of_the_models_family_and_the_task_the_closest_first(
    catalog: Catalog,
) -> None:
    model = "meta-llama/Llama-3.1-8B-Instruct"
    assert catalog.suggest(model_name=model, task="training")[0].endswith("train.yaml")
    assert catalog.suggest(model_name="Qwen/Qwen3-0.6B", task="dpo") == ["recipes/qwen3/dpo.yaml"]
    assert catalog.suggest(model_name=model, task="dpo") == []
    assert catalog.suggest(model_name="unheard/Of-1B") == []
    assert catalog.suggest(task="dpo") == ["recipes/qwen3/dpo.yaml"]
    assert catalog.suggest(model_name=model, task="job")[0].endswith("gcp_job.yaml")
    assert len(catalog.suggest(model_name=model, limit=2)) == 2


def test_of_our_own_recipes_the_same_model_is_suggested_before_its_relatives(
    tmp_path: Path,
) -> None:
    catalog = Catalog(OumiLibrary(Settings(home=tmp_path)))
    suggested = catalog.suggest(model_name="Qwen/Qwen3-8B", task="sft")
    assert suggested[0] == "starter/qwen3/8b_sft_qlora.yaml"
    assert all(path.startswith("starter/qwen") for path in suggested)


def test_a_folder_of_configs_cannot_shadow_our_own_recipes(
    catalog: Catalog, folder: Path, clock: Clock
) -> None:
    write(folder / "starter/mine.yaml", TRAIN)
    clock.seconds += 10
    assert [path for path in found(catalog) if path.startswith("starter/")] == []


def test_a_folder_that_is_not_there_leaves_our_own_recipes(tmp_path: Path) -> None:
    library = OumiLibrary(Settings(home=tmp_path, configs_dir=tmp_path / "gone"))
    catalog = Catalog(library)
    assert len(catalog.starter) >= 40
    assert catalog.oumi == []
    assert "does not exist" in library.status().message


def test_every_path_that_a_search_gives_can_be_got(tmp_path: Path) -> None:
    catalog = Catalog(OumiLibrary(Settings(home=tmp_path)))
    get: Callable[[str], object] = catalog.get
    assert all(get(entry.path) for entry in catalog.search(limit=1000).entries)


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("fine-tune llama 3.2 1b with lora", "starter/llama3.2/1b_sft_lora.yaml"),
        ("qlora 70b", "starter/llama3.3/70b_sft_qlora_fsdp.yaml"),
        ("deepspeed", "starter/llama3.3/70b_sft_lora_deepspeed.yaml"),
        ("quantise mistral", "starter/mistral/7b_quantize_bnb_8bit.yaml"),
        ("distill qwen3", "starter/qwen3/0.6b_distill_gkd.yaml"),
        ("pretrain from scratch", "starter/gpt2/124m_pretrain_tinystories.yaml"),
        ("hyperparameter smollm", "starter/smollm2/135m_tune.yaml"),
        ("kubernetes", "starter/jobs/k8s_train.yaml"),
        ("gcp spot", "starter/jobs/gcp_train_spot_multi_gpu.yaml"),
        ("count_letters", "starter/qwen2.5/1.5b_grpo_letters.yaml"),
        ("qwen vision", "starter/qwen2.5/vl_3b_sft_lora.yaml"),
        ("smollm cpu", "starter/smollm2/135m_sft_full.yaml"),
        ("documents", "starter/synthesis/questions_from_documents.yaml"),
        ("deepseak qwen", "starter/deepseek_r1/distill_qwen_1.5b_sft_full.yaml"),
    ],
)
def test_of_our_own_recipes_the_one_that_is_meant_comes_first(
    tmp_path: Path, words: str, first: str
) -> None:
    catalog = Catalog(OumiLibrary(Settings(home=tmp_path)))
    assert found(catalog, words)[0] == first


JSONL = "starter/smollm2/135m_sft_own_jsonl.yaml"
PAIRS = "starter/smollm2/360m_dpo_own_jsonl.yaml"


@pytest.mark.parametrize(
    ("words", "among_the_first_three"),
    [
        ("sft on my jsonl", JSONL),
        ("custom dataset jsonl", JSONL),
        ("custom dataset", JSONL),
        ("my own data", JSONL),
        ("fine-tune a small model", JSONL),
        ("fine-tune a small model on my JSONL", JSONL),
        ("small model", "starter/smollm2/135m_sft_full.yaml"),
        ("dpo on my own data", PAIRS),
        ("fine tune llama 3 with my own data", "starter/llama3.1/8b_sft_lora.yaml"),
        ("llama 3 lora", "starter/llama3.1/8b_sft_lora.yaml"),
        ("lora llama 8b", "starter/llama3.1/8b_sft_lora.yaml"),
        ("smolllm2 sft", "starter/smollm2/135m_sft_full.yaml"),
        ("quen lora", "starter/qwen2.5/7b_sft_lora.yaml"),
        ("distilation", "starter/qwen3/0.6b_distill_gkd.yaml"),
        ("Qwen/Qwen3-4B", "starter/qwen3/4b_sft_lora.yaml"),
        ("qwen 2.5 vl", "starter/qwen2.5/vl_3b_sft_lora.yaml"),
        ("vision language", "starter/qwen2.5/vl_3b_sft_lora.yaml"),
        ("evaluate mmlu", "starter/llama3.1/8b_evaluate.yaml"),
        ("gcp job", "starter/jobs/gcp_train.yaml"),
        ("a100", "starter/jobs/gcp_train.yaml"),
        ("int4", "starter/qwen3/4b_quantize_bnb.yaml"),
        ("8-bit", "starter/mistral/7b_quantize_bnb_8bit.yaml"),
        ("quantize", "starter/llama3.1/8b_quantize_awq.yaml"),
    ],
)
def test_natural_words_bring_what_is_meant_near_the_top(
    tmp_path: Path, words: str, among_the_first_three: str
) -> None:
    catalog = Catalog(OumiLibrary(Settings(home=tmp_path)))
    assert among_the_first_three in found(catalog, words)[:3]


def test_a_chatbot_is_made_by_supervised_fine_tuning(tmp_path: Path) -> None:
    catalog = Catalog(OumiLibrary(Settings(home=tmp_path)))
    assert {entry.task for entry in catalog.search(["chatbot"]).entries} == {"sft"}


@pytest.mark.parametrize(("words", "gpu"), [("a100", "A100"), ("h100", "H100"), ("l4", "L4")])
def test_a_gpu_is_not_found_by_its_letter_and_another_number(
    tmp_path: Path, words: str, gpu: str
) -> None:
    catalog = Catalog(OumiLibrary(Settings(home=tmp_path)))
    entries = catalog.search([words]).entries
    assert entries
    assert [entry.path for entry in entries if gpu not in entry.gpu] == []


@pytest.mark.parametrize("words", ["llama 4", "llama4", "ppo"])
def test_what_there_is_not_is_not_found(tmp_path: Path, words: str) -> None:
    catalog = Catalog(OumiLibrary(Settings(home=tmp_path)))
    result = catalog.search([words])
    assert (result.entries, result.unmet) == ([], [words.replace(" ", "")])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("mixtral", "no mixtral; nearest is mistral"),
        ("quen lora", "no quen; nearest is qwen"),
        ("orpo", "orpo is only in the name of a data set"),
        ("unsloth", "unsloth is only in the name of a model"),
        ("lambda labs", "without labs there is 1"),
        ("grpo math", "none matches all words; these match most; without math there are 2"),
        ("ppo", "nothing has ppo"),
    ],
)
async def test_the_summary_says_what_was_not_there_as_it_was_asked(
    tmp_path: Path, words: str, said: str
) -> None:
    service = CatalogService(Catalog(OumiLibrary(Settings(home=tmp_path))), fetches=False)
    assert said in (await service.search([words])).summary


@pytest.mark.parametrize("words", ["lora llama 8b", "evaluate mmlu", "sft on my jsonl", "int4"])
async def test_the_summary_does_not_doubt_what_was_there_as_it_was_asked(
    tmp_path: Path, words: str
) -> None:
    service = CatalogService(Catalog(OumiLibrary(Settings(home=tmp_path))), fetches=False)
    summary = (await service.search([words])).summary
    assert "nearest" not in summary
    assert "only in" not in summary
