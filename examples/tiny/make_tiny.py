"""Builds a tiny tokenizer, model and data set, offline and always the same.

    python make_tiny.py data

writes into the folder ``data``: ``model/`` (a 97,000-parameter Llama with random weights and its
tokenizer), ``train.jsonl`` (400 conversations), ``val.jsonl`` (64) and ``infer.jsonl`` (8).
"""

import argparse
import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SOUNDS = {
    "cat": "meow",
    "dog": "woof",
    "cow": "moo",
    "duck": "quack",
    "horse": "neigh",
    "sheep": "baa",
    "frog": "ribbit",
    "bee": "buzz",
}
SPECIAL_TOKENS = ["<|pad|>", "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>", "<|system|>"]
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}"
    "{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|eos|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
MAX_LENGTH = 128


def make_conversation(rng: random.Random) -> list[dict[str, str]]:
    """One question and its answer: a sum, an animal's sound, or a spelling."""
    animal = rng.choice(list(SOUNDS))
    a, b = rng.randrange(10), rng.randrange(10)
    question, answer = rng.choice(
        [
            (f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."),
            (f"What does the {animal} say?", f"The {animal} says {SOUNDS[animal]}."),
            (f"Spell the word {animal}.", " ".join(animal) + "."),
        ]
    )
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def write_jsonl(path: Path, conversations: list[list[dict[str, str]]]) -> None:
    """One conversation to a line, as Oumi's ``text_sft_jsonl`` data set reads them."""
    lines = (json.dumps({"messages": messages}) + "\n" for messages in conversations)
    path.write_text("".join(lines), encoding="utf-8")


def make_tokenizer(conversations: list[list[dict[str, str]]]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the conversations."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((m["content"] for c in conversations for m in c), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        additional_special_tokens=SPECIAL_TOKENS[3:],
        model_max_length=MAX_LENGTH,
        padding_side="left",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A two-layer Llama with seeded random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2 * MAX_LENGTH,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config).float()


def main() -> None:
    """Writes everything into the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Build a tiny model and data set, offline.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)

    rng = random.Random(0)
    train = [make_conversation(rng) for _ in range(400)]
    val = [make_conversation(rng) for _ in range(64)]
    write_jsonl(folder / "train.jsonl", train)
    write_jsonl(folder / "val.jsonl", val)
    write_jsonl(folder / "infer.jsonl", [conversation[:1] for conversation in val[:8]])

    tokenizer = make_tokenizer(train)
    model = make_model(tokenizer)
    tokenizer.save_pretrained(folder / "model")
    model.save_pretrained(folder / "model")
    print(f"{folder}: {model.num_parameters():,} parameters, {len(train)} conversations")


if __name__ == "__main__":
    main()
