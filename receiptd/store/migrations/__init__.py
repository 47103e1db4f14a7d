"""The schema's history. Each step is written by hand and never edited once released."""
