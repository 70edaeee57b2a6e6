"""Contacts, their keys, and how much they are trusted."""
