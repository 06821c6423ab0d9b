//! What images hold: nothing is pulled, and the root of a container is that of this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the program of an image is in its containers.
const PROGRAM_DIR: &str = "/usr/local/bin";

/// The images that a node knows, by name without tag.
#[derive(Debug, Clone, Default)]
pub struct Images(BTreeMap<String, Image>);

/// What runs when a container says nothing else, and as whom.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) entrypoint: Vec<String>,
    pub(super) user: u32,
    /// A program of this machine, and where it is in the container.
    pub(super) program: Option<Linked>,
}

/// A file that appears at another place.
#[derive(Debug, Clone)]
pub(super) struct Linked {
    pub(super) source: PathBuf,
    pub(super) target: PathBuf,
}

impl Images {
    /// An image whose entry point is one program of this machine, as a user.
    #[must_use]
    pub fn program(mut self, image: &str, program: &Path, user: u32) -> Self {
        let name = program.file_name().map(PathBuf::from).unwrap_or_default();
        let target = Path::new(PROGRAM_DIR).join(name);
        let entrypoint = vec![target.display().to_string()];
        let program = Some(Linked { source: program.to_owned(), target });
        self.0.insert(image.into(), Image { entrypoint, user, program });
        self
    }

    /// An image whose entry point is a command line of what this machine has, as a user.
    #[must_use]
    pub fn command(mut self, image: &str, entrypoint: &[&str], user: u32) -> Self {
        let entrypoint = entrypoint.iter().map(|&word| word.into()).collect();
        self.0.insert(image.into(), Image { entrypoint, user, program: None });
        self
    }

    /// Puts other files in the place of the programs: those that every user may run.
    pub(super) fn moved(mut self, place: impl Fn(&Path) -> anyhow::Result<PathBuf>) -> anyhow::Result<Self> {
        for program in self.0.values_mut().filter_map(|image| image.program.as_mut()) {
            program.source = place(&program.source)?;
        }
        Ok(self)
    }

    pub(super) fn find(&self, reference: &str) -> Option<&Image> {
        self.0.get(without_tag(reference))
    }
}

/// The name of an image without tag and digest. A colon before the last slash belongs to a registry's port.
fn without_tag(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    let tag = name.rfind(':').filter(|&colon| !name[colon..].contains('/'));
    tag.map_or(name, |colon| &name[..colon])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_digests_do_not_matter() {
        let table = [
            ("test/echo", "test/echo"),
            ("test/echo:1.2", "test/echo"),
            ("registry:5000/echo", "registry:5000/echo"),
            ("registry:5000/echo:1@sha256:00", "registry:5000/echo"),
        ];
        for (reference, name) in table {
            assert_eq!(without_tag(reference), name, "{reference}");
        }
    }
}
