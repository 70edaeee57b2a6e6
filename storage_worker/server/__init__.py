"""Batches in, outcomes out."""
