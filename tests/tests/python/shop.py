"""A shop that greets on port 8080 and counts its greetings at /metrics.

When it is told to end, it takes no more connections, finishes every request that it has begun, and goes.
"""

import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

# So that there is always something that has begun.
WORK_SECONDS = 0.2
METRICS = b"# TYPE shop_greetings_total counter\nshop_greetings_total 1\n"


class Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One segment for head and body.
    wbufsize = -1

    def do_GET(self):
        body = METRICS if self.path == "/metrics" else b"welcome\n"
        time.sleep(WORK_SECONDS)
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 64
    open = set()

    def server_bind(self):
        # That of an HTTP server asks for the name of the host, which takes seconds where nobody answers.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address

    def get_request(self):
        connection, address = super().get_request()
        self.open.add(connection)
        return connection, address

    def shutdown_request(self, connection):
        self.open.discard(connection)
        super().shutdown_request(connection)

    def end(self):
        self.shutdown()
        # Who has been let in by the kernel is served as well.
        self.socket.setblocking(False)
        try:
            while True:
                self.process_request(*self.get_request())
        except BlockingIOError:
            pass
        self.socket.close()
        # What has arrived is answered, then the connection reads its end.
        for connection in list(self.open):
            try:
                connection.shutdown(socket.SHUT_RD)
            except OSError:
                pass


server = Server(("", 8080), Shop)
ending = threading.Thread(target=server.end)
signal.signal(signal.SIGTERM, lambda *_: ending.start())
server.serve_forever(poll_interval=0.05)
ending.join()
# Waits for the requests that have begun.
server.server_close()
