"""One exchange of one workload, told as a line of JSON: client.py tcp|udp ADDRESS PORT"""

import errno
import json
import socket
import sys
import time

transport, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM

with socket.socket(family, kind) as conversation:
    conversation.settimeout(3)
    begin = time.perf_counter()
    try:
        if transport == "tcp":
            conversation.connect((address, port))
            conversation.sendall(b"GET / HTTP/1.0\r\n\r\n")
        else:
            conversation.sendto(b"customer record 4711", (address, port))
        outcome = "reached" if conversation.recv(2048) else "closed"
    except TimeoutError:
        outcome = "silent"
    except OSError as error:
        outcome = errno.errorcode.get(error.errno, str(error))
    millis = (time.perf_counter() - begin) * 1000

print(json.dumps({"outcome": outcome, "millis": millis}))
