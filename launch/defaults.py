"""What a training's config may leave out: every field that has a default can be set by --config.key=value all the same."""

import ml_collections


def training_defaults(config: ml_collections.ConfigDict) -> dict:
    """See `training.from_dict.training_defaults`; for `cli.apply_overrides`."""
    from safety_align.training import from_dict  # here: importing jax takes a second

    return from_dict.training_defaults(config.to_dict())
