$ alice --quiet register alice
> ...
$ bob --quiet register bob
> ...
$ alice send bbo hello
! messageu: The server knows nobody of that name. Did you mean bob?
= 7
$ alice key --json bbo
! {"v": 1, "type": "error", "code": 7, "error": "no-such-user", "text": "{ANY}", "advice": "Did you mean bob?", "nearest": ["bob"]}
= 7
$ carol send bob hello
! messageu: This home has no identity yet. {ANY}
= 8
$ carol --quiet register alice
! messageu: The name is taken, or looks like one that is. Choose another name.
= 6
$ carol register " "
! messageu: Not registered: a name neither begins nor ends with a space. Choose another name.
= 2
$ alice send bob -
! messageu: There is no text to send: the input was empty.
= 2
$ alice recv --wait soon
! messageu: --wait takes a number of seconds, not 'soon'. `messageu recv --help` shows how it is used.
= 2
$ alice recv --json --wait soon
! {"v": 1, "type": "error", "code": 2, "error": "usage", "text": "--wait takes a number of seconds, not 'soon'. `messageu recv --help` shows how it is used.", "advice": "", "nearest": []}
= 2
$ alice verify alice
! messageu: That is your own name. Name somebody else.
= 7
$ alice history bbo
! Nothing like that in the history. Did you mean bob?
$ alice history nobody
! Nothing like that in the history. `messageu users`, or 120 in the console, lists everybody the server knows.
$ alice --home {HOME}/mistyped whoami
! messageu: There is no home {PATH}. Register first, or use --home.
= 8
$ alice watch --exec "'cat"
! messageu: --exec takes a command, not "'cat" (No closing quotation).
= 2
$ alice nonsense
! messageu: There is no command nonsense. `messageu --help` shows how it is used.
= 2
$ alice --server nonsense users
! messageu: --server takes HOST:PORT, or a link that begins with messageu://, not 'nonsense': the port is missing: HOST:PORT.
= 2

# A key request, answered only where the setting allows.
$ write alice-asks.txt 151
$ alice console
< 151
< bob
> ...
$ bob recv
! No messages wait.
$ write config.toml 'answer_key_requests = "always"'
$ alice console
< 151
< bob
> ...
$ bob recv --json
> {"v": 1, "type": "message", "direction": "in", {ANY}"kind": "key-request", {ANY}}
! {"v": 1, "type": "note", "text": "A new symmetric key is made and sent to alice."}
$ alice recv
> {TIME} bob sent a symmetric key
$ bob config show
> home = {PATH}  (--home)
> server = 127.0.0.1:{NUMBER}  ({PATH})
> transport = plain TCP, not encrypted  (no pin is known)
> save_dir = {PATH}  (--save-dir)
> published_only = (not set)  (as remembered in the home)
> answer_key_requests = always  ({PATH})
> bell = yes  (default)
> title = yes  (default)
> passphrase = (not set)  (asked at a terminal, where the home has one)
> config_file = {PATH}  (found)
$ bob config show --json
> {"v": 1, "type": "setting", "name": "home", "value": "{PATH}", "source": "--home"}
> ...

$ pat --quiet register pat --published-only
> ...
$ pat config show
> ...
> published_only = true  (remembered in {PATH}/pat/store.db)
> ...
$ write pat/store.db "no store at all"
$ pat config show
> ...
> published_only = (not set)  (as remembered in the home)
> ...

# No server: what was to be sent is kept, and sent before anything else.
$ server stop
$ alice send bob "written offline"
! messageu: There is no server at {ANY}
= 3
$ alice history
> {TIME} bob [suite 1] sent a symmetric key
> {TIME} to bob [waiting, suite 1]: written offline
$ alice recv --json
! {"v": 1, "type": "error", "code": 3, "error": "no-server", {ANY}}
= 3
$ server start
$ alice recv
! The text for bob of {TIME} is sent now.
! No messages wait.
$ bob recv
> {TIME} alice: written offline

# A damaged store, and what is lost with it.
$ write bob/store.db damaged
$ bob recv
! messageu: {PATH}/store.db is damaged ({ANY}). Restore an export, or move it away: contacts, keys and history then start empty.
= 1
$ bob doctor
> ...
> WRONG store: {PATH}/store.db is damaged {ANY}
= 1
$ remove bob/store.db
$ alice -q send bob "under a key that bob has lost"
$ bob recv
! messageu: This account has signed in before, and this connection has not. Start again with --no-published-only.
= 6
$ bob --no-published-only recv
> {TIME} alice sent something that can't be decrypted: it is sealed to a key that this home does not have, or not any more
! 1 could not be decrypted. {ANY}
= 9
$ bob -q send alice "a key of mine"
$ alice -q recv
> {TIME} bob sent something that can't be decrypted: it is not from the one whom you know by this name
> {TIME} bob sent something that can't be decrypted: it is not from the one whom you know by this name
= 9

# And without the private key there is nobody.
$ remove bob/my.info
$ bob recv
! messageu: {PATH}/my.info: is not there, and the private key with it. Restore it from a copy, or import an export.
= 2
