//! A certificate request (PKCS #10, RFC 2986), reduced to what we take from it: a public key and names.
//!
//! Parsing checks that the sender holds the private key and that the key is of a kind we sign. Everything else in a
//! request (subject, usages, constraints) is ignored, because the authority decides it.

use rcgen::SubjectPublicKeyInfo;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// The largest request, in bytes of PEM.
const MAX_REQUEST_BYTES: usize = 16 * 1024;
/// Names a request may carry.
const MAX_NAMES: usize = 16;

const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const CURVES: [&str; 2] = ["1.2.840.10045.3.1.7", "1.3.132.0.34"];

/// A request whose signature is good.
#[derive(Debug)]
pub(super) struct KeyRequest {
    public_key: SubjectPublicKeyInfo,
    names: Vec<String>,
}

/// Why a request is not signed, whoever sends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not a request.
    #[error("the certificate request is not valid: {0}")]
    Malformed(&'static str),
    /// The sender does not hold the key.
    #[error("the certificate request is not signed by the key that it carries")]
    Signature,
    /// Not a key that we sign.
    #[error("the key of the certificate request is not ECDSA P-256 or P-384")]
    KeyType,
}

impl KeyRequest {
    /// Reads a request from PEM.
    pub(super) fn parse(pem: &str) -> Result<Self, RequestError> {
        if pem.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::Malformed("it is larger than 16 KiB"));
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| RequestError::Malformed("it is not PEM with a CERTIFICATE REQUEST"))?;
        let request = match X509CertificationRequest::from_der(&der) {
            Ok(([], request)) => request,
            _ => return Err(RequestError::Malformed("it is not PKCS #10")),
        };
        let public_key = public_key(&request)?;
        request.verify_signature().map_err(|_| RequestError::Signature)?;
        Ok(Self { public_key, names: names(&request)? })
    }

    /// The key to sign.
    pub(super) fn public_key(&self) -> &SubjectPublicKeyInfo {
        &self.public_key
    }

    /// Every subject alternative name, as text.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

impl RequestError {
    /// One word for metrics.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Signature => "signature",
            Self::KeyType => "key_type",
        }
    }
}

fn public_key(request: &X509CertificationRequest<'_>) -> Result<SubjectPublicKeyInfo, RequestError> {
    let key = &request.certification_request_info.subject_pki;
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let curve = curve.map(|curve| curve.to_id_string()).unwrap_or_default();
    if key.algorithm.algorithm.to_id_string() != EC_PUBLIC_KEY || !CURVES.contains(&curve.as_str()) {
        return Err(RequestError::KeyType);
    }
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| RequestError::KeyType)
}

fn names(request: &X509CertificationRequest<'_>) -> Result<Vec<String>, RequestError> {
    let mut names = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::ParseError { .. } = extension {
            return Err(RequestError::Malformed("one of its extensions cannot be read"));
        }
        let ParsedExtension::SubjectAlternativeName(found) = extension else { continue };
        names.extend(found.general_names.iter().map(shown));
    }
    if names.len() > MAX_NAMES {
        return Err(RequestError::Malformed("it has more than 16 names"));
    }
    Ok(names)
}

fn shown(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => (*uri).to_owned(),
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) => (*name).to_owned(),
        other => other.to_string(),
    }
}
