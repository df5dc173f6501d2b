"""Rounds of kill -9."""
