//! What a client speaks, from its first bytes. Pure: bytes in, a decision out.

use std::io;

use outrigger_base::tls::MESH_MARK;
use outrigger_model::inbound::{MtlsMode, Protocol};
use rustls::server::Acceptor;

mod hello;

pub use hello::{ServerName, server_name};

/// No more than this many bytes are looked at to tell HTTP from everything else.
pub const SNIFF_BYTES: usize = 1024;

/// A ClientHello is looked at up to this size (RFC 8446, section 5.1: one record).
pub const HELLO_BYTES: usize = 16 * 1024 + 5;

/// The connection preface of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method we take for one.
const MAX_METHOD_BYTES: usize = 32;

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    /// An HTTP/1 request line begins.
    Http1,
    /// The HTTP/2 preface.
    Http2,
    /// A TLS ClientHello begins.
    Tls,
    /// None of these.
    Opaque,
    /// Still possible to be more than one of these.
    NeedMore,
}

/// Says what the first bytes of a client are.
pub fn sniff(bytes: &[u8]) -> Sniffed {
    let bytes = &bytes[..bytes.len().min(SNIFF_BYTES)];
    match bytes {
        [] => Sniffed::NeedMore,
        // Record type handshake, version 3.x (RFC 8446, section 5.1).
        [0x16, 3, ..] => Sniffed::Tls,
        [0x16] => Sniffed::NeedMore,
        _ if bytes.starts_with(PREFACE) => Sniffed::Http2,
        _ if PREFACE.starts_with(bytes) => Sniffed::NeedMore,
        _ => request_line(bytes),
    }
}

/// `method SP request-target`: a token, a space, and the start of any form of target (RFC 9112, section 3).
fn request_line(bytes: &[u8]) -> Sniffed {
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let end = bytes.iter().position(|b| !token(b)).unwrap_or(bytes.len());
    if end == 0 || end > MAX_METHOD_BYTES {
        return Sniffed::Opaque;
    }
    match &bytes[end..] {
        [] | [b' '] => Sniffed::NeedMore,
        [b' ', b'/' | b'*', ..] => Sniffed::Http1,
        [b' ', rest @ ..] if &bytes[..end] == b"CONNECT" => by_letters(rest),
        [b' ', rest @ ..] => absolute_form(rest),
        _ => Sniffed::Opaque,
    }
}

fn absolute_form(rest: &[u8]) -> Sniffed {
    let matches = |scheme: &[u8]| {
        let length = rest.len().min(scheme.len());
        rest[..length].eq_ignore_ascii_case(&scheme[..length]).then_some(rest.len() >= scheme.len())
    };
    match (matches(b"http://"), matches(b"https://")) {
        (Some(true), _) | (_, Some(true)) => Sniffed::Http1,
        (None, None) => Sniffed::Opaque,
        _ => Sniffed::NeedMore,
    }
}

fn by_letters(rest: &[u8]) -> Sniffed {
    let host = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'[');
    if rest.first().is_some_and(host) { Sniffed::Http1 } else { Sniffed::Opaque }
}

/// What happens to a TLS connection that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InboundTls {
    /// It is the mesh's: the handshake is ours.
    Terminate,
    /// It is the application's own: passed through unopened.
    PassThrough,
    /// The ClientHello is not complete yet.
    NeedMore,
}

/// Whose TLS a connection is. Under Strict, and where plain HTTP is declared, TLS can only be the mesh's; elsewhere the
/// ClientHello says so by the mark that sidecars offer in ALPN.
pub fn inbound_tls(mtls: MtlsMode, declared: Protocol, hello: &[u8]) -> InboundTls {
    if mtls == MtlsMode::Strict || matches!(declared, Protocol::Http1 | Protocol::Http2) {
        return InboundTls::Terminate;
    }
    match is_mesh_hello(hello) {
        Ok(Some(true)) => InboundTls::Terminate,
        Ok(None) if hello.len() < HELLO_BYTES => InboundTls::NeedMore,
        _ => InboundTls::PassThrough,
    }
}

/// Whether a ClientHello offers the mark of the mesh; `None` while it is not complete.
fn is_mesh_hello(hello: &[u8]) -> io::Result<Option<bool>> {
    let mut acceptor = Acceptor::default();
    let mut rest = hello;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest)? == 0 {
            break;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                return Ok(Some(hello.alpn().is_some_and(|mut ids| ids.any(|id| id.starts_with(MESH_MARK)))));
            }
            Ok(None) => {}
            Err((error, _)) => return Err(io::Error::other(error)),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
