"""The gate of input files: whichever key or option names a file, it is a regular file of a limited size, or refused."""

import io
import json
import lzma
import os
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sim.build.build import build, build_passes, build_scenario_cluster
from sim.errors import InvalidValueError, MoesimError, OutputError
from sim.report.topology.links import read_link_use
from sim.scenario.file_bytes import parse_json, read_input, read_input_text
from sim.scenario.load import load_scenario
from sim.scenario.recordings import read_recording
from sim.scenario.suite_file import load_suite
from topology.fabric import build_graph
from topology.presets.clusters import FABRICS

GRAPH = build_graph(FABRICS["dgx-h100"], 1)
MACHINES = """
cluster: {{file: {file}, device: h100-sxm}}
workload: {{kind: collective, op: all_reduce, num_ranks: 8, bytes: 1 MB}}
"""
ORDER = """
parallel: {{pp: 2}}
schedule: {{kind: custom, file: {file}}}
workload: {{kind: passes, microbatches: 2, pass_times: {{F: 1 ms, B: 2 ms}}}}
"""
SKEWED = """
cluster: {{preset: dgx-h100, num_nodes: 1}}
model: {{layers: 2, hidden: 512, heads: 8, ffn: 512, experts: 8, top_k: 2, vocab: 1000}}
parallel: {{strategy: EP8_TP1_PP1_DP8}}
workload: {{kind: forward, sequences: 8, sequence_length: 64}}
routing: {{kind: trace, file: {file}}}
"""


def built_with(text, build=build):
    """Return a function that builds a part of a scenario which names a file."""

    def read(path):
        scenario = path.parent / "scenario.yaml"
        scenario.write_text(text.format(file=path.name), encoding="utf-8")
        return build(load_scenario(str(scenario)))

    return read


READERS = {
    "routing.file": ("a.csv", built_with(SKEWED)),
    "recording": ("a.csv", read_recording),
    "recording NPZ": ("a.npz", read_recording),
    "recording NPY": ("a.npy", read_recording),
    "recording JSON": ("a.json", read_recording),
    "recording lines of JSON": ("a.jsonl", read_recording),
    "recording of torch.save": ("a.pt", read_recording),
    "--load": ("result.json", lambda path: read_link_use(path, GRAPH)),
    "cluster.file of nvidia-smi": ("topo.txt", built_with(MACHINES, build_scenario_cluster)),
    "cluster.file of NCCL": ("topo.xml", built_with(MACHINES, build_scenario_cluster)),
    "cluster.file as GraphML": ("topo.graphml", built_with(MACHINES, build_scenario_cluster)),
    "cluster.file as YAML": ("topo.yaml", built_with(MACHINES, build_scenario_cluster)),
    "schedule.file": ("order.csv", built_with(ORDER, build_passes)),
    "suite": ("suite.yaml", lambda path: load_suite(path.parent, None)),
}
"""Input file -> name of the file, and function that reads it."""

EACH = pytest.mark.parametrize(("name", "read"), READERS.values(), ids=list(READERS))


@EACH
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name, read, monkeypatch):
    """A pipe that nobody writes to would hang every reader that opens it."""
    monkeypatch.setattr("sim.scenario.file_bytes._UNWRITTEN_S", 0.1)
    os.mkfifo(tmp_path / name)
    with pytest.raises((InvalidValueError, OutputError), match="pipe"):
        read(tmp_path / name)


@EACH
def test_a_folder_is_refused(tmp_path, name, read):
    (tmp_path / name).mkdir()
    with pytest.raises((InvalidValueError, OutputError), match="a directory"):
        read(tmp_path / name)


@EACH
@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices here")
def test_a_device_is_refused(tmp_path, name, read):
    """A link to a device in the folder of the scenario: its zeros have no end."""
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises((InvalidValueError, OutputError)):
        read(tmp_path / name)


@EACH
def test_a_large_file_is_refused_by_its_size(tmp_path, name, read):
    """A file of 1 GiB that takes no space."""
    with (tmp_path / name).open("wb") as stream:
        stream.truncate(1 << 30)
    with pytest.raises((InvalidValueError, OutputError), match=r"at most|UTF-8"):
        read(tmp_path / name)


@EACH
def test_damaged_files_are_refused_and_never_a_traceback(tmp_path, name, read):
    """Bytes at random, valid files cut short, and valid files with bytes changed, all drawn with one seed."""
    rng, tried = random.Random(3), 0
    for sample in samples(name):
        pieces = [rng.randbytes(rng.randrange(200)) for _ in range(3)]
        pieces += [sample[: rng.randrange(len(sample))] for _ in range(6)]
        pieces += [mutated(sample, rng) for _ in range(30)]
        for piece in pieces:
            (tmp_path / name).write_bytes(piece)
            try:
                read(tmp_path / name)
            except MoesimError as error:
                assert len(str(error)) < 3000
            tried += 1
    assert tried >= 39


def mutated(sample, rng):
    """Return bytes with a few of them changed, removed or repeated."""
    data = bytearray(sample)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randrange(1, 9)]
            case 2:
                data[at:at] = data[at : at + rng.randrange(1, 9)]
            case _:
                data[at : at + 1] = rng.choice([b"-1", b"1e999", b"nan", b"\0", b"[", b"{", b'"', b"9" * 30])
        if not data:
            break
    return bytes(data)


def samples(name):
    """Return valid or nearly valid content of a file of a name."""
    counts = np.arange(1, 17).reshape(1, 2, 8)
    csv = b"layer,expert,tokens\n" + b"".join(b"%d,%d,%d\n" % (i // 8, i % 8, i + 1) for i in range(16))
    match Path(name).suffix:
        case ".csv":
            return [csv, b"F0 F1 B0 B1\nF0 B0 F1 B1\n"]
        case ".npz":
            plain, packed = io.BytesIO(), io.BytesIO()
            np.savez(plain, tokens=counts)
            np.savez_compressed(packed, topk_ids=counts, rank=np.array(3))
            return [plain.getvalue(), packed.getvalue()]
        case ".npy":
            plain = io.BytesIO()
            np.save(plain, counts)
            return [plain.getvalue()]
        case ".json" | ".jsonl":
            links = [{"name": f"{a}->{b}", "utilisation": 0.5} for a, b in GRAPH.edges]
            point = {"key": "a", "values": {"step_time_s": 1.0}, "parts_s": {}, "tokens": {}, "problem": None}
            found = [{"logical_count": counts.tolist()}, {"links": links}, point, {"layer": 1, "topk_ids": [1, 2]}]
            return [json.dumps(data).encode() for data in found]
        case ".pt":
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                archive.writestr("archive/data.pkl", b"\x80\x02}q\x00X\x04\x00\x00\x00rankq\x01K\x03s.")
                archive.writestr("archive/data/0", bytes(64))
            return [packed.getvalue()]
        case ".xml":
            return [
                b'<system version="1"><cpu numaid="0"><pci busid="0000:07:00.0"><gpu dev="0" sm="90" rank="0"/></pci>'
                b"</cpu></system>"
            ]
        case ".graphml":
            return [
                b'<graphml><key id="d0" for="node" attr.name="kind" attr.type="string"/><graph edgedefault="directed">'
                b'<node id="gpu0"><data key="d0">gpu</data></node></graph></graphml>'
            ]
        case ".txt":
            return [b"\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tNV18\t0-31\nGPU1\tNV18\t X \t0-31\n"]
        case _:
            return [b"name: x\nnodes: [{kind: gpu}]\ntitle: a suite\nleft_out: {a: {median_pct: 5}}\n"]


# ---- what a file unpacks to --------------------------------------------------------------------------------------


def test_an_archive_is_refused_by_what_it_unpacks_to(tmp_path):
    """97 KB that unpack to 2.1 GB, in one array or in several."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1, 1 << 13, 1 << 14)}
    )
    for num_arrays in (3, 16):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(num_arrays):
                with archive.open(f"layer_{number}.npy", "w") as stream:
                    stream.write(header.getvalue())
                    stream.write(bytes(1 << 20))
        with pytest.raises(InvalidValueError, match="unpack to at most 256 MiB"):
            read_recording(tmp_path / "a.npz")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path, compression):
    """They unpack a piece at once, however large."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        archive.writestr("tokens.npy", bytes(1000))
    with pytest.raises(InvalidValueError, match="be stored or deflated, got another compression"):
        read_recording(tmp_path / "a.npz")


def test_a_damaged_stream_and_a_damaged_header_are_refused(tmp_path):
    """LZMA's and the tokenizer's errors, and those of shapes that are none."""
    (tmp_path / "a.npz").write_bytes(lzma.compress(b"tokens"))
    with pytest.raises(InvalidValueError, match="be an NPZ file of numbers"):
        read_recording(tmp_path / "a.npz")
    for shape in ("(3,", "(-3,)", "(1e9,)", "'x'", "(True, None)", "((3,),)", "(99999999999999999999999,)"):
        text = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}}}\n"
        body = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
        (tmp_path / "a.npy").write_bytes(body + bytes(24))
        with pytest.raises(InvalidValueError):
            read_recording(tmp_path / "a.npy")


# ---- JSON and texts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 50_000, "more than 100 levels"),
        ('{"a":' * 50_000, "more than 100 levels"),
        ("NaN", "NaN, which is not finite"),
        ("[-Infinity]", "-Infinity, which is not finite"),
        ("1e999", "1e999, which is not finite"),
        ("[1,", "no valid JSON"),
        ("9" * 10_000, "limit"),
        ('"' + '\\"[' * 1000, "no valid JSON"),
    ],
)
def test_json_is_finite_and_of_limited_depth(text, why):
    with pytest.raises(ValueError, match=why):
        parse_json(text)


def test_brackets_within_texts_of_json_are_no_levels():
    assert parse_json(json.dumps(["[" * 500 + '"\\'])) == ["[" * 500 + '"\\']


def test_an_input_names_what_is_wrong_and_what_to_do(tmp_path):
    """File, field, rule, value and hint."""
    path = tmp_path / "a.txt"
    with pytest.raises(InvalidValueError) as refusal:
        read_input(path, 10, field="--load", hint="Name a result.")
    assert str(refusal.value) == f"{path}: --load must exist and be readable, got no such file. Name a result."
    path.write_bytes(b"12345678901")
    with pytest.raises(InvalidValueError, match=r"be at most 0 KiB large, got a larger file\. Cut it\."):
        read_input(path, 10, too_large="Cut it.")
    assert read_input(path, 11) == b"12345678901"
    path.write_bytes(b"a\nb\xff")
    with pytest.raises(InvalidValueError, match=r"a\.txt:2: the file must be UTF-8 text, got byte 0xff"):
        read_input_text(path, 100)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_texts_of_windows_are_read(tmp_path, encoding):
    """`>` of PowerShell writes UTF-16 with a mark; half a character after the mark is refused."""
    path, mark = tmp_path / "a.txt", "\ufeff" if encoding == "utf-16-be" else ""
    path.write_bytes((mark + "layer,expert,tokens é\n").encode(encoding))
    assert read_input_text(path, 100) == "layer,expert,tokens é\n"
    path.write_bytes(b"\xff\xfea\0b")
    with pytest.raises(InvalidValueError, match=r"a\.txt:1: the file must be UTF-8 text, got byte 0xff"):
        read_input_text(path, 100)
