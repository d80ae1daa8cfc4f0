"""What `attack` and `red_team` share: who scores what an attack gets, and who steers it."""

import argparse
import dataclasses
from collections.abc import Iterable

from launch import cli
from safety_align.bundle import Bundle
from safety_align.errors import InputError
from safety_align.evaluation.judges import (
    Every,
    Judge,
    RefusalRules,
    check_apart,
    check_corpus,
    check_not_own,
    load_judge,
)
from safety_align.evaluation.judges.load import RULES


@dataclasses.dataclass(frozen=True)
class Judges:
    """scoring: by name, who score; steering: who, all of one opinion, may stop a search; empty: nobody was named."""

    scoring: dict[str, Judge]
    steering: dict[str, Judge]

    @classmethod
    def of_rules(cls) -> "Judges":
        """The rules for both."""
        return cls({RULES: RefusalRules()}, {})

    @property
    def in_loop(self) -> Judge:
        """Who says whether a search may stop: the rules, unless somebody was named."""
        if not self.steering:
            return RefusalRules()
        only, *more = self.steering.values()
        return Every((only, *more)) if more else only

    def check_behaviors(self, names: Iterable[str]) -> None:
        """Raises InputError for a judge of the embedded corpus that would judge answers to other behaviours."""
        for name in names:
            check_corpus(self.scoring, name)
            check_corpus(self.steering, name, "--attack-judge")

    def check_model(self, checkpoint: str, bundle: Bundle) -> None:
        """Raises InputError for a judge that is made of the model that is attacked."""
        for option, judges in (("--judge", self.scoring), ("--attack-judge", self.steering)):
            check_not_own({f"{option}={name}": judge for name, judge in judges.items()}, checkpoint, bundle)


def add_options(parser: cli.Parser) -> None:
    """--judge and --attack-judge, for `named`."""
    parser.add_argument(
        "--judge",
        action="append",
        metavar="rules|embedded|DIR",
        help="who scores, as --judge of launch.judge; may be given again: each is reported. Default: rules",
    )
    parser.add_argument(
        "--attack-judge",
        action="append",
        metavar="rules|embedded|DIR",
        help="who says, while a search runs, whether it may stop; given again: all of them must. A model that scores "
        "(--judge) may not. Default: rules",
    )


def named(arguments: argparse.Namespace, searches: bool) -> Judges:
    """The judges of the command line; InputError for one that is not there, or is named twice, or both scores and steers.
    `searches`: whether there is an attack that asks while it runs."""
    scoring, steering = (
        _loaded(option, names or [])
        for option, names in (("--judge", arguments.judge or [RULES]), ("--attack-judge", arguments.attack_judge))
    )
    if steering and not searches:
        raise InputError("--attack-judge is for an attack that searches (gcg, soft_prompt, autodan); leave it out")
    found = Judges(scoring, steering)
    check_apart(found.in_loop, scoring)
    return found


def _loaded(option: str, names: list[str]) -> dict[str, Judge]:
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"{option}={twice} is given twice")
    try:
        return {name: load_judge(name) for name in names}
    except InputError as error:
        raise InputError(f"{option}: {error}") from error
