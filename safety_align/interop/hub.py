"""Models of the Hugging Face hub by name, `OWNER/NAME` or `OWNER/NAME@REVISION`, wherever a model's directory is given.

A name means one commit: `pinned` asks which, once, and what follows reads that commit from the usual cache
(`HF_HOME`), where `directory` puts what is not there yet. Weights are safetensors, the rest is JSON, templates and
tokenizers: no pickle and no code is ever fetched. `HF_HUB_OFFLINE=1`, `HF_ENDPOINT` and `HF_TOKEN` count as ever.
`huggingface_hub` is imported once such a name is used.
"""

import contextlib
import fnmatch
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

from safety_align.errors import InputError

WEIGHTS = ("*.safetensors",)
ASSETS = ("*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.*")
"""What is fetched of a model's own folder; ASSETS say all but the weights."""

TEMPLATES = "additional_chat_templates/*.jinja"
OTHERS = ("consolidated*", "training_args*", "optimizer*")
"""The same weights once more, in their makers' own layout, and what training left."""

PATHS = ("runs", "checkpoints")
"""Where this project's configs and documents have models of one's own: never names of the hub."""

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>\w[\w./-]*))?", re.ASCII)
_COMMIT = re.compile("[0-9a-f]{40}")


def parse(name: str | os.PathLike) -> tuple[str, str | None] | None:
    """(repository, revision or None) of a name of the hub; None of a path.

    What is here under that name comes first. Without a revision so does a path that is not there (yet) below a folder that
    is, or that is one of `PATHS`.
    """
    found = _NAME.fullmatch(str(name))
    if found is None or os.path.lexists(name):
        return None
    repo, revision = found["repo"], found["revision"]
    above = repo.split("/")[0]
    return None if revision is None and (above in PATHS or os.path.isdir(above)) else (repo, revision)


def pinned(name: str | os.PathLike) -> str:
    """`name`; of the hub, with its commit: `OWNER/NAME@COMMIT`. Asks the hub, or, where that cannot be reached, what the
    cache knows. InputError names what is wrong."""
    found = parse(name)
    if found is None:
        return str(name)
    repo, revision = found
    if revision is not None and _COMMIT.fullmatch(revision):
        return str(name)
    with _explained(str(name)):
        from huggingface_hub import HfApi

        return f"{repo}@{HfApi().resolve_revision(repo, revision=revision).resolved}"


def directory(name: str | os.PathLike, weights: bool = True) -> pathlib.Path:
    """Where the model's files are: `name` itself, or the folder of the cache that holds this model of the hub.

    What is missing there is fetched; with `weights` False all but the weights. A connection that breaks is taken up where it
    broke off; of a command that ends before, the files that are whole stay. InputError names what is wrong.
    """
    name = pinned(name)
    found = parse(name)
    if found is None:
        return pathlib.Path(name)
    repo, commit = found
    with _explained(name):
        from huggingface_hub import snapshot_download

        folder = snapshot_download(repo, revision=commit, allow_patterns=["config.json"])
        wanted = [*ASSETS, TEMPLATES, *(WEIGHTS if weights else ())]
        if (names := _names(repo, commit)) is not None:
            _check_weights(name, names)
            wanted = [file for file in names if _is_wanted(file, weights)]
        folder = snapshot_download(repo, revision=commit, allow_patterns=wanted)
    return pathlib.Path(folder)


def identity(name: str) -> str:
    """What stands for a model in the records of what was done with it: its commit on the hub, or its resolved path."""
    return str(pathlib.Path(name).resolve()) if parse(name) is None else name


def _names(repo: str, commit: str) -> list[str] | None:
    """The files of a commit; None where the cache has no list and the hub cannot be asked."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return [file.path for file in get_cached_repo_tree(repo, revision=commit)]
    except CachedRepoTreeNotFoundError:
        return None


def _is_wanted(file: str, weights: bool) -> bool:
    patterns = (*ASSETS, *WEIGHTS) if weights else ASSETS
    own = "/" not in file and _matches(file, patterns) and not _matches(file, OTHERS)
    return own or fnmatch.fnmatch(file, TEMPLATES)


def _matches(file: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(file, pattern) for pattern in patterns)


def _check_weights(name: str, names: Sequence[str]) -> None:
    if any(_is_wanted(file, True) and _matches(file, WEIGHTS) for file in names):
        return
    if pickles := [file for file in names if _matches(file, _PICKLES)]:
        raise InputError(
            f"{name} has only pickled weights ({pickles[0]}): reading a pickle runs any code that is in it; name a "
            "revision with safetensors, or save the model as safetensors"
        )
    raise InputError(f"{name} has no *.safetensors file: it is not a model that can be read")


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """What the hub's client raises, as an InputError of one line that says what to do."""
    from huggingface_hub import constants, errors

    absent = f"{name} is no directory here, and as a model of {constants.ENDPOINT}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise InputError(
            f"{name} is gated: ask for access at {constants.ENDPOINT}/{name.partition('@')[0]}, and log in (`hf auth login`, or "
            "HF_TOKEN)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{name}: the model has no such revision; name a branch, a tag or a commit") from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{absent} it does not exist, or is private; correct the name, or log in (`hf auth login`, or HF_TOKEN)"
        ) from error
    except (errors.IncompleteSnapshotError, errors.LocalEntryNotFoundError, errors.RevisionResolutionError) as error:
        if constants.is_offline_mode():
            fix = "HF_HUB_OFFLINE is set; unset it, or fetch the model first"
        else:
            fix = "the hub cannot be reached; try again once it can, what is whole is kept"
        raise InputError(f"{absent} it is not (wholly) in the cache: {fix}") from error
    except errors.HTTPError as error:  # its own, and those of the connection
        if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
            raise InputError(f"{name}: the hub refuses it to you; log in (`hf auth login`, or HF_TOKEN)") from error
        raise InputError(f"{name} could not be fetched ({_short(error)}); try again, what is whole is kept") from error
    except OSError as error:
        if error.errno is not None:  # a full disk, say: the commands name it
            raise
        raise InputError(f"{name} could not be fetched ({_short(error)}); try again, what is whole is kept") from error


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}"
