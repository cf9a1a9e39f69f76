"""The kernel's lanes: steps, pairs of passes, what passes receive and send (`sim.engine.lane`), and streams."""

from sim.engine.compiled.events import describe, latest, note, push, wait_in_line
from sim.engine.compiled.layout import *
from sim.engine.compiled.layout import FloatArray, IntArray
from sim.engine.compiled.programs import (
    await_meeting,
    await_stream,
    begin_collective,
    compute,
    enter_meeting,
    go_on_after_stream,
    host_work,
    issue_kernels,
    note_batch,
    note_meeting,
    run_kernels,
    serve,
    sleep,
    start_on_stream,
)
from sim.engine.compiled.transfers import add_place, begin, open_batch
from sim.engine.trace import KINDS

__all__ = ["FUNCTIONS"]

SEND_KIND = KINDS.index("pp")


def receive(m: IntArray, position: int, key: int, row: int) -> None:
    """Let a lane take an input that a row brought; -1: an input that none of its steps needs."""
    if key >= 0:
        m[m[ARRIVED] + key] = row
    if m[m[IS_ASLEEP] + position]:
        m[m[IS_ASLEEP] + position] = 0
        push(m, m[NOW], NORMAL, RESUME, position)


# ---- ops ----------------------------------------------------------------------------------------------------------


def enter_collective(m: IntArray, f: FloatArray, program: int, op: int) -> bool:
    """Start, enter or begin a collective that the host has issued; tell whether the program goes on with the next."""
    if m[op + OP_STREAM] >= 0 and program < 3 * m[NUM_POSITIONS]:
        start_on_stream(m, program, op)
        return True
    if m[op + OP_MEETING] >= 0:
        return enter_meeting(m, f, program, op)
    begin_collective(m, f, program, op)
    return False


def go_on_in_op(m: IntArray, f: FloatArray, program: int, op: int) -> bool:
    """Go on within an op; tell whether it has ended."""
    state = m[m[STATE] + program]
    if state == ENTER:
        return enter_collective(m, f, program, op)
    if state == NOTE_BATCH:
        note_batch(m, program, op)
        return True
    if state == RUN_KERNELS:
        return run_kernels(m, program, op)
    if state == MEETING_BEGUN:
        m[NUM_BLOCKED] -= 1
        return await_meeting(m, program, op)
    if state == NOTE_MEETING:
        note_meeting(m, program, op)
        return True
    go_on_after_stream(m, program)
    return True


def run_op(m: IntArray, f: FloatArray, program: int, op: int) -> bool:
    """Run an op of a lane or a side; tell whether it has ended."""
    kind, position = m[op + OP_TYPE], m[m[POSITION] + program]
    if kind == COMPUTE:
        return compute(m, program, op, m[op + OP_FIRST_KERNEL], m[op + OP_END_KERNEL])
    if kind == COLLECTIVE:
        m[m[STATE] + program] = ENTER
        issue_ns = m[op + OP_ISSUE_NS]
        if issue_ns > 0 and not sleep(m, program, host_work(m, position, issue_ns, 0)):
            return False
        return enter_collective(m, f, program, op)
    if kind == ISSUED_COMPUTE:
        issue_kernels(m, program, op)
        m[m[STATE] + program] = RUN_KERNELS
        return run_kernels(m, program, op)
    if kind == AWAIT:
        return await_stream(m, program, op)
    if kind == SERVE:
        return serve(m, program, op)
    host_work(m, position, m[op + OP_NS], m[NOW] if m[op + OP_WAITS] else 0)
    return True


def run_ops(m: IntArray, f: FloatArray, program: int) -> bool:
    """Run the ops of a side; tell whether all have ended."""
    end = m[m[SIDE_END_OP] + m[m[SIDE] + program]]
    while m[m[NEXT_OP] + program] < end:
        op = m[m[NEXT_OP] + program]
        m[m[NEXT_OP] + program] += OP_SIZE
        if not run_op(m, f, program, op):
            return False
        m[m[STATE] + program] = RUN_OPS
    m[m[STATE] + program] = CLOSE_PASSES
    m[m[NEXT_PASS] + program] = m[m[SIDE_FIRST_PASS] + m[m[SIDE] + program]]
    return True


# ---- steps --------------------------------------------------------------------------------------------------------


def open_side(m: IntArray, program: int, side: int) -> None:
    """Open the passes of a side."""
    m[m[SIDE] + program] = side
    m[m[OPENED_NS] + program] = m[NOW]
    m[m[OPENED_BY] + program] = m[m[LAST_ROW] + program]
    m[m[NEXT_OP] + program] = m[m[SIDE_FIRST_OP] + side]
    m[m[STATE] + program] = RUN_OPS


def open_pair(m: IntArray, position: int, side: int) -> None:
    """Let the two sides of a pair begin, each as a program of its own."""
    m[m[STATE] + position] = PAIR_ENDED
    m[m[NUM_SIDES_ENDED] + position] = 0
    for i in range(2):
        program = m[NUM_POSITIONS] + 2 * position + i
        m[m[LAST_ROW] + program] = m[m[LAST_ROW] + position]
        m[m[SIDE] + program] = side + i
        m[m[STATE] + program] = OPEN_STEP
        for stream in range(m[NUM_STREAMS]):
            last = m[LAST_STARTED] + stream
            m[last + program * m[NUM_STREAMS]] = m[last + position * m[NUM_STREAMS]]
        push(m, m[NOW], URGENT, RESUME, program)


def close_pair(m: IntArray, position: int) -> None:
    """Go on from where both sides of a pair have come to."""
    first, nums, row = m[NUM_POSITIONS] + 2 * position, m[STARTED_NUMBER], -1
    for program in range(first, first + 2):
        row = latest(m, row, m[m[LAST_ROW] + program])
        for stream in range(m[NUM_STREAMS]):
            own = m[LAST_STARTED] + position * m[NUM_STREAMS] + stream
            started = m[m[LAST_STARTED] + program * m[NUM_STREAMS] + stream]
            if started >= 0 and (m[own] < 0 or m[nums + started] >= m[nums + m[own]]):
                m[own] = started
    m[m[LAST_ROW] + position] = row


def open_step(m: IntArray, position: int) -> bool:
    """Take the next step of a lane; tell whether there is one."""
    if m[m[NEXT_STEP] + position] >= m[m[END_STEP] + position]:
        push(m, m[NOW], NORMAL, NOTHING, 0)
        return False
    m[m[NEXT_INPUT] + position] = m[m[STEP_FIRST_INPUT] + m[m[NEXT_STEP] + position]]
    m[m[STATE] + position] = AWAIT_INPUTS
    return True


def await_inputs(m: IntArray, position: int) -> bool:
    """Wait for what a step needs, then open it; tell whether the lane goes on."""
    step, next_input = m[m[NEXT_STEP] + position], m[NEXT_INPUT] + position
    while m[next_input] < m[m[STEP_END_INPUT] + step]:
        if m[m[ARRIVED] + m[m[INPUT_KEY] + m[next_input]]] == -2:
            m[m[IS_ASLEEP] + position] = 1
            return False
        m[next_input] += 1
    for i in range(m[m[STEP_FIRST_INPUT] + step], m[m[STEP_END_INPUT] + step]):
        row = m[m[ARRIVED] + m[m[INPUT_KEY] + i]]
        m[m[LAST_ROW] + position] = latest(m, m[m[LAST_ROW] + position], row)
    if m[m[STEP_NUM_SIDES] + step] == 2:
        open_pair(m, position, m[m[STEP_SIDE] + step])
        return False
    open_side(m, position, m[m[STEP_SIDE] + step])
    return True


def end_step(m: IntArray, position: int) -> bool:
    """End a step of a lane; tell whether it goes on with the next at once."""
    step = m[m[NEXT_STEP] + position]
    m[m[NEXT_STEP] + position] += 1
    m[m[STATE] + position] = OPEN_STEP
    if m[m[STEP_YIELDS] + step]:
        push(m, m[NOW], NORMAL, RESUME, position)
        return False
    return True


def close_passes(m: IntArray, f: FloatArray, program: int) -> bool:
    """Hand on what the passes of a side have made; tell whether the program goes on."""
    side, position = m[m[SIDE] + program], m[m[POSITION] + program]
    while m[m[NEXT_PASS] + program] < m[m[SIDE_END_PASS] + side]:
        pass_ = m[m[NEXT_PASS] + program]
        if m[m[STATE] + program] == CLOSE_PASSES:
            opened_ns, opened_by = m[m[OPENED_NS] + program], m[m[OPENED_BY] + program]
            row = note(m, PASS_ENTRY, m[m[PASS_KIND] + pass_], opened_ns, m[NOW], opened_by)
            describe(m, row, program, pass_, -1, 0, 0)
            if m[m[PASS_KEY] + pass_] > -2:
                receive(m, position, m[m[PASS_KEY] + pass_], m[m[LAST_ROW] + program])
            m[m[STATE] + program], m[m[NEXT_SEND] + program] = SENDS, m[m[PASS_FIRST_SEND] + pass_]
        while m[m[NEXT_SEND] + program] < m[m[PASS_END_SEND] + pass_]:
            send = m[m[NEXT_SEND] + program]
            m[m[NEXT_SEND] + program] += 1
            if not send_on(m, f, program, pass_, send):
                return False
        m[m[NEXT_PASS] + program] += 1
        m[m[STATE] + program] = CLOSE_PASSES
    if program < m[NUM_POSITIONS]:
        return end_step(m, position)
    push(m, m[NOW], NORMAL, SIDE_ENDED, position)
    return False


def send_on(m: IntArray, f: FloatArray, program: int, pass_: int, send: int) -> bool:
    """Send the output of a pass to another stage; tell whether the program goes on at once."""
    batch = open_batch(m)
    add_place(m, batch, m[m[SEND_TRANSFER] + send])
    m[m[BATCH_SEND] + batch], m[m[BATCH_PASS] + batch] = send, pass_
    m[m[BATCH_PROGRAM] + batch], m[m[BATCH_BY] + batch] = program, m[m[LAST_ROW] + program]
    begin(m, f, batch)
    if m[m[SEND_BLOCKS] + send]:
        wait_in_line(m, m[BATCH_WAITER] + batch, program)
        return False
    return True


def deliver(m: IntArray, batch: int) -> None:
    """Record a send that has ended, and hand its row to the lane that waits for it."""
    send, program = m[m[BATCH_SEND] + batch], m[m[BATCH_PROGRAM] + batch]
    place = m[m[BATCH_FIRST] + batch]
    start_ns, end_ns = m[m[BATCH_START] + batch], m[m[PLACE_END] + place]
    row = note(m, SEND_ENTRY, SEND_KIND, start_ns, end_ns, m[m[BATCH_BY] + batch])
    describe(m, row, program, m[m[BATCH_PASS] + batch], -1, send, 0)
    if m[m[SEND_BLOCKS] + send]:
        m[m[LAST_ROW] + program] = latest(m, m[m[LAST_ROW] + program], row)
    receive(m, m[m[SEND_TARGET] + send], m[m[SEND_KEY] + send], row)


def go_on_lane(m: IntArray, f: FloatArray, program: int) -> None:
    """Go on with a lane, or a side of a pair, until it waits or ends."""
    goes_on = True
    while goes_on and m[STATUS] == RUNS:
        state = m[m[STATE] + program]
        if state == RUN_OPS:
            goes_on = run_ops(m, f, program)
        elif state == CLOSE_PASSES or state == SENDS:
            goes_on = close_passes(m, f, program)
        elif state == OPEN_STEP and program < m[NUM_POSITIONS]:
            goes_on = open_step(m, program)
        elif state == OPEN_STEP:
            open_side(m, program, m[m[SIDE] + program])
        elif state == AWAIT_INPUTS:
            goes_on = await_inputs(m, program)
        elif state == PAIR_ENDED:
            close_pair(m, program)
            goes_on = end_step(m, program)
        else:
            goes_on = go_on_in_op(m, f, program, m[m[NEXT_OP] + program] - OP_SIZE)
            if goes_on:
                m[m[STATE] + program] = RUN_OPS


def end_on_stream(m: IntArray, f: FloatArray, program: int, own: int) -> None:
    """End a collective of a stream, and let those go on that wait for it."""
    started = m[m[CURRENT] + program]
    m[m[STARTED_ROW] + started] = m[m[STREAM_ROW] + own] = m[m[LAST_ROW] + program]
    m[m[HAS_ENDED] + started] = 1
    waiter = m[m[STARTED_WAITER] + started]
    while waiter >= 0:
        after = m[m[NEXT_WAITER] + waiter]
        go_on_lane(m, f, waiter)
        waiter = after
    m[m[STATE] + program] = NEXT_ON_STREAM


def go_on_stream(m: IntArray, f: FloatArray, program: int) -> None:
    """Go on with the collectives of a stream until one of them waits, or none is left."""
    own = program - 3 * m[NUM_POSITIONS]
    while m[STATUS] == RUNS:
        if m[m[STATE] + program] == NEXT_ON_STREAM:
            started = m[m[QUEUE_HEAD] + own]
            if started < 0:
                m[m[IS_OPEN] + own] = 0
                push(m, m[NOW], NORMAL, NOTHING, 0)
                return
            m[m[QUEUE_HEAD] + own] = m[m[STARTED_NEXT] + started]
            m[m[CURRENT] + program], m[m[SIDE] + program] = started, m[m[STARTED_SIDE] + started]
            m[m[LAST_ROW] + program] = latest(m, m[m[STREAM_ROW] + own], m[m[STARTED_BY] + started])
            m[m[STATE] + program] = ENTER
        op = m[m[STARTED_OP] + m[m[CURRENT] + program]]
        if not go_on_in_op(m, f, program, op):
            return
        end_on_stream(m, f, program, own)


def go_on(m: IntArray, f: FloatArray, program: int) -> None:
    """Go on with a program until it waits or ends."""
    if program < 3 * m[NUM_POSITIONS]:
        go_on_lane(m, f, program)
    else:
        go_on_stream(m, f, program)


def go_on_all(m: IntArray, f: FloatArray, first: int) -> None:
    """Go on with all programs that wait in a line."""
    program = first
    while program >= 0:
        after = m[m[NEXT_WAITER] + program]
        go_on(m, f, program)
        program = after


FUNCTIONS = (
    receive,
    enter_collective,
    go_on_in_op,
    run_op,
    run_ops,
    open_side,
    open_pair,
    close_pair,
    open_step,
    await_inputs,
    end_step,
    send_on,
    close_passes,
    deliver,
    go_on_lane,
    end_on_stream,
    go_on_stream,
    go_on,
    go_on_all,
)
"""All functions, each after those that it calls: in this order they are compiled."""
