"""What is told while a text is made, to a streamer above all, and the trace that comes back with it.

Everything is tried for every decoder of the registry, so that a new one is covered.
"""

from collections import Counter
from threading import Thread

import pytest
import torch
from conftest import AR, SHIFTED, tiny
from listeners import (
    CANVASES,
    DRAFT,
    ENDS,
    LENGTH,
    TARGET,
    WRITING,
    Drafts,
    Holds,
    Streamer,
    generate,
    options_of,
    plain,
    singles,
)
from torch.overrides import TorchFunctionMode
from transformers import TextDiffusionStreamer, TextIteratorStreamer
from transformers.generation import GenerateDecoderOnlyOutput

from lib.decoders import DECODERS, custom_generate, decode
from lib.decoding import autoregressive, listening
from lib.decoding.autoregressive import LOOK, Autoregressive, look_every
from lib.decoding.family import Family
from lib.decoding.listening import Listener
from lib.errors import UserError
from lib.models.study import build_tokenizer
from lib.mtad import Mtad
from lib.tolerator import Vanilla


@pytest.mark.parametrize("name", DECODERS)
def test_what_was_put_is_what_comes_back(name, prompts):
    ended = 0
    for ids in singles(prompts):
        streamer = Streamer()
        out = generate(name, ids, streamer=streamer, eos_token_id=ENDS)
        put = streamer.text
        assert torch.equal(streamer.given[0], ids) and streamer.ended == 1
        assert torch.equal(put, out[0, : len(put)]) and not out[0, len(put) :].any()
        assert all(value.ndim == 1 and len(value) for value in streamer.given[1:])
        assert not torch.isin(put[ids.shape[1] : -1], torch.tensor(ENDS)).any()
        ended += len(put) < out.shape[1]
        assert torch.equal(out, generate(name, ids, eos_token_id=ENDS))
    assert ended or name in ("remdm_port", "mtjd"), "an end of text was tried"


@pytest.mark.parametrize("name", [*WRITING, "assisted"])
def test_tokens_come_with_the_forward_that_made_them(name, prompts):
    streamer = Streamer()
    out = generate(name, prompts[0][:1], streamer=streamer, return_dict_in_generate=True)
    trace, blocks = out.trace, [len(value) for value in streamer.given[1:]]
    assert streamer.at[0] == 0 and streamer.at[1:] == sorted(set(streamer.at[1:])), "a forward between two puts"
    assert len(blocks) > 1 and streamer.at[-2] < streamer.forwards
    if not hasattr(options_of(name), "gamma"):
        assert streamer.at[1:] == list(range(1, len(blocks) + 1)) and set(blocks) == {1}
    elif DECODERS[name].drafts:
        assert len(blocks) == int(trace.target_forwards)
    if "accept_lengths" in trace.measures:
        accepted = Counter(blocks[i] - 1 for i in range(len(blocks) - 1))
        histogram = trace.measures["accept_lengths"][0].tolist()
        assert all(histogram[n] - 1 <= count <= histogram[n] for n, count in accepted.items())


@pytest.mark.parametrize("name", CANVASES)
def test_the_last_draft_of_a_canvas_is_the_response(name, prompts):
    for ids in singles(prompts):
        streamer = Drafts()
        out = generate(name, ids, streamer=streamer, return_dict_in_generate=True, pad_token_id=None)
        drafts, response = streamer.drafts, out.sequences[0, ids.shape[1] :]
        assert torch.equal(drafts[-1], response) and len(drafts) == int(out.trace.target_forwards)
        assert (drafts[0] == SHIFTED.mask_id).any() and not torch.equal(drafts[0], response)
        assert len(streamer.given) == 2, "the prompt and the finished text"


def test_a_streamer_of_transformers_shows_the_canvas(capsys, prompts):
    tokenizer = build_tokenizer(["one two three four"] * 3)
    model, streamer = tiny(len(tokenizer)), TextDiffusionStreamer(tokenizer, skip_prompt=True)
    decoder = custom_generate(Vanilla(8, 4), SHIFTED, streamer=streamer)
    out = model.generate(prompts[0][:1], custom_generate=decoder)
    shown = capsys.readouterr().out.split("\033[J")
    assert len(shown) == 5 and all("\033[33m" in draft for draft in shown[:4])
    length = 7 + 1 + int((~torch.isin(out[0, 7:], torch.tensor([0, 2]))).sum())
    assert shown[-1] == tokenizer.decode(out[0, 7:length]) + "\n"
    streamer._takes_logits = True
    with pytest.raises(UserError, match="_takes_logits"):
        custom_generate(Vanilla(8, 4), SHIFTED, streamer=streamer)


def test_a_streamer_takes_one_text(prompts):
    streamer = Streamer()
    with pytest.raises(UserError, match="the batch has 4"):
        generate("autoregressive", prompts[0], streamer=streamer)
    assert streamer.ended == 1 and not streamer.given


class Reads(TorchFunctionMode):
    """Counts what would wait for an accelerator."""

    NAMES = ("cpu", "item", "tolist", "__bool__", "__int__", "__float__", "numpy")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += getattr(function, "__name__", "") in self.NAMES
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", DECODERS)
def test_without_a_streamer_nobody_is_told_and_nothing_is_read(name, prompts, monkeypatch):
    def reads(**given):
        with Reads() as reads:
            out = generate(name, prompts[0][:2], **given)
        return reads.count, out

    (few, plain), (more, whole) = reads(), reads(return_dict_in_generate=True)
    assert torch.equal(whole.sequences, plain) and few <= more <= few + 2, "tables come over once, at the end"
    for hook in ("heard", "drafted"):
        monkeypatch.setattr(listening.Listener, hook, lambda *_: pytest.fail("told"))
    assert reads()[0] == few


def test_a_step_reads_no_more_because_somebody_could_listen(prompts):
    ids = prompts[0][:1]
    free = decode(tiny(), ids, Autoregressive(20), generator=0, family=Family("none", eot_ids=(99,))).responses
    family = Family("endless", eot_ids=(next(token for token in range(24) if token not in free),))

    def reads(length, record):
        with Reads() as reads:
            decode(tiny(), ids, Autoregressive(length), generator=0, family=family, record=record)
        return reads.count

    for record in (False, Listener()):
        assert reads(20, record) - reads(10, record) == 2 * 10, "whether a row goes on, and whether a logit is NaN"


class Looks(Listener):
    looks = True


def test_an_accelerator_is_looked_at_often_for_a_streamer_alone():
    there = torch.device("cuda")
    assert [look_every(there, who) for who in (None, Listener(), Looks())] == [LOOK, LOOK, 1]
    assert look_every(torch.device("cpu"), None) == 1


def test_rows_that_are_seen_late_to_have_ended_are_told_of_no_more(prompts, monkeypatch):
    """On an accelerator, or where a compiled step keeps them."""

    def told(every):
        monkeypatch.setattr(autoregressive, "look_every", lambda *_: every)
        given = {"attention_mask": prompts[1], "pad_token_id": 1, "stopping_criteria": [Holds(7)]}
        out, streamer = generate("autodeco", prompts[0], return_dict_in_generate=True, **given), Streamer()
        generate("autodeco", prompts[0][:1], streamer=streamer, eos_token_id=ENDS)
        kept = out.trace.target_forwards, out.trace.tokens_kept
        return out.sequences, *kept, streamer.text, out.trace.per_token["temperature"]

    *found, table = told(1)
    *late, other = told(5)
    assert all(map(torch.equal, found, late)) and len(found[3]) < 7 + LENGTH
    assert torch.allclose(table, other, equal_nan=True)


def test_a_listener_is_one(prompts):
    with pytest.raises(UserError, match="record must be True, False or a Listener"):
        decode(tiny(), prompts[0], Autoregressive(4), generator=0, family=AR, record="events")


@pytest.mark.parametrize("options", [Autoregressive(20), Mtad(20), Vanilla(20, 10)], ids=repr)
def test_text_comes_to_another_thread(options):
    words = build_tokenizer(["one two three four five six"] * 3)
    model, prompt = tiny(len(words), scale=5.0), words("one two", return_tensors="pt")
    streamer = TextIteratorStreamer(words, skip_prompt=True, timeout=20)
    family = SHIFTED if isinstance(options, Vanilla) else Family("words", eot_ids=(0,), chat=False)
    more = {"draft": model} if isinstance(options, Mtad) else {}
    decoder, out = custom_generate(options, family, streamer=streamer, **more), []
    thread = Thread(target=lambda: out.append(model.generate(**prompt, custom_generate=decoder)))
    thread.start()
    text = "".join(streamer)
    thread.join(20)
    response = out[0][0, prompt["input_ids"].shape[1] :]
    ended = torch.isin(response, torch.tensor(family.eot_ids)).nonzero()
    assert text == words.decode(response[: int(ended[0]) + 1 if len(ended) else None]) and text


@pytest.mark.parametrize("name", DECODERS)
def test_who_waits_for_a_text_is_told_when_it_breaks_off(name, prompts):
    """A reader in a thread, and Ctrl-C in the middle of decoding."""
    words = build_tokenizer(["one two three"] * 3)
    streamer = TextIteratorStreamer(words, timeout=20)
    model, calls = plain(name), []

    def interrupt(*_):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    read = []
    thread = Thread(target=lambda: read.append("".join(streamer)))
    thread.start()
    more = {"draft": DRAFT} if DECODERS[name].drafts else {}
    decoder = custom_generate(options_of(name), SHIFTED if name in CANVASES else AR, streamer=streamer, **more)
    handle = model.get_output_embeddings().register_forward_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            model.generate(prompts[0][:1], custom_generate=decoder)
    finally:
        handle.remove()
    thread.join(20)
    assert not thread.is_alive() and len(read) == 1
    assert not model.get_output_embeddings()._forward_pre_hooks, "nothing of ours stays in the model"


def test_who_waits_is_told_of_a_refusal(prompts):
    streamer = Streamer()
    with pytest.raises(UserError, match="repetition_penalty"):
        generate("autoregressive", prompts[0][:1], streamer=streamer, repetition_penalty=2.0)
    assert streamer.ended == 1


def test_a_reader_that_has_enough_stops_the_decoding(prompts):
    class Enough(Exception):
        pass

    class Impatient(Streamer):
        def put(self, value):
            super().put(value)
            if len(self.given) == 4:
                raise Enough

    for name in ("autoregressive", "mtad"):
        streamer = Impatient()
        with pytest.raises(Enough):
            generate(name, prompts[0][:1], streamer=streamer)
        assert streamer.ended == 1 and len(streamer.given) == 4


def test_the_heads_own_generate_streams_and_tells(prompts):
    """AutoDeco's drop-in `generate` is that of `transformers`: streamer, criteria and outputs are its own."""
    ids, streamer = prompts[0][:1], Streamer()
    given = {"attention_mask": torch.ones_like(ids), "max_new_tokens": LENGTH, "do_sample": True}
    torch.manual_seed(0)
    out, temperature, top_p = TARGET.generate(
        ids, streamer=streamer, return_settings=True, return_dict_in_generate=True, output_scores=True, **given
    )
    assert isinstance(out, GenerateDecoderOnlyOutput) and streamer.ended == 1
    assert torch.equal(streamer.text, out.sequences[0]) and len(streamer.given) == 1 + temperature.shape[1]
    assert temperature.shape == top_p.shape == (1, out.sequences.shape[1] - 7) and len(out.scores) == top_p.shape[1]
    torch.manual_seed(0)
    assert torch.equal(TARGET.generate(ids, **given), out.sequences)
    torch.manual_seed(0)
    cut, settings, _ = TARGET.generate(ids, stopping_criteria=[Holds(7)], return_settings=True, **given)
    assert torch.equal(cut, out.sequences[:, : cut.shape[1]]) and settings.shape[1] == cut.shape[1] - 7 < LENGTH
