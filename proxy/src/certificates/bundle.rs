//! The file of `--trust-bundle`, read anew each time it is asked: whoever replaces it needs no restart.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use outrigger_base::keys::{KeyError, parse_chain_pem};
use outrigger_base::tls::{TlsError, client_by_name};
use rustls::pki_types::CertificateDer;

/// The certificates of a file, or the last good ones.
#[derive(Debug)]
pub struct TrustFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What was read last, good or bad, so that a fault is told once.
    text: Vec<u8>,
    roots: Vec<CertificateDer<'static>>,
}

/// Why a file is no trust bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It cannot be read.
    #[error("cannot read {}: {source}; does the file exist, and may this user read it?", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// It is not PEM.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A certificate in it cannot be a root.
    #[error("{}: {source}", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TlsError,
    },
}

impl TrustFile {
    /// A file that is good now.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let text = read(path)?;
        let roots = parse(path, &text)?;
        Ok(Self { path: path.to_owned(), state: Mutex::new(State { text, roots }) })
    }

    /// What it holds now; while it is bad or gone, what it held last. The file is small: reading it does not hold up the
    /// control thread.
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match read(&self.path) {
            Ok(text) if text == state.text => {}
            Ok(text) => {
                match parse(&self.path, &text) {
                    Ok(roots) => {
                        tracing::info!(path = %self.path.display(), roots = roots.len(), "trust bundle read again");
                        state.roots = roots;
                    }
                    Err(error) => {
                        tracing::error!(%error, "--trust-bundle is of no use now: its last good roots stay")
                    }
                }
                state.text = text;
            }
            Err(error) => tracing::debug!(%error, "--trust-bundle is gone: its last good roots stay"),
        }
        state.roots.clone()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BundleError> {
    std::fs::read(path).map_err(|source| BundleError::File { path: path.to_owned(), source })
}

fn parse(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let roots = parse_chain_pem(text).map_err(|source| BundleError::Pem { path: path.to_owned(), source })?;
    client_by_name(&roots, None).map_err(|source| BundleError::Root { path: path.to_owned(), source })?;
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate() -> (String, CertificateDer<'static>) {
        let made = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap();
        (made.pem(), made.der().clone())
    }

    #[test]
    fn what_is_in_the_file_now_counts_and_otherwise_what_was_good_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bundle.pem");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        assert!(TrustFile::open(&path).unwrap_err().to_string().contains("does the file exist"));
        write("hello");
        assert!(TrustFile::open(&path).unwrap_err().to_string().contains("BEGIN CERTIFICATE"));
        let ((old, old_der), (new, new_der)) = (certificate(), certificate());
        write(&old);
        let file = TrustFile::open(&path).unwrap();
        assert_eq!(file.roots(), std::slice::from_ref(&old_der));
        write(&format!("{old}{new}"));
        assert_eq!(file.roots(), [old_der, new_der.clone()]);
        write(&new);
        assert_eq!(file.roots(), std::slice::from_ref(&new_der));
        write("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n");
        assert_eq!(file.roots(), std::slice::from_ref(&new_der));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.roots(), [new_der]);
    }
}
