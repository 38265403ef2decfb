"""Attempts at tasks: one attempt, those under way, and those that were abandoned."""
