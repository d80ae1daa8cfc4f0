"""What the alignments of published models share: the paper's hyperparameters (method.md section 4); not a run itself.

A global batch of about 72 conversations, packed into 16 rows of 1024 tokens; AdamW, 2e-5, x0.85 per epoch. The data are
a stand-in for the paper's (Alpaca and LIMA, malicious prompts with refusals, unsafe answers for windows only), so the
paper's figures need not come out. Add --config.trainable=signal to leave the language model frozen.
"""

from ml_collections import ConfigDict

CONVERSATIONS = 29_600
BATCH = 72


def base(preset: str, init_from: str, template: str, lambda_cls: float, epochs: int) -> ConfigDict:
    """A run on 8 or 16 chips: parameters and moments in float32 over `fsdp`, activations in bfloat16."""
    return ConfigDict(
        dict(
            model=dict(preset=preset, safety_signal=True, dtype="bfloat16", param_dtype="float32", remat="full"),
            template=template,
            data=dict(
                data_dir="../shared/data",
                cache_dir="~/.cache/safety_align",
                sequence_length=1024,
                batch_size=16,
                checks_per_row=48,
                seed=0,
                mixture=dict(
                    alpaca=5.0, lima=0.5, malicious_prompts=4.0, safe_responses=0.8, beavertails=4.0,
                    malicious_queries=1.5, benign_queries=1.5,
                ),
                drop_leaks=True,
                max_bad_fraction=0.01,
                validation_examples=200,
            ),
            optimizer=dict(
                learning_rate=2e-5, schedule="exponential", warmup=0, final=0.85, decay_every=CONVERSATIONS // BATCH,
                weight_decay=0.1, clip=1.0,
            ),
            routing=dict(r1=10, r2=10, r3=10, windows=2),
            lambda_cls=lambda_cls,
            trainable="all",
            steps=epochs * CONVERSATIONS // BATCH,
            accumulation=1,
            init_from=init_from,
            seed=0,
            log_every=10,
            eval_every=400,
            save_every=400,
            keep=2,
            mesh=dict(data=1, fsdp=-1, sequence=1, tensor=1),
        )
    )  # fmt: skip
