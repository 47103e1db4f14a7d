"""Puts the last session's tables into docs/performance.md.

python -m benchmarks.publish
"""

from pathlib import Path

import msgspec

from benchmarks import table
from benchmarks.__main__ import RESULTS
from benchmarks.figures import Results

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- begin: python -m benchmarks.publish -->\n", "<!-- end -->\n"


def published(document: str, results: Results) -> str:
    """Return the document with the tables of `results` between its marks. Raises ValueError if it
    has no marks."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document needs the lines {BEGIN.strip()} and {END.strip()}")
    return f"{before}{begin}\n{table.markdown(results)}\n{end}{after}"


def main() -> None:
    """Rewrite the document."""
    results = msgspec.json.decode((RESULTS / "last.json").read_bytes(), type=Results)
    DOCUMENT.write_text(published(DOCUMENT.read_text(), results))


if __name__ == "__main__":
    main()
