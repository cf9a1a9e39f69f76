"""Sets of links, as bits of integers: blocks of links, so that a set costs what it holds and not what the cluster has.

Model
-----
A set is {block: bits}, block b for links `_BLOCK` b to `_BLOCK` (b + 1). A cluster of a thousand GPUs is one block, and
two sets of its links meet where the `&` of two integers is not 0.
"""

from collections import defaultdict
from typing import Final, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["BusyLinks", "LinkSet", "LinkUsers"]

_BLOCK: Final = 4096


class LinkSet:
    """A set of links that does not change.

    >>> bool(LinkSet.of(np.array([1, 5000])) & LinkSet.of(np.array([5000])))
    True
    >>> bool(LinkSet.of(np.array([1])) & LinkSet.of(np.array([5000])))
    False
    """

    __slots__ = ("blocks", "only")

    def __init__(self, blocks: dict[int, int]) -> None:
        self.blocks = blocks
        self.only = next(iter(blocks.items())) if len(blocks) == 1 else None
        """The block and its bits, of a set within one block: needed at every event of a small cluster."""

    @classmethod
    def of(cls, links: NDArray[np.intp]) -> "LinkSet":
        """Return the set of `links`, numbers of at least 0. Shape [K]."""
        bits = np.zeros(_BLOCK, dtype=np.uint8)
        blocks: dict[int, int] = {}
        block_of = links // _BLOCK
        for block in np.unique(block_of).tolist():
            places = links[block_of == block] - block * _BLOCK
            bits[:] = 0
            bits[places] = 1
            blocks[block] = int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")
        return cls(blocks)

    def __and__(self, other: "LinkSet") -> bool:
        """Tell whether two sets have a link in common."""
        theirs = other.blocks
        if self.only is not None:
            return bool(self.only[1] & theirs.get(self.only[0], 0))
        for block, bits in self.blocks.items():  # noqa: SIM110  # a generator would cost more than the loop
            if bits & theirs.get(block, 0):
                return True
        return False

    def __or__(self, other: "LinkSet") -> "LinkSet":
        """Return the links of either."""
        if self.only is not None and other.only is not None and self.only[0] == other.only[0]:
            return LinkSet({self.only[0]: self.only[1] | other.only[1]})
        blocks = dict(self.blocks)
        for block, bits in other.blocks.items():
            blocks[block] = blocks.get(block, 0) | bits
        return LinkSet(blocks)


class BusyLinks:
    """The links in use."""

    def __init__(self, links: LinkSet) -> None:
        """Begin with `links` in use."""
        self._blocks = dict(links.blocks)

    def __bool__(self) -> bool:
        return any(self._blocks.values())

    def __and__(self, links: LinkSet) -> bool:
        """Tell whether any of `links` is in use."""
        busy = self._blocks
        if links.only is not None:
            return bool(links.only[1] & busy.get(links.only[0], 0))
        for block, bits in links.blocks.items():  # noqa: SIM110  # see above
            if bits & busy.get(block, 0):
                return True
        return False

    def add(self, links: LinkSet) -> None:
        """Let links be in use."""
        busy = self._blocks
        for block, bits in links.blocks.items():
            busy[block] = busy.get(block, 0) | bits

    def remove(self, links: LinkSet) -> None:
        """Let links, all of which were in use, be free."""
        busy = self._blocks
        for block, bits in links.blocks.items():
            busy[block] &= ~bits


class LinkUser(Protocol):
    """Something that uses links."""

    links: LinkSet


_User = TypeVar("_User", bound=LinkUser)


class LinkUsers(Generic[_User]):
    """Users of links, found by the blocks of their links."""

    def __init__(self) -> None:
        self._of_block: defaultdict[int, dict[_User, None]] = defaultdict(dict)
        self._numbers: dict[_User, int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, user: _User) -> None:
        """Take one more user."""
        self._numbers[user] = self._next
        self._next += 1
        for block in user.links.blocks:
            self._of_block[block][user] = None

    def extend(self, user: _User, links: LinkSet) -> None:
        """Let a user use `links` too; it keeps its place in the order."""
        user.links |= links
        for block in links.blocks:
            self._of_block[block][user] = None

    def remove(self, user: _User) -> None:
        """Forget a user."""
        del self._numbers[user]
        for block in user.links.blocks:
            del self._of_block[block][user]

    def meeting(self, links: LinkSet) -> list[_User]:
        """Return the users of any of `links`, in the order in which they were added."""
        if links.only is not None:
            block, bits = links.only
            found = [user for user in self._of_block.get(block, ()) if bits & user.links.blocks[block]]
            return sorted(found, key=self._numbers.__getitem__) if len(found) > 1 else found
        near = [self._of_block[block] for block in links.blocks if block in self._of_block]
        users = near[0] if len(near) == 1 else dict.fromkeys(user for of_block in near for user in of_block)
        found = [user for user in users if user.links & links]
        return sorted(found, key=self._numbers.__getitem__) if len(found) > 1 else found
