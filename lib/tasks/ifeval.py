"""Instruction following: IFEval (Zhou et al. 2023), prompts whose instructions a program can check.

Prompt-level strict accuracy: right where every instruction of the prompt is followed to the letter. The checkers
are those of the paper, from the package `if-verifiable`. A response is cut at 256 tokens, for a small model's sake:
the few instructions that ask for more words than that cannot be met.
"""

from collections.abc import Iterator
from functools import cache

from lib.errors import UserError
from lib.tasks.base import Item, Score, Task
from lib.tasks.protocol import Protocol
from lib.tasks.rows import load_rows
from lib.tasks.thinking import after_thought

LETTERS = "keywords:letter_frequency"


def stream(split: str) -> Iterator[Item]:
    """The 541 prompts in the file's order. Raises UserError for any split but test: there is no other."""
    if split != "test":
        raise UserError(f"ifeval has a test split only, not {split!r}: train on the task instructions")
    for row in load_rows("google/IFEval", None, "train", "ifeval.jsonl"):
        kwargs = [{k: v for k, v in given.items() if v is not None} for given in row["kwargs"]]
        yield item(f"ifeval/{row['key']}", row["prompt"], row["instruction_id_list"], kwargs)


def item(name: str, prompt: str, instructions: list[str], kwargs: list[dict]) -> Item:
    """A prompt with the ids of its instructions and their parameters, as IFEval writes them."""
    return Item(name, prompt, target="", reference={"instructions": instructions, "kwargs": kwargs})


@after_thought
def score(item: Item, text: str) -> Score:
    """`answer` is how many of the prompt's instructions were followed, such as 1/2."""
    evaluate, registry = _checkers()
    reference = item.reference
    results, _ = evaluate(text, reference["instructions"], reference["kwargs"], item.prompt, registry)
    followed, asked = sum(result.strict_pass for result in results), len(reference["instructions"])
    return Score(int(followed == asked), f"{followed}/{asked}")


@cache
def _checkers():
    """The checking function and the checkers by instruction id."""
    try:
        import langdetect
        import nltk.tokenize
        import punkt
        from if_verifiable.common import evaluate_instructions
        from if_verifiable.ifeval import instructions as checkers
        from if_verifiable.ifeval import instructions_util
        from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT
    except ImportError as error:
        raise UserError(f"IFEval's checkers need the package {error.name}: `make env`") from error
    langdetect.DetectorFactory.seed = 0  # it guesses otherwise anew each time
    # The checkers would download NLTK's English sentence model; the package punkt has the same one inside.
    sentences = punkt.PunktSentenceTokenizer(punkt.load_model("english"))
    nltk.tokenize._get_punkt_tokenizer = lambda language="english": sentences
    instructions_util._get_sentence_tokenizer = lambda: sentences
    # Where a parameter is missing, the checkers draw one: the same text would be right today and wrong tomorrow.
    checkers.random = instructions_util.random = _NoChance()

    class LetterFrequency(INSTRUCTION_DICT[LETTERS]):
        """Counts whatever sign is asked for; the paper's checker knows a to z, and draws a letter for another."""

        def build_description(self, *, letter=None, **given):
            sign = (letter or "").strip().lower()
            if len(sign) != 1:
                raise UserError(f"{LETTERS} needs one sign as its letter, not {letter!r}: mend the row's kwargs")
            description = super().build_description(letter="a", **given)
            self._letter = sign
            return description

    return evaluate_instructions, INSTRUCTION_DICT | {LETTERS: LetterFrequency}


class _NoChance:
    """Stands for the module `random`."""

    def __getattr__(self, name: str):
        raise UserError(
            "an IFEval instruction lacks a parameter, and would be judged by a random one: mend its kwargs"
        )


TASK = Task(
    name="ifeval",
    kind="instructions",
    licence="Apache-2.0 (google/IFEval)",
    max_new_tokens=256,
    stream=stream,
    score=score,
)
PROTOCOLS = (
    Protocol(
        TASK,
        rows="google/IFEval, train",
        count=541,
        prompt="{prompt}",
        judged="every instruction of the prompt is followed to the letter (prompt-level strict)",
        whose="Zhou et al.; AutoDeco gives 32,768 tokens, and does not say which of the four accuracies it prints",
    ),
)
