"""A workload that does not stop: traffic.py udp:ADDRESS:PORT tcp:ADDRESS:PORT held:ADDRESS:PORT ...

A hundred times a second it sends a datagram to each `udp`, makes a connection to each `tcp`, and speaks over the one
connection to each `held` that it opened at its start. It prints a line of JSON when an outcome changes, and one with
its counts ten times a second. It ends when its standard input does.
"""

import errno
import json
import select
import socket
import sys
import time

PAUSE = 0.01
# An echo of a held connection that is older than this no longer counts.
STALE = 0.3


def opened(address, kind):
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    made.settimeout(2)
    return made


class Udp:
    def __init__(self, address, port):
        self.to, self.socket = (address, port), opened(address, socket.SOCK_DGRAM)

    def attempt(self):
        self.socket.sendto(b"customer record 4711", self.to)
        return "sent"


class Tcp:
    def __init__(self, address, port):
        self.to = (address, port)

    def attempt(self):
        with opened(self.to[0], socket.SOCK_STREAM) as made:
            made.connect(self.to)
            made.sendall(b"customer record 4711")
            return "connected"


class Held:
    def __init__(self, address, port):
        self.socket = opened(address, socket.SOCK_STREAM)
        self.socket.connect((address, port))
        self.socket.setblocking(False)
        self.answered = time.monotonic()

    def attempt(self):
        try:
            self.socket.send(b"customer record 4711")
            if self.socket.recv(65536):
                self.answered = time.monotonic()
        except BlockingIOError:
            pass
        return "answered" if time.monotonic() - self.answered < STALE else "no answer"


KINDS = {"udp": Udp, "tcp": Tcp, "held": Held}
GOOD = {"sent", "connected", "answered"}


def say(**what):
    print(json.dumps(what), flush=True)


targets = []
for text in sys.argv[1:]:
    kind, _, rest = text.partition(":")
    address, _, port = rest.rpartition(":")
    targets.append((text, KINDS[kind](address, int(port))))

last, good, bad, rounds = {}, 0, 0, 0
while not select.select([sys.stdin], [], [], PAUSE)[0]:
    for text, target in targets:
        try:
            outcome = target.attempt()
        except OSError as error:
            outcome = errno.errorcode.get(error.errno, str(error))
        if outcome in GOOD:
            good += 1
        else:
            bad += 1
        if last.get(text) != outcome:
            last[text] = outcome
            say(target=text, outcome=outcome, millis=round(time.time() * 1000))
    rounds += 1
    if rounds % 10 == 0:
        say(good=good, bad=bad)
