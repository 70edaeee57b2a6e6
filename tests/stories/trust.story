$ alice --quiet register alice
> ...
$ bob --quiet register bob
> ...
$ mallory --quiet register mallory
> ...
$ alice --quiet send bob "before it was compared"

# Both sides see the same digits.
$ alice verify bob
> bob
> id: {HEX}
> safety number 2:
>     {DIGITS}
>     {DIGITS}
>     {DIGITS}
> known since: {TIME}
> verified: no
$ alice verify bob --qr
> bob
> ...
> verified: no
> 
> ...
$ alice verify bob --safety-number 12345
! messageu: That is not the safety number with bob; nothing was changed. {ANY}
= 4
$ alice verify bob --accept-new
> bob
> ...
> verified: no
! There is nothing to accept: the key of bob has not changed.

# Compared: what was agreed on before under a key of ours stays.
$ number bob alice
$ alice verify bob --safety-number {NUMBER_OF_BOB}
> bob [verified]
> ...
> verified: {TIME}
! bob is verified. `verified` says who wrote a message: nobody else, the server included, can write or alter one.
$ alice users
> bob [verified] (suite 1)
> mallory
$ alice key bob --json
> {"v": 1, "type": "key", "name": "bob", "id": "{HEX}", "fingerprint": "{HEX}", "verified": true}
$ alice send bob hello
! Sent to bob [verified].
$ bob recv
> {TIME} alice: before it was compared
> {TIME} alice: hello
$ bob --quiet send alice "under alice's key"
$ alice recv
> {TIME} bob [verified]: under alice's key

# The mark stands in every sentence with his name.
$ alice verify bob --accept-new
> bob [verified]
> ...
! There is nothing to accept: the key of bob [verified] has not changed.
! bob is verified. {ANY}
$ alice key bob
> bob [verified]
> ...
$ server stop
$ alice send bob later
! messageu: There is no server {ANY}
= 3
$ alice history
> ...
> {TIME} to bob [verified, waiting, suite 1]: later
$ server start
$ alice recv
! The text for bob [verified] of {TIME} is sent now.
! No messages wait.
$ alice history bbo
! Nothing like that in the history. Did you mean bob [verified]?
$ bob recv
> {TIME} alice: later

# The server names another key.
$ server swap bob mallory
$ alice key bob
! messageu: The key of bob [was verified] has changed; nothing was sent. Either bob registered again, or the server is lying. Verified since {TIME}, changed since {TIME}. Old safety number: {DIGITS}; new one: {DIGITS}. Compare the new number with bob by voice; then `messageu verify bob --accept-new` accepts it.
= 4
$ alice send bob secret
! messageu: The key of bob [was verified] has changed; {ANY}
= 4
$ alice send --json bob secret
! {"v": 1, "type": "error", "code": 4, "error": "key-changed", {ANY}"new_safety_number": "{NUMBER}", "since": {NUMBER}, "changed_at": {NUMBER}}
= 4
$ alice doctor
> ...
> WRONG keys: The key of bob [was verified] has changed. Compare it: `messageu verify bob`.
> ...
= 1
$ alice verify bob
> bob [was verified]
> ...
> verified: {TIME}
> changed since: {TIME}
> new safety number:
>     {DIGITS}
>     {DIGITS}
>     {DIGITS}
! messageu: The key of bob [was verified] has changed; {ANY}
= 4
$ alice verify bob --accept-new --safety-number 12345
! messageu: That is not the safety number with bob; nothing was changed. {ANY}
= 4
$ alice verify --json bob --accept-new
> {"v": 1, "type": "verification", "name": "bob", "id": "{HEX}", "state": "verified", "safety_number": "{HEX}", "since": {NUMBER}, "verified_at": {NUMBER}, "new_safety_number": null, "changed_at": null, "suite": 1}
! {"v": 1, "type": "note", "text": "The new key of bob is accepted. It is not verified yet."}
! {"v": 1, "type": "note", "text": "bob is verified. `verified` says who wrote a message: nobody else, the server included, can write or alter one."}
$ alice send bob "after it was accepted"
! Sent to bob [verified].
