"""The eight phases of DualPipe and DualPipeV on one stage, which differ only in where the two chunks stand.

Model
-----
Of h stages from the end that a chunk 0 enters to the one where it turns or meets its other half, stage r runs, with
F0 and F1 forward and B0 and B1 backward passes of the two chunks, each over its own row of microbatches:

    1. F0                      2 (h - r - 1) times
    2. F0 F1                   r + 1 times
    3. B1 (input) W1 F1        h - r - 1 times
    4. F0 with B1, F1 with B0  the rest of the forward passes of chunk 0
    5. B1, F1 with B0          h - r - 1 times
    6. B1 B0                   r + 1 times, the second half with W put off
    7. W B0 (input)            h - r - 1 times
    8. W                       what is left

"with" is a pair: the two run together. B is whole where no W follows. The first pair of phase 4 is not one on stage
h - 1, whose F0 is what B1 waits for.

References
----------
DeepSeek-AI, "DeepSeek-V3 technical report", 2024, section 3.2.1 and figure 5.
"""

from collections import deque

from workloads.schedules.base import Pair, Pass, Step

__all__ = ["paired_order"]


class _Writer:
    """A stage's steps, with the next microbatch of each line of passes and the W put off."""

    def __init__(self, rows: tuple[range, range], *, is_swapped: bool) -> None:
        self.steps: list[Step] = []
        self._chunk = (1, 0) if is_swapped else (0, 1)
        self._rows = rows[::-1] if is_swapped else rows
        self._next = {(kind, chunk): 0 for kind in "FB" for chunk in (0, 1)}
        self._put_off: deque[Pass] = deque()

    def one(self, kind: str, chunk: int, *, puts_off: bool = False) -> None:
        """Write a pass of a chunk."""
        done = self._take(kind, chunk)
        self.steps.append(done)
        if puts_off:
            self._put_off.append(done._replace(kind="W"))

    def pair(self, forward: int, backward: int) -> None:
        """Write F of one chunk with B of the other."""
        f, b = self._take("F", forward), self._take("B", backward)
        self.steps.append(Pair("FB", f.microbatch, f.chunk, b.microbatch, b.chunk))

    def weights(self, number: int) -> None:
        """Write the oldest W put off."""
        self.steps += [self._put_off.popleft() for _ in range(number)]

    def _take(self, kind: str, chunk: int) -> Pass:
        number = self._next[kind, chunk]
        self._next[kind, chunk] = number + 1
        return Pass(kind, self._rows[chunk][number], self._chunk[chunk])


def paired_order(r: int, h: int, rows: tuple[range, range], *, is_swapped: bool = False) -> list[Step]:
    """Return the steps of stage `r` of `h`; `rows` are the microbatches of chunk 0 and 1, as many of both.

    With `is_swapped` the chunks change parts: the stage stands in the other half of DualPipe's.

    >>> steps = paired_order(0, 1, (range(2), range(2)))
    >>> " ".join(s.kind + str(s.microbatch) for s in steps)
    'F0 F0 F1 B0 FB1 B1 B1 W1'
    """
    w = _Writer(rows, is_swapped=is_swapped)
    before, inside = h - r - 1, r + 1
    for _ in range(2 * before):
        w.one("F", 0)
    for _ in range(inside):
        w.one("F", 0)
        w.one("F", 1)
    for _ in range(before):
        w.one("B", 1, puts_off=True)
        w.weights(1)
        w.one("F", 1)
    for i in range(len(rows[0]) - 2 * before - inside):
        if i == 0 and before == 0:
            w.one("F", 0)
            w.one("B", 1)
        else:
            w.pair(0, 1)
        w.pair(1, 0)
    for _ in range(before):
        w.one("B", 1)
        w.pair(1, 0)
    _drain(w, before, inside, r)
    return w.steps


def _drain(w: _Writer, before: int, inside: int, r: int) -> None:
    """Write phases 6 to 8."""
    puts_off = False
    for i in range(inside):
        puts_off = puts_off or (i == inside // 2 and r % 2 == 1)
        w.one("B", 1, puts_off=puts_off)
        puts_off = puts_off or (i == inside // 2 and r % 2 == 0)
        w.one("B", 0, puts_off=puts_off)
    for _ in range(before):
        w.weights(1)
        w.one("B", 0, puts_off=True)
    w.weights(inside)
