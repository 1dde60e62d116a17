"""A folder of weights with its card on its way to the hub."""

import tempfile
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from lib.errors import UserError, redacted, require_known, why
from lib.models.cards import NAME, Known, tags_of, write

# Kinds of files that belong to a model; others in a folder may be anything, a secret among it.
KINDS = (".safetensors", ".json", ".jsonl", ".md", ".txt", ".jinja", ".model")


class Publishes:
    """Mixin of what has a `save_pretrained` that writes a card: its `push_to_hub`."""

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license: str | None = None,
        tags: list[str] | None = None,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        max_shard_size=None,
        **saving,
    ) -> str:
        """Send what `save_pretrained` writes, its card included, in one commit; returns the commit's address.

        The card replaces that of the repository. `license`: the hub's id of one, such as `mit`. `saving`:
        `base_revision`, of heads. The weights are one file, whatever `max_shard_size`. Raises UserError as
        `publish` does.
        """
        require_id(repo_id)
        require_known("argument of push_to_hub", saving, ("base_revision",))
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, **saving)
            name = repo_id.rpartition("/")[2]
            write(Path(folder), Known(name=name, licence=license, place=repo_id, tags=tuple(tags or ())))
            sending = {"commit_message": commit_message, "commit_description": commit_description}
            sending |= {"private": private, "token": token, "revision": revision, "create_pr": create_pr}
            return publish(folder, repo_id, **sending)


def publish(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: bool | str | None = None,
    **commit,
) -> str:
    """Send a folder of weights with a card to a repository of the hub, which is made where there is none.

    `commit`: revision (a branch, made where there is none), create_pr, commit_message, commit_description. Returns
    the commit's address. Raises UserError for a folder without weights or a card, with files of other kinds, and for
    what the hub refuses; a token is never in its words.
    """
    require_id(repo_id)
    require_model(Path(folder))
    try:
        api = huggingface_hub.HfApi(token=token)
        sent_to = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        commit = {key: value for key, value in commit.items() if value}
        if "revision" in commit and not commit["revision"].startswith("refs/pr/"):
            api.create_branch(sent_to, branch=commit["revision"], exist_ok=True)
        return str(api.upload_folder(repo_id=sent_to, folder_path=str(folder), **commit).commit_url)
    except Exception as error:  # the hub raises many kinds, whose words may hold a token
        words = redacted(why(error))
        if isinstance(token, str) and token:
            words = words.replace(token, "[token]")
    raise UserError(
        f"nothing was sent to {repo_id} ({words}): connect, and `hf auth login` as one who may write there"
    )


def require_id(repo_id: str) -> None:
    """UserError for what is no name of a repository on the hub."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"{repo_id!r} is no id of the hub: name a repository as user/name") from error


def require_model(folder: Path) -> None:
    """UserError for a folder that is no model with its card and nothing else: all of it is sent."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: name one that save_pretrained wrote")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    if not any(name.endswith(".safetensors") for name in names):
        raise UserError(f"{folder} holds no weights (*.safetensors): save a model there first")
    if NAME not in names or tags_of(folder / NAME) is None:
        raise UserError(f"{folder} has no model card: save_pretrained writes {NAME}, lib.models.cards.write too")
    for name in names:
        if Path(name).suffix not in KINDS or any(part.startswith(".") for part in Path(name).parts):
            raise UserError(f"{folder / name} is no file of a model: move it away, for all of the folder is sent")
