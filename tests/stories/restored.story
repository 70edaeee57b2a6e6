# A backup is put back: what the server had acknowledged since is marked, and sent again when its sender says so.
$ alice --quiet register alice
> ...
$ bob --quiet register bob
> ...
$ alice send bob "before"
! A new symmetric key is made and sent to bob.
! Sent to bob.
$ bob recv
> {TIME} alice sent a symmetric key{ANY}
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
> bob
! The server was put back to an earlier state (a backup). 5 messages that it had acknowledged, symmetric keys included, are possibly lost: `messageu resend` sends them again; `messageu history` marks texts and files.
$ alice users
> bob
$ alice history bob
> {TIME} to bob [possibly lost]: before
> {TIME} to bob [possibly lost]: seen since
> {TIME} to bob [possibly lost]: lost
> {TIME} to bob [possibly lost]: the file {PATH}
$ alice history bob --search lost --json
> {"v": 1, "type": "message", "direction": "out", "number": 3, "name": "bob", "id": "{HEX}", "kind": "text", "state": "stored", "queued_at": {NUMBER}, "stored_at": {NUMBER}, "message_id": {NUMBER}, "problem": null, "possibly_lost": true, "recipient_verified": false, "text": "lost"}
$ alice doctor
> ...
> WRONG outbox: The server was put back to an earlier state (a backup). 5 messages that it had acknowledged, symmetric keys included, are possibly lost: `messageu resend` sends them again; `messageu history` marks texts and files.
> ...
= 1
$ bob recv
! No messages wait.

$ write notes.txt "as it is now"
$ alice resend
! The file {PATH} for bob can't be sent again: the file has changed. {PATH} has another content. `messageu send bob --file` and its path send it as a new message.
! 4 messages are sent again.
! One message is still marked as possibly lost; `messageu resend --forget` takes the mark away.
= 1
# What bob had already, he is not shown again.
$ bob recv
> {TIME} alice: lost
$ write notes.txt "as it was"
$ alice resend --json bob
> {"v": 1, "type": "sent", "to": "bob", "id": "{HEX}", "kind": "file", "path": "{PATH}", "message_id": {NUMBER}, "recipient_verified": false}
! {"v": 1, "type": "note", "text": "One message is sent again."}
$ bob recv
> {TIME} alice sent a file: {PATH}
$ alice history bob
> {TIME} to bob: before
> {TIME} to bob: seen since
> {TIME} to bob: lost
> {TIME} to bob: the file {PATH}
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
! 6 messages are not marked as possibly lost any more.
$ alice resend
! Nothing is possibly lost.
$ bob recv
! No messages wait.

# Who registered after the backup was made registers again, and is the same to everybody.
$ carol --quiet register carol
> ...
$ alice send carol "welcome"
! A new symmetric key is made and sent to carol.
! Sent to carol.
$ carol send alice "thank you"
! A new symmetric key is made and sent to alice.
! Sent to alice.
$ server restore
$ carol recv
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
! 2 messages are sent again.
$ carol recv
> {TIME} alice sent a symmetric key{ANY}
> {TIME} alice: welcome
$ alice recv
> {TIME} carol sent a symmetric key{ANY}
> {TIME} carol: thank you
