"""One file per database. What a dialect supplies stands in base.py."""
