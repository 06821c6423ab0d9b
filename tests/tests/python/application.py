"""An application that is told its name and a marker, and puts both into everything it says.

Over IPv4 and IPv6: HTTP/1.1 on 8080; gRPC (any unary method) on 8081; on 7000 and 7001 a protocol in which the server
speaks first and then sends every byte back.

Arguments: name marker
"""

import socket
import socketserver
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

NAME, MARKER = sys.argv[1:]
SAID = f"{NAME} {MARKER}"


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"{SAID} {self.path}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class HttpServer(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 64


class Greeter(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(f"220 {SAID}\r\n".encode())
        while data := self.request.recv(65536):
            self.request.sendall(data)


class GreeterServer(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True


class AnyMethod(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: SAID.encode() + b" " + request)


def main():
    servers = [HttpServer(("::", 8080), Http), GreeterServer(("::", 7000), Greeter), GreeterServer(("::", 7001), Greeter)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    rpc = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    rpc.add_generic_rpc_handlers([AnyMethod()])
    if rpc.add_insecure_port("[::]:8081") == 0:
        sys.exit("cannot listen on port 8081")
    rpc.start()
    print("serving", flush=True)
    rpc.wait_for_termination()


main()
