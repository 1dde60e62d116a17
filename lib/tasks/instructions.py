"""Instruction following to train on: prompts of our own, judged by IFEval's checkers. None of them is in IFEval.

A subject, and one instruction of a kind that IFEval has too. Test items are siblings of the training items: what
they show holds for models that have learned such prompts, and IFEval is what shows more.
"""

import random
from collections.abc import Iterator

from lib.tasks.base import Item, Task, generated
from lib.tasks.ifeval import item, score

FORMS = ("Write a short paragraph about {}.", "Explain {} to a child.", "What should a visitor know about {}?")
SUBJECTS = (
    "the sea, tea, bicycles, bread, the moon, old maps, rain, wool, a beehive, glass, lighthouses, salt, owls, "
    "tents, clocks, rice, a village market, snow, paper, bridges, apples, drums, a night train, chess, wind, "
    "candles, horses, soap, a small museum, rivers, pencils, storms, ferries, gardens, mushrooms, kites, "
    "wells, volcanoes"
).split(", ")
# The words of an instruction, the checker's id, its parameters.
INSTRUCTIONS = (
    ("Do not use any commas.", "punctuation:no_comma", {}),
    ("Use lowercase letters only.", "change_case:english_lowercase", {}),
    ("Use capital letters only.", "change_case:english_capital", {}),
    ("Put the whole answer in double quotation marks.", "startend:quotation", {}),
    ("Begin with a title in double angular brackets, such as <<title>>.", "detectable_format:title", {}),
    (
        "Answer with exactly 3 bullet points, each beginning with *.",
        "detectable_format:number_bullet_lists",
        {"num_bullets": 3},
    ),
    (
        "Write fewer than 4 sentences.",
        "length_constraints:number_sentences",
        {"relation": "less than", "num_sentences": 4},
    ),
    ("Write fewer than 50 words.", "length_constraints:number_words", {"relation": "less than", "num_words": 50}),
    ("Use the words light and hand.", "keywords:existence", {"keywords": ["light", "hand"]}),
    ("Do not use the words very and many.", "keywords:forbidden_words", {"forbidden_words": ["very", "many"]}),
    ("End with a postscript that begins with P.S.", "detectable_content:postscript", {"postscript_marker": "P.S."}),
    ("End with the words: That is all.", "startend:end_checker", {"end_phrase": "That is all."}),
    (
        "Highlight at least 2 parts in markdown, such as *this part*.",
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
    ),
)


def draw(index: int) -> Item:
    chooser = random.Random(f"instructions/{index}")
    words, kind, given = chooser.choice(INSTRUCTIONS)
    prompt = f"{chooser.choice(FORMS).format(chooser.choice(SUBJECTS))} {words}"
    return item(f"instructions/{index}", prompt, [kind], [given])


def stream(split: str) -> Iterator[Item]:
    return generated(draw, split, key=lambda item: item.prompt)


TASK = Task(
    name="instructions",
    kind="instructions",
    licence="MIT",
    max_new_tokens=160,
    stream=stream,
    score=score,
)
