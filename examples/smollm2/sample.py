"""Text sampled from the SmolLM2 example's parent: answers to instructions, through its chat template.

    python examples/smollm2/prepare.py --sample 8192      # data/sampled.txt, 8,192 tokens of answers; made once

A third of the prompts are the ones listed here, the others are made of passages of train.txt. A document is a prompt and
its answer. One seed gives one text on one kind of processor; another kind rounds otherwise.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

SEED, ANSWER_TOKENS = 0, 192
BATCH = 48  # decodes 418 tokens a CPU second, a batch of 16 does 169
TEMPERATURE, TOP_K = 0.8, 50  # at temperature 1 a small model's text drifts from what it is asked
PASSAGE_CHARS = 500  # of a passage in a prompt: reading takes time, too
PROMPTS = (
    "Explain to a child why the sky is blue.",
    "Write a short story about a lighthouse keeper who finds a letter.",
    "How do I remove a coffee stain from a shirt?",
    "Describe the water cycle in five sentences.",
    "What should I pack for a week of hiking in the mountains?",
    "Give me three tips for sleeping better.",
    "Write a polite e-mail that asks a landlord to mend a dripping tap.",
    "Compare trains and aeroplanes for a journey of 500 kilometres.",
    "What is the difference between weather and climate?",
    "Write a recipe for vegetable soup with simple ingredients.",
    "Why do leaves change their colour in autumn?",
    "How does a bicycle stay upright?",
    "Describe a busy market in the early morning.",
    "What are the causes of inflation?",
    "Write the opening paragraph of a detective story set in a library.",
    "How can I teach a dog to come when it is called?",
    "Explain how vaccines work.",
    "List the steps to change a flat tyre.",
    "What makes bread rise?",
    "Write a dialogue between a shopkeeper and a customer who lost an umbrella.",
    "Who was Marie Curie, and why is she remembered?",
    "Explain what a prime number is, with examples.",
    "How do plants make food from sunlight?",
    "Give advice to someone who is nervous about a job interview.",
    "Describe the rules of a simple card game.",
    "What happens to food after it is swallowed?",
    "Write a short speech for a friend's wedding.",
    "Why do ships float although they are made of steel?",
    "What are renewable sources of energy?",
    "Write a diary entry of a sailor in a storm.",
    "How is glass made?",
    "Explain supply and demand with an example from a fruit market.",
    "What should one do when a person faints?",
    "Describe how a cat hunts a mouse.",
    "Write instructions for planting tomatoes on a balcony.",
    "What is an algorithm? Answer for somebody who does not program.",
)
FORMS = (
    "Summarise the following text in two sentences.\n{passage}",
    "Continue this text: {beginning}",
    "Ask three questions about this text and answer them.\n{passage}",
    "Explain the following to somebody who has never heard of it: {beginning}",
    "What are the main points of this text?\n{passage}",
    "Rewrite this text in simpler words.\n{passage}",
)


def prompts(passages: list[str]) -> Iterator[str]:
    """Instructions without end, the same each time: in turns one of the list and two about passages."""
    dice = random.Random(SEED)
    listed = [*PROMPTS]
    dice.shuffle(listed)
    for number in count():
        if number < 3 * len(listed) and number % 3 == 0:
            yield listed[number // 3]
            continue
        passage = dice.choice(passages)
        beginning = passage[: passage.find(" ", 120)] if len(passage) > 160 else passage
        yield dice.choice(FORMS).format(passage=passage[:PASSAGE_CHARS], beginning=beginning)


def document(prompt: str, answer: str) -> str:
    """A prompt and its answer as one document: blank lines would separate documents."""
    lines = (line.rstrip() for line in f"{prompt}\n{answer}".splitlines())
    return "\n".join(line for line in lines if line)


def sample(parent: Path, passages: list[str], tokens: int, advance: Any = None) -> list[str]:
    """Documents with at least `tokens` sampled tokens in all: batches with a KV cache, in bfloat16 where that is faster."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from puzzledsl.models.placement import faster_in_bfloat16

    dtype = torch.bfloat16 if faster_in_bfloat16(torch.device("cpu")) else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(parent, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(parent, dtype=dtype).eval()
    torch.manual_seed(SEED)
    asked, found, made = prompts(passages), [], 0
    while made < tokens:
        batch = [next(asked) for _ in range(BATCH)]
        chats = [[{"role": "user", "content": prompt}] for prompt in batch]
        texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        given = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        length = given.input_ids.shape[1]
        with torch.inference_mode():
            ids_BT = model.generate(
                **given,
                max_new_tokens=ANSWER_TOKENS,
                do_sample=True,
                temperature=TEMPERATURE,
                top_k=TOP_K,
                pad_token_id=tokenizer.pad_token_id,
            )
        answers_BT = ids_BT[:, length:]
        new = int((answers_BT != tokenizer.pad_token_id).sum())
        made += new
        answers = tokenizer.batch_decode(answers_BT, skip_special_tokens=True)
        found += [document(*pair) for pair in zip(batch, answers, strict=True)]
        if advance is not None:
            advance(new)
    return found
