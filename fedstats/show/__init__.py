"""Results for people: data frames, figures, notebook HTML, plain text and Rich tables.

Results describe themselves as plain data (`views.Table`, `views.Picture`); this package draws them. It is the only place
that imports pandas and matplotlib, and does so inside functions: importing it costs nothing.

How this works: `words.sheets(result)` turns the tables of a result into sheets of finished text (numbers rounded for
reading, intervals joined, suppressed numbers marked with the rule that held them back). Text, terminal and HTML lay out the
same sheets, so that all of them say the same. Frames keep the plain values.
"""

from .fragment import html
from .frames import frame, frames
from .pictures import plot, svg
from .terminal import console, text
from .words import RESEARCH

__all__ = ["RESEARCH", "console", "frame", "frames", "html", "plot", "svg", "text"]
