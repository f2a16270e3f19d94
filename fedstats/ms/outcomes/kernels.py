"""The sequential part of disability outcomes: one pass over the visits of every patient, in their order.

How this works:

1. A patient is a run of visits (day, value, sorted) and a run of relapse onsets (days, sorted). Everything below sees one patient
   through slices of the big arrays; `worsening_events` and `milestone_visits` walk the patients.
2. A visit may serve as reference ("fit") if it is far enough from relapses, and may serve as confirmation ("usable") likewise.
3. From the reference the scan goes forward, visit by visit, until a change of at least the threshold is found that a usable visit
   inside the confirmation window still shows. Then the event is written, the reference is moved (or not), and the scan goes on.

With numba these functions are compiled at the first call (some seconds, then cached beside the file); without it the same functions
run as plain Python, a few hundred times slower and with the same results. They are one file on purpose: numba's cache notices a change
of the file of the function that it compiled, not of other files.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

try:
    from numba import njit
except ImportError:                         # numba is optional: the same code, interpreted
    njit = None         # type: ignore[assignment]

FAR = 2**40             # days: no relapse on that side
TOLERANCE = 1e-9        # of a score: a fifth of 25.5 is not exact in binary, and 30.6 is a change of a fifth
CONFIRMED, NO_VISIT, NOT_HELD, NOT_SUSTAINED = range(4)     # what became of a change
UNTYPED, RAW, PIRA, UNDEFINED = range(4)                    # relation of a worsening to relapses
FIRST_CDW, FIRST_CDI, FIRST_PIRA, FIRST_RAW, FIRST, MULTIPLE = range(6)
AT_REFERENCE, AT_LAST, AT_LAST_DELTA = range(3)             # the visit that the "prec" interval is about
KEEP_ALL, SKIP_STRICT, SKIP_ALL = range(3)                  # local extremes as references


def compiled(function: Any) -> Any:
    """The function compiled by numba; itself without numba."""
    if njit is None:
        return function
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:                    # nowhere to write the cache
        return njit(nogil=True)(function)



class Rules(NamedTuple):
    """What counts as an event, as plain numbers; progression_rules.rules() makes them. Days unless said otherwise."""

    worse: float                    # +1: higher is worse, -1: lower is worse
    steps: np.ndarray               # smallest changes, see thresholds.Threshold.table
    event: int                      # FIRST_CDW ...
    windows: np.ndarray             # (from, to) after the event, one row per confirmation period
    sustained: float
    intermediate: bool              # all visits up to the confirmation must show the change
    reference_before: float
    reference_after: float
    event_before: float
    event_after: float
    conf_before: float
    conf_after: float
    assoc_before: float
    assoc_after: float
    around: tuple[float, float, float, float, float, float]     # relapse-free days before and after: visit before, event, confirmation
    before: int                     # AT_REFERENCE ...
    moves_on_worse: bool            # a confirmed worsening moves the reference
    moves_on_better: bool
    from_conf: bool                 # go on from the first confirmation, not from the event
    below_worse: bool               # a confirmed change below the threshold moves the reference, too
    below_better: bool
    never_lower: bool               # a reference set anew after a relapse is never a lower number than the old one
    relapse_rebl: bool
    extremes: int                   # KEEP_ALL ...
    impute: float                   # a worsening at the last visit counts if not later than this
    unconfirmed: bool               # keep changes that came to nothing


class Visits(NamedTuple):
    """Visits of all patients, by patient and day, and what relapses mean for them. Arrays, one entry per visit."""

    day: np.ndarray         # int64
    value: np.ndarray       # float64
    since: np.ndarray       # days since the last relapse onset (0: the same day), FAR if none
    until: np.ndarray       # days until the next relapse onset (0: the same day), FAR if none
    extreme: np.ndarray     # a local extreme that may not serve as reference
    fit: np.ndarray         # may serve as reference
    usable: np.ndarray      # may confirm


class Found(NamedTuple):
    """Changes that were found; one row each. Indices count visits of all patients, -1 for none; columns of conf: one per window."""

    patient: np.ndarray
    direction: np.ndarray   # +1 worsening, -1 improvement
    outcome: np.ndarray     # CONFIRMED ...
    kind: np.ndarray        # UNTYPED ...
    visit: np.ndarray
    reference: np.ndarray
    reference_value: np.ndarray
    last_delta: np.ndarray
    last_delta_value: np.ndarray
    sustained: np.ndarray   # the last visit of the unbroken run that shows the change
    conf: np.ndarray
    pira_conf: np.ndarray


def room_for_marks(day: np.ndarray, value: np.ndarray) -> Visits:
    """Visits with room for what `mark_relapses` and `mark_visits` fill in."""
    n = len(day)
    return Visits(day, value, np.empty(n, np.int64), np.empty(n, np.int64), *(np.empty(n, np.bool_) for _ in range(3)))


def room_for(visits: int, windows: int) -> Found:
    """Room for as many changes as there are visits (each is written at most once), and for the row of nothing that ends them."""
    room = visits + 1
    patient, visit, reference, last_delta, sustained = (np.empty(room, np.int64) for _ in range(5))
    direction, outcome, kind = (np.empty(room, np.int8) for _ in range(3))
    conf, pira_conf = (np.empty((room, windows), np.int64) for _ in range(2))
    return Found(patient, direction, outcome, kind, visit, reference, np.empty(room), last_delta, np.empty(room), sustained, conf,
                 pira_conf)


@compiled
def smallest_change(reference: float, steps: np.ndarray) -> float:
    """The change that counts at this reference, less the tolerance; see thresholds.Threshold.table for the columns of `steps`."""
    k = 0
    while k + 1 < len(steps) and steps[k + 1, 0] <= reference:
        k += 1
    return max(min(steps[k, 1] + reference / steps[k, 2], steps[k, 3]) - TOLERANCE, TOLERANCE)


@compiled
def is_clear(since: int, until: int, before: float, after: float) -> bool:
    """Far enough from the last relapse (`before` days) and the next one (`after` days); 0 asks nothing."""
    return (before <= 0 or since >= before) and (after <= 0 or until >= after)


@compiled
def no_relapse(onsets: np.ndarray, first: float, last: float) -> bool:
    """No relapse starts from day `first` to day `last`, both included."""
    for onset in onsets:                    # noqa: SIM110 - numba knows no generators
        if first <= onset <= last:
            return False
    return True


@compiled
def mark_relapses(day, onsets, since, until):
    """Fill in the distances to the last and the next relapse."""
    k = 0
    for i in range(len(day)):
        while k < len(onsets) and onsets[k] <= day[i]:
            k += 1
        since[i] = day[i] - onsets[k - 1] if k > 0 else FAR
        until[i] = 0 if since[i] == 0 else (onsets[k] - day[i] if k < len(onsets) else FAR)


@compiled
def is_extreme(value, i, rules):
    """A visit above (or below) both neighbours, where such visits are no references; with SKIP_STRICT by at least the threshold. One with
    the score of the visit before the last is not: scores that swing have no extremes."""
    if rules.extremes == KEEP_ALL or i == 0 or i == len(value) - 1 or (i > 1 and value[i] == value[i - 2]):
        return False
    left, right = value[i] - value[i - 1], value[i] - value[i + 1]
    least = smallest_change(value[i], rules.steps) if rules.extremes == SKIP_STRICT else TOLERANCE
    return left * right > 0 and min(abs(left), abs(right)) >= least


@compiled
def mark_visits(own, valid, rules):
    """Fill in which visits are extremes, fit as reference, usable as confirmation. own : one patient's Visits"""
    for i in range(len(own.day)):
        since, until = own.since[i], own.until[i]
        own.extreme[i] = is_extreme(own.value, i, rules)
        own.fit[i] = is_clear(since, until, rules.reference_before, rules.reference_after) and not own.extreme[i]
        own.usable[i] = valid[i] and is_clear(since, until, rules.conf_before, rules.conf_after)


@compiled
def last_held(value, k, direction, reference, need):
    """The last visit of the unbroken run from k on that shows the change."""
    while k + 1 < len(value) and direction * (value[k + 1] - reference) >= need:
        k += 1
    return k


@compiled
def confirmation(own, k, start, end, low, high, direction, reference, need, intermediate):
    """The first usable visit from `start` on that confirms the change at visit k, or -1; or -2: no usable visit in the window at all."""
    answer = -2
    for c in range(max(start, k + 1), len(own.day)):
        passed = own.day[c] - own.day[k]
        if passed > high:
            break
        if passed >= low and own.usable[c]:
            if c <= end or (not intermediate and direction * (own.value[c] - reference) >= need):
                return c
            answer = -1
            if not intermediate:
                break
    return answer


@compiled
def last_delta_visit(own, k, c, direction, steps, intermediate):
    """The last visit before k from which the change at k, held until its confirmation c, is one of at least the threshold; or -1."""
    for j in range(k - 1, -1, -1):
        need = smallest_change(own.value[j], steps)
        shown = not own.extreme[j] and direction * (own.value[k] - own.value[j]) >= need
        q = k + 1 if intermediate else max(c, k + 1)
        while shown and q <= c:
            shown = direction * (own.value[q] - own.value[j]) >= need
            q += 1
        if shown:
            return j
    return -1


@compiled
def earliest(conf):
    """The earliest of the confirmations that there are, or -1."""
    answer = -1
    for c in conf:
        if c >= 0 and (answer < 0 or c < answer):
            answer = c
    return answer


@compiled
def is_independent(onsets, before, event, conf, around):
    """No relapse in any of the intervals around the visit before, the event and its confirmation (days; conf NaN: imputed).

    around : (before, after) of the three; (0, 0) asks nothing; NaN reaches to the neighbouring checkpoint.
    """
    p0, p1, e0, e1, c0, c1 = around
    if (p0 != 0 or p1 != 0) and not no_relapse(onsets, before - p0, event if np.isnan(p1) else before + p1):
        return False
    if np.isnan(conf):
        e1 = 0.0 if np.isnan(e1) else e1
    if (e0 != 0 or e1 != 0) and not no_relapse(onsets, before if np.isnan(e0) else event - e0, conf if np.isnan(e1) else event + e1):
        return False
    if np.isnan(conf) or (c0 == 0 and c1 == 0):
        return True
    return no_relapse(onsets, event if np.isnan(c0) else conf - c0, conf + c1)


@compiled
def next_fit(fit, k):
    """The first visit from k on that may serve as reference, or the number of visits."""
    while k < len(fit) and not fit[k]:
        k += 1
    return k


@compiled
def first_reference(own, zero):
    """The last fit visit up to time zero, else the first fit one after it."""
    k = -1
    for i in range(len(own.day)):
        if own.fit[i] and (own.day[i] <= zero or k < 0):
            k = i
        if own.day[i] > zero and k >= 0:
            break
    return k if k >= 0 else len(own.day)


@compiled
def is_wanted(event, direction, kind):
    """Is this confirmed event one that was asked for?"""
    if event == FIRST_CDW:
        return direction > 0
    if event == FIRST_CDI:
        return direction < 0
    if event == FIRST_PIRA:
        return kind == PIRA
    if event == FIRST_RAW:
        return kind == RAW
    return True


@compiled
def earliest_usable(own, k, windows):
    """The first usable visit in any of the confirmation windows after visit k, or the number of visits."""
    for c in range(k + 1, len(own.day)):
        for w in range(len(windows)):
            if own.usable[c] and windows[w, 0] <= own.day[c] - own.day[k] <= windows[w, 1]:
                return c
    return len(own.day)


@compiled
def is_sustained(own, k, end, direction, reference, need, rules):
    """Is the change at visit k, shown up to visit `end`, shown for long enough, or up to the last visit?

    Without intermediate visits it is enough that the first visit at the end of that time shows it.
    """
    last = len(own.day) - 1
    if end == last:
        return True
    if rules.intermediate:
        return own.day[end + 1] - own.day[k] > rules.sustained
    c = k
    while c < last and own.day[c] - own.day[k] < rules.sustained:
        c += 1
    return direction * (own.value[c] - reference) >= need


@compiled
def confirm(own, k, direction, reference, need, rules, conf):
    """Is the change at visit k confirmed and sustained? Fills `conf` per window; returns (outcome, first confirmation, end of the run)."""
    end = last_held(own.value, k, direction, reference, need)
    first, outcome = -1, NO_VISIT
    for w in range(len(rules.windows)):
        found = confirmation(own, k, k + 1, end, rules.windows[w, 0], rules.windows[w, 1], direction, reference, need, rules.intermediate)
        conf[w] = max(found, -1)
        if found >= 0 and first < 0:
            first = found
        if found != -2:
            outcome = NOT_HELD
    if not rules.intermediate and (conf != earliest_usable(own, k, rules.windows)).all():
        first = -1
    if first >= 0:
        if not rules.intermediate:
            end = last_held(own.value, first, direction, reference, need)
            for w in range(len(conf)):
                conf[w] = conf[w] if conf[w] <= end else -1
        kept = is_sustained(own, k, end, direction, reference, need, rules)
        outcome = CONFIRMED if kept else NOT_SUSTAINED
    return outcome, first, end


@compiled
def relation(own, onsets, k, before, reference, need, end, imputed, rules, conf, pira_conf):
    """A worsening is RAW, PIRA or undefined; fills `pira_conf` with the first relapse-independent confirmation per window."""
    if own.since[k] <= rules.assoc_before or (rules.assoc_after > 0 and own.until[k] <= rules.assoc_after):
        return RAW
    day, kind = own.day, UNDEFINED
    if imputed:
        return PIRA if is_independent(onsets, day[before], day[k], np.nan, rules.around) else UNDEFINED
    for w in range(len(rules.windows)):
        c = conf[w]
        while c >= 0 and not is_independent(onsets, day[before], day[k], day[c], rules.around):
            c = confirmation(own, k, c + 1, end, rules.windows[w, 0], rules.windows[w, 1], rules.worse, reference, need, rules.intermediate)
        pira_conf[w] = max(c, -1)
        if c >= 0:
            kind = PIRA
    return kind


@compiled
def row_of(found, row, patient, visit):
    """The row of this patient that has this visit already, or `row`: a reference set anew after a relapse lies before visits that were
    looked at, and an event that is found again takes the place of the one found first."""
    at = row - 1
    while at >= 0 and found.patient[at] == patient:
        if found.visit[at] == visit:
            return at
        at -= 1
    return row


@compiled
def try_change(own, onsets, zero, k, ref, reference, direction, moves, rules, found, row, patient, offset):
    """Decide about a change at visit k that is large enough, and write it down if it is wanted.

    Returns the next free row, where the search goes on (-1: not an event) and whether it ends.
    """
    signed, conf, pira_conf = direction * rules.worse, found.conf[row], found.pira_conf[row]
    need = smallest_change(reference, rules.steps)
    pira_conf[:] = -1
    outcome, first, end = confirm(own, k, signed, reference, need, rules, conf)
    imputed = outcome == NO_VISIT and k == len(own.day) - 1 and direction > 0 and own.day[k] - zero <= rules.impute
    if imputed:
        outcome = CONFIRMED
    last_delta, kind = last_delta_visit(own, k, earliest(conf), signed, rules.steps, rules.intermediate), UNTYPED
    if outcome == CONFIRMED and direction > 0:
        before = ref
        if rules.before == AT_LAST:
            before = k - 1
        elif rules.before == AT_LAST_DELTA and last_delta >= 0:
            before = last_delta
        kind = relation(own, onsets, k, before, reference, need, end, imputed, rules, conf, pira_conf)
    wanted = outcome == CONFIRMED and is_wanted(rules.event, direction, kind)
    if wanted or (outcome != CONFIRMED and rules.unconfirmed):
        at = row_of(found, row, patient, k + offset)
        if at == row or outcome == CONFIRMED:
            found.patient[at], found.direction[at], found.outcome[at], found.kind[at] = patient, direction, outcome, kind
            found.visit[at], found.reference[at], found.reference_value[at] = k + offset, ref + offset, reference
            found.last_delta[at] = last_delta + offset if last_delta >= 0 else -1
            found.last_delta_value[at] = own.value[last_delta] if last_delta >= 0 else np.nan
            found.sustained[at] = end + offset
            for w in range(len(conf)):
                found.conf[at, w] = conf[w] + offset if conf[w] >= 0 else -1
                found.pira_conf[at, w] = pira_conf[w] + offset if pira_conf[w] >= 0 and kind == PIRA else -1
        if at == row:
            row += 1
    goto = -1
    if not imputed and (wanted or (moves and first >= 0)):
        goto = first if rules.from_conf else k
    return row, goto, imputed or (wanted and rules.event != MULTIPLE)


@compiled
def relapse_passed(onsets, since, day, rules):
    """The first relapse after day `since`, if the reference is set anew after relapses and `day` is not associated with it; or FAR."""
    if rules.relapse_rebl:
        for onset in onsets:
            if onset > since:
                return onset if day - onset > rules.assoc_before else FAR
    return FAR


@compiled
def next_after(day, onset):
    """The first visit on or after a day."""
    k = 0
    while k < len(day) and day[k] < onset:
        k += 1
    return k


@compiled
def raised(own, k, reference, rules):
    """The score of visit k as the new reference. Where relapses set it anew, bl_geq gives the visit the score of the old reference if its
    own is lower."""
    if rules.relapse_rebl and rules.never_lower and own.value[k] < reference:
        own.value[k] = reference
        for i in range(max(k - 1, 0), min(k + 3, len(own.value))):
            own.extreme[i] = is_extreme(own.value, i, rules)
            own.fit[i] = is_clear(own.since[i], own.until[i], rules.reference_before, rules.reference_after) and not own.extreme[i]
    return own.value[k]


@compiled
def scan(own, onsets, zero, rules, found, row, patient, offset):
    """All changes of one patient, written from `row` on; returns the next free row and the first reference visit (-1: none)."""
    n, unused, ref = len(own.day), np.empty(len(rules.windows), np.int64), first_reference(own, zero)
    if ref >= n:
        return row, -1
    start, i, reference = ref, ref + 1, own.value[ref]
    while i < n and own.day[i] <= zero:
        i += 1
    while i < n:
        change = rules.worse * (own.value[i] - reference)
        direction, goto, old = 1 if change > 0 else -1, -1, own.day[ref]
        moves = rules.moves_on_worse if direction > 0 else rules.moves_on_better
        below = rules.below_worse if direction > 0 else rules.below_better
        clear = is_clear(own.since[i], own.until[i], rules.event_before, rules.event_after)
        enough = abs(change) >= smallest_change(reference, rules.steps)
        if not clear or not (enough or (below and abs(change) > TOLERANCE)):
            i += 1
            continue
        onset = relapse_passed(onsets, old, own.day[i], rules)
        if onset < FAR:
            ref = next_fit(own.fit, next_after(own.day, onset))
            if ref >= n:
                break
            reference, i = raised(own, ref, reference, rules), ref + 1
            continue
        if enough:
            row, goto, ends = try_change(own, onsets, zero, i, ref, reference, direction, moves, rules, found, row, patient, offset)
            if ends:
                break
        if goto < 0 and moves and below:
            # a confirmed change of any size moves the reference, without being an event
            _, first, _ = confirm(own, i, direction * rules.worse, reference, TOLERANCE, rules, unused)
            if first >= 0:
                goto = earliest(unused) if rules.from_conf else i
        after = max(goto, i) + 1
        if goto >= 0 and moves:
            ref = next_fit(own.fit, goto)
            if ref >= n:
                break
            i = ref + 1
        else:
            i = after
        onset = relapse_passed(onsets, old, own.day[after], rules) if after < n else FAR
        if onset < FAR:
            after = next_fit(own.fit, next_after(own.day, onset))
            if after >= n:
                break
            if after > ref or (direction > 0 and (rules.event == FIRST_PIRA or rules.event == FIRST_RAW)):
                ref, i = after, after + 1
        reference = raised(own, ref, reference, rules)
    return row, start


@compiled
def last_confirmable(own, zero, windows):
    """The last visit after time zero at which an event could still have been confirmed, or -1."""
    for k in range(len(own.day) - 1, -1, -1):
        if own.day[k] <= zero:
            return -1
        for w in range(len(windows)):
            for c in range(k + 1, len(own.day)):
                if own.usable[c] and windows[w, 0] <= own.day[c] - own.day[k] <= windows[w, 1]:
                    return k
    return -1


@compiled
def part(visits, a, b):
    """One patient's Visits."""
    return Visits(visits.day[a:b], visits.value[a:b], visits.since[a:b], visits.until[a:b], visits.extreme[a:b], visits.fit[a:b],
                  visits.usable[a:b])


@compiled
def worsening_events(visits, valid, starts, onsets, relapse_starts, zero, rules, found, reference, confirmable):
    """All patients. starts, relapse_starts : where each patient's visits and relapses begin, one entry more than patients.

    zero : day of time zero per patient. Fills `found`, and per patient the first reference visit and the last confirmable one (-1: none).
    Returns how many rows of `found` are filled; the row after them stands for nothing.
    """
    row = 0
    for p in range(len(starts) - 1):
        a, b = starts[p], starts[p + 1]
        own, ours = part(visits, a, b), onsets[relapse_starts[p]:relapse_starts[p + 1]]
        if b > a:
            ours = ours[ours >= own.day[0] - rules.reference_before]
        mark_relapses(own.day, ours, own.since, own.until)
        mark_visits(own, valid[a:b], rules)
        row, first = scan(own, ours, zero[p], rules, found, row, p, a)
        reference[p] = first + a if first >= 0 else -1
        last = last_confirmable(own, zero[p], rules.windows)
        confirmable[p] = last + a if last >= 0 else -1
    found.patient[row], found.direction[row], found.outcome[row], found.kind[row] = -1, 0, CONFIRMED, UNTYPED
    found.visit[row], found.reference[row], found.reference_value[row], found.last_delta[row], found.sustained[row] = -1, -1, np.nan, -1, -1
    found.last_delta_value[row], found.conf[row], found.pira_conf[row] = np.nan, -1, -1
    return row


@compiled
def milestone_visits(visits, valid, starts, onsets, relapse_starts, zero, level, crossing, rules, reached, conf):
    """The first visit of each patient that is at the level or beyond and confirmed there; fills `reached` and `conf` (-1: none).

    crossing : only the first visit of a run at the level is looked at.
    """
    for p in range(len(starts) - 1):
        a, b = starts[p], starts[p + 1]
        own, ours = part(visits, a, b), onsets[relapse_starts[p]:relapse_starts[p + 1]]
        if b > a:
            ours = ours[ours >= own.day[0] - rules.event_before]
        mark_relapses(own.day, ours, own.since, own.until)
        mark_visits(own, valid[a:b], rules)
        reached[p] = -1
        conf[p] = -1
        was_there = False
        for k in range(b - a):
            there = rules.worse * (own.value[k] - level) >= -TOLERANCE
            if not is_clear(own.since[k], own.until[k], rules.event_before, rules.event_after):
                was_there = was_there and there
                continue
            looked_at = there and not (crossing and was_there)
            was_there = there
            if not looked_at:
                continue
            outcome, _, _ = confirm(own, k, rules.worse, level, -TOLERANCE, rules, conf[p])
            imputed = outcome == NO_VISIT and k == b - a - 1 and own.day[k] - zero[p] <= rules.impute
            if outcome == CONFIRMED or imputed:
                reached[p] = k + a
                for w in range(len(conf[p])):
                    conf[p, w] = conf[p, w] + a if conf[p, w] >= 0 else -1
                break
            conf[p] = -1
