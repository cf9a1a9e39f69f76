"""What recorders call the columns of a table and the arrays of a file.

References
----------
SGLang `python/sglang/srt/eplb/expert_distribution.py`: CSV of `layer_id,expert_id,count` in its first versions, then a
dict with `logical_count` [steps, layers, experts], or `records` with `global_physical_count` and `topk_ids_of_layer`.
vLLM `vllm/distributed/eplb/eplb_state.py`: `expert_load_pass` [layers, physical experts], `expert_load_window` [steps,
layers, physical experts] and `physical_to_logical_map` [layers, physical experts]; `routed_experts` of a request's
output [tokens, layers, top_k].
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["COUNTS", "IDS", "LOGICAL", "MAP", "NOT_ROUTING", "PHYSICAL", "canonical", "column_roles", "source_of"]

_LAYER: Final = frozenset({"layer", "layerid", "layeridx", "layerindex", "moelayer", "moelayerid", "moelayeridx"})
_EXPERT: Final = frozenset(
    {"expert", "expertid", "expertidx", "expertindex", "logicalexpert", "logicalexpertid", "selectedexpert"}
    | {"chosenexpert", "routedexpert", "physicalexpert", "physicalexpertid"}
)
_STEP: Final = frozenset(
    {"microbatch", "microbatchid", "step", "stepid", "stepidx", "iteration", "iter", "iterid", "batch", "batchid"}
    | {"forwardpassid", "forwardpass", "passid", "forwardid"}
)
_COUNT: Final = frozenset(
    {"tokens", "count", "counts", "tokencount", "tokencounts", "numtokens", "ntokens", "numtoken", "load", "loads"}
    | {"expertload", "expertcount", "expertcounts", "logicalcount", "hits", "freq", "frequency", "activations"}
    | {"activationcount", "countalltopk", "routedtokens", "tokensrouted", "numroutedtokens", "tokensperexpert"}
)
_TOKEN: Final = frozenset({"token", "tokenid", "tokenidx", "tokenindex", "position", "tokenpos", "tokenposition"})
_CHOICE: Final = frozenset({"k", "topk", "slot", "choice", "topkidx", "topkindex", "topkrank", "topkslot", "kidx"})
_IDS_COLUMN: Final = frozenset(
    {"topkids", "topkidx", "topkindices", "topkexperts", "expertids", "experts", "selectedexperts", "routedexperts"}
    | {"chosenexperts", "expertindices"}
)
_ROLES: Final[Mapping[str, frozenset[str]]] = {
    "layer": _LAYER,
    "expert": _EXPERT,
    "step": _STEP,
    "count": _COUNT,
    "ids": _IDS_COLUMN,
    "token": _TOKEN,
    "choice": _CHOICE,
}
"""Role of a column -> names in lower case, letters and digits alone."""

COUNTS: Final = frozenset(
    {"tokens", "logicalcount", "logicalcounts", "count", "counts", "expertcount", "expertcounts", "tokencounts"}
    | {"expertload", "expertloads", "load", "loads", "logicalexpertload", "logicalload", "tokensperexpert"}
    | {"numtokensperexpert", "expertdistribution", "globalexpertload", "tokencount", "expertfrequency"}
)
"""Arrays of token counts [steps, layers, experts] or [layers, experts]."""
PHYSICAL: Final = frozenset(
    {"expertloadwindow", "expertloadpass", "globalexpertloadwindow", "globalphysicalcount", "physicalcount"}
    | {"physicalload", "physicalexpertload", "totalload", "globalphysicalcountofforwardpass"}
)
"""Arrays of token counts by physical expert: a slot, of which a logical expert has one or several."""
MAP: Final = frozenset({"physicaltologicalmap", "physicaltological", "lastphysicaltologicalmap", "phy2log", "phytolog"})
"""Arrays of the logical expert of each physical expert [layers, physical experts]."""
IDS: Final = frozenset(
    {"topkids", "topkidx", "topkindices", "topkindex", "topkexperts", "topkidsoflayer", "routedexperts", "expertids"}
    | {"selectedexperts", "chosenexperts", "expertindices", "routingids", "expertidx", "ids", "indices", "choices"}
)
"""Arrays of chosen experts [tokens, layers, top_k]; `topk_ids_of_layer` of SGLang is [layers, tokens, top_k]."""
LOGICAL: Final = frozenset({"tokens", "logicalcount", "logicalcounts", "logicalexpertload", "logicalload"})
"""Arrays of counts that are those of logical experts, whatever map the recording has too."""
NOT_ROUTING: Final = frozenset({"routerlogits", "gatelogits", "logits", "topkweights", "routingweights", "gateweights"})
"""Arrays of weights, which are neither counts nor choices."""


def canonical(name: object) -> str:
    """Return a name in lower case, its letters and digits alone.

    >>> canonical(" Layer_ID ")
    'layerid'
    """
    return re.sub(r"[^0-9a-z]+", "", str(name).lower())


def column_roles(head: Iterable[object]) -> dict[str, list[int]]:
    """Return the positions of the columns that have each role.

    >>> column_roles(["layer_id", "expert_id", "count"])
    {'layer': [0], 'expert': [1], 'count': [2]}
    """
    roles: dict[str, list[int]] = {}
    for position, name in enumerate(head):
        word = canonical(name)
        role = next((role for role, words in _ROLES.items() if word in words), None)
        if role is not None:
            roles.setdefault(role, []).append(position)
    return roles


def source_of(name: object) -> str:
    """Return who writes an array or a table of a name, as a phrase.

    >>> source_of("logical_count"), source_of("expert_load_window"), source_of("tokens")
    ("SGLang's expert distribution", "vLLM's expert load", 'token counts')
    """
    word = canonical(name)
    if word in {"logicalcount", "globalphysicalcount", "layeridexpertidcount"}:
        return "SGLang's expert distribution"
    if word.startswith(("expertload", "globalexpertload")):
        return "vLLM's expert load"
    return "chosen experts (top-k ids)" if word in IDS else "token counts"
