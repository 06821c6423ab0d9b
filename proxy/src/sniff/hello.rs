//! The name that a TLS client asks for (server_name, RFC 6066, section 3), from its ClientHello (RFC 8446, section 4.1.2).
//!
//! Looks at what strangers send and opens nothing: bytes in, a decision out. More tolerant than a TLS server would be,
//! because whoever is meant will judge the rest; never reads beyond [`super::HELLO_BYTES`].

use super::HELLO_BYTES;

/// The longest name, in bytes (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 253;

const RECORD_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const NAME_TYPE_HOST: u8 = 0;

/// What a ClientHello says of the name that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerName {
    /// This one, in lower case without a trailing dot.
    Name(String),
    /// None, or nothing that is a host name.
    Nothing,
    /// It is not complete yet.
    NeedMore,
}

/// What is read too early, and what is read wrongly.
enum Stop {
    Short,
    Wrong,
}

/// The name that the first bytes of a TLS client ask for. What is not a ClientHello asks for nothing.
pub fn server_name(bytes: &[u8]) -> ServerName {
    let bytes = &bytes[..bytes.len().min(HELLO_BYTES)];
    let full = bytes.len() == HELLO_BYTES;
    let found = handshake(bytes).and_then(|message| in_hello(&message));
    match found {
        Ok(name) => name,
        Err(Stop::Short) if !full => ServerName::NeedMore,
        Err(_) => ServerName::Nothing,
    }
}

/// The ClientHello without its header, put together from as many records as it takes.
fn handshake(mut bytes: &[u8]) -> Result<Vec<u8>, Stop> {
    let mut message = Vec::new();
    loop {
        let [kind, major, _minor, high, low, rest @ ..] = bytes else { return short_or_wrong(bytes) };
        if *kind != RECORD_HANDSHAKE || *major != 3 {
            return Err(Stop::Wrong);
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let fragment = &rest[..rest.len().min(length)];
        if length == 0 {
            return Err(Stop::Wrong);
        }
        message.extend_from_slice(fragment);
        if let [kind, a, b, c, body @ ..] = message.as_slice() {
            if *kind != CLIENT_HELLO {
                return Err(Stop::Wrong);
            }
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if length > HELLO_BYTES {
                return Err(Stop::Wrong);
            }
            if body.len() >= length {
                return Ok(body[..length].to_vec());
            }
        }
        bytes = rest.get(length..).ok_or(Stop::Short)?;
    }
}

/// Too few bytes for the header of a record: more may come, unless what is there is wrong already.
fn short_or_wrong<T>(bytes: &[u8]) -> Result<T, Stop> {
    match bytes {
        [] | [RECORD_HANDSHAKE] | [RECORD_HANDSHAKE, 3, ..] => Err(Stop::Short),
        _ => Err(Stop::Wrong),
    }
}

/// Inside of a complete message nothing more can come: what is short is wrong.
fn in_hello(body: &[u8]) -> Result<ServerName, Stop> {
    let extensions = extensions(body).ok_or(Stop::Wrong)?;
    let mut rest = extensions;
    while !rest.is_empty() {
        let (kind, after) = take_u16(rest).ok_or(Stop::Wrong)?;
        let (content, after) = take_u16_counted(after).ok_or(Stop::Wrong)?;
        if kind == EXTENSION_SERVER_NAME {
            return Ok(host_name(content).map_or(ServerName::Nothing, ServerName::Name));
        }
        rest = after;
    }
    Ok(ServerName::Nothing)
}

/// Version, random, session id, cipher suites, compression methods, then extensions, which may be absent.
fn extensions(body: &[u8]) -> Option<&[u8]> {
    let after_random = body.get(2 + 32..)?;
    let (_, rest) = take_u8_counted(after_random)?;
    let (_, rest) = take_u16_counted(rest)?;
    let (_, rest) = take_u8_counted(rest)?;
    match rest.is_empty() {
        true => Some(rest),
        false => take_u16_counted(rest).map(|(extensions, _)| extensions),
    }
}

/// The first host name of the list, if it is one: an address is none (RFC 6066), and neither is what no DNS name can be.
fn host_name(extension: &[u8]) -> Option<String> {
    let (list, _) = take_u16_counted(extension)?;
    let (kind, rest) = list.split_first()?;
    let (name, _) = take_u16_counted(rest)?;
    let name = name.strip_suffix(b".").unwrap_or(name);
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let host = *kind == NAME_TYPE_HOST && (1..=MAX_NAME_BYTES).contains(&name.len());
    let text = std::str::from_utf8(name).ok().filter(|_| host && name.iter().all(allowed))?;
    text.parse::<std::net::IpAddr>().is_err().then(|| text.to_ascii_lowercase())
}

fn take_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*number), rest))
}

fn take_u16_counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = take_u16(bytes)?;
    rest.split_at_checked(usize::from(length))
}

fn take_u8_counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::super::tests::hello_for;
    use super::*;

    fn record(payload: &[u8]) -> Vec<u8> {
        let mut record = vec![RECORD_HANDSHAKE, 3, 1];
        record.extend((payload.len() as u16).to_be_bytes());
        record.extend(payload);
        record
    }

    fn name(text: &str) -> ServerName {
        ServerName::Name(text.to_owned())
    }

    /// A ClientHello with these extensions and nothing else of interest.
    fn bare(extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut all = Vec::new();
        for (kind, content) in extensions {
            all.extend(kind.to_be_bytes());
            all.extend((content.len() as u16).to_be_bytes());
            all.extend(*content);
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend((all.len() as u16).to_be_bytes());
        body.extend(all);
        let mut message = vec![CLIENT_HELLO, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        message
    }

    fn sni(kind: u8, host: &[u8]) -> Vec<u8> {
        let mut entry = vec![kind];
        entry.extend((host.len() as u16).to_be_bytes());
        entry.extend(host);
        let mut list = (entry.len() as u16).to_be_bytes().to_vec();
        list.extend(entry);
        list
    }

    #[test]
    fn the_name_of_a_real_client_is_found_however_it_is_cut() {
        let hello = hello_for("Api.Payments.Example", &[b"h2"]);
        assert_eq!(server_name(&hello), name("api.payments.example"));
        for end in 0..hello.len() {
            assert_eq!(server_name(&hello[..end]), ServerName::NeedMore, "{end} bytes");
        }
        // As many records as there are bytes is the worst that a client may do (RFC 8446, section 5.1).
        for size in [1, 7, 100] {
            let pieces: Vec<u8> = hello[5..].chunks(size).flat_map(record).collect();
            assert_eq!(server_name(&pieces), name("api.payments.example"), "pieces of {size}");
        }
        assert_eq!(server_name(&hello_for("10.0.0.1", &[])), ServerName::Nothing);
    }

    #[test]
    fn only_host_names_are_names() {
        let ask = |extensions: &[(u16, &[u8])]| server_name(&record(&bare(extensions)));
        for (host, expected) in [
            (&b"a.example"[..], name("a.example")),
            (b"A_b-1.Example.", name("a_b-1.example")),
            (b"", ServerName::Nothing),
            (b".", ServerName::Nothing),
            (b"a b", ServerName::Nothing),
            (b"a/../b", ServerName::Nothing),
            (b"\xff\xfe", ServerName::Nothing),
            (b"*.example", ServerName::Nothing),
            (b"10.0.0.1", ServerName::Nothing),
            (&[b'a'; 254], ServerName::Nothing),
        ] {
            let found = ask(&[(43, b"x"), (0, &sni(0, host))]);
            assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(host));
        }
        assert_eq!(ask(&[(0, &sni(1, b"a.example"))]), ServerName::Nothing);
        assert_eq!(ask(&[(43, b"x")]), ServerName::Nothing);
        assert_eq!(ask(&[]), ServerName::Nothing);
        assert_eq!(ask(&[(0, b"\0")]), ServerName::Nothing);
    }

    #[test]
    fn what_is_no_hello_asks_for_nothing() {
        for bytes in [
            &b"GET / HTTP/1.1"[..],
            b"\x16\x03\x01\x00\x00",
            b"\x16\x05",
            b"\x17\x03\x03\x00\x10",
            b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
            b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        ] {
            assert_eq!(server_name(bytes), ServerName::Nothing, "{bytes:?}");
        }
        let endless = record(&[&[CLIENT_HELLO, 0, 0x40, 0][..], &[0; 0x3fff]].concat());
        assert_eq!(server_name(&endless[..HELLO_BYTES - 1]), ServerName::NeedMore);
        assert_eq!(server_name(&[endless, vec![22; 64]].concat()[..HELLO_BYTES]), ServerName::Nothing);
    }

    /// Whatever is wrong with a hello, reading it ends with an answer, and the end of a message is never waited for twice.
    #[test]
    fn a_damaged_hello_is_survived() {
        let mut rng = fastrand::Rng::with_seed(11);
        let seeds = [hello_for("a.example", &[]), record(&bare(&[(0, &sni(0, b"b.example"))]))];
        for _ in 0..20_000 {
            let mut bytes = rng.choice(&seeds).unwrap().clone();
            for _ in 0..rng.usize(1..6) {
                let place = rng.usize(..bytes.len());
                match rng.u8(..4) {
                    0 => bytes[place] = rng.u8(..),
                    1 => bytes.truncate(place.max(1)),
                    2 => bytes.insert(place, rng.u8(..)),
                    _ => drop(bytes.splice(place..place, [0xff, 0xff])),
                }
            }
            if let ServerName::Name(name) = server_name(&bytes) {
                assert!(
                    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name == name.to_ascii_lowercase()
                );
            }
        }
        for _ in 0..2_000 {
            let bytes: Vec<u8> = [22, 3, 1].into_iter().chain((0..HELLO_BYTES).map(|_| rng.u8(..))).collect();
            assert_ne!(server_name(&bytes), ServerName::NeedMore, "the bound is a decision");
        }
    }
}
