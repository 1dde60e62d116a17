"""Every file is checked when it is read: bad input ends in one line, and good input passes."""

import json
import struct
import zipfile

import pytest
import torch

from lib.bench.reliability import inputs
from lib.bench.reliability.bad_rows import FILES, GOOD
from lib.errors import UserError
from lib.models import smollm2
from lib.models.study import build_model
from lib.paths import CHECKPOINTS, NOTEBOOKS, PARAMS
from lib.reporting.profiles import sections_of
from lib.reporting.render import parameters
from lib.studies import STUDIES, checkpoints, study_of
from lib.tasks import TASKS, spider
from lib.tasks.row_shapes import SHAPES
from lib.tasks.rows import COMMITTED, load_rows
from lib.training.optimise import State, optimise
from lib.training.state import read_state
from lib.training.study import loop
from lib.training.study.recipe import RECIPES

CASES = {case.name: case for case in inputs.cases()}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_ends_in_one_line(name, tmp_path):
    CASES[name].check(tmp_path)


def test_cases_tell_a_line_from_silence_and_from_a_raw_error():
    with pytest.raises(AssertionError, match="without a word"):
        inputs.in_one_line(lambda: None, ())
    with pytest.raises(KeyError):
        inputs.in_one_line(lambda: {}["a"], ())

    def fails(text):
        raise UserError(text)

    for text in ("two\nlines", "x" * 2000, "another field"):
        with pytest.raises(AssertionError):
            inputs.in_one_line(lambda text=text: fails(text), ("field a",))
    inputs.in_one_line(lambda: fails("field a: correct it"), ("field a",))


def trained(path, steps):
    """Weights after so many steps; the state goes to `path`."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 4)
    given = {"learning_rate": 0.1, "path": path, "key": "a", "every": 10}
    curve, _ = optimise(lambda step: (layer(torch.ones(4)).square().sum(), {}), {"l": layer}, steps=steps, **given)
    return layer.weight.detach(), curve


def test_no_flipped_bit_of_a_state_goes_on_as_another_training(tmp_path):
    """Of bytes all over the file, the directory of the archive and padding among them."""
    path = tmp_path / "heads.pt"
    trained(path, 10)
    good = path.read_bytes()
    for at in range(0, len(good), 7):
        path.write_bytes(good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :])
        with pytest.raises(UserError, match="remove it to train anew"):
            read_state(path, State)
    path.write_bytes(good)
    assert read_state(path, State)["step"] == 10


def test_the_curve_is_that_of_the_state_whatever_lies_beside_it(tmp_path):
    recipe, model = RECIPES["study-draft"], build_model("draft")
    optimiser = torch.optim.AdamW(model.parameters())
    curve = [{"step": step, "loss": 1.0, "learning_rate": 0.1} for step in (10, 20)]
    loop._save(tmp_path, recipe, model, optimiser, 20, curve)
    beside = tmp_path / "curve.jsonl"
    written = beside.read_text()
    for damage in (beside.unlink, lambda: beside.write_text("{"), lambda: beside.write_text(written + written)):
        damage()
        assert loop._resume(tmp_path, recipe, model, optimiser) == (20, curve)
        assert beside.read_text() == written
    other = build_model("6m")
    with pytest.raises(UserError, match="another network"):
        loop._resume(tmp_path, recipe, other, torch.optim.AdamW(other.parameters()))


def test_a_state_of_an_earlier_version_goes_on_and_its_parts_are_checked(tmp_path):
    """What torch.save wrote, without a hash: a part that changed is named."""
    path = tmp_path / "heads.pt"
    trained(path, 10)
    torch.save(torch.load(path, weights_only=True), path)
    good = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        part = next(info for info in archive.infolist() if info.filename.endswith("/data/0"))
    assert read_state(path, State)["step"] == 10
    name, padding = struct.unpack_from("<HH", good, part.header_offset + 26)
    good[part.header_offset + 30 + name + padding] ^= 1  # the first byte of a tensor
    path.write_bytes(good)
    with pytest.raises(UserError, match=f"the checksum of {part.filename} does not hold"):
        read_state(path, State)


def test_the_curve_of_a_state_of_an_earlier_version_is_that_beside_it(tmp_path):
    recipe, model = RECIPES["study-draft"], build_model("draft")
    optimiser = torch.optim.AdamW(model.parameters())
    curve = [{"step": step, "loss": 1.0, "learning_rate": 0.1} for step in (10, 20, 30)]
    loop._save(tmp_path, recipe, model, optimiser, 20, curve)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    state.pop("curve")
    torch.save(state, tmp_path / "state.pt")
    assert loop._resume(tmp_path, recipe, model, optimiser) == (20, curve[:2])


def test_every_profile_and_every_committed_row_curve_and_record_is_read(monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    for path in PARAMS.glob("*.yaml"):
        sections_of(path)
        for name in STUDIES:
            study_of(name).of(parameters(NOTEBOOKS / f"{name}.ipynb", path.stem))
    for path in COMMITTED.glob("*.jsonl.gz"):
        assert path.name[:-3] in SHAPES and load_rows("", None, "", path.name[:-3])
    for path in CHECKPOINTS.glob("*/curve.jsonl"):
        assert len(checkpoints.learning_curve(path.parent.name)) > 1
    for path in CHECKPOINTS.glob("*-autodeco/measured.json"):
        assert checkpoints.training_record(path.parent.name)["positions"] > 0


@pytest.mark.parametrize("task", FILES)
def test_good_rows_are_taken_with_blank_lines_and_fields_of_their_own(task, tmp_path, monkeypatch):
    """The ground of the bad ones: each differs from this in one thing."""
    spider.schemas.cache_clear()
    spider.schemas()
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    (tmp_path / FILES[task]).write_text(f"\n{json.dumps(GOOD[task] | {'level': 'easy'})}\n\n", encoding="utf-8-sig")
    assert len(TASKS[task].items("test")) == 1


@pytest.mark.parametrize(
    "file, raw, words",
    [
        ("curve.jsonl", None, "no learning curve"),
        ("curve.jsonl", b"", "no learning curve"),
        ("curve.jsonl", b'{"step": 10, "loss": 1.0}\n{"step": 20', "line 2"),
        ("curve.jsonl", b'{"step": 10, "loss": "low"}\n', "loss"),
        ("curve.jsonl", b'{"step": 10, "loss": NaN}\n', "NaN"),
        ("curve.jsonl", b'{"step": 10, "loss": 1.0, "top_p": "high"}\n', "top_p"),
        ("measured.json", None, "cannot be read"),
        ("measured.json", b"{}", "positions is missing"),
        ("measured.json", b'{"positions": 3, "seconds": -1.0, "device": "cpu"}', "seconds"),
    ],
)
def test_what_lies_beside_weights_is_checked(file, raw, words, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", tmp_path)
    (tmp_path / "heads").mkdir()
    if raw is not None:
        (tmp_path / "heads" / file).write_bytes(raw)
    with pytest.raises(UserError, match=f"{file}.*{words}.*git checkout|{words}.*{file}.*git checkout"):
        (checkpoints.learning_curve if file == "curve.jsonl" else checkpoints.training_record)("heads")


def test_the_cache_of_smollm2_is_checked_bit_by_bit(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    hashes = {"model.safetensors": smollm2._hash(tmp_path / "model.safetensors")}
    (tmp_path / smollm2.HASHES).write_text(json.dumps(hashes))
    assert smollm2._changed(tmp_path) == ""
    (tmp_path / "model.safetensors").write_bytes(b"weighus")
    assert smollm2._changed(tmp_path) == "model.safetensors"
    (tmp_path / smollm2.HASHES).write_text("[]")
    assert smollm2._changed(tmp_path) == smollm2.HASHES


def test_an_empty_list_is_taken_where_it_means_something():
    study = study_of("34_mtad_speed")
    assert study.of({"elsewhere": []}).elsewhere == ()
    with pytest.raises(UserError, match="tasks must name one at least"):
        study.of({"tasks": []})
