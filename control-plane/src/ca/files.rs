//! An authority that somebody else keeps in files: a mounted Secret, what cert-manager or a script writes.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::ca::root::{Flaw, Root, RootPems};

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// The files of a directory, as a Secret for TLS has them.
const CERTIFICATE_FILE: &str = "tls.crt";
const KEY_FILE: &str = "tls.key";
const BUNDLE_FILE: &str = "ca.crt";

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
    bundle: Option<PathBuf>,
    /// A list of authorities that is not there is none.
    bundle_may_be_missing: bool,
}

/// What is in them.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents {
    certificate: String,
    key: String,
    bundle: Option<String>,
}

/// A file that cannot be used, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}; {fix}", path.display())]
pub struct FilesError {
    path: PathBuf,
    why: String,
    fix: &'static str,
}

const READABLE: &str = "put a PEM file there that this user may read";
const TOGETHER: &str = "put a certificate, its key, and the roots above it there, which belong together";

impl Files {
    /// `--ca-cert`, `--ca-key` and `--ca-bundle`.
    pub fn named(certificate: PathBuf, key: PathBuf, bundle: Option<PathBuf>) -> Self {
        Self { certificate, key, bundle, bundle_may_be_missing: false }
    }

    /// `--ca-dir`: `tls.crt`, `tls.key`, and `ca.crt` if it is there.
    pub fn of_directory(directory: &Path) -> Self {
        let file = |name| directory.join(name);
        Self {
            certificate: file(CERTIFICATE_FILE),
            key: file(KEY_FILE),
            bundle: Some(file(BUNDLE_FILE)),
            bundle_may_be_missing: true,
        }
    }

    /// Reads all of them.
    pub fn read(&self) -> Result<Contents, FilesError> {
        let must = |path: &Path| read(path).and_then(|text| text.ok_or_else(|| gone(path)));
        let bundle = match &self.bundle {
            Some(path) if self.bundle_may_be_missing => read(path)?,
            Some(path) => Some(must(path)?),
            None => None,
        };
        Ok(Contents { certificate: must(&self.certificate)?, key: must(&self.key)?, bundle })
    }

    /// The authority that they are.
    pub fn authority(&self, contents: &Contents, now: SystemTime) -> Result<Root, FilesError> {
        let Contents { certificate, key, bundle } = contents;
        let pems = RootPems { key, certificate, authorities: bundle.as_deref() };
        Root::from_pems(&pems, now).map_err(|flaw| {
            let path = match flaw {
                Flaw::Key(_) => &self.key,
                Flaw::Certificate(_) => &self.certificate,
                Flaw::Authorities(_) => self.bundle.as_ref().unwrap_or(&self.certificate),
            };
            FilesError { path: path.clone(), why: flaw.why().to_owned(), fix: TOGETHER }
        })
    }
}

fn gone(path: &Path) -> FilesError {
    FilesError { path: path.to_owned(), why: "is not there".to_owned(), fix: READABLE }
}

fn read(path: &Path) -> Result<Option<String>, FilesError> {
    let bad = |why: String| FilesError { path: path.to_owned(), why, fix: READABLE };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(bad(format!("cannot be read: {error}"))),
    };
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| bad(format!("cannot be read: {error}")))?;
    match text.len() as u64 > MAX_FILE_BYTES {
        true => Err(bad(format!("is larger than {MAX_FILE_BYTES} bytes"))),
        false => Ok(Some(text)),
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.certificate.display())
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::root::MadeRoot;

    fn put(dir: &Path, made: &MadeRoot, bundle: Option<&str>) {
        std::fs::write(dir.join(CERTIFICATE_FILE), &made.certificate).unwrap();
        std::fs::write(dir.join(KEY_FILE), &made.key).unwrap();
        match bundle {
            Some(text) => std::fs::write(dir.join(BUNDLE_FILE), text).unwrap(),
            None => std::fs::remove_file(dir.join(BUNDLE_FILE)).unwrap_or_default(),
        }
    }

    #[test]
    fn a_directory_has_the_shape_of_a_secret() {
        let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        let (made, old) = (MadeRoot::new(now).unwrap(), MadeRoot::new(now).unwrap());
        let files = Files::of_directory(dir.path());
        for (bundle, trusted) in [(None, 1), (Some(format!("{}{}", old.certificate, made.certificate)), 2)] {
            put(dir.path(), &made, bundle.as_deref());
            let root = files.authority(&files.read().unwrap(), now).unwrap();
            assert_eq!((root.pem(), root.authorities().len()), (made.certificate.as_str(), trusted));
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_the_fix() {
        let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        let (made, other) = (MadeRoot::new(now).unwrap(), MadeRoot::new(now).unwrap());
        let files = Files::of_directory(dir.path());
        let error = || {
            let read = files.read();
            read.and_then(|contents| files.authority(&contents, now)).map(drop).unwrap_err().to_string()
        };
        assert!(error().contains("tls.crt: is not there"), "{}", error());
        put(dir.path(), &made, Some(&other.certificate));
        assert!(error().contains("ca.crt: does not have"), "{}", error());
        std::fs::write(dir.path().join(KEY_FILE), &other.key).unwrap();
        assert!(error().contains("tls.crt: does not belong to the private key"), "{}", error());
        std::fs::write(dir.path().join(KEY_FILE), [0xff, 0xfe]).unwrap();
        assert!(error().contains("tls.key: cannot be read"), "{}", error());
        std::fs::write(dir.path().join(KEY_FILE), "x".repeat(MAX_FILE_BYTES as usize + 1)).unwrap();
        assert!(error().contains("tls.key: is larger") && error().contains("; put a"), "{}", error());
    }

    #[test]
    fn a_bundle_that_was_named_must_be_there() {
        let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        put(dir.path(), &MadeRoot::new(now).unwrap(), None);
        let file = |name| dir.path().join(name);
        let files = Files::named(file(CERTIFICATE_FILE), file(KEY_FILE), Some(file("roots")));
        assert!(files.read().unwrap_err().to_string().contains("roots: is not there"));
        assert!(Files::named(file(CERTIFICATE_FILE), file(KEY_FILE), None).read().is_ok());
    }
}
