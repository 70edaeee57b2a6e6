"""Encryption of content and of the home's secrets."""
