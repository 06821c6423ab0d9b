//! Where a request carries its token (RFC 6750, section 2.1).

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::{MAX_TOKEN_BYTES, Refused};

const SCHEME: &[u8] = b"bearer";

/// The token of a request.
///
/// # Errors
/// There is none, or it cannot be told which one is meant: the application might choose another than we do.
pub fn bearer(headers: &HeaderMap) -> Result<&[u8], Refused> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (field, more) = (fields.next().ok_or(Refused::Missing)?.as_bytes(), fields.next());
    if more.is_some() {
        return Err(Refused::Malformed);
    }
    let (scheme, token) = field.split_at_checked(SCHEME.len()).ok_or(Refused::Missing)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) || token.first().is_none_or(|byte| *byte != b' ') {
        return Err(Refused::Missing);
    }
    let token = token.trim_ascii();
    match token.len() <= MAX_TOKEN_BYTES {
        true => Ok(token),
        false => Err(Refused::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn one_field_has_one_token() {
        let long = format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES + 1));
        for (fields, expected) in [
            (&["Bearer a.b.c"][..], Ok("a.b.c")),
            (&["bEARER   a.b.c"], Ok("a.b.c")),
            (&["Bearer "], Ok("")),
            (&[], Err(Refused::Missing)),
            (&[""], Err(Refused::Missing)),
            (&["Bearer"], Err(Refused::Missing)),
            (&["Bearera.b.c"], Err(Refused::Missing)),
            (&["Basic YTpi"], Err(Refused::Missing)),
            (&["a.b.c"], Err(Refused::Missing)),
            (&["Bearer a.b.c", "Bearer a.b.c"], Err(Refused::Malformed)),
            (&["Bearer a.b.c", "Basic YTpi"], Err(Refused::Malformed)),
            (&[&long], Err(Refused::Malformed)),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(AUTHORIZATION, HeaderValue::from_str(field).unwrap());
            }
            assert_eq!(bearer(&headers), expected.map(str::as_bytes), "{fields:?}");
        }
    }
}
