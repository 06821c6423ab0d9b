//! Why a handshake failed, in people's words.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InconsistentKeys, OtherError};

use crate::identity::{IdentityError, date};

/// Says why a handshake or a configuration failed, and what that means in a mesh.
pub fn describe(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => {
            "no certificate was shown; the peer is outside the mesh or has no identity yet".into()
        }
        Error::InvalidCertificate(error) => describe_certificate(error),
        Error::AlertReceived(alert) => format!("the peer refused us: {}", describe_alert(*alert)),
        Error::PeerIncompatible(what) => {
            format!("the peer does not speak TLS as we do, which is TLS 1.3 only ({what:?})")
        }
        Error::NoApplicationProtocol => {
            "the peer offers no protocol of ours (http/1.1, h2, outrigger/tcp)".into()
        }
        Error::InvalidMessage(what) => format!("the peer does not speak TLS ({what:?})"),
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the key does not belong to the certificate".into()
        }
        other => other.to_string(),
    }
}

/// As [`describe`], for the errors of a TLS stream; other errors are given as they are.
pub fn describe_io(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => describe(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the peer closed the connection during the TLS handshake".into()
        }
        None => error.to_string(),
    }
}

fn describe_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            IdentityError::Expired { not_after: *not_after }.to_string()
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let early = IdentityError::NotYetValid { not_before: *not_before };
            format!("{early}; our clock says {}", date(*time))
        }
        CertificateError::UnknownIssuer => {
            "the certificate is signed by nobody we trust; is it of another mesh, or are its roots older than ours?"
                .into()
        }
        CertificateError::BadSignature => {
            "a signature does not match: it was not made with the key of the issuer or of the certificate".into()
        }
        CertificateError::InvalidPurposeContext { required, .. } => {
            format!("the certificate may not be used so: its extended key usage lacks {required:?}")
        }
        CertificateError::Other(OtherError(error)) => match error.downcast_ref::<IdentityError>() {
            Some(error) => error.to_string(),
            None => format!("the certificate is refused: {error}"),
        },
        other => format!("the certificate is refused: {other}"),
    }
}

fn describe_alert(alert: AlertDescription) -> String {
    let meaning = match alert {
        AlertDescription::CertificateRequired => "it requires a certificate and we showed none",
        AlertDescription::CertificateExpired => "our certificate is expired, or not yet valid, by its clock",
        AlertDescription::UnknownCA => "it does not trust the root of our certificate",
        AlertDescription::CertificateUnknown => "it does not accept the identity in our certificate",
        AlertDescription::UnsupportedCertificate => "our certificate may not be used for this side",
        AlertDescription::ProtocolVersion => "we have no TLS version in common",
        AlertDescription::NoApplicationProtocol => "it does not speak the protocol we asked for",
        AlertDescription::HandshakeFailure => "we have no algorithm in common",
        other => return format!("alert {other:?}"),
    };
    format!("{meaning} (alert {alert:?})")
}
