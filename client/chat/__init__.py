"""A conversation with one user, in a terminal: `messageu chat NAME`.

Owns: what `chat` shows and does; `client.cli.chatting` starts it.
Promises: a line is on disk, in the outbox, before it leaves the prompt; a message counts as
received when it is on the screen.

Three threads, each with an `OpenHome`, so with a database connection and a server connection, of
its own:

    thread     its OpenHome                                               talks with the others through
    ────────   ────────────────────────────────────────────────────────   ──────────────────────────────────────
    screen     puts what is typed into the outbox, reads the history;     `Sender.give`; the events below
               asks no server once the chat has begun
    sender     encrypts files, empties the outbox, tries again            a queue of jobs in; events out
    receiver   waits for mail (643), or follows another process           events out; waits until what came
               of the home that receives                                  stands on the screen

The screen's thread is the main one and runs the terminal's event loop; the others hand it events
and touch nothing of its own. When the chat ends it interrupts their connections and waits for them
a moment; what they leave unfinished is in the outbox, or still unread in the inbox.

Source: docs/client.md.
"""
