//! Which endpoints are near to this workload: its zone, then its region, then the rest.
//!
//! Every client gets the same endpoints from the control plane; how near they are is for each proxy to say. Hints
//! (`EndpointSlice`, `hints.forZones`) count instead of the zone that an endpoint is in, but only when all endpoints have
//! them and one is meant for the zone of the client, as kube-proxy has it: half of the hints would flood whom they name.

use outrigger_model::endpoint::{Endpoint, Health, Locality};
use outrigger_model::policy::LocalityMode;

/// How near an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Nearness {
    Zone,
    Region,
    Elsewhere,
}

/// How many there are.
pub(super) const RANKS: usize = 3;

/// What is made of nearness in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preference {
    /// Nothing.
    Nobody,
    /// Near ones come first.
    Near,
    /// Others are not used at all.
    OnlyZone,
}

/// How the endpoints of a cluster look from here.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    client: &'a Locality,
    hinted: bool,
    pub(super) preference: Preference,
}

impl<'a> View<'a> {
    /// A client that does not know where it is prefers nobody.
    pub(super) fn new<'e>(
        mode: Option<LocalityMode>,
        client: &'a Locality,
        mut endpoints: impl Iterator<Item = &'e Endpoint> + Clone,
    ) -> Self {
        let healthy = endpoints.clone().filter(|endpoint| endpoint.health == Health::Healthy);
        let hinted = mode != Some(LocalityMode::Off)
            && healthy.clone().all(|endpoint| !endpoint.hint_zones.is_empty())
            && endpoints.any(|endpoint| is_meant(endpoint, client));
        let nowhere = client.zone.is_empty() && client.region.is_empty();
        let preference = match mode {
            _ if nowhere => Preference::Nobody,
            Some(LocalityMode::PreferLocal) => Preference::Near,
            Some(LocalityMode::Strict) if client.zone.is_empty() => Preference::Nobody,
            Some(LocalityMode::Strict) => Preference::OnlyZone,
            None if hinted => Preference::Near,
            None | Some(LocalityMode::Off) => Preference::Nobody,
        };
        Self { client, hinted, preference }
    }

    pub(super) fn nearness(&self, endpoint: &Endpoint) -> Nearness {
        let at = &endpoint.locality;
        let known_region = !self.client.region.is_empty() && !at.region.is_empty();
        let same_region = known_region && at.region == self.client.region;
        let same_zone = match self.hinted {
            true => is_meant(endpoint, self.client),
            // Zones are names of their own; only two regions that are known to differ tell two zones of one name apart.
            false => !at.zone.is_empty() && at.zone == self.client.zone && (same_region || !known_region),
        };
        match (same_zone, same_region) {
            (true, _) => Nearness::Zone,
            (false, true) => Nearness::Region,
            (false, false) => Nearness::Elsewhere,
        }
    }
}

fn is_meant(endpoint: &Endpoint, client: &Locality) -> bool {
    !client.zone.is_empty() && endpoint.hint_zones.contains(&client.zone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::support::endpoint_config;

    fn place(region: &str, zone: &str) -> Locality {
        Locality { region: region.into(), zone: zone.into() }
    }

    fn endpoint(region: &str, zone: &str, hints: &[&str]) -> Endpoint {
        let hint_zones = hints.iter().map(|zone| (*zone).into()).collect();
        Endpoint { locality: place(region, zone), hint_zones, ..endpoint_config(1) }
    }

    #[test]
    fn near_is_the_zone_then_the_region_then_the_rest() {
        let client = place("eu", "a");
        let table = [
            ("eu", "a", Nearness::Zone),
            ("", "a", Nearness::Zone),
            ("us", "a", Nearness::Elsewhere),
            ("eu", "b", Nearness::Region),
            ("eu", "", Nearness::Region),
            ("us", "b", Nearness::Elsewhere),
            ("", "", Nearness::Elsewhere),
        ];
        for (region, zone, expected) in table {
            let endpoint = endpoint(region, zone, &[]);
            let view = View::new(Some(LocalityMode::PreferLocal), &client, std::iter::once(&endpoint));
            assert_eq!(view.nearness(&endpoint), expected, "{region}/{zone}");
        }
    }

    #[test]
    fn hints_count_instead_when_all_have_them_and_one_is_for_here() {
        let client = place("eu", "a");
        let table: [(&[&str], &[&str], Preference, Nearness); 4] = [
            (&["b"], &["a"], Preference::Near, Nearness::Region),
            (&["a", "b"], &["b"], Preference::Near, Nearness::Zone),
            (&["b"], &[], Preference::Nobody, Nearness::Zone),
            (&["b"], &["c"], Preference::Nobody, Nearness::Zone),
        ];
        for (first, second, preference, nearness) in table {
            let both = [endpoint("eu", "a", first), endpoint("eu", "b", second)];
            let view = View::new(None, &client, both.iter());
            assert_eq!(
                (view.preference, view.nearness(&both[0])),
                (preference, nearness),
                "{first:?} {second:?}"
            );
            let off = View::new(Some(LocalityMode::Off), &client, both.iter());
            assert_eq!((off.preference, off.nearness(&both[0])), (Preference::Nobody, Nearness::Zone));
        }
    }

    #[test]
    fn who_does_not_know_where_it_is_prefers_nobody() {
        let endpoint = endpoint("eu", "a", &[]);
        let modes = [LocalityMode::PreferLocal, LocalityMode::Strict];
        let nowhere = Locality::default();
        for mode in modes {
            let view = View::new(Some(mode), &nowhere, std::iter::once(&endpoint));
            assert_eq!(view.preference, Preference::Nobody);
        }
        let regional = place("eu", "");
        let view = View::new(Some(LocalityMode::Strict), &regional, std::iter::once(&endpoint));
        assert_eq!(view.preference, Preference::Nobody, "without a zone nothing would be left");
    }
}
