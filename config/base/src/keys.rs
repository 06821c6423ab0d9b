//! The key of a workload: made here, used here, never written out.
//!
//! A key is ECDSA P-256 (contracts, section 3). It leaves this module as a certificate request, which holds only its
//! public half, or as the private key that a TLS configuration takes. Nothing here prints or stores it.

use std::fmt;

use outrigger_model::identity::SpiffeId;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The longest chain we take, in certificates: leaf, intermediates and root.
pub const MAX_CHAIN_CERTIFICATES: usize = 10;

/// A private key that was made in this process.
pub struct WorkloadKey {
    pair: KeyPair,
}

/// Why a key or a chain cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key could not be made.
    #[error("cannot make an ECDSA P-256 key")]
    Generate(#[source] rcgen::Error),
    /// The certificate request could not be made.
    #[error("cannot make a certificate request for {id}")]
    Request {
        /// For whom it was to be.
        id: SpiffeId,
        /// What went wrong.
        #[source]
        source: rcgen::Error,
    },
    /// A certificate in the text is not PEM.
    #[error("certificate {place} of the chain is not valid PEM")]
    Pem {
        /// Which one, counted from 1.
        place: usize,
        /// What went wrong.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate among bytes is not DER.
    #[error("what should be certificate {place} is not DER")]
    Der {
        /// Which one, counted from 1.
        place: usize,
    },
    /// There is no certificate in the text.
    #[error("there is no certificate (-----BEGIN CERTIFICATE-----) in the text")]
    NoCertificate,
    /// There are more certificates than we take.
    #[error("the chain has more than {MAX_CHAIN_CERTIFICATES} certificates")]
    TooLong,
    /// There are no bytes.
    #[error("there is no certificate in it")]
    NothingThere,
    /// There are more certificates than are asked for.
    #[error("there are more than {most} certificates in it")]
    TooMany {
        /// How many are taken.
        most: usize,
    },
}

impl WorkloadKey {
    /// Makes a new key.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(KeyError::Generate)?;
        Ok(Self { pair })
    }

    /// A certificate request for `id`, as PEM. The authority takes the identity from the caller's token; the one in
    /// the request is there for authorities that want to see it.
    pub fn csr_pem(&self, id: &SpiffeId) -> Result<String, KeyError> {
        let failed = |source| KeyError::Request { id: id.clone(), source };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let uri = id.as_str().try_into().map_err(failed)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.serialize_request(&self.pair).and_then(|request| request.pem()).map_err(failed)
    }

    /// The private key in the form that TLS configurations take.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pair.serialize_der()).into()
    }
}

impl fmt::Debug for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkloadKey(ECDSA P-256)")
    }
}

/// Reads one to [`MAX_CHAIN_CERTIFICATES`] PEM certificates. Their contents are not looked at.
pub fn parse_chain_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, KeyError> {
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        if chain.len() == MAX_CHAIN_CERTIFICATES {
            return Err(KeyError::TooLong);
        }
        let place = chain.len() + 1;
        chain.push(certificate.map_err(|source| KeyError::Pem { place, source })?);
    }
    if chain.is_empty() { Err(KeyError::NoCertificate) } else { Ok(chain) }
}

/// Reads one to `most` certificates in DER that follow each other, as the SPIFFE Workload API has them.
///
/// # Errors
/// Which one is no certificate, or that there is none or too many.
pub fn parse_concatenated_der(bytes: &[u8], most: usize) -> Result<Vec<CertificateDer<'static>>, KeyError> {
    let mut certificates = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        if certificates.len() == most {
            return Err(KeyError::TooMany { most });
        }
        let place = certificates.len() + 1;
        let (after, _) = X509Certificate::from_der(rest).map_err(|_| KeyError::Der { place })?;
        let (certificate, after) = rest.split_at(rest.len() - after.len());
        certificates.push(certificate.to_vec().into());
        rest = after;
    }
    if certificates.is_empty() { Err(KeyError::NothingThere) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateSigningRequestParams, PublicKeyData};

    use super::*;

    fn id() -> SpiffeId {
        SpiffeId::new("cluster.local", "shop", "web").unwrap()
    }

    #[test]
    fn a_request_carries_the_id_and_the_public_key() {
        let key = WorkloadKey::generate().unwrap();
        // Reading a request checks its signature.
        let request = CertificateSigningRequestParams::from_pem(&key.csr_pem(&id()).unwrap()).unwrap();
        let uri = SanType::URI(id().as_str().try_into().unwrap());
        assert_eq!(request.params.subject_alt_names, vec![uri]);
        assert_eq!(request.public_key.der_bytes(), key.pair.public_key_raw());
    }

    #[test]
    fn every_key_is_another_one_and_none_is_printed() {
        let (one, two) = (WorkloadKey::generate().unwrap(), WorkloadKey::generate().unwrap());
        assert_ne!(one.pair.public_key_raw(), two.pair.public_key_raw());
        assert_eq!(format!("{one:?}"), "WorkloadKey(ECDSA P-256)");
    }

    #[test]
    fn a_chain_is_read_in_order() {
        let pair = WorkloadKey::generate().unwrap().pair;
        let certificate = CertificateParams::default().self_signed(&pair).unwrap();
        let other = CertificateParams::new(["b".to_owned()]).unwrap().self_signed(&pair).unwrap();
        let chain = parse_chain_pem(format!("{}{}", certificate.pem(), other.pem()).as_bytes()).unwrap();
        assert_eq!(chain, [certificate.der().clone(), other.der().clone()]);
        let long = certificate.pem().repeat(MAX_CHAIN_CERTIFICATES + 1);
        assert!(matches!(parse_chain_pem(long.as_bytes()), Err(KeyError::TooLong)));
    }

    #[test]
    fn a_text_without_a_good_certificate_is_refused() {
        assert!(matches!(parse_chain_pem(b"hello"), Err(KeyError::NoCertificate)));
        let broken = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        assert!(matches!(parse_chain_pem(broken), Err(KeyError::Pem { place: 1, .. })));
    }

    #[test]
    fn certificates_that_follow_each_other_are_taken_apart() {
        let pair = WorkloadKey::generate().unwrap().pair;
        let one = CertificateParams::new(["a".to_owned()]).unwrap().self_signed(&pair).unwrap().der().clone();
        let other =
            CertificateParams::new(["b".to_owned()]).unwrap().self_signed(&pair).unwrap().der().clone();
        let both = [one.as_ref(), other.as_ref()].concat();
        assert_eq!(parse_concatenated_der(&both, 2).unwrap(), [one.clone(), other]);
        assert!(matches!(parse_concatenated_der(&both, 1), Err(KeyError::TooMany { most: 1 })));
        assert!(matches!(parse_concatenated_der(b"", 1), Err(KeyError::NothingThere)));
        for bad in [[one.as_ref(), b"x"].concat(), both[..both.len() - 1].to_vec()] {
            assert!(matches!(parse_concatenated_der(&bad, 9), Err(KeyError::Der { place: 2 })));
        }
    }
}
