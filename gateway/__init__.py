"""The gateway: a TCP server that speaks the client protocol and hands every decision to
the storage worker.
"""
