"""The commands of `messageu`, a file each: options, help, examples, JSON, exit codes, and the run.

Owns: nothing itself; `client.cli.table` lists them.
Promises: what is long, or shared with the chat, is in a module of `client.cli` that the run
imports.
"""
