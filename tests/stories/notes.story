# Notes to oneself, under cipher suite 1 and the published one.
$ alice --quiet register alice
> ...
$ bob --quiet --published-only register bob
> ...
$ alice send alice "buy milk"
! Sent to alice [verified].
$ alice recv
> {TIME} alice [verified]: buy milk
$ alice recv
! No messages wait.
$ write plan.txt "the plan"
$ alice send --json alice --file {HOME}/plan.txt
> {"v": 1, "type": "sent", "to": "alice", {ANY}
$ alice recv
> {TIME} alice [verified] sent a file: {PATH}
$ alice history
> {TIME} to alice [verified, suite 1]: buy milk
> {TIME} to alice [verified, suite 1]: the file {PATH}
$ bob send bob "buy bread"
! A new symmetric key is made and sent to bob [verified].
! Sent to bob [verified].
$ bob recv
> {TIME} bob [verified, unproven]: buy bread
$ bob history
> {TIME} to bob [verified]: buy bread
$ alice send me "hello"
! messageu: The server knows nobody of that name. {ANY} Your own name is alice.
= 7
