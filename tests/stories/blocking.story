# Blocked: the sender sees nothing of it.
$ alice -q register alice
> alice
> id: {HEX}
> public key:
>     {GROUPS}
>     {GROUPS}
> signed in: yes
$ bob -q register bob
> bob
> ...
> signed in: yes
$ bob -q send alice "before"
$ alice recv
> {TIME} bob: before
$ alice blocked
! Nobody is blocked or muted.
$ alice block bob
> bob: blocked
! The server keeps what they send from your mailbox, and does not tell them.
$ alice blocked --json
> {"v": 1, "type": "silenced", "name": "bob", "id": "{HEX}", "blocked": true, "muted": false, "server_refuses": true}
$ bob send alice "while blocked"
! Sent to alice.
$ alice recv
! No messages wait.
$ bob history alice
> {TIME} to alice [suite 1]: before
> {TIME} to alice [suite 1]: while blocked
$ alice send bob "and back"
! Sent to bob.
$ bob recv
> {TIME} alice: and back
$ alice -q unblock bob
> bob: neither blocked nor muted
$ bob -q send alice "after"
$ alice recv
> {TIME} bob [1 missing before it]: after
$ alice block alice
! messageu: That is your own name. Name somebody else.
= 7
$ alice block nobody
! messageu: The server knows nobody of that name. {ANY}
= 7

# While the server is not there it is noted, and told later.
$ server stop
$ alice block bob
> bob: blocked
! The server is told at the next sign-in; until then, their messages are dropped here.
$ alice blocked --json
> {"v": 1, "type": "silenced", "name": "bob", "id": "{HEX}", "blocked": true, "muted": false, "server_refuses": false}
$ server start
$ bob -q send alice "before it is told"
$ alice recv
! No messages wait.
$ alice blocked --json
> {"v": 1, "type": "silenced", "name": "bob", "id": "{HEX}", "blocked": true, "muted": false, "server_refuses": true}

# Muted: kept, and passed over by those who announce.
$ alice -q unblock bob
> bob: neither blocked nor muted
$ alice mute bob
> bob: muted
$ alice mute bob
> bob: muted
$ bob -q send alice "quietly"
$ alice recv
> {TIME} bob [1 missing before it]: quietly
$ alice block bob
> bob: blocked and muted
! The server keeps what they send from your mailbox, and does not tell them.
$ alice -q unmute bob
> bob: blocked
$ alice blocked
> bob: blocked
