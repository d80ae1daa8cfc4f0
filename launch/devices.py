"""What `generate`, `evaluate` and `compare` share: on which devices of which processes which model is decoded."""

import re

from launch import cli
from safety_align.errors import InputError

AXES = ("data", "fsdp", "tensor")


def add_options(parser: cli.Parser) -> None:
    """--mesh and --distributed, for `start`; --dtype."""
    parser.add_argument(
        "--mesh",
        metavar="AXIS=N,…",
        help="devices along data (rows; what is left), fsdp (rows and parameters), tensor (heads, MLP, vocabulary); "
        "default: a copy of the model on every device. A model too large for one: --mesh=tensor=4, say",
    )
    add_dtype(parser)
    cli.add_distributed(parser)


def add_dtype(parser: cli.Parser) -> None:
    """--dtype, for `load_unrolled`."""
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of parameters and activations; default: a run's activations; what a Hugging Face directory stores, on a CPU float32",
    )


def add_weights(parser: cli.Parser) -> None:
    """--weights, for `load_unrolled`."""
    parser.add_argument(
        "--weights",
        choices=("int8",),
        help="rounded to a byte each, activations of --dtype: smaller and faster, and nearly the same; default: of --dtype",
    )


def computed(bundle) -> dict[str, str]:
    """What is noted of how a model was computed: {"dtype": …}, and "weights" where they were rounded."""
    config = bundle.model_config
    rounded = {} if config.param_dtype == config.dtype else {"weights": config.param_dtype}
    return {"dtype": config.dtype} | rounded


def start(arguments):
    """Joins the other processes, if there are any → the mesh of all devices, None if there is but one.

    Must come before jax is used. Raises InputError for a mesh that the devices do not make.
    """
    sizes = mesh_sizes(arguments.mesh)
    import jax

    from safety_align import distributed, sharding

    distributed.start(arguments.distributed)
    if not sizes and jax.device_count() == 1:
        return None
    with distributed.agreed():
        return sharding.make_mesh(**sizes)


def located(name: str) -> str:
    """What a model is called from here on: one of the hub with its commit, which is said on stderr."""
    from safety_align import distributed
    from safety_align.interop import hub

    with distributed.agreed():
        found = hub.pinned(name)
    if found != name:
        distributed.say(f"{name}: {found}")
    return found


def mesh_sizes(text: str | None) -> dict[str, int]:
    """{"fsdp": 4, "tensor": 2} of "fsdp=4,tensor=2"."""
    sizes = {}
    for part in (text or "").split(",") if text is not None else ():
        axis, equals, number = part.partition("=")
        if axis not in AXES or not equals or not re.fullmatch("-?[0-9]{1,6}", number) or axis in sizes:
            raise InputError(
                f"--mesh={text}: expected AXIS=N, each of {', '.join(AXES)} at most once, joined by commas"
            )
        sizes[axis] = int(number)
    return sizes
