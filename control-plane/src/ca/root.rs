//! The root of trust: made on first start, kept in the data directory, signs everything.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outrigger_model::identity::SpiffeId;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ca::store::{Store, StoreError};

const KEY_FILE: &str = "root-key.pem";
const CERTIFICATE_FILE: &str = "root-cert.pem";
const ROOT_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// How long before now certificates are valid, for clocks that are behind.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// Bytes of a random serial number (RFC 5280, section 4.1.2.2: at most 20).
const SERIAL_BYTES: usize = 16;

/// The root key and certificate.
pub struct Root {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    not_after: SystemTime,
}

/// A certificate could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The root is at its end.
    #[error("the root certificate has expired; delete root-key.pem and root-cert.pem to have a new one made")]
    RootExpired,
    /// The library refused.
    #[error("the certificate cannot be signed: {0}")]
    Library(#[from] rcgen::Error),
    /// There is no randomness.
    #[error("no random serial number can be made")]
    Random,
}

/// What a certificate is for and for how long.
struct Leaf {
    names: Vec<SanType>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    validity: Duration,
}

impl Root {
    /// Reads the root from the data directory, makes it when neither of its files is there.
    pub fn open(store: &Store, now: SystemTime) -> Result<Self, StoreError> {
        let both = "restore both files from a backup, or delete both to have a new root made (no workload trusts it \
                    until it gets a new certificate)";
        let missing =
            |name: &str, other: &str| store.error(name, format_args!("is missing, {other} is there"), both);
        match (store.read_key(KEY_FILE)?, store.read_certificate(CERTIFICATE_FILE)?) {
            (Some(key), Some(certificate)) => {
                Self::from_pem(&key, certificate, now).map_err(|why| store.error(CERTIFICATE_FILE, why, both))
            }
            (None, None) => Self::create(store, now),
            (Some(_), None) => Err(missing(CERTIFICATE_FILE, KEY_FILE)),
            (None, Some(_)) => Err(missing(KEY_FILE, CERTIFICATE_FILE)),
        }
    }

    fn create(store: &Store, now: SystemTime) -> Result<Self, StoreError> {
        let failed =
            |why: String| store.error(KEY_FILE, format_args!("no root can be made: {why}"), "try again");
        let key =
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| failed(error.to_string()))?;
        let certificate = root_params(now)
            .and_then(|params| Ok(params.self_signed(&key)?))
            .map_err(|error| failed(error.to_string()))?;
        let root = Self::from_pem(&key.serialize_pem(), certificate.pem(), now)
            .map_err(|why| failed(why.to_owned()))?;
        store.write_key(KEY_FILE, &key.serialize_pem())?;
        store.write_certificate(CERTIFICATE_FILE, &root.pem)?;
        tracing::info!(file = %store.path(CERTIFICATE_FILE).display(), "made a new root certificate");
        Ok(root)
    }

    /// Builds the root and checks that its parts belong together.
    fn from_pem(key: &str, pem: String, now: SystemTime) -> Result<Self, &'static str> {
        let key =
            KeyPair::from_pem(key).map_err(|_| "stands beside a root-key.pem that is not a private key")?;
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| "is not a PEM certificate")?;
        let not_after = {
            let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| "is not X.509")?;
            if parsed.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
                return Err("does not belong to root-key.pem");
            }
            if !parsed.is_ca() {
                return Err("is not the certificate of an authority (CA:TRUE)");
            }
            let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
            UNIX_EPOCH + Duration::from_secs(seconds)
        };
        if not_after <= now {
            return Err("has expired");
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|_| "cannot be used as an authority")?;
        Ok(Self { issuer, certificate, pem, not_after })
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Signs the key of a workload.
    pub fn sign_workload(
        &self,
        identity: &SpiffeId,
        key: &impl PublicKeyData,
        validity: Duration,
        now: SystemTime,
    ) -> Result<Certificate, SignError> {
        let names = vec![SanType::URI(identity.as_str().try_into()?)];
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(Leaf { names, usages, validity }, key, now)
    }

    /// Signs the key of a server of the control plane, for host names.
    pub fn sign_server(
        &self,
        names: Vec<SanType>,
        key: &impl PublicKeyData,
        validity: Duration,
        now: SystemTime,
    ) -> Result<Certificate, SignError> {
        self.sign(Leaf { names, usages: vec![ExtendedKeyUsagePurpose::ServerAuth], validity }, key, now)
    }

    fn sign(&self, leaf: Leaf, key: &impl PublicKeyData, now: SystemTime) -> Result<Certificate, SignError> {
        if self.not_after <= now {
            return Err(SignError::RootExpired);
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = leaf.names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = leaf.usages;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        params.not_before =
            date_time_ymd(1970, 1, 1) + since_epoch(now.checked_sub(BACKDATE).unwrap_or(UNIX_EPOCH));
        params.not_after = date_time_ymd(1970, 1, 1) + since_epoch((now + leaf.validity).min(self.not_after));
        Ok(params.signed_by(key, &self.issuer)?)
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

fn root_params(now: SystemTime) -> Result<CertificateParams, SignError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Outrigger");
    params.distinguished_name.push(DnType::CommonName, "Outrigger");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial()?);
    params.not_before =
        date_time_ymd(1970, 1, 1) + since_epoch(now.checked_sub(BACKDATE).unwrap_or(UNIX_EPOCH));
    params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(now + ROOT_LIFE);
    Ok(params)
}

/// A random serial number, positive as RFC 5280, section 4.1.2.2 asks.
fn serial() -> Result<SerialNumber, SignError> {
    let mut bytes = [0; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SignError::Random)?;
    bytes[0] = bytes[0] & 0x7f | 0x01;
    Ok(SerialNumber::from_slice(&bytes))
}

fn since_epoch(time: SystemTime) -> Duration {
    Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}
