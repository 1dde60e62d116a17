"""The registry: families as data, and each way a checkpoint can be missing or broken as one clear line."""

import json
import shutil

import pytest
import torch
from conftest import tiny
from safetensors.torch import save_file

from lib.errors import UserError
from lib.models import registry
from lib.models.canvas import canvas_logits, position_ids
from lib.models.registry import FAMILIES, MODELS, load
from lib.models.study import build_model, build_tokenizer


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """A folder as training writes it."""
    monkeypatch.setattr(registry, "CHECKPOINTS", tmp_path)
    build_tokenizer(["What is 12 + 3?\n", "def f(x):\n"]).save_pretrained(tmp_path / "tokenizer")
    torch.manual_seed(0)
    model = build_model("study-draft")
    folder = tmp_path / "study-draft"
    folder.mkdir()
    weights = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    return tmp_path


def test_a_checkpoint_loads_with_its_tied_head(checkpoints):
    model = load("study-draft")
    assert model.network.lm_head.weight is model.network.model.embed_tokens.weight
    assert next(model.network.parameters()).dtype == torch.float32 and len(model.fingerprint) == 16
    ids, mask = model.encode(["What is 12?\n", "12\n"])
    assert ids.shape == mask.shape and mask[1, 0] == 0 and mask[:, -1].all()


def test_missing_checkpoint(checkpoints):
    shutil.rmtree(checkpoints / "study-draft")
    with pytest.raises(UserError, match="no checkpoint at .*make train"):
        load("study-draft")


@pytest.mark.parametrize("keep", [0, 7, 5000])
def test_corrupt_weights(checkpoints, keep):
    path = checkpoints / "study-draft" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="is corrupt.*make train"):
        load("study-draft")


def test_weights_of_another_shape(checkpoints):
    path = checkpoints / "study-draft" / "config.json"
    config = json.loads(path.read_text()) | {"num_hidden_layers": 3}
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match="does not fit its config"):
        load("study-draft")


def test_unknown_model_lists_the_known():
    with pytest.raises(UserError, match="study-ar"):
        load("study-xl")


def test_the_registry_is_whole():
    assert {entry.tier for entry in MODELS.values()} == {"study", "small", "paper"}
    assert all(entry.family in FAMILIES and name == entry.name for name, entry in MODELS.items())
    assert FAMILIES["llada"].eot_ids[0] == 126081 and not FAMILIES["llada"].shift
    assert FAMILIES["dream"].mask_id == 151666 and FAMILIES["dream"].shift


def test_positions_skip_the_padding():
    assert position_ids(torch.tensor([[0, 0, 1, 1, 1]])).tolist() == [[0, 0, 0, 1, 2]]


@pytest.mark.parametrize("shift", [True, False])
def test_canvas_logits_are_those_of_the_whole_sequence(shift):
    model = tiny()
    ids = torch.randint(3, 24, (2, 9))
    mask = torch.ones_like(ids)
    whole = model(input_ids=ids, attention_mask=mask[:, None, None].bool().expand(2, 1, 9, 9)).logits
    ours = canvas_logits(model, ids, mask, 4, shift=shift, explicit=True)
    assert torch.allclose(ours, whole[:, 4:8] if shift else whole[:, 5:9], atol=1e-5)


def test_a_shifted_model_needs_a_prompt():
    ids = torch.ones(1, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="at least one prompt token"):
        canvas_logits(tiny(), ids, ids, 4, shift=True, explicit=True)
