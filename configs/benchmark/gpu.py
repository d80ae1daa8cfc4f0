"""The benchmarks of a GPU of 80 GB, beside torch; results.json has what each found. At most 20 minutes.

    python -m launch.benchmark all --config=configs/benchmark/gpu.py --output=runs/benchmark

Needs `pip install -e '.[cuda,test]'` and `pip install --no-deps nanogcg==0.3.0`. Compiling takes most of the time. What was found
already is not measured again.
"""

from ml_collections import ConfigDict


def parts(
    decode=(("base", 1), ("qwen2_5_0_5b", 1), ("qwen2_5_0_5b", 32), ("llama2_7b", 8)),
    size="qwen2_5_0_5b",
    attacked="qwen2_5_0_5b",
    small="base",
    rows=32,
    length=1024,
    rounds=5,
    width=512,
) -> dict[str, str]:
    """Commands of launch.benchmark by name."""
    sized = f"--rounds={rounds} --dtype=bfloat16"
    trained = f"--length={length} {sized} --attention=cudnn --torch"
    made = {}
    for model, batch in decode:
        torch = "" if model == "llama2_7b" else "--torch"
        shape = f"--size={model} --batch={batch} --prompt={length // 4} --tokens=128"
        made[f"decode_{model}_{batch}"] = f"decode {shape} --schedules=every,annealing {sized} {torch}".rstrip()
    return made | dict(
        train=f"train --size={small} --batch={rows} {trained}",
        train_large=f"train --size={size} --batch={rows // 4} {trained}",
        signal=f"signal --size={size} --batch={rows // 4} --length={length} {sized}",
        gcg=f"gcg --size={attacked} --width={width} --batch={width // 2} --steps={rounds} --dtype=bfloat16 --nanogcg",
        throughput=f"throughput --size={small} --batch={rows} --requests={3 * rows} {sized}",
        latency=f"latency --size={small} --batch={rows} --requests={6 * rows} --dtype=bfloat16",
        pipeline="pipeline",
        packing="packing",
        startup="startup",
    )


def get_config() -> ConfigDict:
    return ConfigDict(dict(parts=parts(), minutes=20.0))
