"""Names of parallel strategies, such as `EP64_TP16_PP4`.

A name is a list of axis and size joined by `_`, in any order, each axis once: TP (tensor), PP (pipeline), EP (expert),
DP (data), CP (context), ETP (tensor parallelism inside an expert), VPP (virtual stages per rank); `SP` alone turns
sequence parallelism on. An axis that is not named has size 1, except DP, which follows from the number of GPUs.
"""

import re
from dataclasses import dataclass, fields

from sim.errors import InvalidValueError, Remedy

__all__ = ["Strategy"]

_PART = re.compile(r"(ETP|VPP|TP|PP|EP|DP|CP)([1-9][0-9]{0,6})|(SP)")
_LOOSE_PART = re.compile(
    r"(?:(ETP|VPP|TP|PP|EP|DP|CP) ?[=:-]? ?([1-9][0-9]{0,6})|SP)(?:[\s_,;+/-]+(?=[A-Z])|$|(?=[A-Z]))"
)
"""An axis and its size as people write them in other tools, with what separates it from the next axis."""
_ORDER = ("ep", "tp", "pp", "dp", "cp", "etp", "vpp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """Sizes of the axes of parallelism; a convention says how the axes share GPUs."""

    tp: int = 1
    """Tensor parallel ranks."""
    pp: int = 1
    """Pipeline parallel ranks: the stages of a pipeline."""
    ep: int = 1
    """Expert parallel ranks."""
    etp: int = 1
    """Tensor parallel ranks of one expert."""
    dp: int | None = None
    """Data parallel replicas; None: what the other axes leave of the GPUs."""
    cp: int = 1
    """Context parallel ranks."""
    vpp: int = 1
    """Virtual stages (model chunks) of each pipeline rank."""
    sp: bool | None = None
    """Sequence parallelism; None where the convention decides."""

    def __post_init__(self) -> None:
        for axis in _ORDER:
            size = getattr(self, axis)
            if size is not None and size < 1:
                raise InvalidValueError(
                    field=f"parallel.{axis}", rule="be at least 1", value=size, hint="Leave it out for size 1."
                )

    @classmethod
    def parse(cls, name: str) -> "Strategy":
        """Read a name.

        >>> Strategy.parse("EP64_TP16_PP4")
        Strategy(tp=16, pp=4, ep=64, etp=1, dp=None, cp=1, vpp=1, sp=None)
        """
        sizes: dict[str, int | bool] = {}
        for axis_and_size in name.strip().upper().split("_"):
            match = _PART.fullmatch(axis_and_size)
            if re.fullmatch(r"(ETP|VPP|TP|PP|EP|DP|CP)0+", axis_and_size):
                axis = axis_and_size.rstrip("0")
                raise _refuse(
                    name, f"have degrees of at least 1, not {axis_and_size}", f"Write {axis}1, or leave it out."
                )
            if match is None:
                known = "TP PP EP DP CP ETP VPP SP"
                joined = _joined(name)
                hint = f"Join axes and sizes with _, as in EP64_TP16_PP4 ({known})."
                hint = hint if joined is None else f"Write {joined}."
                error = _refuse(name, f"be made of known parts, not {axis_and_size!r}", hint)
                raise (
                    error
                    if joined is None
                    else error.with_remedies([Remedy({"parallel.strategy": joined}, joined)], lead="Write")
                )
            axis, size = ("sp", True) if match[3] else (match[1].lower(), int(match[2]))
            if axis in sizes:
                raise _refuse(name, f"name {axis.upper()} once", f"Drop one of the {axis.upper()} parts.")
            sizes[axis] = size
        return cls(**sizes)  # type: ignore[arg-type]  # sizes holds field names with int or bool, as matched above

    @property
    def name(self) -> str:
        """The canonical name: EP, TP, PP always, the others where they are not 1.

        >>> Strategy.parse("pp4_tp2").name
        'EP1_TP2_PP4'
        """
        parts = [
            f"{axis.upper()}{getattr(self, axis)}"
            for axis in _ORDER
            if axis in ("ep", "tp", "pp") or getattr(self, axis) not in (None, 1)
        ]
        return "_".join(parts + (["SP"] if self.sp else []))

    def differences(self, other: "Strategy") -> int:
        """Count the axes in which two strategies differ."""
        return sum(getattr(self, f.name) != getattr(other, f.name) for f in fields(self) if f.name != "sp")


def _joined(name: str) -> str | None:
    """Return the name that is written with other separators, or without any; None where it is no such name.

    >>> _joined("tp2pp2ep4"), _joined("TP2-PP2-EP4"), _joined("tp=8, sp"), _joined("TP2.5")
    ('TP2_PP2_EP4', 'TP2_PP2_EP4', 'TP8_SP', None)
    """
    parts = _LOOSE_PART.findall(name.strip().upper())
    if _LOOSE_PART.sub("", name.strip().upper()):
        return None
    joined = "_".join(axis + size if axis else "SP" for axis, size in parts)
    try:
        Strategy.parse(joined)
    except InvalidValueError:
        return None
    return joined


def _refuse(name: str, rule: str, hint: str) -> InvalidValueError:
    return InvalidValueError(field="parallel.strategy", rule=rule, value=repr(name), hint=hint)
