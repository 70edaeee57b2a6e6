"""The embedded engine: a journal, SQLite, and blobs in files."""
