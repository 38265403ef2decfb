"""Attempts: a single attempt, the running ones, and the abandoned ones."""
