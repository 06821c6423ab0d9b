//! Sniffing: what a client speaks, from its first bytes.

use divan::{Bencher, black_box};
use outrigger_proxy::sniff;

#[divan::bench]
fn http1(bencher: Bencher<'_, '_>) {
    first_bytes(
        bencher,
        b"GET /items/42?view=full HTTP/1.1\r\nhost: shop.example:9080\r\naccept: */*\r\n\r\n",
    );
}

#[divan::bench]
fn http2(bencher: Bencher<'_, '_>) {
    first_bytes(bencher, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00\x00\x00\x00");
}

#[divan::bench]
fn tls(bencher: Bencher<'_, '_>) {
    first_bytes(bencher, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
}

/// A client that waits for nothing and is none of these: PostgreSQL's start-up message.
#[divan::bench]
fn opaque(bencher: Bencher<'_, '_>) {
    first_bytes(bencher, b"\x00\x00\x00\x25\x00\x03\x00\x00user\x00app\x00database\x00shop\x00\x00");
}

fn first_bytes(bencher: Bencher<'_, '_>, bytes: &[u8]) {
    bencher.bench_local(|| sniff::sniff(black_box(bytes)));
}
