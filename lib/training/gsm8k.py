"""`python -m lib.training.gsm8k`: SmolLM2 fine-tuned on GSM8K's training questions, by a low-rank adapter.

As it comes SmolLM2-135M answers next to none of GSM8K's questions, so that no rule of decoding can show there. The
test questions, and the last 500 of the training file, are not trained on.
"""

import json
import random
import re
import sys
from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib.decoding.options import Options
from lib.errors import exit_status
from lib.models.cards import write
from lib.models.registry import Model, entry_of, load
from lib.paths import BUILD, CHECKPOINTS
from lib.running.cost import device_name
from lib.running.identity import digest_of
from lib.tasks.base import Item
from lib.tasks.gsm8k import TASK
from lib.training.autodeco.hidden_states import response_states
from lib.training.cards import known
from lib.training.optimise import optimise

NAME = "smollm2-gsm8k"
HELD_OUT = 64  # questions of the validation rows, for the curve


@dataclass(frozen=True)
class FineTuning(Options):
    """rank: of the adapter of every linear layer. questions: a step. The learning rate falls over the second half."""

    rank: int = 8
    steps: int = 660
    questions: int = 32
    learning_rate: float = 1e-3
    seed: int = 0

    def check(self) -> None:
        for name in ("rank", "steps", "questions"):
            self.require(name, getattr(self, name) >= 1, "1 or more")
        self.require("learning_rate", self.learning_rate > 0, "above 0")


def answer(item: Item) -> str:
    """The worked answer of a row, without the calculator's notes `<<48/2=24>>`."""
    return re.sub(r"<<[^>]*>>", "", item.target)


def rows_of(model: Model, items: list[Item]) -> list[tuple[str, list[int]]]:
    """(question as it is asked, answer ids with EoT)."""
    end = model.family.eot_ids[0]
    return [
        (TASK.instruction + item.prompt, [*model.tokenizer.encode(answer(item), add_special_tokens=False), end])
        for item in items
    ]


def loss_on(model: Model, rows: list[tuple[str, list[int]]]) -> Tensor:
    """Cross-entropy of the answers' tokens, a mean over them."""
    hidden, tokens = response_states(model, rows)
    return torch.nn.functional.cross_entropy(model.network.get_output_embeddings()(hidden).float(), tokens)


def train(recipe: FineTuning, device: str) -> None:
    """Train the adapter and write it into results/checkpoints; a killed run goes on."""
    model = load(entry_of(NAME).base, device, torch.float32)
    torch.manual_seed(recipe.seed)
    low_rank = LoraConfig(r=recipe.rank, lora_alpha=2 * recipe.rank, target_modules="all-linear")
    network = get_peft_model(model.network, low_rank)
    rows, held_out = (
        sorted(rows_of(model, TASK.items(split, n)), key=lambda row: len(row[0]) + len(row[1]))
        for split, n in (("train", 1_000_000), ("validation", HELD_OUT))
    )
    half = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=device != "cpu")

    def loss_at(step: int) -> tuple[Tensor, dict]:
        chooser = random.Random(f"{recipe.seed}/{step}")
        first = chooser.randrange(len(rows) - 4 * recipe.questions + 1)  # of like length: less padding
        chosen = chooser.sample(rows[first : first + 4 * recipe.questions], recipe.questions)
        shown = {}
        with half:
            if (step + 1) % 60 == 0:
                with torch.no_grad():
                    shown["held_out"] = loss_on(model, held_out).item()
            return loss_on(model, chosen), shown

    key = json.dumps([recipe.to_dict(), rows])
    path = BUILD / "gsm8k" / digest_of(recipe.to_dict()) / "adapter.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    given = {"steps": recipe.steps, "learning_rate": recipe.learning_rate, "path": path}
    curve, seconds = optimise(loss_at, {"adapter": network}, key=key, device=device, **given)
    export(
        network, recipe, curve, {"questions": len(rows), "seconds": round(seconds, 1), "device": device_name(device)}
    )


def export(network, recipe: FineTuning, curve: list[dict], measured: dict) -> None:
    """The adapter in float16, in the form of `peft`; its recipe, curve and card."""
    folder = CHECKPOINTS / NAME
    network.save_pretrained(folder)
    path = folder / "adapter_model.safetensors"
    save_file({key: value.half() for key, value in load_file(path).items()}, path, metadata={"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"].sort()  # peft writes a set, each time in another order
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name, value in (("recipe", recipe.to_dict()), ("measured", measured)):
        (folder / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")
    (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve))
    (folder / "README.md").unlink(missing_ok=True)  # peft's own
    write(folder, known(NAME, folder))


if __name__ == "__main__":
    sys.exit(exit_status(lambda: train(FineTuning(), "cuda" if torch.cuda.is_available() else "cpu")))
