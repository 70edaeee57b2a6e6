"""The storage worker: the only program that writes users and mail."""
