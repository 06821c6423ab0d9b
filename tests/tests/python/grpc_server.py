"""A gRPC server without generated code: every unary call is answered with the name of the server and of the method.

Arguments: address name
"""

import sys
from concurrent import futures

import grpc


class AnyMethod(grpc.GenericRpcHandler):
    def __init__(self, name):
        self.name = name

    def service(self, details):
        answer = f"{self.name} {details.method}".encode()
        return grpc.unary_unary_rpc_method_handler(lambda request, context: answer)


def main():
    address, name = sys.argv[1:]
    # SO_REUSEPORT is on by default, and would hide that somebody else has the port.
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([AnyMethod(name)])
    if server.add_insecure_port(address) == 0:
        sys.exit(f"cannot listen at {address}")
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


main()
