"""The cases that SimGrid referees: flows on single paths over shared links, and SimGrid's ends of them as kept data.

Two topologies, in bytes/s; every flow has one path, so that both sides share the same links and nothing is split:

- `switch`: one flat switch, a link up and a link down for each rank;
- `fabric`: nodes of 8 ranks (of 4, where there are 8 in all), each rank with a link up and a link down inside the node
  and a NIC, a leaf for each node, and spines with half the leaf's bandwidth in all; a pair's spine is its fixed hash.

Two matrices of bytes, all pairs of different ranks: `equal`, and `random`, drawn once and kept in the files.
"""

import csv
import gzip
import io
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "simgrid"
ROOT = Path(__file__).parents[3]
DRIVER = ROOT / "out" / "referee" / "driver"

TOPOLOGIES = ("switch", "fabric")
MATRICES = ("equal", "random")
SIZES = (8, 16, 64)
NAMES = [f"{topology}_{matrix}_{ranks}" for topology in TOPOLOGIES for matrix in MATRICES for ranks in SIZES]

NIC_BYTES_PER_S = 50e9
NVLINK_BYTES_PER_S = 150e9
OVERSUBSCRIPTION = 2
BYTES_OF_A_RANK = 200_000_000_000  # 4 s through its NIC: a whole nanosecond is below 1e-7 of every end


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Flows that all start at time 0."""

    name: str
    capacity_bytes_per_s: np.ndarray
    """Of each link. Shape [L]."""
    pairs: list[tuple[int, int]]
    """Source and target of each flow. Length F."""
    paths: list[tuple[int, ...]]
    """Links of each flow. Length F."""
    num_bytes: list[int]
    """Size of each flow. Length F."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What SimGrid said."""

    end_s: np.ndarray
    """End of each flow. Shape [F]."""
    wall_s: float
    """Time that the simulation took."""


def build_switch(ranks: int) -> tuple[list[float], dict[tuple[int, int], tuple[int, ...]]]:
    """Return capacities and the path of each pair: up from the source, down to the target."""
    paths = {(s, t): (s, ranks + t) for s, t in all_pairs(ranks)}
    return [NIC_BYTES_PER_S] * (2 * ranks), paths


def build_fabric(ranks: int) -> tuple[list[float], dict[tuple[int, int], tuple[int, ...]]]:
    """Return capacities and the path of each pair: inside its node, or NIC, leaf, spine, leaf, NIC."""
    per_node = min(8, ranks // 2)
    spines = per_node // 2
    spine_bytes_per_s = per_node * NIC_BYTES_PER_S / spines / OVERSUBSCRIPTION
    capacity: list[float] = []
    numbers: dict[tuple[str, int, int], int] = {}

    def add(kind: str, one: int, other: int, bytes_per_s: float) -> None:
        numbers[kind, one, other] = len(capacity)
        capacity.append(bytes_per_s)

    for rank in range(ranks):
        for way in ("up", "down"):
            add(f"nvlink {way}", rank, 0, NVLINK_BYTES_PER_S)
            add(f"nic {way}", rank, 0, NIC_BYTES_PER_S)
    for leaf in range(ranks // per_node):
        for spine in range(spines):
            for way in ("up", "down"):
                add(f"spine {way}", leaf, spine, spine_bytes_per_s)

    def path(source: int, target: int) -> tuple[int, ...]:
        here, there = source // per_node, target // per_node
        if here == there:
            return numbers["nvlink up", source, 0], numbers["nvlink down", target, 0]
        spine = (source * 2_654_435_761 + target * 40_503) % 65_521 % spines
        return (
            numbers["nic up", source, 0],
            numbers["spine up", here, spine],
            numbers["spine down", there, spine],
            numbers["nic down", target, 0],
        )

    return capacity, {pair: path(*pair) for pair in all_pairs(ranks)}


BUILDERS = {"switch": build_switch, "fabric": build_fabric}


def all_pairs(ranks: int) -> list[tuple[int, int]]:
    """Return all pairs of different ranks."""
    return [(source, target) for source in range(ranks) for target in range(ranks) if source != target]


def draw_bytes(matrix: str, ranks: int, topology: str) -> list[int]:
    """Return the bytes of each pair: equal, or from a quarter to twice as many."""
    equal = BYTES_OF_A_RANK // (ranks - 1)
    pairs = ranks * (ranks - 1)
    if matrix == "equal":
        return [equal] * pairs
    random = np.random.default_rng([ranks, TOPOLOGIES.index(topology)])
    return random.integers(equal // 4, 2 * equal, pairs).tolist()


def build_case(name: str, num_bytes: list[int]) -> Case:
    """Return the case of a name, with these bytes."""
    topology, _, ranks = name.split("_")
    capacity, paths = BUILDERS[topology](int(ranks))
    return Case(
        name=name,
        capacity_bytes_per_s=np.array(capacity),
        pairs=list(paths),
        paths=list(paths.values()),
        num_bytes=num_bytes,
    )


def draw_case(name: str) -> Case:
    """Return the case of a name, its bytes drawn anew."""
    topology, matrix, ranks = name.split("_")
    return build_case(name, draw_bytes(matrix, int(ranks), topology))


def case_text(case: Case) -> str:
    """Return the case as the driver reads it."""
    links = [f"link {capacity!r}" for capacity in case.capacity_bytes_per_s.tolist()]
    flows = [
        f"flow {source} {target} {size} {' '.join(map(str, path))}"
        for (source, target), size, path in zip(case.pairs, case.num_bytes, case.paths, strict=True)
    ]
    return "\n".join([*links, *flows]) + "\n"


def ask_simgrid(case: Case) -> Verdict:
    """Run the driver on a case."""
    done = subprocess.run([DRIVER], input=case_text(case), capture_output=True, text=True, check=True)
    *ends, wall = done.stdout.splitlines()
    return Verdict(end_s=np.array([float(end) for end in ends]), wall_s=float(wall.removeprefix("wall ")))


def kept_path(name: str) -> Path:
    """Return where a case and SimGrid's ends are kept."""
    return FOLDER / f"{name}.csv.gz"


def keep(case: Case, end_s: np.ndarray) -> None:
    """Write a case's flows and their ends; the same content gives the same file."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["source", "target", "num_bytes", "end_s"])
    for (source, target), size, end in zip(case.pairs, case.num_bytes, end_s.tolist(), strict=True):
        rows.writerow([source, target, size, repr(end)])
    kept_path(case.name).write_bytes(gzip.compress(text.getvalue().encode("ascii"), mtime=0))


def load_kept(name: str) -> tuple[Case, np.ndarray]:
    """Return a kept case, and SimGrid's ends in seconds [F]."""
    with gzip.open(kept_path(name), "rt", encoding="ascii", newline="") as file:
        rows = list(csv.DictReader(file))
    case = build_case(name, [int(row["num_bytes"]) for row in rows])
    if [(int(row["source"]), int(row["target"])) for row in rows] != case.pairs:
        raise ValueError(f"{kept_path(name).name}: flows must be those of the case. Run `make referee`.")
    return case, np.array([float(row["end_s"]) for row in rows])
