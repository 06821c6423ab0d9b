"""Sends one UDP datagram. Arguments: host text"""

import socket
import sys

host, text = sys.argv[1:]
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(text.encode(), (host, 9))
