"""Makes unary gRPC calls over one channel and prints one line for each: what the server answered, or what failed.

Arguments: target count methods...
A count of 0 is no end. The methods take turns.
"""

import itertools
import sys
import time

import grpc

CALL_SECONDS = 10
# Two hundred calls a second at most: enough to see shares, and something is left of the machine for the others.
PACE_SECONDS = 0.005


def main():
    target, count, methods = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    channel = grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)])
    calls = [channel.unary_unary(method) for method in methods]
    for number in range(count) if count else itertools.count():
        try:
            answer = calls[number % len(calls)](b"request", timeout=CALL_SECONDS, wait_for_ready=number < len(calls))
            print(answer.decode(), flush=True)
        except grpc.RpcError as error:
            print(f"failed {error.code().name} {error.details()}", flush=True)
        time.sleep(PACE_SECONDS)


main()
