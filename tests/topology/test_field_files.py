"""Files of machines as people have them: what they say is read, what contradicts is a warning, what is unknown refused.

Shapes and figures follow public reports and the sources of NCCL, RCCL and rocm-smi; names and ids are our own.
"""

import re

import networkx as nx
import pytest
from machines import DGX1_V100, NCCL_NDV4

from sim.errors import InvalidValueError
from topology.cluster import build_cluster, build_graph_cluster
from topology.files.generations import sm_of_device
from topology.files.nccl_xml import nccl_xml_to_node
from topology.files.nics import nics_in_use
from topology.files.one_node import OneNode, repeat_node
from topology.files.rocm_smi import is_rocm_smi, rocm_smi_to_node
from topology.files.topo_matrix import topo_matrix_to_node
from topology.presets.clusters import CLUSTERS
from topology.presets.devices import DEVICES

# ---- how files are written here ----------------------------------------------------------------------------------


def matrix(cells, *, cpu=(), numa=(), ids=(), legend=()):
    """Return `nvidia-smi topo -m` of a mapping (row, column) -> connection, given above the diagonal; else SYS."""
    names = list(dict.fromkeys(name for pair in cells for name in pair))
    names.sort(key=lambda name: (not name.startswith("GPU"), int(re.sub(r"\D", "", name) or 0)))
    heads = ["CPU Affinity"] * bool(cpu) + ["NUMA Affinity"] * bool(numa) + ["GPU NUMA ID"] * bool(ids)
    lines = ["\t" + "\t".join([*names, *heads])]
    for i, row in enumerate(names):
        words = ["X" if row == c else cells.get((row, c)) or cells.get((c, row)) or "SYS" for c in names]
        more = [column[i] for column in (cpu, numa, ids) if column] if row.startswith("GPU") else []
        lines.append("\t".join([row, *words, *more]))
    if legend:
        lines += ["", "NIC Legend:", "", *(f"  NIC{i}: {name}" for i, name in enumerate(legend))]
    return "\n".join(lines) + "\n"


def pci(bus, inner="", *, kind="0x030200", speed="32.0 GT/s PCIe"):
    """Return a `pci` element."""
    return f'<pci busid="{bus}" class="{kind}" link_speed="{speed}" link_width="16">{inner}</pci>'


def gpu(rank, links="", *, sm=90, **more):
    """Return a `gpu` element."""
    extra = "".join(f' {key}="{value}"' for key, value in more.items())
    return f'<gpu dev="{rank}" sm="{sm}" rank="{rank}" gdr="1"{extra}>{links}</gpu>'


def net(number, *, speed=400000, name="mlx5_{}", **more):
    """Return a `nic` element with a port."""
    extra = "".join(f' {key}="{value}"' for key, value in more.items())
    return f'<nic><net name="{name.format(number)}" dev="{number}" speed="{speed}"{extra}/></nic>'


def switch(number, *inner):
    """Return a PCIe switch with devices below it."""
    return pci(f"0000:{number:x}0:00.0", "".join(inner), kind="0x060400")


def cpu(number, *inner, host=""):
    """Return a `cpu` element."""
    hashed = f' host_hash="{host}"' if host else ""
    vendor = 'arch="x86_64" vendor="AuthenticAMD" familyid="175" modelid="17"'
    return f'<cpu{hashed} numaid="{number}" affinity="ffff" {vendor}>{"".join(inner)}</cpu>'


def system(*cpus):
    """Return a topology."""
    return f'<system version="2">{"".join(cpus)}</system>'


def nvswitch(count=18):
    """Return the NVLinks of a GPU to NVSwitches."""
    return f'<nvlink target="fffffff:ffff:ff" count="{count}" tclass="0x068000"/>'


def counts(node, kind):
    """Return how many vertices of a kind there are."""
    return sum(data["kind"] == kind for _, data in node.graph.nodes(data=True))


def links(node, kind):
    """Return the links of a kind, each direction, with their bandwidths in GB/s."""
    return {
        (a, b): data["bandwidth_bytes_per_s"] / 1e9
        for a, b, data in node.graph.edges(data=True)
        if data["kind"] == kind
    }


def used(node, named=()):
    """Return what the machine calls the NICs in use."""
    return [node.graph.nodes[nic].get("label", nic) for nic in nics_in_use(node, named)[0]]


def cluster(node, num_nodes, device, **options):
    """Return nodes as a cluster."""
    graph = repeat_node(node, num_nodes, name="x", **options)
    return build_graph_cluster(graph, DEVICES[device], name="x", warnings=tuple(node.warnings))


# ---- NCCL's and RCCL's XML -----------------------------------------------------------------------------------------


def mesh_of_amd(num_gpus, links_of, *, gcn, sm=304):
    """Return RCCL's dump of GPUs linked as `links_of(a)` says: peer -> count."""
    slots = []
    for a in range(num_gpus):
        xgmi = "".join(
            f'<xgmi target="0000:{b:x}2:00.0" count="{count}" tclass="0x120000"/>' for b, count in links_of(a).items()
        )
        inside = gpu(a, xgmi, sm=sm, gcn=gcn, arch=94500)
        slots.append(switch(a, pci(f"0000:{a:x}2:00.0", inside, kind="0x120000")))
    half = num_gpus // 2
    return system(cpu(0, *slots[:half]), cpu(1, *slots[half:]))


def test_xgmi_links_of_a_full_mesh_are_those_of_the_preset():
    """Eight MI300X, each with a link of 64 GB/s to the seven others: the in-node bandwidth of the preset."""
    text = mesh_of_amd(8, lambda a: {b: 1 for b in range(8) if b != a}, gcn="gfx942:sramecc+:xnack-")
    node = nccl_xml_to_node(text, device="mi300x")
    assert links(node, "xgmi") == {(f"gpu{a}", f"gpu{b}"): 64.0 for a in range(8) for b in range(8) if a != b}
    assert node.warnings == []
    preset = build_cluster(CLUSTERS["mi300x"].fabric, 1, DEVICES["mi300x"])
    assert cluster(node, 1, "mi300x").capacity_bytes_per_s.max() >= preset.capacity_bytes_per_s.max()
    of_file = {data["efficiency"] for *_, data in node.graph.edges(data=True) if data["kind"] == "xgmi"}
    assert of_file == {CLUSTERS["mi300x"].fabric.nvlink.efficiency}


def test_xgmi_links_of_an_mi250x_count_as_the_file_says():
    """Four links inside a package, one to each of two others, 50 GB/s each; `sm` counts compute units."""

    def links_of(a):
        return {a ^ 1: 4, (a + 2) % 8: 1, (a - 2) % 8: 1}

    node = nccl_xml_to_node(mesh_of_amd(8, links_of, gcn="910", sm=110), device="mi250x-gcd")
    found = links(node, "xgmi")
    assert (found["gpu0", "gpu1"], found["gpu0", "gpu2"]) == (200.0, 50.0)
    assert len(found) == 24
    assert node.warnings == []


def test_gpus_of_amd_forward_over_xgmi():
    """A pair without a link of its own takes two xGMI links and not PCIe; a pair without any takes PCIe."""
    text = mesh_of_amd(8, lambda a: {a ^ 1: 4, (a + 2) % 8: 1, (a - 2) % 8: 1}, gcn="gfx90a", sm=110)
    built = cluster(nccl_xml_to_node(text), 1, "mi250x-gcd")
    assert built.path(1, 2) in (["gpu1", "gpu0", "gpu2"], ["gpu1", "gpu3", "gpu2"])
    apart = cluster(nccl_xml_to_node(mesh_of_amd(4, lambda a: {a ^ 1: 1}, gcn="gfx90a")), 1, "mi250x-gcd")
    assert "cpu0.0" in apart.path(0, 2)


def test_gpus_that_differ_by_design_are_no_warning():
    """Half of the GPUs of two joined boards have a link more; a GPU of four without links is named all the same."""
    text = mesh_of_amd(4, lambda a: {0: {1: 1}, 1: {0: 1, 2: 1}, 2: {1: 1, 3: 1}, 3: {2: 1}}[a], gcn="gfx942")
    assert nccl_xml_to_node(text, device="mi300x").warnings == []
    text = mesh_of_amd(4, lambda a: {b: 1 for b in range(3) if b != a and a < 3}, gcn="gfx942")
    assert nccl_xml_to_node(text, device="mi300x").warnings == [
        "gpu3 (0000:32:00.0) has no xGMI links to other GPUs, where its siblings have 2."
    ]


def test_the_architecture_of_amd_that_contradicts_the_device_is_a_warning():
    """A file of MI300X with the device MI250X, and one with an H100."""
    text = mesh_of_amd(2, lambda a: {1 - a: 1}, gcn="gfx942")
    for device in ("mi250x-gcd", "h100-sxm"):
        assert any(
            f"gfx942 and cluster.device {device} is of" in w for w in nccl_xml_to_node(text, device=device).warnings
        )


def test_a_compute_capability_that_contradicts_the_device_is_a_warning_with_both():
    """The links are those of the file's generation."""
    text = system(cpu(0, *(pci(f"0000:{i}0:00.0", gpu(i, nvswitch(12), sm=80)) for i in range(2))))
    node = nccl_xml_to_node(text, device="h100-sxm")
    assert any(
        "compute capability 8.0 and cluster.device h100-sxm is of compute capability 9.0" in w for w in node.warnings
    )
    assert set(links(node, "nvlink").values()) == {300.0}
    assert not nccl_xml_to_node(text, device="a100-sxm-80gb").warnings


def test_a_hybrid_cube_mesh_has_single_and_double_nvlinks_to_four_peers():
    """DGX-1: six NVLinks of each V100, of 25 GB/s; a V100 has no preset, so the device is a warning."""
    double = {(0, 3), (0, 4), (1, 2), (1, 5), (2, 3), (4, 7), (5, 6), (6, 7)}
    single = {(0, 1), (0, 2), (1, 3), (2, 6), (3, 7), (4, 5), (4, 6), (5, 7)}
    bus = [f"0000:{i:x}6:00.0" for i in range(8)]
    slots = []
    for a in range(8):
        peers = {b: 2 for b in range(8) if (min(a, b), max(a, b)) in double} | {
            b: 1 for b in range(8) if (min(a, b), max(a, b)) in single
        }
        text = "".join(f'<nvlink target="{bus[b]}" count="{n}" tclass="0x030200"/>' for b, n in peers.items())
        slots.append(switch(a, pci(bus[a], gpu(a, text, sm=70), speed="8 GT/s")))
    node = nccl_xml_to_node(system(cpu(0, *slots[:4]), cpu(1, *slots[4:])), device="a100-sxm-40gb")
    assert len(links(node, "nvlink")) == 32
    assert set(links(node, "nvlink").values()) == {25.0, 50.0}
    assert [w for w in node.warnings if "compute capability 7.0" in w]
    assert counts(node, "nvswitch") == 0
    matrix_node = topo_matrix_to_node(DGX1_V100, sm=70)
    assert links(matrix_node, "nvlink") == links(node, "nvlink")


def test_ranks_are_those_of_the_file():
    """The order of `rank`, not of the file and not of `dev`; a rank that is given twice is refused."""
    slots = [
        pci(f"0000:{i}0:00.0", f'<gpu dev="{i}" sm="90" rank="{rank}" gdr="1"/>') for i, rank in enumerate((9, 8, 11))
    ]
    node = nccl_xml_to_node(system(cpu(0, *slots)))
    assert [node.graph.nodes[name]["label"] for name in node.gpus] == ["0000:10:00.0", "0000:00:00.0", "0000:20:00.0"]
    with pytest.raises(InvalidValueError, match="rank of `gpu` must be given once, got 9"):
        nccl_xml_to_node(system(cpu(0, *slots)).replace('rank="8"', 'rank="9"'))


def test_gpus_without_a_rank_are_left_out_with_a_warning():
    """As NCCL does with GPUs that are not in the job."""
    slots = [pci("0000:10:00.0", gpu(0)), pci("0000:20:00.0", '<gpu dev="1" sm="90" gdr="1"/>')]
    node = nccl_xml_to_node(system(cpu(0, *slots)))
    assert len(node.gpus) == 1
    assert any("0000:20:00.0" in warning and "without `rank`" in warning for warning in node.warnings)


@pytest.mark.parametrize("is_one_element", [True, False], ids=["one pci element", "two of one busid"])
def test_two_gpus_in_one_slot_are_two_gpus(is_one_element):
    """MIG instances, or a board of two GPUs: both are there and share the slot's link to the CPU."""
    bus = "0000:10:00.0"
    slots = [pci(bus, gpu(0) + gpu(1))] if is_one_element else [pci(bus, gpu(0)), pci(bus, gpu(1))]
    node = nccl_xml_to_node(system(cpu(0, *slots)), device="h100-sxm")
    assert len(node.gpus) == 2
    assert cluster(node, 1, "h100-sxm").num_gpus == 2
    if is_one_element:
        assert counts(node, "pcie") == 1
        assert nx.shortest_path(node.graph, "gpu0", "gpu1") == ["gpu0", "pcie0", "gpu1"]


def test_gpus_in_one_slot_share_its_nvlinks():
    """Two ranks on a GPU, or parts of a GPU: the file lists all links with each of them."""
    slots = [pci("0000:10:00.0", gpu(0, nvswitch(18)) + gpu(1, nvswitch(18))), pci("0000:20:00.0", gpu(2, nvswitch(9)))]
    node = nccl_xml_to_node(system(cpu(0, *slots)), device="h100-sxm")
    assert set(links(node, "nvlink").values()) == {225.0}
    assert "The 2 GPUs in slot 0000:10:00.0 share its links: each gets an equal part." in node.warnings


def test_a_port_that_stands_under_several_cpus_is_one():
    """NCCL lists a NIC that is no PCI device under each CPU."""
    text = system(*(cpu(i, pci(f"0000:{i}0:00.0", gpu(i)), net(0, name="eth0", speed=10000)) for i in range(2)))
    node = nccl_xml_to_node(text)
    assert len(node.nics) == 1
    assert any("eth0 stands in several places" in warning for warning in node.warnings)


def test_a_link_to_a_slot_of_several_gpus_names_none_of_them():
    """Which GPU is meant cannot be known."""
    link = '<nvlink target="0000:10:00.0" count="2" tclass="0x030200"/>'
    text = system(cpu(0, pci("0000:10:00.0", gpu(0) + gpu(1)), pci("0000:20:00.0", gpu(2, link))))
    with pytest.raises(InvalidValueError, match="lead to a slot with one other GPU"):
        nccl_xml_to_node(text)


def hosts(link, *, nics=True):
    """Return two hosts of two GPUs."""
    both = []
    for h in range(2):
        slots = [pci(f"000{h}:{i}0:00.0", gpu(2 * h + i, link)) for i in range(2)]
        slots += [pci(f"000{h}:a0:00.0", net(h), kind="0x020700")] if nics else []
        both += [cpu(0, *slots, host=f"0x{h}a"), cpu(1, host=f"0x{h}a")]
    return system(*both)


def test_hosts_of_one_file_have_no_cpu_link_between_them():
    """Two hosts without NVLinks between them are two nodes, joined by their NICs."""
    node = nccl_xml_to_node(hosts(""), device="l40s")
    assert set(links(node, "cpu")) == {("cpu0", "cpu1"), ("cpu1", "cpu0"), ("cpu2", "cpu3"), ("cpu3", "cpu2")}
    for num_nodes, expected in ((None, 2), (1, 2), (2, 2), (4, 4)):
        built = cluster(node, num_nodes, "l40s")
        assert (built.num_nodes, built.num_gpus) == (expected, 2 * expected)
    assert built.path(0, 2) == ["gpu0", "cpu0.0", "nic0.0", "leaf0", "nic1.0", "cpu1.0", "gpu2"]
    with pytest.raises(InvalidValueError, match=r"multiple of the 2 hosts of the file, got 3. Write 4"):
        repeat_node(node, 3, name="x")


def test_trays_of_one_file_are_one_nvlink_domain():
    """Hosts of few GPUs on NVSwitches are a part of a rack: one node, no link between CPUs of different hosts."""
    node = nccl_xml_to_node(hosts(nvswitch()).replace('sm="90"', 'sm="100"'), device="gb200")
    assert counts(node, "nvswitch") == 1
    assert set(links(node, "cpu")) == {("cpu0", "cpu1"), ("cpu1", "cpu0"), ("cpu2", "cpu3"), ("cpu3", "cpu2")}
    built = cluster(node, 1, "gb200")
    assert (built.num_nodes, built.num_gpus) == (1, 4)
    assert built.path(0, 3) == ["gpu0", "nvswitch0.0", "gpu3"]
    assert any("tray" in warning for warning in node.warnings)


def test_a_tray_of_a_rack_is_not_its_nvlink_domain():
    """Four GB200 with C2C links: read, with a warning that names the preset of whole racks."""
    slots = [pci(f"000{i}:01:00.0", gpu(i, nvswitch() + '<c2c bw="44712" count="10"/>', sm=100)) for i in range(4)]
    text = system(cpu(0, *slots[:2]), cpu(1, *slots[2:])).replace("AuthenticAMD", "ARM").replace("x86_64", "arm64")
    node = nccl_xml_to_node(text, device="gb200")
    assert links(node, "c2c")["gpu0", "cpu0"] == pytest.approx(447.12)
    assert links(node, "nvlink")["gpu0", "nvswitch0"] == 900.0
    assert any("gb200-nvl72" in warning for warning in node.warnings)


def test_nvlinks_of_power_lead_to_the_cpu_and_to_no_switch():
    """Class 0x068001 is a CPU (IBM), 0x068000 an NVSwitch."""
    to_cpu = '<nvlink target="0004:00:00.0" count="3" tclass="0x068001"/>'
    node = nccl_xml_to_node(system(cpu(0, *(pci(f"0004:0{i}:00.0", gpu(i, to_cpu, sm=70)) for i in range(2)))))
    assert counts(node, "nvswitch") == 0
    assert links(node, "nvlink")["gpu0", "cpu0"] == 75.0


def test_a_gpu_without_the_nvlinks_of_its_siblings_is_named():
    """In the XML by its bus, in the matrix by its number; fewer links count as well as none."""
    slots = [pci(f"0000:{i}0:00.0", gpu(i, nvswitch(18 if i < 2 else 12) if i < 3 else "")) for i in range(4)]
    node = nccl_xml_to_node(system(cpu(0, *slots)), device="h100-sxm")
    assert "gpu2 (0000:20:00.0) has 12 NVLinks, where its siblings have 18." in node.warnings
    assert "gpu3 (0000:30:00.0) has no NVLinks, where its siblings have 18." in node.warnings
    cells = {(f"GPU{a}", f"GPU{b}"): "NV18" for a in range(4) for b in range(a + 1, 4) if b < 3} | {
        ("GPU0", "GPU3"): "SYS"
    }
    other = topo_matrix_to_node(matrix(cells), sm=90, device="h100-sxm")
    assert other.warnings == ["gpu3 has no NVLinks, where its siblings have 18."]


def test_a_file_without_nvlinks_for_gpus_that_have_them_is_a_warning():
    """The file that NCCL is given on Azure has none: NCCL finds them when it runs."""
    node = nccl_xml_to_node(NCCL_NDV4, device="a100-sxm-80gb")
    assert any("has no NVLinks" in warning for warning in node.warnings)
    assert not nccl_xml_to_node(NCCL_NDV4, device="l40s").warnings


def test_links_to_a_gpu_that_is_not_in_the_file_are_named():
    """As where a job sees a part of the GPUs."""
    link = '<nvlink target="0000:70:00.0" count="4" tclass="0x030200"/>'
    node = nccl_xml_to_node(system(cpu(0, pci("0000:10:00.0", gpu(0, link)), pci("0000:20:00.0", gpu(1, link)))))
    assert any("gpu0, gpu1: links to 0000:70:00.0" in warning for warning in node.warnings)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<nvlink", "<infinity", "element `infinity` in `gpu` must be one of"),
        ("</gpu>", "</gpu><fabriclink/>", "element `fabriclink` in `pci`"),
        (
            'count="18"',
            'count="18" lanes="4"',
            "`nvlink` fffffff:ffff:ff must have no attribute but target count tclass",
        ),
        ('numaid="0"', 'numaid="0" sockets="2"', "`cpu` 0 must have no attribute but"),
        ("<system ", '<system racks="2" ', "`system` must have no attribute but version, name"),
        ('rank="0"', 'rank="0" nvswitch_group="1"', "`nvswitch_group`"),
    ],
)
def test_an_element_or_attribute_that_is_not_known_is_refused_by_name(old, new, words):
    """It might carry links."""
    text = system(cpu(0, pci("0000:10:00.0", gpu(0, nvswitch()))))
    with pytest.raises(InvalidValueError) as refused:
        nccl_xml_to_node(text.replace(old, new).replace("</infinity>", ""))
    assert words.replace(" count ", ", count, ") in str(refused.value)


def test_what_carries_no_topology_is_known():
    """All attributes that NCCL and RCCL write, and the ports' second and third roles."""
    port = net(0, port=1, guid="0x1", maxconn=131072, gdr=1, latency="0.000000", coll=1, net=1, keep=1)
    port = port.replace("</nic>", '<gin name="mlx5_0" dev="0"/><rma name="mlx5_0" dev="0"/></nic>')
    slots = [pci("0000:10:00.0", gpu(0, mlopart=0)), pci("0000:a0:00.0", port, kind="0x020700")]
    text = system(cpu(0, *slots, host="0x1")).replace(
        'link_width="16"',
        'link_width="16" vendor="0x10de" device="1" subsystem_vendor="2" subsystem_device="3" keep="1"',
    )
    assert nccl_xml_to_node(text).warnings == []


def test_switches_with_a_link_of_their_own_are_joined():
    """`pcilink`: two PCIe switches that reach each other without the CPU."""
    slots = [switch(i, pci(f"0000:{i}1:00.0", gpu(i)), f'<pcilink target="0000:{1 - i}0:00.0"/>') for i in range(2)]
    node = nccl_xml_to_node(system(cpu(0, *slots)))
    assert nx.shortest_path(node.graph, "gpu0", "gpu1") == ["gpu0", "pcie0", "pcie1", "gpu1"]


# ---- NICs ----------------------------------------------------------------------------------------------------------


def server_with(*nics, near=4):
    """Return a server of four GPUs, each next to one of the first `near` NICs; the other NICs are on the CPU."""
    slots = [switch(i, pci(f"0000:{i}1:00.0", gpu(i)), nics[i] if i < near else "") for i in range(4)]
    return nccl_xml_to_node(system(cpu(0, *slots, *nics[near:])))


def card(number, *, speed=400000, name="mlx5_{}", kind="0x020700", **more):
    """Return a NIC in its slot."""
    return pci(f"0000:{number:x}f:00.0", net(number, speed=speed, name=name, **more), kind=kind)


@pytest.mark.parametrize(
    ("nics", "near", "expected"),
    [
        ([card(i) for i in range(6)], 4, 4),  # two of them are next to no GPU
        ([card(i, speed=400000 if i < 4 else 25000) for i in range(6)], 0, 4),  # front end: slower
        ([card(i, kind="0x020700" if i < 4 else "0x020000") for i in range(6)], 0, 4),  # InfiniBand and Ethernet
        ([card(i, name="mlx5_{}" if i < 4 else "mlx5_bond_{}") for i in range(6)], 0, 4),  # another driver's device
        ([card(i, net=1 if i < 4 else 0) for i in range(5)], 0, 4),  # the file disables it
        ([card(i, speed=25000 if i < 2 else 400000) for i in range(6)], 2, 4),  # slow NICs next to GPUs
        ([card(i) for i in range(4)], 0, 4),
    ],
    ids=["not near", "slower", "Ethernet", "driver", "disabled", "slow and near", "all equal"],
)
def test_nics_for_storage_and_front_end_carry_no_compute_traffic(nics, near, expected):
    """The NICs left out are named in a warning, with the reason, where there are several nodes."""
    node = server_with(*nics, near=near)
    kept = nics_in_use(node)[0]
    assert len(kept) == expected
    graph = repeat_node(node, 2, name="x")
    assert sum(data["kind"] == "leaf" for _, data in graph.nodes(data=True)) == expected
    assert sum(not data.get("in_use", True) for _, data in graph.nodes(data=True)) == 2 * (len(nics) - expected)
    assert ("no compute traffic" in " ".join(node.warnings)) == (expected < len(nics))


def test_named_nics_are_in_use_whatever_they_are():
    """By the machine's name, with a port, or all but the named."""
    node = server_with(*(card(i, speed=400000 if i < 4 else 25000) for i in range(6)))
    assert used(node, ["mlx5_5", "mlx5_0:1"]) == ["mlx5_0", "mlx5_5"]
    assert used(node, ["=mlx5_1"]) == ["mlx5_1"]
    assert used(node, ["^mlx5_0"]) == [f"mlx5_{i}" for i in range(1, 6)]
    node.warnings.clear()
    repeat_node(node, 2, name="x", nics=["mlx5_5"])
    assert node.warnings == []


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (["mlx5_9"], "nics.0 must name a NIC of the file, got mlx5_9"),
        (["mlx5_0", "^mlx5_1"], "begin with ^ everywhere or nowhere"),
        (["^mlx5_0", "^mlx5_1", "^mlx5_2", "^mlx5_3"], "leave a NIC in use"),
    ],
)
def test_names_that_select_nothing_are_refused(named, words):
    """With the names that there are."""
    with pytest.raises(InvalidValueError) as refused:
        nics_in_use(server_with(*(card(i) for i in range(4))), named)
    assert words in str(refused.value)


def test_ports_of_one_rail_share_a_leaf():
    """Where the file states rails, they decide the leaves: two ports of rail 0, one of rail 1."""
    node = server_with(card(0, rail=0), card(1, rail=0), card(2, rail=1), near=3)
    graph = repeat_node(node, 2, name="x")
    degree = {name: graph.in_degree(name) for name, data in graph.nodes(data=True) if data["kind"] == "leaf"}
    assert sorted(degree.values()) == [2 + 4, 4 + 4]  # ports of two nodes, and four spines


# ---- nvidia-smi topo -----------------------------------------------------------------------------------------------


def eight(cell, nic_cells, **columns):
    """Return a matrix of eight GPUs, every two connected by `cell(a, b)`."""
    cells = {(f"GPU{a}", f"GPU{b}"): cell(a, b) for a in range(8) for b in range(a + 1, 8)}
    return matrix(cells | nic_cells, **columns)


HALVES = [str(i // 4) for i in range(8)]


def test_sys_within_one_numa_node_is_no_socket_boundary():
    """A virtual machine: NICs are PIX to one GPU and SYS to all others, of the same NUMA node too."""
    nics = {(f"GPU{2 * i}", f"NIC{i}"): "PIX" for i in range(4)} | {("NIC4", "NIC5"): "PIX"}
    node = topo_matrix_to_node(
        eight(lambda a, b: "NV18", nics, numa=HALVES, cpu=["0-47"] * 8), sm=90, device="h100-sxm"
    )
    assert counts(node, "cpu") == 2
    assert used(node) == ["NIC0", "NIC1", "NIC2", "NIC3"]
    assert nx.shortest_path_length(node.graph, "gpu1", "nic0") == 3  # gpu1, cpu0, switch, nic0


def test_numa_nodes_decide_sockets_where_all_gpus_have_the_same_cores():
    """NODE inside a NUMA node, SYS between: four bridged pairs on two sockets."""
    text = eight(
        lambda a, b: "NV12" if a // 2 == b // 2 else "NODE" if a // 4 == b // 4 else "SYS",
        {(f"GPU{i}", "NIC0"): "NODE" for i in range(4)},
        cpu=["0-31"] * 8,
        numa=HALVES,
    )
    node = topo_matrix_to_node(text, sm=90, device="h100-sxm")
    assert (counts(node, "cpu"), counts(node, "nvswitch")) == (2, 0)
    assert set(links(node, "nvlink").values()) == {300.0}
    built = cluster(node, 2, "h100-sxm", nic_bytes_per_s=12.5e9)
    assert not built.has_nvswitches
    assert "nvls" not in {protocol.algorithm for protocol in built.protocols}


def test_four_numa_nodes_are_four_cpus():
    """NPS4: the matrix says SYS between NUMA nodes of one socket, as NCCL sees them."""
    node = topo_matrix_to_node(eight(lambda a, b: "NV12", {}, numa=[str(i // 2) for i in range(8)]), sm=80)
    assert counts(node, "cpu") == 4


def test_a_print_without_nvlinks_is_a_warning_for_gpus_that_have_them():
    """`topo -mp` omits NVLinks: of an H100 that is a warning, of an L40S it is the truth."""
    text = eight(lambda a, b: "NODE" if a // 4 == b // 4 else "SYS", {}, numa=HALVES)
    assert any("topo -mp" in warning for warning in topo_matrix_to_node(text, sm=90, device="h100-sxm").warnings)
    assert topo_matrix_to_node(text, sm=89, device="l40s").warnings == []


@pytest.mark.parametrize(
    ("device", "links", "contradiction"),
    [
        ("h100-sxm", 8, "have 8 NVLinks each and h100-sxm has 18"),
        ("h800-sxm", 8, None),
        ("h100-sxm", 18, None),
        ("a100-sxm-80gb", 6, "have 6 NVLinks each and a100-sxm-80gb has 12"),
        ("v100-sxm2-32gb", 6, None),
    ],
)
def test_a_number_of_nvlinks_that_contradicts_the_device_is_a_warning(device, links, contradiction):
    """An H800 has 8, and an A100 twice as many as a V100."""
    text = eight(lambda a, b: f"NV{links}", {}, numa=HALVES)
    warnings = topo_matrix_to_node(text, sm=sm_of_device(device), device=device).warnings
    assert [contradiction in warning for warning in warnings] == [True] if contradiction else warnings == []


def test_a_cube_mesh_of_v100s_contradicts_an_a100():
    """Six links in all, to four peers."""
    rings = {(a, b): 2 if (a + b) % 2 else 1 for a, b in [(0, 1), (1, 2), (2, 3), (0, 3)]}
    text = eight(
        lambda a, b: (
            f"NV{rings[a % 4, b % 4]}"
            if a // 4 == b // 4 and (a % 4, b % 4) in rings
            else "NV2"
            if b == a + 4
            else "SYS"
        ),
        {},
        numa=HALVES,
    )
    node = topo_matrix_to_node(text, sm=80, device="a100-sxm-80gb")
    assert any("have 6 NVLinks each and a100-sxm-80gb has 12" in warning for warning in node.warnings)
    assert topo_matrix_to_node(text, sm=70, device="v100-sxm2-32gb").warnings == []


def test_trays_without_nic_are_answered_with_the_preset_of_the_rack():
    text = "      GPU0  GPU1\nGPU0   X   NV18\nGPU1  NV18   X\n"
    node = topo_matrix_to_node(text, sm=100, device="gb200")
    with pytest.raises(InvalidValueError, match=r"be 1 where the node has no NIC.*`preset: gb200-nvl72` instead of"):
        repeat_node(node, 4, name="x")


def test_bridged_a100s_have_direct_nvlinks_and_no_nvswitch():
    """Pairs with NV12; the rest over PCIe."""
    text = eight(lambda a, b: "NV12" if a // 2 == b // 2 else "PXB" if a // 4 == b // 4 else "SYS", {}, numa=HALVES)
    node = topo_matrix_to_node(text, sm=80, device="a100-sxm-80gb")
    assert len(links(node, "nvlink")) == 8
    assert counts(node, "nvswitch") == 0
    assert node.warnings == []


def test_gpus_that_are_numa_nodes_of_their_own_have_their_cpus_nics():
    """A GB200 tray: every GPU is SYS to every NIC; two groups of NICs for two Grace CPUs."""
    cells = {(f"GPU{a}", f"GPU{b}"): "NV18" for a in range(4) for b in range(a + 1, 4)}
    cells |= {(f"NIC{a}", f"NIC{b}"): "NODE" for a in range(6) for b in range(a + 1, 6) if a // 3 == b // 3}
    columns = {
        "cpu": ["0-71"] * 2 + ["72-143"] * 2,
        "numa": ["0,3-9"] * 2 + ["1,19-25"] * 2,
        "ids": ["2", "10", "18", "26"],
    }
    node = topo_matrix_to_node(matrix(cells, **columns), sm=100, device="gb200")
    assert (counts(node, "cpu"), counts(node, "nvswitch")) == (2, 1)
    assert any("tray" in warning for warning in node.warnings)
    repeat_node(node, 2, name="x", nic_bytes_per_s=50e9)
    assert any("does not tell which of its 6 NICs serve the 4 GPUs" in warning for warning in node.warnings)


def test_nics_of_another_driver_in_the_legend_are_left_out():
    """Eight NICs of the compute network and two of the front end, by what the legend calls them."""
    cells = {(f"GPU{i}", f"NIC{i}"): "PIX" for i in range(8)} | {("GPU0", "NIC8"): "PIX", ("GPU4", "NIC9"): "PIX"}
    names = [*(f"mlx5_{i}" for i in range(8)), "irdma0", "irdma1"]
    node = topo_matrix_to_node(eight(lambda a, b: "NV18", cells, numa=HALVES, legend=names), sm=90)
    assert used(node) == names[:8]


def test_a_name_of_any_driver_is_a_column():
    """Old prints name devices in the head: `irdma0` has no underscore and is not dropped."""
    text = "     GPU0 GPU1 irdma0\nGPU0 X NV4 PIX\nGPU1 NV4 X SYS\nirdma0 PIX SYS X\n"
    node = topo_matrix_to_node(text, sm=80)
    assert [node.graph.nodes[nic]["label"] for nic in node.nics] == ["irdma0"]


def test_a_row_without_a_column_is_refused():
    """Nothing is dropped without a word."""
    with pytest.raises(InvalidValueError, match="row GPU2 must have one row, and a column in the head"):
        topo_matrix_to_node("     GPU0 GPU1\nGPU0 X NV4\nGPU1 NV4 X\nGPU2 NV4 NV4\n", sm=80)


# ---- rocm-smi ------------------------------------------------------------------------------------------------------

TYPES = """
============================ ROCm System Management Interface ============================
=============================== Link Type between two GPUs ===============================
       GPU0         GPU1         GPU2         GPU3
GPU0   0            XGMI         XGMI         PCIE
GPU1   XGMI         0            PCIE         XGMI
GPU2   XGMI         PCIE         0            XGMI
GPU3   PCIE         XGMI         XGMI         0

"""
NUMA = "= Numa Nodes =\n" + "".join(f"GPU[{i}]\t\t: (Topology) Numa Node: {i // 2}\n" for i in range(4))
HOPS = """
================================= Hops between two GPUs ==================================
       GPU0         GPU1         GPU2         GPU3
GPU0   0            1            2            2
GPU1   1            0            2            1
GPU2   2            2            0            1
GPU3   2            1            1            0

"""


def test_the_text_of_rocm_smi_is_read():
    """XGMI where the table says so, CPUs by NUMA node; MI300X has one link between two GPUs."""
    assert is_rocm_smi(TYPES + NUMA)
    node = rocm_smi_to_node(TYPES + NUMA, device="mi300x")
    assert len(links(node, "xgmi")) == 8
    assert set(links(node, "xgmi").values()) == {64.0}
    assert (counts(node, "cpu"), len(links(node, "cpu"))) == (2, 2)
    assert node.warnings == []
    assert cluster(node, 1, "mi300x").path(0, 3) == ["gpu0", "cpu0.0", "cpu0.1", "gpu3"]


def test_gpus_two_hops_apart_have_no_link_of_their_own():
    """The table of hops decides; of MI250X the text does not tell how many links there are."""
    node = rocm_smi_to_node(HOPS + TYPES + NUMA, device="mi250x-gcd")
    assert ("gpu0", "gpu2") not in links(node, "xgmi")
    assert any("no counts of links" in warning for warning in node.warnings)


@pytest.mark.parametrize(
    ("text", "device", "words"),
    [
        (TYPES, "h100-sxm", "preset must be of AMD"),
        ("ROCm System Management Interface", "mi300x", "have the table Link Type"),
        ("LINK TYPE TABLE:\n 0000:05:00.0", "mi300x", "Save `rocm-smi --showtopo`"),
        (TYPES.replace("GPU3   PCIE         XGMI         XGMI         0", ""), "mi300x", "row GPU3 must be there"),
        (TYPES.replace("GPU2   XGMI", "GPU2   PCIE"), "mi300x", "say the same in both rows"),
        (TYPES.replace("XGMI", "CXL"), "mi300x", "be XGMI or PCIE, got CXL"),
    ],
)
def test_a_text_of_amd_that_cannot_be_is_refused(text, device, words):
    """With what to save instead."""
    with pytest.raises(InvalidValueError) as refused:
        rocm_smi_to_node(text, device=device)
    assert words in str(refused.value)


# ---- what the hardware can run -------------------------------------------------------------------------------------


def nvls(built):
    """Tell whether a cluster runs NVLS."""
    return "nvls" in {protocol.algorithm for protocol in built.protocols}


@pytest.mark.parametrize(
    ("preset", "device", "expected"),
    [
        ("dgx-h100", "h100-sxm", True),
        ("gb200-nvl72", "gb200", True),
        ("dgx-a100", "a100-sxm-80gb", False),
        ("dgx-h100", "a100-sxm-80gb", False),
        ("mi300x", "mi300x", False),
        ("pcie-8x-l40s", "l40s", False),
    ],
)
def test_nvls_needs_switches_that_reduce_and_gpus_that_use_them(preset, device, expected):
    """An NVSwitch of the third generation, and multicast of the GPU."""
    assert nvls(build_cluster(CLUSTERS[preset].fabric, 2, DEVICES[device])) is expected


def test_nvls_needs_a_link_of_every_gpu_to_an_nvswitch():
    """GPUs of an XML with NVSwitches run it; with direct NVLinks, or one GPU without NVLinks, they do not."""
    for link, expected in ((nvswitch(), True), ("", False)):
        slots = [pci(f"0000:{i}0:00.0", gpu(i, nvswitch() if i else link)) for i in range(4)]
        node = nccl_xml_to_node(system(cpu(0, *slots)))
        graph = repeat_node(node, 1, name="x")
        built = build_graph_cluster(graph, DEVICES["h100-sxm"], name="x", inside="nvlink4")
        assert nvls(built) is expected


def test_a_part_of_the_gpus_of_a_node_is_used():
    """The first two of four; their links remain."""
    slots = [pci(f"0000:{i}0:00.0", gpu(i, nvswitch())) for i in range(4)]
    node = nccl_xml_to_node(system(cpu(0, *slots, card(0))))
    built = cluster(node, 2, "h100-sxm", gpus_used=2)
    assert (built.num_gpus, built.gpus_per_node) == (4, 2)
    with pytest.raises(InvalidValueError, match="gpus_per_node_used must be from 1 to 4"):
        repeat_node(node, 1, name="x", gpus_used=5)


def test_the_one_node_of_a_file_is_named_for_messages():
    """Its own name, and what the machine calls it."""
    node = OneNode()
    assert [node.shown(node.add("nic", label)) for label in ("mlx5_0", "NIC1")] == ["nic0 (mlx5_0)", "nic1"]
