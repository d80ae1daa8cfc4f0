"""What the commands of a training share: its config, typed, from a file and the command line. Here ConfigDict ends."""

import argparse
from typing import TYPE_CHECKING

from launch import cli
from launch.defaults import training_defaults

if TYPE_CHECKING:
    from safety_align.training.config import TrainConfig


def parse(parser: cli.Parser) -> tuple[argparse.Namespace, "TrainConfig"]:
    """The command line: (arguments, the config of --config with its overrides)."""
    arguments, config = cli.parse_with_config(parser, training_defaults)
    return arguments, _typed(config)


def load(path: str, overrides: list[str]) -> "TrainConfig":
    """The config of the file at `path` with `--config.key=value` arguments."""
    config = cli.load_config(path)
    cli.apply_overrides(config, overrides, defaults=training_defaults(config))
    return _typed(config)


def _typed(config) -> "TrainConfig":
    from safety_align.training.from_dict import to_train_config  # here: importing jax takes a second

    return to_train_config(config.to_dict())
