"""The protobuf trace, read back with Perfetto's own classes by a reader that knows nothing of the writer."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.engine.trace import COLUMNS
from sim.report.protobuf import Piece, double_field, join, message, varint_field
from sim.report.track_events import write_track_events
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario

pb2 = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="install the extra dev")


class Reader:
    """What a trace holds: tracks by number, slices with name, arguments and flows, and the values of counters."""

    def __init__(self, data):
        trace = pb2.Trace()
        trace.ParseFromString(data)
        self.tracks, self.slices, self.counters = {}, [], defaultdict(list)
        self._open, self._interned = {}, {"event_names": {}, "event_categories": {}, "debug_annotation_names": {}}
        for packet in trace.packet:
            assert packet.trusted_packet_sequence_id == 1
            for field, known in self._interned.items():
                known.update({entry.iid: entry.name for entry in getattr(packet.interned_data, field)})
            if packet.HasField("track_descriptor"):
                assert packet.track_descriptor.uuid not in self.tracks
                self.tracks[packet.track_descriptor.uuid] = packet.track_descriptor
            elif packet.HasField("track_event"):
                self._event(packet.timestamp, packet.track_event)
        assert not self._open

    def _event(self, time_ns, event):
        assert event.track_uuid in self.tracks
        kinds = pb2.TrackEvent.Type
        if event.type == kinds.TYPE_SLICE_BEGIN:
            assert event.track_uuid not in self._open, "slices of a track overlap"
            self._open[event.track_uuid] = (time_ns, event)
        elif event.type == kinds.TYPE_SLICE_END:
            begin_ns, begun = self._open.pop(event.track_uuid)
            self.slices.append(self._slice(begin_ns, time_ns, begun))
        else:
            assert event.type == kinds.TYPE_COUNTER
            value = event.counter_value if event.HasField("counter_value") else event.double_counter_value
            self.counters[event.track_uuid].append((time_ns, value))

    def _slice(self, begin_ns, end_ns, event):
        names = self._interned["debug_annotation_names"]
        arguments = {}
        for one in event.debug_annotations:
            arguments[names[one.name_iid]] = getattr(one, one.WhichOneof("value"))
        return {
            "from": begin_ns,
            "to": end_ns,
            "name": self._interned["event_names"][event.name_iid],
            "category": [self._interned["event_categories"][iid] for iid in event.category_iids],
            "track": event.track_uuid,
            "flows": list(event.flow_ids),
            "last_flows": list(event.terminating_flow_ids),
            **arguments,
        }


@pytest.fixture(scope="module")
def simulated():
    """Return a small training step with foreign work, sends, and tokens of experts."""
    changes = ["workload.sequences=16", "workload.microbatches=4", "workload.sequence_length=1024"]
    return simulate_scenario(load_scenario("ep64_tp16_pp4_training", overrides=changes))


@pytest.fixture(scope="module")
def written(simulated, tmp_path_factory):
    from sim.report.html.details import details_of

    path = tmp_path_factory.mktemp("trace") / "trace.pftrace"
    tokens = details_of(simulated).rank_tokens
    write_track_events(simulated.run.trace, path, name="a step", memory=simulated.memory, rank_tokens=tokens)
    return path.read_bytes()


def test_every_row_is_a_slice_with_its_times_and_numbers(simulated, written):
    trace, slices = simulated.run.trace, sorted(Reader(written).slices, key=lambda one: one["row"])
    assert [one["row"] for one in slices] == list(range(len(trace)))
    assert [one["from"] for one in slices] == trace.ints("start_ns").tolist()
    assert [one["to"] for one in slices] == trace.ints("end_ns").tolist()
    assert [one["category"] for one in slices] == [[name] for name in trace["stream"].tolist()]
    for name in ("rank", "microbatch", "layer", "released_by"):
        assert [one.get(name, -1) for one in slices] == trace.ints(name).tolist()
    for name in ("bytes", "flops"):
        assert [one.get(name, 0.0) for one in slices] == trace.columns[name].tolist()
    assert all(name in (*COLUMNS, "row") for one in slices for name in one if name.endswith("_ns"))


def test_a_flow_leads_from_each_row_to_what_it_released(simulated, written):
    """Each flow begins at one slice and ends at one, and the first is over before the second begins."""
    trace, slices = simulated.run.trace, {one["row"]: one for one in Reader(written).slices}
    source = {flow: row for row, one in slices.items() for flow in one["flows"]}
    target = {flow: row for row, one in slices.items() for flow in one["last_flows"]}
    assert source.keys() == target.keys()
    assert {target[flow]: source[flow] for flow in source} == {
        row: by for row, by in enumerate(trace.ints("released_by").tolist()) if by >= 0
    }
    sends = [row for row, one in slices.items() if one["name"].startswith("pp ")]
    assert sends
    assert all(slices[row]["last_flows"] for row in sends)
    assert any(slices[row]["flows"] for row in sends)


def test_tracks_are_named_and_grouped(simulated, written):
    read = Reader(written)
    by_name = {track.name: track for track in read.tracks.values()}
    root = by_name["a step"]
    for stage in range(simulated.run.trace.num_stages):
        group = next(track for name, track in by_name.items() if name.startswith(f"stage {stage} (ranks"))
        assert group.parent_uuid == root.uuid
        children = {track.name for track in read.tracks.values() if track.parent_uuid == group.uuid}
        assert {"pass", "comm"} <= children
    assert all(track.parent_uuid in read.tracks for track in read.tracks.values() if track is not root)


def test_counters_say_what_the_run_says(simulated, written):
    """The peak of memory is that of the metric, all tokens are given back, and links are in percent."""
    read = Reader(written)
    groups = {uuid: read.tracks[track.parent_uuid].name for uuid, track in read.tracks.items() if track.parent_uuid}
    of = defaultdict(dict)
    for uuid, values in read.counters.items():
        of[groups[uuid]][read.tracks[uuid].name] = [value for _, value in values]
    peak = simulated.memory["peak_bytes_per_gpu"]["total"]
    assert max(max(values) for values in of["memory of the fullest GPU"].values()) == peak
    tokens = of["tokens for experts, of passes in progress"]
    assert len(tokens) == 64
    assert all(values[-1] == 0 and max(values) > 0 for values in tokens.values())
    assert all(0 <= value <= 100 for values in of["load of the busiest link"].values() for value in values)


def test_equal_traces_give_equal_bytes(simulated, tmp_path, written):
    write_track_events(simulated.run.trace, tmp_path / "again", name="a step", memory=simulated.memory)
    write_track_events(simulated.run.trace, tmp_path / "once more", name="a step", memory=simulated.memory)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "once more").read_bytes()
    assert len((tmp_path / "again").read_bytes()) < len(written)


def test_spans_that_overlap_have_tracks_of_their_own(every_stream, tmp_path):
    """The reader refuses a slice that begins before the last of its track has ended."""
    write_track_events(every_stream, tmp_path / "a", name='<b>"&')
    read = Reader((tmp_path / "a").read_bytes())
    assert len(read.slices) == len(every_stream)
    assert Counter(track.name for track in read.tracks.values())["comm 2"] == 2


@given(values=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6), present=st.data())
def test_fields_are_read_back_by_protobuf(values, present):
    """A message in a message, with fields that are left out in some."""
    there = np.array(present.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    numbers = np.array(values, dtype=np.int64)
    inner = [varint_field(1, numbers), double_field(5, numbers.astype(np.float64), there)]
    piece = message(4, inner, there)
    assert isinstance(piece, Piece)
    for i, value in enumerate(values):
        event = pb2.TrackEvent()
        event.ParseFromString(join([piece]).data[i][piece.there[i]].tobytes())
        read = [(one.name_iid, one.double_value) for one in event.debug_annotations]
        assert read == ([(value, float(value))] if there[i] else [])
