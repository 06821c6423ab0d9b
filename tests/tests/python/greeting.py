"""Talks to a server that speaks first: prints its greeting, sends a line, prints what comes back.

Arguments: host port line
"""

import socket
import sys

host, port, line = sys.argv[1:]
with socket.create_connection((host, int(port)), timeout=10) as connection:
    reader = connection.makefile("rb")
    print(reader.readline().decode().strip())
    connection.sendall(line.encode() + b"\n")
    connection.shutdown(socket.SHUT_WR)
    print(reader.read().decode().strip())
