"""Decoders in the shape that `transformers` takes, `model.generate(ids, custom_generate=...)`.

What `generate` is told is done or refused by name. Done: max_new_tokens and max_length, which replace the options' (a
canvas must have that length), end and padding ids, use_cache, num_return_sequences, return_dict_in_generate, and
`generator`, a seed for this call alone. Stopping criteria and max_time are done by decoders that write from left to
right, and end a text behind the very token at which they hold, in the middle of an accepted draft too; a canvas, beam
search and `transformers`' assisted generation refuse them. Temperature, top-p and top-k are those of the options, and
must agree where they are given; those that a model ships as its own defaults do not count. Everything else that
changes tokens, penalties and processors of logits above all, is refused, though it be the model's own default.

A function is not told who said a length: max_new_tokens or max_length at the model's own value, and a max_length of
the prompt and 20 tokens, which `generate` sets itself, leave the options' length. Say such a length in the options.

`transformers` 5.23 keeps three arguments from every custom_generate that is a function: `assistant_model` (give
`draft` here), `streamer` (give it here) and `tokenizer`, without which it refuses `stop_strings` itself: give
`stopping_criteria=[StopStringCriteria(tokenizer, strings)]`, which is what it makes of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers.generation import (
    EosTokenCriteria,
    GenerateDecoderOnlyOutput,
    GenerationConfig,
    LogitsProcessorList,
    MaxLengthCriteria,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation import logits_process as processors
from transformers.generation.stopping_criteria import ConfidenceCriteria

from lib.decoding.checked import check_generator
from lib.decoding.family import Family
from lib.decoding.listening import Listener
from lib.decoding.networks import device_of
from lib.decoding.options import Options
from lib.decoding.registry import DECODERS, decode
from lib.decoding.streaming import Response, ended, with_ends
from lib.decoding.trace import Trace
from lib.errors import UserError

DONE = ("max_new_tokens", "max_length", "eos_token_id", "pad_token_id", "use_cache", "num_return_sequences",
        "return_dict_in_generate", "stop_strings", "max_time")  # fmt: skip
SAMPLING = ("do_sample", "temperature", "top_p", "top_k")  # what the options say
FILTERS = ("min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
# What decides no token, or only beside what is refused.
IDLE = ("bos_token_id", "decoder_start_token_id", "cache_implementation", "cache_config", "max_cache_len",
        "low_memory", "compile_config", "disable_compile", "continuous_batching_config", "prefill_chunk_size",
        "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold",
        "assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight", "max_matching_ngram_size",
        "speculation_type", "length_penalty", "early_stopping", "transformers_version",
        "diversity_penalty")  # fmt: skip
# At these values an option of `generate` does nothing; so do None and False.
NEUTRAL = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50, "typical_p": 1.0, "min_length": 0,
           "num_beams": 1, "num_beam_groups": 1, "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0,
           "guidance_scale": 1.0, "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "min_new_tokens": 0,
           "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "min_p": 0.0, "penalty_alpha": 0.0}  # fmt: skip
FIELDS = frozenset(GenerationConfig().to_dict())
# Processors that `generate` makes of SAMPLING and FILTERS.
WARPERS = tuple(
    getattr(processors, f"{name}LogitsWarper")
    for name in ("Temperature", "TopP", "TopK", "TopH", "MinP", "Typical", "Epsilon", "Eta")
    if hasattr(processors, f"{name}LogitsWarper")
)
# What `generate` makes itself for every decoding method.
PREPARED = ("attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep", "cache_position",
            "tokenizer")  # fmt: skip
DEFAULT_LENGTH = 20  # new tokens of a `generate` that is told of no length


@dataclass
class DecodedOutput(GenerateDecoderOnlyOutput):
    """What `generate(return_dict_in_generate=True)` gives: `sequences`, and the counters and measures of `trace`.

    `trace.per_token` has the temperature and top-p of every token (AutoDeco) or the step that unmasked it (a canvas),
    `trace.measures["accept_lengths"]` how often 0, 1, ... drafted tokens were accepted.
    """

    trace: Trace | None = None


def custom_generate(
    options: Options, family: Family | None = None, generator=0, draft=None, streamer=None
) -> Callable:
    """A decoder as `generate(custom_generate=...)` takes it; see this file's head for what it does with the rest.

    The result is prompt and response, [B, P + G], the EoT that was drawn behind the response and padding behind that;
    a DecodedOutput of them if asked. `family` may be left out for an autoregressive model whose generation config
    names its end tokens; a diffusion model's names its [MASK]. `draft`: the small model of a method that drafts.
    `streamer`: one of `transformers`, for a batch of one. It is given the prompt and then tokens as soon as they can
    no longer change: each one, each accepted block, or at the end the whole canvas, whose every step goes to
    `put_draft` of a streamer that has it. It is ended whatever happens, so that nobody waits for it.
    """
    if type(options) not in {decoder.options for decoder in DECODERS.values()}:
        raise UserError(f"options must be those of a decoder, such as Autoregressive(64), not {options!r:.80}")
    check_generator(generator)
    if getattr(streamer, "_takes_logits", False) and hasattr(options, "canvas"):
        raise UserError(f"{type(streamer).__name__} asks for the logits of a canvas, which has some of them: set its "
                        "_takes_logits to False")  # fmt: skip
    seed = generator

    def run(
        model,
        input_ids,
        logits_processor=None,
        stopping_criteria=None,
        generation_config=None,
        generator=None,
        **given,
    ):
        with ended(streamer):
            _check_config(generation_config, model.generation_config, options)
            _check_processors(logits_processor, generation_config)
            _check_given(given, input_ids)
            kind = _family(family, generation_config, model.generation_config)
            asked = _asked(options, generation_config, model, input_ids.shape[1], given)
            limit = asked.canvas if hasattr(asked, "canvas") else asked.max_new_tokens
            pad, whole = generation_config.pad_token_id, generation_config.return_dict_in_generate
            pad = kind.eot_ids[0] if pad is None else pad
            criteria, response = _own(stopping_criteria, generation_config), None
            if streamer is not None or criteria:
                response = Response(input_ids.to(device_of(model)), limit, pad, kind.eot_ids, streamer, criteria)
            told = {"record": response or Listener()} if response or whole else {}
            told |= {} if draft is None else {"draft": draft}
            draws, mask = seed if generator is None else generator, given.get("attention_mask")
            out = decode(model, input_ids, asked, generator=draws, family=kind, attention_mask=mask, **told)
            made = out.lengths + 1 if response is None else response.finish(out)
            places = torch.arange(limit, device=out.responses.device)
            responses = with_ends(out).masked_fill(places >= made.to(places.device)[:, None], pad)
            sequences = torch.cat([input_ids.to(responses.device), responses], -1)
            return DecodedOutput(sequences=sequences, trace=out.trace) if whole else sequences

    return run


def _check_config(config, own, options: Options) -> None:
    """UserError for a field that would change tokens and is not done here; `own`: the model's defaults."""
    fields = config.to_dict()
    if fields.get("min_new_tokens") is not None:
        fields.pop("min_length")  # which `generate` has made of it
    for name, value in fields.items():
        if name in (*DONE, *IDLE) or name.startswith("_") or value is None or value is False:
            continue
        if value == NEUTRAL.get(name):
            continue
        shipped = name in (*SAMPLING, *FILTERS) or name not in FIELDS  # what a model may say of itself
        if shipped and value == getattr(own, name, None):
            continue
        if name not in SAMPLING:
            cure = f"leave it out, or pass {name}={NEUTRAL.get(name)!r}"
            raise UserError(f"{name}={value!r:.40} of generate is not done by {type(options).__name__}: {cure}")
        sampled = name == "do_sample" and getattr(options, "temperature", 1.0) > 0
        if not sampled and getattr(options, name, None) != value:
            raise UserError(f"{name}={value!r} of generate is not what the options say: say it in {options!r:.60}")


def _check_processors(given: LogitsProcessorList | None, config) -> None:
    for processor in given or ():
        if not (config.do_sample and isinstance(processor, WARPERS)):
            raise UserError(f"{type(processor).__name__}: these decoders take no processor of logits: leave it out")


def _own(given: StoppingCriteriaList | None, config) -> list[StoppingCriteria]:
    """The criteria but those that `generate` makes of the length and of the end tokens, which are done anyway, and of
    a draft's confidence, which a model keeps that once was one."""

    def made(criterion) -> bool:
        if isinstance(criterion, MaxLengthCriteria):
            return criterion.max_length == config.max_length
        if isinstance(criterion, EosTokenCriteria):
            return set(_ids(criterion.eos_token_id)) == set(_ids(config.eos_token_id))
        return isinstance(criterion, ConfidenceCriteria)

    return [criterion for criterion in given or () if not made(criterion)]


def _check_given(given: dict, input_ids: Tensor) -> None:
    """UserError for an argument of the model or of a method of `generate` that would be dropped."""
    for name, value in given.items():
        if name not in PREPARED and value is not None and value is not False:
            raise UserError(f"{name} of generate is not read by these decoders: leave it out")
    cache = given.get("past_key_values")
    if cache is not None and cache.get_seq_length():
        raise UserError("past_key_values holds a text already: these decoders read the whole prompt, leave it out")
    mask, places = given.get("attention_mask"), given.get("position_ids")
    if places is None:
        return
    mask = torch.ones_like(input_ids) if mask is None else mask
    if places.shape != mask.shape or bool(((places != mask.long().cumsum(-1) - 1) & (mask != 0)).any()):
        raise UserError("position_ids are not those of the text: these decoders count it themselves, leave them out")


def _family(family: Family | None, config, own) -> Family:
    """The family with the ends that `generate` was told, where they are others than the model's own."""
    ends = _ids(config.eos_token_id)
    if family is None:
        if not ends:
            raise UserError("the model names no end of text: give custom_generate a Family with its eot_ids")
        return Family("model", eot_ids=ends)
    return replace(family, eot_ids=ends) if ends and ends != _ids(own.eos_token_id) else family


def _ids(value) -> tuple[int, ...]:
    if value is None:
        return ()
    value = value.tolist() if isinstance(value, Tensor) else value
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _asked(options: Options, config, model, prompt: int, given: dict) -> Options:
    """The options with the length and the cache that `generate` was told of."""
    own = model.generation_config
    if given.get("use_cache") is False and hasattr(options, "use_cache"):
        options = replace(options, use_cache=False)
    if config.max_new_tokens is not None and config.max_new_tokens != own.max_new_tokens:
        length, said = config.max_new_tokens, f"max_new_tokens={config.max_new_tokens}"
    elif config.max_new_tokens is None and config.max_length not in (None, own.max_length, _default(prompt, model)):
        length, said = config.max_length - prompt, f"max_length={config.max_length}"
    else:
        return options
    if hasattr(options, "max_new_tokens"):
        if length < 1:
            raise UserError(f"{said} leaves no room behind a prompt of {prompt} tokens: make it longer")
        return replace(options, max_new_tokens=length)
    if length != options.canvas:
        raise UserError(
            f"{said} of generate, and the canvas has {options.canvas} tokens: give {type(options).__name__}"
            f"(canvas={length}, ...)"
        )
    return options


def _default(prompt: int, model) -> int:
    """The max_length that `generate` sets where it is told of none."""
    return min(
        prompt + DEFAULT_LENGTH, getattr(model.config, "max_position_embeddings", None) or prompt + DEFAULT_LENGTH
    )
