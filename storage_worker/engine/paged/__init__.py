"""Mail in pages behind a log of turns: mailboxes, and records as bytes, which engines share."""
