"""The arithmetic of masks inside kernels: which pairs are live, and which blocks can hold one.

Invariant: the spans of a block cover all its live pairs, in ascending order, so that a loop over them meets
every block once; ``Mask.visible`` is the definition.

RULE is the mask's ``Rule`` as a plain tuple. A span is a range of slots. Queries at [q_lo, q_hi) see keys in
few spans: the text, and for a neighbourhood
one band for each latent frame of the window. Bands that overlap are cut by the caller, which remembers how
far it has come. Slots count from the row's start; codes count from ``boundary``.
"""

from collections.abc import Sequence

import triton
import triton.language as tl

from kinolenta.kernels.attention.mask import Kind, Rule

CAUSAL: tl.constexpr = tl.constexpr(int(Kind.CAUSAL))
PREFIX: tl.constexpr = tl.constexpr(int(Kind.PREFIX))
ROW: tl.constexpr = tl.constexpr(int(Kind.ROW))
COLUMN: tl.constexpr = tl.constexpr(int(Kind.COLUMN))
NEIGHBOURHOOD: tl.constexpr = tl.constexpr(int(Kind.NEIGHBOURHOOD))


def key_span_count(rule: Sequence[int]) -> int:
    """How many spans ``key_span`` knows for a rule."""
    facts = Rule.of(rule)
    if facts.kind == Kind.NEIGHBOURHOOD:  # text, rows around the border, a band for each latent frame
        return 1 + int(facts.wrap) + facts.window_t + 1
    return {Kind.ROW: 2, Kind.CAUSAL: 3}.get(facts.kind, 1)


def query_span_count(rule: Sequence[int]) -> int:
    """How many spans ``query_span`` knows for a rule."""
    facts = Rule.of(rule)
    if facts.kind == Kind.NEIGHBOURHOOD:  # a band for each latent frame, rows around the border, right text
        return facts.window_t + 1 + int(facts.wrap) + 1
    return {Kind.ROW: 2}.get(facts.kind, 1)


@triton.jit
def is_visible(
    queries,  # slots, broadcast against keys
    keys,
    first,
    stop,
    boundary,
    RULE: tl.constexpr,
):
    """Whether each query sees each key: ``Mask.visible`` without its rule for dead queries."""
    KIND: tl.constexpr = RULE[0]
    NUM_CODES: tl.constexpr = RULE[1]
    HEIGHT: tl.constexpr = RULE[2]
    WIDTH: tl.constexpr = RULE[3]
    WINDOW_T: tl.constexpr = RULE[4]
    WINDOW_H: tl.constexpr = RULE[5]
    WINDOW_W: tl.constexpr = RULE[6]
    WRAP: tl.constexpr = RULE[7]
    live = (keys >= first) & (keys < stop)
    if KIND == PREFIX:
        live = live & ((keys <= queries) | (keys < boundary))
    else:
        live = live & (keys <= queries)
    if KIND >= ROW:
        query = queries - boundary
        key = keys - boundary
        text = (query < 0) | (query >= NUM_CODES) | (key < 0)
        if KIND == ROW:
            near = query - key <= WIDTH
        elif KIND == COLUMN:
            # Text keys make the difference negative; they are live whatever comes out.
            near = (query - key) % WIDTH == 0
        else:
            query = tl.maximum(query, 0)  # division rounds towards zero: keep to what is a code
            key = tl.maximum(key, 0)
            rows = query // WIDTH % HEIGHT - key // WIDTH % HEIGHT
            columns = query % WIDTH - key % WIDTH
            rows = tl.maximum(rows, -rows)
            columns = tl.maximum(columns, -columns)
            if WRAP:
                rows = tl.minimum(rows, HEIGHT - rows)
                columns = tl.minimum(columns, WIDTH - columns)
            near = (rows <= WINDOW_H) & (columns <= WINDOW_W)
            near = near & (query // (HEIGHT * WIDTH) - key // (HEIGHT * WIDTH) <= WINDOW_T)
        live = live & (text | near)
    return live


@triton.jit
def key_end(q_hi, stop, boundary, RULE: tl.constexpr):
    """One after the last slot that a query before q_hi sees; what lies behind may never have been written."""
    if RULE[0] == PREFIX:
        q_hi = tl.maximum(q_hi, boundary)
    return tl.minimum(q_hi, stop)


@triton.jit
def key_span(
    SPAN: tl.constexpr,
    q_lo,  # slots of the block's queries: [q_lo, q_hi)
    q_hi,
    first,
    stop,
    boundary,
    RULE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """[lo, hi): key slots that may be live for the queries, span number SPAN.

    For causal masks the middle one of three spans is whole blocks without a dead pair: see ``is_full``.
    """
    KIND: tl.constexpr = RULE[0]
    NUM_CODES: tl.constexpr = RULE[1]
    HEIGHT: tl.constexpr = RULE[2]
    WIDTH: tl.constexpr = RULE[3]
    WINDOW_T: tl.constexpr = RULE[4]
    WINDOW_H: tl.constexpr = RULE[5]
    WINDOW_W: tl.constexpr = RULE[6]
    WRAP: tl.constexpr = RULE[7]
    lo = first
    hi = q_hi
    if KIND == CAUSAL:
        if SPAN == 0:
            hi = tl.minimum(q_hi, (first + BLOCK - 1) // BLOCK * BLOCK)
        elif SPAN == 1:
            hi = tl.minimum(q_lo + 1, stop) // BLOCK * BLOCK
    elif KIND == PREFIX:
        hi = tl.maximum(q_hi, boundary)
    elif KIND == ROW or KIND == NEIGHBOURHOOD:
        begin = tl.maximum(q_lo - boundary, 0)
        last = tl.minimum(q_hi - 1 - boundary, NUM_CODES - 1)
        all_text = q_hi <= boundary
        if SPAN == 0:
            right_text = q_hi - boundary > NUM_CODES
            hi = tl.where(all_text | right_text, q_hi, boundary)
        else:
            if KIND == ROW:
                lo = boundary + tl.maximum(begin - WIDTH, 0)
            else:
                FRAME: tl.constexpr = HEIGHT * WIDTH
                if WRAP and SPAN == 1:
                    lo = boundary
                    hi = tl.minimum(hi, boundary + (last // WIDTH - (HEIGHT - WINDOW_H) + 1) * WIDTH)
                else:
                    BACK: tl.constexpr = WINDOW_T + 1 - (SPAN - (1 if WRAP else 0))  # latent frames ago
                    REACH: tl.constexpr = WINDOW_H * WIDTH + WINDOW_W
                    lo = tl.maximum(begin - BACK * FRAME - REACH, (begin // FRAME - BACK) * FRAME)
                    if WRAP:
                        lo = tl.minimum(lo, (begin // WIDTH - WINDOW_H) * WIDTH)
                    lo = boundary + tl.maximum(lo, 0)
                    hi = tl.minimum(last - BACK * FRAME + REACH, (last // FRAME - BACK) * FRAME + FRAME - 1)
                    hi = boundary + tl.minimum(hi, last) + 1
            hi = tl.where(all_text, lo, hi)
    hi = tl.where(q_lo < stop, tl.minimum(hi, stop), 0)  # queries that are all dead see nothing
    return tl.maximum(lo, first), hi


@triton.jit
def is_full(SPAN: tl.constexpr, RULE: tl.constexpr):
    """Whether every pair in the span's blocks is live, so that no mask is needed there."""
    return RULE[0] == CAUSAL and SPAN == 1


@triton.jit
def query_span(
    span,  # a number at run time: unrolled spans would cost the dk and dv kernel its registers
    k_lo,  # slots of the block's keys: [k_lo, k_hi)
    k_hi,
    q_begin,  # slots of all queries: [q_begin, q_end)
    q_end,
    boundary,
    RULE: tl.constexpr,
):
    """[lo, hi): slots of queries for which the keys may be live, span number ``span``."""
    KIND: tl.constexpr = RULE[0]
    NUM_CODES: tl.constexpr = RULE[1]
    HEIGHT: tl.constexpr = RULE[2]
    WIDTH: tl.constexpr = RULE[3]
    WINDOW_T: tl.constexpr = RULE[4]
    WINDOW_H: tl.constexpr = RULE[5]
    WINDOW_W: tl.constexpr = RULE[6]
    WRAP: tl.constexpr = RULE[7]
    lo = k_lo
    hi = q_end
    if KIND == PREFIX:
        lo = tl.where(k_lo < boundary, q_begin, k_lo)
    elif KIND == ROW or KIND == NEIGHBOURHOOD:
        begin = k_lo - boundary
        last = tl.minimum(k_hi - 1 - boundary, NUM_CODES - 1)
        near_lo = begin
        near_hi = last + WIDTH + 1
        is_near = span == 0
        if KIND == NEIGHBOURHOOD:
            FRAME: tl.constexpr = HEIGHT * WIDTH
            REACH: tl.constexpr = WINDOW_H * WIDTH + WINDOW_W
            is_near = span <= WINDOW_T
            near_lo = tl.maximum(begin + span * FRAME - REACH, (begin // FRAME + span) * FRAME)
            near_lo = tl.maximum(near_lo, begin)
            near_hi = tl.minimum(last + span * FRAME + REACH, (last // FRAME + span) * FRAME + FRAME - 1) + 1
            if WRAP:
                near_hi = tl.maximum(near_hi, (last // WIDTH + WINDOW_H + 1) * WIDTH)
                at_border = span == WINDOW_T + 1
                is_near = is_near | at_border
                border_lo = tl.maximum(begin // WIDTH + HEIGHT - WINDOW_H, 0) * WIDTH
                near_lo = tl.where(at_border, border_lo, near_lo)
                near_hi = tl.where(at_border, NUM_CODES, near_hi)
        lo = boundary + tl.where(is_near, near_lo, NUM_CODES)  # the last span is the right text
        hi = tl.where(is_near, boundary + tl.minimum(near_hi, NUM_CODES), q_end)
        # Text keys are seen by all that follows, and right text sees all: the first span is everything then.
        everything = (span == 0) & ((begin < 0) | (begin >= NUM_CODES))
        lo = tl.where(everything, k_lo, lo)
        hi = tl.where(everything, q_end, hi)
    return tl.maximum(lo, q_begin), tl.minimum(hi, q_end)
