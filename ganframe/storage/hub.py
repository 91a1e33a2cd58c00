"""Hugging Face's hub: folders of published models by names such as hf://owner/name, or hf://owner/name@revision."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ganframe.errors import RequestError
from ganframe.storage.files import first_line

FILES = (
    "*.safetensors",
    "recipe.toml",
    "environment.json",
    "scheme.json",
    "evaluations.jsonl",
    "README.md",
    "samples.png",
)
"""What a published folder has, and all that is fetched of a repository: data, and no code."""
NAME = re.compile(r"hf:/{1,2}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?/?")  # a Path has one slash


def is_hub_name(path: str | Path) -> bool:
    return re.match(r"hf:/", str(path)) is not None


def repository(name: str | Path) -> tuple[str, str | None]:
    """owner/name and the revision, None where none is given. Raises RequestError where a name has another form."""
    found = NAME.fullmatch(str(name))
    if found is None:
        raise RequestError(f"{name}: write it as hf://owner/name, or hf://owner/name@revision")
    return found[1], found[2]


def fetched(name: str | Path) -> Path:
    """The folder of a published model, fetched into the hub's cache, which is used again where nothing has changed.

    Raises RequestError where there is none, or no connection and no earlier copy.
    """
    from huggingface_hub import snapshot_download

    owner_and_name, revision = repository(name)
    with _one_line(str(name), "fetched"):
        return Path(snapshot_download(owner_and_name, revision=revision, allow_patterns=list(FILES)))


def refuse_without_token() -> None:
    """Raises RequestError where nothing says who publishes."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise RequestError("no token of Hugging Face's hub is there: run `hf auth login`, or set HF_TOKEN")


def owner() -> str:
    """The name of the account whose token is there. Raises RequestError where there is none."""
    from huggingface_hub import HfApi

    refuse_without_token()
    with _one_line("hub", "asked whose token this is"):
        return str(HfApi().whoami()["name"])


def push(folder: Path, owner_and_name: str, private: bool) -> str:
    """Uploads a folder, as one commit, to a repository that is created where there is none. Returns its address.

    Raises RequestError where there is no token, no connection or no right to write there.
    """
    from huggingface_hub import HfApi

    refuse_without_token()
    api = HfApi()
    with _one_line(f"hf://{owner_and_name}", "pushed"):
        url = api.create_repo(owner_and_name, private=private, exist_ok=True)
        api.upload_folder(repo_id=owner_and_name, folder_path=folder, commit_message="Published by ganframe")
    return str(url)


@contextmanager
def _one_line(name: str, what: str) -> Iterator[None]:
    """Turns what the hub's client raises into RequestError: errors of HTTP, of names, of the connection."""
    try:
        yield
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"{name}: cannot be {what}: {type(error).__name__}: {first_line(error)}") from None
