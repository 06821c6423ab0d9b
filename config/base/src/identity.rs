//! Who a certificate says its holder is, and from when to when.
//!
//! Reads certificates strictly: exactly one URI name, in the one form of [`SpiffeId`]. Whether the certificate can be
//! trusted is not asked here: that is the handshake's business (`tls`).

use std::time::Duration;

use outrigger_model::identity::{SpiffeId, SpiffeIdError};
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

/// Why a certificate gives no identity that we accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The peer showed no certificate.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// The bytes are not an X.509 certificate.
    #[error("the certificate cannot be read as X.509")]
    NotX509,
    /// There is not exactly one URI among the names.
    #[error("the certificate has {0} URI names; a workload's certificate has exactly one, its SPIFFE id")]
    UriCount(usize),
    /// The URI is not an id of ours.
    #[error("the certificate's URI name is no SPIFFE id: {0}")]
    NotSpiffe(SpiffeIdError),
    /// The id is of another trust domain.
    #[error("{id} is of another trust domain than ours, which is {ours}")]
    OtherTrustDomain {
        /// The id in the certificate.
        id: SpiffeId,
        /// The one trust domain that is accepted.
        ours: String,
    },
    /// The certificate's time is over.
    #[error("the certificate expired on {}", date(*.not_after))]
    Expired {
        /// The last second in which it was valid.
        not_after: UnixTime,
    },
    /// The certificate's time has not begun.
    #[error("the certificate is not valid before {}", date(*.not_before))]
    NotYetValid {
        /// The first second in which it will be valid.
        not_before: UnixTime,
    },
}

/// What a certificate says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its serial number in lower case hexadecimal, as `openssl x509 -serial` shows it but for the case.
    pub serial: String,
    /// The first second in which it is valid.
    pub not_before: UnixTime,
    /// The last second in which it is valid.
    pub not_after: UnixTime,
}

impl CertificateFacts {
    /// Checks that `now` is within the certificate's time.
    pub fn check_time(&self, now: UnixTime) -> Result<(), IdentityError> {
        if now < self.not_before {
            return Err(IdentityError::NotYetValid { not_before: self.not_before });
        }
        if now > self.not_after {
            return Err(IdentityError::Expired { not_after: self.not_after });
        }
        Ok(())
    }
}

/// The identity in a certificate.
pub fn peer_identity(certificate: &CertificateDer<'_>) -> Result<SpiffeId, IdentityError> {
    let parsed = parse(certificate)?;
    let names = parsed.subject_alternative_name().map_err(|_| IdentityError::NotX509)?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.count()) {
        (Some(uri), 0) => uri.parse().map_err(IdentityError::NotSpiffe),
        (first, others) => Err(IdentityError::UriCount(usize::from(first.is_some()) + others)),
    }
}

/// Serial number and time of a certificate.
pub fn certificate_facts(certificate: &CertificateDer<'_>) -> Result<CertificateFacts, IdentityError> {
    let parsed = parse(certificate)?;
    let validity = parsed.validity();
    Ok(CertificateFacts {
        serial: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
        not_before: unix_time(validity.not_before),
        not_after: unix_time(validity.not_after),
    })
}

/// A moment as people read it.
pub fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    let date = seconds.and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    date.map_or_else(|| format!("second {} after 1970", time.as_secs()), |date| date.to_string())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(IdentityError::NotX509),
    }
}

fn unix_time(time: ASN1Time) -> UnixTime {
    // A time before 1970 is as good as 1970: both are past.
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, SerialNumber, date_time_ymd};

    use super::*;

    fn certificate(uris: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["name.example".to_owned()]).unwrap();
        let uri = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
        params.subject_alt_names.extend(uris.iter().map(uri));
        params.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0xbc]));
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 1, 2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn the_identity_is_the_one_uri_name() {
        let id = "spiffe://cluster.local/ns/shop/sa/web";
        assert_eq!(peer_identity(&certificate(&[id])).unwrap().as_str(), id);
        assert_eq!(peer_identity(&certificate(&[])), Err(IdentityError::UriCount(0)));
        assert_eq!(peer_identity(&certificate(&[id, id])), Err(IdentityError::UriCount(2)));
        assert_eq!(peer_identity(&certificate(&[id, "https://a"])), Err(IdentityError::UriCount(2)));
        let other = peer_identity(&certificate(&["https://cluster.local/ns/shop/sa/web"]));
        assert!(matches!(other, Err(IdentityError::NotSpiffe(_))), "{other:?}");
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let mut longer = certificate(&[]).to_vec();
        longer.push(0);
        for bytes in [b"".to_vec(), b"hello".to_vec(), longer] {
            assert_eq!(peer_identity(&bytes.into()), Err(IdentityError::NotX509));
        }
    }

    #[test]
    fn time_and_serial_are_read() {
        let facts = certificate_facts(&certificate(&[])).unwrap();
        let (first, last) = (1_767_225_600, 1_767_312_000);
        assert_eq!((facts.serial.as_str(), facts.not_before, facts.not_after), ("0abc", at(first), at(last)));
        assert_eq!(
            facts.check_time(at(first - 1)),
            Err(IdentityError::NotYetValid { not_before: at(first) })
        );
        assert_eq!((facts.check_time(at(first)), facts.check_time(at(last))), (Ok(()), Ok(())));
        let expired = facts.check_time(at(last + 1)).unwrap_err();
        assert_eq!(expired.to_string(), "the certificate expired on Jan  2 00:00:00 2026 +00:00");
        assert_eq!(date(at(u64::MAX)), format!("second {} after 1970", u64::MAX));
    }
}
