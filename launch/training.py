"""What the commands of a training share: its config, typed, from a file and the command line. Here ConfigDict ends."""

import argparse
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from launch import cli
from launch.defaults import training_defaults

if TYPE_CHECKING:
    from safety_align.training.config import TrainConfig


def parse(parser: cli.Parser, platform: Callable[[], str] | None = None) -> tuple[argparse.Namespace, "TrainConfig"]:
    """The command line: (arguments, the config of --config with its overrides). Joins the other processes, if the command
    has --distributed: behind the config, so that a mistake waits for nobody, unless it is the devices that decide on a
    dtype. `platform`: see `interop.start.with_start`."""
    arguments, config = cli.parse_with_config(parser, training_defaults)
    from safety_align import distributed  # here: importing jax takes a second
    from safety_align.interop.start import takes_shape

    values, spec = config.to_dict(), getattr(arguments, "distributed", None)
    workdir = getattr(arguments, "workdir", None)
    if takes_shape(values):
        distributed.start(spec)
        with distributed.agreed():
            typed = _typed(values, workdir, platform)
    else:
        typed = _typed(values, workdir, platform)
        distributed.start(spec)
    if platform is not None and typed.init_from != (values.get("init_from") or ""):
        distributed.say(f"init_from: {typed.init_from}")
    return arguments, typed


def load(
    path: str,
    overrides: list[str],
    workdir: str | pathlib.Path | None = None,
    platform: Callable[[], str] | None = None,
) -> "TrainConfig":
    """The config of the file at `path` with `--config.key=value` arguments; `workdir`, `platform`: see
    `interop.start.with_start`."""
    config = cli.load_config(path)
    cli.apply_overrides(config, overrides, defaults=training_defaults(config))
    return _typed(config.to_dict(), workdir, platform)


def devices() -> str:
    """The platform of this process's devices; must not be asked before `distributed.start`."""
    import jax

    return jax.default_backend()


def _typed(values: dict, workdir, platform) -> "TrainConfig":
    from safety_align.interop.start import with_start
    from safety_align.training.from_dict import to_train_config

    return to_train_config(with_start(values, workdir, platform))
