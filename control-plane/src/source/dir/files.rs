//! The objects of a set of files: what was last good of each file, and which file an object comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use outrigger_resources::{Effect, Location, ObjectRef, Parsed, Problem, Severity, Sourced, parse_yaml};

use super::events::Touched;
use super::scan::{Scan, Stamp};
use crate::source::Update;
use crate::world::Change;

/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// All files as they were last read.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<Arc<Path>, FileState>,
    /// Which files define an object, in path order; the first counts. There is seldom more than one.
    holders: BTreeMap<ObjectRef, Vec<Arc<Path>>>,
    /// Objects that more than one file defines.
    disputed: BTreeSet<ObjectRef>,
    problems: Vec<Problem>,
}

#[derive(Debug, Default)]
struct FileState {
    stamp: Option<Stamp>,
    objects: BTreeMap<ObjectRef, Arc<Sourced>>,
    problems: Vec<Problem>,
}

impl Files {
    /// Reads what changed since the last time; `None` when nothing did.
    pub(super) fn update(&mut self, scan: &Scan, touched: &Touched) -> Option<Update> {
        let mut fresh: BTreeMap<PathBuf, Option<FileState>> = BTreeMap::new();
        for (path, stamp) in &scan.files {
            let known = self.files.get(path.as_path());
            if known.is_none_or(|file| file.stamp != Some(*stamp)) || touched.has(path) {
                fresh.insert(path.clone(), Some(FileState::read(path, *stamp, known)));
            }
        }
        for path in self.files.keys() {
            if !scan.files.contains_key(&**path) && !scan.is_hidden_by_fault(path) {
                fresh.insert(path.to_path_buf(), None);
            }
        }
        let changes = self.replace(fresh);
        let problems = self.all_problems(scan);
        if changes.is_empty() && problems == self.problems {
            return None;
        }
        self.problems.clone_from(&problems);
        Some(Update { changes, problems })
    }

    fn replace(&mut self, fresh: BTreeMap<PathBuf, Option<FileState>>) -> Vec<Change> {
        let mut references = BTreeSet::new();
        for (path, state) in &fresh {
            references.extend(
                self.files.get(path.as_path()).into_iter().flat_map(|file| file.objects.keys().cloned()),
            );
            references.extend(state.iter().flat_map(|file| file.objects.keys().cloned()));
        }
        let before: Vec<_> = references.iter().map(|reference| self.current(reference).cloned()).collect();
        for (path, state) in fresh {
            self.put(path.into(), state);
        }
        let mut changes = Vec::new();
        for (reference, before) in references.into_iter().zip(before) {
            match self.current(&reference) {
                Some(now) if before.as_ref() != Some(now) => changes.push(Change::Upsert(now.clone())),
                None if before.is_some() => changes.push(Change::Delete(reference)),
                _ => {}
            }
        }
        changes
    }

    fn put(&mut self, path: Arc<Path>, state: Option<FileState>) {
        let old = match state {
            Some(state) => {
                for reference in state.objects.keys() {
                    let holders = self.holders.entry(reference.clone()).or_default();
                    if let Err(place) = holders.binary_search(&path) {
                        holders.insert(place, path.clone());
                    }
                }
                self.files.insert(path.clone(), state)
            }
            None => self.files.remove(&path),
        };
        let now = self.files.get(&path);
        for reference in old.iter().flat_map(|file| file.objects.keys()) {
            if now.is_some_and(|file| file.objects.contains_key(reference)) {
                continue;
            }
            if let Some(holders) = self.holders.get_mut(reference) {
                holders.retain(|holder| *holder != path);
            }
        }
        let references: Vec<_> =
            old.iter().chain(now).flat_map(|file| file.objects.keys()).cloned().collect();
        for reference in references {
            self.settle(reference);
        }
    }

    fn settle(&mut self, reference: ObjectRef) {
        match self.holders.get(&reference).map_or(0, Vec::len) {
            0 => {
                self.holders.remove(&reference);
                self.disputed.remove(&reference);
            }
            1 => {
                self.disputed.remove(&reference);
            }
            _ => {
                self.disputed.insert(reference);
            }
        }
    }

    fn current(&self, reference: &ObjectRef) -> Option<&Arc<Sourced>> {
        let first = self.holders.get(reference)?.first()?;
        self.files.get(first)?.objects.get(reference)
    }

    fn all_problems(&self, scan: &Scan) -> Vec<Problem> {
        let mut problems: Vec<Problem> =
            self.files.values().flat_map(|file| file.problems.iter().cloned()).collect();
        for reference in &self.disputed {
            let places = self.holders.get(reference).into_iter().flatten();
            let mut defined = places.filter_map(|path| self.files.get(path)?.objects.get(reference));
            let Some(first) = defined.next() else { continue };
            problems.extend(defined.map(|second| defined_twice(reference, first, &second.location)));
        }
        for (path, why) in scan.faults.iter().chain(&scan.notes) {
            problems.push(file_problem(&name_of(path), why.clone()));
        }
        problems
    }
}

impl FileState {
    fn read(path: &Path, stamp: Stamp, known: Option<&FileState>) -> Self {
        let name = name_of(path);
        let mut state = match read_text(path) {
            Ok(text) if text.trim().is_empty() && known.is_some_and(|file| !file.objects.is_empty()) => {
                let why = "is empty; what it held stays in force: delete the file to take its objects away";
                Self::kept(known, vec![file_problem(&name, why.to_owned())])
            }
            Ok(text) => Self::parsed(parse_yaml(&name, &text), known),
            Err(why) => {
                let why =
                    if known.is_some() { format!("{why}; what was read before stays in force") } else { why };
                Self::kept(known, vec![file_problem(&name, why)])
            }
        };
        state.stamp = Some(stamp);
        state
    }

    fn kept(known: Option<&FileState>, problems: Vec<Problem>) -> Self {
        let objects = known.map(|file| file.objects.clone()).unwrap_or_default();
        Self { stamp: None, objects, problems }
    }

    fn parsed(parsed: Parsed, known: Option<&FileState>) -> Self {
        let last_good = known.map(|file| &file.objects).filter(|objects| !objects.is_empty());
        if parsed.broken {
            let mut problems = parsed.problems;
            if last_good.is_some() {
                problems.iter_mut().for_each(Problem::stays_in_force);
            }
            return Self::kept(known, problems);
        }
        let mut state = Self { stamp: None, objects: BTreeMap::new(), problems: parsed.problems };
        for sourced in parsed.objects {
            let reference = sourced.object.reference();
            if let Some(first) = state.objects.get(&reference) {
                state.problems.push(defined_twice(&reference, first, &sourced.location));
            } else {
                state.objects.insert(reference, Arc::new(sourced));
            }
        }
        state.keep_dropped(last_good);
        state
    }

    /// An object that became bad stays as it was when it was last good; a stand-in never was.
    fn keep_dropped(&mut self, last_good: Option<&BTreeMap<ObjectRef, Arc<Sourced>>>) {
        let Some(last_good) = last_good else { return };
        for problem in &mut self.problems {
            if !matches!(problem.effect, Effect::ObjectDropped | Effect::StandIn) {
                continue;
            }
            let Some(reference) = problem.object.clone() else { continue };
            let before = last_good.get(&reference).filter(|before| !before.object.is_stand_in());
            let Some(before) = before else { continue };
            let now = self.objects.entry(reference).or_insert_with(|| before.clone());
            if now.object.is_stand_in() {
                *now = before.clone();
            }
            problem.stays_in_force();
        }
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let read = |path: &Path| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read(path).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("larger than {} MiB; split it into several files", MAX_FILE_BYTES >> 20));
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        format!("not UTF-8 text from byte {offset} on; save it as UTF-8")
    })
}

fn name_of(path: &Path) -> String {
    path.display().to_string()
}

fn file_problem(file: &str, message: String) -> Problem {
    Problem {
        location: Some(Location { file: file.into(), line: 0, column: 0 }),
        object: None,
        field: String::new(),
        message,
        severity: Severity::Error,
        effect: Effect::DocumentDropped,
    }
}

fn defined_twice(reference: &ObjectRef, first: &Sourced, second: &Location) -> Problem {
    let message =
        format!("defined a second time; the one at {} counts: remove or rename one", first.location);
    Problem {
        location: Some(second.clone()),
        object: Some(reference.clone()),
        field: "metadata.name".to_owned(),
        message,
        severity: Severity::Error,
        effect: Effect::DocumentDropped,
    }
}
