"""Kills the daemon at named points and lets its system calls fail, on real databases and brokers,
and compares what was sent with what is stored: `make torture`."""
