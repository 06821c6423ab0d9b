//! Names as small numbers, so that the key of a request's metrics is a handful of integers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use outrigger_base::telemetry::metrics;

use super::{Telemetry, Way};

/// At most so many distinct names are kept; later ones count as the empty name (number 0).
pub const LABELS_MAX: usize = 65_536;

/// Who takes part in a request, as labels show it. Parts that are unknown are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Name {
    /// The name of a workload, a service or a route.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its SPIFFE id.
    pub identity: Arc<str>,
}

/// All names this process has met.
#[derive(Debug, Default)]
pub(super) struct Labels(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    numbers: HashMap<Name, u32>,
    names: Vec<Name>,
}

impl Labels {
    pub(super) fn intern(&self, name: Name) -> u32 {
        if name == Name::default() {
            return 0;
        }
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = table.numbers.get(&name) {
            return *number;
        }
        if table.names.len() >= LABELS_MAX {
            return 0;
        }
        table.names.push(name.clone());
        let number = table.names.len() as u32;
        table.numbers.insert(name, number);
        number
    }

    pub(super) fn name(&self, label: u32) -> Name {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = (label as usize).checked_sub(1);
        index.and_then(|index| table.names.get(index)).cloned().unwrap_or_default()
    }
}

/// Who takes part, by number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parties {
    pub(super) way: Way,
    /// The authenticated client of what is inbound.
    pub(super) peer: u32,
    pub(super) service: u32,
    /// The endpoint of what is outbound.
    pub(super) endpoint: u32,
}

impl Parties {
    /// The labels that requests and connections share.
    pub(super) fn labels(self, telemetry: &Telemetry) -> metrics::Labels {
        let service = telemetry.name(self.service);
        let (source, destination) = match self.way {
            Way::Inbound => (telemetry.name(self.peer), telemetry.me().clone()),
            Way::Outbound => (telemetry.me().clone(), telemetry.name(self.endpoint)),
        };
        let unknown = destination.namespace.is_empty();
        let namespace = if unknown { service.namespace } else { destination.namespace };
        vec![
            ("direction", self.way.word().into()),
            ("source_workload", source.name.into()),
            ("source_namespace", source.namespace.into()),
            ("source_identity", source.identity.into()),
            ("destination_service", service.name.into()),
            ("destination_workload", destination.name.into()),
            ("destination_namespace", namespace.into()),
            ("destination_identity", destination.identity.into()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: String) -> Name {
        Name { name: text.into(), ..Name::default() }
    }

    #[test]
    fn a_name_has_one_number_and_the_table_has_a_bound() {
        let labels = Labels::default();
        let one = labels.intern(name("a".into()));
        assert_eq!(labels.intern(name("a".into())), one);
        assert_eq!(labels.name(one), name("a".into()));
        assert_eq!(labels.intern(Name::default()), 0);
        for i in 0..LABELS_MAX {
            labels.intern(name(i.to_string()));
        }
        assert_eq!(labels.intern(name("one too many".into())), 0);
        assert_eq!(labels.name(0), Name::default());
    }
}
