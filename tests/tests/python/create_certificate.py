"""Asks a certificate authority for a certificate, by the public definition of its API alone (istio.io/api, ca.proto):

    service IstioCertificateService { rpc CreateCertificate(IstioCertificateRequest) returns (IstioCertificateResponse) }
    message IstioCertificateRequest { string csr = 1; int64 validity_duration = 3; google.protobuf.Struct metadata = 4; }
    message IstioCertificateResponse { repeated string cert_chain = 1; }

The messages are written and read here byte by byte, as the encoding of protobuf says, so that nothing is shared with the server.
Arguments: target token-file csr-file validity-seconds. Prints the chain, or the code and the reason of the refusal.
"""

import sys

import grpc

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
CALL_SECONDS = 20


def varint(number):
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def text_field(number, text):
    return varint(number << 3 | 2) + varint(len(text)) + text


def read_varint(message, at):
    number = shift = 0
    while True:
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def read_texts(message, field):
    texts, at = [], 0
    while at < len(message):
        key, at = read_varint(message, at)
        if key & 7 != 2:
            raise ValueError(f"field {key >> 3} is no text")
        length, at = read_varint(message, at)
        if key >> 3 == field:
            texts.append(message[at : at + length].decode())
        at += length
    return texts


def main():
    target, token, csr, seconds = sys.argv[1], open(sys.argv[2]).read().strip(), open(sys.argv[3], "rb").read(), int(sys.argv[4])
    channel = grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)])
    call = channel.unary_unary(METHOD)
    request = text_field(1, csr) + varint(3 << 3 | 0) + varint(seconds)
    metadata = [("authorization", f"Bearer {token}")]
    try:
        answer = call(request, metadata=metadata, timeout=CALL_SECONDS, wait_for_ready=True)
        print("".join(read_texts(answer, 1)), end="")
    except grpc.RpcError as error:
        print(f"{error.code().name}: {error.details()}")


main()
