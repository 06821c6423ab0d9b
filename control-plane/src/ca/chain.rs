//! The way from the certificate that signs up to a root that workloads trust (RFC 5280, section 6.1): each certificate of
//! it is an authority, signed by the next one, and good at this moment.
//!
//! Pure: certificates and the time are arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ca::root::Flaw;

/// Certificates between a leaf and its root, both left out, at most.
const MAX_INTERMEDIATES: usize = 4;

/// The end of an authority is near when less than this is left.
const ALARM_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A way that is good.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    /// The certificate that signs first, the root last; one when the root signs itself.
    path: Vec<CertificateDer<'static>>,
    /// When the first of them ends.
    not_after: SystemTime,
    /// From when on its end is near.
    alarm_from: SystemTime,
}

/// When certificates of a way end.
struct Ends {
    not_after: SystemTime,
    alarm_from: SystemTime,
}

impl Chain {
    /// Finds the way from the first of `given` to one of `authorities`; the others of `given` may stand between.
    ///
    /// Without `authorities`, the certificate of `given` that is signed by itself is the root.
    pub(super) fn find(
        given: &[CertificateDer<'static>],
        authorities: Option<&[CertificateDer<'static>]>,
        now: SystemTime,
    ) -> Result<Self, Flaw> {
        let signer = given.first().ok_or(Flaw::Certificate("is not a PEM certificate"))?;
        let own: Vec<_> = given.iter().filter(|one| is_self_signed(one)).cloned().collect();
        if authorities.is_none() && own.is_empty() {
            return Err(Flaw::Certificate(
                "stands under a root that is not there; put the root behind it, or into the list of authorities (ca.crt)",
            ));
        }
        let roots = authorities.unwrap_or(&own);
        let mut path = vec![signer.clone()];
        while !path.last().is_some_and(|last| roots.contains(last)) {
            let next = path.last().and_then(|last| issuer_of(last, roots, &given[1..], &path));
            match next.filter(|_| path.len() <= MAX_INTERMEDIATES) {
                Some(next) => path.push(next.clone()),
                None if authorities.is_some() => {
                    return Err(Flaw::Authorities(
                        "does not have the certificate that signs, nor a root above it; put its root there, and what stands \
                         between them behind the certificate (tls.crt)",
                    ));
                }
                None => return Err(Flaw::Certificate("is not complete up to its root")),
            }
        }
        let Ends { not_after, alarm_from } = check(&path, now)?;
        Ok(Self { path, not_after, alarm_from })
    }

    /// The certificate that signs.
    pub(super) fn signer(&self) -> &CertificateDer<'static> {
        &self.path[0]
    }

    /// The root above it, which may be the same.
    pub(super) fn root(&self) -> &CertificateDer<'static> {
        &self.path[self.path.len() - 1]
    }

    /// All of it: the certificate that signs first, the root last.
    pub(super) fn path(&self) -> &[CertificateDer<'static>] {
        &self.path
    }

    /// When the first certificate of it ends: nothing that is signed may be good for longer.
    pub(super) fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// From when on the end of one of them is near: a month before, or at two thirds of a shorter life.
    pub(super) fn alarm_from(&self) -> SystemTime {
        self.alarm_from
    }
}

/// When a certificate ends.
pub(super) fn end_of(certificate: &CertificateDer<'_>) -> SystemTime {
    X509Certificate::from_der(certificate).map_or(UNIX_EPOCH, |(_, parsed)| validity(&parsed).1)
}

/// The certificate that signed `certificate`: a root if there is one, so that ways are short.
fn issuer_of<'c>(
    certificate: &CertificateDer<'_>,
    roots: &'c [CertificateDer<'static>],
    between: &'c [CertificateDer<'static>],
    path: &[CertificateDer<'static>],
) -> Option<&'c CertificateDer<'static>> {
    let mut candidates = roots.iter().chain(between).filter(|candidate| !path.contains(candidate));
    candidates.find(|candidate| is_signed_by(certificate, candidate))
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    is_signed_by(certificate, certificate)
}

fn is_signed_by(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    let (Ok((_, certificate)), Ok((_, issuer))) =
        (X509Certificate::from_der(certificate), X509Certificate::from_der(issuer))
    else {
        return false;
    };
    certificate.issuer() == issuer.subject()
        && certificate.verify_signature(Some(issuer.public_key())).is_ok()
}

/// Whether every certificate of a way may sign what stands below it; when the first of them ends.
fn check(path: &[CertificateDer<'_>], now: SystemTime) -> Result<Ends, Flaw> {
    let mut earliest: Option<Ends> = None;
    for (below, certificate) in path.iter().enumerate() {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| Flaw::Certificate("is not X.509"))?;
        may_sign(&parsed, below)?;
        let (from, until) = validity(&parsed);
        match (now < from, now >= until) {
            (true, _) => return Err(Flaw::Certificate("is not valid yet, or one above it is not")),
            (_, true) => return Err(Flaw::Certificate("has expired, or one above it has")),
            _ => {}
        }
        let near = ALARM_BEFORE.min(until.duration_since(from).unwrap_or_default() / 3);
        let alarm_from = until - near;
        earliest = Some(match earliest {
            None => Ends { not_after: until, alarm_from },
            Some(ends) => {
                Ends { not_after: ends.not_after.min(until), alarm_from: ends.alarm_from.min(alarm_from) }
            }
        });
    }
    earliest.ok_or(Flaw::Certificate("is not a PEM certificate"))
}

/// RFC 5280, sections 4.2.1.3 and 4.2.1.9. `below` is the number of authorities between it and a leaf.
fn may_sign(certificate: &X509Certificate<'_>, below: usize) -> Result<(), Flaw> {
    let constraints = certificate.basic_constraints().ok().flatten().map(|extension| extension.value);
    let Some(constraints) = constraints.filter(|constraints| constraints.ca) else {
        return Err(Flaw::Certificate(
            "is not the certificate of an authority (CA:TRUE), or one above it is not",
        ));
    };
    if constraints.path_len_constraint.is_some_and(|most| (most as usize) < below) {
        return Err(Flaw::Certificate("has an authority above it that allows fewer below itself (pathlen)"));
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if !usage.value.key_cert_sign() => {
            Err(Flaw::Certificate("may not sign certificates (keyCertSign), or one above it may not"))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(Flaw::Certificate("has a key usage that cannot be read")),
    }
}

/// From when until when a certificate is good.
fn validity(certificate: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    let at = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let validity = certificate.validity();
    (at(validity.not_before.timestamp()), at(validity.not_after.timestamp()))
}

#[cfg(test)]
mod tests;
