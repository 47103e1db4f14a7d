"""Meanings: what a provider's messages, codes and APIs say. They know no transport and no
database."""
