# Names beyond ASCII, as they are typed, listed, and seen by published clients.
$ zoe register Zoë
> Zoë
> id: {HEX}
> public key:
>     {GROUPS}
>     {GROUPS}
> signed in: yes
! This account now signs in to the server: {ANY}
! Registered as Zoë.
$ bob -q --published-only register bob
> bob
> id: {HEX}
> public key:
>     {GROUPS}
>     {GROUPS}
> signed in: no
$ bob users
> xn--Zo-ija
$ bob send xn--Zo-ija "hello"
! A new symmetric key is made and sent to xn--Zo-ija.
! Sent to xn--Zo-ija.
$ zoe recv
> {TIME} bob [unproven] sent a symmetric key
> {TIME} bob [unproven]: hello
$ zoe send bob "hello too"
! Sent to bob.
$ bob recv
> {TIME} xn--Zo-ija [unproven]: hello too

# Ours lists the name itself; it may be typed with the accent as a letter of its own.
$ carol -q register carol
> carol
> id: {HEX}
> public key:
>     {GROUPS}
>     {GROUPS}
> signed in: yes
$ carol users
> "Zoë"
> bob
$ carol -q send Zoë "from carol"
$ zoe recv
> {TIME} carol: from carol

$ carol history Zoë
> {TIME} to "Zoë" [suite 1]: from carol

# Nobody gets a name that looks like another one's, nor one in two scripts.
$ dora register zoë
! messageu: The name is taken, or looks like one that is. Choose another name.
= 6
$ dora register CAR0L
! messageu: The name is taken, or looks like one that is. Choose another name.
= 6
$ dora register Дорa
! messageu: Not registered: a name has letters of one script. Choose another name.
= 2
$ dora --published-only register Дора
! messageu: {ANY}
= 2
