//! One public key (RFC 7517, section 4; RFC 7518, section 6; RFC 8037, section 2).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RsaPublicKeyComponents,
    VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::{Algorithm, RsaAlgorithm};

/// The bytes of the modulus of an RSA key, at least and at most.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 2048 / 8..=8192 / 8;
/// The longest public exponent, in bytes: cryptography refuses longer ones too, some time after it was asked.
const MAX_RSA_EXPONENT_BYTES: usize = 4;

/// A public key with which tokens are verified.
#[derive(Debug)]
pub struct PublicKey {
    kid: Option<String>,
    /// The only algorithm it is for, if the issuer says so.
    only: Option<Algorithm>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    P256(ParsedPublicKey),
    P384(ParsedPublicKey),
    Ed25519(ParsedPublicKey),
}

/// A key as it is written. What else it says is ignored (RFC 7517, section 4).
#[derive(Debug, Deserialize)]
pub(super) struct Written {
    kty: String,
    pub(super) kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl PublicKey {
    /// Its name in the set.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether it verifies tokens that are signed so (RFC 8725, section 3.1).
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        let by_type = match self.material {
            Material::Rsa(_) => matches!(algorithm, Algorithm::Rsa(_)),
            Material::P256(_) => algorithm == Algorithm::Es256,
            Material::P384(_) => algorithm == Algorithm::Es384,
            Material::Ed25519(_) => algorithm == Algorithm::EdDsa,
        };
        by_type && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether the owner of the key signed the message in this way; never in a way that the key does not fit.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.fits(algorithm) {
            return false;
        }
        let verified = match (&self.material, algorithm) {
            (Material::Rsa(key), Algorithm::Rsa(how)) => key.verify(how.parameters(), message, signature),
            (Material::P256(key) | Material::P384(key) | Material::Ed25519(key), _) => {
                key.verify_sig(message, signature)
            }
            (Material::Rsa(_), _) => return false,
        };
        verified.is_ok()
    }

    /// Reads a key; `Err` says why it cannot verify tokens.
    pub(super) fn read(written: Written) -> Result<Self, &'static str> {
        if written.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err("it is not for signatures (use)");
        }
        if written.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return Err("it is not for verifying (key_ops)");
        }
        let only = match &written.alg {
            Some(name) => Some(Algorithm::from_name(name).ok_or("its algorithm (alg) is not accepted")?),
            None => None,
        };
        let key = Self { material: Material::read(&written)?, kid: written.kid, only };
        match only {
            Some(only) if !key.fits(only) => {
                Err("its algorithm (alg) is for keys of another type (kty, crv)")
            }
            _ => Ok(key),
        }
    }
}

impl Material {
    fn read(written: &Written) -> Result<Self, &'static str> {
        let x = || bytes(written.x.as_deref());
        match (written.kty.as_str(), written.crv.as_deref()) {
            ("RSA", _) => rsa(written),
            ("EC", Some("P-256")) => {
                let point = point::<32>(&x()?, &bytes(written.y.as_deref())?)?;
                Ok(Self::P256(parse(&ECDSA_P256_SHA256_FIXED, &point)?))
            }
            ("EC", Some("P-384")) => {
                let point = point::<48>(&x()?, &bytes(written.y.as_deref())?)?;
                Ok(Self::P384(parse(&ECDSA_P384_SHA384_FIXED, &point)?))
            }
            ("OKP", Some("Ed25519")) => Ok(Self::Ed25519(parse(&ED25519, &x()?)?)),
            ("EC" | "OKP", _) => Err("its curve (crv) is not one of P-256, P-384 and Ed25519"),
            ("oct", _) => Err("it is a secret (kty oct): whoever can verify with it can sign"),
            _ => Err("its type (kty) is not one of RSA, EC and OKP"),
        }
    }
}

fn rsa(written: &Written) -> Result<Material, &'static str> {
    let (mut n, e) = (bytes(written.n.as_deref())?, bytes(written.e.as_deref())?);
    // Some issuers write the modulus as a signed number, with a zero before it.
    if n.first() == Some(&0) {
        n.remove(0);
    }
    if !RSA_MODULUS_BYTES.contains(&n.len()) || n[0] & 0x80 == 0 && n.len() == *RSA_MODULUS_BYTES.start() {
        return Err("an RSA key has 2048 to 8192 bits");
    }
    let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    if !odd(&n) || !odd(&e) || e == [1] || e.len() > MAX_RSA_EXPONENT_BYTES {
        return Err("its modulus or its exponent (n, e) is none of RSA");
    }
    let key = RsaPublicKeyComponents { n, e };
    match key.to_parsed_public_key(RsaAlgorithm::Rs256.parameters()) {
        Ok(_) => Ok(Material::Rsa(key)),
        Err(_) => Err("its modulus or its exponent (n, e) is none of RSA"),
    }
}

/// An uncompressed point (SEC 1, section 2.3.3) of coordinates of `N` bytes, no more and no less (RFC 7518, section 6.2.1.2).
fn point<const N: usize>(x: &[u8], y: &[u8]) -> Result<Vec<u8>, &'static str> {
    if x.len() != N || y.len() != N {
        return Err("its coordinates (x, y) are of another length than its curve has");
    }
    Ok([&[4], x, y].concat())
}

fn parse(algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> Result<ParsedPublicKey, &'static str> {
    ParsedPublicKey::new(algorithm, key).map_err(|_| "it is no point of its curve")
}

fn bytes(text: Option<&str>) -> Result<Vec<u8>, &'static str> {
    let text = text.ok_or("a part of it is missing (n and e, or x, or x and y)")?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "a part of it is not base64url")
}
