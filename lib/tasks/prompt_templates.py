"""Prompt templates: the same questions in other frames, because rankings of decoders may turn with the frame.

They were seen to (2606.29228). `get_task("gsm8k@question-answer")` is gsm8k in that template: the same items by their
ids, answers and scorer, so that templates are compared on the same questions. What a scorer looks
for, such as the mark before a number, is in every template; that takes the place of a task's own instruction.

A model that was trained here on one frame alone, such as study-ar and the models of the second bed, goes on from bare
prompts: for those a template is text that they have never read, and the axis says nothing of decoding. It is made for
models that follow instructions: SmolLM2 on questions, and on word problems only after fine-tuning.
"""

from collections.abc import Iterator
from dataclasses import replace

from lib.errors import UserError, require_known
from lib.tasks.base import Item, Task
from lib.tasks.protocol import fill

MARK = "@"  # between the names of a task and of a template
MATH = {
    # As evaluation harnesses ask, with the instruction before it.
    "question-answer": (
        "Solve the problem. End with #### and the answer as a number.\n\nQuestion: {question}\nAnswer:"
    ),
    # Zero-shot chain of thought: Kojima et al. 2022, arXiv 2205.11916.
    "chain-of-thought": "{question}\n\nLet's think step by step, and end with #### and the answer as a number.\n",
    # The form of instruction tuning: Taori et al. 2023, Alpaca.
    "instruction-response": (
        "### Instruction:\nSolve this word problem. Show the steps, then write #### and the answer as a number on "
        "the last line.\n\n### Input:\n{question}\n\n### Response:\n"
    ),
}
QA = {
    "question-answer": "Answer the question in one full sentence.\n\nQuestion: {question}\nAnswer:",
    "request": "Could you tell me this? {question} One full sentence is enough.\n",
    "instruction-response": (
        "### Instruction:\nAnswer this question in one full sentence.\n\n### Input:\n{question}\n\n### Response:\n"
    ),
}
# Tasks that templates are made for: what stands behind the question in their own frame, and the templates.
FRAMES: dict[str, tuple[str, dict[str, str]]] = {
    "worded_math": ("\nIn words:\n", MATH),
    "worded_math_new": ("\nIn words:\n", MATH),
    "gsm8k": ("\n", MATH),
    "country_sentences": ("\nIn a sentence:\n", QA),
}


def question_of(item: Item, frame: str) -> str:
    """The question alone. Raises ValueError for an item whose prompt does not end with its task's frame."""
    if not item.prompt.endswith(frame):
        raise ValueError(f"{item.id} does not end with {frame!r}")
    return item.prompt.removesuffix(frame).strip()


def with_template(task: Task, template: str) -> Task:
    """The task in a template. Raises UserError for a template that there is not, and a task without a frame."""
    if task.name not in FRAMES:
        raise UserError(f"{task.name} has no prompt templates; those that have: {', '.join(FRAMES)}")
    frame, templates = FRAMES[task.name]
    require_known("prompt template", [template], templates)

    def stream(split: str) -> Iterator[Item]:
        for item in task.stream(split):
            yield replace(item, prompt=fill(templates[template], question=question_of(item, frame)))

    return replace(task, name=f"{task.name}{MARK}{template}", stream=stream, instruction="")


def templates_of(task: Task, follows_instructions: bool) -> list[str]:
    """Names of a task in every frame that a model can be asked in: its own, and for a model that follows instructions
    the templates."""
    others = FRAMES[task.name][1] if task.name in FRAMES and follows_instructions else {}
    return [task.name, *(f"{task.name}{MARK}{name}" for name in others)]
