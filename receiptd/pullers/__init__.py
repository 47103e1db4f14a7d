"""Transports: how envelopes come in and acks go out. They know no provider and no database."""
