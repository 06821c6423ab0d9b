//! How tokens may be signed: a closed list, asymmetric only.

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
};

/// A way to sign a token (RFC 7518, section 3.1; RFC 8037; RFC 9864). Neither `none` nor an HMAC is one: what a verifier
/// needs for those, everybody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
    /// RSA of either padding.
    Rsa(RsaAlgorithm),
}

/// A way to sign with RSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RsaAlgorithm {
    /// PKCS #1 1.5 with SHA-256.
    Rs256,
    /// PKCS #1 1.5 with SHA-384.
    Rs384,
    /// PKCS #1 1.5 with SHA-512.
    Rs512,
    /// PSS with SHA-256.
    Ps256,
    /// PSS with SHA-384.
    Ps384,
    /// PSS with SHA-512.
    Ps512,
}

impl Algorithm {
    /// The algorithm of a name as `alg` writes it; `None` for any that is not accepted.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            // The second is the name since RFC 9864.
            "EdDSA" | "Ed25519" => Self::EdDsa,
            "RS256" => Self::Rsa(RsaAlgorithm::Rs256),
            "RS384" => Self::Rsa(RsaAlgorithm::Rs384),
            "RS512" => Self::Rsa(RsaAlgorithm::Rs512),
            "PS256" => Self::Rsa(RsaAlgorithm::Ps256),
            "PS384" => Self::Rsa(RsaAlgorithm::Ps384),
            "PS512" => Self::Rsa(RsaAlgorithm::Ps512),
            _ => return None,
        })
    }
}

impl RsaAlgorithm {
    /// What it takes to verify; keys from 2048 bits.
    pub(super) fn parameters(self) -> &'static RsaParameters {
        match self {
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &RSA_PSS_2048_8192_SHA512,
        }
    }
}
