//! Who is who in a cluster: an authority for clients and the API server, and the files that `kubectl` and the
//! controllers show.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, SanType,
};
use serde_json::{Value, json};

/// The first address of the range of Services, where pods find the API server.
pub(super) const API_CLUSTER_IP: &str = "10.96.0.1";
/// Whoever belongs to it may do everything.
const MASTERS: &str = "system:masters";
/// Who the controllers are, as the roles know them that the API server makes by itself.
const CONTROLLERS: &str = "system:kube-controller-manager";

/// The keys of a cluster, in files of one directory.
#[derive(Debug)]
pub(super) struct Keys {
    dir: PathBuf,
    authority: String,
}

impl Keys {
    /// Makes everything; `addresses` are those of the API server.
    pub(super) fn make(dir: &Path, addresses: &[IpAddr]) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named("outrigger-tests", None);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let keys = Self { dir: dir.to_owned(), authority: issuer.pem() };
        keys.write("ca.crt", &keys.authority)?;
        let service_accounts = KeyPair::generate()?;
        keys.write("service-accounts.key", &service_accounts.serialize_pem())?;
        keys.write("service-accounts.pub", &service_accounts.public_key_pem())?;
        let mut server = CertificateParams::new([
            "kubernetes".to_owned(),
            "kubernetes.default".to_owned(),
            "kubernetes.default.svc".to_owned(),
            "localhost".to_owned(),
        ])?;
        server.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        server.subject_alt_names.push(SanType::IpAddress(API_CLUSTER_IP.parse()?));
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        keys.issue("api", server, &issuer)?;
        keys.issue("admin", client("admin", Some(MASTERS)), &issuer)?;
        keys.issue("node", client("node", Some(MASTERS)), &issuer)?;
        keys.issue("controllers", client(CONTROLLERS, None), &issuer)?;
        Ok(keys)
    }

    /// The file of this name.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes the kubeconfig of the owner of `NAME.crt` and `NAME.key`; its path.
    pub(super) fn kubeconfig(&self, name: &str, url: &str) -> Result<PathBuf> {
        let certificate = self.path(&format!("{name}.crt"));
        let user =
            json!({"client-certificate": certificate, "client-key": self.path(&format!("{name}.key"))});
        self.write_kubeconfig(name, url, &user)
    }

    /// Writes the kubeconfig of whoever has the token; its path.
    pub(super) fn kubeconfig_with_token(&self, name: &str, url: &str, token: &str) -> Result<PathBuf> {
        self.write_kubeconfig(name, url, &json!({"token": token}))
    }

    fn write_kubeconfig(&self, name: &str, url: &str, user: &Value) -> Result<PathBuf> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": self.path("ca.crt")}}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        });
        self.write(&format!("{name}.kubeconfig"), &config.to_string())
    }

    fn issue(
        &self,
        name: &str,
        params: CertificateParams,
        issuer: &CertifiedIssuer<'_, KeyPair>,
    ) -> Result<()> {
        let key = KeyPair::generate()?;
        self.write(&format!("{name}.crt"), &params.signed_by(&key, issuer)?.pem())?;
        self.write(&format!("{name}.key"), &key.serialize_pem()).map(drop)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

fn client(name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name, group);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// A name as the API server reads it: the common name is the user, the organization is the group.
fn named(name: &str, group: Option<&str>) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    if let Some(group) = group {
        distinguished.push(DnType::OrganizationName, group);
    }
    distinguished
}
