"""What `generate` is told to stop at, beside decoders of ours: where it stops a text, and which refuse it."""

import pytest
import torch
from conftest import AR, tiny
from listeners import ENDS, LENGTH, WHOLE, WRITING, Holds, Streamer, generate, options_of, singles
from transformers import MaxLengthCriteria, StopStringCriteria
from transformers.generation import EosTokenCriteria

from lib.autodeco.decode import AutoDeco
from lib.decoders import DECODERS, custom_generate
from lib.decoding.autoregressive import Autoregressive
from lib.errors import UserError
from lib.models.study import build_tokenizer
from lib.mtad import Speculative, TreeSpeculative

GREEDY = {
    "autoregressive": Autoregressive(LENGTH),
    "autodeco": AutoDeco(LENGTH, temperature=0.0),
    "speculative": Speculative(LENGTH, gamma=4, temperature=0.0),
    "tree_speculative": TreeSpeculative(LENGTH, branches=(2, 2, 1), temperature=0.0),
}


@pytest.mark.parametrize("name", GREEDY)
@pytest.mark.parametrize("ends", [[0], ENDS])
def test_a_criterion_ends_a_greedy_text_where_generate_ends_it(name, ends, prompts):
    given = {"attention_mask": prompts[1], "eos_token_id": ends, "pad_token_id": 1, "do_sample": False}
    ours, theirs = Holds(7), Holds(7)
    out = generate(name, prompts[0], GREEDY[name], stopping_criteria=[ours], **given)
    expected = tiny().generate(prompts[0], max_new_tokens=LENGTH, stopping_criteria=[theirs], **given)
    width = expected.shape[1]
    assert torch.equal(out[:, :width], expected) and (out[:, width:] == 1).all()
    assert len({int((row != 1).sum()) for row in out[:, 7:]}) > 2, "rows end at lengths of their own"
    if not DECODERS[name].drafts:
        assert len(ours.seen) == len(theirs.seen) and all(map(torch.equal, ours.seen, theirs.seen))


def test_a_criterion_of_one_drafted_row_sees_what_it_sees_in_generate(prompts):
    for ids in singles(prompts):
        ours, theirs = Holds(ids.shape[1]), Holds(ids.shape[1])
        generate("speculative", ids, GREEDY["speculative"], stopping_criteria=[ours])
        tiny().generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=LENGTH, stopping_criteria=[theirs])
        assert len(ours.seen) == len(theirs.seen) and all(map(torch.equal, ours.seen, theirs.seen))


@pytest.mark.parametrize("name", WRITING)
def test_a_criterion_cuts_a_text_and_changes_nothing_before(name, prompts):
    ids, mask = prompts
    given = {"attention_mask": mask, "pad_token_id": 1, "eos_token_id": 0}
    criterion = Holds(7)
    out = generate(name, ids, stopping_criteria=[criterion], return_dict_in_generate=True, **given)
    free = generate(name, ids, **given)
    cut = free.clone()
    made, trace = torch.zeros(4, dtype=torch.long), out.trace
    for i, row in enumerate(cut[:, 7:]):
        over = ((row.cumsum(-1) % 5 == 0) | (row == 0)).nonzero()
        made[i] = int(over[0]) + 1 if len(over) else LENGTH
        row[made[i] :] = 1
    assert torch.equal(out.sequences, cut) and not torch.equal(free, cut)
    last = criterion.seen[-1]
    assert torch.equal(last, cut[:, : last.shape[1]]), "rows that have stopped are padded"
    if "accepted" in trace.measures:
        assert torch.equal(trace.measures["accepted"] + trace.measures["bonus"], made)
    elif name != "mtjd" and not hasattr(options_of(name), "shuffled"):
        assert torch.equal(trace.target_forwards, made)


def test_a_criterion_and_a_streamer_agree(prompts):
    for name in ("autoregressive", "mtad"):
        streamer = Streamer()
        ids = prompts[0][:1]
        out = generate(name, ids, streamer=streamer, stopping_criteria=[Holds(7)], pad_token_id=1)
        put = streamer.text
        assert torch.equal(put, out[0, : len(put)]) and (out[0, len(put) :] == 1).all() and len(put) < out.shape[1]


def test_an_end_of_text_that_a_criterion_holds_at_stays(prompts):
    given = {"eos_token_id": [5], "pad_token_id": 1, "stopping_criteria": [EosTokenCriteria([5]), Holds(7)]}
    always = EosTokenCriteria(list(range(24)))  # of other ends: a criterion like any other
    ids = prompts[0][:1]
    first = generate("autoregressive", ids)[0, 7].item()
    given |= {"eos_token_id": [first], "stopping_criteria": [always]}
    out = generate("autoregressive", ids, **given)
    assert out[0, 7:].tolist() == [first] + [1] * (LENGTH - 1)


def test_a_length_of_the_users_own_is_a_criterion(prompts):
    for name in ("autoregressive", "mtad"):
        free = generate(name, *prompts[:1], attention_mask=prompts[1], pad_token_id=1)
        given = {"stopping_criteria": [MaxLengthCriteria(10)], "attention_mask": prompts[1], "pad_token_id": 1}
        out = generate(name, prompts[0], **given)
        assert torch.equal(out[:, :10], free[:, :10]) and (out[:, 10:] == 1).all()


def test_stop_strings_and_times(prompts):
    words = build_tokenizer(["one two three four five six"] * 3)
    model, letters = tiny(len(words)), [token for token in range(len(words)) if words.decode([token]).isalpha()]
    model.lm_head.weight.data[[token for token in range(len(words)) if token not in letters]] = 0
    prompt = words("one two three", return_tensors="pt")
    free = model.generate(**prompt, max_new_tokens=30, do_sample=False)
    stop = words.decode(free[0, prompt["input_ids"].shape[1] + 4 : prompt["input_ids"].shape[1] + 7])[1:]
    given = prompt | {"max_new_tokens": 30, "do_sample": False}
    expected = model.generate(**given, stop_strings=[stop], tokenizer=words)
    assert expected.shape[1] < free.shape[1]
    for options, more in ((Autoregressive(30), {}), (Speculative(30, temperature=0.0), {"draft": model})):
        decoder = custom_generate(options, AR, **more)
        out = model.generate(**given, stopping_criteria=[StopStringCriteria(words, [stop])], custom_generate=decoder)
        assert torch.equal(out[:, : expected.shape[1]], expected) and not out[:, expected.shape[1] :].any()
    out = model.generate(**given, max_time=1e-9, custom_generate=custom_generate(Autoregressive(30), AR))
    assert torch.equal(out[0, : prompt["input_ids"].shape[1] + 1], free[0, : prompt["input_ids"].shape[1] + 1])
    assert not out[0, prompt["input_ids"].shape[1] + 1 :].any()


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_made_as_a_whole_refuses_criteria(name, prompts):
    for given, words in (({"stopping_criteria": [Holds(7)]}, "Holds"), ({"max_time": 9.0}, "MaxTimeCriteria")):
        with pytest.raises(UserError, match=f"{words}: this decoder stops at its length"):
            generate(name, prompts[0], attention_mask=prompts[1], **given)


def test_a_seed_of_one_call(prompts):
    options = Autoregressive(8, temperature=2.0)
    seeds = {seed: generate("autoregressive", prompts[0], options, seed=seed) for seed in (1, 2)}
    told = generate("autoregressive", prompts[0], options, seed=1, generator=2)
    assert torch.equal(told, seeds[2]) and not torch.equal(told, seeds[1])
