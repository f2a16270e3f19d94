"""What may be said: the release rules, and what they hold back.

rules         the agreed limits; small counts, merged intervals, rounding
suppression   cells of tables, so that nothing follows by subtraction
release       what a result tells, declared as data: the vocabulary that these rules read
engine        which questions of a query may be answered beside each other, from what they declare
overlaps, differences, linked   groups that differ by a few; tables that give each other back
"""


from .rules import (
    FEW_LEVELS,
    FLOOR_CELL,
    FLOOR_COHORT,
    FLOOR_REGISTRIES,
    FLOORS,
    NO_RULES,
    Rules,
    gate,
    intervals,
    may_count,
    may_imply,
    merged,
    safe,
    strictest,
)

__all__ = [
    "FEW_LEVELS",
    "FLOORS",
    "FLOOR_CELL",
    "FLOOR_COHORT",
    "FLOOR_REGISTRIES",
    "NO_RULES",
    "Rules",
    "gate",
    "intervals",
    "may_count",
    "may_imply",
    "merged",
    "safe",
    "strictest",
]
