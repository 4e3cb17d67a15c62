# ruff: noqa: E501 (lines of HLO)
"""Collectives in HLO text: what is in a loop counts as often as it runs, groups in every notation."""

import pytest

from sleeplm_jax.scaling.dryrun.hlo import collectives
from sleeplm_jax.scaling.dryrun.roofline import axes_of, members, traffic

# A gradient of a scanned stack (3 layers) and a ring of 4 turns, as XLA writes them, cut down.
TEXT = """HloModule jit__train, num_partitions=4

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%layer (p: (s32[], bf16[8,16], /*index=2*/f32[4])) -> (s32[], bf16[8,16], f32[4]) {
  %p = (s32[], bf16[8,16]{1,0}, /*index=2*/f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %w = bf16[8,16]{1,0} get-tuple-element(%p), index=1
  %part = f32[4]{0} get-tuple-element(%p), index=2
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %all-reduce.1 = bf16[8,16]{1,0} all-reduce(%w), channel_id=1, replica_groups=[2,2]<=[4], use_global_device_ids=true, to_apply=%add, metadata={op_name="jit(_train)/while/body/dot_general"}
  %all-gather.1 = f32[8]{0} all-gather(%part), channel_id=2, replica_groups=mesh['axis_0'=2,'axis_1'=2] {'axis_0'}, dimensions={0}
  %half = f32[4]{0} slice(%all-gather.1), slice={[0:4]}
  ROOT %t = (s32[], bf16[8,16]{1,0}, f32[4]{0}) tuple(%next, %all-reduce.1, %half)
}

%more (p.1: (s32[], bf16[8,16], f32[4])) -> pred[] {
  %p.1 = (s32[], bf16[8,16]{1,0}, f32[4]{0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%p.1), index=0
  %three = s32[] constant(3)
  ROOT %lt = pred[] compare(%i.1, %three), direction=LT
}

%turn (q: (s32[], f32[6])) -> (s32[], f32[6]) {
  %q = (s32[], f32[6]{0}) parameter(0)
  %j = s32[] get-tuple-element(%q), index=0
  %block = f32[6]{0} get-tuple-element(%q), index=1
  %ppermute.1 = f32[6]{0} collective-permute(%block), channel_id=5, source_target_pairs={{0,1},{1,2},{2,3},{3,0}}, metadata={op_name="jit(_train)/shard_map/while/body/ppermute"}
  ROOT %u = (s32[], f32[6]{0}) tuple(%j, %ppermute.1)
}

%unread (q.1: (s32[], f32[6])) -> pred[] {
  %q.1 = (s32[], f32[6]{0}) parameter(0)
  ROOT %b.1 = pred[] constant(true)
}

ENTRY %main (x: f32[8,4]) -> f32[2,4] {
  %x = f32[8,4]{1,0} parameter(0)
  %start = (s32[], bf16[8,16]{1,0}, f32[4]{0}) custom-call(), custom_call_target="made"
  %scan = (s32[], bf16[8,16]{1,0}, f32[4]{0}) while(%start), condition=%more, body=%layer
  %begin = (s32[], f32[6]{0}) custom-call(), custom_call_target="made"
  %ring = (s32[], f32[6]{0}) while(%begin), condition=%unread, body=%turn, backend_config={"known_trip_count":{"n":"4"}}
  %all-reduce.2 = f32[8,4]{1,0} all-reduce(%x), channel_id=3, replica_groups={{0,1,2,3}}, to_apply=%add
  %cast = f32[8,4]{1,0} copy(%all-reduce.2)
  %zero = s32[] constant(0)
  ROOT %mine = f32[2,4]{1,0} dynamic-slice(%cast, %zero, %zero), dynamic_slice_sizes={2,4}
}
"""


def test_what_is_in_a_loop_counts_as_often_as_it_runs():
    found, unknown = collectives(TEXT, 4)
    told = {(one.kind, one.bytes): (one.count, one.groups) for one in found}
    assert unknown == 0 and len(found) == 4
    # Three layers, from the loop's condition; bfloat16; neighbours.
    assert told["all-reduce", 256] == (3, ((0, 1), (2, 3)))
    assert told["all-gather", 32] == (3, ((0, 2), (1, 3)))  # along the outer axis
    assert told["collective-permute", 24][0] == 4  # annotated
    # A sum of which each device keeps a quarter is a scatter.
    assert told["reduce-scatter", 128] == (1, ((0, 1, 2, 3),))


def test_a_loop_of_unknown_length_is_told():
    found, unknown = collectives(TEXT.replace('"known_trip_count":{"n":"4"}', ""), 4)
    assert unknown == 1
    assert next(one.count for one in found if one.ring) == 1


def test_groups_that_nobody_knows_are_refused():
    text = TEXT.replace("replica_groups=[2,2]<=[4]", "replica_groups=something")
    with pytest.raises(ValueError, match="replica groups"):
        collectives(text, 4)


def test_transposed_groups():
    """`[2,4]T(1,0)` numbers columns first; a mesh may name its devices so too."""
    iota = TEXT.replace("replica_groups=[2,2]<=[4]", "replica_groups=[2,2]<=[2,2]T(1,0)")
    mesh = TEXT.replace(
        "mesh['axis_0'=2,'axis_1'=2] {'axis_0'}",
        "mesh['axis_0'=2,'axis_1'=2], device_ids=([2,2]T(1,0)) {'axis_0'}",
    )
    assert next(o for o in collectives(iota, 4)[0] if o.bytes == 256).groups == ((0, 2), (1, 3))
    assert next(o for o in collectives(mesh, 4)[0] if o.bytes == 32).groups == ((0, 1), (2, 3))


def test_groups_are_told_by_their_axes_and_hosts():
    mesh = {"replica": 1, "data": 4, "fsdp": 2, "tensor": 2}
    assert axes_of(((0, 1), (2, 3)), mesh) == ("tensor",)
    assert axes_of(((0, 4, 8, 12),), mesh) == ("data",)
    assert axes_of(((0, 2, 4, 6, 8, 10, 12, 14),), mesh) == ("data", "fsdp")
    assert axes_of(((0, 4),), mesh) is None  # half of an axis
    # Hosts of 8: of the data axis' four, two stand in one host.
    assert members(("data",), mesh, 8) == (4, 2)
    assert members(("data", "fsdp", "tensor"), mesh, 8) == (16, 8)
    rows = traffic(collectives(TEXT, 4)[0], {"replica": 1, "data": 2, "fsdp": 2, "tensor": 1}, 4)
    assert {(one.kind, one.named, one.count) for one in rows} == {
        ("all-reduce", "fsdp", 3), ("all-gather", "data", 3),
        ("collective-permute", "data+fsdp", 4), ("reduce-scatter", "data+fsdp", 1),
    }
