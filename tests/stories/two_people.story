# Nobody yet.
$ alice whoami
! messageu: This home has no identity yet. Register first: `messageu register NAME`, or 110 in the console.
= 8
$ alice register alice
> alice
> id: {HEX}
> public key:
>     {GROUPS}
>     {GROUPS}
> signed in: yes
! This account now signs in to the server: {ANY}
! Registered as alice.
$ alice register alice
! messageu: This home has an identity already, and it is not replaced. Use --home for another user.
= 2
$ alice users
! Nobody else is registered.
$ bob --quiet register bob
> bob
> id: {HEX}
> public key:
>     {GROUPS}
>     {GROUPS}
> signed in: yes
$ alice users
> bob
$ alice users --json
> {"v": 1, "type": "user", "name": "bob", "id": "{HEX}", "verified": false, "suite": 0}
$ bob whoami --json
> {"v": 1, "type": "identity", "name": "bob", "id": "{HEX}", "fingerprint": "{HEX}", "proven": true, "server": "127.0.0.1:{NUMBER}", "transport": "plain", "pins": [], "link": "messageu-user:bob#{ANY}"}
$ alice key bob
> bob
> id: {HEX}
> public key:
>     {GROUPS}
>     {GROUPS}
> verified: no
$ alice key --json bob
> {"v": 1, "type": "key", "name": "bob", "id": "{HEX}", "fingerprint": "{HEX}", "verified": false}

# The first text makes and sends a key by itself.
$ bob recv
! No messages wait.
$ alice send bob "hello bob"
! Sent to bob.
$ alice -q send bob -
< two
< lines
$ bob recv --max 1
> {TIME} alice: hello bob
$ bob recv
> {TIME} alice: two
>     lines
$ bob send --json alice "grüß dich"
> {"v": 1, "type": "sent", "to": "alice", "id": "{HEX}", "kind": "text", "message_id": {NUMBER}, "recipient_verified": false, "suite": 1}
$ alice recv --json --wait 5
> {"v": 1, "type": "message", "direction": "in", "number": {NUMBER}, "name": "bob", {ANY}"text": "grüß dich"}
$ alice recv --wait 0.3
! Nothing arrived within 0.3 s.
= 124
$ alice recv
! No messages wait.

# Files.
$ write note.txt words
$ alice send bob --file {HOME}/note.txt {HOME}/missing.txt
! messageu: There is no file {PATH}; nothing was sent. Check the path.
= 2
$ alice send bob "and files" --file {HOME}/note.txt {HOME}/note.txt --file {HOME}/note.txt
! Sent to bob.
! {PATH} is sent to bob.
! {PATH} is sent to bob.
! {PATH} is sent to bob.
$ bob recv --json
> {"v": 1, "type": "message", {ANY}"kind": "text", {ANY}"text": "and files"}
> {"v": 1, "type": "message", {ANY}"kind": "file", {ANY}"path": "{PATH}"}
> {"v": 1, "type": "message", {ANY}"kind": "file", {ANY}"path": "{PATH}"}
> {"v": 1, "type": "message", {ANY}"kind": "file", {ANY}"path": "{PATH}"}

# Looking back asks no server.
$ server stop
$ alice history
> {TIME} to bob [suite 1]: hello bob
> {TIME} to bob [suite 1]: two
>     lines
> {TIME} bob [suite 1]: grüß dich
> {TIME} to bob [suite 1]: and files
> {TIME} to bob [suite 1]: the file {PATH}
> {TIME} to bob [suite 1]: the file {PATH}
> {TIME} to bob [suite 1]: the file {PATH}
$ alice history bob --search "HELLO bob"
> {TIME} to bob [suite 1]: hello bob
$ alice history --search nothing
! Nothing like that in the history.
$ alice history --json --search hello
> {"v": 1, "type": "message", "direction": "out", {ANY}"state": "stored", {ANY}"text": "hello bob"}
