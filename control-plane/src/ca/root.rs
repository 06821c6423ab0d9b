//! The root of trust: made on first start, kept in the data directory or a Secret, signs everything.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrigger_model::identity::SpiffeId;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ca::chain::{Chain, end_of};
use crate::ca::kept;
use crate::ca::store::{Store, StoreError};
use crate::world::Roots;

/// The organization and common name of roots that are made here, and the whole subject.
const OUR_NAME: &str = "Outrigger";
const OUR_SUBJECT: &str = "O=Outrigger, CN=Outrigger";
const ROOT_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// How long before now certificates are valid, for clocks that are behind.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// The part of a life by which it is backdated at most, so that a short one is not half over when it begins.
const BACKDATE_SHARE: u32 = 10;
/// Certificates that are read of one text at most.
const MAX_CERTIFICATES: usize = 64;
/// Characters of a line of PEM (RFC 7468, section 2).
const PEM_LINE: usize = 64;
/// Bytes of a random serial number (RFC 5280, section 4.1.2.2: at most 20).
const SERIAL_BYTES: usize = 16;

/// The key that signs, with its certificate and what stands above it. The root itself signs unless an intermediate does.
pub struct Root {
    issuer: Issuer<'static, KeyPair>,
    chain: Chain,
    pem: String,
    /// All authorities that workloads trust, the root of the chain among them.
    bundle: String,
    authorities: Vec<CertificateDer<'static>>,
}

/// A root as text.
#[derive(Debug, Clone, Copy)]
pub struct RootPems<'a> {
    /// The private key.
    pub key: &'a str,
    /// The certificate of the key, with the intermediates that stand above it.
    pub certificate: &'a str,
    /// The authorities that workloads trust; the root of the certificate alone when there are none.
    pub authorities: Option<&'a str>,
}

/// A new root as text.
#[derive(Clone, PartialEq, Eq)]
pub struct MadeRoot {
    /// The private key.
    pub key: String,
    /// Its certificate.
    pub certificate: String,
}

/// A certificate of a workload.
#[derive(Debug)]
pub struct Signed {
    /// The certificate.
    pub certificate: Certificate,
    /// Its serial number in lower case hexadecimal.
    pub serial: String,
    /// When it ends.
    pub not_after: SystemTime,
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
        kept::open(store, now)
    }

    /// Builds the root and checks that its parts belong together.
    pub fn from_pems(pems: &RootPems<'_>, now: SystemTime) -> Result<Self, Flaw> {
        let key = KeyPair::from_pem(pems.key).map_err(|_| Flaw::Key("is not a private key in PEM"))?;
        let given = read(pems.certificate).ok_or(Flaw::Certificate("is not a PEM certificate"))?;
        let signer = given.first().ok_or(Flaw::Certificate("is not a PEM certificate"))?;
        belongs(signer, &key)?;
        let authorities = match pems.authorities {
            Some(text) => Some(read(text).ok_or(Flaw::Authorities("is not a list of PEM certificates"))?),
            None => None,
        };
        let chain = Chain::find(&given, authorities.as_deref(), now)?;
        let issuer = Issuer::from_ca_cert_der(chain.signer(), key)
            .map_err(|_| Flaw::Certificate("cannot be used as an authority"))?;
        let pem = pems.certificate.to_owned();
        let authorities = authorities.unwrap_or_else(|| vec![chain.root().clone()]);
        let bundle = match pems.authorities {
            Some(text) => text.to_owned(),
            None if given.len() == 1 => pem.clone(),
            None => to_pem(chain.root()),
        };
        Ok(Self { issuer, chain, pem, bundle, authorities })
    }

    /// The authorities that workloads trust, as PEM: the root, and others while one takes over from another.
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// The same as certificates.
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// The certificate that signs as PEM, and what was given with it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate that signs.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.chain.signer()
    }

    /// The root above it, which may be the same.
    pub fn root_certificate(&self) -> &CertificateDer<'static> {
        self.chain.root()
    }

    /// What follows a leaf in an answer, as PEM: the certificate that signed it first, the root last.
    pub fn path_pems(&self) -> Vec<String> {
        self.chain.path().iter().map(|certificate| to_pem(certificate)).collect()
    }

    /// What a server shows behind its leaf: what stands between it and the root, which its clients have.
    fn intermediates(&self) -> &[CertificateDer<'static>] {
        let path = self.chain.path();
        &path[..path.len() - 1]
    }

    /// When the certificate that signs ends, or one above it.
    pub fn not_after(&self) -> SystemTime {
        self.chain.not_after()
    }

    /// When the certificate that signs ends.
    pub fn signer_ends(&self) -> SystemTime {
        end_of(self.certificate())
    }

    /// When the root ends.
    pub fn root_ends(&self) -> SystemTime {
        end_of(self.root_certificate())
    }

    /// From when on the end of one of them is near.
    pub fn alarm_from(&self) -> SystemTime {
        self.chain.alarm_from()
    }

    /// What proxies are told of the roots.
    pub fn fact(&self) -> Roots {
        let certificates = self.authorities.iter().map(|root| Arc::from(root.as_ref())).collect();
        Roots { certificates, signer: fingerprint(self.root_certificate()) }
    }

    /// Signs the key of a workload.
    pub fn sign_workload(
        &self,
        identity: &SpiffeId,
        key: &impl PublicKeyData,
        validity: Duration,
        now: SystemTime,
    ) -> Result<Signed, SignError> {
        let names = vec![SanType::URI(identity.as_str().try_into()?)];
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(Leaf { names, usages, validity }, key, now)
    }

    /// Signs the key of a server of the control plane, for host names; the certificate, and what stands above it.
    pub fn sign_server(
        &self,
        names: Vec<SanType>,
        key: &impl PublicKeyData,
        validity: Duration,
        now: SystemTime,
    ) -> Result<Vec<CertificateDer<'static>>, SignError> {
        let leaf = Leaf { names, usages: vec![ExtendedKeyUsagePurpose::ServerAuth], validity };
        let signed = self.sign(leaf, key, now)?.certificate;
        Ok([signed.der().clone()].into_iter().chain(self.intermediates().iter().cloned()).collect())
    }

    fn sign(&self, leaf: Leaf, key: &impl PublicKeyData, now: SystemTime) -> Result<Signed, SignError> {
        if self.not_after() <= now {
            return Err(SignError::RootExpired);
        }
        let backdate = BACKDATE.min(leaf.validity / BACKDATE_SHARE);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = leaf.names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = leaf.usages;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        let serial = serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before =
            date_time_ymd(1970, 1, 1) + since_epoch(now.checked_sub(backdate).unwrap_or(UNIX_EPOCH));
        let not_after = (now + leaf.validity).min(self.not_after());
        params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(not_after);
        Ok(Signed { certificate: params.signed_by(key, &self.issuer)?, serial: hex(&serial), not_after })
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

impl fmt::Debug for MadeRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeRoot").field("certificate", &self.certificate).finish_non_exhaustive()
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

/// Whether a certificate is that of a key.
fn belongs(certificate: &CertificateDer<'_>, key: &KeyPair) -> Result<(), Flaw> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| Flaw::Certificate("is not X.509"))?;
    match parsed.public_key().subject_public_key.data.as_ref() == key.der_bytes() {
        true => Ok(()),
        false => Err(Flaw::Certificate("does not belong to the private key")),
    }
}

/// The certificates of a text; `None` when it is not PEM or holds too many.
fn read(text: &str) -> Option<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(text.as_bytes()).take(MAX_CERTIFICATES + 1).collect();
    read.ok().filter(|read| read.len() <= MAX_CERTIFICATES)
}

/// A certificate as PEM (RFC 7468).
pub(super) fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = behind;
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// SHA-256 of a certificate.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
    fingerprint
}

/// SHA-256 of a certificate in lower case hexadecimal.
pub fn fingerprint_text(certificate: &CertificateDer<'_>) -> String {
    hex(&fingerprint(certificate))
}

/// Bytes in lower case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the control plane made the root that signs.
pub(super) fn is_made_here(root: &Root) -> bool {
    let subject = X509Certificate::from_der(root.certificate())
        .map(|(_, certificate)| certificate.subject().to_string());
    root.certificate() == root.root_certificate() && subject.is_ok_and(|subject| subject == OUR_SUBJECT)
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("not_after", &self.not_after()).finish_non_exhaustive()
    }
}

fn root_params(now: SystemTime) -> Result<CertificateParams, SignError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, OUR_NAME);
    params.distinguished_name.push(DnType::CommonName, OUR_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(&serial()?));
    params.not_before =
        date_time_ymd(1970, 1, 1) + since_epoch(now.checked_sub(BACKDATE).unwrap_or(UNIX_EPOCH));
    params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(now + ROOT_LIFE);
    Ok(params)
}

/// A random serial number, positive as RFC 5280, section 4.1.2.2 asks.
fn serial() -> Result<[u8; SERIAL_BYTES], SignError> {
    let mut bytes = [0; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SignError::Random)?;
    bytes[0] = bytes[0] & 0x7f | 0x01;
    Ok(bytes)
}

fn since_epoch(time: SystemTime) -> Duration {
    Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}
