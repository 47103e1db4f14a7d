"""What a person asks about one SMS: everything that is known of it, as one timeline.

`Explainer` finds the rows, `events` says what a timeline is made of, `words` says it in English,
`shown` as JSON.
"""

from receiptd.explain.events import Event, Explanation, Meaning, Said, Timeline, What
from receiptd.explain.finding import Explainer, Unsearchable

__all__ = [
    "Event",
    "Explainer",
    "Explanation",
    "Meaning",
    "Said",
    "Timeline",
    "Unsearchable",
    "What",
]
