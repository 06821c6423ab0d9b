"""What the image hashicorp/http-echo does: answers every request with one text. -listen=:PORT -text=TEXT"""
import http.server
import signal
import sys
import threading

said = dict(argument.lstrip("-").split("=", 1) for argument in sys.argv[1:])
TEXT = (said["text"] + "\n").encode()


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", str(len(TEXT)))
        self.end_headers()
        self.wfile.write(TEXT)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("", int(said["listen"].rsplit(":", 1)[1])), Echo)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
