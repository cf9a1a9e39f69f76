"""Sets of links, as bits of integers.

Model
-----
Two sets meet where `first & second` is true; `first | second` are the links of either; `first ^ second` those of the
first alone, where all links of the second are among them. In a cluster of at most 16,384 links (2,048 GPUs) a set is a
Python integer. In a larger cluster it is {block: bits}, block b for links 4096 b to 4096 (b + 1), so that a set costs
what it has and not what the cluster has.
"""

from collections import defaultdict
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["LinkBlocks", "LinkSet", "LinkUsers", "link_set", "link_users"]

_BLOCK: Final = 4096
_MOST_BITS: Final = 16_384
"""Links of a cluster whose sets are integers: with more, operations on integers take longer than those on blocks."""


class LinkSet(Protocol):
    """A set of links that does not change: an integer, or `LinkBlocks`."""

    def __and__(self, other: Any, /) -> Any: ...  # noqa: ANN401  # both sets are of one kind
    def __or__(self, other: Any, /) -> Any: ...  # noqa: ANN401
    def __xor__(self, other: Any, /) -> Any: ...  # noqa: ANN401
    def __bool__(self) -> bool: ...


class LinkBlocks:
    """A set of links of a large cluster.

    >>> bool(LinkBlocks.of(np.array([1, 5000])) & LinkBlocks.of(np.array([5000])))
    True
    >>> bool(LinkBlocks.of(np.array([1])) & LinkBlocks.of(np.array([5000])))
    False
    """

    __slots__ = ("blocks", "only")

    def __init__(self, blocks: dict[int, int]) -> None:
        self.blocks = blocks
        self.only = next(iter(blocks.items())) if len(blocks) == 1 else None
        """The block and its bits, of a set within one block, which is the usual case."""

    @classmethod
    def of(cls, links: NDArray[np.intp]) -> "LinkBlocks":
        """Return the set of `links`, numbers of at least 0. Shape [K]."""
        block_of = links // _BLOCK
        return cls(
            {block: _bits(links[block_of == block] - block * _BLOCK, _BLOCK) for block in np.unique(block_of).tolist()}
        )

    def __and__(self, other: "LinkBlocks") -> bool:
        """Tell whether two sets have a link in common."""
        theirs = other.blocks
        if self.only is not None:
            return bool(self.only[1] & theirs.get(self.only[0], 0))
        if other.only is not None:
            return bool(other.only[1] & self.blocks.get(other.only[0], 0))
        for block, bits in self.blocks.items():  # noqa: SIM110  # a generator would cost more than the loop
            if bits & theirs.get(block, 0):
                return True
        return False

    def __or__(self, other: "LinkBlocks") -> "LinkBlocks":
        """Return the links of either."""
        blocks = dict(self.blocks)
        for block, bits in other.blocks.items():
            blocks[block] = blocks.get(block, 0) | bits
        return LinkBlocks(blocks)

    def __xor__(self, other: "LinkBlocks") -> "LinkBlocks":
        """Return the links of one of two sets alone."""
        blocks = dict(self.blocks)
        for block, bits in other.blocks.items():
            blocks[block] = blocks.get(block, 0) ^ bits
        return LinkBlocks(blocks)

    def __bool__(self) -> bool:
        return any(self.blocks.values())


class LinkUser(Protocol):
    """Something that uses links."""

    links: LinkSet


_User = TypeVar("_User", bound=LinkUser)


class LinkUsers(dict[_User, None]):
    """Users of links, in the order in which they were added."""

    def extend(self, user: _User, links: LinkSet) -> None:
        """Let a user use `links` too; it keeps its place in the order."""
        user.links = user.links | links

    def meeting(self, links: LinkSet) -> list[_User]:
        """Return the users of any of `links`, in the order in which they were added."""
        return [user for user in self if user.links & links]


class _UsersOfBlocks(LinkUsers[_User]):
    """Users of links of a large cluster, found by the blocks of their links."""

    def __init__(self) -> None:
        super().__init__()
        self._of_block: defaultdict[int, dict[_User, None]] = defaultdict(dict)
        self._numbers: dict[_User, int] = {}
        self._next = 0

    def __setitem__(self, user: _User, value: None) -> None:
        super().__setitem__(user, value)
        self._numbers[user] = self._next
        self._next += 1
        self._index(user, user.links)

    def __delitem__(self, user: _User) -> None:
        super().__delitem__(user)
        del self._numbers[user]
        for block in user.links.blocks:  # type: ignore[attr-defined]  # all sets are `LinkBlocks` here
            del self._of_block[block][user]

    def extend(self, user: _User, links: LinkSet) -> None:
        super().extend(user, links)
        self._index(user, links)

    def meeting(self, links: LinkSet) -> list[_User]:
        blocks: dict[int, int] = links.blocks  # type: ignore[attr-defined]  # see above
        near = [self._of_block[block] for block in blocks if block in self._of_block]
        users = near[0] if len(near) == 1 else dict.fromkeys(user for of_block in near for user in of_block)
        found = [user for user in users if user.links & links]
        return sorted(found, key=self._numbers.__getitem__) if len(found) > 1 else found

    def _index(self, user: _User, links: LinkSet) -> None:
        for block in links.blocks:  # type: ignore[attr-defined]  # see above
            self._of_block[block][user] = None


def link_set(links: NDArray[np.intp], num_links: int) -> LinkSet:
    """Return the set of `links` [K] of a cluster of `num_links`."""
    return _bits(links, num_links) if num_links <= _MOST_BITS else LinkBlocks.of(links)


def link_users(num_links: int) -> LinkUsers[Any]:
    """Return nobody yet who uses links of a cluster of `num_links`."""
    return LinkUsers() if num_links <= _MOST_BITS else _UsersOfBlocks()


def _bits(links: NDArray[np.intp], num_links: int) -> int:
    """Return links of so many as bits of an integer."""
    bits = np.zeros(num_links, dtype=np.uint8)
    bits[links] = 1
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")
