"""The words of the letters, in English.

Rule of this room: words only. One thing to do at a time, nothing that alarms without saying what to do about it.
A paragraph that begins with `$` is a command, with `-` a point; a paragraph that lacks one of its facts is left out.
"""

from collections.abc import Mapping
from typing import Final

_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def write_date(weekday: int, day: int, month: int, year: int) -> str:
    return f"{_DAYS[weekday]} {day} {_MONTHS[month - 1]} {year}"


SUBJECT: Final = "Reminder"
SOMEBODY: Final = "the person who named you as a colleague"

COLLEAGUE: Final = "one of the colleagues"
# How a colleague who holds a release knows that she was reached.
BECAUSE: Final[Mapping[str, str]] = {
    "reached": "spoken with",
    "hospital": "in a hospital",
    "known-safe": "known to be safe",
}

CHANGES: Final[Mapping[str, str]] = {
    "roster": "a change of who can open what was entrusted",
    "plan": "longer times between the warnings",
    "destroy": "the destruction of what was entrusted",
    "pause": "a long pause, in which no check-in is expected",
    "address": "the removal of an address that letters go to",
}

# What the operator is told of; the letter around it says what to run.
TROUBLES: Final[Mapping[str, str]] = {
    "door-shut": "nobody has got through its public door for ten minutes, so time stands still and no warning goes "
    "out. Look at the line, the proxy, the certificate and the name.",
    "door-shut-long": "nobody has got through its public door for a whole day. Everybody with a running switch, and "
    "their colleagues, are now told that time stands still and that they should reach each other in other "
    "ways.",
    "door-open": "it can be reached through its public door again, and time goes on. Whoever was told of the outage "
    "is told that it is over. Please find out why it happened.",
    "clock-jumped": "its clock jumped by more than five minutes. No switch counts on that clock, but every date that "
    "people are shown does. Look at what keeps it right.",
}

NEVER: Final = """
Type your passphrase and your 24 words only into your own computer. Nobody will ever ask you for them by mail,
by phone or in person; whoever does is not from us. This letter has no link to open, and an answer to it is read
by nobody.
"""

GENUINE: Final = """
A genuine letter ends with the phrase that you chose yourself:

$ {phrase}
"""

NO_PHRASE: Final = """
You have not chosen a recognition phrase, so a forged letter would look just like this one. Believe what your
own computer shows you, not what a letter says: run `afterword status`.
"""

TO_OPERATOR: Final = """
Letters to an operator carry no phrase: believe what `afterword operator status` shows on the server, not what a
letter says.
"""

LETTERS: Final[Mapping[str, str]] = {
    "code": """
Somebody, most likely you, asked for letters to be sent to this address. If it was you, run this on your
computer:

$ afterword address confirm {code}

If it was not you, do nothing. No letters will come here unless the code is entered.
""",
    "check-in": """
It is time to check in.

On your computer, run:

$ afterword checkin

It asks for your passphrase and takes a few seconds. Only this counts as a sign of life. Reading this letter or
answering it does not.

If you do not check in before {due}, your colleagues are asked to try to reach you.

If nothing at all is heard from you, they will be able to open what you left for them, not before {release}.
These dates hold if the server keeps running. If it stops, they move later, never earlier.

Is your computer lost or broken? On another one, your 24 words bring everything back: `afterword join
--from-words`.
""",
    "last-warning": """
You have not checked in, and your colleagues are being asked to try to reach you.

If you are well, run this on your computer now:

$ afterword checkin

That ends the alarm, and everybody who was told of it hears that it is over. Then call them yourself: a voice
they know calms more than a letter.

If you do not check in before {due}, the last stage begins.

If nothing at all is heard from you, your colleagues will be able to open what you left for them, not before
{release}. These dates hold if the server keeps running. If it stops, they move later, never earlier.

Is your computer lost or broken? On another one, your 24 words bring everything back: `afterword join
--from-words`.
""",
    "last-call": """
This is the last letter before the release.

Run this on your computer now:

$ afterword checkin

If nothing is heard from you before {release}, your colleagues will be able to open what you left for them.
After that nobody can take it back: not you, not they, not whoever runs the server. This date holds if the
server keeps running. If it stops, it moves later, never earlier.

Can you not get to a computer? Call one of your colleagues. They cannot stop the release, but they can hold it for
a few days, they will know that you are alive, and they decide what is published.

Is your computer lost or broken? On another one, your 24 words bring everything back: `afterword join
--from-words`.
""",
    "reach-her": """
{who} has given no sign of life at the time it was expected. There is often a harmless reason. Please try to
reach {who} now:

- Call, or go there, or ask somebody who is near. Use a number that you already have, never one from a letter.

- Do not write about it by e-mail or chat: others may be reading there.

- If you reach {who}, ask for one thing: a check-in, on their own computer (`afterword checkin`). Nothing else
ends the alarm, and an answer to this letter does not. Listen for signs that somebody is not speaking freely.

- If {who} is safe and cannot get to a computer now, `afterword hold` stops the clock for a few days.

- If you do not, run `afterword inbox`. The page left for you says whom to call next, and which lawyer.

- Publish nothing, and do not speak of it to people who need not know.

If the silence lasts, you will be able to open what was entrusted to you, not before {release}. Until then there
is nothing to open. This date holds if the server keeps running; if it stops, it moves later, never earlier.
""",
    "reach-her-again": """
There is still no sign of life from {who}. Please try again, in other ways than before:

- Call, go there, ask family, neighbours, the newsroom, the lawyer. Use numbers that you already have, never one
from a letter.

- Do not write about it by e-mail or chat: others may be reading there.

- If you reach {who}, ask for one thing: a check-in, on their own computer (`afterword checkin`). Nothing else
ends the alarm, and an answer to this letter does not. Listen for signs that somebody is not speaking freely.

- If {who} is safe and cannot get to a computer now, `afterword hold` stops the clock for a few days.

- Run `afterword inbox`, and read the page that was left for you. Make sure that your computer
and your passphrase work, and that you know how to call the other colleagues.

- Publish nothing yet.

Unless a sign of life comes, you will be able to open what was entrusted to you, not before {release}. Until
then there is nothing to open. This date holds if the server keeps running; if it stops, it moves later, never
earlier.
""",
    "unreached": """
A letter to {who} could not be delivered: none of the addresses it was sent to accepts it. It may be nothing
more than a full mailbox or a broken mail server. Still, {who} may not know that a check-in is due.

- Please call. Use a number that you already have, never one from a letter.

- Say: "Run `afterword checkin`, and look after your addresses with `afterword status`."

- Do not write about it by e-mail or chat, and do not alarm others yet. If the silence lasts, you will hear from
us again.

To see how things stand, run `afterword inbox`.
""",
    "release": """
Something that was entrusted to you can now be opened. This cannot be taken back, and there is no need to hurry:
nothing is deleted.

- Go to a place where you feel safe, and use your own computer. Run:

$ afterword inbox

- It checks that this is true, shows the last sign of life, and tells you what to do next.

- Read the page that was left for you before anything else: it says whom to call, and what must not be published
while a life may depend on it.

- Several of you are needed. Call the other colleagues, on numbers that you already have, and ask them to run
`afterword inbox` too.

- Do not forward this letter, and do not write about it by e-mail or chat. Publish nothing before you have
spoken to each other.

Is your computer lost or broken? On another one, your 24 words bring everything back: `afterword join
--from-words`.

This letter comes again, ever more seldom, until `afterword recover` has brought everything to your computer. If you
want no more of them, `afterword leave` ends it.
""",
    "released-her": """
No sign of life came from you in all the time that you had set, and your colleagues can now open what you left
for them. Nobody can take this back.

If you are safe, call them now. What they publish, and when, is for you to decide together. To see who has
opened it, run:

$ afterword status

What you deposit from now on needs a new dossier: this one accepts nothing more.
""",
    "all-clear": """
The alarm about {who} is over: a sign of life has arrived, signed with the right key.

There is nothing you need to do. If you were about to call, a friendly call is still a good idea: ask whether
everything is really well. To see how things stand, run `afterword inbox`.

Please tell the others whom you asked for help, by phone.
""",
    "change-asked": """
A change was asked for in something that was entrusted to you: {change}.

It does not happen at once, so that everybody can see it coming.

It takes effect not before {effect}, if the server keeps running.

- Call the person who entrusted it to you, on a number that you already have, and ask: was it you, and was it
your own wish? Do not ask by e-mail or chat.

- If it was not, they can stop it with `afterword cancel`. You cannot stop it, but you can tell them, and each
other.

To see what was asked, run `afterword inbox`.
""",
    "change-cancelled": """
A change that you were told about will not happen: {change}. It was cancelled, or a release came first, of which
you hear in a letter of its own.

There is nothing you need to do. To see how things stand, run `afterword inbox`.
""",
    "change-done": """
A change that you were told about has taken effect: {change}.

To see what it means for you, run `afterword inbox`. If the roster changed, `afterword drill`
shows that your new share is good; please run it today.
""",
    "pause-ended": """
Your pause is over, and check-ins are expected again.

The next one is due before {due}.

On your computer, run:

$ afterword checkin

If nothing at all is heard from you, your colleagues will be able to open what you left for them, not before
{release}. These dates hold if the server keeps running. If it stops, they move later, never earlier.
""",
    "operator-unreached": """
No address of one account has accepted a letter in all the time that a warning waits for it. The account's
colleagues have been told. Its warnings now run on without the letter, so please look today.

The account: {account}

- Is the mail server well? Run `afterword operator status`, and `afterword doctor`, which sends a real letter.

- If only this account is concerned, its addresses refuse us. There is nothing you can read or need to know
besides.
""",
    "operator-trouble": """
The server needs you: {trouble}

Run `afterword operator status` on it, then `afterword doctor`. Nothing is released because of a fault: what
cannot be read stands still, and people wait, so please look today.

The server: {host}
""",
    "outage": """
The server that sends these letters has not been reachable through its public door for a day. Whoever looks after
it knows.

- Nothing is lost, and nothing is released meanwhile: time in which nobody can check in does not count. No check-in
is missed.

- Until it is back no warning goes out either. So do not rely on it to tell you whether somebody is well: reach each
other in other ways, on numbers that you already have.

- Do not write about it by e-mail or chat.

You need do nothing on your computer. You will hear from us when it is over.
""",
    "outage-over": """
The server that you were told could not be reached can be reached again, and time goes on from where it stood.

Nothing was released because of it. Alarms that were running have begun their present stage anew, so some dates are
later than you were told before.

To see how things stand, run `afterword status`. Who is expected to check in, please do so now:

$ afterword checkin
""",
    "held": """
Signed by {colleague}: there is news of {who}, so everything stands still for a while.

The reason given: {because}.

Until {until} no time passes towards a release, if the server keeps running; afterwards it goes on from where it was.

Nothing is opened before {release}.

- This is the word of colleagues, and no check-in. Call {colleague}, on a number that you already have, and ask how they
know.

- If you have any doubt, keep trying to reach {who} yourself, and ask for one thing: a check-in, on their own
computer (`afterword checkin`). Nothing else ends the alarm.

- Do not write about it by e-mail or chat. Publish nothing.

To see who held it, and when, run `afterword inbox`.
""",
    "hold-asked": """
Signed by {colleague}: there is news of {who}, and everything should stand still for a while.

The reason given: {because}.

It was held twice already, so nothing stands still until a second colleague signs as well. Until then time goes on.

Nothing is opened before {release}, if the server keeps running.

- Call {colleague}, on a number that you already have, and ask how they know. Then try to reach {who} yourself.

- Only if you are sure, sign too, with the name of the dossier:

$ afterword hold NAME

- If you have any doubt, do nothing, and speak with the other colleagues. Only a check-in by {who} ends the alarm.

- Do not write about it by e-mail or chat. Publish nothing.

To see how things stand, run `afterword inbox`.
""",
    "left": """
{colleague} no longer takes part in something that you entrusted to your colleagues. It took effect at once: no
letter about it goes there any more, and the share in that person's hands stays valid until you change the roster.

- Call {colleague}, on a number that you already have, and ask: was it you, and was it your own wish? Do not ask by
e-mail or chat.

- With one colleague fewer it is harder to have enough of them on the day. To see who is left, run:

$ afterword status

- To name somebody else, or the same person again, use `afterword roster`.
""",
    "operator-crowd": """
Many dossiers fell silent at the same time: {many} within one hour, more than a tenth of all that are armed here.
Unless they are one person's, that is more likely our trouble, or a region's, than theirs.

- Can they reach this server? Try its public address from outside, and run `afterword doctor`.

- Do letters arrive? Run `afterword operator status`.

- Is a network, a mail provider or a country cut off? Then say so where these people can hear it.

Their warnings go out as always. Should they stay silent, each release waits once more, by twelve hours at most.
That is all this server does by itself, so please look now.

The server: {host}
""",
    "operator-crowd-waits": """
A dossier that fell silent together with many others has come to the end of the last stage. The release waits once
more, by twelve hours at most, and so does each of the others that are silent still: {many} in all. After that it
happens.

- If the cause was ours, or a whole region is cut off, this is the time to get word to these people: only their
own check-in stops a release. Nobody who runs a server can.

- To see how things stand, run `afterword operator status`, and `afterword doctor`.

The server: {host}
""",
    "address-failing": """
Letters to one of your addresses have not been accepted for a day. This letter comes to another of them.

It may be a full mailbox, or a provider that refuses us. To see which address it is, run:

$ afterword address list

- If you can repair it, do. You hear from us when a letter has been accepted there again.

- If you cannot, run `afterword address add` for another one, and only then `afterword address remove` for the one
that fails. Until then there is one way fewer to reach you.
""",
    "address-well": """
Letters are accepted again by the address of yours that had refused them. There is nothing you need to do.
""",
    "operator-no-address": """
Something was released, and one of those who are to hear of it has no address: no letter can tell them. Their own
computer does, as soon as they run `afterword inbox`.

The account: {account}

- `afterword operator accounts` shows what it calls itself. If you know who it is, call them, and say only: run
`afterword inbox`.

- A letter goes out by itself as soon as an address of theirs is confirmed. Until then `afterword operator status`
names the account.
""",
    "test": """
This is a test, and it has worked: letters to this address arrive. There is nothing you need to do.
""",
}

# What is said differently when the recipient is the journalist herself.
HERS: Final[Mapping[str, str]] = {
    "held": """
Signed by {colleague}: there is news of you, so everything stands still for a while.

The reason given: {because}.

Until {until} no time passes towards a release, if the server keeps running; afterwards it goes on from where it was.

This is not a check-in, and it does not end the alarm. If you are well, run this on your computer now:

$ afterword checkin

If nothing at all is heard from you, your colleagues will be able to open what you left for them, not before
{release}.

If you know nothing of this, check in all the same, and call a colleague who has not signed it: somebody may be
playing for time.
""",
    "hold-asked": """
Signed by {colleague}: there is news of you, and everything should stand still for a while.

The reason given: {because}.

It was held twice already, so nothing stands still until a second colleague signs as well. Until then time goes on.

If you are well, run this on your computer now:

$ afterword checkin

If nothing at all is heard from you, your colleagues will be able to open what you left for them, not before
{release}, if the server keeps running.
""",
    "all-clear": """
A sign of life from you has arrived. The alarm is over, and your colleagues are told so.

If it was you, there is nothing you need to do. If it was not, somebody has your computer and your passphrase:
call your colleagues now.
""",
    "change-asked": """
A change was asked for in your name: {change}.

It does not happen at once, so that everybody can see it coming. Your colleagues are told as well.

It takes effect not before {effect}, if the server keeps running.

If it was you, there is nothing you need to do. If it was not, or you no longer want it, run this with the name
of your dossier:

$ afterword cancel NAME

If it was not you, somebody has your computer and your passphrase: call your colleagues now.
""",
    "change-cancelled": """
A change asked for in your name will not happen: {change}. It was cancelled, or a release came first, of which
you hear in a letter of its own.

To see how things stand, run `afterword status`.
""",
    "change-done": """
A change asked for in your name has taken effect: {change}.

To see how things stand, run `afterword status`. If the roster changed, run `afterword checkin` once, and ask
the colleagues to run `afterword drill`.
""",
}

# What is said differently to the operator, who learns no label.
OPERATORS: Final[Mapping[str, str]] = {
    "all-clear": """
A sign of life has come from the account whose addresses accepted no letter. There is nothing you
need to do.

The account: {account}

Its addresses may still refuse us; `afterword operator status` shows it.
""",
}
