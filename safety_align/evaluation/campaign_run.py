"""A campaign on disk: a line a behaviour as it is done, what came of all; interrupted, it goes on with the next behaviour."""

import os
import pathlib
import sys
from collections.abc import Sequence

from tqdm import tqdm

from safety_align.attacks import Behavior
from safety_align.claims import Owner, locked_directory
from safety_align.errors import InputError
from safety_align.evaluation.campaign import Campaign, fell, summary
from safety_align.evaluation.report import strict_json
from safety_align.files import complete_lines, write_atomically
from safety_align.strict_json import parse_json


def run_campaign(
    campaign: Campaign, behaviors: Sequence[Behavior], output: pathlib.Path, about: dict, block: int, name: str
) -> dict:
    """`summary` of the campaign, with "budget" and "about"; written to `output` with attacks.jsonl and attack.json.

    about: what the directory must be of, JSON; its "attack" is the budget. block: requests at once; name: of the progress bar.
    InputError for a directory that holds something else, or that another process writes.
    """
    with locked_directory(output):
        Owner(about, f"{output} holds another attack").claim(output / "attack.json")
        rows = rows_there(output / "attacks.jsonl", behaviors)
        with (
            tqdm(total=len(behaviors), initial=len(rows), desc=name, unit="behaviour", file=sys.stderr) as bar,
            open(output / "attacks.jsonl", "a", encoding="utf-8") as file,
        ):
            for made in campaign.rows(behaviors[len(rows) :], block):
                file.writelines(strict_json(row, indent=None) + "\n" for row in made)
                file.flush()
                rows += made
                bar.update(len(made))
                bar.set_postfix(fallen=sum(map(fell, rows)))
        found = summary(rows, list(campaign.judges)) | {"budget": about["attack"], "about": about}
        write_atomically(output / "results.json", strict_json(found) + "\n")
    return found


def rows_there(path: pathlib.Path, behaviors: Sequence[Behavior]) -> list[dict]:
    """The rows of behaviours that are done; a last line that was cut short is dropped."""
    if not path.exists():
        return []
    lines, size = complete_lines(path)
    rows = [parse_json(line, str(path), dict) for line in lines]
    if [row.get("id") for row in rows] != [b.id for b in behaviors[: len(rows)]]:
        raise InputError(f"{path} is not what this command wrote; choose another --output")
    if any("harmful" not in row for row in rows):
        raise InputError(
            f"{path} is of an older version, which did not look for harm before a stop; choose another --output"
        )
    os.truncate(path, size)
    return rows
