"""How the state of a compiled run stands in two arrays: one of integers (`m`), one of floats (`f`).

Model
-----
Both arrays are a row of *columns*: `m[m[BATCH_START] + b]` is the start of batch `b`, and `f[m[FLOW_BYTES] + t]` the
bytes of a flow of transfer `t`. The first entries of `m` are scalars (the time is `m[NOW]`), then where columns begin.
Columns of a plan are written once; columns of a run are written by the kernel, and made longer between two events.

Two arrays and not a value with a field for each column: a compiled function takes an array as seven arguments, so a
value of a hundred columns makes calls slow, and compiling slower. The compiled kernel takes the two as bare pointers:
no index may be negative. The kernel's modules import all names of this module.

Numbers that name nothing are -1.
"""

from dataclasses import dataclass
from itertools import count
from typing import Final

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
_slot = count()

# ---- scalars: what is at `m[NAME]` --------------------------------------------------------------------------------

NOW: Final = next(_slot)  # ns since the start of the run
STATUS: Final = next(_slot)  # see below
NUM_EVENTS: Final = next(_slot)  # processed so far
MOVED_AT: Final = next(_slot)  # number of the event at which time moved on
MAX_EVENTS: Final = next(_slot)
MAX_STILL: Final = next(_slot)  # events at one time
MARGIN: Final = next(_slot)  # entries that one event may add to a column
NEXT_EVENT: Final = next(_slot)  # number of the next event to be made
WHAT: Final = next(_slot)  # the event that is processed: kind + argument * 16
EVENT: Final = next(_slot)  # its number
HEAP_SIZE: Final = next(_slot)
HEAP_LIMIT: Final = next(_slot)
KEEPS_ROWS: Final = next(_slot)  # 0: only the time of the step is wanted
FIRST_NS: Final = next(_slot)  # start of the earliest row
LAST_NS: Final = next(_slot)  # end of the latest row
NUM_ENTRIES: Final = next(_slot)
NUM_BATCHES: Final = next(_slot)
NUM_PLACES: Final = next(_slot)  # transfers of all batches
NUM_STARTED: Final = next(_slot)  # collectives started on streams
NUM_COUNTED: Final = next(_slot)  # ops whose tokens count
NUM_SERVED: Final = next(_slot)  # kernels of services
NUM_INTERVALS: Final = next(_slot)
INTERVAL_LIMIT: Final = next(_slot)
NUM_SHARES: Final = next(_slot)  # transfers of all intervals
SHARE_LIMIT: Final = next(_slot)
NUM_SPEEDS: Final = next(_slot)  # speeds that the shown kernels of slowed claims had
SPEED_LIMIT: Final = next(_slot)
PAST_LIMIT: Final = next(_slot)  # rows of PAST_NEXT
NUM_STALE: Final = next(_slot)
NUM_BLOCKED: Final = next(_slot)  # programs that wait for what other lanes make
NUM_SOLVES: Final = next(_slot)
NUM_ENDED: Final = next(_slot)  # transfers that have ended at least once
NUM_RUNNING: Final = next(_slot)  # claims whose end is to come
STAMP: Final = next(_slot)  # marks what a search has visited
NEXT_ALONE: Final = next(_slot)
NEXT_COMPONENT: Final = next(_slot)
FREE_ALONE: Final = next(_slot)  # heads of lists of unused rows
FREE_COMPONENT: Final = next(_slot)
FREE_MEMBER: Final = next(_slot)
FREE_CLAIM: Final = next(_slot)
FREE_PAST: Final = next(_slot)
LEFT_ALONE: Final = next(_slot)  # unused rows of each
LEFT_COMPONENT: Final = next(_slot)
LEFT_MEMBER: Final = next(_slot)
LEFT_CLAIM: Final = next(_slot)
LEFT_PAST: Final = next(_slot)
NUM_POSITIONS: Final = next(_slot)  # lanes of all stages that run
NUM_STREAMS: Final = next(_slot)
NUM_LABELS: Final = next(_slot)
NUM_RANKS: Final = next(_slot)  # of a lane
CLAIM_RANKS: Final = next(_slot)  # most ranks of a claim
MOST_KERNELS: Final = next(_slot)  # of an op that the host issues kernel by kernel
SHARES_COMPUTE: Final = next(_slot)
NUM_SMS: Final = next(_slot)  # of a rank; 0 where no transfer takes any
IS_FLOW: Final = next(_slot)  # whether another network moves transfers, flow by flow
NUM_TO_MAKE: Final = next(_slot)  # events that it makes, and transfers that it has ended: see `answer_flows`
NUM_TO_END: Final = next(_slot)

# ---- columns of the plan ------------------------------------------------------------------------------------------

# positions: a lane of a stage
FIRST_STEP: Final = next(_slot)
END_STEP: Final = next(_slot)
LANE_RANKS: Final = next(_slot)  # [positions, ranks of a lane]
# steps
STEP_FIRST_INPUT: Final = next(_slot)
STEP_END_INPUT: Final = next(_slot)
STEP_SIDE: Final = next(_slot)  # its only side, or the first of two
STEP_NUM_SIDES: Final = next(_slot)
STEP_YIELDS: Final = next(_slot)  # whether the lane gives way when the step has ended
INPUT_KEY: Final = next(_slot)
# sides: one of the passes of a step that run at the same time, with its ops
SIDE_FIRST_OP: Final = next(_slot)
SIDE_END_OP: Final = next(_slot)
SIDE_FIRST_PASS: Final = next(_slot)
SIDE_END_PASS: Final = next(_slot)
# passes
PASS_KIND: Final = next(_slot)
PASS_KEY: Final = next(_slot)  # of what the own lane receives: -1 if no step needs it, -2 if nothing is received
PASS_FIRST_SEND: Final = next(_slot)
PASS_END_SEND: Final = next(_slot)
# sends
SEND_TARGET: Final = next(_slot)  # position
SEND_KEY: Final = next(_slot)
SEND_TRANSFER: Final = next(_slot)
SEND_BLOCKS: Final = next(_slot)
# ops
OP_TYPE: Final = next(_slot)
OP_KIND: Final = next(_slot)  # of the last row that it makes
OP_NS: Final = next(_slot)  # of kernels: time on the slowest rank; of the host: time that it works
OP_SLOWEST: Final = next(_slot)  # place of that rank
OP_DURATIONS: Final = next(_slot)  # first entry of the times of all ranks; -1 where they are equal
OP_FIRST_KERNEL: Final = next(_slot)
OP_END_KERNEL: Final = next(_slot)
OP_COUNTS: Final = next(_slot)  # whether its tokens count
OP_FIRST_TRANSFER: Final = next(_slot)
OP_END_TRANSFER: Final = next(_slot)
OP_STREAM: Final = next(_slot)
OP_LABEL: Final = next(_slot)
OP_ISSUE_NS: Final = next(_slot)
OP_MEETING: Final = next(_slot)  # its rendezvous
OP_WAITS: Final = next(_slot)
OP_FIRST_RANK: Final = next(_slot)  # of a service, into SERVICE_RANK and SERVICE_NS
OP_END_RANK: Final = next(_slot)
OP_TRANSFER: Final = next(_slot)  # [transfers of all collectives]
DURATION_NS: Final = next(_slot)  # [rows of durations, ranks of a lane]
KERNEL_NS: Final = next(_slot)  # on its op's slowest rank
KERNEL_ISSUE_NS: Final = next(_slot)
KERNEL_DURATIONS: Final = next(_slot)  # -1 where they are equal
KERNEL_KIND: Final = next(_slot)
SERVICE_RANK: Final = next(_slot)
SERVICE_NS: Final = next(_slot)
# rendezvous
MEETING_FIRST: Final = next(_slot)  # of MEETING_ROW and MEETING_OP
MEETING_SIZE: Final = next(_slot)
# transfers
FIRST_LINK: Final = next(_slot)
END_LINK: Final = next(_slot)
FIRST_CLASS: Final = next(_slot)
END_CLASS: Final = next(_slot)
LATENCY_NS: Final = next(_slot)
ALONE_NS: Final = next(_slot)
IS_DEAD: Final = next(_slot)
TRANSFER_SMS: Final = next(_slot)
FIRST_RANK: Final = next(_slot)  # of those whose SMs it takes
END_RANK: Final = next(_slot)
JOINT_ROW: Final = next(_slot)  # its row of TAKES_PART; -1 for those of one lane alone
LINK: Final = next(_slot)  # [links of all transfers]
CLASS: Final = next(_slot)  # [classes of all transfers]: the links that the same transfers use are a class
SM_RANK: Final = next(_slot)  # [ranks of all transfers that take SMs]
TAKES_PART: Final = next(_slot)  # [joint transfers, positions]

# ---- columns of a run ---------------------------------------------------------------------------------------------

# programs: the lanes, two sides of each, the streams of each
STATE: Final = next(_slot)
POSITION: Final = next(_slot)
SIDE: Final = next(_slot)
NEXT_OP: Final = next(_slot)
NEXT_PASS: Final = next(_slot)
NEXT_SEND: Final = next(_slot)
OPENED_NS: Final = next(_slot)
OPENED_BY: Final = next(_slot)  # row
LAST_ROW: Final = next(_slot)
MET_BY: Final = next(_slot)  # row that released the rendezvous in which it is
WAITS_FOR: Final = next(_slot)  # batch or started collective
SINCE_NS: Final = next(_slot)
NEXT_WAITER: Final = next(_slot)  # the program that waits for the same
NEXT_KERNEL: Final = next(_slot)
CURRENT: Final = next(_slot)  # of a stream: the started collective that runs
LAST_STARTED: Final = next(_slot)  # [programs, streams]
ISSUED_NS: Final = next(_slot)  # [programs, most kernels]
# positions
NEXT_STEP: Final = next(_slot)
NEXT_INPUT: Final = next(_slot)
IS_ASLEEP: Final = next(_slot)
NUM_SIDES_ENDED: Final = next(_slot)
HOST_FREE_NS: Final = next(_slot)
ARRIVED: Final = next(_slot)  # row by which each key has come; -2: none has
# streams, [positions, streams]
QUEUE_HEAD: Final = next(_slot)
QUEUE_TAIL: Final = next(_slot)
IS_OPEN: Final = next(_slot)
STREAM_ROW: Final = next(_slot)
STREAM_COUNT: Final = next(_slot)
LABELLED: Final = next(_slot)  # [positions, labels]
# rendezvous
MEETING_COUNT: Final = next(_slot)
MEETING_BATCH: Final = next(_slot)
MEETING_WAITER: Final = next(_slot)
MEETING_ROW: Final = next(_slot)
MEETING_OP: Final = next(_slot)
# groups of a batch
GROUP_HEAD: Final = next(_slot)
GROUP_TAIL: Final = next(_slot)
GROUP_IS_APART: Final = next(_slot)
# transfers that flow alone
ALONE_HEAD: Final = next(_slot)
ALONE_SINCE: Final = next(_slot)
ALONE_ALARM: Final = next(_slot)
ALONE_NUMBER: Final = next(_slot)
ALONE_NEXT: Final = next(_slot)
# components
COMPONENT_HEAD: Final = next(_slot)
COMPONENT_TAIL: Final = next(_slot)
COMPONENT_LAST: Final = next(_slot)  # ns
COMPONENT_ALARM: Final = next(_slot)
COMPONENT_NUMBER: Final = next(_slot)
COMPONENT_SOLVED: Final = next(_slot)  # members whose rates are known
IS_STALE: Final = next(_slot)
COMPONENT_NEXT: Final = next(_slot)
MEMBER_PLACE: Final = next(_slot)
MEMBER_TRANSFER: Final = next(_slot)
MEMBER_NEXT: Final = next(_slot)
STALE: Final = next(_slot)
STALE_NUMBER: Final = next(_slot)
MET_ALONE: Final = next(_slot)
MET_COMPONENT: Final = next(_slot)
FREE_MEMBERS: Final = next(_slot)  # while rates are solved
STOPPED: Final = next(_slot)
ENDED_PLACE: Final = next(_slot)
PIECE_HEAD: Final = next(_slot)
PIECE_TAIL: Final = next(_slot)
PIECE_PARENT: Final = next(_slot)
TO_MAKE: Final = next(_slot)  # time, priority and number of each event that the network of flows makes
# sets of members whose rates were solved, [sets, most members + 1]: how many, and their transfers
KNOWN_SET: Final = next(_slot)
# classes of links, which always belong to the same transfers
OWNER: Final = next(_slot)  # alone: its number * 2; component: its number * 2 + 1
CLASS_STAMP: Final = next(_slot)
CLASS_PIECE: Final = next(_slot)
# links
LINK_STAMP: Final = next(_slot)
USED_LINKS: Final = next(_slot)
# transfers
ENDED_COUNT: Final = next(_slot)
ENDED_ORDER: Final = next(_slot)
# ranks
RANK_FREE_NS: Final = next(_slot)
HOLDER: Final = next(_slot)
SMS_LEFT: Final = next(_slot)
RANK_STAMP: Final = next(_slot)
# claims
CLAIM_SIZE: Final = next(_slot)
CLAIM_LAST: Final = next(_slot)
CLAIM_LAST_NS: Final = next(_slot)
CLAIM_ALARM: Final = next(_slot)
CLAIM_MOVED: Final = next(_slot)
CLAIM_PROGRAM: Final = next(_slot)
CLAIM_ENTRY: Final = next(_slot)
CLAIM_AT: Final = next(_slot)  # ns at which it came
CLAIM_BY: Final = next(_slot)  # row
CLAIM_SERVED: Final = next(_slot)  # of a service: its first kernel among those served
CLAIM_NEXT: Final = next(_slot)
RUNNING: Final = next(_slot)
MET_CLAIM: Final = next(_slot)
CLAIM_RANK: Final = next(_slot)  # [claims, most ranks], and those below
CLAIM_START: Final = next(_slot)
CLAIM_END: Final = next(_slot)
CLAIM_WORK: Final = next(_slot)
CLAIM_SPEED: Final = next(_slot)
CLAIM_SINCE: Final = next(_slot)
CLAIM_HOLDER: Final = next(_slot)
CLAIM_TOUCHED: Final = next(_slot)
CLAIM_PAST: Final = next(_slot)
PAST_SINCE: Final = next(_slot)
PAST_WORK: Final = next(_slot)
PAST_SPEED: Final = next(_slot)
PAST_NEXT: Final = next(_slot)
# rows of all columns from here on are written before they are read, so that nobody clears them: the queue
HEAP_TIME: Final = next(_slot)
HEAP_KEY: Final = next(_slot)
HEAP_WHAT: Final = next(_slot)
# started collectives
STARTED_OP: Final = next(_slot)
STARTED_SIDE: Final = next(_slot)
STARTED_BY: Final = next(_slot)  # row
STARTED_ROW: Final = next(_slot)
STARTED_NUMBER: Final = next(_slot)
STARTED_NEXT: Final = next(_slot)
HAS_ENDED: Final = next(_slot)
STARTED_WAITER: Final = next(_slot)
# batches
BATCH_START: Final = next(_slot)
BATCH_FIRST: Final = next(_slot)
BATCH_SIZE: Final = next(_slot)
BATCH_WAITING: Final = next(_slot)  # -1 when `done` has fired
BATCH_WAITER: Final = next(_slot)
BATCH_SEND: Final = next(_slot)
BATCH_PASS: Final = next(_slot)
BATCH_PROGRAM: Final = next(_slot)  # that has sent it
BATCH_BY: Final = next(_slot)  # row
PLACE_TRANSFER: Final = next(_slot)
PLACE_BATCH: Final = next(_slot)
PLACE_END: Final = next(_slot)
PLACE_NEXT: Final = next(_slot)  # of those that are alone together
# the record: an entry for each op, span and transfer
ENTRY_TYPE: Final = next(_slot)
ENTRY_OP: Final = next(_slot)
ENTRY_POSITION: Final = next(_slot)
ENTRY_SIDE: Final = next(_slot)
ENTRY_START: Final = next(_slot)
ENTRY_END: Final = next(_slot)
ENTRY_KIND: Final = next(_slot)
ENTRY_BY: Final = next(_slot)
ENTRY_RANK: Final = next(_slot)
ENTRY_X: Final = next(_slot)
ENTRY_Y: Final = next(_slot)
COUNTED_OP: Final = next(_slot)
COUNTED_POSITION: Final = next(_slot)
COUNTED_SIDE: Final = next(_slot)
SERVED_RANK: Final = next(_slot)  # place in the op
SERVED_START: Final = next(_slot)
SERVED_END: Final = next(_slot)
SERVED_BY: Final = next(_slot)
INTERVAL_START: Final = next(_slot)
INTERVAL_END: Final = next(_slot)
INTERVAL_FIRST: Final = next(_slot)
INTERVAL_SOLVED: Final = next(_slot)  # whether its rates were solved, and were not those of a transfer alone
SHARE_TRANSFER: Final = next(_slot)
SPEED_ENTRY: Final = next(_slot)
SPEED_SINCE: Final = next(_slot)
SPEED_WORK: Final = next(_slot)
SPEED_NOW: Final = next(_slot)

# ---- columns of floats, as all from here on are ---------------------------------------------------------------------

FLOW_BYTES: Final = next(_slot)  # of the plan, by transfer, as the next three
BUSIEST: Final = next(_slot)
OWN_WEIGHT: Final = next(_slot)  # 1 / most bytes per second; 0 without a bound
TOTAL_BYTES: Final = next(_slot)
WEIGHT: Final = next(_slot)  # of each entry of LINK
BYTES: Final = next(_slot)  # sent, received
REMAINING: Final = next(_slot)  # by member
RATE: Final = next(_slot)
WANTED: Final = next(_slot)  # by link, while rates are solved
USED: Final = next(_slot)
TAKEN: Final = next(_slot)
KNOWN_RATE: Final = next(_slot)  # of members of known sets, as KNOWN_SET
SHARE_RATE: Final = next(_slot)  # not cleared either

NUM_HEADER: Final = next(_slot)
FIRST_COLUMN: Final = FIRST_STEP

# ---- values -------------------------------------------------------------------------------------------------------

# STATUS
RUNS: Final = 0
HAS_RUN: Final = 1  # no events are left
NEEDS_MEMORY: Final = 2  # a column is nearly full: make it longer, and go on
ASKS: Final = 4  # an event is for the network of flows: let it answer, and go on
GAVE_UP: Final = 3  # a deadlock, a dead link, a limit: what SimPy's engine says in words

# kinds of events
RESUME: Final = 0  # a program goes on
NOTHING: Final = 1  # a process has ended, and nobody waits for that
SIDE_ENDED: Final = 2
ALONE_ENDS: Final = 3
STARTS_TO_FLOW: Final = 4
COMPONENT_ENDS: Final = 5
SOLVE: Final = 6
EMPTY_ENDS: Final = 7  # a batch without transfers
MEETING_BEGINS: Final = 8
CLAIM_ENDS: Final = 9
CHECK_SMS: Final = 10
FLOWS_START: Final = 11  # a place: those behind it start as well
OF_FLOWS: Final = 12
KIND_BITS: Final = 4

# priorities of events: as SimPy's and `sim.engine.clock` have them
URGENT: Final = 0
NORMAL: Final = 1
AFTER_LANES: Final = 2
AFTER_ALL: Final = 3
PRIORITY_BITS: Final = 58

# types of ops
COMPUTE: Final = 0
ISSUED_COMPUTE: Final = 1
COLLECTIVE: Final = 2
AWAIT: Final = 3
HOST_WORK: Final = 4
SERVE: Final = 5

# states of programs: what they do when they go on
OPEN_STEP: Final = 0
AWAIT_INPUTS: Final = 1
RUN_OPS: Final = 2
NOTE_BATCH: Final = 3
RUN_KERNELS: Final = 4
ENTER: Final = 5  # begin, start or enter a collective that has been issued
MEETING_BEGUN: Final = 6
NOTE_MEETING: Final = 7
AWAITED: Final = 8
CLOSE_PASSES: Final = 9
SENDS: Final = 10
PAIR_ENDED: Final = 11
NEXT_ON_STREAM: Final = 12

# types of entries
PASS_ENTRY: Final = 0
AWAIT_ENTRY: Final = 1
SEND_ENTRY: Final = 2
JOINT_ENTRY: Final = 3
COMPUTE_ENTRY: Final = 4
COLLECTIVE_ENTRY: Final = 5
SERVICE_ENTRY: Final = 6

NUM_KNOWN: Final = 1024
"""Sets of members whose rates are kept, for equal sets come again; a set may take the place of another."""
MOST_KNOWN: Final = 8
"""Most members of such a set."""
REFERENCE_BITS: Final = 20
"""A reference names a row: entry * 2**20 + its place in the entry, as in `sim.engine.recorder`."""

FREE_LISTS: Final = (
    (ALONE_NEXT, FREE_ALONE, LEFT_ALONE),
    (COMPONENT_NEXT, FREE_COMPONENT, LEFT_COMPONENT),
    (MEMBER_NEXT, FREE_MEMBER, LEFT_MEMBER),
    (CLAIM_NEXT, FREE_CLAIM, LEFT_CLAIM),
    (PAST_NEXT, FREE_PAST, LEFT_PAST),
)
"""Column that links unused rows, scalar of its head, scalar of their number."""


@dataclass(slots=True, eq=False)
class Memory:
    """The two arrays of a run."""

    m: IntArray
    f: FloatArray
    sizes: IntArray
    """Length of each column, by its name."""

    def column(self, name: int, size: int | None = None) -> IntArray:
        """Return (the first entries of) a column of integers."""
        first = int(self.m[name])
        return self.m[first : first + (int(self.sizes[name]) if size is None else size)]

    def floats(self, name: int, size: int | None = None) -> FloatArray:
        """Return (the first entries of) a column of floats."""
        first = int(self.m[name])
        return self.f[first : first + (int(self.sizes[name]) if size is None else size)]

    def grown(self, sizes: IntArray) -> "Memory":
        """Return the same state with longer columns."""
        bigger = build_memory(sizes)
        bigger.m[:FIRST_COLUMN] = self.m[:FIRST_COLUMN]
        for name in range(FIRST_COLUMN, FLOW_BYTES):
            bigger.column(name, int(self.sizes[name]))[:] = self.column(name)
        for name in range(FLOW_BYTES, NUM_HEADER):
            bigger.floats(name, int(self.sizes[name]))[:] = self.floats(name)
        return bigger


def build_memory(sizes: IntArray) -> Memory:
    """Return memory whose columns have `sizes`, in the order of their names; what need not be zero is not cleared."""
    m = np.empty(NUM_HEADER + int(sizes[:FLOW_BYTES].sum()), dtype=np.int64)
    f = np.empty(int(sizes[FLOW_BYTES:].sum()))
    starts = np.cumsum(sizes) - sizes
    starts[:FLOW_BYTES] += NUM_HEADER
    starts[FLOW_BYTES:] -= starts[FLOW_BYTES]
    starts[:FIRST_COLUMN] = 0
    m[:NUM_HEADER] = starts
    m[NUM_HEADER : starts[HEAP_TIME]] = 0
    f[: starts[SHARE_RATE]] = 0
    return Memory(m, f, sizes)
