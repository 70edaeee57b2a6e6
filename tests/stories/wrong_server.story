$ alice --quiet register alice
> ...
$ bob --quiet register bob
> ...
$ alice --quiet send bob hello

# Nobody there, and an address that is none.
$ carol register carol --server 127.0.0.1:1
! messageu: There is no server at 127.0.0.1:1 (Connection refused). Check that the server runs and that server.info has its address.
= 3
$ alice users --server 127.0.0.1:1 --json
! {"v": 1, "type": "error", "code": 3, "error": "no-server", "text": "There is no server at 127.0.0.1:1 (Connection refused).", "advice": "{ANY}", "nearest": []}
= 3
$ alice users --server 127.0.0.1:99999
! messageu: --server takes HOST:PORT, or a link that begins with messageu://, not '127.0.0.1:99999': a port is a number from 1 to 65535, not '99999'.
= 2
$ alice users --server no.such.host.invalid:1
! messageu: There is no server at no.such.host.invalid:1 ({ANY}). {ANY}
= 3

# Something else listens there: what is ours is neither sent nor lost.
$ stranger "HTTP/1.1 400 Bad Request"
$ carol register carol --server {STRANGER}
! The server at {ANY} speaks only the published protocol: {ANY}
! {ANY}/carol/server.info named 127.0.0.1:{NUMBER}; it names 127.0.0.1:{NUMBER} now.
! messageu: {ANY}
= 6
$ alice send bob secret --server {STRANGER}
! messageu: The server at 127.0.0.1:{NUMBER} does not speak the extension any more; nothing was sent to it. Check server.info. {ANY}
= 4
$ alice recv --server {STRANGER}
! messageu: The server at {ANY}; nothing was sent to it. {ANY}
= 4
$ alice doctor --server {STRANGER}
> ...
> WRONG server: The server at {ANY}
> ...
= 4
$ stranger ""
$ alice send bob secret --server {STRANGER}
! messageu: The server at 127.0.0.1:{NUMBER} does not greet us. {ANY}
= 3
$ alice history
> {TIME} to bob [suite 1]: hello
> {TIME} to bob [waiting, suite 1]: secret
$ alice send bob again
! The text for bob of {TIME} is sent now.
! Sent to bob.
$ bob recv
> {TIME} alice: hello
> {TIME} alice: secret
> {TIME} alice: again
