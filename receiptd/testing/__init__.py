"""For those who write a puller or a provider: suites that hold it to receiptd's contracts.

Needs pytest; nothing else in receiptd imports it.
"""
