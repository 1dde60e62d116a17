"""A repository of the hub as a folder here, and in a line why it cannot be had."""

from pathlib import Path

from lib.errors import UserError, why


def local_copy(source: str | Path, revision: str | None = None) -> Path:
    """A folder of weights of this library as it is, or the local copy of a hub repository, at `main` by default.

    Raises UserError for what is neither, in a line with the cure.
    """
    if Path(source).is_dir():
        if revision:
            raise UserError(f"{source} is a folder, which has no revision {revision}: leave revision out")
        return Path(source)
    from huggingface_hub import constants, errors, snapshot_download
    from huggingface_hub.file_download import repo_folder_name

    try:
        return Path(snapshot_download(str(source), revision=revision, allow_patterns=["*.json*", "*.safetensors"]))
    except errors.HFValidationError as error:
        raise UserError(f"{source} is no folder here, and no id of the hub, which is like user/name") from error
    except errors.LocalEntryNotFoundError as error:
        reason = f"{source} is no folder here, and not in the hub's cache"
        if (Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=str(source), repo_type="model")).is_dir():
            reason = f"{source} has no revision {revision or 'main'} in the hub's cache"
        raise UserError(f"{reason}, and the hub cannot be reached: check the name, or connect") from error
    except Exception as error:  # the hub raises many kinds
        for kind, line in refusals(str(source), revision or "main", "revision="):
            if isinstance(error, kind):
                raise UserError(line) from error
        raise UserError(f"{source} cannot be had from the hub ({why(error)}): `hf auth login`, or connect") from error


def refusals(source: str, revision: str, where: str) -> tuple[tuple[type[Exception], str], ...]:
    """What the hub says, the kind of error before its base, and what it means; `where` another revision is named."""
    from huggingface_hub import errors

    return (
        (errors.GatedRepoError, f"{source} is gated: ask for access at its page of the hub, then `hf auth login`"),
        (errors.RevisionNotFoundError, f"{source} has no revision {revision}: name another in {where}"),
        (errors.RepositoryNotFoundError, f"the hub shows no {source}: `hf auth login` as one who may read it"),
    )
