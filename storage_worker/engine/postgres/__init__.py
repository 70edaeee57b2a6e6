"""The engine over PostgreSQL: a turn is one row of a journal, mail goes into pages later."""
