"""Customers of one shop: each has a connection of its own and asks again and again, until the file appears.

Arguments: host, file. Prints each failure, and at the end how many requests there were.
"""

import http.client
import os
import sys
import threading
import time

HOST, FILE = sys.argv[1:]
CUSTOMERS = 8
PAUSE_SECONDS = 0.05
TIMEOUT_SECONDS = 20


def ask(connection):
    connection.request("GET", "/")
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status} {answer.getheader('x-outrigger-reason')} {body}")


def customer(counts, number):
    connection = http.client.HTTPConnection(HOST, timeout=TIMEOUT_SECONDS)
    while not os.path.exists(FILE):
        try:
            ask(connection)
        except Exception as error:
            print(f"failed at {time.time():.3f}: {error!r}", flush=True)
            connection.close()
        counts[number] += 1
        if counts[number] % 10 == 0:
            print(f"customer {number} has asked {counts[number]} times", flush=True)
        time.sleep(PAUSE_SECONDS)


counts = [0] * CUSTOMERS
customers = [threading.Thread(target=customer, args=(counts, number)) for number in range(CUSTOMERS)]
for thread in customers:
    thread.start()
for thread in customers:
    thread.join()
print(f"asked {sum(counts)} times", flush=True)
