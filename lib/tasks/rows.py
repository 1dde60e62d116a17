"""Rows of public data sets: from a folder of JSON Lines (`DATA_DIR`), from `data/` here, or from the hub."""

import os
from pathlib import Path

from lib.errors import UserError

COMMITTED = Path(__file__).parent / "data"  # see its SOURCES.md


def load_rows(hub_id: str, config: str | None, split: str, file: str, revision: str | None = None) -> list[dict]:
    """The rows of one split, in order, with the field names of the hub.

    With DATA_DIR set they are the lines of `$DATA_DIR/<file>`, else those committed here, and where there are none
    they come from the hub at `revision` (None: the newest). Raises UserError where that one place does not have
    them: no other is tried.
    """
    folder, here = os.environ.get("DATA_DIR"), COMMITTED / f"{file}.gz"
    path = Path(folder, file) if folder else here if here.is_file() else None
    if path and not path.is_file():
        raise UserError(f"no file {path}: put {hub_id} ({split}) there as JSON Lines, or unset DATA_DIR")
    import datasets  # imported late: it takes seconds

    datasets.disable_progress_bars()
    try:
        if path:
            return datasets.load_dataset("json", data_files=str(path), split="train").to_list()
        return datasets.load_dataset(hub_id, config, split=split, revision=revision).to_list()
    except Exception as error:  # `datasets` raises many kinds, from three libraries
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        if path:
            raise UserError(f"{path} is not JSON Lines with one set of fields: {reason}") from error
        raise UserError(
            f"{hub_id} (split {split}) did not load from the Hugging Face hub: set DATA_DIR to a folder with "
            f"{file} ({reason})"
        ) from error
