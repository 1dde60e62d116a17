"""What `model.generate` is told beside one of these decoders, and beside AutoDeco's heads."""

from collections.abc import Callable, Iterator


def refused() -> Iterator[tuple[str, str, Callable]]:
    """(name, words of the line, call)."""
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

    from lib.bench.reliability.calls import family, network, table
    from lib.decoders import custom_generate
    from lib.tolerator import Vanilla

    class Processor(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return scores

    class Criterion(StoppingCriteria):
        def __call__(self, input_ids, scores):
            return torch.ones(len(input_ids), dtype=torch.bool)

    sampled = {"do_sample": True, "temperature": 1.0}
    for name, words, given in (
        ("repetition_penalty", "repetition_penalty=1.0", {"repetition_penalty": 1.2}),
        ("no_repeat_ngram_size", "no_repeat_ngram_size", {"no_repeat_ngram_size": 2}),
        ("bad_words_ids", "bad_words_ids", {"bad_words_ids": [[3]]}),
        ("min_new_tokens", "min_new_tokens", {"min_new_tokens": 2}),
        ("guidance_scale", "guidance_scale", {"guidance_scale": 2.0}),
        ("a processor", "Processor", {"logits_processor": LogitsProcessorList([Processor()])}),
        ("prefix_allowed_tokens_fn", "no processor", {"prefix_allowed_tokens_fn": lambda row, ids: [3]}),
        ("num_beams", "num_beams", {"num_beams": 2}),
        ("sampling by a greedy decoder", "do_sample", {"do_sample": True}),
        ("scores", "output_scores", {"output_scores": True, "return_dict_in_generate": True}),
        ("prompt lookup", "prompt_lookup_num_tokens", {"prompt_lookup_num_tokens": 2}),
        ("positions of its own", "position_ids", {"position_ids": table([3, 4, 5])}),
        ("padding on the right", "padding_side", {"attention_mask": table([1, 1, 0])}),
    ):
        yield f"custom_generate, {name}", words, lambda given=given: _custom(**given)
    for name, words, given in (
        ("a stopping criterion", "Criterion", {"stopping_criteria": StoppingCriteriaList([Criterion()])}),
        ("max_time", "MaxTimeCriteria", {"max_time": 1.0}),
    ):
        yield (f"custom_generate of a canvas, {name}", words, lambda given=given: network().generate(
            table([4, 5, 6]), custom_generate=custom_generate(Vanilla(8, 4), family(1)), **given))  # fmt: skip
    yield ("custom_generate, another length than the canvas", "canvas=9", lambda: network().generate(
        table([4, 5, 6]), max_new_tokens=9, custom_generate=custom_generate(Vanilla(8, 4), family(1))))  # fmt: skip
    yield "custom_generate of a class", "such as Autoregressive(64)", lambda: custom_generate(Vanilla)
    for name, words, given in (
        ("an assistant", "assistant_model", {"assistant_model": network()}),
        ("prompt lookup", "prompt_lookup_num_tokens", {"prompt_lookup_num_tokens": 2}),
        ("guidance_scale", "guidance_scale", {"guidance_scale": 1.5}),
        ("top_h", "top_h", {"top_h": 0.5}),
        ("min_p", "min_p", {"min_p": 0.1}),
        ("typical_p", "typical_p", {"typical_p": 0.5}),
        ("eta_cutoff", "eta_cutoff", {"eta_cutoff": 0.1}),
        ("a negative top_k", "top_k", {"top_k": -1}),
        ("a negative temperature", "temperature", {"temperature": -1.0}),
        ("top_p of 0", "top_p", {"top_p": 0.0}),
        ("settings of beams", "num_beams=1", {"num_beams": 2, "return_settings": True}),
        ("padding on the right", "padding_side", {"attention_mask": table([1, 1, 0])}),
    ):
        yield f"AutoDeco's generate, {name}", words, lambda given=given: _heads(**sampled | given)


def meant() -> Iterator[tuple[str, Callable, Callable]]:
    """(name, call, call that gives the same)."""
    from transformers import LogitsProcessor, LogitsProcessorList, MaxLengthCriteria

    from lib.bench.reliability.calls import table, tokens
    from lib.decoding.autoregressive import Autoregressive
    from lib.decoding.family import Family
    from lib.decoding.generate import DecodedOutput

    ids, long = table([4, 5, 6]), Autoregressive(9)

    def prompt_and(options, **given) -> list:
        return [[4, 5, 6, *tokens(ids, options, **given)[0]]]

    yield "custom_generate, max_new_tokens", lambda: _custom(max_new_tokens=9), lambda: prompt_and(long)
    yield "custom_generate, max_length", lambda: _custom(max_length=12), lambda: prompt_and(long)
    yield "custom_generate, no length", lambda: _custom(), lambda: prompt_and(Autoregressive(4))
    end = tokens(ids)[0][1]
    yield ("custom_generate, an end", lambda: _custom(eos_token_id=end, pad_token_id=end),
           lambda: prompt_and(None, family=Family("ends", eot_ids=(end,))))  # fmt: skip
    yield ("custom_generate, an output", lambda: type(_custom(True, return_dict_in_generate=True)),
           lambda: DecodedOutput)  # fmt: skip
    yield ("custom_generate, a criterion", lambda: _custom(stopping_criteria=[MaxLengthCriteria(5)], pad_token_id=1),
           lambda: [prompt_and(None)[0][:5] + [1, 1]])  # fmt: skip
    yield "custom_generate, no cache", lambda: _custom(use_cache=False), lambda: prompt_and(Autoregressive(4))

    class Streamer:
        def __init__(self):
            self.seen, self.ended = [], False

        def put(self, value):
            self.seen += value.flatten().tolist()

        def end(self):
            self.ended = True

    def streamed() -> tuple:
        streamer = Streamer()
        out = _custom(streamer=streamer)
        return streamer.seen, streamer.ended, out[0][: len(streamer.seen)]

    yield "custom_generate, a streamer", lambda: streamed()[:2], lambda: (streamed()[2], True)

    class Peeking(LogitsProcessor):
        """Asks the model about another text in between, so that the heads' last words are of that."""

        def __init__(self, model):
            self.model = model

        def __call__(self, input_ids, scores):
            self.model(input_ids=input_ids.flip(-1))
            return scores

    yield ("AutoDeco's generate, a processor that asks the model",
           lambda: _heads(peek=lambda model: LogitsProcessorList([Peeking(model)]), do_sample=True),
           lambda: _heads(do_sample=True))  # fmt: skip


def _custom(whole: bool = False, streamer=None, **given):
    """The tiny model's `generate` with a greedy decoder of four tokens."""
    from lib.bench.reliability.calls import network, table
    from lib.decoders import custom_generate
    from lib.decoding.autoregressive import Autoregressive

    decoder = custom_generate(Autoregressive(4), **({"streamer": streamer} if streamer else {}))
    ids = table([4, 5, 6])
    given = {"attention_mask": ids * 0 + 1} | given
    out = network().generate(ids, custom_generate=decoder, **given)
    return out if whole else out.tolist()


def _heads(peek=None, **given):
    """`generate` of the tiny model with random heads, eight tokens."""
    import torch

    from lib.autodeco import AutoDecoForCausalLM, Heads, HeadsConfig
    from lib.bench.reliability.calls import network, table

    torch.manual_seed(2)
    heads = Heads(HeadsConfig(16, width=8))
    for head in (heads.temp_head, heads.top_p_head):  # settings that differ by position
        head.mlp[-1].weight.data *= 20
    model = AutoDecoForCausalLM.from_base(network(), heads)
    torch.manual_seed(3)
    ids = table([4, 5, 6])
    more = {"logits_processor": peek(model)} if peek else {}
    out = model.generate(ids, **{"attention_mask": ids * 0 + 1, "max_new_tokens": 8} | given | more)
    return out.tolist() if isinstance(out, torch.Tensor) else out
