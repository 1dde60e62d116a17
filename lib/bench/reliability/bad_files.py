"""Damaged files: checkpoints, states of a training, run files; each a call on an empty folder, to be refused."""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

from lib.paths import CHECKPOINTS

Damage = Callable[[bytes], bytes]
WEIGHTS, CONFIG, HEADS = "model.safetensors", "config.json", "autodeco_heads.safetensors"


def damaged() -> Iterator[tuple[str, Callable[[Path], object], tuple[str, ...]]]:
    """(name, call, what the line must hold)."""
    for name, model, file, damage, words in CHECKPOINT:
        yield f"checkpoint-{name}", partial(_load, model, file, damage), (*words, "git checkout")
    for name, file, damage, words in OF_HEADS:
        yield f"heads-{name}", partial(_load, "study-ar-autodeco", f"study-ar-autodeco/{file}", damage), words
    for name, damage, words in STATE:
        yield f"state-{name}", partial(_resume, damage), ("heads.pt", "remove it", *words)
        yield f"study-state-{name}", partial(_resume_study, damage), ("state.pt", "remove it", *words)
    for name, damage, words in CURVE:
        yield f"curve-{name}", partial(_resume_study, _without("curve"), curve=damage), ("curve.jsonl", *words)
    for name, change, words in LINES:
        yield f"run-{name}", partial(_read_run, change), ("run.jsonl", *words)


def _set(**values) -> Damage:
    """The object with other values; ... takes a field out."""

    def change(raw: bytes) -> bytes:
        return json.dumps({k: v for k, v in (json.loads(raw) | values).items() if v is not ...}).encode()

    return change


def _flipped(raw: bytes, place: float = 0.5) -> bytes:
    at = int(len(raw) * place)
    return raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :]


def _cut(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def _with_nan(raw: bytes) -> bytes:
    return raw[:-2] + b"\xff\xff"  # the last bfloat16


def _empty(raw: bytes) -> bytes:
    return b""


def _is(raw: bytes) -> Damage:
    return lambda _: raw


def _load(model: str, file: str, damage: Damage, folder: Path) -> object:
    """Load a committed model of which one file is damaged; the others are links to the committed ones."""
    from lib.models import registry

    for path in CHECKPOINTS.iterdir():
        (folder / path.name).symlink_to(path)
    own, _, name = file.partition("/")
    (folder / own).unlink()
    shutil.copytree(CHECKPOINTS / own, folder / own)
    path = folder / own / name
    path.write_bytes(damage(path.read_bytes()))
    with patch.object(registry, "CHECKPOINTS", folder):
        return registry.load(model)


DRAFT = "study-draft"
CHECKPOINT = [
    ("weights-cut", DRAFT, f"{DRAFT}/{WEIGHTS}", _cut, (WEIGHTS, "corrupt")),
    ("weights-empty", DRAFT, f"{DRAFT}/{WEIGHTS}", _empty, (WEIGHTS, "corrupt")),
    ("weights-nan", DRAFT, f"{DRAFT}/{WEIGHTS}", _with_nan, (WEIGHTS, "no finite number")),
    ("weights-header", DRAFT, f"{DRAFT}/{WEIGHTS}", _is(b"\xff" * 64), (WEIGHTS, "corrupt")),
    ("config-cut", DRAFT, f"{DRAFT}/{CONFIG}", _cut, (CONFIG, "not JSON")),
    ("config-empty-object", DRAFT, f"{DRAFT}/{CONFIG}", _is(b"{}"), (CONFIG, "model_type is missing")),
    ("config-list", DRAFT, f"{DRAFT}/{CONFIG}", _is(b"[]"), (CONFIG, "must be")),
    ("config-utf16", DRAFT, f"{DRAFT}/{CONFIG}", _is("{}".encode("utf-16")), (CONFIG, "not JSON")),
    ("config-size-of-text", DRAFT, f"{DRAFT}/{CONFIG}", _set(hidden_size="128"), (CONFIG, "hidden_size")),
    ("config-size-0", DRAFT, f"{DRAFT}/{CONFIG}", _set(hidden_size=0), (CONFIG, "hidden_size")),
    ("config-no-size", DRAFT, f"{DRAFT}/{CONFIG}", _set(hidden_size=...), (CONFIG, "hidden_size is missing")),
    ("config-other-size", DRAFT, f"{DRAFT}/{CONFIG}", _set(hidden_size=256), (WEIGHTS, "does not fit")),
    ("config-many-layers", DRAFT, f"{DRAFT}/{CONFIG}", _set(num_hidden_layers=999_999), (WEIGHTS, "does not fit")),
    ("config-untied", DRAFT, f"{DRAFT}/{CONFIG}", _set(tie_word_embeddings=False), (WEIGHTS, "does not fit")),
    ("config-heads-that-do-not-divide", DRAFT, f"{DRAFT}/{CONFIG}", _set(num_attention_heads=3), (DRAFT,)),
    ("config-activation", DRAFT, f"{DRAFT}/{CONFIG}", _set(hidden_act="none"), (CONFIG, "makes no network")),
    ("config-another-family", DRAFT, f"{DRAFT}/{CONFIG}", _set(model_type="gpt2"), (CONFIG, "model_type")),
    ("tokenizer-cut", DRAFT, "tokenizer/tokenizer.json", _cut, ("tokenizer",)),
    ("tokenizer-empty", DRAFT, "tokenizer/tokenizer.json", _empty, ("tokenizer",)),
    ("tokenizer-empty-object", DRAFT, "tokenizer/tokenizer.json", _is(b"{}"), ("tokenizer",)),
    ("tokenizer-config-empty", DRAFT, "tokenizer/tokenizer_config.json", _empty, ("tokenizer",)),
    ("tokenizer-config-empty-object", DRAFT, "tokenizer/tokenizer_config.json", _is(b"{}"), ("tokenizer",)),
]
OF_HEADS = [
    ("weights-cut", HEADS, _cut, (HEADS, "corrupt")),
    ("weights-empty", HEADS, _empty, (HEADS, "corrupt")),
    ("config-empty-object", CONFIG, _is(b"{}"), (CONFIG, "model_type is missing")),
    ("config-cut", CONFIG, _cut, (CONFIG, "not JSON")),
    ("config-another-kind", CONFIG, _set(model_type="llama"), (CONFIG, "model_type")),
    ("config-both-off", CONFIG, _set(enable_temperature_head=False, enable_top_p_head=False), (CONFIG, "both heads")),
    ("config-hottest-of-text", CONFIG, _set(hottest="2"), (CONFIG, "hottest")),
    ("config-hottest-0", CONFIG, _set(hottest=0), (CONFIG, "hottest")),
    ("config-truth-of-text", CONFIG, _set(use_enhanced_features="no"), (CONFIG, "use_enhanced_features")),
    ("config-no-statistics", CONFIG, _set(use_enhanced_features=False), ("study-ar-autodeco", "takes")),
    ("of-another-base", CONFIG, _set(base_fingerprint="0" * 16), ("study-ar-autodeco", "another base")),
]


def _resume(damage: Damage, folder: Path) -> object:
    """A training of a few weights, killed after ten steps, its state damaged, started again."""
    import torch

    from lib.training.optimise import optimise

    def train(steps: int):
        torch.manual_seed(0)
        layer = torch.nn.Linear(64, 64)
        given = {"learning_rate": 0.1, "path": folder / "heads.pt", "key": "a", "every": 10}
        return optimise(lambda step: (layer(torch.ones(64)).square().mean(), {}), {"l": layer}, steps=steps, **given)

    train(10)
    path = folder / "heads.pt"
    path.write_bytes(damage(path.read_bytes()))
    return train(20)


def _resume_study(damage: Damage, folder: Path, curve: Damage | None = None) -> object:
    """The same of a study model, up to the first step after; with `curve` the file beside an older state damaged."""
    import torch

    from lib.models.study import build_model
    from lib.training.study import loop
    from lib.training.study.recipe import RECIPES

    recipe, model = RECIPES["study-draft"], build_model("draft")
    optimiser = torch.optim.AdamW(model.parameters())
    loop._save(folder, recipe, model, optimiser, 10, [{"step": 10, "loss": 1.0, "learning_rate": 0.1}])
    if curve:
        (folder / "curve.jsonl").write_bytes(curve((folder / "curve.jsonl").read_bytes()))
    path = folder / "state.pt"
    path.write_bytes(damage(path.read_bytes()))
    return loop._resume(folder, recipe, model, optimiser)


def _pickled(raw: bytes) -> bytes:
    import pickle

    return pickle.dumps({"step": 10})


def _without(field: str) -> Damage:
    def change(raw: bytes) -> bytes:
        import io

        import torch

        state, out = torch.load(io.BytesIO(raw), weights_only=True), io.BytesIO()
        state.pop(field)
        torch.save(state, out)
        return out.getvalue()

    return change


STATE = [
    ("flipped", _flipped, ("damaged",)),
    ("flipped-early", partial(_flipped, place=0.2), ("damaged",)),
    ("flipped-late", partial(_flipped, place=0.8), ("damaged",)),
    ("cut", _cut, ("damaged",)),
    ("empty", _empty, ("damaged",)),
    ("text", _is(b"state\n"), ("damaged",)),
    ("pickle", _pickled, ("damaged",)),
    ("checksum-flipped", partial(_flipped, place=1 - 1e-9), ("damaged",)),
    ("no-step", _without("step"), ("step is missing",)),
]
CURVE = [  # which a state of an earlier version needs
    ("empty", _empty, ("every ten", "remove the folder")),
    ("cut", _cut, ("line 1", "not JSON", "remove the folder")),
    ("of-another-step", _set(step=20), ("every ten", "remove the folder")),
    ("loss-of-text", _set(loss="low"), ("line 1", "loss", "remove the folder")),
]
LINE = {
    "item": "a/0",
    "row": "01234567",
    "sample": 0,
    "correct": 1,
    "status": "ok",
    "answer": "1",
    "text": "1",
    "target_forwards": 4,
    "positions": 40,
    "head_positions": 4,
    "tokens_kept": 3,
    "draft_forwards": None,
    "draft_positions": None,
    "seconds": 0.1,
    "joules": None,
}


def _read_run(change: Damage, folder: Path) -> object:
    """A run's file of three responses, the second damaged."""
    from lib.running.lines import read_lines

    lines = [json.dumps(LINE | {"sample": i}).encode() for i in range(3)]
    lines[1] = change(lines[1])
    (folder / "run.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return read_lines(folder / "run.jsonl")


LINES = [
    ("garbage", _is(b"garbage"), ("line 2", "not JSON", "remove that line")),
    ("half-a-line", _cut, ("line 2", "not JSON", "remove that line")),
    ("nul", lambda raw: b"\0" * len(raw), ("line 2", "not JSON", "remove that line")),
    ("gzip", _is(b"\x1f\x8b\x08\x00abc"), ("line 2", "not JSON", "remove that line")),
    ("list", _is(b"[]"), ("line 2", "remove that line")),
    ("null", _is(b"null"), ("line 2", "remove that line")),
    ("correct-of-text", _set(correct="yes"), ("line 2", "correct")),
    ("correct-2", _set(correct=2), ("line 2", "correct")),
    ("no-text", _set(text=...), ("line 2", "text is missing")),
    ("no-item", _set(item=...), ("line 2", "item is missing")),
    ("sample-of-text", _set(sample="1"), ("line 2", "sample")),
    ("a-negative-sample", _set(sample=-1), ("line 2", "sample")),
    ("tokens-of-text", _set(tokens_kept="3"), ("line 2", "tokens_kept")),
    ("seconds-of-text", _set(seconds="fast"), ("line 2", "seconds")),
    ("row-twice-and-different", _set(sample=0, text="2"), ("line 2", "line 1", "differ")),
]
