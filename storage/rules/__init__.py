"""Decisions about entries: clock, chain, vector, merge. Pure."""
