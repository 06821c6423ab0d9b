//! Certificates that an attacker might show: signed by the root of a mesh with anything in them, or by a root that only
//! looks like it.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The identity of the workload that a forged certificate pretends to be.
pub(crate) const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// What a forged certificate says.
pub(crate) struct Forged {
    pub(crate) uris: Vec<&'static str>,
    /// The first days of these years.
    pub(crate) years: (i32, i32),
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
}

/// A certificate with its key, as files for a program and as bytes.
pub(crate) struct Shown {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) private: PrivateKeyDer<'static>,
}

/// Signs what an attacker wants.
pub(crate) struct Forger {
    issuer: Issuer<'static, KeyPair>,
    directory: PathBuf,
}

impl Forged {
    /// What a workload's own certificate says.
    pub(crate) fn good() -> Self {
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Self { uris: vec![WEB], years: (2020, 2060), usages }
    }
}

impl Forger {
    /// One who has stolen the root key of the mesh whose data directory this is. Writes to `directory`.
    pub(crate) fn with_root(data: &Path, directory: &Path) -> Self {
        let key = KeyPair::from_pem(&fs::read_to_string(data.join("root-key.pem")).unwrap()).unwrap();
        let certificate = fs::read(data.join("root-cert.pem")).unwrap();
        let certificate = CertificateDer::from_pem_slice(&certificate).unwrap();
        Self { issuer: Issuer::from_ca_cert_der(&certificate, key).unwrap(), directory: directory.to_owned() }
    }

    /// One who has only made a root of the same name.
    pub(crate) fn with_copy(directory: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Outrigger");
        params.distinguished_name.push(DnType::CommonName, "Outrigger");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root =
            CertifiedIssuer::self_signed(params, KeyPair::try_from(key.serialize_der()).unwrap()).unwrap();
        let issuer = Issuer::from_ca_cert_der(root.der(), key).unwrap();
        Self { issuer, directory: directory.to_owned() }
    }

    /// Signs a new key for what is wanted, and writes both under this name.
    pub(crate) fn sign(&self, name: &str, forged: &Forged) -> Shown {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            forged.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.not_before = date_time_ymd(forged.years.0, 1, 1);
        params.not_after = date_time_ymd(forged.years.1, 1, 1);
        params.extended_key_usages = forged.usages.clone();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let path = |kind: &str| self.directory.join(format!("{name}-{kind}.pem"));
        fs::write(path("certificate"), signed.pem()).unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
        Shown {
            certificate: path("certificate"),
            key: path("key"),
            chain: vec![signed.der().clone()],
            private: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }
}
