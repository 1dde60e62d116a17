"""ENGINE: where responses are decoded.

`local` (the default): this machine. `ray`: the machines of a Ray cluster, an actor a GPU; draws are those of `local`.
`vllm`: stock vLLM, whose draws are others of the same law. `vllm,local` and `vllm,ray`: what vLLM cannot run goes to
the other, where `vllm` alone refuses it.
"""

import os
from dataclasses import dataclass

from lib.errors import UserError

RUNNERS = ("local", "ray")


@dataclass(frozen=True)
class Choice:
    """vllm: whether runs that vLLM can do are its own. runner: what decodes the others; None refuses them."""

    vllm: bool
    runner: str | None


def chosen() -> Choice:
    """What ENGINE says. Raises UserError for a word that it has not."""
    said = os.environ.get("ENGINE") or "local"
    first, _, rest = said.partition(",")
    if said in RUNNERS:
        return Choice(False, said)
    if first == "vllm" and rest in ("", *RUNNERS):
        return Choice(True, rest or None)
    raise UserError(
        "ENGINE must be local or ray, or vllm for autoregressive runs (with the others here: vllm,local), "
        f"not {said!r}"
    )
