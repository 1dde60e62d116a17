"""Runs: the same responses whatever the batch, the shards, the processes or a kill in between."""

import json
import os
import platform
import resource
from dataclasses import replace
from threading import Event, Thread
from types import SimpleNamespace

import pytest
import torch
from conftest import SHIFTED, tiny

from lib.errors import UserError, lacking
from lib.models.registry import MODELS, Entry, Model
from lib.models.study import build_tokenizer
from lib.running import cost, identity, memory, one_batch
from lib.running.evaluation import lines_of, pending, run_all
from lib.running.identity import file_id, run_id
from lib.running.lines import MEASURED, read_lines
from lib.running.respond import commanded
from lib.running.run import Run, run_of
from lib.tasks import get_task

TASK = "country_facts"


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch):
    """A random model in the registry's place: evaluation needs its fingerprint, not its skill."""
    texts = [text for item in get_task(TASK).items("test", 30) for text in (item.prompt, item.target)]
    tokenizer = build_tokenizer(texts)
    network = tiny(vocabulary=len(tokenizer), seed=4)
    family = replace(SHIFTED, name="tiny", eot_ids=(0,))
    model = Model("tiny", network, tokenizer, family)
    monkeypatch.setitem(MODELS, "tiny", Entry("tiny", "study", "study-dlm", "tiny", "MIT"))
    monkeypatch.setattr(one_batch, "model_of", lambda name, device: model)
    monkeypatch.setattr(identity, "describe", lambda name, device: (family, "fingerprint", "torch.float32"))


def run(method="tolerator", **options):
    options = options or ({"forwards": 4} if method == "tolerator" else {"steps": 4})
    return Run.of("tiny", TASK, method, items=5, samples=2, canvas=8, **options)


def equal(lines):
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in lines]


def test_batches_and_order_change_nothing(tmp_path):
    first = run_all([run()], tmp_path / "a", workers=0, batch_size=1)[run()]
    again = run_all([run()], tmp_path / "b", workers=0, batch_size=8)[run()]
    assert len(first) == 10 and equal(first) == equal(again)


def test_shards_merge_to_the_same_lines(tmp_path, monkeypatch):
    whole = run_all([run()], tmp_path / "whole", workers=0)[run()]
    for i in (1, 0, 2):
        run_all([run()], tmp_path / "parts", workers=0, shard=(i, 3))
    monkeypatch.setattr(one_batch, "decode_rows", lambda *_: pytest.fail("decoded again"))
    assert equal(run_all([run()], tmp_path / "parts", workers=0)[run()]) == equal(whole)


def test_a_missing_shard_is_decoded(tmp_path):
    run_all([run()], tmp_path, workers=0, shard=(0, 2))
    assert len(lines_of(run(), tmp_path)) == 6
    assert len(run_all([run()], tmp_path, workers=0)[run()]) == 10


def test_equal_rows_count_once_within_a_file_and_over_shards(tmp_path, monkeypatch):
    """As two processes left them that decoded one run before there was a lock: they differ in their times alone."""
    run_all([run()], tmp_path, workers=0, shard=(0, 2))
    whole = run_all([run()], tmp_path, workers=0)[run()]
    monkeypatch.setattr(one_batch, "decode_rows", lambda *_: pytest.fail("decoded again"))
    path = next(tmp_path.glob("*.0of2.jsonl"))
    slower = [line | {"seconds": 1000.0} for line in read_lines(path)]
    with open(path, "a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in slower))
    assert len(path.read_text().splitlines()) == 12 and len(read_lines(path)) == 6
    (tmp_path / path.name.replace("0of2", "1of2")).write_text(path.read_text())
    assert run_all([run()], tmp_path, workers=0)[run()] == whole


def test_rows_that_differ_name_the_files_and_the_row(tmp_path):
    run_all([run()], tmp_path, workers=0, shard=(0, 2))
    path = next(tmp_path.glob("*.jsonl"))
    first = json.loads(path.read_text().splitlines()[0])
    other = tmp_path / path.name.replace("0of2", "1of2")
    other.write_text(json.dumps(first | {"text": "else"}) + "\n")
    with pytest.raises(UserError) as error:
        run_all([run()], tmp_path, workers=0)
    assert all(word in str(error.value) for word in (first["item"], str(path), str(other), "remove"))
    path.write_text(path.read_text() + other.read_text())
    with pytest.raises(UserError, match=f"{first['item']}, sample {first['sample']} differ: line 1 of .* line 7 of"):
        read_lines(path)


@pytest.mark.parametrize(
    "damage, words",
    [
        (b"garbage", "is not JSON"),
        (b"\0" * 512, "is not JSON"),
        (b"\x1f\x8b\x08", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1, 2]", "dictionary"),
        ({"text": None}, "text must be an instance of str"),
        ({"correct": "yes"}, "correct"),
        ({"correct": 2}, "correct"),
        ({"sample": -1}, "sample"),
        ({"tokens_kept": "many"}, "tokens_kept"),
        ({"seconds": None}, "seconds"),
    ],
    ids=str,
)
def test_a_damaged_line_is_named_with_its_cure(tmp_path, damage, words):
    run_all([run()], tmp_path, workers=0)
    path = next(tmp_path.glob("*.jsonl"))
    lines = path.read_bytes().splitlines()
    lines[3] = damage if isinstance(damage, bytes) else json.dumps(json.loads(lines[3]) | damage).encode()
    path.write_bytes(b"\n".join([*lines, b""]))
    with pytest.raises(UserError) as error:
        run_all([run()], tmp_path, workers=0)
    said = str(error.value)
    assert said.startswith(f"line 4 of {path}") and words in said and said.endswith("decoded anew")
    path.write_bytes(b"\n".join([*lines[:3], *lines[4:], b""]))
    assert len(run_all([run()], tmp_path, workers=0)[run()]) == 10


def test_any_text_is_read_back(tmp_path):
    run_all([run()], tmp_path, workers=0)
    path = next(tmp_path.glob("*.jsonl"))
    lines = path.read_text().splitlines()
    text = "\ud800 \u2028 \x85 \x00 \r line"
    path.write_text("\n".join([json.dumps(json.loads(lines[0]) | {"text": text}), *lines[1:], ""]))
    assert read_lines(path)[0]["text"] == text and len(read_lines(path)) == 10


def test_reading_leaves_a_line_under_way_alone(tmp_path):
    """Another process may be writing it: only the holder of the lock cuts."""
    run_all([run()], tmp_path, workers=0)
    path = next(tmp_path.glob("*.jsonl"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert len(lines_of(run(), tmp_path)) == 9
    assert path.read_bytes() == whole[:-5]


def test_the_same_run_twice_is_decoded_once(tmp_path):
    assert len(run_all([run(), run()], tmp_path, workers=0)[run()]) == 10


def test_code_is_refused_before_anything_is_decoded(tmp_path, monkeypatch):
    monkeypatch.delenv("ALLOW_CODE_EXECUTION", raising=False)
    monkeypatch.setattr(one_batch, "decode_rows", lambda *_: pytest.fail("decoded"))
    code = Run.of("tiny", "graded_functions_2", "vanilla", items=2, steps=4)
    with pytest.raises(UserError, match="ALLOW_CODE_EXECUTION=1"):
        run_all([run(), code], tmp_path, workers=0)


def test_an_unknown_engine_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGINE", "rya")
    with pytest.raises(UserError, match="local or ray"):
        run_all([run()], tmp_path)


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    whole = run_all([run()], tmp_path / "whole", workers=0, batch_size=3)[run()]
    path = tmp_path / "killed" / f"{file_id(run())}.jsonl"
    path.parent.mkdir()
    text = (tmp_path / "whole" / path.name).read_text()
    path.write_text(text[: int(len(text) * 0.55)])  # a kill in the middle of a line
    before = read_lines(path)
    assert 0 < len(before) < 10
    resumed = run_all([run()], tmp_path / "killed", workers=0, batch_size=4)[run()]
    assert equal(resumed) == equal(whole)
    kept = [line for line in resumed if line in before]
    assert kept == sorted(before, key=lambda line: (line["item"], line["sample"])), "what was there is kept"


def test_a_second_process_waits_says_for_whom_and_takes_what_is_there(tmp_path, monkeypatch, capfd):
    """The other holder is a thread here: a lock is held by whoever opened it, not by a process."""
    begun, go_on, found = Event(), Event(), {}
    decode = one_batch.decode_rows

    def slow(*given):
        begun.set()
        assert go_on.wait(30)
        return decode(*given)

    monkeypatch.setattr(one_batch, "decode_rows", slow)
    first = Thread(target=lambda: found.update(one=run_all([run()], tmp_path, workers=0)[run()]))
    second = Thread(target=lambda: found.update(two=run_all([run()], tmp_path, workers=0)[run()]))
    first.start()
    assert begun.wait(30)
    monkeypatch.setattr(one_batch, "decode_rows", lambda *_: pytest.fail("decoded twice"))
    second.start()
    said = ""
    while "waiting" not in said:
        said += capfd.readouterr().err
    go_on.set()
    for thread in (first, second):
        thread.join(30)
    name = file_id(run())
    assert f"the run {name} in {tmp_path} is in use by process {os.getpid()} on {platform.node()} since 2" in said
    assert found["one"] == found["two"] and len(found["one"]) == 10
    assert len(next(tmp_path.glob("*.jsonl")).read_text().splitlines()) == 10
    assert not list(tmp_path.glob("*.holder"))


def test_the_lock_of_a_killed_process_bars_nobody(tmp_path):
    path = tmp_path / f"{file_id(run())}.jsonl"
    for ending in (".lock", ".holder"):  # as a kill leaves them
        path.with_name(path.name + ending).write_text('{"pid": 1}')
    assert len(run_all([run()], tmp_path, workers=0)[run()]) == 10


def test_a_full_disk_loses_nothing_that_was_written(tmp_path):
    whole = run_all([run()], tmp_path / "whole", workers=0, batch_size=1)[run()]
    size = next((tmp_path / "whole").glob("*.jsonl")).stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))  # as a disk that is full there
    try:
        with pytest.raises(OSError) as error:
            run_all([run()], tmp_path / "full", workers=0, batch_size=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "make room" in lacking(error.value)
    path = next((tmp_path / "full").glob("*.jsonl"))
    kept = read_lines(path)
    assert 0 < len(kept) < 10
    again = run_all([run()], tmp_path / "full", workers=0, batch_size=1)[run()]
    assert equal(again) == equal(whole) and all(line in again for line in kept)


def test_a_finished_run_is_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    whole = run_all([run()], tmp_path, workers=0)[run()]
    for path in tmp_path.glob("*.lock"):
        path.unlink()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert run_all([run()], tmp_path, workers=0)[run()] == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == names, "nothing was written, a lock neither"


def test_a_finished_run_decodes_nothing(tmp_path, monkeypatch):
    run_all([run()], tmp_path, workers=0)
    monkeypatch.setattr(one_batch, "decode_rows", lambda *_: pytest.fail("decoded again"))
    assert len(run_all([run()], tmp_path, workers=0)[run()]) == 10


def test_a_larger_run_goes_on_from_a_smaller_one_and_the_other_way(tmp_path, monkeypatch):
    """Items and samples are a part of what a result is, and no part of what a response depends on."""
    large = replace(run(), items=7, samples=3)
    whole = run_all([large], tmp_path / "whole", workers=0)[large]
    small = run_all([run()], tmp_path / "grown", workers=0)[run()]
    assert run_id(large) != run_id(run()) and file_id(large) == file_id(run())
    grown = run_all([large], tmp_path / "grown", workers=0)[large]
    assert equal(grown) == equal(whole) and [line for line in grown if line in small] == small
    monkeypatch.setattr(one_batch, "decode_rows", lambda *_: pytest.fail("decoded again"))
    assert equal(run_all([run()], tmp_path / "whole", workers=0)[run()]) == equal(small)


def test_a_larger_and_a_smaller_run_asked_for_at_once_share_their_responses(tmp_path):
    more_items, more_samples = replace(run(), items=7, samples=1), replace(run(), items=3, samples=3)
    found = run_all([more_items, run(), more_samples], tmp_path, workers=0, batch_size=3)
    assert [len(lines) for lines in found.values()] == [7, 10, 9]
    (path,) = tmp_path.glob("*.jsonl")
    assert len(read_lines(path)) == 7 + 5 + 3, "none is decoded twice"
    alone = run_all([run()], tmp_path / "alone", workers=0)[run()]
    assert equal(found[run()]) == equal(alone)


def test_a_response_to_another_row_does_not_count(tmp_path):
    run_all([run()], tmp_path, workers=0)
    path = next(tmp_path.glob("*.jsonl"))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(lines[0]) | {"row": "other"}), *lines[1:], ""]))
    assert len(lines_of(run(), tmp_path)) == 9
    assert len(run_all([run()], tmp_path, workers=0)[run()]) == 10


def test_samples_differ_and_depend_on_the_seed():
    lines = one_batch.decode_rows(run(), [(0, 0), (0, 1)])
    other = one_batch.decode_rows(
        Run.of("tiny", TASK, "tolerator", 5, 2, seed=1, canvas=8, forwards=4), [(0, 0), (0, 1)]
    )
    assert lines[0]["text"] != lines[1]["text"] and lines[0]["text"] != other[0]["text"]


def variants():
    return {
        "plain": run(),
        "options": run(forwards=6),
        "method": run("vanilla"),
        "items": replace(run(), items=6),
        "samples": replace(run(), samples=3),
        "seed": replace(run(), seed=1),
        "split": replace(run(), split="validation"),
        "command": replace(run(), command="Be brief."),
    }


def test_a_run_is_named_by_what_was_asked_for_alone(monkeypatch):
    """In a result, so that the name outlives the code; a file of responses also says what decoded them."""
    runs = variants()
    assert run_id(run()) == run_id(run()) and len({run_id(one) for one in runs.values()}) == len(runs)
    names = {what: file_id(one) for what, one in runs.items()}
    assert names.pop("items") == names.pop("samples") == names["plain"] and len(set(names.values())) == len(names)
    name = run_id(run())
    family = identity.describe("tiny", "cpu")[0]
    for part, other in {"response_code": "other", "describe": (family, "other", "torch.float32")}.items():
        with monkeypatch.context() as changed:
            changed.setattr(identity, part, lambda *_, other=other: other)
            assert run_id(run()) == name and file_id(run()) != names["plain"]
    with monkeypatch.context() as changed:
        changed.setattr(identity, "score_code", lambda task: "other")
        assert run_id(run()) == name and file_id(run()) == names["plain"], "a scorer is no part of a response"


def test_a_stored_run_is_read_back():
    for one in variants().values():
        stored = json.loads(json.dumps(identity.identity(one)))
        assert run_of(stored["run"]) == one and stored == json.loads(json.dumps(identity.identity(one)))


def test_a_method_on_two_tasks_is_one_code_and_two_scorers():
    one, other = (identity.identity(Run.of("tiny", task, "vanilla", 2, steps=4)) for task in (TASK, "worded_math"))
    assert one["code"] == other["code"] and one["scores"] != other["scores"] and one["rows"] != other["rows"]


def test_a_field_at_its_default_is_no_part_of_an_identity():
    recorded = identity.identity(run())["run"]
    assert "command" not in recorded and "draft" not in recorded and recorded["samples"] == 2
    assert recorded["options"] == {"canvas": 8, "forwards": 4}
    assert run_id(replace(run(), command="Be brief.")) != run_id(run())


@pytest.mark.parametrize("model, method", [("study-ar", "autodeco"), ("study-ar-autodeco", "autoregressive")])
def test_heads_and_the_method_that_uses_them_go_together(model, method):
    with pytest.raises(UserError, match=f"{model} has .*heads.*{method} cannot run on it"):
        Run.of(model, TASK, method, items=1)


def test_a_command_stands_behind_the_prompt():
    assert commanded("How many?\n", "") == "How many?\n"
    assert commanded("How many?\n", "Be sure.") == "How many? Be sure.\n"
    assert commanded("def f():", "Be sure.") == "def f(): Be sure."


def test_joules_are_null_without_a_counter_and_shared_out_with_one(monkeypatch):
    (line,) = one_batch.decode_rows(run(), [(0, 0)])
    assert line["joules"] is None and line["seconds"] > 0

    class Monitor:
        """As zeus: the second window has no overlap with the first."""

        def begin_window(self, name):
            self.open = name

        def end_window(self, name):
            assert self.open == name
            return SimpleNamespace(total_energy=6.0)

    monkeypatch.setattr(cost, "_gpu_counter", lambda device: Monitor())
    lines = one_batch.decode_rows(run(), [(0, 0), (0, 1), (1, 0)])
    assert [line["joules"] for line in lines] == [2.0] * 3


def test_every_line_carries_quality_and_cost_and_null_for_what_was_not_measured(tmp_path):
    line = run_all([run()], tmp_path, workers=0)[run()][0]
    assert line["target_forwards"] == 4 and line["positions"] > 4 * 8 and line["seconds"] > 0
    assert line["draft_forwards"] is None and line["joules"] is None


def test_pending_orders_by_length_and_covers_each_row_once(tmp_path):
    batches = pending(run(), [], 3)
    rows = [row for batch in batches for row in batch]
    assert sorted(rows) == [(i, s) for i in range(5) for s in range(2)]


def test_bad_runs_name_their_cure():
    with pytest.raises(UserError, match="no option 'step'"):
        Run.of("tiny", TASK, "vanilla", 5, step=4)
    with pytest.raises(UserError, match="country_facts"):
        Run.of("tiny", "countries", "vanilla", 5, steps=4)


@pytest.mark.slow
def test_two_processes_give_the_same_lines(tmp_path, monkeypatch):
    """Real worker processes: they load the model by name, so this needs a committed checkpoint."""
    from lib.models.registry import CHECKPOINTS, describe, load

    if not (CHECKPOINTS / "study-dlm" / "model.safetensors").exists():
        pytest.skip("no committed checkpoint")
    monkeypatch.setattr(one_batch, "model_of", one_batch.cache(lambda name, device: load(name, device)))
    monkeypatch.setattr(identity, "describe", describe)
    real = Run.of("study-dlm", TASK, "vanilla", items=6, steps=4)
    torch.set_num_threads(1)
    one = run_all([real], tmp_path / "one", workers=0, batch_size=6)[real]
    two = run_all([real], tmp_path / "two", workers=2, batch_size=2)[real]
    assert equal(one) == equal(two)


def test_free_memory_is_what_a_container_and_a_limit_leave(tmp_path, monkeypatch):
    available = memory.free("cpu")
    assert available > 1 << 20
    assert memory._container(tmp_path) == []
    files = {"memory.max": "max\n", "memory.current": "700\n", "memory.stat": "anon 5\ninactive_file 100\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert memory._container(tmp_path) == []
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory._container(tmp_path) == [400]
    monkeypatch.setattr(memory, "_container", lambda: [4096])
    assert memory.free("cpu") == 4096
    monkeypatch.setattr(memory, "_limit", lambda: [-5])
    assert memory.free("cpu") == 0
