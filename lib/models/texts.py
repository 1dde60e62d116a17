"""Prompts as texts, checked before a tokenizer sees them."""

from lib.errors import UserError

THOUGHT = "<think>\n"  # what a chat template may end with


def texts_of(prompts, instruction) -> list[str]:
    """The prompts; one text is one prompt. Raises UserError for none, and for what is no text that can be encoded."""
    prompts = [prompts] if isinstance(prompts, str) else prompts
    if not isinstance(prompts, list | tuple):
        raise UserError(f"prompts must be a list of texts, not {prompts!r:.60}")
    if not prompts:
        raise UserError("there are no prompts: give at least one text")
    for what, text in (("instruction", instruction), *((f"prompt {i}", text) for i, text in enumerate(prompts))):
        if not isinstance(text, str):
            raise UserError(f"{what} must be a text, not {text!r:.60}")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise UserError(f"{what} holds half of a character (a lone surrogate): read its file as UTF-8")
    return list(prompts)


def chat_of(before: list[list[str]], prompt: str) -> list[dict]:
    """The messages of a chat: (asked, answered) pairs, then what is asked now."""
    turns = [(role, text) for pair in before for role, text in zip(("user", "assistant"), pair, strict=True)]
    return [{"role": role, "content": text} for role, text in (*turns, ("user", prompt))]


def plain_of(before: list[list[str]], prompt: str) -> str:
    """The same for a model without a chat template: a text, in which a blank line ends an answer."""
    return "".join(f"{asked.rstrip()}\n{answered.rstrip()}\n\n" for asked, answered in before) + prompt


def require_template(tokenizer, family) -> None:
    """UserError for a tokenizer that cannot say how a chat is written."""
    if getattr(tokenizer, "chat_template", None) is None:
        raise UserError(
            f"the tokenizer of {family.name!r} has no chat template: Family({family.name!r}, ..., chat=False) goes "
            "on from the bare prompt"
        )


def require_tokens(rows: list[list[int]]) -> None:
    """UserError for a prompt of which no token is left."""
    for i, row in enumerate(rows):
        if not row:
            raise UserError(f"prompt {i} is empty: give it a text to go on from")
