//! Certificates for the mutual TLS of a pair of peers: one CA, one P-256 certificate for each side.
//!
//! They cost in a handshake what those of the mesh cost: the same kind of key, one CA, a name that is verified.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

/// The name in the certificate of both sides, which both verify.
pub(super) const PEER_NAME: &str = "peer.bench";

/// The files of one side.
#[derive(Debug, Clone)]
pub(super) struct Certificates {
    /// Whom to trust.
    pub(super) ca: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    /// Certificate and key in one file, as HAProxy wants them.
    pub(super) both: PathBuf,
}

/// Makes a CA and the certificates of the near and the far side in `dir`.
pub(super) fn make(dir: &Path) -> Result<[Certificates; 2]> {
    let key = new_key()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "CA of a measurement");
    let root = params.self_signed(&key).context("no CA can be made")?;
    let ca = write(dir, "ca.pem", &root.pem())?;
    let issuer = Issuer::new(params, key);
    Ok([leaf(dir, "near", (&ca, &issuer))?, leaf(dir, "far", (&ca, &issuer))?])
}

fn leaf(dir: &Path, side: &str, (ca, issuer): (&Path, &Issuer<'_, KeyPair>)) -> Result<Certificates> {
    let key = new_key()?;
    let mut params = CertificateParams::new([PEER_NAME.to_owned()]).context("the name is no name")?;
    params.distinguished_name.push(DnType::CommonName, side);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer).context("no certificate can be signed")?.pem();
    let key = key.serialize_pem();
    Ok(Certificates {
        ca: ca.to_owned(),
        certificate: write(dir, &format!("{side}-certificate.pem"), &certificate)?,
        both: write(dir, &format!("{side}.pem"), &format!("{certificate}{key}"))?,
        key: write(dir, &format!("{side}-key.pem"), &key)?,
    })
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("no key can be made")
}

fn write(dir: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let file = dir.join(name);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
