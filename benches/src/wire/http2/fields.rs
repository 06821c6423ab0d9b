//! Blocks of fields (HPACK, RFC 7541), without the dynamic table and without Huffman, and the frames that carry them.

use super::frame::Template;
use super::{flag, kind};

/// Entries of the static table (appendix A).
mod entry {
    pub(super) const AUTHORITY: u8 = 1;
    pub(super) const GET: u8 = 2;
    pub(super) const POST: u8 = 3;
    pub(super) const PATH: u8 = 4;
    pub(super) const SCHEME_HTTP: u8 = 6;
    pub(super) const STATUS_200: u8 = 8;
    pub(super) const ACCEPT: u8 = 19;
    pub(super) const CONTENT_LENGTH: u8 = 28;
    pub(super) const CONTENT_TYPE: u8 = 31;
    pub(super) const DATE: u8 = 33;
    pub(super) const USER_AGENT: u8 = 58;
}

/// A field that is an entry of a table (section 6.1).
const INDEXED: u8 = 0x80;
/// A change of the size of the dynamic table (section 6.3), and the bits that tell.
const TABLE_SIZE: u8 = 0x20;
const TABLE_SIZE_BITS: u8 = 0xe0;
/// The largest index that fits beside the four bits of a literal that is not indexed (section 6.2.2).
const SMALL_INDEX: u8 = 15;
/// Before a gRPC message: not compressed, and its length in four bytes.
const GRPC_PREFIX_BYTES: usize = 5;

/// A request without a body.
pub(crate) fn get(path: &str, authority: &str) -> Template {
    let mut block = vec![INDEXED | entry::GET];
    request_fields(&mut block, path, authority);
    literal(&mut block, entry::ACCEPT, "*/*");
    Template::new(&[(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, &block)])
}

/// A unary call of gRPC with a message of so many bytes, its prefix among them.
pub(crate) fn call(path: &str, authority: &str, bytes: usize) -> Template {
    let mut block = vec![INDEXED | entry::POST];
    request_fields(&mut block, path, authority);
    literal(&mut block, entry::CONTENT_TYPE, "application/grpc");
    named(&mut block, "te", "trailers");
    let message = message(bytes);
    Template::new(&[(kind::HEADERS, flag::END_HEADERS, &block), (kind::DATA, flag::END_STREAM, &message)])
}

/// An answer with a body of so many bytes, which fits into a frame.
pub(crate) fn answer(bytes: usize, date: &str) -> Template {
    let mut block = vec![INDEXED | entry::STATUS_200];
    literal(&mut block, entry::CONTENT_TYPE, "application/octet-stream");
    literal(&mut block, entry::CONTENT_LENGTH, &bytes.to_string());
    literal(&mut block, entry::DATE, date);
    let body = vec![b'x'; bytes];
    Template::new(&[(kind::HEADERS, flag::END_HEADERS, &block), (kind::DATA, flag::END_STREAM, &body)])
}

/// The answer to a unary call of gRPC, with a message of so many bytes, its prefix among them.
pub(crate) fn reply(bytes: usize, date: &str) -> Template {
    let mut block = vec![INDEXED | entry::STATUS_200];
    literal(&mut block, entry::CONTENT_TYPE, "application/grpc");
    literal(&mut block, entry::DATE, date);
    let mut trailers = Vec::new();
    named(&mut trailers, "grpc-status", "0");
    let message = message(bytes);
    Template::new(&[
        (kind::HEADERS, flag::END_HEADERS, &block),
        (kind::DATA, 0, &message),
        (kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, &trailers),
    ])
}

/// Whether the block of an answer begins with status 200: every encoder writes it first, and as the entry of the static
/// table that it is. A change of table size may come before it (section 4.2).
pub(crate) fn is_ok(mut block: &[u8]) -> bool {
    while let [first, rest @ ..] = block
        && first & TABLE_SIZE_BITS == TABLE_SIZE
    {
        // A size of 31 and more goes on as long as the top bit is set (section 5.1).
        let large = first & !TABLE_SIZE_BITS == !TABLE_SIZE_BITS;
        let more = if large { rest.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1 } else { 0 };
        block = rest.get(more..).unwrap_or_default();
    }
    block.first() == Some(&(INDEXED | entry::STATUS_200))
}

fn request_fields(block: &mut Vec<u8>, path: &str, authority: &str) {
    block.push(INDEXED | entry::SCHEME_HTTP);
    literal(block, entry::AUTHORITY, authority);
    literal(block, entry::PATH, path);
    literal(block, entry::USER_AGENT, "outrigger-benches");
}

/// A field whose name is in the static table and whose value is not to be remembered.
fn literal(block: &mut Vec<u8>, name: u8, value: &str) {
    if name < SMALL_INDEX {
        block.push(name);
    } else {
        block.extend([SMALL_INDEX, name - SMALL_INDEX]);
    }
    string(block, value);
}

/// A field whose name is in no table.
fn named(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    string(block, name);
    string(block, value);
}

/// A string as it is. All of ours are shorter than the 127 bytes that would need a longer length.
fn string(block: &mut Vec<u8>, value: &str) {
    debug_assert!(value.len() < 127, "{value:?} is too long");
    block.push(value.len() as u8);
    block.extend_from_slice(value.as_bytes());
}

fn message(bytes: usize) -> Vec<u8> {
    // A message fits into a frame, so its length fits into four bytes.
    let length = bytes.saturating_sub(GRPC_PREFIX_BYTES) as u32;
    let mut message = vec![0];
    message.extend_from_slice(&length.to_be_bytes());
    message.resize(bytes, b'x');
    message
}
