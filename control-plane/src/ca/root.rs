//! The root of trust: made on first start, kept in the data directory or a Secret, signs everything.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
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
use crate::world::Roots;

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
    /// All authorities that workloads trust, the one that signs among them.
    bundle: String,
    authorities: Vec<CertificateDer<'static>>,
    not_after: SystemTime,
}

/// A root as text.
#[derive(Debug, Clone, Copy)]
pub struct RootPems<'a> {
    /// The private key.
    pub key: &'a str,
    /// The certificate of the key.
    pub certificate: &'a str,
    /// The authorities that workloads trust; the certificate alone when there are none.
    pub authorities: Option<&'a str>,
}

/// A new root as text.
pub struct MadeRoot {
    /// The private key.
    pub key: String,
    /// Its certificate.
    pub certificate: String,
}

/// What is wrong with a root, and with which part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The private key.
    Key(&'static str),
    /// The certificate.
    Certificate(&'static str),
    /// The authorities that workloads trust.
    Authorities(&'static str),
}

/// A certificate could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The root is at its end.
    #[error(
        "the root certificate has expired; delete it (root-key.pem and root-cert.pem, or the Secret outrigger-ca) to have a new one made"
    )]
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
                let pems = RootPems { key: &key, certificate: &certificate, authorities: None };
                Self::from_pems(&pems, now).map_err(|flaw| match flaw {
                    Flaw::Key(why) => store.error(KEY_FILE, why, both),
                    Flaw::Certificate(why) | Flaw::Authorities(why) => {
                        store.error(CERTIFICATE_FILE, why, both)
                    }
                })
            }
            (None, None) => Self::create(store, now),
            (Some(_), None) => Err(missing(CERTIFICATE_FILE, KEY_FILE)),
            (None, Some(_)) => Err(missing(KEY_FILE, CERTIFICATE_FILE)),
        }
    }

    fn create(store: &Store, now: SystemTime) -> Result<Self, StoreError> {
        let failed = |why: &dyn fmt::Display| {
            store.error(KEY_FILE, format_args!("no root can be made: {why}"), "try again")
        };
        let made = MadeRoot::new(now).map_err(|error| failed(&error))?;
        let root = Self::from_pems(&made.pems(), now).map_err(|flaw| failed(&flaw.why()))?;
        store.write_key(KEY_FILE, &made.key)?;
        store.write_certificate(CERTIFICATE_FILE, &root.pem)?;
        tracing::info!(file = %store.path(CERTIFICATE_FILE).display(), "made a new root certificate");
        Ok(root)
    }

    /// Builds the root and checks that its parts belong together.
    pub fn from_pems(pems: &RootPems<'_>, now: SystemTime) -> Result<Self, Flaw> {
        let key = KeyPair::from_pem(pems.key).map_err(|_| Flaw::Key("is not a private key in PEM"))?;
        let certificate = CertificateDer::from_pem_slice(pems.certificate.as_bytes())
            .map_err(|_| Flaw::Certificate("is not a PEM certificate"))?;
        let not_after = check(&certificate, &key)?;
        if not_after <= now {
            return Err(Flaw::Certificate("has expired"));
        }
        let authorities = match pems.authorities {
            Some(text) => read_authorities(text, &certificate)?,
            None => vec![certificate.clone()],
        };
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|_| Flaw::Certificate("cannot be used as an authority"))?;
        let pem = pems.certificate.to_owned();
        let bundle = pems.authorities.unwrap_or(pems.certificate).to_owned();
        Ok(Self { issuer, certificate, pem, bundle, authorities, not_after })
    }

    /// The authorities that workloads trust, as PEM: the root, and others while one takes over from another.
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// The same as certificates.
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What proxies are told of the roots.
    pub fn fact(&self) -> Roots {
        let certificates = self.authorities.iter().map(|root| Arc::from(root.as_ref())).collect();
        Roots { certificates, signer: fingerprint(&self.certificate) }
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

impl MadeRoot {
    /// Makes a key and its certificate.
    pub fn new(now: SystemTime) -> Result<Self, SignError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = root_params(now)?.self_signed(&key)?;
        Ok(Self { key: key.serialize_pem(), certificate: certificate.pem() })
    }

    /// Its parts.
    pub fn pems(&self) -> RootPems<'_> {
        RootPems { key: &self.key, certificate: &self.certificate, authorities: None }
    }
}

impl Flaw {
    /// What is wrong, to be read after the name of the part.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Key(why) | Self::Certificate(why) | Self::Authorities(why) => why,
        }
    }
}

/// Whether a certificate is an authority of a key, and until when.
fn check(certificate: &CertificateDer<'_>, key: &KeyPair) -> Result<SystemTime, Flaw> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| Flaw::Certificate("is not X.509"))?;
    if parsed.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
        return Err(Flaw::Certificate("does not belong to the private key"));
    }
    if !parsed.is_ca() {
        return Err(Flaw::Certificate("is not the certificate of an authority (CA:TRUE)"));
    }
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    Ok(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The authorities of a bundle, which must have the one that signs.
fn read_authorities(
    text: &str,
    signer: &CertificateDer<'static>,
) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let read = read.map_err(|_| Flaw::Authorities("is not a list of PEM certificates"))?;
    match read.contains(signer) {
        true => Ok(read),
        false => Err(Flaw::Authorities(
            "does not have the certificate that signs; an authority under another one cannot sign",
        )),
    }
}

/// SHA-256 of a certificate.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
    fingerprint
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
