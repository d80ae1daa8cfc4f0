"""Reference log-probabilities for DPO: python -m launch.reference --config=configs/NAME.py [--output=DIR]

The config is that of the DPO run: its `init_from` is the reference model, its mixture names the pairs. A run computes
what its store lacks by itself; this does it beforehand, on other machines say. Interrupted, the same command goes on;
with --distributed all processes share the work, and any number of them may go on.
"""

import dataclasses
import pathlib

from launch import cli, training
from launch.huge_pages import restart_with_huge_pages
from safety_align import distributed
from safety_align.errors import InputError


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--output", metavar="DIR", help="where they go; default: the config's dpo.reference")
    cli.add_distributed(parser)
    arguments, config = training.parse(parser, training.devices)
    import jax

    from safety_align import sharding
    from safety_align.data.reference import ReferenceStore
    from safety_align.interop import load_model
    from safety_align.text import load_template
    from safety_align.training.inputs import load_examples
    from safety_align.training.loop import same_model
    from safety_align.training.ready import check_run
    from safety_align.training.reference import preference_pairs, reference_sums

    if config.dpo is None:
        raise InputError(f"{arguments.config} is not the config of a DPO run: it has no dpo group")
    mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh))
    with distributed.agreed():
        check_run(config, mesh, trains=False)
    start = load_model(config.init_from, mesh, config.model.param_dtype, test=False)
    same_model(config.model, start.model_config, config.init_from)
    template = load_template(config.template, start.tokenizer)
    train = {name: load_examples(config, name, "train", distributed.is_main()) for name, _ in config.pipeline.mixture}
    pairs = preference_pairs(config, train)
    store = ReferenceStore(pathlib.Path(arguments.output or config.dpo.reference), len(pairs))
    with jax.set_mesh(mesh):
        sums, _ = reference_sums(
            config, store, pairs, start.tokenizer, template, mesh, start.params, progress=distributed.is_main()
        )
    if distributed.is_main():
        chosen, rejected = (sum(s[side] for s in sums.values()) / len(sums) for side in (0, 1))
        print(f"pairs            {len(sums)}\nchosen, nats     {chosen:.4f}\nrejected, nats   {rejected:.4f}")
    return cli.EXIT_OK


if __name__ == "__main__":
    restart_with_huge_pages()
    cli.run(main)
