"""The kernel's transfers: they begin, wait their latency, flow alone, and meet others (`sim.engine.network.fluid`)."""

from sim.engine.compiled.events import give_back, push, take
from sim.engine.compiled.layout import *
from sim.engine.compiled.layout import FloatArray, IntArray
from sim.engine.compiled.ranks import change_sms
from sim.engine.compiled.sharing import (
    advance_component,
    append_members,
    close_component,
    log_interval,
    log_share,
    mark,
    open_component,
    open_member,
    set_owner,
)

__all__ = ["FUNCTIONS"]


def open_batch(m: IntArray) -> int:
    """Return a new batch, to be filled by `add_place`."""
    batch = m[NUM_BATCHES]
    m[NUM_BATCHES] += 1
    m[m[BATCH_START] + batch] = m[NOW]
    m[m[BATCH_FIRST] + batch] = m[NUM_PLACES]
    m[m[BATCH_SIZE] + batch] = m[m[BATCH_WAITING] + batch] = 0
    m[m[BATCH_WAITER] + batch] = m[m[BATCH_SEND] + batch] = -1
    return int(batch)


def add_place(m: IntArray, batch: int, transfer: int) -> None:
    """Add a transfer to the batch that was opened last."""
    place = m[NUM_PLACES]
    m[NUM_PLACES] += 1
    m[m[PLACE_TRANSFER] + place] = transfer
    m[m[PLACE_BATCH] + place] = batch
    m[m[PLACE_END] + place] = m[NOW]
    m[m[PLACE_NEXT] + place] = -1
    m[m[BATCH_SIZE] + batch] += 1
    m[m[BATCH_WAITING] + batch] += 1


def has_free_links(m: IntArray, transfer: int) -> bool:
    """Tell whether nobody uses the links of a transfer."""
    classes, owners = m[CLASS], m[OWNER]
    for at in range(classes + m[m[FIRST_CLASS] + transfer], classes + m[m[END_CLASS] + transfer]):
        if m[owners + m[at]] != -1:
            return False
    return True


def stamp_links(m: IntArray, transfer: int) -> bool:
    """Mark the links of a transfer; tell whether none of them was."""
    classes, stamps, is_new = m[CLASS], m[CLASS_STAMP], True
    for at in range(classes + m[m[FIRST_CLASS] + transfer], classes + m[m[END_CLASS] + transfer]):
        if m[stamps + m[at]] == m[STAMP]:
            is_new = False
        m[stamps + m[at]] = m[STAMP]
    return is_new


def group_places(m: IntArray, first: int, size: int) -> int:
    """Group the transfers of a batch by latency and time alone; say of each group whether its links are its own."""
    heads, tails, num_groups = m[GROUP_HEAD], m[GROUP_TAIL], 0
    transfers, latency, alone = m[PLACE_TRANSFER], m[LATENCY_NS], m[ALONE_NS]
    for place in range(first, first + size):
        transfer, group = m[transfers + place], 0
        while group < num_groups:
            other = m[transfers + m[heads + group]]
            if m[latency + transfer] == m[latency + other] and m[alone + transfer] == m[alone + other]:
                break
            group += 1
        if group == num_groups:
            m[heads + group] = place
            num_groups += 1
        else:
            m[m[PLACE_NEXT] + m[tails + group]] = place
        m[tails + group] = place
    m[STAMP] += 1
    for group in range(num_groups):
        place, is_apart = m[heads + group], 1
        while place >= 0:
            if not stamp_links(m, m[transfers + place]):
                is_apart = 0
            place = m[m[PLACE_NEXT] + place]
        m[m[GROUP_IS_APART] + group] = is_apart
    return num_groups


def go_alone(m: IntArray, head: int, since_ns: int, ends_ns: int) -> None:
    """Let transfers (a list of places) flow from a time on, with nobody else on their links, until they end."""
    alone = take(m, ALONE_NEXT, FREE_ALONE, LEFT_ALONE)
    m[m[ALONE_HEAD] + alone] = head
    m[m[ALONE_SINCE] + alone] = since_ns
    m[m[ALONE_NUMBER] + alone] = m[NEXT_ALONE]
    m[NEXT_ALONE] += 1
    place = head
    while place >= 0:
        set_owner(m, m[m[PLACE_TRANSFER] + place], alone * 2)
        place = m[m[PLACE_NEXT] + place]
    m[m[ALONE_ALARM] + alone] = push(m, ends_ns, NORMAL, ALONE_ENDS, alone)


def leave_alone(m: IntArray, f: FloatArray, alone: int) -> None:
    """Free the links of transfers that were alone."""
    m[m[ALONE_ALARM] + alone] = -1
    since_ns, place = m[m[ALONE_SINCE] + alone], m[m[ALONE_HEAD] + alone]
    has_flowed = since_ns < m[NOW]
    if has_flowed:
        log_interval(m, since_ns, 0)
    while place >= 0:
        transfer = m[m[PLACE_TRANSFER] + place]
        set_owner(m, transfer, -1)
        if has_flowed:
            log_share(m, f, transfer, 0.0)
        place = m[m[PLACE_NEXT] + place]
    give_back(m, alone, ALONE_NEXT, FREE_ALONE, LEFT_ALONE)


def begin_flows(m: IntArray, f: FloatArray, batch: int) -> None:
    """Start the transfers of a batch now, to flow together after equal latencies (`sim.engine.network.flows`)."""
    first, size, num_groups = m[m[BATCH_FIRST] + batch], m[m[BATCH_SIZE] + batch], 0
    heads, tails, latency, transfers = m[GROUP_HEAD], m[GROUP_TAIL], m[LATENCY_NS], m[PLACE_TRANSFER]
    for place in range(first, first + size):
        transfer, group = m[transfers + place], 0
        f[m[BYTES]] += f[m[TOTAL_BYTES] + transfer]
        if m[m[TRANSFER_SMS] + transfer]:
            change_sms(m, transfer, -m[m[TRANSFER_SMS] + transfer])
        while group < num_groups and m[latency + transfer] != m[latency + m[transfers + m[heads + group]]]:
            group += 1
        if group == num_groups:
            m[heads + group] = place
            num_groups += 1
        else:
            m[m[PLACE_NEXT] + m[tails + group]] = place
        m[tails + group] = place
    for group in range(num_groups):
        head = m[heads + group]
        push(m, m[NOW] + m[latency + m[transfers + head]], NORMAL, FLOWS_START, head)


def begin(m: IntArray, f: FloatArray, batch: int) -> None:
    """Start the transfers of a batch now."""
    now_ns, first, size = m[NOW], m[m[BATCH_FIRST] + batch], m[m[BATCH_SIZE] + batch]
    if size == 0:
        push(m, now_ns, NORMAL, EMPTY_ENDS, batch)
        return
    if m[IS_FLOW]:
        begin_flows(m, f, batch)
        return
    num_groups = 1
    if size == 1:
        m[m[GROUP_HEAD]], m[m[GROUP_IS_APART]] = first, 1
    else:
        num_groups = group_places(m, first, size)
    for group in range(num_groups):
        head, is_free = m[m[GROUP_HEAD] + group], m[m[GROUP_IS_APART] + group] == 1
        latency_ns = m[m[LATENCY_NS] + m[m[PLACE_TRANSFER] + head]]
        alone_ns = m[m[ALONE_NS] + m[m[PLACE_TRANSFER] + head]]
        place = head
        while is_free and place >= 0:
            transfer = m[m[PLACE_TRANSFER] + place]
            is_free = not m[m[IS_DEAD] + transfer] and has_free_links(m, transfer)
            place = m[m[PLACE_NEXT] + place]
        if is_free:
            go_alone(m, head, now_ns + latency_ns, now_ns + latency_ns + alone_ns)
            continue
        place = head
        while place >= 0:
            after = m[m[PLACE_NEXT] + place]
            push(m, now_ns + latency_ns, NORMAL, STARTS_TO_FLOW, place)
            m[m[PLACE_NEXT] + place] = -1
            place = after
    for place in range(first, first + size):
        transfer = m[m[PLACE_TRANSFER] + place]
        f[m[BYTES]] += f[m[TOTAL_BYTES] + transfer]
        if m[m[TRANSFER_SMS] + transfer]:
            change_sms(m, transfer, -m[m[TRANSFER_SMS] + transfer])


def insert(m: IntArray, column: int, size: int, row: int, numbers: int) -> int:
    """Put a row into a list in rising order of its number, unless it is there; return the size of the list."""
    for i in range(size):
        if m[column + i] == row:
            return size
    i = size
    while i > 0 and m[numbers + m[column + i - 1]] > m[numbers + row]:
        m[column + i] = m[column + i - 1]
        i -= 1
    m[column + i] = row
    return size + 1


def find_met(m: IntArray, transfer: int) -> tuple[int, int]:
    """List those that use links of a transfer, as they began; return how many are alone, and in components."""
    classes, owners, num_alone, num_components, last = m[CLASS], m[OWNER], 0, 0, -1
    for at in range(classes + m[m[FIRST_CLASS] + transfer], classes + m[m[END_CLASS] + transfer]):
        owner = m[owners + m[at]]
        if owner == -1 or owner == last:
            continue
        last = owner
        if owner & 1:
            num_components = insert(m, m[MET_COMPONENT], num_components, owner >> 1, m[COMPONENT_NUMBER])
        else:
            num_alone = insert(m, m[MET_ALONE], num_alone, owner >> 1, m[ALONE_NUMBER])
    return num_alone, num_components


def absorb(m: IntArray, f: FloatArray, num_alone: int) -> tuple[int, int, int]:
    """Take those that were alone off their links: as members if they flow, else they start when their latency is over.

    Returns the first and the last of these members (-1 for none), and how many of those that were alone do flow.
    """
    head, tail, num_flowing = -1, -1, 0
    for i in range(num_alone):
        leave_alone(m, f, m[m[MET_ALONE] + i])
    for i in range(num_alone):
        alone = m[m[MET_ALONE] + i]
        since_ns, place = m[m[ALONE_SINCE] + alone], m[m[ALONE_HEAD] + alone]
        if since_ns <= m[NOW]:
            num_flowing += 1
            continue
        while place >= 0:
            after = m[m[PLACE_NEXT] + place]
            push(m, since_ns, NORMAL, STARTS_TO_FLOW, place)
            m[m[PLACE_NEXT] + place] = -1
            place = after
    for i in range(num_alone):
        alone = m[m[MET_ALONE] + i]
        since_ns, place = m[m[ALONE_SINCE] + alone], m[m[ALONE_HEAD] + alone]
        if since_ns > m[NOW]:
            continue
        elapsed_s = (m[NOW] - since_ns) * 1e-9
        while place >= 0:
            after, transfer = m[m[PLACE_NEXT] + place], m[m[PLACE_TRANSFER] + place]
            member = open_member(m, f, place, f[m[FLOW_BYTES] + transfer] - elapsed_s / f[m[BUSIEST] + transfer])
            if head < 0:
                head = member
            else:
                m[m[MEMBER_NEXT] + tail] = member
            tail = member
            m[m[PLACE_NEXT] + place] = -1
            place = after
    return head, tail, num_flowing


def start_to_flow(m: IntArray, f: FloatArray, place: int) -> None:
    """Let a transfer flow after its latency, alone or with the transfers that it meets."""
    transfer = m[m[PLACE_TRANSFER] + place]
    if m[m[IS_DEAD] + transfer]:
        m[STATUS] = GAVE_UP
        return
    num_alone, num_components = find_met(m, transfer)
    head, tail, num_flowing = absorb(m, f, num_alone)
    if num_flowing == 0 and num_components == 0:
        go_alone(m, place, m[NOW], m[NOW] + m[m[ALONE_NS] + transfer])
        return
    member = open_member(m, f, place, f[m[FLOW_BYTES] + transfer])
    if num_components == 1 and num_flowing == 0:
        component = m[m[MET_COMPONENT]]
        advance_component(m, f, component)
        append_members(m, component, member, member)
        set_owner(m, transfer, component * 2 + 1)
        mark(m, f, component)
        return
    if head < 0:
        head = member
    else:
        m[m[MEMBER_NEXT] + tail] = member
    merge(m, f, head, member, num_components)


def merge(m: IntArray, f: FloatArray, head: int, tail: int, num_components: int) -> None:
    """Make one component of a list of members and of those that they meet, the latest of these first."""
    for i in range(num_components):
        component = m[m[MET_COMPONENT] + i]
        advance_component(m, f, component)
        if m[m[COMPONENT_HEAD] + component] >= 0:
            m[m[MEMBER_NEXT] + m[m[COMPONENT_TAIL] + component]] = head
            head = m[m[COMPONENT_HEAD] + component]
        close_component(m, component)
    component = open_component(m)
    m[m[COMPONENT_HEAD] + component], m[m[COMPONENT_TAIL] + component] = head, tail
    member = head
    while member >= 0:
        set_owner(m, m[m[MEMBER_TRANSFER] + member], component * 2 + 1)
        member = m[m[MEMBER_NEXT] + member]
    mark(m, f, component)


FUNCTIONS = (
    open_batch,
    add_place,
    has_free_links,
    stamp_links,
    group_places,
    go_alone,
    leave_alone,
    begin_flows,
    begin,
    insert,
    find_met,
    absorb,
    merge,
    start_to_flow,
)
"""All functions, each after those that it calls: in this order they are compiled."""
