"""The subcommands of `messageu`: one function each, around `client.messenger`.

Owns: what a command prints and which exit code it gives.
Promises: data on stdout, prose on stderr; nothing is asked where there is no terminal.
"""
