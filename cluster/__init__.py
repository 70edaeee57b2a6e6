"""A whole server on one machine, to try it and to break it: PostgreSQL with a standby, storage
workers, gateways.
"""
