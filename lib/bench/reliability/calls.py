"""Calls in a user's own code: each bad one ends in one clear line, or does what was plainly meant."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

from lib.bench.reliability.case import Case

# Everything that a call needs is imported inside, for a runner that only lists the cases needs none of it.


def cases() -> Iterator[Case]:
    """Every case by its name; those of `calls_generate` are of `model.generate`."""
    from lib.bench.reliability import calls_generate, calls_models

    for name, words, call in (
        *_prompts(),
        *_masks(),
        *_options(),
        *calls_models.refused(),
        *calls_generate.refused(),
    ):
        yield Case(f"call: {name}", _refused(call, words))
    for name, call, expected in (*_meant(), *calls_models.meant(), *calls_generate.meant()):
        yield Case(f"call: {name}", _equal(call, expected))


def _refused(call: Callable, words: str) -> Callable[[Path], None]:
    """Checks that a call ends in one line of a UserError with `words`, the cure, in it."""
    from lib.errors import UserError

    def check(folder: Path) -> None:
        try:
            call()
        except UserError as error:
            line = str(error)
            assert line and "\n" not in line and len(line) < 300, f"not one line: {line[:200]}"
            assert words in line, f"the line does not say {words!r}: {line}"
        except Exception as error:
            raise AssertionError(f"a raw {type(error).__name__}: {str(error)[:100]}") from error
        else:
            raise AssertionError("it was let in")

    return check


def _equal(call: Callable, expected: Callable) -> Callable[[Path], None]:
    """Checks that a call gives what another one gives."""

    def check(folder: Path) -> None:
        other = expected()
        try:
            one = call()
        except Exception as error:
            raise AssertionError(f"a {type(error).__name__}: {str(error)[:100]}") from error
        assert one == other, f"{one} is not {other}"

    return check


def network(vocabulary: int = 24, seed: int = 0, positions: int = 64):
    """A tiny random Llama whose choices differ by position and context."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=positions, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.lm_head.weight.data *= 20
    return model


def family(mask_id: int | None = None):
    from lib.decoding.family import Family

    return Family("tiny", eot_ids=(0,), mask_id=mask_id, wide_mask=mask_id is not None, chat=False)


def tokens(ids, options=None, model=None, **given) -> list:
    """The response to ids of the tiny model, greedy unless `options` say otherwise."""
    from lib.decoders import decode
    from lib.decoding.autoregressive import Autoregressive

    given = {"generator": 0, "family": family()} | given
    return decode(
        network() if model is None else model, ids, options or Autoregressive(4), **given
    ).responses.tolist()


def table(*rows: list):
    import torch

    return torch.tensor(rows)


def _prompts() -> Iterator[tuple[str, str, Callable]]:
    import torch

    two = table([4, 5, 6], [7, 8, 9])
    for name, words, ids in (
        ("a text for ids", "encode([text])", "hello"),
        ("a list of texts for ids", "encode([text])", ["hello", "you"]),
        ("an empty list", "give at least one prompt", []),
        ("a prompt without tokens", "is empty", [[]]),
        ("a batch without prompts", "give at least one prompt", torch.zeros(0, 3, dtype=torch.long)),
        ("a prompt of width 0", "is empty", torch.zeros(1, 0, dtype=torch.long)),
        ("None for ids", "token ids", None),
        ("a number for ids", "token ids", 5),
        ("ids of three dimensions", "token ids [prompts, tokens]", two[None]),
        ("a scalar tensor", "token ids [prompts, tokens]", torch.tensor(4)),
        ("ids as floats", "as whole numbers", two.float()),
        ("ids as booleans", "as whole numbers", two.bool()),
        ("a list with None in it", "no number", [[4, None]]),
        ("a list with a float in it", "as whole numbers", [[4, 5.5]]),
        ("a number of 70 bits", "no number", [[2**70]]),
        ("an id beyond the vocabulary", "its own tokenizer", table([4, 24])),
        ("a negative id", "its own tokenizer", table([-100, 4])),
        ("a mapping without ids", "without input_ids", {"ids": two}),
        ("a prompt beyond the context", "shorten it", torch.ones(1, 70, dtype=torch.long)),
    ):
        yield name, words, lambda ids=ids: tokens(ids)


def _masks() -> Iterator[tuple[str, str, Callable]]:
    import torch

    two, ones = table([4, 5, 6], [7, 8, 9]), torch.ones(2, 3)
    for name, words, mask in (
        ("padding on the right", "padding_side = 'left'", table([1, 1, 0], [1, 1, 1])),
        ("a hole in a mask", "padding_side = 'left'", table([1, 0, 1], [1, 1, 1])),
        ("a row of padding alone", "prompt 1 is empty", table([1, 1, 1], [0, 0, 0])),
        ("a mask that is too wide", "one mark for each id", torch.ones(2, 4)),
        ("a mask that is too narrow", "one mark for each id", torch.ones(2, 2)),
        ("a mask of one row for two", "one mark for each id", torch.ones(3)),
        ("a mask of four dimensions", "1 for each token", torch.ones(2, 1, 3, 3)),
        ("a mask that is added to scores", "0 and 1", table([0.0, -1e9, 0.0], [0.0, 0.0, 0.0])),
        ("a mask with NaN", "0 and 1", ones * float("nan")),
        ("a mask of twos", "0 and 1", 2 * ones),
        ("a text for a mask", "1 for each token", "all"),
    ):
        yield name, words, lambda mask=mask: tokens(two, attention_mask=mask)


def _options() -> Iterator[tuple[str, str, Callable]]:
    from lib.autodeco.decode import AutoDeco
    from lib.decoding.autoregressive import Autoregressive
    from lib.decoding.family import Family
    from lib.decoding.randomness import RowGenerator
    from lib.mtad import Mtad, Speculative
    from lib.tolerator import Vanilla

    ids = table([4, 5, 6])
    yield "a misspelt option", "did you mean temperature?", lambda: Autoregressive(temprature=1.0)
    yield "an option of another method", "it has max_new_tokens", lambda: Mtad(canvas=3)
    yield "too many options", "has 5 options", lambda: Autoregressive(4, 1.0, 1.0, 0, True, 9)
    yield "an option given twice", "given twice", lambda: Autoregressive(4, max_new_tokens=5)
    yield "an infinite temperature", "a finite number", lambda: Autoregressive(temperature=float("inf"))
    yield "a temperature that is NaN", "a finite number", lambda: Autoregressive(temperature=float("nan"))
    yield "the class for options", "such as Autoregressive(64)", lambda: tokens(ids, Autoregressive)
    yield "a mapping for options", "such as Autoregressive(64)", lambda: tokens(ids, {"max_new_tokens": 4})
    yield "an option given to decode", "stands in its options", lambda: tokens(ids, temperature=1.0)
    yield "a misspelt argument of decode", "did you mean attention_mask?", lambda: tokens(ids, atention_mask=None)
    yield "no seed", "a seed", lambda: tokens(ids, generator=None)
    yield "a text for a seed", "a seed", lambda: tokens(ids, generator="0")
    yield "a generator of other rows", "a key a prompt", lambda: tokens(ids, generator=RowGenerator.of(0, ["a", "b"]))
    yield "no family", "must be a Family", lambda: tokens(ids, family=None)
    yield "a family without ends", "eot_ids must be token ids", lambda: Family("mine", eot_ids=())
    yield "an end that is a text", "eot_ids must be token ids", lambda: Family("mine", eot_ids=("</s>",))
    yield "a mask token beyond the vocabulary", "mask_id", lambda: tokens(ids, Vanilla(4, 2), family=family(99))
    yield "an autoregressive family for a canvas", "mask token", lambda: tokens(ids, Vanilla(4, 2))
    yield "one token too many", "max_new_tokens=62", lambda: tokens(ids, Autoregressive(63))
    yield "a canvas too long", "canvas=61", lambda: tokens(ids, Vanilla(62, 2), family=family(1))
    yield "no draft", "draft=small_model", lambda: tokens(ids, Speculative(4))
    yield "a draft for a method without", "takes no draft", lambda: tokens(ids, draft=network())
    yield "AutoDeco without heads", "from_base", lambda: tokens(ids, AutoDeco(4))


def _meant() -> Iterator[tuple[str, Callable, Callable]]:
    import numpy as np
    import torch
    from transformers import BatchEncoding

    from lib.decoding.autoregressive import Autoregressive
    from lib.decoding.family import Family
    from lib.mtad import Mtad, TreeSpeculative

    one, uneven, mask = table([4, 5, 6]), table([4, 5, 6], [0, 7, 8]), table([1, 1, 1], [0, 1, 1])
    ragged = [[4, 5, 6], [7, 8]]
    for name, ids in (
        ("a list of ids", [4, 5, 6]),
        ("a tensor of one dimension", torch.tensor([4, 5, 6])),
        ("a list of one prompt", [[4, 5, 6]]),
        ("an array", np.array([[4, 5, 6]])),
        ("a list of tensors", [torch.tensor([4, 5, 6])]),
        ("ids of 32 bits", one.int()),
    ):
        yield name, lambda ids=ids: tokens(ids), lambda: tokens(one)
    both = BatchEncoding({"input_ids": ragged, "attention_mask": [[1, 1, 1], [1, 1]]})
    for name, ids, marks in (
        ("prompts of several lengths", ragged, None),
        ("a tokenizer's output", BatchEncoding({"input_ids": uneven, "attention_mask": mask}), None),
        ("a tokenizer's output without padding", both, None),
        ("ids and mask as a pair", (uneven, mask), None),
        ("a mask of floats", uneven, mask.float()),
        ("a mask of booleans", uneven, mask.bool()),
        ("a mask as a list", uneven, mask.tolist()),
        ("padding of -100", uneven.masked_fill(mask == 0, -100), mask),
    ):
        yield (name, lambda ids=ids, marks=marks: tokens(ids, attention_mask=marks),
               lambda: tokens(uneven, attention_mask=mask))  # fmt: skip
    yield "a number of numpy", lambda: Mtad(np.int64(4), tau=np.float64(0.25)), lambda: Mtad(4, tau=0.25)
    yield "a number of torch", lambda: Autoregressive(temperature=torch.tensor(0.5)).temperature, lambda: 0.5
    yield ("a list of branches", lambda: TreeSpeculative(branches=[np.int64(4), 2, 2]).branches,
           lambda: (4, 2, 2))  # fmt: skip
    yield "one end", lambda: Family("mine", eot_ids=2).eot_ids, lambda: (2,)
    yield ("the last token of the context", lambda: len(tokens(one, Autoregressive(62))[0]), lambda: 62)


def copied(model):
    """A network with noise in its weights, as a draft."""
    import torch

    draft = deepcopy(model)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in draft.parameters():
            weight += 0.5 * weight.std() * torch.randn_like(weight) if weight.ndim == 2 else 0
    return draft
