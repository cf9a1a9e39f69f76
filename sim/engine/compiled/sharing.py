"""The kernel's contention components: transfers that share links max-min fairly (`sim.engine.network.fluid`).

Sums over transfers are taken in the order of the component's members, link by link, as SimPy's network takes them: the
rates are the same to the last bit.
"""

import math

from sim.engine.compiled.events import give_back, push, take
from sim.engine.compiled.layout import *
from sim.engine.compiled.layout import FloatArray, IntArray

__all__ = ["FUNCTIONS"]

_TINY = 1e-300  # of what is left of a full link, as in `sim.engine.network.maxmin`
_LONGEST_S = 1e9  # as in `sim.time`, which the next one is of as well
_ROUNDING_NS = 1e-6


def log_interval(m: IntArray, start_ns: int, is_solved: int) -> None:
    """Open an interval that ends now, in which transfers flowed at constant rates."""
    if not m[KEEPS_ROWS]:
        return
    number = m[NUM_INTERVALS]
    m[NUM_INTERVALS] += 1
    m[m[INTERVAL_START] + number] = start_ns
    m[m[INTERVAL_END] + number] = m[NOW]
    m[m[INTERVAL_FIRST] + number] = m[NUM_SHARES]
    m[m[INTERVAL_SOLVED] + number] = is_solved


def log_share(m: IntArray, f: FloatArray, transfer: int, rate: float) -> None:
    """Add a transfer to the interval that was opened last."""
    if not m[KEEPS_ROWS]:
        return
    m[m[SHARE_TRANSFER] + m[NUM_SHARES]] = transfer
    f[m[SHARE_RATE] + m[NUM_SHARES]] = rate
    m[NUM_SHARES] += 1


def set_owner(m: IntArray, transfer: int, owner: int) -> None:
    """Let the links of a transfer belong to those that flow there; -1: to nobody."""
    classes, owners = m[CLASS], m[OWNER]
    for at in range(classes + m[m[FIRST_CLASS] + transfer], classes + m[m[END_CLASS] + transfer]):
        m[owners + m[at]] = owner


def open_component(m: IntArray) -> int:
    """Return a new component without members."""
    component = take(m, COMPONENT_NEXT, FREE_COMPONENT, LEFT_COMPONENT)
    m[m[COMPONENT_HEAD] + component] = m[m[COMPONENT_TAIL] + component] = -1
    m[m[COMPONENT_LAST] + component] = m[NOW]
    m[m[COMPONENT_ALARM] + component] = -1
    m[m[COMPONENT_SOLVED] + component] = 0
    m[m[IS_STALE] + component] = 0
    m[m[COMPONENT_NUMBER] + component] = m[NEXT_COMPONENT]
    m[NEXT_COMPONENT] += 1
    return component


def close_component(m: IntArray, component: int) -> None:
    """Return the row of a component; its members go elsewhere."""
    m[m[COMPONENT_NUMBER] + component] = -1
    m[m[COMPONENT_ALARM] + component] = -1
    give_back(m, component, COMPONENT_NEXT, FREE_COMPONENT, LEFT_COMPONENT)


def append_members(m: IntArray, component: int, head: int, tail: int) -> None:
    """Put a list of members after those of a component."""
    if head < 0:
        return
    if m[m[COMPONENT_HEAD] + component] < 0:
        m[m[COMPONENT_HEAD] + component] = head
    else:
        m[m[MEMBER_NEXT] + m[m[COMPONENT_TAIL] + component]] = head
    m[m[COMPONENT_TAIL] + component] = tail
    m[m[MEMBER_NEXT] + tail] = -1


def open_member(m: IntArray, f: FloatArray, place: int, remaining: float) -> int:
    """Return a transfer as a member of no component yet."""
    member = take(m, MEMBER_NEXT, FREE_MEMBER, LEFT_MEMBER)
    m[m[MEMBER_PLACE] + member] = place
    m[m[MEMBER_TRANSFER] + member] = m[m[PLACE_TRANSFER] + place]
    m[m[MEMBER_NEXT] + member] = -1
    f[m[REMAINING] + member] = remaining
    f[m[RATE] + member] = 0.0
    return member


def advance_component(m: IntArray, f: FloatArray, component: int) -> None:
    """Move the transfers of a component on to now."""
    since_ns = m[m[COMPONENT_LAST] + component]
    elapsed_ns = m[NOW] - since_ns
    if elapsed_ns and m[m[COMPONENT_SOLVED] + component]:
        log_interval(m, since_ns, int(m[m[COMPONENT_SOLVED] + component] > 1))
        member = m[m[COMPONENT_HEAD] + component]
        while member >= 0:
            rate = f[m[RATE] + member]
            log_share(m, f, m[m[MEMBER_TRANSFER] + member], rate)
            f[m[REMAINING] + member] -= rate * elapsed_ns * 1e-9
            member = m[m[MEMBER_NEXT] + member]
    m[m[COMPONENT_LAST] + component] = m[NOW]


def add_weights(m: IntArray, f: FloatArray, transfer: int, column: int) -> None:
    """Add what a transfer puts on links, over their capacities, to a column."""
    first, end, links, weights = m[m[FIRST_LINK] + transfer], m[m[END_LINK] + transfer], m[LINK], m[WEIGHT]
    for at in range(first, end):
        f[column + m[links + at]] += f[weights + at]


def clear_links(m: IntArray, f: FloatArray, num_links: int, column: int) -> None:
    """Set a column to zero on the links that are in use."""
    for i in range(num_links):
        f[column + m[m[USED_LINKS] + i]] = 0.0


def collect_links(m: IntArray, f: FloatArray, num_members: int) -> int:
    """List the links of members, each once, and return how many there are."""
    m[STAMP] += 1
    num_links, links, stamps, used = 0, m[LINK], m[LINK_STAMP], m[USED_LINKS]
    for i in range(num_members):
        transfer = m[m[MEMBER_TRANSFER] + m[m[FREE_MEMBERS] + i]]
        for at in range(links + m[m[FIRST_LINK] + transfer], links + m[m[END_LINK] + transfer]):
            if m[stamps + m[at]] != m[STAMP]:
                m[stamps + m[at]] = m[STAMP]
                m[used + num_links] = m[at]
                num_links += 1
    return num_links


def is_on_link(m: IntArray, transfer: int, link: int) -> bool:
    """Tell whether a transfer uses a link."""
    links = m[LINK]
    for at in range(links + m[m[FIRST_LINK] + transfer], links + m[m[END_LINK] + transfer]):
        if m[at] == link:
            return True
    return False


def find_bottleneck(m: IntArray, f: FloatArray, num_free: int, num_links: int) -> tuple[int, int, float]:
    """Return the link that is full first (-1: it is a member's own bound), that member, and what is wanted of it."""
    wanted, used, columns = m[WANTED], m[USED], m[USED_LINKS]
    clear_links(m, f, num_links, wanted)
    for i in range(num_free):
        add_weights(m, f, m[m[MEMBER_TRANSFER] + m[m[FREE_MEMBERS] + i]], wanted)
    most, bottleneck, bound = -1.0, -1, -1
    for i in range(num_links):
        link = m[columns + i]
        share = f[wanted + link] / max(1.0 - f[used + link], _TINY)
        if share > most or (share == most and link < bottleneck):
            most, bottleneck = share, link
    for i in range(num_free):
        member = m[m[FREE_MEMBERS] + i]
        share = f[m[OWN_WEIGHT] + m[m[MEMBER_TRANSFER] + member]]
        if share > most:
            most, bottleneck, bound = share, -1, member
    return bottleneck, bound, most


def stop_on(m: IntArray, f: FloatArray, num_free: int, bottleneck: int, bound: int, level: float) -> tuple[int, int]:
    """Let the free members on a full link run at its level; return how many stay free, and how many stop."""
    num_going = num_stopped = 0
    free, stopped = m[FREE_MEMBERS], m[STOPPED]
    for i in range(num_free):
        member = m[free + i]
        if member == bound or (bound < 0 and is_on_link(m, m[m[MEMBER_TRANSFER] + member], bottleneck)):
            f[m[RATE] + member] = level
            m[stopped + num_stopped] = member
            num_stopped += 1
        else:
            m[free + num_going] = member
            num_going += 1
    return num_going, num_stopped


def known_set(m: IntArray, num_members: int) -> int:
    """Return where the rates of a set of members stand, if they are known."""
    number = num_members
    for i in range(num_members):
        number = (number * 31 + m[m[MEMBER_TRANSFER] + m[m[FREE_MEMBERS] + i]]) % 1_000_003
    return int(number % NUM_KNOWN) * (MOST_KNOWN + 1)


def recall_rates(m: IntArray, f: FloatArray, num_members: int) -> bool:
    """Give members the rates that an equal set had; tell whether there was one."""
    at = known_set(m, num_members)
    known, rates = m[KNOWN_SET] + at, m[KNOWN_RATE] + at
    if m[known] != num_members:
        return False
    for i in range(num_members):
        if m[known + 1 + i] != m[m[MEMBER_TRANSFER] + m[m[FREE_MEMBERS] + i]]:
            return False
    for i in range(num_members):
        f[m[RATE] + m[m[FREE_MEMBERS] + i]] = f[rates + 1 + i]
    return True


def remember_rates(m: IntArray, f: FloatArray, component: int, num_members: int) -> None:
    """Keep the rates of a component for equal sets of members."""
    member, i = m[m[COMPONENT_HEAD] + component], 0
    while member >= 0:
        m[m[FREE_MEMBERS] + i] = member
        i += 1
        member = m[m[MEMBER_NEXT] + member]
    at = known_set(m, num_members)
    known, rates = m[KNOWN_SET] + at, m[KNOWN_RATE] + at
    m[known] = num_members
    for i in range(num_members):
        member = m[m[FREE_MEMBERS] + i]
        m[known + 1 + i], f[rates + 1 + i] = m[m[MEMBER_TRANSFER] + member], f[m[RATE] + member]


def solve_rates(m: IntArray, f: FloatArray, component: int) -> None:
    """Find the rate per flow of each member of a component."""
    num_free, member = 0, m[m[COMPONENT_HEAD] + component]
    while member >= 0:
        m[m[FREE_MEMBERS] + num_free] = member
        num_free += 1
        member = m[m[MEMBER_NEXT] + member]
    m[m[COMPONENT_SOLVED] + component] = num_free
    if num_free == 1:
        member = m[m[COMPONENT_HEAD] + component]
        f[m[RATE] + member] = 1.0 / f[m[BUSIEST] + m[m[MEMBER_TRANSFER] + member]]
        return
    num_members = num_free
    if num_members <= MOST_KNOWN and recall_rates(m, f, num_members):
        return
    m[NUM_SOLVES] += 1
    num_links, level = collect_links(m, f, num_free), 0.0
    clear_links(m, f, num_links, m[USED])
    while True:
        bottleneck, bound, most = find_bottleneck(m, f, num_free, num_links)
        level = max(level, 1.0 / most)
        num_free, num_stopped = stop_on(m, f, num_free, bottleneck, bound, level)
        if num_free == 0:
            break
        clear_links(m, f, num_links, m[TAKEN])
        for i in range(num_stopped):
            add_weights(m, f, m[m[MEMBER_TRANSFER] + m[m[STOPPED] + i]], m[TAKEN])
        for i in range(num_links):
            link = m[m[USED_LINKS] + i]
            f[m[USED] + link] += f[m[TAKEN] + link] * level
    if num_members <= MOST_KNOWN:
        remember_rates(m, f, component, num_members)


def share(m: IntArray, f: FloatArray, component: int) -> None:
    """Find the rates of a component, and set the time of its next end."""
    solve_rates(m, f, component)
    left_s, member = math.inf, m[m[COMPONENT_HEAD] + component]
    while member >= 0:
        left_s = min(left_s, f[m[REMAINING] + member] / f[m[RATE] + member])
        member = m[m[MEMBER_NEXT] + member]
    left_s = max(left_s, 0.0)
    if not 0.0 <= left_s <= _LONGEST_S:
        m[STATUS] = GAVE_UP
        return
    delay_ns = int(math.ceil(left_s * 1e9 - _ROUNDING_NS))
    m[m[COMPONENT_ALARM] + component] = push(m, m[NOW] + delay_ns, NORMAL, COMPONENT_ENDS, component)


def root_of(m: IntArray, piece: int) -> int:
    """Return the piece that a piece has become part of."""
    while m[m[PIECE_PARENT] + piece] != piece:
        piece = m[m[PIECE_PARENT] + piece]
    return piece


def put_in_piece(m: IntArray, member: int, piece: int) -> None:
    """Begin a piece with a member, and put in front of it the pieces that it meets, the latest of them first."""
    transfer, classes, pieces, stamps = m[m[MEMBER_TRANSFER] + member], m[CLASS], m[CLASS_PIECE], m[CLASS_STAMP]
    first, end = classes + m[m[FIRST_CLASS] + transfer], classes + m[m[END_CLASS] + transfer]
    heads, tails = m[PIECE_HEAD], m[PIECE_TAIL]
    m[m[PIECE_PARENT] + piece] = piece
    m[heads + piece] = m[tails + piece] = member
    m[m[MEMBER_NEXT] + member] = -1
    before = -1  # the last of the pieces in front of this that has been put there: those are met in rising order
    while True:
        met = piece
        for at in range(first, end):
            if m[stamps + m[at]] == m[STAMP]:
                found = root_of(m, m[pieces + m[at]])
                if before < found < met:
                    met = found
        if met == piece:
            break
        before = met
        m[m[MEMBER_NEXT] + m[tails + met]] = m[heads + piece]
        m[heads + piece] = m[heads + met]
        m[m[MET_COMPONENT] + met] = 1
    for i in range(piece):
        if m[m[MET_COMPONENT] + i] == 1:
            m[m[MET_COMPONENT] + i] = 0
            m[m[PIECE_PARENT] + i] = piece
    for at in range(first, end):
        m[stamps + m[at]] = m[STAMP]
        m[pieces + m[at]] = piece


def split(m: IntArray, f: FloatArray, component: int) -> None:
    """Share the links of what is left of a component, which may fall apart."""
    member, num_pieces = m[m[COMPONENT_HEAD] + component], 0
    close_component(m, component)
    m[STAMP] += 1
    while member >= 0:
        after = m[m[MEMBER_NEXT] + member]
        m[m[MET_COMPONENT] + num_pieces] = 0
        put_in_piece(m, member, num_pieces)
        num_pieces += 1
        member = after
    for piece in range(num_pieces):
        if m[m[PIECE_PARENT] + piece] != piece:
            continue
        smaller = open_component(m)
        m[m[COMPONENT_HEAD] + smaller] = member = m[m[PIECE_HEAD] + piece]
        m[m[COMPONENT_TAIL] + smaller] = m[m[PIECE_TAIL] + piece]
        while member >= 0:
            set_owner(m, m[m[MEMBER_TRANSFER] + member], smaller * 2 + 1)
            member = m[m[MEMBER_NEXT] + member]
        share(m, f, smaller)


def mark(m: IntArray, f: FloatArray, component: int) -> None:
    """Solve a component at once where nothing else starts now, and else when all that starts now has started."""
    m[m[COMPONENT_ALARM] + component] = -1
    if m[m[IS_STALE] + component]:
        return
    if m[NUM_STALE] == 0 and (m[HEAP_SIZE] == 0 or m[m[HEAP_TIME]] > m[NOW]):
        share(m, f, component)
        return
    m[m[IS_STALE] + component] = 1
    if m[NUM_STALE] == 0:
        push(m, m[NOW], AFTER_LANES, SOLVE, 0)
    m[m[STALE] + m[NUM_STALE]] = component
    m[m[STALE_NUMBER] + m[NUM_STALE]] = m[m[COMPONENT_NUMBER] + component]
    m[NUM_STALE] += 1


def solve_stale(m: IntArray, f: FloatArray) -> None:
    """Share the links of all components in which something changed, and that have not been merged into others since."""
    num_stale = m[NUM_STALE]
    m[NUM_STALE] = 0
    for i in range(num_stale):
        component = m[m[STALE] + i]
        if m[m[COMPONENT_NUMBER] + component] == m[m[STALE_NUMBER] + i] and m[m[IS_STALE] + component]:
            m[m[IS_STALE] + component] = 0
            share(m, f, component)


FUNCTIONS = (
    log_interval,
    log_share,
    set_owner,
    open_component,
    close_component,
    append_members,
    open_member,
    advance_component,
    add_weights,
    clear_links,
    collect_links,
    is_on_link,
    find_bottleneck,
    stop_on,
    known_set,
    recall_rates,
    remember_rates,
    solve_rates,
    share,
    root_of,
    put_in_piece,
    split,
    mark,
    solve_stale,
)
"""All functions, each after those that it calls: in this order they are compiled."""
