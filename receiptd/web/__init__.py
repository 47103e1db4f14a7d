"""HTTP inside the daemon: probes, metrics, the API, push, the dashboard.

It is a guest of the daemon: it has one thread and a few for the database, it has limits for all
that it takes, and nothing of it can stop or slow the receipts.
"""
