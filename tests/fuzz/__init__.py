"""Fuzzing that stays: targets, a corpus, and a run of any length (`scripts/fuzz`)."""
