"""Replay: what was received once is read again, by the rules of today, and merged.

From the journal, the quarantine or files, down the same road as live traffic: one pipeline reads
and stores, and only what it stores into differs. A normalizer fix is proven by the code that runs
live, and to replay twice is to replay once.
"""
