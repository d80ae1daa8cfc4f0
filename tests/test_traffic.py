"""Bytes of a compiled step, on programs small enough to count by hand. The real compiler's are in test_pod.py."""

import pytest

from safety_align.pod.traffic import Program, Shape, step_traffic, traffic

ARRAYS = {
    "CACHE": "bf16[4,64,128]{2,1,0:T(8,128)(2,1)}",
    "WEIGHTS": "bf16[128,256]{1,0:T(8,128)(2,1)}",
    "TABLE": "bf16[1000,128]{1,0:T(8,128)(2,1)}",
}

TEXT = """HloModule jit_decode

%fused_update (param_0.1: bf16[4,64,128], param_1.1: s32[], param_2.1: bf16[4,128]) -> bf16[4,64,128] {
  %param_0.1 = CACHE parameter(0)
  %param_2.1 = bf16[4,128]{1,0:T(8,128)(2,1)S(1)} parameter(2)
  %param_1.1 = s32[]{:T(128)} parameter(1)
  %constant.1 = s32[]{:T(128)} constant(0)
  %bitcast.1 = bf16[4,1,128]{2,1,0} bitcast(%param_2.1)
  ROOT %dus = CACHE dynamic-update-slice(%param_0.1, %bitcast.1, %constant.1, %param_1.1, %constant.1)
}

%fused_rows (param_0.2: bf16[1000,128], param_1.2: s32[]) -> bf16[4,128] {
  %param_0.2 = TABLE parameter(0)
  %param_1.2 = s32[]{:T(128)} parameter(1)
  %constant.2 = s32[]{:T(128)} constant(0)
  ROOT %rows = bf16[4,128]{1,0:T(8,128)(2,1)} dynamic-slice(%param_0.2, %param_1.2, %constant.2), dynamic_slice_sizes={4,128}
}

%renamed (param_0.7: bf16[128,256]) -> bf16[128,256] {
  %param_0.7 = WEIGHTS parameter(0)
  ROOT %renamed.7 = WEIGHTS bitcast(%param_0.7)
}

%fused_product (param_0.3: bf16[128,256], param_1.3: bf16[4,128]) -> f32[4,256] {
  %param_0.3 = WEIGHTS parameter(0)
  %param_1.3 = bf16[4,128]{1,0:T(8,128)(2,1)S(1)} parameter(1)
  %view.3 = WEIGHTS fusion(%param_0.3), kind=kLoop, calls=%renamed
  ROOT %product = f32[4,256]{1,0:T(8,128)} convolution(%param_1.3, %view.3), dim_labels=bf_io->bf
}

%small (param.5: (f32[16])) -> (f32[16]) {
  %param.5 = (f32[16]{0:T(128)}) parameter(0)
  %part.5 = f32[16]{0:T(128)} get-tuple-element(%param.5), index=0
  %added.5 = f32[16]{0:T(128)} add(%part.5, %part.5)
  ROOT %out.5 = (f32[16]{0:T(128)}) tuple(%added.5)
}

%large (param.6: (f32[64])) -> (f32[16]) {
  %param.6 = (f32[64]{0:T(128)}) parameter(0)
  %part.6 = f32[64]{0:T(128)} get-tuple-element(%param.6), index=0
  %cut.6 = f32[16]{0:T(128)} slice(%part.6), slice={[0:16]}
  ROOT %out.6 = (f32[16]{0:T(128)}) tuple(%cut.6)
}

%body (param.1: (s32[], bf16[4,64,128], bf16[128,256], /*index=3*/bf16[1000,128])) -> (s32[]) {
  %param.1 = (s32[]{:T(128)}, CACHE, WEIGHTS, /*index=3*/TABLE) parameter(0)
  %turn = s32[]{:T(128)} get-tuple-element(%param.1), index=0
  %cache = CACHE get-tuple-element(%param.1), index=1
  %weight = WEIGHTS get-tuple-element(%param.1), index=2
  %table = TABLE get-tuple-element(%param.1), index=3
  %rows = bf16[4,128]{1,0:T(8,128)(2,1)S(1)} fusion(%table, %turn), kind=kLoop, calls=%fused_rows
  %fetch-start = (bf16[128,256]{1,0:T(8,128)(2,1)S(1)}, WEIGHTS, u32[]{:S(2)}) copy-start(%weight)
  %fetch-done = bf16[128,256]{1,0:T(8,128)(2,1)S(1)} copy-done(%fetch-start)
  %product = f32[4,256]{1,0:T(8,128)S(1)} fusion(%fetch-done, %rows), kind=kOutput, calls=%fused_product
  %again = f32[4,256]{1,0:T(8,128)S(1)} fusion(%weight, %rows), kind=kOutput, calls=%fused_product
  %updated = CACHE fusion(%cache, %turn, %rows), kind=kLoop, calls=%fused_update
  %back-start = (bf16[4,128]{1,0:T(8,128)(2,1)}, bf16[4,128]{1,0:T(8,128)(2,1)S(1)}, u32[]{:S(2)}) copy-start(%rows)
  %back-done = bf16[4,128]{1,0:T(8,128)(2,1)} copy-done(%back-start)
  %either = (f32[16]{0:T(128)}) conditional(%turn, %turn, %turn), branch_computations={%small, %large}
  ROOT %out = (s32[]{:T(128)}, CACHE, WEIGHTS, TABLE) tuple(%turn, %updated, %weight, %table)
}

ENTRY %main (p: s32[]) -> s32[] {
  %all = (s32[]{:T(128)}) while(%start), condition=%never, body=%body, metadata={op_name="jit(decode)/while/body/while"}
}
"""
for short, long in ARRAYS.items():
    TEXT = TEXT.replace(short, long)

WEIGHT, PADDED_ROWS, ENTRY = 128 * 256 * 2, 8 * 128 * 2, 4


def test_a_step_by_hand():
    """What is on the chip costs nothing; a slice, and an update in place, cost what they are; of two branches the larger counts."""
    found = step_traffic(TEXT)
    assert found.read[(128, 256)] == 2 * WEIGHT  # once into the chip, once by a product itself
    assert found.read[(1000, 128)] == PADDED_ROWS  # four rows, in a tile of eight
    assert (4, 64, 128) not in +found.read
    assert found.written[(4, 64, 128)] == 4 * 128 * 2  # its layout in the fusion has no tiles
    assert found.written[(4, 128)] == PADDED_ROWS
    # Scalars, and a branch's sixteen numbers: the two branches are compared by all that they move.
    assert (found.read[(64,)], found.written[(16,)], found.read[(16,)]) == (0, 64, 128)
    assert found.total < 2 * WEIGHT + 2 * PADDED_ROWS + 4 * 128 * 2 + 512


def test_what_is_updated_after_it_was_computed_is_written_whole():
    computed = TEXT.replace("dynamic-update-slice(%param_0.1,", "dynamic-update-slice(%wide.1,").replace(
        "  %bitcast.1 =", f"  %wide.1 = {ARRAYS['CACHE']} negate(%param_0.1)\n  %bitcast.1 ="
    )
    found = step_traffic(computed)
    assert found.written[(4, 64, 128)] == found.read[(4, 64, 128)] == 4 * 64 * 128 * 2


def test_calls_are_followed_and_the_ends_of_transfers_are_free():
    called = TEXT.replace(
        "conditional(%turn, %turn, %turn), branch_computations={%small, %large}", "call(%turn), to_apply=%small"
    )
    assert step_traffic(called).read[(16,)] == 128
    gathered = TEXT.replace(
        "  %back-start",
        "  %gather-start = (bf16[8,128]{1,0:T(8,128)(2,1)}, bf16[64,128]{1,0:T(8,128)(2,1)}) all-gather-start(%back-done)\n"
        "  %gather-done = bf16[64,128]{1,0:T(8,128)(2,1)} all-gather-done(%gather-start)\n  %back-start",
    )
    assert step_traffic(gathered).written[(64, 128)] == 64 * 128 * 2 and (8, 128) not in step_traffic(gathered).written


def test_tiles_pad_what_lies_in_them():
    assert Shape(16, (32, 4, 1330, 64), "{3,2,1,0:T(8,128)(2,1)}").bytes == 32 * 4 * 1336 * 128 * 2
    assert Shape(16, (32, 4, 1330, 128), "{3,0,1,2:T(8,128)(2,1)}").bytes == 32 * 4 * 1330 * 128 * 2
    assert Shape(32, (100,), "{0:T(128)}").bytes == 400 and Shape(8, (3, 5), "").bytes == 15
    assert not Shape(16, (8, 128), "{1,0:T(8,128)(2,1)S(1)}").off_chip


def test_a_program_without_the_loop_is_said():
    with pytest.raises(ValueError, match="no loop of the program comes from elsewhere"):
        Program(TEXT).loop("elsewhere")
    assert traffic(Program(TEXT), "small").total == 2 * 64 + 64
