"""The background processes: each a loop that may be killed at any moment."""
