$ alice doctor
> ok    server address: 127.0.0.1:{NUMBER}, plain TCP, not encrypted
> ok    file modes: private files are private
> ok    store: store.db can be used
> ok    passphrase: none: whoever can read the home can read all of it
> WRONG identity: This home has no identity yet. Register first: `messageu register NAME`, or 110 in the console.
> ok    server: answers, and speaks the extension: send once, fetch, keys, reasons, accounts, blocking; everybody may register; mail is kept until it is fetched; up to 1 GiB a message, and 1000000 messages and 4 GiB waiting for you
> ok    keys: no key has changed
> ok    suite: the published one alone: the account has not signed in to a server that has the modern one
> ok    outbox: nothing waits
> ok    watch: no message is set aside
> ok    clock: nothing to compare it with yet
= 8
$ alice --quiet register alice
> ...
$ alice doctor --json
> ...
> {"v": 1, "type": "check", "name": "identity", "ok": true, "text": "alice", "advice": ""}
> ...
> {"v": 1, "type": "check", "name": "account", "ok": true, "text": "the server knows it, and 0 others", "advice": ""}
> ...
$ server stop
$ alice doctor
> ...
> WRONG server: There is no server at 127.0.0.1:{NUMBER} ({ANY}). {ANY}
> ...
= 3
