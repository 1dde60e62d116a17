"""Replay: what decodes the same is certified, whatever its code looks like; what does not is found out."""

import gzip
import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from lib import __main__ as command
from lib.decoding.randomness import RowGenerator
from lib.errors import UserError
from lib.reporting.result_folder import write_result
from lib.running import committed as kept
from lib.running import identity, one_batch
from lib.running import replay as module
from lib.running.committed import committed, file_hashes
from lib.running.evaluation import run_all
from lib.running.identity import run_id
from lib.running.one_batch import scored_again
from lib.running.replay import CERTIFIES, TIE, is_tie, replay
from lib.running.respond import respond
from lib.running.run import Run
from lib.tasks import TASKS
from lib.tasks.base import Score

TASK = "country_facts"
GREEDY = Run.of("study-ar", TASK, "autoregressive", items=20, temperature=0.0, max_new_tokens=6)
SAMPLED = Run.of("study-ar", TASK, "autoregressive", items=9, samples=2, temperature=1.0, max_new_tokens=6)
REFINED = Run.of("study-dlm", TASK, "tolerator", items=9, samples=2, canvas=8, forwards=4)
SHORT = Run.of("study-ar", TASK, "autoregressive", items=3, temperature=1.0, max_new_tokens=5)
RUNS = (GREEDY, SAMPLED, REFINED, SHORT)


class Result:
    """A committed result of RUNS by random models, and ways to look at it and to change it."""

    def __init__(self, folder, weights):
        self.folder, self.weights = folder, weights
        self.profile, self.network = folder.parent, one_batch.model_of("study-ar", "cpu").network

    def manifest(self):
        return json.loads((self.folder / "manifest.json").read_text())

    def entry(self, run):
        return self.manifest()["runs"][run_id(run)]

    def note(self, **changes):
        """Every run's entry with these changes."""
        manifest = self.manifest()
        manifest["runs"] = {name: entry | changes for name, entry in manifest["runs"].items()}
        (self.folder / "manifest.json").write_text(json.dumps(manifest))

    def rewrite(self, change, forged=True):
        """Every stored line changed; `forged`: the manifest has the hash of what is written."""
        path = self.folder / "items.jsonl.gz"
        lines = map(json.loads, gzip.decompress(path.read_bytes()).splitlines())
        path.write_bytes(gzip.compress("".join(json.dumps(change(line)) + "\n" for line in lines).encode()))
        if forged:
            manifest = self.manifest() | {"files": file_hashes(self.folder)}
            (self.folder / "manifest.json").write_text(json.dumps(manifest))

    def replay(self, count, seed=0):
        """What a new process finds, by run."""
        found = {one.run: one for _, one in replay([self.folder], count, seed)}
        return {run: found[run_id(run)] for run in RUNS if run_id(run) in found}


@pytest.fixture
def result(tmp_path, monkeypatch, random_models):
    monkeypatch.setattr(module, "results", partial(module.results, workers=0))
    write(tmp_path / "results/tiny/study", run_all(list(RUNS), tmp_path / "first", workers=0))
    return Result(tmp_path / "results/tiny/study", random_models)


def write(folder, results):
    nothing = {"parameters": {}, "tables": {}, "figures": {}, "headlines": {}, "claims": [], "sources": ""}
    return write_result(folder, results=results, **nothing)


def assert_same(found, responses):
    assert {run: (one.responses, one.ties, one.differ) for run, one in found.items()} == {
        run: (count, 0, ()) for run, count in responses.items()
    }


def test_a_result_agrees_with_the_code_that_made_it(result):
    before = result.manifest()
    assert_same(result.replay(4), dict.fromkeys(RUNS, 4) | {SHORT: 3})
    for run in RUNS:
        noted = result.entry(run).pop("replayed")
        whole = {"whole": True} if run is SHORT else {}
        assert noted == {"responses": 3 if run is SHORT else 4, "ties": 0, "seed": 0} | whole
    after = result.manifest()
    for entry in after["runs"].values():
        del entry["replayed"]
    assert after == before and set(committed(result.folder)) == set(RUNS)


def test_what_was_replayed_is_not_replayed_again(result):
    assert len(result.replay(4)) == 4 and result.replay(4) == {}
    assert set(result.replay(5)) == {GREEDY, SAMPLED, REFINED}, "the short run was replayed whole"
    assert len(result.replay(5, seed=1)) == 4
    result.note(code="older")
    assert len(result.replay(5, seed=1)) == 4, "what was replayed does not count for other code"


def test_enough_responses_certify_code_that_decodes_the_same(result):
    result.note(code="older")
    assert committed(result.folder) == {}
    assert_same(result.replay(CERTIFIES), dict.fromkeys(RUNS, CERTIFIES) | {SHORT: 3})
    for run in RUNS:
        entry = result.entry(run)
        assert entry["code"] == identity.identity(run)["code"]
        whole = {"whole": True} if run is SHORT else {}
        noted = {"responses": 3 if run is SHORT else CERTIFIES, "ties": 0, "seed": 0, "code": "older"}
        assert entry["replayed"] == noted | whole
    assert set(committed(result.folder)) == set(RUNS)


def test_of_changed_code_so_many_are_replayed_as_certify_it(result):
    result.note(code="older")
    assert_same(result.replay(1), dict.fromkeys(RUNS, CERTIFIES) | {SHORT: 3})
    assert set(committed(result.folder)) == set(RUNS)


def test_runs_with_the_same_change_certify_one_another(result, monkeypatch):
    monkeypatch.setattr(module, "TOGETHER", 9)
    result.note(code="older")
    assert_same(result.replay(1), {GREEDY: 3, SAMPLED: 3, SHORT: 3, REFINED: 9})
    assert set(committed(result.folder)) == set(RUNS)
    assert result.entry(GREEDY)["replayed"] == {
        "responses": 3, "ties": 0, "seed": 0, "together": 9, "code": "older"
    }  # fmt: skip
    result.replay(5, seed=1)
    assert result.entry(GREEDY)["replayed"] == {"responses": 5, "ties": 0, "seed": 1, "code": "older"}


def test_one_difference_forbids_to_certify_others_by_few(result, monkeypatch):
    monkeypatch.setattr(module, "TOGETHER", 9)
    result.note(code="older")
    result.network.lm_head.weight.data *= 0.5  # the largest logit stays it, the draws do not
    found = result.replay(3)
    assert found[SAMPLED].differ and not found[GREEDY].differ
    assert GREEDY not in committed(result.folder) and SAMPLED not in committed(result.folder)


def turn_head(result, monkeypatch):
    result.network.lm_head.weight.data = result.network.lm_head.weight.roll(1, 0)


def scale_head(result, monkeypatch):
    result.network.lm_head.weight.data *= 0.5


def turn_layer(result, monkeypatch):
    result.network.model.layers[1].mlp.down_proj.weight.data *= -1


def other_draws(result, monkeypatch):
    of = RowGenerator.of
    monkeypatch.setattr(RowGenerator, "of", lambda seed, *given: of(seed + 1, *given))


@pytest.mark.parametrize("damage", [turn_head, scale_head, turn_layer, other_draws])
def test_a_changed_network_or_rule_is_found_out_and_not_certified(result, monkeypatch, damage):
    monkeypatch.setattr(module, "TRIES", 4)
    result.note(code="older")
    before = result.manifest()["runs"]
    damage(result, monkeypatch)
    found = result.replay(CERTIFIES)
    same = {GREEDY} if damage in (scale_head, other_draws) else set()  # the largest logit stays it
    for run in {GREEDY, SAMPLED, REFINED}:
        assert bool(found[run].differ) == (run not in same)
        assert (result.entry(run) == before[run_id(run)]) == (run not in same)
    assert len(found[SAMPLED].differ) > CERTIFIES / 2
    assert set(committed(result.folder)) - {SHORT} == same


def test_a_difference_is_found_out_where_the_code_is_the_same_too(result, monkeypatch):
    turn_layer(result, monkeypatch)
    found = result.replay(4)
    assert all(one.differ for one in found.values()) and "replayed" not in result.entry(GREEDY)


def test_a_text_altered_by_hand_is_found_out(result):
    def alter(line):
        return line | {"text": line["text"] + "."} if (line["run"], line["item"]) == altered else line

    altered = run_id(GREEDY), kept.stored_lines(result.folder)[run_id(GREEDY)][5]["item"]
    stored = next(line["text"] for line in kept.stored_lines(result.folder)[altered[0]] if line["item"] == altered[1])
    result.rewrite(alter)
    found = result.replay(20)
    assert found.pop(GREEDY).differ == ((altered[1], f"{stored}.", stored),)
    assert not any(one.differ for one in found.values())
    assert "replayed" not in result.entry(GREEDY) and "replayed" in result.entry(SAMPLED)


@pytest.mark.parametrize("counter", ["target_forwards", "tokens_kept", "positions"])
def test_a_counter_altered_by_hand_is_found_out(result, counter):
    result.rewrite(lambda line: line | {counter: line[counter] + 1})
    assert all(len(one.differ) == one.responses for one in result.replay(4).values())


def test_a_measure_that_came_later_is_no_difference_and_one_that_differs_is():
    then, now = {"text": "a", "positions": 3}, {"text": "a", "positions": 3, "overshoot": 0.5}
    assert module._same(then, now) and not module._same(then, now | {"text": "b"})
    assert not module._same(then | {"overshoot": 0.6}, now) and not module._same({"text": "a"}, now)


def test_a_folder_whose_files_were_changed_counts_for_nothing(result):
    result.rewrite(lambda line: line | {"correct": 1}, forged=False)
    before = result.manifest()
    assert result.replay(4) == {} and committed(result.folder) == {} and result.manifest() == before


def test_runs_of_other_weights_are_passed_over(result):
    result.weights["study-dlm"] = "retrained"
    assert set(result.replay(4)) == {GREEDY, SAMPLED, SHORT}
    assert "replayed" not in result.entry(REFINED)
    result.note(rows="others")
    assert result.replay(5) == {}


def test_a_result_of_another_device_is_passed_over(result):
    path = result.folder / "manifest.json"
    path.write_text(json.dumps(result.manifest() | {"device": "NVIDIA H100"}))
    assert result.replay(4) == {}


RIVAL = 300  # a token that takes part in a tie made on purpose
ONE = Run.of("study-ar", TASK, "autoregressive", items=20, temperature=0.0, max_new_tokens=4)


def ending(network, item):
    """The state [H] from which the response to an item begins."""
    ids, _ = one_batch.model_of("study-ar", "cpu").encode([item.prompt])
    with torch.inference_mode():
        return network.model(input_ids=ids).last_hidden_state[0, -1].clone()


def lead(network, item, logit):
    """RIVAL is so much before all other tokens where the response to an item begins; gives the best of the others."""
    state, weight = ending(network, item), network.lm_head.weight.data
    weight[RIVAL] = 0
    best = int((weight @ state).argmax())
    weight[RIVAL] = weight[best] + logit * state / (state @ state)
    return best


@pytest.mark.parametrize(("gap", "tie"), [(2e-5, True), (1.5e-4, False)])
def test_two_tokens_as_good_as_equal_are_a_tie_and_no_difference(tmp_path, result, gap, tie):
    def tokens():
        return respond(one_batch.model_of("study-ar", "cpu"), [item], ONE.resolved()).responses[0].tolist()

    items = identity.items_of(TASK, "test", 20)
    for item in items:
        best = lead(result.network, item, gap)
        first, *rest = tokens()
        if not {RIVAL, best} & set(rest):  # nothing is near but the beginning
            break
    else:
        pytest.fail("no such item")
    assert first == RIVAL
    row = (items.index(item), 0)
    (line,) = one_batch.decode_rows(ONE, [row])
    write(tmp_path / "results/tiny/one", {ONE: [line]})
    one = Result(tmp_path / "results/tiny/one", result.weights)
    one.note(code="older")
    lead(result.network, item, -gap)
    (now,) = one_batch.decode_rows(ONE, [row])
    assert tokens()[0] == best and now["text"] != line["text"]
    ((_, found),) = replay([one.folder], 16)
    if tie:
        assert (found.responses, found.ties, found.differ) == (1, 1, ())
        assert one.entry(ONE)["replayed"] == {"responses": 1, "ties": 1, "seed": 0, "code": "older", "whole": True}
    else:
        assert (found.responses, found.ties, found.differ) == (1, 0, ((item.id, line["text"], now["text"]),))
        assert one.entry(ONE)["code"] == "older" and "replayed" not in one.entry(ONE)


@pytest.mark.parametrize(("distance", "tie"), [(1e-6, True), (1e-3, False)])
def test_a_draw_at_the_border_of_a_token_is_a_tie(result, monkeypatch, distance, tie):
    def draws(value):
        monkeypatch.setattr(RowGenerator, "uniform", lambda self, step, stream, width, device="cpu": always(width))
        monkeypatch.setattr(RowGenerator, "uniforms", lambda self, first, steps, *_: always(steps))
        always = partial(lambda value, width: torch.full((1, width), value, dtype=torch.float64), value)

    run = replace(
        SHORT, options=Run.of("study-ar", TASK, "autoregressive", 3, temperature=1.0, max_new_tokens=1).options
    )
    item = identity.items_of(TASK, "test", 3)[1]
    logits = result.network.lm_head.weight.data @ ending(result.network, item)
    below = torch.softmax(logits, -1).double().cumsum(-1)
    border = float(below[int(logits.argmax())])
    lines = []
    for value in (border - distance, border + distance):
        draws(value)
        lines += one_batch.responses(run, [item], [0])
    assert lines[0]["text"] != lines[1]["text"]
    assert is_tie(run, {"item": item.id, "sample": 0, **lines[0]}) == tie
    assert distance < TIE or not tie


def test_another_scorer_reads_the_stored_texts_and_nothing_is_decoded(result, monkeypatch):
    monkeypatch.setattr(one_batch, "responses", lambda *_: pytest.fail("decoded"))
    stored = committed(result.folder)
    judged = []

    def score(item, text):
        judged.append((item.id, text))
        return Score(int(len(text) % 2), text[:3], "ok")

    monkeypatch.setitem(TASKS, TASK, replace(TASKS[TASK], score=score))
    assert committed(result.folder) == stored and not judged, "the scorer is the same as far as anyone knows"
    monkeypatch.setattr(identity, "score_code", lambda task: "another")
    again = committed(result.folder)
    assert set(again) == set(RUNS) and len(judged) == sum(map(len, stored.values()))
    for run, lines in again.items():
        for line, then in zip(lines, stored[run], strict=True):
            assert line == then | {"correct": len(line["text"]) % 2, "answer": line["text"][:3], "status": "ok"}
    assert any(lines != stored[run] for run, lines in again.items())


def test_code_is_scored_again_only_where_it_may_run(monkeypatch):
    run = Run.of("study-ar", "graded_functions_2", "autoregressive", items=1)
    item = identity.items_of("graded_functions_2", "test", 1)[0]
    lines = [{"item": item.id, "text": item.target, "correct": 0, "status": "ok", "answer": ""}]
    monkeypatch.delenv("ALLOW_CODE_EXECUTION", raising=False)
    with pytest.raises(UserError, match="ALLOW_CODE_EXECUTION=1"):
        scored_again(run, lines)
    monkeypatch.setenv("ALLOW_CODE_EXECUTION", "1")
    assert scored_again(run, lines)[0]["correct"] == 1


def test_the_command_says_which_runs_differ(result, monkeypatch, capsys):
    monkeypatch.setattr(command, "RESULTS", result.profile.parent)
    assert command._replayed(4, 0) == []
    assert "15 responses decoded again, 0 runs differ, 0 ties" in capsys.readouterr().out
    turn_layer(result, monkeypatch)
    reasons = command._replayed(5, 0)
    assert len(reasons) == 3 and all(reason.startswith("tiny/study: run ") for reason in reasons)
    (greedy,) = [reason for reason in reasons if run_id(GREEDY) in reason]
    assert " of 5 differ, country-facts/" in greedy
    result.profile.rename(result.profile.parent / "smoke")
    assert command._replayed(6, 0) == [], "smoke results are nobody's"
