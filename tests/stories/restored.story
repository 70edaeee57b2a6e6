# A backup is put back: what the server had acknowledged since is marked, and sent again when its sender says so.
$ alice --quiet register alice
> ...
$ bob --quiet register bob
> ...
$ alice send bob "before"
! Sent to bob.
$ bob recv
> {TIME} alice: before
$ server backup
$ alice send bob "seen since"
! Sent to bob.
$ bob recv
> {TIME} alice: seen since
$ write notes.txt "as it was"
$ alice send bob "lost" --file {HOME}/notes.txt
! Sent to bob.
! {PATH} is sent to bob.
$ server restore

$ alice users
> bob (suite 1)
! The server was put back to an earlier state (a backup). 4 messages that it had acknowledged, symmetric keys included, are possibly lost: `messageu resend` sends them again; `messageu history` marks texts and files.
$ alice users
> bob (suite 1)
$ alice history bob
> {TIME} to bob [possibly lost, suite 1]: before
> {TIME} to bob [possibly lost, suite 1]: seen since
> {TIME} to bob [possibly lost, suite 1]: lost
> {TIME} to bob [possibly lost, suite 1]: the file {PATH}
$ alice history bob --search lost --json
> {"v": 1, "type": "message", "direction": "out", "number": 3, "name": "bob", "id": "{HEX}", "kind": "text", "state": "stored", "queued_at": {NUMBER}, "stored_at": {NUMBER}, "message_id": 3, "problem": null, "possibly_lost": true, "recipient_verified": false, "suite": 1, "text": "lost"}
$ alice doctor
> ok    server address: 127.0.0.1:{NUMBER}, plain TCP, not encrypted
> ok    file modes: private files are private
> ok    store: store.db can be used
> ok    passphrase: none: whoever can read the home can read all of it
> ok    identity: alice
> ok    server: answers, and speaks the extension: send once, fetch, keys, reasons, accounts, blocking; everybody may register; mail is kept until it is fetched; up to 1 GiB a message, and 1000000 messages and 4 GiB waiting for you
> ok    account: the server knows it, and 1 other
> ok    keys: no key has changed
> ok    suite: the modern one, suite 1: our keys are published; 1 conversation is under it
> WRONG outbox: The server was put back to an earlier state (a backup). 4 messages that it had acknowledged, symmetric keys included, are possibly lost: `messageu resend` sends them again; `messageu history` marks texts and files.
> ok    watch: no message is set aside
> ok    clock: nothing to compare it with yet
= 1
$ bob recv
! No messages wait.

$ write notes.txt "as it is now"
$ alice resend
! The file {PATH} for bob can't be sent again: the file has changed. {PATH} has another content. `messageu send bob --file` and its path send it as a new message.
! 3 messages are sent again.
! One message is still marked as possibly lost; `messageu resend --forget` takes the mark away.
= 1
# What bob had already, he is not shown again.
$ bob recv
> {TIME} alice: lost
$ write notes.txt "as it was"
$ alice resend --json bob
> {"v": 1, "type": "sent", "to": "bob", "id": "{HEX}", "kind": "file", "path": "{PATH}", "message_id": {NUMBER}, "recipient_verified": false, "suite": 1}
! {"v": 1, "type": "note", "text": "One message is sent again."}
$ bob recv
> {TIME} alice sent a file: {PATH}
$ alice history bob
> {TIME} to bob [suite 1]: before
> {TIME} to bob [suite 1]: seen since
> {TIME} to bob [suite 1]: lost
> {TIME} to bob [suite 1]: the file {PATH}
$ alice resend
! Nothing is possibly lost.

# Who does not want it, forgets it.
$ alice send bob "not again"
! Sent to bob.
$ bob --quiet recv
> ...
$ server restore
$ alice resend nobody
! The server was put back to an earlier state {ANY}
! messageu: {ANY}
= 7
$ alice resend --forget
! 5 messages are not marked as possibly lost any more.
$ alice resend
! Nothing is possibly lost.
$ bob recv
! No messages wait.

# Who registered after the backup was made registers again, and is the same to everybody.
$ carol --quiet register carol
> ...
$ alice send carol "welcome"
! Sent to carol.
$ carol send alice "thank you"
! Sent to alice.
$ server restore
$ carol recv
> {TIME} alice: welcome
! messageu: The server does not know this account any more. If it was restored from a backup, `messageu register carol` registers the name and the key again.
= 6
$ carol register carol
> carol
> id: {HEX}
> ...
> signed in: yes
! The server did not know this account any more: name and key are registered again.
! The server was put back to an earlier state {ANY}
! Registered as carol.
$ carol register carol
! messageu: This home has an identity already, and it is not replaced. Use --home for another user.
= 2
$ alice key carol
> ...
! The server was put back to an earlier state {ANY}
$ alice resend
! {ANY} sent again.
$ carol resend
! One message is sent again.
$ carol recv
! No messages wait.
$ alice recv
> {TIME} carol [1 missing before it]: thank you
